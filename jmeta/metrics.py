"""Scores of predictions, each for one task and under a mask.

Written for one task: `vmap` them. Each is finite, and 0 where the mask is empty. Rows
outside the mask may hold anything. `SCORES` lists, for each kind of target, what is
computed and in which direction it is better.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.sorting import ordered_bits
from jmeta.types import Array

__all__ = [
    "HIGHER_IS_BETTER",
    "PROBABILITY_FLOOR",
    "SCORES",
    "CalibrationLine",
    "auc",
    "balanced_accuracy",
    "brier",
    "calibration_error",
    "calibration_line",
    "log_loss",
    "mae",
    "observed_expected",
    "r2",
    "rmse",
    "score_all",
]

SCORES = {
    "classes": ("log_loss", "brier", "auc", "balanced_accuracy", "calibration_error"),
    "number": ("rmse", "mae", "r2"),
}
"""The scores of each kind of target, in the order of `score_all`."""

HIGHER_IS_BETTER = frozenset({"auc", "balanced_accuracy", "r2"})
"""The scores that are better when higher; the others are losses."""

PROBABILITY_FLOOR = 1e-7
"""The smallest probability that enters a logarithm."""


def _mean(values: Array, mask: Array) -> Array:
    total = jnp.sum(jnp.where(mask, values, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def _of_class(probs: Array, labels: Array) -> Array:
    return jnp.take_along_axis(probs, labels[:, None], axis=1)[:, 0]


def _safe_labels(labels: Array, mask: Array) -> Array:
    return jnp.where(mask, labels, 0)


def log_loss(
    probs: Float[Array, "n classes"], labels: Int[Array, " n"], mask: Bool[Array, " n"]
) -> Float[Array, ""]:
    """Mean negative log probability of the true class, in nats."""
    labels = _safe_labels(labels, mask)
    truth = jnp.clip(_of_class(probs, labels), PROBABILITY_FLOOR, 1.0)
    return _mean(-jnp.log(truth), mask)


def brier(
    probs: Float[Array, "n classes"], labels: Int[Array, " n"], mask: Bool[Array, " n"]
) -> Float[Array, ""]:
    """Mean squared distance of the probabilities from the true class, in [0, 2]."""
    labels = _safe_labels(labels, mask)
    hot = jax.nn.one_hot(labels, probs.shape[1], dtype=probs.dtype)
    return _mean(jnp.sum(jnp.square(probs - hot), axis=1), mask)


def auc(
    probs: Float[Array, "n classes"], labels: Int[Array, " n"], mask: Bool[Array, " n"]
) -> Float[Array, ""]:
    """Area under the ROC curve, one class against the rest, ties counted half.

    The mean over the classes that have both a row and a row of another class under
    the mask; 0.5 where there is none. For two classes, the usual binary AUC.

    Source: Hanley and McNeil, 1982, https://doi.org/10.1148/radiology.143.1.7063747;
    averaged as scikit-learn's `multi_class="ovr", average="macro"`.
    """
    num_rows = mask.shape[0]
    index = jnp.arange(num_rows)

    def of_class(scores: Array, positive: Array) -> tuple[Array, Array]:
        # The bits of a number in [0, 1], and behind them the row's kind, as one word:
        # sorting words is many times faster than sorting pairs.
        bits = ordered_bits(jnp.clip(scores, 0.0, 1.0)) << 1
        words = jnp.where(mask, bits + positive, jnp.iinfo(bits.dtype).max)
        words = jax.lax.sort(words, is_stable=False)
        there = index < jnp.sum(mask)
        scores = words >> 1
        is_positive = there & (words & 1 == 1)
        is_negative = there & (words & 1 == 0)
        below = jnp.cumsum(is_negative) - is_negative
        starts = jnp.concatenate([jnp.ones(1, bool), scores[1:] > scores[:-1]])
        ends = jnp.concatenate([starts[1:], jnp.ones(1, bool)])
        first = jax.lax.cummax(jnp.where(starts, index, 0))
        last = jax.lax.cummin(jnp.where(ends, index, num_rows - 1), reverse=True)
        lower = below[first]
        tied = below[last] + is_negative[last] - lower
        wins = jnp.sum(jnp.where(is_positive, lower + 0.5 * tied, 0.0))
        pairs = jnp.sum(is_positive) * jnp.sum(is_negative).astype(probs.dtype)
        return jnp.where(pairs > 0, wins / jnp.maximum(pairs, 1), 0.0), pairs > 0

    positives = jax.nn.one_hot(_safe_labels(labels, mask), probs.shape[1], dtype=bool)
    areas, counted = jax.vmap(of_class, in_axes=1)(probs, positives)
    total = jnp.sum(counted)
    return jnp.where(total > 0, jnp.sum(areas) / jnp.maximum(total, 1), 0.5)


def balanced_accuracy(
    probs: Float[Array, "n classes"], labels: Int[Array, " n"], mask: Bool[Array, " n"]
) -> Float[Array, ""]:
    """Mean recall of the most probable class over the classes under the mask."""
    labels = _safe_labels(labels, mask)
    hot = jax.nn.one_hot(labels, probs.shape[1], dtype=probs.dtype) * mask[:, None]
    right = (jnp.argmax(probs, axis=1) == labels).astype(probs.dtype)
    count = jnp.sum(hot, axis=0)
    recall = right @ hot / jnp.maximum(count, 1)
    return jnp.sum(recall) / jnp.maximum(jnp.sum(count > 0), 1)


def calibration_error(
    probs: Float[Array, "n classes"],
    labels: Int[Array, " n"],
    mask: Bool[Array, " n"],
    *,
    num_bins: int = 15,
) -> Float[Array, ""]:
    """Expected calibration error of the most probable class, in [0, 1].

    The gap between confidence and accuracy, averaged over equal-width bins of
    confidence, each weighted by its number of examples.

    Raises:
      ValueError: if `num_bins` is below 1.

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 2.
    """
    if num_bins < 1:
        raise ValueError(
            f"calibration_error: num_bins must be at least 1, got {num_bins}."
        )
    labels = _safe_labels(labels, mask)
    confidence = jnp.where(mask, jnp.max(probs, axis=1), 0.0)
    right = (jnp.argmax(probs, axis=1) == labels).astype(probs.dtype)
    place = jnp.clip((confidence * num_bins).astype(int), 0, num_bins - 1)
    bins = jax.nn.one_hot(place, num_bins, dtype=probs.dtype) * mask[:, None]
    gaps = jnp.abs((confidence - right) @ bins)
    return jnp.sum(gaps) / jnp.maximum(jnp.sum(mask), 1)


class CalibrationLine(NamedTuple):
    """The log odds that outcomes have as a line in the log odds that were predicted.

    Attributes:
      slope: 1 is calibrated; below it, risks are too extreme.
      intercept: of the same line.
      in_the_large: the intercept where the slope is held at 1: 0 is calibrated; above
        it, risks are too low.
    """

    slope: Float[Array, ""]
    intercept: Float[Array, ""]
    in_the_large: Float[Array, ""]


def calibration_line(
    probs: Float[Array, "n 2"], labels: Int[Array, " n"], mask: Bool[Array, " n"]
) -> CalibrationLine:
    """Slope and intercepts of a logistic regression of the outcome on its log odds.

    All are 0 where only one class is present; the slope is 0 where all predictions are
    equal. Where the log odds separate the classes the slope has no limit, and a large
    finite one is told.

    Source: Van Calster et al., 2019, https://doi.org/10.1186/s12916-019-1466-7.
    """
    labels = _safe_labels(labels, mask)
    y = labels.astype(probs.dtype)
    clipped = jnp.log(jnp.clip(probs, PROBABILITY_FLOOR, 1.0))
    odds = jnp.where(mask, clipped[:, 1] - clipped[:, 0], 0.0)
    both = (_mean(y, mask) > 0) & (_mean(1.0 - y, mask) > 0)
    mean = _mean(odds, mask)
    spread = jnp.sqrt(_mean(jnp.square(odds - mean), mask))
    varies = spread > 1e-5 * (1.0 + jnp.abs(mean))
    unit = jnp.where(varies, (odds - mean) / jnp.where(varies, spread, 1.0), 0.0)
    ones = jnp.ones_like(odds)
    start = jnp.zeros(2, probs.dtype)
    line = _logistic(jnp.stack([ones, unit], axis=1), 0.0 * odds, y, mask, start)
    large = _logistic(ones[:, None], odds, y, mask, start[:1])
    slope = line[1] / jnp.where(varies, spread, 1.0)
    found = CalibrationLine(
        slope=slope, intercept=line[0] - slope * mean, in_the_large=large[0]
    )
    return CalibrationLine(*(jnp.where(both, value, 0.0) for value in found))


def _logistic(x: Array, offset: Array, y: Array, mask: Array, weights: Array) -> Array:
    """Weights of the smallest mean log loss, by Newton's method with a line search.

    A penalty too small to be seen keeps them finite.
    """
    ridge = 1e-6 * jnp.eye(x.shape[1], dtype=x.dtype)
    steps = jnp.asarray([1.0, 0.3, 0.1, 0.01, 0.0], x.dtype)

    def loss(weights: Array) -> Array:
        odds = offset + x @ weights
        each = jax.nn.softplus(odds) - y * odds
        return _mean(each, mask) + 0.5 * weights @ ridge @ weights

    def body(weights: Array, _: None) -> tuple[Array, None]:
        probs = jax.nn.sigmoid(offset + x @ weights)
        count = jnp.maximum(jnp.sum(mask), 1)
        rows = jnp.where(mask, probs * (1.0 - probs), 0.0) / count
        pull = jnp.where(mask, probs - y, 0.0) @ x / count + ridge @ weights
        move = -jnp.linalg.solve((x * rows[:, None]).T @ x + ridge, pull)
        losses = jax.vmap(lambda step: loss(weights + step * move))(steps)
        return weights + steps[jnp.argmin(losses)] * move, None

    return jax.lax.scan(body, weights, length=25)[0]


def observed_expected(
    probs: Float[Array, "n 2"], labels: Int[Array, " n"], mask: Bool[Array, " n"]
) -> Float[Array, ""]:
    """How many rows are of class 1, over how many should be; 1 is calibrated."""
    observed = _mean(_safe_labels(labels, mask).astype(probs.dtype), mask)
    expected = _mean(probs[:, 1], mask)
    return observed / jnp.maximum(expected, PROBABILITY_FLOOR)


def rmse(
    predicted: Float[Array, " n"], target: Float[Array, " n"], mask: Bool[Array, " n"]
) -> Float[Array, ""]:
    """Root mean squared error, in the unit of the target."""
    return jnp.sqrt(_mean(jnp.square(predicted - target), mask))


def mae(
    predicted: Float[Array, " n"], target: Float[Array, " n"], mask: Bool[Array, " n"]
) -> Float[Array, ""]:
    """Mean absolute error, in the unit of the target."""
    return _mean(jnp.abs(predicted - target), mask)


def r2(
    predicted: Float[Array, " n"], target: Float[Array, " n"], mask: Bool[Array, " n"]
) -> Float[Array, ""]:
    """Share of the target's variance under the mask that is explained; at most 1.

    0 where the target is constant.
    """
    centre = _mean(target, mask)
    total = _mean(jnp.square(target - centre), mask)
    left = _mean(jnp.square(predicted - target), mask)
    return jnp.where(total > 0, 1.0 - left / jnp.where(total > 0, total, 1.0), 0.0)


def score_all(
    predicted: Float[Array, "n *classes"],
    target: Array,
    mask: Bool[Array, " n"],
) -> Float[Array, " scores"]:
    """All scores of one task, in the order of `SCORES`.

    Args:
      predicted: probabilities `(n, classes)`, or numbers `(n,)`.
      target: classes in [0, classes), or numbers.
      mask: which rows are judged.
    """
    if predicted.ndim == 2:
        functions = (log_loss, brier, auc, balanced_accuracy, calibration_error)
    else:
        functions = (rmse, mae, r2)
    return jnp.stack([f(predicted, target, mask) for f in functions])
