"""Newton's method for softmax and logistic losses with a quadratic penalty.

The problem is to minimise, over weights W,

    sum_i rows_i * cross_entropy(targets_i, logits_i(W)) + regulariser(W),

where the logits are linear in W and the regulariser is quadratic. Two classes have
one logit, the log odds of the second; more have one each. Steps are safeguarded by
a line search, and every task of a batch stops when it has converged itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Bool, Float

from jmeta.learners.common import one_hot, present
from jmeta.tasks import Examples
from jmeta.types import Array

__all__ = [
    "Direction",
    "Targets",
    "conjugate_gradients",
    "curvature",
    "minimise",
    "probabilities",
    "targets",
]

_STEPS = (1.0, 0.25, 0.05, 0.01)


class Targets(NamedTuple):
    """What the logits should say.

    Attributes:
      hot: one-hot classes; a single column, the second class, if there are two.
      rows: 1 for rows that count, 0 for others; all 0 if fewer than two classes are
        present, since there is nothing to learn then.
      present: which columns of `hot` belong to classes of the support.
      twofold: whether exactly two classes of more than two columns are present, which
        makes the penalty of two weight vectors twice that of one.
    """

    hot: Float[Array, "n outputs"]
    rows: Float[Array, " n"]
    present: Bool[Array, " outputs"]
    twofold: Bool[Array, ""]


def targets(support: Examples, num_classes: int) -> Targets:
    """The targets of a support whose rows outside the mask have been cleaned."""
    hot, held = one_hot(support, num_classes), present(support, num_classes)
    count = jnp.sum(held)
    rows = jnp.where(support.mask & (count >= 2), 1.0, 0.0).astype(hot.dtype)
    return Targets(
        hot=hot[:, 1:] if num_classes == 2 else hot,
        rows=rows,
        present=held[1:] if num_classes == 2 else held,
        twofold=(count == 2) & (num_classes > 2),
    )


class Direction(NamedTuple):
    """A direction of descent, and what the regulariser does along it.

    Attributes:
      weights: the direction.
      logits: how the logits change along it.
      slope, bend: first and second derivative of the regulariser along it.
    """

    weights: Any
    logits: Float[Array, "n outputs"]
    slope: Float[Array, ""]
    bend: Float[Array, ""]


DirectionFn: TypeAlias = Callable[[Any, Array, Array, Array], Direction]


def probabilities(
    logits: Float[Array, "n outputs"], present: Bool[Array, " outputs"]
) -> Float[Array, "n outputs"]:
    """Probability of each output; exactly 0 for classes that are absent."""
    if logits.shape[-1] == 1:
        return jax.nn.sigmoid(logits)
    return jax.nn.softmax(jnp.where(present, logits, -1e30), axis=-1)


def curvature(
    probs: Float[Array, "n outputs"], vector: Float[Array, "n outputs"]
) -> Float[Array, "n outputs"]:
    """The Hessian of the cross-entropy with respect to the logits, times a vector."""
    if probs.shape[-1] == 1:
        return probs * (1.0 - probs) * vector
    return probs * (vector - jnp.sum(probs * vector, axis=-1, keepdims=True))


def conjugate_gradients(
    product: Callable[[Array], Array],
    right: Float[Array, "n outputs"],
    *,
    tol: float,
    max_steps: int,
    precondition: Callable[[Array], Array] | None = None,
) -> Float[Array, "n outputs"]:
    """Solve `product(z) = right` for a symmetric positive `product`; linear in right.

    Args:
      product: the matrix, as a function.
      right: the right-hand side.
      tol: relative to the norm of `right`.
      max_steps: at most this many products.
      precondition: about the inverse of `product`.
    """

    def solve(product, right):
        return cg(product, right, tol=tol, maxiter=max_steps, M=precondition)[0]

    # cg alone cannot be transposed inside a rule for derivatives.
    return jax.lax.custom_linear_solve(product, right, solve, symmetric=True)


def _loss(logits: Float[Array, "n outputs"], wanted: Targets) -> Float[Array, ""]:
    if logits.shape[-1] == 1:
        losses = jax.nn.softplus(logits[:, 0]) - wanted.hot[:, 0] * logits[:, 0]
    else:
        logits = jnp.where(wanted.present, logits, -1e30)
        # The product is 0 * -1e30 = -0 for absent classes.
        losses = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(wanted.hot * logits, -1)
    return jnp.sum(wanted.rows * losses)


def minimise(
    direction: DirectionFn,
    weights: Any,
    wanted: Targets,
    *,
    logits: Array | None = None,
    max_steps: int = 30,
) -> Any:
    """Minimise from `weights`, where the regulariser must be zero.

    Not differentiable in reverse mode: solvers built on it bring their own rule.

    Args:
      direction: `(weights, logits, probs, residual) -> Direction`, with
        `residual = rows * (hot - probs)`, the negative gradient of the
        cross-entropy with respect to the logits.
      weights: where to start, at a zero regulariser.
      wanted: the targets.
      logits: those at the start; None for zeros.
      max_steps: at most this many steps, converged or not.

    Returns:
      The weights of the smallest loss found; finite for finite inputs.
    """
    dtype = wanted.hot.dtype
    eps = jnp.finfo(dtype).eps
    # Newton's error squares with each step, so the step that ends below this
    # decrement ends near its square.
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-10
    steps = jnp.asarray(_STEPS, dtype)
    rows = wanted.rows[:, None]

    def body(state):
        weights, logits, fit, penalty, count, _ = state
        probs = probabilities(logits, wanted.present)
        residual = rows * (wanted.hot - probs)
        move = direction(weights, logits, probs, residual)
        slope = move.slope - jnp.sum(residual * move.logits)
        fits = jax.vmap(lambda t: _loss(logits + t * move.logits, wanted))(steps)
        penalties = penalty + steps * move.slope + 0.5 * steps**2 * move.bend
        now = fit + penalty
        slack = 8.0 * eps * (1.0 + jnp.abs(now))
        good = fits + penalties <= now + 1e-4 * steps * slope + slack
        # argmax finds the first, so the longest, acceptable step.
        best = jnp.argmax(good)
        step = jnp.where(jnp.any(good), steps[best], 0.0)
        moved = step > 0
        # Not w + 0 * d: a direction that failed may hold NaN.
        weights, logits = jax.tree.map(
            lambda w, d: jnp.where(moved, w + step * d, w),
            (weights, logits),
            (move.weights, move.logits),
        )
        done = ~moved | ((-slope <= tolerance) & (step == 1.0))
        return (
            weights,
            logits,
            jnp.where(moved, fits[best], fit),
            jnp.where(moved, penalties[best], penalty),
            count + 1,
            done,
        )

    def unfinished(state):
        *_, count, done = state
        return (count < max_steps) & ~done

    logits = jnp.zeros_like(wanted.hot) if logits is None else logits
    zero = jnp.zeros((), dtype)
    begun, done = jnp.asarray(0), jnp.asarray(False)
    start = (weights, logits, _loss(logits, wanted), zero, begun, done)
    return jax.lax.while_loop(unfinished, body, start)[0]
