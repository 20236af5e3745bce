"""A surrogate benchmark as a learner: settings go in, what the network tells comes out.

Nothing is trained. `fit` keeps the settings, and `predict` asks the surrogate, so that
`jmeta.algorithms.meta_optimizer` learns from somebody else's response surface by its
gradient. A task's features are its place among the surrogate's tasks.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jmeta.base import Learner
from jmeta.data.surrogate_settings import Hyperparameter, code
from jmeta.data.surrogates import Encoded, Surrogate
from jmeta.spaces import Hyper, Space, choice, integer, real
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["relative_regret", "surrogate_learner", "surrogate_tasks"]


def surrogate_learner(
    surrogate: Surrogate,
    output: str,
    *,
    fixed: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Learner:
    """Settings of a surrogate as those of a learner that predicts one of its outputs.

    Whole numbers are rounded before the surrogate is asked, and their gradient passes
    straight through. What the conditions rule out is told as not there, and gets a
    gradient of exactly zero. Options are codes of embeddings, which have no gradient:
    fix them, or learn by `jmeta.adjoints.evolution`.

    Args:
      surrogate: what is asked.
      output: one of its outputs; predictions are in its units.
      fixed: settings that are given rather than chosen, by name.
      name: of the learner; None for the surrogate's.

    Raises:
      ValueError: if there is no such output, or no such setting to fix.
      InputError: if a fixed value is outside its range or no option.
    """
    fixed = dict(fixed or {})
    known = {one.name: one for one in (*surrogate.words, *surrogate.numbers)}
    if output not in surrogate.outputs or set(fixed) - set(known):
        raise ValueError(
            f"surrogate_learner: {surrogate.name} tells {list(surrogate.outputs)} of "
            f"{list(known)}, got output={output!r} and fixed={fixed}."
        )
    given = {name: code(known[name], value) for name, value in fixed.items()}
    free = {name: _hyper(one) for name, one in known.items() if name not in fixed}
    place = surrogate.outputs.index(output)

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key, support  # The surrogate has been trained.
        return _encoded(surrogate, settings, given)

    def predict(weights: Weights, x: Array) -> Float[Array, " n"]:
        tasks = jnp.round(x[:, 0]).astype(jnp.int32)
        ask = jax.vmap(surrogate.predict, in_axes=(None, None, 0))
        return ask(surrogate.params, weights, tasks)[:, place]

    return Learner(
        name=surrogate.name if name is None else name,
        kind="number",
        space=Space(**free),
        fit=fit,
        predict=predict,
    )


def _hyper(one: Hyperparameter) -> Hyper:
    if one.kind == "word":
        return choice(*one.options, default=one.default)
    default = min(max(one.default, one.low), one.high)
    if one.kind == "float":
        return real(one.low, one.high, default=default, log=one.log)
    ends = int(one.low), int(one.high)
    return integer(*ends, default=round(default), log=one.log)


def _encoded(
    surrogate: Surrogate, settings: Settings, given: Mapping[str, float]
) -> Encoded:
    """As `jmeta.data.surrogates.encode`, of traced settings."""
    known = {one.name: one for one in (*surrogate.words, *surrogate.numbers)}

    def value(one: Hyperparameter) -> Array:
        """A number, or a word's code, were it there."""
        if one.name in given:
            return jnp.asarray(given[one.name], jnp.float32)
        if one.kind == "word":
            codes = jnp.asarray([*one.options.values()], jnp.float32)
            return codes[jnp.round(settings[one.name]).astype(jnp.int32)]
        return settings[one.name]

    def there(one: Hyperparameter) -> Bool[Array, ""]:
        met = jnp.array(True)
        for name, values in one.needs:
            parent = known[name]
            codes = [parent.options[v] for v in values if v in parent.options]
            met &= there(parent) & jnp.isin(value(parent), jnp.asarray(codes))
        return met

    told = [jnp.where(there(one), value(one), one.absent) for one in known.values()]
    words, numbers = told[: len(surrogate.words)], told[len(surrogate.words) :]
    return Encoded(
        words=jnp.asarray(words, jnp.int32),
        numbers=jnp.stack(numbers) if numbers else jnp.zeros(0),
    )


def surrogate_tasks(
    places: Int[np.ndarray, " tasks"],
    best: Float[np.ndarray, " tasks"],
    worst: Float[np.ndarray, " tasks"],
    descriptions: Float[np.ndarray, "tasks meta"],
) -> Task:
    """Tasks of a surrogate, for `relative_regret`.

    Args:
      places: of the tasks, among the surrogate's.
      best, worst: outputs that settings are measured between; where they are equal,
        the task teaches nothing.
      descriptions: NaN where missing.
    """
    x = jnp.asarray(places, jnp.float32)[:, None, None]
    mask = jnp.ones(x.shape[:2], bool)
    ends = (jnp.asarray(end, jnp.float32)[:, None] for end in (worst, best))
    support, query = (Examples(x=x, y=end, mask=mask) for end in ends)
    return Task(
        support=support,
        query=query,
        description=jnp.asarray(descriptions, jnp.float32),
    )


def relative_regret(learner: Learner, weights: Weights, task: Task) -> Float[Array, ""]:
    """How far the settings are from the best, in units of best to worst.

    The same whether high or low outputs are good; below 0 for settings better than the
    best. A mean over rows, the query's `y` being the best and the support's the worst.
    """
    support, query = task.support, task.query
    span = jnp.where(query.mask, support.y - query.y, 0.0)
    counts = span != 0
    told = learner.predict(weights, jnp.where(query.mask[:, None], query.x, 0.0))
    above = jnp.where(counts, told - query.y, 0.0) / jnp.where(counts, span, 1.0)
    return jnp.sum(above) / jnp.maximum(jnp.sum(query.mask), 1)
