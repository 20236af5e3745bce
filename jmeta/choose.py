"""Choosing among candidates: portfolios, shrinkage, ensemble weights, calibration.

Pure functions of arrays for one task. Costs are lower-better throughout.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.metrics import PROBABILITY_FLOOR
from jmeta.types import Array

__all__ = [
    "Calibration",
    "Posterior",
    "calibrate",
    "fit_calibration",
    "greedy_portfolio",
    "mixture_weights",
    "shrink",
]


def greedy_portfolio(
    costs: Float[Array, "draws candidates"],
    size: int,
    first: Int[Array, ""] | int,
    weights: Float[Array, " draws"] | None = None,
) -> Int[Array, " size"]:
    """The set that is good for somebody in every draw: greedy set cover.

    Starts from `first` and adds, one at a time, the candidate that lowers the mean
    over draws of the smallest cost in the set the most.

    Args:
      costs: one row a task (the plain portfolio: training tasks), or a draw from the
        predicted joint distribution of one task's costs (the conditioned one).
      size: how many to pick, in [1, candidates].
      first: the place of the candidate that is always in the set.
      weights: of the draws; None for equal ones.

    Returns:
      Places, in order of choice, all different.

    Raises:
      ValueError: if `size` does not fit.

    Source: Xu, Hutter, Hoos and Leyton-Brown, 2010 (Hydra), for the plain one.
    """
    if not 1 <= size <= costs.shape[1]:
        raise ValueError(
            f"greedy_portfolio: size must be in [1, {costs.shape[1]}], got {size}."
        )

    weights = jnp.ones(len(costs)) if weights is None else weights

    def add(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        smallest, chosen = carry
        value = weights @ jnp.minimum(smallest[:, None], costs)
        place = jnp.argmin(jnp.where(chosen, jnp.inf, value))
        smallest = jnp.minimum(smallest, costs[:, place])
        return (smallest, chosen.at[place].set(True)), place

    first = jnp.asarray(first)
    chosen = jnp.zeros(costs.shape[1], bool).at[first].set(True)
    _, places = jax.lax.scan(add, (costs[:, first], chosen), length=size - 1)
    return jnp.concatenate([first[None], places]).astype(jnp.int32)


class Posterior(NamedTuple):
    """What is believed of each tried candidate's cost after cross-validation."""

    mean: Float[Array, " candidates"]
    std: Float[Array, " candidates"]


def shrink(
    expected: Float[Array, " candidates"],
    spread: Float[Array, " candidates"],
    observed: Float[Array, "candidates folds"],
    tried: Bool[Array, " candidates"],
) -> Posterior:
    """Pull cross-validated costs toward what the meta-model expected of them.

    Works on differences to the first candidate (the reference), which cancels what
    all share. The noise of a mean over folds is its standard error over folds, half
    of it pooled over the candidates, since few folds estimate it badly; the prior is
    normal with the meta-model's mean and error.

    Args:
      expected: the meta-model's costs.
      spread: standard deviation of its error on the difference to the reference.
      observed: cross-validated costs.
      tried: False on padding, which gets an infinite cost.

    Source: the normal-normal model; Morris, 1983,
    https://doi.org/10.1080/01621459.1983.10477920.
    """
    folds = observed.shape[1]
    away = observed - observed[:1]
    seen = jnp.mean(away, axis=1)
    variance = jnp.sum(jnp.square(away - seen[:, None]), axis=1) / max(folds - 1, 1)
    others = tried.at[0].set(False)
    pooled = jnp.sum(jnp.where(others, variance, 0.0)) / jnp.maximum(others.sum(), 1)
    noise = (0.5 * variance + 0.5 * pooled) / folds
    prior = expected - expected[:1]
    trust = jnp.square(spread) / jnp.maximum(jnp.square(spread) + noise, 1e-12)
    away_mean = (prior + trust * (seen - prior)).at[0].set(0.0)
    away_std = jnp.sqrt(trust * noise).at[0].set(0.0)
    level = jnp.mean(observed[0])
    level_std = jnp.std(observed[0]) / jnp.sqrt(max(folds - 1, 1))
    return Posterior(
        mean=jnp.where(tried, level + away_mean, jnp.inf),
        std=jnp.hypot(away_std, level_std),
    )


def _log_truth(probs: Array, y: Array) -> Array:
    """Log probabilities of the true classes."""
    truth = jnp.take_along_axis(probs, y[..., None], axis=-1)[..., 0]
    return jnp.log(jnp.clip(truth, PROBABILITY_FLOOR, 1.0))


def mixture_weights(
    predictions: Float[Array, "candidates n *classes"],
    y: Array,
    mask: Bool[Array, " n"],
    prior: Float[Array, " candidates"],
    *,
    num_steps: int = 200,
) -> Float[Array, " candidates"]:
    """Weights of an average of candidates: those under which the targets are likeliest.

    The average is read as a mixture: each row's target comes from one of the
    candidates' distributions, with the weights as the chances. Expectation
    maximisation finds the weights that are most probable after the rows were seen,
    under a Dirichlet prior. Unlike a greedy selection, the prior keeps a small table
    from choosing what was lucky, and no steps have to be stopped early.

    Args:
      predictions: out-of-fold probabilities `(candidates, n, classes)`; or numbers
        `(candidates, n)`, the means of normal distributions of one common variance,
        which is learnt with the weights.
      y: classes or numbers.
      mask: which rows count.
      prior: what is believed of each candidate before, in rows: `prior.sum()` rows
        are worth as much as it. Zero leaves a candidate out.
      num_steps: of expectation maximisation.

    Returns:
      Weights that sum to 1.

    Source: Dempster, Laird and Rubin, 1977; for numbers, Raftery et al., 2005,
    https://doi.org/10.1175/MWR2906.1.
    """
    y = jnp.where(mask, y, 0)
    rows = jnp.maximum(jnp.sum(mask), 1)
    if predictions.ndim == 3:
        log_p = jax.vmap(_log_truth, in_axes=(0, None))(predictions, y)
        squares = jnp.zeros_like(log_p)
    else:
        squares = jnp.square(jnp.where(mask, predictions - y, 0.0))
        log_p = jnp.zeros_like(squares)
    smallest = jnp.finfo(predictions.dtype).tiny

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        weights, variance = carry
        logits = log_p - 0.5 * squares / variance
        logits = logits + jnp.log(weights)[:, None]
        share = jnp.where(mask, jax.nn.softmax(logits, axis=0), 0.0)
        counts = jnp.sum(share, axis=1)
        total = counts + prior
        variance = jnp.maximum(jnp.sum(share * squares) / rows, smallest)
        return (total / jnp.sum(total), variance), None

    variance = jnp.maximum(jnp.min(jnp.sum(squares, axis=1)) / rows, smallest)
    start = (prior / jnp.sum(prior), variance)
    (weights, _), _ = jax.lax.scan(step, start, length=num_steps)
    return weights


class Calibration(NamedTuple):
    """Turns a model's probabilities into calibrated ones.

    Attributes:
      temperature: what log probabilities are divided by; above 1 where the model was
        too sure.
      mixing: the weight of the class shares, which are mixed in.
      shares: of the classes among the table's rows.
    """

    temperature: Float[Array, ""]
    mixing: Float[Array, ""]
    shares: Float[Array, " classes"]


def calibrate(
    calibration: Calibration, probs: Float[Array, "n classes"]
) -> Float[Array, "n classes"]:
    """Apply a calibration; rows sum to 1."""
    logs = jnp.log(jnp.clip(probs, 1e-12, 1.0)) / calibration.temperature
    seen = calibration.shares > 0
    cooled = jax.nn.softmax(jnp.where(seen, logs, -1e9), axis=-1)
    return cooled + calibration.mixing * (calibration.shares - cooled)


def fit_calibration(
    probs: Float[Array, "n classes"],
    y: Int[Array, " n"],
    mask: Bool[Array, " n"],
    known: Bool[Array, " n"],
) -> Calibration:
    """Temperature and mixing weight that minimise the out-of-fold log loss.

    A grid search over both, with a prior (log-normal about temperature 1, and for
    small mixing) whose weight is that of a few rows, so that small tables are hardly
    changed.

    Args:
      probs: out-of-fold probabilities; rows sum to 1.
      y: true classes.
      mask: which rows exist; the classes' shares are theirs.
      known: which of them are predicted.

    Source: temperature scaling, Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    y = jnp.where(mask, y, 0)
    hot = jax.nn.one_hot(y, probs.shape[1], dtype=probs.dtype) * mask[:, None]
    rows = jnp.maximum(jnp.sum(mask), 1)
    shares = jnp.sum(hot, axis=0) / rows
    temperatures = jnp.exp(jnp.linspace(-1.0, 1.6, 27)).astype(probs.dtype)
    mixings = jnp.asarray([1e-4, 1e-3, 3e-3, 0.01, 0.02, 0.04, 0.08], probs.dtype)

    def cost(temperature: Array, mixing: Array) -> Array:
        calibration = Calibration(temperature, mixing, shares)
        gains = _log_truth(calibrate(calibration, probs), y)
        prior = 0.5 * jnp.square(jnp.log(temperature) / 0.4) + 20.0 * mixing
        return prior - jnp.sum(jnp.where(known, gains, 0.0))

    costs = jax.vmap(jax.vmap(cost, in_axes=(None, 0)), in_axes=(0, None))(
        temperatures, mixings
    )
    best = jnp.argmin(costs)
    return Calibration(
        temperature=temperatures[best // mixings.size],
        mixing=mixings[best % mixings.size],
        shares=shares,
    )
