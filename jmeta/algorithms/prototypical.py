"""Prototypical networks: a class is as likely as its mean embedding is near.

Sources: Snell, Swersky and Zemel, 2017, https://arxiv.org/abs/1703.05175; the
Mahalanobis distance, Bateni et al., 2020, https://arxiv.org/abs/1912.03432, section 4.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jmeta.algorithms.embedding import Head, Rows, embedding
from jmeta.base import MetaAlgorithm, Network
from jmeta.learners.common import class_logits, one_hot, present
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params

__all__ = ["class_distances", "prototypical"]

_METRICS = ("euclidean", "mahalanobis")


def class_distances(
    z: Float[Array, "n size"],
    hot: Float[Array, "n classes"],
    query: Float[Array, "m size"],
    *,
    metric: str,
) -> Float[Array, "m classes"]:
    """Squared distances of query rows from the mean of each class.

    The Mahalanobis distance is that of the class's covariance, shrunk towards the
    covariance of all rows, the more so the fewer there are, and the identity added.

    Args:
      z: embeddings of the support.
      hot: its classes, one-hot; zeros for rows that are padding.
      query: embeddings.
      metric: "euclidean" or "mahalanobis".
    """
    count = jnp.sum(hot, axis=0)
    some = jnp.maximum(count, 1.0)
    means = hot.T @ z / some[:, None]
    if metric == "euclidean":
        away = query[:, None] - means
        return jnp.sum(jnp.square(away), axis=-1)
    there = jnp.sum(hot, axis=1)
    total = jnp.maximum(jnp.sum(there), 2.0)
    about = (z - there @ z / total) * there[:, None]
    shared = about.T @ about / (total - 1.0)

    def of_class(mean: Array, members: Array, count: Array) -> Array:
        about = (z - mean) * members[:, None]
        own = about.T @ about / jnp.maximum(count - 1.0, 1.0)
        weight = count / (count + 1.0)
        spread = weight * own + (1.0 - weight) * shared + jnp.eye(z.shape[1])
        away = query - mean
        # Solves with many right-hand sides are far slower than inverses on a CPU.
        return jnp.sum((away @ jnp.linalg.inv(spread)) * away, axis=1)

    return jax.vmap(of_class, in_axes=(0, 1, 0), out_axes=1)(means, hot, count)


def prototypical(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_classes: int = 2,
    metric: str = "euclidean",
    stochastic: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn an embedding in which the mean of a few rows stands for their class.

    Log probabilities are minus half the squared distances, each divided by the size of
    the embedding, times a factor that is learnt. Classes that the support lacks are
    not predicted.

    Args:
      network: the embedding.
      optimizer: of the network and the factor.
      num_classes: the most that a task has.
      metric: "euclidean" or "mahalanobis", see `class_distances`. The latter inverts
        a matrix of the embedding's size for each class.
      stochastic, micro_batch: see `jmeta.algorithms.embedding`.

    Raises:
      ValueError: if `metric` is unknown, or `num_classes` or `micro_batch` too small.
    """
    if metric not in _METRICS or num_classes < 2:
        raise ValueError(
            f"prototypical: needs a metric of {list(_METRICS)} and at least 2 classes, "
            f"got {metric!r} and {num_classes}."
        )

    def init(key: Key, size: int) -> Params:
        del key, size  # The factor is one number, and starts at one.
        return {"log_factor": jnp.zeros(())}

    def apply(params: Params, support: Rows, labels: Examples, query: Rows) -> Array:
        examples = labels._replace(x=support.z)
        hot = one_hot(examples, num_classes)
        squared = class_distances(support.z, hot, query.z, metric=metric)
        scores = -0.5 * jnp.exp(params["log_factor"]) * squared / query.z.shape[1]
        return class_logits(scores, present(examples, num_classes))

    head = Head(init=init, apply=apply)
    return embedding(
        "prototypical",
        network,
        head,
        optimizer,
        stochastic=stochastic,
        micro_batch=micro_batch,
    )
