"""Support vector machines of several classes, from a kernel matrix.

The problem, with one weight vector w_c a class, is to minimise

    sum_c |w_c|^2 / 2 + C sum_i (max_c (F_ic + [c is not y_i]) - F_i,y_i)

where `F_ic = w_c . x_i`. Its dual gives each row a distribution p_i over the classes:
`F = C K (hot - p)`, as a softmax regression has it, whose p are the probabilities.
It is solved by an interior-point method, all of whose points are inside the simplices.

Sources: the problem, Crammer and Singer, 2001,
https://jmlr.org/papers/v2/crammer01a.html; the steps, Mehrotra, 1992,
https://doi.org/10.1137/0802028.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Bool, Float

from jmeta.types import Array

__all__ = ["margin_coefficients"]

_STEPS = 25
"""Of the search; each is a Cholesky factorisation."""


class _Point(NamedTuple):
    """Inside the bounds, or a move from there; ones where there is nothing to choose.

    Attributes:
      probs: each row sums to 1.
      prices: of the bounds `probs >= 0`.
    """

    probs: Float[Array, "n classes"]
    prices: Float[Array, "n classes"]


def _swaps(
    probs: Float[Array, "n classes"], there: Bool[Array, "n classes"]
) -> Float[Array, "n others classes"]:
    """Of each row, the moves from its likeliest class to each other; they keep sums.

    A small probability moves on its own then, and is not what large ones leave, of
    which rounding would make anything.
    """
    classes = probs.shape[1]
    likeliest = jnp.argmax(jnp.where(there, probs, -1.0), axis=1)[:, None]
    others = (likeliest + 1 + jnp.arange(classes - 1)) % classes
    exist = jnp.take_along_axis(there, others, axis=1)[..., None]
    gained = jax.nn.one_hot(others, classes, dtype=probs.dtype)
    lost = jax.nn.one_hot(likeliest, classes, dtype=probs.dtype)
    return jnp.where(exist, gained - lost, 0.0)


def _newton(
    gram: Float[Array, "n n"], point: _Point, there: Bool[Array, "n classes"]
) -> Callable[[Array], Array]:
    """`slope -> move` of the probabilities by the barrier's curvature; linear."""
    swaps = _swaps(point.probs, there)
    rows, others, _ = swaps.shape
    every = swaps.reshape(rows * others, -1)
    bend = jnp.repeat(jnp.repeat(gram, others, axis=0), others, axis=1)
    bend *= every @ every.T
    # Where rows are alike it is nothing but this that tells them apart.
    alike = 32.0 * jnp.finfo(gram.dtype).eps * jnp.max(jnp.diagonal(gram))
    ratio = point.prices / point.probs + alike
    own = jnp.einsum("nic,nc,njc->nij", swaps, ratio, swaps)
    idle = jnp.all(swaps == 0, axis=2)
    own += jnp.where(idle[:, None], jnp.eye(others, dtype=gram.dtype), 0.0)
    same = jnp.eye(rows, dtype=gram.dtype)[:, None, :, None]
    bend += (own[:, :, None] * same).reshape(bend.shape)
    factor = jax.lax.linalg.cholesky(bend, symmetrize_input=False)

    def move(slope: Array) -> Array:
        along = jnp.einsum("nic,nc->ni", swaps, slope).reshape(-1)
        found = cho_solve((factor, True), along).reshape(rows, others)
        return -jnp.einsum("nic,ni->nc", swaps, found)

    return move


def _longest(point: _Point, move: _Point) -> Array:
    """The largest step, at most 1, that does not leave the bounds."""

    def one(value: Array, move: Array) -> Array:
        falls = move < 0
        return jnp.min(jnp.where(falls, -value / jnp.where(falls, move, -1.0), 1.0))

    steps = jax.tree.map(one, point, move)
    return jnp.minimum(1.0, jnp.minimum(steps.probs, steps.prices))


def _along(point: _Point, move: _Point, step: Array) -> _Point:
    return jax.tree.map(lambda value, change: value + step * change, point, move)


def _centre(gram: Array, hot: Array, there: Array) -> _Point:
    """Where each probability times its price is a floor that is next to nothing."""
    floor = 1e-6 if gram.dtype == jnp.float32 else 1e-12
    count = jnp.maximum(jnp.sum(there), 1)

    def slope_at(probs: Array) -> Array:
        return gram @ (jnp.where(there, probs, 0.0) - hot) + hot

    def gap(point: _Point) -> Array:
        return jnp.sum(jnp.where(there, point.probs * point.prices, 0.0)) / count

    def body(point: _Point, _: None) -> tuple[_Point, None]:
        newton = _newton(gram, point, there)
        unpaid = slope_at(point.probs) - point.prices

        def towards(excess: Array) -> _Point:
            slope = jnp.where(there, unpaid + excess / point.probs, 0.0)
            move = newton(slope)
            turn = -(excess + point.prices * move) / point.probs
            return _Point(probs=move, prices=jnp.where(there, turn, 0.0))

        product = point.probs * point.prices
        ahead = towards(product)
        reached = _along(point, ahead, _longest(point, ahead))
        aim = gap(point) * (gap(reached) / jnp.maximum(gap(point), floor)) ** 3
        move = towards(product + ahead.probs * ahead.prices - jnp.maximum(aim, floor))
        step = jnp.minimum(1.0, 0.99 * _longest(point, move))
        found = _along(point, move, step)
        # A matrix that rounding made impossible to factorise ends the search.
        good = jnp.all(jnp.isfinite(found.probs) & jnp.isfinite(found.prices))
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), found, point), None

    # Prices that make up for the slope, so that only the gap is left to close.
    probs = jnp.where(there, 1.0 / jnp.maximum(jnp.sum(there, axis=1)[:, None], 1), 1.0)
    slope = slope_at(probs)
    lowest = jnp.min(jnp.where(there, slope, jnp.inf), axis=1, keepdims=True)
    prices = jnp.where(there, slope - lowest + 1.0, 1.0)
    start = _Point(probs=probs, prices=prices)
    return jax.lax.scan(body, start, length=_STEPS)[0]


def _problem(gram: Array, hot: Array) -> tuple[Array, Array]:
    """The kernel matrix of the rows that count, and which classes they choose of."""
    rows = jnp.any(hot > 0, axis=1)
    there = rows[:, None] & jnp.any(hot > 0, axis=0)
    return jnp.where(rows[:, None] & rows, gram, 0.0), there


@jax.custom_jvp
def margin_coefficients(
    gram: Float[Array, "n n"], hot: Float[Array, "n classes"]
) -> Float[Array, "n classes"]:
    """The coefficients A whose scores `F = C K A` are those of the machine.

    Each row of A sums to 0 and lies between `hot - 1` and `hot`. Differentiable with
    respect to `C K` by the implicit function theorem, through a factorisation at the
    optimum: time and memory are those of a matrix of n times (classes - 1) rows. The
    larger C K, the less exact are scores in float32.

    Args:
      gram: the kernel matrix times C; anything in rows that do not count.
      hot: one-hot classes; zeros in rows that do not count. Classes without a row are
        left out.
    """
    gram, there = _problem(gram, hot)
    probs = _centre(gram, hot, there).probs
    return jnp.where(there, hot - probs, 0.0)


@margin_coefficients.defjvp
def _margin_coefficients_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (gram, hot), (moved, _) = primals, tangents
    gram, there = _problem(gram, hot)
    point = _centre(gram, hot, there)
    found = jnp.where(there, hot - point.probs, 0.0)
    slope = jnp.where(there, -(moved @ found), 0.0)
    return found, -_newton(gram, point, there)(slope)
