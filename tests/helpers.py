"""What several test files share: one small case of every algorithm."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jmeta.algorithms import (
    MetaExamples,
    MetaSettings,
    anil,
    bilevel,
    convex_head,
    deep_kernel,
    ensemble,
    imaml,
    maml,
    meta_classification,
    meta_optimizer,
    meta_regression,
    meta_sgd,
    neural_process,
    prototypical,
    reptile,
    ridge_head,
)
from jmeta.base import InnerLearner, MetaAlgorithm, Network
from jmeta.learners.inner import regressor
from jmeta.learners.ridge import ridge
from jmeta.networks import (
    MLP,
    MetaClassifier,
    MetaOptimizer,
    SetEncoder,
    default_units,
    from_linen,
)
from jmeta.tasks import Examples, Task

KEY = jax.random.key(0)


class Case(NamedTuple):
    """An algorithm and its tasks.

    Attributes:
      name: in the test's name.
      algorithm: what is tested.
      sample: `(key, num_tasks, fill) -> tasks`, where padding holds `fill`.
      asked: what `predict` is given of the tasks.
    """

    name: str
    algorithm: MetaAlgorithm
    sample: Callable[..., Any]
    asked: Callable[[Any], Any] = lambda tasks: tasks.description


@functools.cache
def start(algorithm: MetaAlgorithm) -> Callable[..., Any]:
    """`algorithm.init`, compiled once, which is what tests wait for."""
    return jax.jit(algorithm.init)


def count_traces(function: Callable[..., Any]) -> tuple[Callable[..., Any], list]:
    """The function, and a list that grows whenever it is traced."""
    traces: list[None] = []

    def counted(*arguments: Any) -> Any:
        traces.append(None)
        return function(*arguments)

    return counted, traces


def scored_tasks(key, num_tasks: int, fill: float = 7.0) -> MetaExamples:
    """Two metrics of four candidates, of which the last was measured nowhere."""
    description = jax.random.normal(key, (num_tasks, 3))
    slopes = jax.random.normal(jax.random.key(8), (2, 3, 4))
    costs = jnp.einsum("td,mdc->tcm", description, slopes) + jnp.arange(4.0)[:, None]
    mask = jnp.broadcast_to(jnp.arange(4) < 3, (num_tasks, 4))
    return MetaExamples(
        description=description,
        costs=jnp.where(mask[..., None], costs, fill),
        mask=mask,
    )


def tried_settings(key, num_tasks: int, fill: float = 7.0) -> MetaSettings:
    """Six trials of one setting, the last two of which are padding."""
    description = jax.random.normal(key, (num_tasks, 3))
    best = jax.nn.sigmoid(description[:, :1])
    settings = jnp.broadcast_to(jnp.linspace(0.0, 1.0, 6), (num_tasks, 6))
    mask = jnp.broadcast_to(jnp.arange(6) < 4, (num_tasks, 6))
    costs = jnp.square(settings - best)
    return MetaSettings(
        description=description,
        settings={"ridge": jnp.where(mask, settings, fill)[..., None]},
        costs={"ridge": jnp.where(mask, costs, fill)},
        mask={"ridge": mask},
    )


def noisy_lines(key, num_tasks: int, fill: float = 7.0) -> Task:
    """Linear functions whose noise, and so their penalty, the description tells."""

    def one(key) -> Task:
        keys = jax.random.split(key, 4)
        description = jax.random.normal(keys[0], (3,))
        slopes = jax.random.normal(keys[1], (3,))
        x = jax.random.normal(keys[2], (20, 3))
        noise = jnp.exp(1.5 * description[0]) * jax.random.normal(keys[3], (20,))
        mask = jnp.arange(20) < 16
        y = x @ slopes + jnp.where(jnp.arange(20) < 8, noise, 0.0)
        x, y = jnp.where(mask[:, None], x, fill), jnp.where(mask, y, fill)
        return Task(
            support=Examples(x=x, y=y, mask=mask & (jnp.arange(20) < 8)),
            query=Examples(x=x, y=y, mask=mask & (jnp.arange(20) >= 8)),
            description=description,
        )

    return jax.vmap(one)(jax.random.split(key, num_tasks))


def slopes(key, num_tasks: int, fill: float = 7.0) -> Task:
    """Lines through the origin that rise alike, four rows each for support and query,
    and as many of padding."""

    def one(key) -> Task:
        keys = jax.random.split(key, 2)
        x = jax.random.normal(keys[0], (16, 1))
        y = (2.0 + 0.1 * jax.random.normal(keys[1])) * x[:, 0]
        mask = jnp.arange(16) % 2 == 0
        x, y = jnp.where(mask[:, None], x, fill), jnp.where(mask, y, fill)
        support = Examples(x=x[:8], y=y[:8], mask=mask[:8])
        query = Examples(x=x[8:], y=y[8:], mask=mask[8:])
        return Task(support=support, query=query, description=jnp.zeros(3))

    return jax.vmap(one)(jax.random.split(key, num_tasks))


def two_clouds(key, num_tasks: int, fill: float = 7.0) -> Task:
    """Two classes that lie apart in the first of two features, at another place in
    every task; half the rows are padding."""

    def one(key) -> Task:
        keys = jax.random.split(key, 2)
        y = jnp.arange(32) // 2 % 2
        x = jax.random.normal(keys[0], (32, 2)) * jnp.array([0.3, 2.0])
        x += jnp.array([1.0, 0.0]) * (jax.random.normal(keys[1]) + y[:, None])
        mask = jnp.arange(32) % 2 == 0
        x, y = jnp.where(mask[:, None], x, fill), jnp.where(mask, y, 7)
        support = Examples(x=x[:16], y=y[:16], mask=mask[:16])
        query = Examples(x=x[16:], y=y[16:], mask=mask[16:])
        return Task(support=support, query=query, description=jnp.zeros(3))

    return jax.vmap(one)(jax.random.split(key, num_tasks))


def line() -> InnerLearner:
    """A line `head.a x + body.b`."""

    def init(key, x, counted):
        del key, counted
        zeros = jnp.zeros((), x.dtype)
        return {"body": {"b": zeros + 1.0}, "head": {"a": zeros}}

    def apply(weights, x, counted):
        del counted
        return weights["head"]["a"] * x + weights["body"]["b"]

    return regressor(Network(init=init, apply=apply))


def _classification() -> MetaAlgorithm:
    network = from_linen(MetaClassifier(4, 2, width=16, num_blocks=1, dropout=0.1))
    return meta_classification(
        network, optax.adamw(1e-2), feature_dropout=0.05, stochastic=True
    )


def _settings() -> Any:
    return from_linen(MetaOptimizer(defaults=default_units([ridge()]), width=16))


cases = [
    Case("meta_classification", _classification(), scored_tasks),
    Case("ensemble", ensemble(_classification(), 2), scored_tasks),
    Case(
        "meta_regression",
        meta_regression(_settings(), optax.adam(1e-2)),
        tried_settings,
    ),
    Case(
        "meta_optimizer",
        meta_optimizer(_settings(), [ridge()], optax.adam(1e-2), micro_batch=2),
        noisy_lines,
    ),
    # A penalty far too large for most tasks.
    Case(
        "bilevel",
        bilevel(ridge(), optax.adam(3e-2), start=jnp.array([0.9])),
        noisy_lines,
    ),
    *(
        Case(
            make.__name__,
            make(line(), optax.adam(0.05), inner_lr=0.1, inner_steps=2, micro_batch=2),
            slopes,
            lambda tasks: tasks,
        )
        for make in (maml, anil, meta_sgd, imaml)
    ),
    Case(
        "reptile",
        reptile(line(), optax.sgd(0.3), inner_lr=0.1),
        slopes,
        lambda tasks: tasks,
    ),
    *(
        Case(
            make.__name__,
            make(from_linen(MLP(hidden=(16,), out=4)), optax.adam(0.03), micro_batch=2),
            two_clouds,
            lambda tasks: tasks,
        )
        for make in (prototypical, ridge_head, deep_kernel, convex_head)
    ),
    Case(
        "neural_process",
        neural_process(
            from_linen(MLP(hidden=(16,), out=4)),
            from_linen(SetEncoder(hidden=(16,), out=4)),
            from_linen(MLP(hidden=(16,), out=2)),
            optax.adam(0.03),
            micro_batch=2,
        ),
        two_clouds,
        lambda tasks: tasks,
    ),
]
