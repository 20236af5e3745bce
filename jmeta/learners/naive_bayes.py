"""Gaussian naive Bayes."""

import jax.numpy as jnp

from jmeta.base import Learner
from jmeta.learners.common import active, class_logits, clean, one_hot
from jmeta.spaces import Space, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["naive_bayes"]


def naive_bayes(num_classes: int) -> Learner:
    """Independent normal features within each class.

    `smoothing` times the largest variance of any feature is added to all variances,
    as `var_smoothing` is in scikit-learn's `GaussianNB`.
    """
    space = Space(smoothing=real(1e-4, 10.0, default=1.0, log=True))

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key  # Closed form.
        support = clean(support)
        hot = one_hot(support, num_classes)
        counts = jnp.sum(hot, axis=0)
        total = jnp.maximum(jnp.sum(counts), 1.0)
        means = hot.T @ support.x / jnp.maximum(counts, 1.0)[:, None]
        away = jnp.square(support.x - hot @ means)
        variances = hot.T @ away / jnp.maximum(counts, 1.0)[:, None]
        centre = jnp.sum(support.x, axis=0) / total
        rows = support.mask[:, None]
        overall = jnp.sum(jnp.square(support.x - centre) * rows, axis=0) / total
        largest = jnp.max(overall)
        largest = jnp.where(largest > 0, largest, 1.0)
        variances += settings["smoothing"].astype(total.dtype) * largest
        counted = active(support.x)
        log_det = jnp.sum(jnp.where(counted, jnp.log(variances), 0.0), axis=-1)
        log_prior = jnp.log(jnp.maximum(counts, 1.0) / total)
        return {
            "means": means,
            # Of columns that count; a precision of zero leaves the others out.
            "precisions": jnp.where(counted, 1.0 / variances, 0.0),
            "offset": log_prior - 0.5 * log_det,
            "present": counts > 0,
        }

    def predict(weights: Weights, x: Array) -> Array:
        # Not expanded into products, which would cancel where variances are small.
        away = jnp.square(x[:, None, :] - weights["means"])
        scores = weights["offset"] - 0.5 * jnp.sum(away * weights["precisions"], -1)
        return class_logits(scores, weights["present"])

    return Learner(
        name="naive_bayes", kind="classes", space=space, fit=fit, predict=predict
    )
