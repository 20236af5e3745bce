"""Ridge regression with a free intercept, by Cholesky factorisation."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from jmeta.base import Learner
from jmeta.learners.common import clean
from jmeta.spaces import Space, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["ridge"]


def ridge() -> Learner:
    """Linear regression that minimises `sum (y - f)^2 + penalty |w|^2`.

    The intercept is not penalised, and any `y` is fitted exactly so. Differentiable
    in `penalty`.
    """
    space = Space(penalty=real(1e-3, 1e4, default=1.0, log=True))

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key  # Least squares has one solution.
        support = clean(support)
        rows = support.mask.astype(support.x.dtype)
        total = jnp.maximum(jnp.sum(rows), 1.0)
        mean_x = jnp.sum(support.x, axis=0) / total
        mean_y = jnp.sum(support.y) / total
        x = (support.x - mean_x) * rows[:, None]
        gram = x.T @ x
        penalty = settings["penalty"].astype(x.dtype)
        # Keeps a Gram matrix of low rank factorisable under the smallest penalties.
        floor = jnp.finfo(x.dtype).eps * jnp.trace(gram)
        factor = jax.lax.linalg.cholesky(
            gram + jnp.maximum(penalty, floor) * jnp.eye(len(gram), dtype=x.dtype),
            symmetrize_input=False,
        )
        coef = cho_solve((factor, True), x.T @ ((support.y - mean_y) * rows))
        return {"coef": coef, "intercept": mean_y - mean_x @ coef}

    def predict(weights: Weights, x: Array) -> Array:
        return x @ weights["coef"] + weights["intercept"]

    return Learner(name="ridge", kind="number", space=space, fit=fit, predict=predict)
