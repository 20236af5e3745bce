"""Response models of all training sets: what settings cost, given the description.

The few constants are decided on training tasks that the model had not learnt from.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jmeta.algorithms import kernel_ridge
from jmeta.algorithms.response import climb, product_ridge, settings_kernel
from jmeta.selection.inputs import FITS, MISSING, QUICK, Inputs, by_fits, chunked
from jmeta.selection.sets import conditioned_portfolio
from jmeta.types import Array

__all__ = ["PARTS", "Surface", "left_out", "minima", "regret_of", "surfaces"]

PARTS = 5
"""Of the training tasks, each left out once; families stay together."""

LENGTHS, NOISES = (0.25, 0.5, 1.0), (0.1, 0.3, 1.0)
"""Of the response model: in median distances of candidates, and in units of the spread
squared."""

KEPT = 5
"""Of these pairs, how many are averaged: those that did best on tasks left out."""


TASKS_AT_ONCE = 16
"""For which minima are sought in one call."""


class Surface(NamedTuple):
    """A response model of one fit; many have a leading axis.

    Attributes:
      weights: of each candidate's kernels in the predicted cost of settings.
      first: place of the candidate of lowest predicted cost.
      expected: predicted regret, as a difference from the task's mean.
      errors: measured less predicted, by those who had not learnt from the task; 0
        where a candidate was not run.
    """

    weights: Float[Array, "*fits tasks lengths candidates"]
    first: Int[Array, "*fits tasks"]
    expected: Float[Array, "*fits tasks candidates"]
    errors: Float[Array, "*fits tasks candidates"]


def left_out(inputs: Inputs) -> Bool[Array, "parts tasks"]:
    """Which training tasks each part leaves out; the last leaves out none."""
    parts = jnp.arange(PARTS + 1)[:, None]
    return (inputs.families % PARTS == parts) & (parts < PARTS) & inputs.train


def regret_of(inputs: Inputs) -> Float[Array, "tasks candidates"]:
    """Regret of every candidate; a missing run is as bad as the worst."""
    costs = inputs.costs[..., 0]
    return jnp.where(jnp.isfinite(costs), costs, 1.0)


@jax.jit
def _spectra(settings: Array) -> tuple[Array, Array, Array, Array]:
    """Lengths, kernels of the candidates, their eigenvalues and eigenvectors."""
    away = jnp.sqrt(jnp.sum(jnp.square(settings[:, None] - settings), axis=-1))
    median = jnp.nanmedian(jnp.where(away > 0, away, jnp.nan))
    lengths = median * jnp.array(LENGTHS)

    def one(length: Array) -> tuple[Array, Array, Array]:
        kernel = settings_kernel(settings, settings, length)
        return kernel, *jnp.linalg.eigh(kernel)

    return lengths, *jax.lax.map(one, lengths)


def _targets(inputs: Inputs) -> Float[Array, "tasks candidates views"]:
    """Costs as differences from the task's mean, in units of the spread."""
    above = inputs.residuals().reshape(inputs.costs.shape)
    whole = above + inputs.base / inputs.spread
    return whole - jnp.mean(whole, axis=1, keepdims=True)


def _surface(inputs: Inputs, spectra: tuple[Array, ...]) -> tuple[Surface, Array]:
    """The response model of the best constants, and its regrets on tasks left out."""
    _, kernels, widths, vectors = spectra
    num_tasks = len(inputs.train)
    x = jnp.where(inputs.x == MISSING, 0.5, inputs.x)
    gaps = kernel_ridge.distances(x, jnp.arange(num_tasks))
    targets, held = _targets(inputs), left_out(inputs)

    def part(held: Array) -> tuple[Array, Array, Array]:
        mine = inputs.train & ~held
        both = mine[:, None] & mine & ~jnp.eye(num_tasks, dtype=bool)
        median = jnp.nanmedian(jnp.where(both, gaps, jnp.nan))
        # The constant is what candidates cost everywhere; also where it is NaN.
        kernel = 1.0 + jnp.exp(-gaps / jnp.where(median > 0, median, 1.0))
        kernel = jnp.where(mine, kernel, 0.0)
        return kernel, *jnp.linalg.eigh(jnp.where(mine[:, None], kernel, 0.0))

    parts = *jax.lax.map(part, held), held

    def weights(part: Any, option: Any, targets: Array) -> Array:
        """Of the candidates' kernels, for every task."""
        kernel, *tasks, held = part
        place, noise = option
        mine = (inputs.train & ~held)[:, None]
        solved = product_ridge(
            (tasks[0], tasks[1]),
            (widths[place], vectors[place]),
            jnp.where(mine, targets, 0.0),
            noise,
        )
        return kernel @ jnp.where(mine, solved, 0.0)

    both, paid = jnp.mean(targets, axis=2), regret_of(inputs)

    def regret(made: Array, held: Array) -> Array:
        """Of every task that was left out, 0 of the others."""
        chosen = jnp.argmin(made, axis=1)[:, None]
        got = jnp.take_along_axis(paid, chosen, axis=1)[:, 0]
        return jnp.where(held, got, 0.0)

    def judged(option: Any) -> Array:
        def one(part: Any) -> Array:
            return regret(weights(part, option, both) @ kernels[option[0]], part[-1])

        return jnp.sum(jax.lax.map(one, parts))

    options = jnp.meshgrid(jnp.arange(len(LENGTHS)), jnp.array(NOISES), indexing="ij")
    options = tuple(leaf.ravel() for leaf in options)
    _, best = jax.lax.top_k(-jax.lax.map(judged, options), KEPT)
    kept = tuple(leaf[best] for leaf in options)
    share = jax.nn.one_hot(kept[0], len(LENGTHS)) / KEPT

    def mean(part: Any, targets: Array) -> tuple[Array, Array]:
        """Weights `(tasks, lengths, candidates)` and the predictions they give."""
        each = jax.lax.map(lambda option: weights(part, option, targets), kept)
        made = jnp.einsum("ol,otc->tlc", share, each)
        return made, jnp.einsum("tlc,lcd->td", made, kernels)

    last = jax.tree.map(lambda leaf: leaf[-1], parts)
    made, score = mean(last, both)
    honest = jax.lax.map(
        lambda part: (mean(part, targets[..., 0])[1], mean(part, both)[1]), parts
    )
    regrets = jnp.sum(jax.vmap(regret)(honest[1], held), axis=0)
    honest = jnp.sum(jnp.where(held[..., None], honest[0], 0.0), axis=0)
    known = jnp.isfinite(inputs.costs[..., 0]) & inputs.train[:, None]
    errors = jnp.where(known, targets[..., 0] - honest, 0.0)
    surface = Surface(
        weights=made,
        first=jnp.argmin(score, axis=1),
        expected=mean(last, targets[..., 0])[1] * inputs.spread[0],
        errors=errors * inputs.spread[0],
    )
    return surface, regrets


@functools.partial(jax.jit, compiler_options=QUICK)
def _surfaces(inputs: Inputs, spectra: tuple[Array, ...]) -> tuple[Surface, Array]:
    return jax.vmap(lambda fit: _surface(fit, spectra), in_axes=(FITS,))(inputs)


def surfaces(
    inputs: Inputs, settings: Float[np.ndarray, "candidates columns"]
) -> tuple[Surface, np.ndarray, np.ndarray]:
    """Response models of all fits, lengths, and regrets on tasks left out.

    Args:
      inputs: costs are regrets.
      settings: of the candidates, in [0, 1]; not all the same.

    Returns:
      `(surface, lengths (lengths,), regrets (fits, tasks))`.
    """
    # Waited for: two programs of linear algebra at once can hang on a CPU.
    spectra = jax.device_get(_spectra(jnp.asarray(settings, jnp.float32)))
    surface, regrets = by_fits(lambda some: _surfaces(some, spectra), inputs)
    return surface, spectra[0], regrets


def _reach(settings: Array) -> Float[Array, " candidates"]:
    """Half the distance to the nearest different candidate."""
    away = jnp.sqrt(jnp.sum(jnp.square(settings[:, None] - settings), axis=-1))
    return jnp.min(jnp.where(away > 0, away, jnp.inf), axis=1) / 2


@functools.partial(jax.jit, static_argnames="size")
def _minima(
    surface: Surface,
    train: Array,
    settings: Array,
    lengths: Array,
    movable: Array,
    size: int,
) -> Array:
    reach = _reach(settings)

    def one(task: Surface, train: Array) -> Array:
        places = conditioned_portfolio(
            task.expected, task.errors, train, task.first, size
        )
        return jax.vmap(
            lambda place: climb(
                task.weights,
                settings,
                lengths,
                settings[place],
                movable[place],
                reach[place],
            )
        )(places)

    return jax.vmap(one)(surface, train)


def minima(
    surface: Surface,
    train: Bool[np.ndarray, "fits tasks"],
    settings: Float[Array, "candidates columns"],
    lengths: Float[Array, " lengths"],
    movable: Bool[Array, "candidates columns"],
    fits: Int[np.ndarray, " tasks"],
    size: int,
) -> Float[np.ndarray, "tasks size columns"]:
    """Settings of low predicted cost for each task, by the fit that is asked.

    Each is found by gradient from a candidate of its own, the first from the one of
    lowest predicted cost, the others from those that insure it. It goes no farther
    than half way to the next candidate, so that the one it is judged by is the one
    that it starts from.
    """
    rows = np.arange(len(fits))

    def some(*arrays: Any) -> Array:
        *said, fit = arrays
        asked = Surface(*said, errors=surface.errors[fit])
        return _minima(asked, train[fit], settings, lengths, movable, size)

    asked = (surface.weights, surface.first, surface.expected)
    return chunked(some, (*(leaf[fits, rows] for leaf in asked), fits), TASKS_AT_ONCE)
