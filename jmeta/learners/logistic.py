"""Logistic and softmax regression with an L2 penalty, by Newton's method.

Small problems solve each Newton system by Cholesky, large ones by conjugate
gradients preconditioned with the bound of Boehning, 1992,
https://doi.org/10.1007/BF00048682. The fit is differentiable in its settings and
features, in forward and reverse mode, by the implicit function theorem.
"""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Float

from jmeta.base import Learner
from jmeta.learners.common import class_logits, clean, present
from jmeta.learners.newton import (
    Direction,
    Targets,
    conjugate_gradients,
    curvature,
    minimise,
    probabilities,
    targets,
)
from jmeta.spaces import Space, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["logistic", "solve"]

_DIRECT = 160
"""Up to this many unknowns the Hessian is formed and factorised."""


def _gradient(
    weights: Float[Array, "features outputs"],
    x: Float[Array, "n features"],
    penalty: Float[Array, " features"],
    wanted: Targets,
    offset: Float[Array, "n outputs"] | None,
) -> Float[Array, "features outputs"]:
    probs = probabilities(_logits(x, weights, offset), wanted.present)
    residual = wanted.rows[:, None] * (wanted.hot - probs)
    return penalty[:, None] * weights - x.T @ residual


def _logits(
    x: Float[Array, "n features"],
    weights: Float[Array, "features outputs"],
    offset: Float[Array, "n outputs"] | None,
) -> Float[Array, "n outputs"]:
    return x @ weights if offset is None else offset + x @ weights


def _hessian(
    x: Float[Array, "n features"],
    probs: Float[Array, "n outputs"],
    penalty: Float[Array, " features"],
    wanted: Targets,
) -> Float[Array, "unknowns unknowns"]:
    """The Hessian, with what keeps it invertible where the loss is flat."""
    (_, features), outputs = x.shape, probs.shape[-1]
    rows = wanted.rows[:, None]
    # The intercept has no penalty, and its curvature vanishes as probabilities
    # saturate; nor may rounding make the factorisation fail.
    flat = _flat(x, wanted)
    if outputs == 1:
        weight = rows * probs * (1.0 - probs)
        return (x * weight).T @ x + jnp.diag(penalty + flat)
    spread = (x[:, :, None] * (rows * probs)[:, None, :]).reshape(len(x), -1)
    own = jnp.einsum("nic,nj->icj", spread.reshape(len(x), features, outputs), x)
    eye = jnp.eye(outputs, dtype=x.dtype)
    blocks = own[:, :, :, None] * eye[:, None, :]
    hessian = blocks.reshape(features * outputs, -1) - spread.T @ spread
    size, gauge = _gauge(x, wanted)
    hessian += jnp.kron(jnp.diag(size), gauge)
    return hessian + jnp.diag(jnp.repeat(penalty + flat, outputs))


def _gauge(x: Float[Array, "n features"], wanted: Targets) -> tuple[Array, Array]:
    """Curvature, of features and of outputs, where the loss needs none.

    Equal shifts of all classes change no probability. The gradient is zero in that
    direction, which may thus have any curvature; so may the absent classes.
    """
    held = wanted.present.astype(x.dtype)
    size = jnp.sum(wanted.rows[:, None] * x * x, axis=0) / len(held)
    return size + _flat(x, wanted), jnp.outer(held, held) + jnp.diag(1.0 - held)


def _flat(x: Float[Array, "n features"], wanted: Targets) -> Float[Array, ""]:
    """A curvature that rounding errors hide anyway."""
    largest = jnp.max(jnp.sum(wanted.rows[:, None] * x * x, axis=0))
    return 2.0 * jnp.finfo(x.dtype).eps * (1.0 + largest)


def _solver(
    x: Float[Array, "n features"],
    penalty: Float[Array, " features"],
    wanted: Targets,
    tol: float,
    max_steps: int,
):
    """A function `(probs, right) -> inverse Hessian times right`, linear in right."""
    outputs = wanted.hot.shape[-1]
    if x.shape[1] * outputs <= _DIRECT or outputs == 1:

        def direct(probs, right):
            hessian = _hessian(x, probs, penalty, wanted)
            factor = jax.lax.linalg.cholesky(hessian, symmetrize_input=False)
            return cho_solve((factor, True), right.reshape(-1)).reshape(right.shape)

        return direct

    flat = _flat(x, wanted)
    size, gauge = _gauge(x, wanted)
    others = jnp.maximum(jnp.sum(wanted.present) - 1, 1)

    def iterative(probs, right):
        def product(vector):
            curved = wanted.rows[:, None] * curvature(probs, x @ vector)
            own = (penalty + flat)[:, None] * vector
            return x.T @ curved + own + size[:, None] * (vector @ gauge)

        # All classes share one preconditioner: the Hessian of a class whose rows have
        # the curvature that the classes have on average.
        each = wanted.rows * jnp.sum(probs * (1.0 - probs), axis=1) / others
        shared = (x * each[:, None]).T @ x + jnp.diag(penalty + flat)
        factor = jax.lax.linalg.cholesky(shared, symmetrize_input=False)
        inverse = cho_solve((factor, True), jnp.eye(x.shape[1], dtype=x.dtype))
        return conjugate_gradients(
            product,
            right,
            tol=tol,
            max_steps=max_steps,
            precondition=lambda vector: inverse @ vector,
        )

    return iterative


@jax.custom_jvp
def solve(
    x: Float[Array, "n features"],
    penalty: Float[Array, " features"],
    wanted: Targets,
    offset: Float[Array, "n outputs"] | None = None,
) -> Float[Array, "features outputs"]:
    """Weights minimising `sum cross-entropy + sum_j penalty_j / 2 |W_j|^2`.

    Args:
      x: features, zeros in rows that do not count; an intercept is a column of ones.
      penalty: of each feature's weights; 0 for the intercept.
      wanted: the targets.
      offset: logits that those of the weights are added to; None for zeros.
    """
    # Steps need not be exact, only the last of them.
    inverse = _solver(x, penalty, wanted, tol=1e-2, max_steps=40)
    if x.dtype != jnp.float32:
        inverse = _solver(x, penalty, wanted, tol=1e-8, max_steps=200)

    def direction(weights, logits, probs, residual):
        del logits
        gradient = penalty[:, None] * weights - x.T @ residual
        step = -inverse(probs, gradient)
        return Direction(
            weights=step,
            logits=x @ step,
            slope=jnp.sum(penalty[:, None] * weights * step),
            bend=jnp.sum(penalty[:, None] * step * step),
        )

    start = jnp.zeros((x.shape[1], wanted.hot.shape[-1]), x.dtype)
    return minimise(direction, start, wanted, logits=offset)


@solve.defjvp
def _solve_jvp(primals, tangents):
    x, penalty, wanted, offset = primals
    weights = solve(x, penalty, wanted, offset)
    _, moved = jax.jvp(
        lambda x, penalty, offset: _gradient(weights, x, penalty, wanted, offset),
        (x, penalty, offset),
        (tangents[0], tangents[1], tangents[3]),
    )
    tol = 1e-6 if x.dtype == jnp.float32 else 1e-12
    inverse = _solver(x, penalty, wanted, tol=tol, max_steps=200)
    probs = probabilities(_logits(x, weights, offset), wanted.present)
    return weights, -inverse(probs, moved)


def logistic(num_classes: int) -> Learner:
    """Softmax regression; `penalty` is scikit-learn's `1 / C`.

    It minimises `sum log loss + penalty / 2 |W|^2` with a free intercept. Where the
    support holds exactly two classes this is binary logistic regression with one
    weight vector, as in scikit-learn.
    """
    space = Space(penalty=real(1e-3, 1e3, default=2.0, log=True))

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key  # The optimum is unique.
        support = clean(support)
        wanted = targets(support, num_classes)
        ones = support.mask.astype(support.x.dtype)[:, None]
        x = jnp.concatenate([support.x, ones], axis=1)
        scale = settings["penalty"] * jnp.where(wanted.twofold, 2.0, 1.0)
        shape = (support.x.shape[1],)
        penalty = jnp.append(jnp.broadcast_to(scale, shape), 0.0).astype(x.dtype)
        found = solve(x, penalty, wanted)
        if num_classes == 2:
            found = jnp.concatenate([jnp.zeros_like(found), found], axis=1)
        return {
            "coef": found[:-1],
            "intercept": found[-1],
            "present": present(support, num_classes),
        }

    def predict(weights: Weights, x: Array) -> Array:
        scores = x @ weights["coef"] + weights["intercept"]
        return class_logits(scores, weights["present"])

    return Learner(
        name="logistic", kind="classes", space=space, fit=fit, predict=predict
    )
