"""Networks of all training sets that propose settings, given the description.

How long they learn is decided on training tasks that they had not learnt from; not at
all is a choice too, which leaves the greedy portfolio of the training tasks.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from jmeta.algorithms.meta_regression import MetaSettings, meta_regression
from jmeta.base import Proposals
from jmeta.choose import greedy_portfolio
from jmeta.networks import MetaOptimizer, from_linen
from jmeta.selection.inputs import FITS, MISSING, QUICK, Inputs, by_fits
from jmeta.selection.surface import PARTS, left_out, regret_of
from jmeta.types import Array

__all__ = ["proposals"]

GOOD = 32
"""The networks learn from so many of each task's best candidates."""

STEPS, CHECKS, BATCH, WIDTH = 400, 4, 64, 64
LEARNING_RATE, WEIGHT_DECAY, FEATURE_DROPOUT = 3e-3, 1e-2, 0.15


def _nearest(units: Float[Array, "n columns"], settings: Array) -> Int[Array, " n"]:
    gaps = jnp.sum(jnp.square(units[:, None] - settings), axis=-1)
    return jnp.argmin(gaps, axis=1)


def _trained(
    inputs: Inputs, settings: Array, held: Array, number: Array, size: int
) -> Proposals:
    """All tasks' proposals `(checks, tasks, ...)` by a network, as it learns.

    It starts at the portfolio of the tasks that it learns from.
    """
    num_tasks, paid = len(inputs.train), regret_of(inputs)
    mine = inputs.train & ~held
    best = jnp.argmin(jnp.mean(jnp.where(mine[:, None], paid, 0.0), axis=0))
    start = greedy_portfolio(paid, size, best, mine.astype(paid.dtype))
    module = MetaOptimizer(
        defaults={"space": settings[start]}, width=WIDTH, num_blocks=1
    )
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, STEPS)
    algorithm = meta_regression(
        from_linen(module),
        optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(schedule, weight_decay=WEIGHT_DECAY),
        ),
        feature_dropout=FEATURE_DROPOUT,
    )
    _, good = jax.lax.top_k(-paid, min(GOOD, len(settings)))
    known = jnp.isfinite(inputs.costs[..., 0]) & mine[:, None]
    x = jnp.where(inputs.x == MISSING, jnp.nan, inputs.x)
    # Training tasks alone, some of them twice: the scaler must see no others.
    count = jnp.maximum(jnp.sum(mine), 1)
    rows = jnp.argsort(~mine)[jnp.arange(num_tasks) % count]
    tasks = MetaSettings(
        description=x[rows],
        settings={"space": settings[good[rows]]},
        costs={"space": jnp.take_along_axis(paid, good, axis=1)[rows]},
        mask={"space": jnp.take_along_axis(known, good, axis=1)[rows]},
    )
    key = jax.random.fold_in(jax.random.key(inputs.key), number)

    def step(state: Any, number: Array) -> tuple[Any, None]:
        draw_key, step_key = jax.random.split(jax.random.fold_in(key, number))
        places = jax.random.randint(draw_key, (BATCH,), 0, count)
        batch = jax.tree.map(lambda leaf: leaf[places], tasks)
        return algorithm.step(step_key, state, batch)[0], None

    def told(state: Any) -> Proposals:
        made = jax.vmap(algorithm.predict, in_axes=(None, 0))(state.params, x)
        return made["space"]

    def check(state: Any, numbers: Array) -> tuple[Any, Proposals]:
        state, _ = jax.lax.scan(step, state, numbers)
        return state, told(state)

    state = algorithm.init(key, tasks)
    numbers = jnp.arange(STEPS).reshape(CHECKS, -1)
    _, made = jax.lax.scan(check, state, numbers)
    return jax.tree.map(
        lambda fresh, later: jnp.concatenate([fresh[None], later]), told(state), made
    )


def _network(inputs: Inputs, settings: Array, size: int) -> tuple[Proposals, Array]:
    """Proposals after as many steps as did best; their regrets on tasks left out."""
    held = left_out(inputs)
    made = jax.vmap(
        lambda held, number: _trained(inputs, settings, held, number, size)
    )(held, jnp.arange(PARTS + 1))
    paid = regret_of(inputs)

    def regret(made: Proposals) -> Array:
        first = jnp.argmax(made.logits, axis=1)[:, None]
        unit = jnp.take_along_axis(made.units, first[..., None], axis=1)[:, 0]
        chosen = _nearest(unit, settings)[:, None]
        return jnp.take_along_axis(paid, chosen, axis=1)[:, 0]

    # One check at a time: all differences at once would not fit in memory.
    got = jax.lax.map(
        lambda check: jax.lax.map(regret, check),
        jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), made),
    )
    regrets = jnp.sum(jnp.where(held, got, 0.0), axis=1)
    best = jnp.argmin(jnp.sum(regrets, axis=1))
    last = jax.tree.map(lambda leaf: leaf[-1, best], made)
    return last, regrets[best]


@functools.partial(jax.jit, static_argnames="size", compiler_options=QUICK)
def _networks(inputs: Inputs, settings: Array, size: int) -> tuple[Proposals, Array]:
    return jax.vmap(lambda fit: _network(fit, settings, size), in_axes=(FITS,))(inputs)


def proposals(
    inputs: Inputs, settings: Float[np.ndarray, "candidates columns"], size: int
) -> tuple[Proposals, np.ndarray]:
    """Proposals of all fits for all tasks, and regrets of the first on tasks left out.

    Args:
      inputs: costs are regrets.
      settings: of the candidates, in [0, 1].
      size: how many proposals; a single one is learnt by squared distance alone.

    Returns:
      `(proposals, regrets (fits, tasks))`.
    """
    units = jnp.asarray(settings, jnp.float32)
    return by_fits(lambda some: _networks(some, units, size), inputs)
