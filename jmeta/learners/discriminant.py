"""Linear and quadratic discriminant analysis with shrunk covariances.

Source for the pooled covariances: Friedman, 1989, Regularized discriminant analysis,
https://doi.org/10.1080/01621459.1989.10478752.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Bool, Float

from jmeta.base import Learner
from jmeta.learners.common import active, class_logits, clean, one_hot
from jmeta.spaces import Space, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["lda", "qda"]


class Moments(NamedTuple):
    """What the discriminants know of a support; free of settings.

    Attributes:
      counts: rows of each class.
      means: mean of each class, zeros for absent ones.
      centred: the rows, each less the mean of its class; zeros if masked.
      hot: one-hot classes, zeros if masked.
      active: columns that count.
    """

    counts: Float[Array, " classes"]
    means: Float[Array, "classes features"]
    centred: Float[Array, "n features"]
    hot: Float[Array, "n classes"]
    active: Bool[Array, " features"]


def _moments(support: Examples, num_classes: int) -> Moments:
    support = clean(support)
    hot = one_hot(support, num_classes)
    counts = jnp.sum(hot, axis=0)
    means = hot.T @ support.x / jnp.maximum(counts, 1.0)[:, None]
    return Moments(
        counts=counts,
        means=means,
        centred=support.x - hot @ means,
        hot=hot,
        active=active(support.x),
    )


def _shrink(
    covariance: Float[Array, "features features"],
    shrinkage: Float[Array, ""],
    active: Bool[Array, " features"],
) -> Float[Array, "features features"]:
    """Shrink towards a multiple of the identity; columns not active get a one.

    A floor relative to the trace keeps covariances of low rank factorisable, and one
    that is zero is replaced by the identity, scaled by the shrinkage.
    """
    shrinkage = shrinkage.astype(covariance.dtype)
    trace = jnp.trace(covariance)
    eps = jnp.finfo(covariance.dtype).eps
    size = jnp.maximum(jnp.sum(active), 1).astype(covariance.dtype)
    mean = jnp.where(trace > eps, trace / size, 1.0)
    target = jnp.maximum(shrinkage, 8.0 * eps * size) * mean
    diagonal = jnp.where(active, target, 1.0)
    return (1.0 - shrinkage) * covariance + jnp.diag(diagonal)


def _log_prior(counts: Float[Array, " classes"]) -> Float[Array, " classes"]:
    return jnp.log(jnp.maximum(counts, 1.0) / jnp.maximum(jnp.sum(counts), 1.0))


def lda(num_classes: int) -> Learner:
    """Linear discriminant analysis.

    The pooled within-class covariance S becomes
    `(1 - shrinkage) S + shrinkage trace(S) / features I`, as in scikit-learn's
    `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=...)`.
    """
    space = Space(shrinkage=real(0.0, 1.0, default=0.3))

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key  # Closed form.
        moments = _moments(support, num_classes)
        rows = jnp.maximum(jnp.sum(moments.counts), 1.0)
        pooled = moments.centred.T @ moments.centred / rows
        covariance = _shrink(pooled, settings["shrinkage"], moments.active)
        factor = jax.lax.linalg.cholesky(covariance, symmetrize_input=False)
        coef = cho_solve((factor, True), moments.means.T)
        offset = 0.5 * jnp.sum(moments.means * coef.T, axis=1)
        return {
            "coef": coef,
            "intercept": _log_prior(moments.counts) - offset,
            "present": moments.counts > 0,
        }

    def predict(weights: Weights, x: Array) -> Array:
        scores = x @ weights["coef"] + weights["intercept"]
        return class_logits(scores, weights["present"])

    return Learner(name="lda", kind="classes", space=space, fit=fit, predict=predict)


def qda(num_classes: int) -> Learner:
    """Quadratic discriminant analysis, regularised.

    The covariance S_c of each class becomes `(1 - pooling) S_c + pooling S`, with S
    the pooled one, and is then shrunk towards a multiple of the identity. Without
    pooling it is scikit-learn's
    `QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=...)`. A class of a
    single row takes the pooled covariance.
    """
    space = Space(
        shrinkage=real(0.0, 1.0, default=0.3), pooling=real(0.0, 1.0, default=0.5)
    )

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key  # Closed form.
        moments = _moments(support, num_classes)
        spread = moments.hot.T[:, :, None] * moments.centred
        sums = jnp.einsum("cni,nj->cij", spread, moments.centred)
        pooled = jnp.sum(sums, axis=0) / jnp.maximum(jnp.sum(moments.counts), 1.0)
        own = sums / jnp.maximum(moments.counts, 1.0)[:, None, None]
        own = jnp.where((moments.counts > 1)[:, None, None], own, pooled)
        pooling = settings["pooling"].astype(own.dtype)
        mixed = (1.0 - pooling) * own + pooling * pooled
        shrunk = jax.vmap(_shrink, in_axes=(0, None, None))(
            mixed, settings["shrinkage"], moments.active
        )
        factor = jax.lax.linalg.cholesky(shrunk, symmetrize_input=False)
        eye = jnp.broadcast_to(jnp.eye(own.shape[-1], dtype=own.dtype), own.shape)
        whiten = solve_triangular(factor, eye, lower=True)
        log_det = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
        return {
            "means": moments.means,
            "whiten": whiten,
            "offset": _log_prior(moments.counts) - log_det,
            "present": moments.counts > 0,
        }

    def predict(weights: Weights, x: Array) -> Array:
        away = x[None] - weights["means"][:, None, :]
        white = jnp.einsum("cnj,cij->cni", away, weights["whiten"])
        scores = weights["offset"] - 0.5 * jnp.sum(white**2, axis=-1).T
        return class_logits(scores, weights["present"])

    return Learner(name="qda", kind="classes", space=space, fit=fit, predict=predict)
