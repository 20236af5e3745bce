"""A ridge regression on embeddings, solved inside every task in closed form.

Source: R2D2, Bertinetto et al., 2019, https://arxiv.org/abs/1805.08136; with a kernel
beside the embedding's own it is a deep kernel, as in Patacchiola et al., 2020,
https://arxiv.org/abs/1910.05199.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from jmeta.algorithms.embedding import Head, Rows, embedding
from jmeta.algorithms.row_kernel import Kernel, linear_kernel
from jmeta.base import MetaAlgorithm, Network
from jmeta.learners.common import class_logits, one_hot, present
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params

__all__ = ["dual_ridge", "ridge_head"]


def dual_ridge(
    inner: Float[Array, "n n"],
    outer: Float[Array, "m n"],
    targets: Float[Array, "n outputs"],
    mask: Bool[Array, " n"],
    penalty: Float[Array, ""],
) -> Float[Array, "m outputs"]:
    """Ridge regression with an intercept that is not penalised, from products of rows.

    Args:
      inner: kernel of the support with itself.
      outer: kernel of the query with the support.
      targets: finite.
      mask: which rows of the support count.
      penalty: above 0; that of scikit-learn's `Ridge(alpha=penalty)`.
    """
    weight = mask / jnp.maximum(jnp.sum(mask), 1)
    of_rows = inner @ weight
    level = weight @ of_rows
    both = mask[:, None] & mask
    centred = inner - of_rows[:, None] - of_rows + level
    centred = jnp.where(both, centred, 0.0) + penalty * jnp.eye(len(mask))
    crossed = outer - (outer @ weight)[:, None] - of_rows + level
    mean = weight @ targets
    about = jnp.where(mask[:, None], targets - mean, 0.0)
    weights = jnp.linalg.solve(centred, about)
    return mean + jnp.where(mask, crossed, 0.0) @ weights


def ridge_head(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_classes: int | None = 2,
    kernel: Kernel | None = None,
    penalty: float = 1.0,
    stochastic: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn an embedding on which a ridge regression from a few rows does well.

    Classes are learnt as targets of +1 and -1; the predictions times a factor that is
    learnt are log odds, softened by `softmax`. Classes that the support lacks are not
    predicted.

    Args:
      network: the embedding.
      optimizer: of network, kernel, penalty and factor.
      num_classes: the most that a task has; None where targets are numbers.
      kernel: between rows; None for the product of their embeddings.
      penalty: of the ridge at the start.
      stochastic, micro_batch: see `jmeta.algorithms.embedding`.

    Raises:
      ValueError: if `penalty` is not above 0, or `num_classes` or `micro_batch` is too
        small.
    """
    if not penalty > 0 or (num_classes is not None and num_classes < 2):
        raise ValueError(
            "ridge_head: needs a penalty above 0 and at least 2 classes, or None for "
            f"numbers, got {penalty} and {num_classes}."
        )
    chosen = linear_kernel() if kernel is None else kernel

    def init(key: Key, size: int) -> Params:
        del key  # Nothing is drawn.
        return {
            "kernel": chosen.init(size),
            "log_penalty": jnp.log(jnp.asarray(penalty, jnp.float32)),
            "log_factor": jnp.zeros(()),
        }

    def apply(params: Params, support: Rows, labels: Examples, query: Rows) -> Array:
        def between(a: Rows, b: Rows) -> Array:
            return chosen.covariance(params["kernel"], chosen.compare(a, b))

        inner, outer = between(support, support), between(query, support)
        strength = jnp.exp(params["log_penalty"])
        if num_classes is None:
            targets = labels.y[:, None]
            return dual_ridge(inner, outer, targets, labels.mask, strength)[:, 0]
        examples = labels._replace(x=support.z)
        targets = 2.0 * one_hot(examples, num_classes) - 1.0
        scores = dual_ridge(inner, outer, targets, labels.mask, strength)
        scores = jnp.exp(params["log_factor"]) * scores
        return class_logits(scores, present(examples, num_classes))

    head = Head(init=init, apply=apply)
    return embedding(
        "ridge_head",
        network,
        head,
        optimizer,
        stochastic=stochastic,
        micro_batch=micro_batch,
    )
