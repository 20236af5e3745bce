"""How sure predictions are, learnt from tasks that were held out.

Probabilities are divided by a temperature that is a power of the number of rows in the
support; the variance of numbers is multiplied by such a power. Below which confidence a
share of all queries lies, and how far numbers are off, are read off the same tasks.

Sources: temperature, Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2;
abstention, Geifman and El-Yaniv, 2017, https://arxiv.org/abs/1705.08500.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jmeta.types import Array

__all__ = [
    "INTERVAL",
    "LEVELS",
    "Calibration",
    "calibrated",
    "factor",
    "fit_factor",
    "fit_temperature",
    "quantiles",
    "reach",
    "size_of",
    "threshold",
]

INTERVAL = 0.9
"""Of the queries, those that an interval of numbers should hold."""

LEVELS = 101
"""Quantiles that are kept, from 0 to 1."""

_USUAL = 32.0
"""Rows of a support at which a power is 1."""

_LOG_TAU = math.log(2.0 * math.pi)

_CAUTION = 1e-3
"""What the square of a slope costs; decides where all supports are of one size."""


class Calibration(NamedTuple):
    """What held-out tasks say of predictions.

    Attributes:
      power: `log factor = power[0] + power[1] * size`; see `size_of`. The factor is the
        temperature of classes, or what the variance of numbers is multiplied by.
      rows: of the supports that were seen, rising.
      confidence: for each of them, quantiles over the queries: of the probability of
        the likeliest class, or of minus the standard deviation of numbers in units of
        the support's.
      reach: for each of them, the `INTERVAL` quantile of errors over their standard
        deviation; 0 for classes.
    """

    power: Float[Array, "2"]
    rows: Int[Array, " sizes"]
    confidence: Float[Array, "sizes levels"]
    reach: Float[Array, " sizes"]


def size_of(rows: Int[Array, "*n"]) -> Float[Array, "*n"]:
    """Logarithm of the number of rows in a support over 32."""
    return jnp.log(jnp.maximum(rows, 1) / _USUAL)


def _seen(calibration: Calibration, rows: Array) -> Array:
    """A number of rows, brought into the range of those that were seen."""
    return jnp.clip(rows, calibration.rows[0], calibration.rows[-1])


def factor(calibration: Calibration, rows: Int[Array, ""]) -> Float[Array, ""]:
    """The temperature, or the factor of the variance, at some rows of support."""
    size = size_of(_seen(calibration, rows))
    return jnp.exp(calibration.power[0] + calibration.power[1] * size)


def calibrated(
    calibration: Calibration,
    log_probs: Float[Array, "n classes"],
    rows: Int[Array, ""],
) -> Float[Array, "n classes"]:
    """Probabilities of classes, from log probabilities at some rows of support."""
    return jax.nn.softmax(log_probs / factor(calibration, rows), axis=-1)


def _between(calibration: Calibration, values: Array, rows: Array) -> Array:
    """Numbers known at the sizes that were seen, at some rows of support."""
    return jnp.interp(size_of(rows), size_of(calibration.rows), values)


def threshold(
    calibration: Calibration, coverage: Float[Array, ""], rows: Int[Array, ""]
) -> Float[Array, ""]:
    """The confidence that the share `coverage` of all queries reaches."""
    levels = jnp.linspace(0.0, 1.0, LEVELS)
    each = jax.vmap(lambda line: jnp.interp(1.0 - coverage, levels, line))
    return _between(calibration, each(calibration.confidence), rows)


def reach(calibration: Calibration, rows: Int[Array, ""]) -> Float[Array, ""]:
    """Half the width of an interval of numbers, in standard deviations."""
    return _between(calibration, calibration.reach, rows)


def _averaged(values: Array, mask: Array) -> Float[Array, " episodes"]:
    """Over the queries of each episode."""
    some = jnp.maximum(jnp.sum(mask, axis=1), 1)
    return jnp.sum(jnp.where(mask, values, 0.0), axis=1) / some


def _scored(
    derivatives: Callable[[Array], tuple[Array, Array]], size: Array, start: Array
) -> Float[Array, "2"]:
    """The power with the highest likelihood, by Fisher scoring.

    Args:
      derivatives: `log factors (episodes,) -> ` slopes of the losses of the episodes,
        and their expected curvatures.
      size: of each episode.
      start: of the logarithm of the factor.
    """
    design = jnp.stack([jnp.ones_like(size), size], axis=1)
    caution = jnp.array([0.0, 2.0 * _CAUTION])

    def body(_: Any, power: Array) -> Array:
        slopes, curvatures = derivatives(design @ power)
        slope = design.T @ slopes / len(size) + caution * power
        weighted = design.T @ (curvatures[:, None] * design) / len(size)
        move = jnp.linalg.solve(weighted + jnp.diag(caution + 1e-7), slope)
        return power - move * jnp.minimum(1.0, 0.5 / jnp.max(jnp.abs(move) + 1e-12))

    return jax.lax.fori_loop(0, 60, body, jnp.stack([start, 0.0 * start]))


@jax.jit
def fit_temperature(
    log_probs: Float[Array, "episodes n classes"],
    labels: Int[Array, "episodes n"],
    mask: Bool[Array, "episodes n"],
    rows: Int[Array, " episodes"],
) -> tuple[Float[Array, "2"], Float[Array, ""]]:
    """The `power` of the temperature with the lowest log loss, and that loss.

    Args:
      log_probs: of the classes of each query.
      labels: true ones.
      mask: which queries count; those of an episode together count as one.
      rows: of each episode's support.
    """
    size = size_of(rows)
    labels = jnp.where(mask, labels, 0)[..., None]

    def cooled(logs: Array) -> tuple[Array, Array]:
        logits = log_probs * jnp.exp(-logs)[:, None, None]
        return logits, jnp.take_along_axis(logits, labels, axis=-1)[..., 0]

    def derivatives(logs: Array) -> tuple[Array, Array]:
        logits, truth = cooled(logs)
        probs = jax.nn.softmax(logits)
        mean = jnp.sum(probs * logits, axis=-1)
        spread = jnp.sum(probs * jnp.square(logits - mean[..., None]), axis=-1)
        return _averaged(truth - mean, mask), _averaged(spread, mask)

    power = _scored(derivatives, size, jnp.zeros(()))
    logits, truth = cooled(power[0] + power[1] * size)
    losses = jax.nn.logsumexp(logits, axis=-1) - truth
    return power, jnp.mean(_averaged(losses, mask))


@jax.jit
def fit_factor(
    errors: Float[Array, "episodes n"],
    log_std: Float[Array, "episodes n"],
    mask: Bool[Array, "episodes n"],
    rows: Int[Array, " episodes"],
) -> tuple[Float[Array, "2"], Float[Array, ""]]:
    """The `power` of the variance with the highest likelihood, and minus its logarithm.

    Args:
      errors: of each query, over the standard deviation that was predicted.
      log_std: logarithm of that deviation.
      mask, rows: as in `fit_temperature`.
    """
    size = size_of(rows)
    squares = _averaged(jnp.square(errors), mask)

    def derivatives(logs: Array) -> tuple[Array, Array]:
        return 0.5 - 0.5 * squares * jnp.exp(-logs), jnp.full_like(logs, 0.5)

    start = jnp.log(jnp.maximum(jnp.mean(squares), 1e-12))
    power = _scored(derivatives, size, start)
    logs = power[0] + power[1] * size
    losses = 0.5 * (squares * jnp.exp(-logs) + logs + _LOG_TAU)
    return power, jnp.mean(losses + _averaged(log_std, mask))


def quantiles(
    values: Float[np.ndarray, "episodes n"],
    mask: Bool[np.ndarray, "episodes n"],
    levels: Float[np.ndarray, " levels"],
) -> Float[np.ndarray, " levels"]:
    """Quantiles over the queries of all episodes, each of which counts as one."""
    weight = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    order = np.argsort(values[mask], kind="stable")
    ranked, weight = values[mask][order], weight[mask][order]
    share = np.cumsum(weight) / weight.sum()
    # The lowest value that the share reaches, as an order statistic: no new values.
    place = np.searchsorted(share, levels - 1e-9)
    return ranked[np.minimum(place, len(ranked) - 1)]
