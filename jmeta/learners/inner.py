"""Networks as learners that gradient steps train on the support of one task."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int, Num

from jmeta.base import InnerLearner, Network
from jmeta.learners.common import class_logits, clean, present
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key, Weights

__all__ = ["classifier", "query_loss", "query_outputs", "regressor", "support_loss"]


def _mean(losses: Float[Array, " n"], mask: Bool[Array, " n"]) -> Float[Array, ""]:
    return jnp.sum(jnp.where(mask, losses, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def classifier(network: Network, num_classes: int) -> InnerLearner:
    """A network that scores classes; `apply(weights, x, counted) -> (n, num_classes)`.

    Raises:
      ValueError: if `num_classes` is below 2, or not what the network gives.
    """
    if num_classes < 2:
        raise ValueError(
            f"classifier: num_classes must be at least 2, got {num_classes}."
        )

    def init(key: Key, x: Array) -> Weights:
        return _init("classifier", network, num_classes, key, x)

    def loss(
        outputs: Float[Array, "n classes"],
        y: Int[Array, " n"],
        mask: Bool[Array, " n"],
    ) -> Float[Array, ""]:
        labels = jnp.where(mask, y, 0)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
        return _mean(losses, mask)

    return InnerLearner(kind="classes", init=init, apply=network.apply, loss=loss)


def regressor(network: Network) -> InnerLearner:
    """A network that gives one number; `apply(weights, x, counted) -> (n, 1)`.

    `init` raises ValueError if it gives more.
    """

    def init(key: Key, x: Array) -> Weights:
        return _init("regressor", network, 1, key, x)

    def loss(
        outputs: Float[Array, "n 1"], y: Num[Array, " n"], mask: Bool[Array, " n"]
    ) -> Float[Array, ""]:
        error = outputs[:, 0] - jnp.where(mask, y, 0.0)
        return _mean(jnp.square(error), mask)

    return InnerLearner(kind="number", init=init, apply=network.apply, loss=loss)


def _init(who: str, network: Network, num_outputs: int, key: Key, x: Array) -> Weights:
    counted = jnp.ones(len(x), bool)
    weights = network.init(key, x, counted)
    outputs = jax.eval_shape(network.apply, weights, x, counted)
    if outputs.shape != (len(x), num_outputs):
        raise ValueError(
            f"{who}: the network gives outputs of shape {outputs.shape} for {len(x)} "
            f"rows, where {(len(x), num_outputs)} is needed."
        )
    return weights


def _restricted(learner: InnerLearner, outputs: Array, support: Examples) -> Array:
    """Log probabilities over the classes of the support; numbers as they are."""
    if learner.kind == "number":
        return outputs
    return class_logits(outputs, present(support, outputs.shape[-1]))


def support_loss(
    learner: InnerLearner, weights: Weights, support: Examples
) -> Float[Array, ""]:
    """What training minimises: the loss on a cleaned support."""
    outputs = learner.apply(weights, support.x, support.mask)
    outputs = _restricted(learner, outputs, support)
    return learner.loss(outputs, support.y, support.mask)


def query_outputs(
    learner: InnerLearner, weights: Weights, task: Task, *, transductive: bool = False
) -> Float[Array, "n out"]:
    """Log probabilities of the classes, or the mean, of a task's query rows.

    Args:
      learner: that was trained.
      weights: trained on the task's support.
      task: one, without a task axis.
      transductive: whether normalising layers take their statistics from the query
        rows, as published code does, so that a prediction depends on the other
        queries. Else they take those of the support, and none leaks.
    """
    support, query = clean(task.support), clean(task.query)
    if transductive:
        outputs = learner.apply(weights, query.x, query.mask)
    else:
        x = jnp.concatenate([support.x, query.x])
        counted = jnp.concatenate([support.mask, jnp.zeros_like(query.mask)])
        outputs = learner.apply(weights, x, counted)[len(support.x) :]
    return _restricted(learner, outputs, support)


def query_loss(
    learner: InnerLearner, weights: Weights, task: Task, *, transductive: bool = False
) -> Float[Array, ""]:
    """The loss of `query_outputs`."""
    outputs = query_outputs(learner, weights, task, transductive=transductive)
    return learner.loss(outputs, task.query.y, task.query.mask)
