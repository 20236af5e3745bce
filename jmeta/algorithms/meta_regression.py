"""Supervised meta-regression: from descriptions to settings that did well.

The meta-optimizer's supervised form: the network's settings are pulled towards the
settings tried on each training task, the better they did the more.

Source: meta-learnt starting points, Feurer et al., 2015,
https://doi.org/10.1609/aaai.v29i1.9354.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from jmeta.algorithms.scaler import fit_scaler, standardise
from jmeta.base import MetaAlgorithm, Network, Proposals
from jmeta.types import Array, Key, Params

__all__ = [
    "MetaRegressionInfo",
    "MetaRegressionState",
    "MetaSettings",
    "meta_regression",
]


class MetaSettings(NamedTuple):
    """Settings tried on one task; a batch has a leading task axis.

    Attributes:
      description: task features, NaN where missing.
      settings: unit vectors `(trials, size)` by the learner's name.
      costs: of each trial `(trials,)`, by the learner's name; lower is better.
      mask: which trials were made `(trials,)`, by the learner's name.
    """

    description: Float[Array, "*tasks meta"]
    settings: dict[str, Float[Array, "*tasks _ _"]]
    costs: dict[str, Float[Array, "*tasks _"]]
    mask: dict[str, Bool[Array, "*tasks _"]]


class MetaRegressionState(NamedTuple):
    """What the next step needs; `params` holds `network` and `scaler`."""

    params: Params
    opt_state: optax.OptState


class MetaRegressionInfo(NamedTuple):
    """Of one step.

    Attributes:
      loss: mean squared distance to good settings, over tasks, learners and settings;
        with several proposals, see `mixture_distance`.
      grad_norm: of the network's gradient.
    """

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]


def _weights(
    costs: Float[Array, " trials"],
    mask: Bool[Array, " trials"],
    temperature: float | Array,
) -> tuple[Float[Array, " trials"], Bool[Array, ""]]:
    """softmax(-cost / T) over the trials that were made; and were any?"""
    mask = mask & jnp.isfinite(costs)
    logits = jnp.where(mask, -jnp.where(mask, costs, 0.0) / temperature, -jnp.inf)
    logits = jnp.where(jnp.any(mask), logits, 0.0)
    return jnp.where(mask, jax.nn.softmax(logits), 0.0), jnp.any(mask)


def distance(
    unit: Float[Array, " size"],
    settings: Float[Array, "trials size"],
    costs: Float[Array, " trials"],
    mask: Bool[Array, " trials"],
    temperature: float | Array,
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Squared distance to the trials weighted by softmax(-cost / T); and any trial?"""
    weights, tried = _weights(costs, mask, temperature)
    settings = jnp.where(weights[:, None] > 0, settings, 0.0)
    gaps = jnp.mean(jnp.square(unit - settings), axis=1)
    return jnp.sum(weights * gaps), tried


def mixture_distance(
    proposals: Proposals,
    settings: Float[Array, "trials size"],
    costs: Float[Array, " trials"],
    mask: Bool[Array, " trials"],
    temperature: float | Array,
    scale: float | Array,
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """The same, each trial to the proposals that are responsible for it.

    The negative log density of the trials under a mixture of Gaussians, in units in
    which a single proposal's is `distance`.

    Args:
      scale: the Gaussians' standard deviation, per setting a mean square gap is
        divided by.

    Source: Bishop, 1994, Mixture density networks,
    https://publications.aston.ac.uk/id/eprint/373/.
    """
    weights, tried = _weights(costs, mask, temperature)
    settings = jnp.where(weights[:, None] > 0, settings, 0.0)
    # By products: all differences of many settings would not fit in memory.
    squares = jnp.sum(jnp.square(proposals.units), 1)[:, None]
    squares += jnp.sum(jnp.square(settings), axis=1)
    squares -= 2.0 * proposals.units @ settings.T
    gaps = jnp.maximum(squares, 0.0) / settings.shape[1]
    shares = jax.nn.log_softmax(proposals.logits)[:, None]
    unit = 2.0 * scale**2
    return (
        -unit * jnp.sum(weights * jax.nn.logsumexp(shares - gaps / unit, axis=0)),
        tried,
    )


def meta_regression(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    temperature: float | Array = 0.05,
    scale: float | Array = 0.15,
    feature_dropout: float | Array = 0.0,
) -> MetaAlgorithm:
    """Train a network to give good settings of each learner from a description.

    The tasks are `MetaSettings`. `init` fits the scaler on the tasks it is given:
    give it all the training tasks. `predict(params, description)` gives what the
    network gives: unit vectors `(size,)` by the learner's name, or `Proposals` of
    several. The mean of good settings may be a bad one; proposals need not average.

    Args:
      network: `apply(params, description (meta,)) -> {name: (size,)}`, such as
        `jmeta.networks.MetaOptimizer`, or `{name: Proposals}`.
      optimizer: of the network's parameters.
      temperature: the difference in cost that matters, in the units of the costs.
      scale: how far from a proposal its good settings lie; see `mixture_distance`.
      feature_dropout: the fraction of description features hidden in each step.
    """

    def init(key: Key, tasks: MetaSettings) -> MetaRegressionState:
        scaler = fit_scaler(tasks.description)
        trained = network.init(key, standardise(scaler, tasks.description[0]))
        return MetaRegressionState(
            params={"network": trained, "scaler": scaler},
            opt_state=optimizer.init(trained),
        )

    def task_loss(units: Params, task: MetaSettings) -> tuple[Array, Array]:
        """Sum over the learners that were tried, and how many were."""

        def pull(name: str) -> tuple[Array, Array]:
            made, trials = (
                units[name],
                (
                    task.settings[name],
                    task.costs[name],
                    task.mask[name],
                    temperature,
                ),
            )
            if isinstance(made, Proposals):
                return mixture_distance(made, *trials, scale)
            return distance(made, *trials)

        pairs = [pull(name) for name in task.settings]
        losses, tried = (jnp.stack(part) for part in zip(*pairs))
        return jnp.sum(losses), jnp.sum(tried)

    def step(
        key: Key, state: MetaRegressionState, tasks: MetaSettings
    ) -> tuple[MetaRegressionState, MetaRegressionInfo]:
        params = state.params
        inputs = standardise(params["scaler"], tasks.description)
        hidden = jax.random.uniform(key, inputs.shape) < feature_dropout
        inputs = jnp.where(hidden, 0.0, inputs)

        def objective(trained: Params) -> Array:
            units = jax.vmap(lambda x: network.apply(trained, x))(inputs)
            losses, counts = jax.vmap(task_loss)(units, tasks)
            return jnp.sum(losses) / jnp.maximum(jnp.sum(counts), 1)

        loss, grads = jax.value_and_grad(objective)(params["network"])
        updates, opt_state = optimizer.update(grads, state.opt_state, params["network"])
        trained = optax.apply_updates(params["network"], updates)
        info = MetaRegressionInfo(loss=loss, grad_norm=optax.tree.norm(grads))
        state = MetaRegressionState(
            params={**params, "network": trained}, opt_state=opt_state
        )
        return state, info

    def predict(
        params: Params, description: Float[Array, " meta"]
    ) -> dict[str, Float[Array, " _"] | Proposals]:
        return network.apply(
            params["network"], standardise(params["scaler"], description)
        )

    return MetaAlgorithm(init=init, step=step, predict=predict)
