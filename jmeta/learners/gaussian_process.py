"""Gaussian processes: exact up to 512 padded rows, on 512 inducing rows beyond.

Beyond that, the inducing rows are drawn from the support by the key, and the prior
is the one of the subset of regressors (Quinonero-Candela and Rasmussen, 2005,
https://jmlr.org/papers/v6/quinonero-candela05a.html, section 3).
Classes are the mode of the Laplace approximation (Rasmussen and Williams, 2006,
Gaussian Processes for Machine Learning, sections 3.4 and 3.5).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Bool, Float

from jmeta.base import Learner
from jmeta.learners.common import class_logits, clean, present
from jmeta.learners.kernels import KERNELS, kernel, reach, squared_distances
from jmeta.learners.newton import (
    Direction,
    Targets,
    conjugate_gradients,
    minimise,
    probabilities,
    targets,
)
from jmeta.spaces import Space, choice, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["gaussian_process", "gaussian_process_regressor", "latent_mode"]

_EXACT = 512


class Basis(NamedTuple):
    """The support as the kernel sees it.

    Attributes:
      x: the rows that predictions are compared with: all, or the inducing ones.
      mask: which of them count.
      lengthscale: in the unit of x.
      gram: the kernel matrix of the support, or a factor Phi of it with
        `K = Phi Phi^T` where rows are induced; zeros where masked.
      factor: with inducing rows, the Cholesky factor of their kernel matrix.
    """

    x: Float[Array, "m features"]
    mask: Bool[Array, " m"]
    lengthscale: Float[Array, ""]
    gram: Float[Array, "n m"]
    factor: Float[Array, "m m"] | None


def _basis(key: Key, settings: Settings, support: Examples) -> Basis:
    """The kernel matrix of a cleaned support, or its low-rank factor."""
    x, mask = support.x, support.mask
    lengthscale = settings["lengthscale"].astype(x.dtype) * reach(x)

    def covariance(a, a_mask, b, b_mask):
        values = kernel(squared_distances(a, b), lengthscale, settings["kernel"])
        return jnp.where(a_mask[:, None] & b_mask, values, 0.0)

    if len(x) <= _EXACT:
        gram = covariance(x, mask, x, mask)
        return Basis(x=x, mask=mask, lengthscale=lengthscale, gram=gram, factor=None)
    drawn = jnp.where(mask, jax.random.uniform(key, (len(x),)), -1.0)
    _, chosen = jax.lax.top_k(drawn, _EXACT)
    near, near_mask = x[chosen], mask[chosen]
    own = covariance(near, near_mask, near, near_mask)
    # The smallest jitter that keeps a smooth kernel's matrix factorisable.
    jitter = 64.0 * _EXACT * jnp.finfo(x.dtype).eps
    diagonal = jnp.where(near_mask, jitter, 1.0)
    factor = jax.lax.linalg.cholesky(own + jnp.diag(diagonal), symmetrize_input=False)
    cross = covariance(near, near_mask, x, mask)
    gram = solve_triangular(factor, cross, lower=True).T
    return Basis(
        x=near, mask=near_mask, lengthscale=lengthscale, gram=gram, factor=factor
    )


def _apply(gram: Array, vector: Array, square: bool) -> Array:
    """The kernel matrix, which `gram` is if square and a factor of if not, @ vector."""
    return gram @ vector if square else gram @ (gram.T @ vector)


def _cross(weights: Weights, x: Array) -> Array:
    """Covariances of new rows with the basis, times its weights."""
    squared = squared_distances(x, weights["x"])
    values = kernel(squared, weights["lengthscale"], weights["kernel"])
    return jnp.where(weights["mask"], values, 0.0) @ weights["values"]


def gaussian_process_regressor() -> Learner:
    """The posterior mean of a Gaussian process about the mean of the support.

    `lengthscale` is relative to the root of the number of columns that count,
    `noise` is the variance of the noise relative to that of the process, which is 1:
    for standardised targets. The mean of the support's `y` is subtracted first and
    added again; on centred targets this is scikit-learn's
    `GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)`.
    """
    space = Space(
        lengthscale=real(0.1, 10.0, default=1.0, log=True),
        noise=real(1e-3, 10.0, default=0.1, log=True),
        kernel=choice(*KERNELS, default="matern52"),
    )

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        support = clean(support)
        basis = _basis(key, settings, support)
        rows = support.mask.astype(support.x.dtype)
        mean = jnp.sum(support.y) / jnp.maximum(jnp.sum(rows), 1.0)
        y = (support.y - mean) * rows
        noise = settings["noise"].astype(rows.dtype)
        if basis.factor is None:
            system, right = basis.gram + jnp.diag(jnp.where(rows > 0, noise, 1.0)), y
        else:
            size = basis.gram.shape[1]
            system = basis.gram.T @ basis.gram + noise * jnp.eye(size, dtype=y.dtype)
            right = basis.gram.T @ y
        factor = jax.lax.linalg.cholesky(system, symmetrize_input=False)
        values = cho_solve((factor, True), right)
        if basis.factor is not None:
            values = solve_triangular(basis.factor, values, lower=True, trans=1)
        return {
            "x": basis.x,
            "mask": basis.mask,
            "lengthscale": basis.lengthscale,
            "kernel": settings["kernel"],
            "values": values,
            "mean": mean,
        }

    def predict(weights: Weights, x: Array) -> Array:
        return weights["mean"] + _cross(weights, x)

    return Learner(
        name="gaussian_process_regressor",
        kind="number",
        space=space,
        fit=fit,
        predict=predict,
    )


def _root(probs: Array, rows: Array, vector: Array, transpose: bool) -> Array:
    """A root R of the cross-entropy's Hessian `W = R R^T`, times a vector.

    Row by row, `diag(p) - p p^T = R R^T` with `R = diag(sqrt p) - p sqrt(p)^T`.
    """
    rows = rows[:, None]
    if probs.shape[-1] == 1:
        return rows * jnp.sqrt(probs * (1.0 - probs)) * vector
    root = jnp.sqrt(probs)
    if transpose:
        inner = jnp.sum(probs * vector, axis=-1, keepdims=True)
        return rows * root * (vector - inner)
    inner = jnp.sum(root * vector, axis=-1, keepdims=True)
    return rows * (root * vector - probs * inner)


def _inner(gram: Array, square: bool, probs: Array, wanted: Targets, right: Array):
    """Solve `(I + R^T K R) z = right`, whose eigenvalues are at least 1."""

    def product(vector):
        spread = _apply(gram, _root(probs, wanted.rows, vector, False), square)
        return vector + _root(probs, wanted.rows, spread, True)

    single = right.dtype == jnp.float32
    tol, max_steps = (1e-5, 50) if single else (1e-12, 500)
    return conjugate_gradients(product, right, tol=tol, max_steps=max_steps)


def _mode(gram: Array, wanted: Targets, square: bool) -> Array:
    def direction(weights, logits, probs, residual):
        # Newton in function space: (I + W K) step = residual - weights.
        ahead = residual - weights
        spread = _apply(gram, ahead, square)
        right = _root(probs, wanted.rows, spread, True)
        solved = _inner(gram, square, probs, wanted, right)
        step = ahead - _root(probs, wanted.rows, solved, False)
        moved = _apply(gram, step, square)
        return Direction(
            weights=step,
            logits=moved,
            slope=jnp.sum(logits * step),
            bend=jnp.sum(step * moved),
        )

    return minimise(direction, jnp.zeros_like(wanted.hot), wanted, max_steps=20)


@jax.custom_jvp
def latent_mode(
    gram: Float[Array, "n m"], wanted: Targets
) -> Float[Array, "n outputs"]:
    """The coefficients A whose latent function `F = K A` is the mode.

    It minimises `sum cross-entropy(F) + trace(A^T K A) / 2`, so that A is the
    gradient of the log likelihood, `hot - probabilities`. No inverse or factor of K
    is taken. Differentiable with respect to K by the implicit function theorem.

    Args:
      gram: the kernel matrix K if square, else a factor Phi with `K = Phi Phi^T`;
        zero in the rows that do not count.
      wanted: the targets.
    """
    return _mode(gram, wanted, gram.shape[0] == gram.shape[1])


@latent_mode.defjvp
def _latent_mode_jvp(primals, tangents):
    (gram, wanted), (moved, _) = primals, tangents
    square = gram.shape[0] == gram.shape[1]
    values = latent_mode(gram, wanted)
    logits, change = jax.jvp(
        lambda gram: _apply(gram, values, square), (gram,), (moved,)
    )
    probs = probabilities(logits, wanted.present)
    right = _root(probs, wanted.rows, change, True)
    solved = _inner(gram, square, probs, wanted, right)
    return values, -_root(probs, wanted.rows, solved, False)


def gaussian_process(num_classes: int) -> Learner:
    """The most likely latent functions of a Gaussian process classifier.

    One latent function a class, or one in all if there are two, each with a kernel of
    variance `amplitude^2`, pushed through the softmax; that mode is where
    scikit-learn's `GaussianProcessClassifier(kernel, optimizer=None)` has its Laplace
    approximation. Probabilities are those of the mode, not averaged over the
    posterior.
    """
    space = Space(
        lengthscale=real(0.1, 10.0, default=1.0, log=True),
        amplitude=real(0.3, 10.0, default=4.0, log=True),
        kernel=choice(*KERNELS, default="matern52"),
    )

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        support = clean(support)
        basis = _basis(key, settings, support)
        wanted = targets(support, num_classes)
        variance = jnp.square(settings["amplitude"]).astype(support.x.dtype)
        # The difference of two latent functions has twice the variance of one.
        variance = variance * jnp.where(wanted.twofold, 0.5, 1.0)
        square = basis.factor is None
        gram = basis.gram * (variance if square else jnp.sqrt(variance))
        values = latent_mode(gram, wanted)
        if basis.factor is not None:
            values = basis.gram.T @ values
            values = solve_triangular(basis.factor, values, lower=True, trans=1)
        values = variance * values
        if num_classes == 2:
            values = jnp.concatenate([jnp.zeros_like(values), values], axis=1)
        return {
            "x": basis.x,
            "mask": basis.mask,
            "lengthscale": basis.lengthscale,
            "kernel": settings["kernel"],
            "values": values,
            "present": present(support, num_classes),
        }

    def predict(weights: Weights, x: Array) -> Array:
        return class_logits(_cross(weights, x), weights["present"])

    return Learner(
        name="gaussian_process",
        kind="classes",
        space=space,
        fit=fit,
        predict=predict,
    )
