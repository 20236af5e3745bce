"""A Gaussian process on embeddings, whose kernel is fitted inside every task.

The few parameters of the kernel are the likeliest given the support, under a prior that
is learnt across tasks; the gradient crosses that fit by the implicit function theorem.
A prior that is infinitely sure leaves the parameters as they were learnt.

Sources: the implicit gradient, Chen, Tripp and Hernandez-Lobato, 2023,
https://arxiv.org/abs/2205.02708 (ADKF-IFT); without a fit, Patacchiola et al., 2020,
https://arxiv.org/abs/1910.05199 (deep kernel transfer).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float

from jmeta.algorithms.embedding import Head, Prediction, Rows, embedding
from jmeta.algorithms.row_kernel import Kernel, gaussian_kernel
from jmeta.base import MetaAlgorithm, Network
from jmeta.gaussian import Gaussian
from jmeta.learners.common import class_logits, one_hot, present
from jmeta.tasks import Examples, target_scaling
from jmeta.types import Array, Key, Params

__all__ = ["deep_kernel", "evidence", "likeliest"]

_LARGEST_STEP = 1.0
"""Of the fit, in logarithms."""

_LEAST_NOISE = 1e-4
"""Added to the noise's variance, for matrices that rounding must not make singular."""


class _Factor(NamedTuple):
    """A support's covariance with noise, `K = L L^T`, and `K^-1 targets`."""

    lower: Float[Array, "n n"]
    weights: Float[Array, "n outputs"]


def _factor(
    covariance: Float[Array, "n n"],
    log_noise: Float[Array, ""],
    targets: Float[Array, "n outputs"],
    mask: Bool[Array, " n"],
) -> _Factor:
    """Rows outside the mask are independent of all others, with unit variance."""
    both = mask[:, None] & mask
    inside = jnp.where(both, covariance, 0.0)
    noise = jnp.where(mask, jnp.exp(log_noise) + _LEAST_NOISE, 1.0)
    lower = jnp.linalg.cholesky(inside + jnp.diag(noise))
    weights = jax.scipy.linalg.cho_solve((lower, True), targets)
    return _Factor(lower, weights)


def evidence(
    covariance: Float[Array, "n n"],
    log_noise: Float[Array, ""],
    targets: Float[Array, "n outputs"],
    mask: Bool[Array, " n"],
) -> Float[Array, ""]:
    """Log marginal likelihood of a Gaussian process, summed over outputs.

    Args:
      covariance: of the rows, without noise.
      log_noise: logarithm of its variance, to which 1e-4 is added.
      targets: 0 outside the mask.
      mask: which rows count.
    """
    factor = _factor(covariance, log_noise, targets, mask)
    outputs = targets.shape[1]
    spread = jnp.sum(jnp.where(mask, jnp.log(jnp.diag(factor.lower)), 0.0))
    constant = 0.5 * outputs * jnp.sum(mask) * jnp.log(2.0 * jnp.pi)
    return -0.5 * jnp.sum(targets * factor.weights) - outputs * spread - constant


def likeliest(
    covariance_of: Callable[[Array], tuple[Array, Array]],
    centre: Float[Array, " p"],
    precision: Float[Array, " p"],
    targets: Float[Array, "n outputs"],
    mask: Bool[Array, " n"],
    num_steps: int,
) -> Float[Array, " p"]:
    """The parameters of the largest evidence, under a normal prior.

    Found by Fisher scoring; the derivative is the implicit one at what was found, exact
    at the optimum, and no step is kept.

    Args:
      covariance_of: `parameters -> (covariance (n, n), log noise)`.
      centre: of the prior, and where the search starts.
      precision: of the prior, above 0.
      targets: 0 outside the mask.
      mask: which rows count.
      num_steps: of the search.
    """

    def slope_and_curvature(h: Array) -> tuple[Array, Array]:
        covariance, log_noise = covariance_of(h)
        moved, moved_noise = jax.jacfwd(covariance_of)(h)
        both = mask[:, None] & mask
        moved = jnp.where(both[..., None], moved, 0.0)
        noise = jnp.where(mask, jnp.exp(log_noise), 0.0)
        moved += jnp.diag(noise)[..., None] * moved_noise
        factor = _factor(covariance, log_noise, targets, mask)
        identity = jnp.eye(len(mask), dtype=covariance.dtype)
        inverse = jax.scipy.linalg.cho_solve((factor.lower, True), identity)
        outputs = targets.shape[1]
        away = outputs * inverse - factor.weights @ factor.weights.T
        slope = 0.5 * jnp.einsum("ij,jip->p", away, moved)
        turned = jnp.einsum("ij,jkp->pik", inverse, moved)
        fisher = 0.5 * outputs * jnp.einsum("pij,qji->pq", turned, turned)
        return slope + precision * (h - centre), fisher + jnp.diag(precision)

    def step(_: Any, h: Array) -> Array:
        slope, curvature = slope_and_curvature(h)
        move = jnp.linalg.solve(curvature, slope)
        longest = jnp.max(jnp.abs(move))
        return h - move * jnp.minimum(1.0, _LARGEST_STEP / jnp.maximum(longest, 1e-12))

    def slope_of(h: Array) -> Array:
        return slope_and_curvature(h)[0]

    found = jax.lax.stop_gradient(jax.lax.fori_loop(0, num_steps, step, centre))
    hessian = jax.lax.stop_gradient(jax.jacfwd(slope_of)(found))
    # Where the search has not arrived, the Hessian may not be positive.
    values, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
    values = jnp.maximum(values, 0.5 * jnp.min(jax.lax.stop_gradient(precision)))
    slope = slope_of(found)
    change = slope - jax.lax.stop_gradient(slope)
    return found - vectors @ ((vectors.T @ change) / values)


def deep_kernel(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_classes: int | None = 2,
    kernel: Kernel | None = None,
    inner_steps: int = 8,
    noise: float = 0.1,
    precision: float = 1.0,
    stochastic: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn an embedding on which a Gaussian process from a few rows does well.

    Classes are learnt as targets of +1 and -1, one process each, or one for two
    classes; the log odds are the mean times a factor that is learnt, the smaller the
    less sure the process is. Numbers are predicted as a `Gaussian`, in the unit of the
    support, by which they are scaled inside.

    Args:
      network: the embedding.
      optimizer: of the network, the prior and the factors.
      num_classes: the most that a task has; None where targets are numbers.
      kernel: between rows; None for `gaussian_kernel()`.
      inner_steps: of the fit of the kernel's parameters in each task; 0 for deep kernel
        transfer, which fits none.
      noise: variance of the noise at the start, beside targets of unit variance.
      precision: of the prior of the logarithms of the kernel's parameters and the
        noise, at the start.
      stochastic, micro_batch: see `jmeta.algorithms.embedding`.

    Raises:
      ValueError: if `noise` or `precision` is not above 0, `inner_steps` below 0, or
        `num_classes` or `micro_batch` too small.
    """
    if not min(noise, precision) > 0 or inner_steps < 0:
        raise ValueError(
            "deep_kernel: needs noise and precision above 0 and inner_steps of at "
            f"least 0, got {noise}, {precision} and {inner_steps}."
        )
    if num_classes is not None and num_classes < 2:
        raise ValueError(
            "deep_kernel: needs at least 2 classes, or None for numbers, got "
            f"{num_classes}."
        )
    chosen = gaussian_kernel() if kernel is None else kernel

    def init(key: Key, size: int) -> Params:
        del key  # Nothing is drawn.
        centre = {
            "kernel": chosen.init(size),
            "log_noise": jnp.log(jnp.asarray(noise, jnp.float32)),
        }
        sure = jnp.log(jnp.asarray(precision, jnp.float32))
        return {
            "centre": centre,
            "log_precision": jax.tree.map(lambda leaf: 0.0 * leaf + sure, centre),
            "log_factor": jnp.zeros(()),
            "log_doubt": jnp.zeros(()),
        }

    def posterior(
        params: Params, support: Rows, targets: Array, mask: Array, query: Rows
    ) -> tuple[Array, Array]:
        """Means `(m, outputs)`, and variances `(m,)` with noise."""
        inner, outer = chosen.compare(support, support), chosen.compare(query, support)
        centre, unravel = ravel_pytree(params["centre"])

        def covariance_of(h: Array) -> tuple[Array, Array]:
            parts = unravel(h)
            return chosen.covariance(parts["kernel"], inner), parts["log_noise"]

        fitted = centre
        if inner_steps:
            sure = jnp.exp(ravel_pytree(params["log_precision"])[0])
            fitted = likeliest(covariance_of, centre, sure, targets, mask, inner_steps)
        parts = unravel(fitted)
        factor = _factor(*covariance_of(fitted), targets, mask)
        crossed = jnp.where(mask, chosen.covariance(parts["kernel"], outer), 0.0)
        half = jax.scipy.linalg.solve_triangular(factor.lower, crossed.T, lower=True)
        variance = chosen.variance(parts["kernel"], query)
        variance = jnp.maximum(variance - jnp.sum(jnp.square(half), axis=0), 0.0)
        variance += jnp.exp(parts["log_noise"]) + _LEAST_NOISE
        return crossed @ factor.weights, variance

    def apply(
        params: Params, support: Rows, labels: Examples, query: Rows
    ) -> Prediction:
        mask = labels.mask
        if num_classes is None:
            mean, unit = target_scaling(labels)
            away = jnp.where(mask, (labels.y - mean) / unit, 0.0)[:, None]
            means, spread = posterior(params, support, away, mask, query)
            return Gaussian(
                mean=mean + unit * means[:, 0], variance=jnp.square(unit) * spread
            )
        examples = labels._replace(x=support.z)
        targets = 2.0 * one_hot(examples, num_classes) - 1.0
        # The targets of two classes are each other's opposite.
        targets = targets[:, 1:] if num_classes == 2 else targets
        mean = mask @ targets / jnp.maximum(jnp.sum(mask), 1)
        away = jnp.where(mask[:, None], targets - mean, 0.0)
        means, spread = posterior(params, support, away, mask, query)
        doubt = jnp.sqrt(1.0 + jnp.exp(params["log_doubt"]) * spread)
        scores = jnp.exp(params["log_factor"]) * (mean + means) / doubt[:, None]
        if num_classes == 2:
            scores = jnp.concatenate([-scores, scores], axis=1)
        return class_logits(scores, present(examples, num_classes))

    head = Head(init=init, apply=apply)
    return embedding(
        "deep_kernel",
        network,
        head,
        optimizer,
        stochastic=stochastic,
        micro_batch=micro_batch,
    )
