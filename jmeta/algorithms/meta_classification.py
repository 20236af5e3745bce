"""Supervised meta-classification: from descriptions to the costs of candidates.

A network is trained on tasks whose candidates have been scored. It starts from the
single best: the prediction is each candidate's mean cost over the training tasks plus
what the network makes of the description.

Sources: algorithm selection, Rice, 1976, https://doi.org/10.1016/S0065-2458(08)60520-3;
that costs should weigh in its loss, Bischl et al., 2016,
https://arxiv.org/abs/1506.02465, section 2.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from jmeta.algorithms.losses import LOSSES, MIXTURE
from jmeta.algorithms.scaler import fit_scaler, standardise
from jmeta.base import MetaAlgorithm, Network
from jmeta.types import Array, Key, Params

__all__ = [
    "MetaClassificationInfo",
    "MetaClassificationState",
    "MetaExamples",
    "additive_fit",
    "meta_classification",
]


class MetaExamples(NamedTuple):
    """What was measured on one task; a batch has a leading task axis.

    Attributes:
      description: task features, NaN where missing.
      costs: of every candidate in every metric, lower is better, in units that are
        alike between tasks (say, log loss over the entropy of the classes).
      mask: which candidates were measured, `(candidates,)`, or which of their
        metrics, `(candidates, metrics)`. The rest may be NaN.
    """

    description: Float[Array, "*tasks meta"]
    costs: Float[Array, "*tasks candidates metrics"]
    mask: Bool[Array, "*tasks candidates"] | Bool[Array, "*tasks candidates metrics"]


class MetaClassificationState(NamedTuple):
    """What the next step needs.

    `params` holds the trained `network`, and what `init` fitted and nothing trains:
    `scaler`, `base` (each candidate's cost with no description) and `spread` (how
    much candidates typically differ on a task, per metric).
    """

    params: Params
    opt_state: optax.OptState


class MetaClassificationInfo(NamedTuple):
    """Of one step, on the tasks of that step.

    Attributes:
      loss: what is minimised.
      grad_norm: of the network's gradient.
      regret: cost of the candidate predicted best in the first metric, above the
        cost of the best one; mean over tasks.
      single_best_regret: the same for the candidate that is best on average.
    """

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    regret: Float[Array, ""]
    single_best_regret: Float[Array, ""]


def _measured(tasks: MetaExamples) -> tuple[Array, Array]:
    """Costs with zeros where nothing was measured, and a mask of the same shape."""
    mask = tasks.mask
    mask = mask if mask.ndim == tasks.costs.ndim else mask[..., None]
    mask = mask & jnp.isfinite(tasks.costs)
    return jnp.where(mask, tasks.costs, 0.0), mask


def additive_fit(
    costs: Float[Array, "tasks candidates"], mask: Bool[Array, "tasks candidates"]
) -> tuple[Float[Array, " candidates"], Float[Array, ""]]:
    """Costs as a task's level plus a candidate's own cost.

    Without missing runs this is the mean over tasks. With them it does not mistake
    a candidate that ran on hard tasks only for a bad one.

    Returns:
      Each candidate's cost on the average task (the worst one's, for a candidate
      that never ran), and the typical size of what the sum leaves unexplained.
    """

    def mean(values: Array, axis: int) -> Array:
        total = jnp.sum(jnp.where(mask, values, 0.0), axis=axis)
        return total / jnp.maximum(jnp.sum(mask, axis=axis), 1)

    def level_of(base: Array) -> Array:
        level = mean(costs - base, 1)
        some = jnp.any(mask, axis=1)
        centre = jnp.sum(jnp.where(some, level, 0.0)) / jnp.maximum(jnp.sum(some), 1)
        return level - centre

    def body(_: Any, base: Array) -> Array:
        return mean(costs - level_of(base)[:, None], 0)

    base = jax.lax.fori_loop(0, 20, body, jnp.zeros_like(costs[0]))
    ran = jnp.any(mask, axis=0)
    base = jnp.where(ran, base, jnp.max(jnp.where(ran, base, -jnp.inf)))
    base = jnp.where(jnp.isfinite(base), base, 0.0)
    left = jnp.where(mask, jnp.abs(costs - level_of(base)[:, None] - base), 0.0)
    spread = 1.2533 * jnp.sum(left) / jnp.maximum(jnp.sum(mask), 1)
    # Below this it is rounding.
    least = 1e-6 * jnp.max(jnp.where(mask, jnp.abs(costs), 0.0))
    return base, jnp.where(spread > least, spread, 1.0)


def _weights(loss: str | Mapping[str, float]) -> dict[str, float]:
    weights = dict(MIXTURE) if loss == "mixture" else loss
    weights = {weights: 1.0} if isinstance(weights, str) else dict(weights)
    unknown = sorted(set(weights) - set(LOSSES))
    if unknown or not weights:
        raise ValueError(
            f"meta_classification: loss must be of {['mixture', *LOSSES]} or weights "
            f"of them, got {loss!r}."
        )
    return weights


def _regret(scores: Array, costs: Array, mask: Array) -> Array:
    """Mean over tasks of the cost of the lowest score above the lowest cost."""
    chosen = jnp.argmin(jnp.where(mask, scores, jnp.inf), axis=1)
    cost = jnp.take_along_axis(costs, chosen[:, None], axis=1)[:, 0]
    some = jnp.any(mask, axis=1)
    best = jnp.min(jnp.where(mask, costs, jnp.inf), axis=1)
    gaps = jnp.where(some, cost - jnp.where(some, best, 0.0), 0.0)
    return jnp.sum(gaps) / jnp.maximum(jnp.sum(some), 1)


def meta_classification(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    loss: str | Mapping[str, float] = "mixture",
    temperature: float | Array = 1.0,
    tolerance: float | Array = 0.0,
    feature_dropout: float | Array = 0.0,
    stochastic: bool = False,
) -> MetaAlgorithm:
    """Train a network to predict the cost of every candidate from a description.

    The tasks are `MetaExamples`. `init` fits the scaler, the mean costs and their
    spread on the tasks it is given: give it all the training tasks.
    `predict(params, description) -> costs (candidates, metrics)`. With the losses
    "bce", "best", "expected" and "pairwise" alone the result orders candidates, but
    is no estimate of their costs.

    Args:
      network: `apply(params, description (meta,)) -> (candidates, metrics)`.
      optimizer: weight decay is worth having: meta-data are small.
      loss: a name in `LOSSES`, a mapping from names to weights, or "mixture".
      temperature: of the softmax losses, in units of the spread between candidates.
      tolerance: how near the best counts as best, in the same units.
      feature_dropout: the fraction of description features hidden in each step.
      stochastic: whether `network.apply` takes `key=` and uses it, as networks with
        dropout do.

    Raises:
      ValueError: if the loss is unknown.
    """
    weights = _weights(loss)

    def task_loss(predicted: Array, costs: Array, mask: Array) -> Array:
        """Over the metrics of one task, leaving out those without a measurement."""
        total = jnp.zeros((), predicted.dtype)
        for name, weight in weights.items():
            values = jax.vmap(
                lambda p, c, m, of=LOSSES[name]: of(
                    p, c, m, temperature=temperature, tolerance=tolerance
                ),
                in_axes=1,
            )(predicted, costs, mask)
            total = total + weight * jnp.sum(values)
        return total

    def init(key: Key, tasks: MetaExamples) -> MetaClassificationState:
        costs, mask = _measured(tasks)
        base, spread = jax.vmap(additive_fit, in_axes=2)(costs, mask)
        scaler = fit_scaler(tasks.description, jnp.any(mask, axis=(1, 2)))
        example = standardise(scaler, tasks.description[0])
        trained = network.init(key, example)
        params = {
            "network": trained,
            "scaler": scaler,
            "base": base.T,
            "spread": spread,
        }
        return MetaClassificationState(params=params, opt_state=optimizer.init(trained))

    def step(
        key: Key, state: MetaClassificationState, tasks: MetaExamples
    ) -> tuple[MetaClassificationState, MetaClassificationInfo]:
        params = state.params
        costs, mask = _measured(tasks)
        inputs = standardise(params["scaler"], tasks.description)
        hide_key, network_key = jax.random.split(key)
        hidden = jax.random.uniform(hide_key, inputs.shape) < feature_dropout
        inputs = jnp.where(hidden, 0.0, inputs)
        keys = jax.random.split(network_key, len(inputs))

        def scores(trained: Params) -> Array:
            if stochastic:
                out = jax.vmap(lambda x, k: network.apply(trained, x, key=k))(
                    inputs, keys
                )
            else:
                out = jax.vmap(lambda x: network.apply(trained, x))(inputs)
            return params["base"] / params["spread"] + out

        def objective(trained: Params) -> tuple[Array, Array]:
            predicted = scores(trained)
            losses = jax.vmap(task_loss)(predicted, costs / params["spread"], mask)
            count = jnp.sum(jnp.any(mask, axis=1))
            return jnp.sum(losses) / jnp.maximum(count, 1), predicted

        (value, predicted), grads = jax.value_and_grad(objective, has_aux=True)(
            params["network"]
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, params["network"])
        trained = optax.apply_updates(params["network"], updates)
        always = jnp.broadcast_to(params["base"][:, 0], costs.shape[:2])
        info = MetaClassificationInfo(
            loss=value,
            grad_norm=optax.tree.norm(grads),
            regret=_regret(predicted[..., 0], costs[..., 0], mask[..., 0]),
            single_best_regret=_regret(always, costs[..., 0], mask[..., 0]),
        )
        state = MetaClassificationState(
            params={**params, "network": trained}, opt_state=opt_state
        )
        return state, info

    def predict(
        params: Params, description: Float[Array, " meta"]
    ) -> Float[Array, "candidates metrics"]:
        out = network.apply(
            params["network"], standardise(params["scaler"], description)
        )
        return params["base"] + params["spread"] * out

    return MetaAlgorithm(init=init, step=step, predict=predict)
