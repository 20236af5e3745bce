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
from jmeta.base import MetaAlgorithm, Network
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
      loss: mean squared distance to good settings, over tasks, learners and settings.
      grad_norm: of the network's gradient.
    """

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]


def distance(
    unit: Float[Array, " size"],
    settings: Float[Array, "trials size"],
    costs: Float[Array, " trials"],
    mask: Bool[Array, " trials"],
    temperature: float | Array,
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Squared distance to the trials weighted by softmax(-cost / T); and any trial?"""
    mask = mask & jnp.isfinite(costs)
    logits = jnp.where(mask, -jnp.where(mask, costs, 0.0) / temperature, -jnp.inf)
    logits = jnp.where(jnp.any(mask), logits, 0.0)
    weights = jnp.where(mask, jax.nn.softmax(logits), 0.0)
    tried = jnp.where(mask[:, None], settings, 0.0)
    gaps = jnp.mean(jnp.square(unit - tried), axis=1)
    return jnp.sum(weights * gaps), jnp.any(mask)


def meta_regression(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    temperature: float | Array = 0.05,
    feature_dropout: float | Array = 0.0,
) -> MetaAlgorithm:
    """Train a network to give good settings of each learner from a description.

    The tasks are `MetaSettings`. `init` fits the scaler on the tasks it is given:
    give it all the training tasks. `predict(params, description)` gives unit vectors
    `(size,)` by the learner's name.

    Args:
      network: `apply(params, description (meta,)) -> {name: (size,)}`, such as
        `jmeta.networks.MetaOptimizer`.
      optimizer: of the network's parameters.
      temperature: the difference in cost that matters, in the units of the costs.
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
        pairs = [
            distance(
                units[name],
                task.settings[name],
                task.costs[name],
                task.mask[name],
                temperature,
            )
            for name in task.settings
        ]
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
    ) -> dict[str, Float[Array, " _"]]:
        return network.apply(
            params["network"], standardise(params["scaler"], description)
        )

    return MetaAlgorithm(init=init, step=step, predict=predict)
