"""A support vector machine or logistic regression on embeddings, fitted in every task.

The gradient crosses it at its optimum, by the implicit function theorem, whatever the
steps that led there.

Source: MetaOptNet, Lee et al., 2019, https://arxiv.org/abs/1904.03758.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Float

from jmeta.algorithms.embedding import Head, Rows, embedding
from jmeta.algorithms.row_kernel import Kernel, linear_kernel
from jmeta.base import MetaAlgorithm, Network
from jmeta.learners.common import class_logits, one_hot, present
from jmeta.learners.crammer_singer import margin_coefficients
from jmeta.learners.gaussian_process import latent_mode
from jmeta.learners.newton import targets
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params

__all__ = ["convex_head"]

_LOSSES = ("svm", "logistic")


def _coefficients(
    gram: Float[Array, "n n"], examples: Examples, num_classes: int, loss: str
) -> Float[Array, "n classes"]:
    """What the rows of the support add to the scores of each class."""
    if loss == "svm":
        return margin_coefficients(gram, one_hot(examples, num_classes))
    wanted = targets(examples, num_classes)
    both = examples.mask[:, None] & examples.mask
    # With two classes it is one weight vector that is penalised, not two.
    share = jnp.where(wanted.twofold, 0.5, 1.0)
    found = share * latent_mode(jnp.where(both, share * gram, 0.0), wanted)
    if num_classes == 2:
        found = jnp.concatenate([jnp.zeros_like(found), found], axis=1)
    return found


def convex_head(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_classes: int = 2,
    loss: str = "svm",
    kernel: Kernel | None = None,
    penalty: float = 1.0,
    stochastic: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn an embedding on which a convex classifier from a few rows does well.

    Without an intercept, as published: scikit-learn's
    `LinearSVC(multi_class="crammer_singer", C=1 / penalty, fit_intercept=False)` and
    `LogisticRegression(C=1 / penalty, fit_intercept=False)`. Its scores times a factor
    that is learnt are log odds, softened by `softmax`. Classes that the support lacks
    are left out. A task takes the factorisation of a matrix of n (classes - 1) rows for
    the first, about 25 times, and products with one of n for the second.

    Args:
      network: the embedding.
      optimizer: of network, kernel, penalty and factor.
      num_classes: the most that a task has.
      loss: "svm" or "logistic".
      kernel: between rows; None for the product of their embeddings.
      penalty: of the classifier at the start; 1 / C.
      stochastic, micro_batch: see `jmeta.algorithms.embedding`.

    Raises:
      ValueError: if `loss` is unknown, `penalty` is not above 0, or `num_classes` or
        `micro_batch` is too small.
    """
    if loss not in _LOSSES or not penalty > 0 or num_classes < 2:
        raise ValueError(
            f"convex_head: needs a loss of {list(_LOSSES)}, a penalty above 0 and at "
            f"least 2 classes, got {loss!r}, {penalty} and {num_classes}."
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
        examples = labels._replace(x=support.z)
        strength = jnp.exp(-params["log_penalty"])

        def between(a: Rows, b: Rows) -> Array:
            related = chosen.compare(a, b)
            return strength * chosen.covariance(params["kernel"], related)

        inner, outer = between(support, support), between(query, support)
        scores = outer @ _coefficients(inner, examples, num_classes, loss)
        scores = jnp.exp(params["log_factor"]) * scores
        return class_logits(scores, present(examples, num_classes))

    head = Head(init=init, apply=apply)
    return embedding(
        "convex_head",
        network,
        head,
        optimizer,
        stochastic=stochastic,
        micro_batch=micro_batch,
    )
