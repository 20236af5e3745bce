"""Three experts that predict what every candidate costs, honestly on every task.

Each is fitted for all training sets at once and predicts every task without having
learnt from its family: a task outside training as it is, a task inside by those
members that left its family out (forest, network) or in closed form (kernel). So how
good an expert is, and what to make of several, is known from training tasks alone.

A program is compiled for a chunk of members; more fits are more chunks of the same.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from jmeta.algorithms import kernel_ridge
from jmeta.algorithms.forest import draw_bag, grow, leaf_means
from jmeta.algorithms.losses import expected_regret
from jmeta.algorithms.meta_classification import MetaExamples, meta_classification
from jmeta.base import MetaAlgorithm, Network
from jmeta.networks import MetaClassifier, from_linen
from jmeta.selection.inputs import MISSING, Inputs
from jmeta.types import Array

__all__ = ["NOISES", "forest", "kernel", "network"]

NUM_TREES = 100
SKETCH = 4
TREES_AT_ONCE = 64
FRACTION = 0.632
"""Of the training tasks in a tree's bag: what a bootstrap holds of different ones."""

NOISES = (0.1, 0.3, 1.0)
"""Of the kernel expert; each is an expert of its own."""

KERNEL_TASKS = 2048
"""The kernel expert learns from at most so many tasks, drawn at random."""

INNER_FOLDS = 5
NETWORKS_AT_ONCE = 10
STEPS, BATCH, WIDTH = 400, 64, 64
CHECKS = 10
"""How often the network is judged on the inner fold left out; the best is kept."""

LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
FEATURE_DROPOUT, TEMPERATURE = 0.15, 0.3
MANY, RANK = 64, 16
"""With more candidates than `MANY`, they differ in `RANK` ways only."""


def _chunks(
    program: Callable[..., Any], jobs: tuple[np.ndarray, ...], size: int
) -> tuple[np.ndarray, ...]:
    """Run a program on jobs, `size` at a time, the last chunk filled by repetition.

    Chunks wait for each other: batched linear algebra of two programs at once can
    hang on a CPU.
    """
    count = len(jobs[0])
    parts = []
    for first in range(0, count, size):
        places = np.minimum(np.arange(first, first + size), count - 1)
        parts.append(jax.device_get(program(*(jnp.asarray(j[places]) for j in jobs))))
    return tuple(np.concatenate(leaves)[:count] for leaves in zip(*parts))


def _usable(x: Array, train: Array) -> tuple[Array, Array]:
    """Places of the features that vary on the training tasks first, and how many."""
    low = jnp.min(jnp.where(train[:, None], x, jnp.inf), axis=0)
    high = jnp.max(jnp.where(train[:, None], x, -jnp.inf), axis=0)
    varies = high > low
    return jnp.argsort(~varies), jnp.maximum(jnp.sum(varies), 1)


def _tree(inputs: Inputs, fit: Array, number: Array, targets: Array) -> Any:
    """One tree of one fit: where the tasks end, and which it may judge."""
    num_tasks = inputs.train.shape[1]
    length = -(-int(FRACTION * num_tasks + 1) // 32) * 32
    seed = inputs.keys[fit] * jnp.uint32(2654435761) + number.astype(jnp.uint32)
    bag = draw_bag(
        jax.random.key(seed),
        inputs.families,
        inputs.train[fit],
        length=length,
        fraction=FRACTION,
    )
    usable, count = _usable(inputs.x[fit], inputs.train[fit])
    leaves = grow(
        seed,
        lambda rows, features: inputs.x[fit, rows, features],
        usable,
        count,
        targets,
        bag,
        candidates=24,
        levels=12,
        min_leaf=2,
    )
    return leaves, bag.judged


def _sketch(targets: Float[Array, "tasks candidates"], size: int) -> Array:
    """The main directions in which tasks differ, which splits are chosen by."""
    num_tasks, candidates = targets.shape
    if candidates <= size:
        return targets
    if candidates <= num_tasks:
        _, directions = jnp.linalg.eigh(targets.T @ targets)
        return targets @ directions[:, -size:]
    values, scores = jnp.linalg.eigh(targets @ targets.T)
    return scores[:, -size:] * jnp.sqrt(jnp.maximum(values[-size:], 0.0))


@jax.jit
def _sketches(inputs: Inputs, targets: Array) -> Array:
    def one(fit: tuple[Array, Array]) -> Array:
        kept = jnp.where(fit[1][:, None], fit[0], 0.0).reshape(inputs.costs.shape)
        parts = [_sketch(kept[:, :, view], SKETCH) for view in range(kept.shape[2])]
        return jnp.concatenate(parts, axis=1)

    return jax.lax.map(one, (targets, inputs.train))


@jax.jit
def _forest_means(
    inputs: Inputs, targets: Array, sketches: Array, fits: Array, numbers: Array
) -> tuple[Array, Array]:
    def one(job: tuple[Array, Array]) -> tuple[Array, Array]:
        fit, number = job
        leaves, judged = _tree(inputs, fit, number, sketches[fit])
        means = leaf_means(leaves, targets[fit])
        return jnp.where(judged[:, None], means, 0.0), judged

    return jax.lax.map(one, (fits, numbers), batch_size=8)


def _sum_by_fit(values: np.ndarray, fits: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros((count, *values.shape[1:]), np.float32)
    np.add.at(total, fits, values)
    return total


def forest(inputs: Inputs) -> np.ndarray:
    """Extremely randomised trees on both views: `(fits, tasks, outputs)`."""
    count = len(inputs.keys)
    targets = inputs.residuals()
    sketches = _sketches(inputs, targets)
    sums, judges = 0.0, 0.0
    for first in range(0, count * NUM_TREES, TREES_AT_ONCE):
        places = np.arange(first, first + TREES_AT_ONCE)
        real = places < count * NUM_TREES
        fits = np.minimum(places // NUM_TREES, count - 1)
        jobs = jnp.asarray(fits), jnp.asarray(places % NUM_TREES)
        means, judged = _forest_means(inputs, targets, sketches, *jobs)
        sums += _sum_by_fit(np.asarray(means)[real], fits[real], count)
        judges += _sum_by_fit(np.asarray(judged, np.float32)[real], fits[real], count)
    return sums / np.maximum(judges, 1.0)[:, :, None]


def _dense(x: Array, gaps: np.ndarray) -> Array:
    """Quantiles in [-1, 1], 0 where missing, then what is missing as 0 or 1."""
    missing = x == MISSING
    values = jnp.where(missing, 0.0, 2.0 * x - 1.0)
    return jnp.concatenate([values, missing[..., gaps].astype(x.dtype)], axis=-1)


def _gaps(inputs: Inputs) -> np.ndarray:
    """Places of the features that are missing somewhere."""
    return np.flatnonzero(np.asarray(jnp.any(inputs.x == MISSING, axis=(0, 1))))


def _blocks(families: np.ndarray, num_rows: int) -> np.ndarray:
    """`(families, size)` places of each family's members; `num_rows` as padding."""
    order = np.argsort(families, kind="stable")
    _, starts, counts = np.unique(
        families[order], return_index=True, return_counts=True
    )
    blocks = np.full((len(counts), counts.max()), num_rows)
    for row, (start, count) in enumerate(zip(starts, counts)):
        blocks[row, :count] = order[start : start + count]
    return blocks


@functools.partial(jax.jit, static_argnames="gaps")
def _ridge(
    x: Array,
    targets: Array,
    train: Array,
    rows: Array,
    blocks: Array,
    gaps: tuple[int, ...],
) -> Array:
    away = kernel_ridge.distances(_dense(x, np.array(gaps, int)), rows)
    return jax.lax.map(
        lambda noise: kernel_ridge.honest_ridge(
            away, rows, train[rows], blocks, targets, noise
        ),
        jnp.array(NOISES),
    )


def kernel(inputs: Inputs) -> np.ndarray:
    """Ridge regression with a Laplacian kernel: `(noises, fits, tasks, outputs)`."""
    num_tasks = inputs.train.shape[1]
    families, gaps = np.asarray(inputs.families), tuple(_gaps(inputs).tolist())
    targets = inputs.residuals()
    parts = []
    for fit, key in enumerate(np.asarray(inputs.keys)):
        rows = np.arange(num_tasks)
        if num_tasks > KERNEL_TASKS:
            draws = np.random.default_rng(key).random(num_tasks)[families]
            draws[~np.asarray(inputs.train[fit])] = 2.0
            rows = np.sort(np.argsort(draws, kind="stable")[:KERNEL_TASKS])
        blocks = _blocks(families[rows], len(rows))
        parts.append(
            np.asarray(
                _ridge(
                    inputs.x[fit],
                    targets[fit],
                    inputs.train[fit],
                    jnp.asarray(rows),
                    jnp.asarray(blocks),
                    gaps,
                )
            )
        )
    return np.stack(parts, axis=1)


def _algorithm(candidates: int, num_views: int, settings: Array) -> MetaAlgorithm:
    module = MetaClassifier(
        num_candidates=candidates,
        num_metrics=num_views,
        width=WIDTH,
        num_blocks=1,
        rank=RANK if candidates > MANY else 0,
    )
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, STEPS)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, weight_decay=WEIGHT_DECAY),
    )
    known = (settings,) if settings.shape[1] else ()
    plain = from_linen(module)
    network = Network(
        init=lambda key, x: plain.init(key, x, *known),
        apply=lambda params, x: plain.apply(params, x, *known),
    )
    return meta_classification(
        network,
        optimizer,
        temperature=TEMPERATURE,
        feature_dropout=FEATURE_DROPOUT,
    )


def _regret(predicted: Array, costs: Array, mask: Array) -> Array:
    """Of choosing softly, for every task and view; 0 where nothing is known."""
    regret = functools.partial(expected_regret, temperature=TEMPERATURE)
    return jax.vmap(jax.vmap(regret, in_axes=-1))(
        predicted, jnp.where(mask, costs, 0.0), mask
    )


def _dealt(key: Array, families: Array) -> Array:
    """The inner fold of each task, `(tasks,)`; families stay together."""
    draws = jax.random.uniform(key, families.shape)
    return (jnp.argsort(jnp.argsort(draws)) % INNER_FOLDS)[families]


@functools.partial(jax.jit, static_argnames="gaps")
def _networks(
    inputs: Inputs, fits: Array, numbers: Array, gaps: tuple[int, ...]
) -> tuple[Array, Array]:
    """Residuals `(members, tasks, outputs)`, and which tasks each member judges."""
    num_tasks, candidates, num_views = inputs.costs.shape
    algorithm = _algorithm(candidates, num_views, inputs.settings)

    def one(fit: Array, number: Array) -> tuple[Array, Array]:
        key = jax.random.key(inputs.keys[fit])
        inner = _dealt(key, inputs.families) == number
        mine = inputs.train[fit] & ~inner
        key = jax.random.fold_in(key, number)
        x = _dense(inputs.x[fit], np.array(gaps, int))
        known = jnp.isfinite(inputs.costs) & mine[:, None, None]
        tasks = MetaExamples(description=x, costs=inputs.costs, mask=known)
        order = jnp.argsort(~mine)

        def body(state: Any, step: Array) -> tuple[Any, None]:
            draw_key, step_key = jax.random.split(jax.random.fold_in(key, step))
            count = jnp.maximum(jnp.sum(mine), 1)
            places = order[jax.random.randint(draw_key, (BATCH,), 0, count)]
            batch = jax.tree.map(lambda leaf: leaf[places], tasks)
            return algorithm.step(step_key, state, batch)[0], None

        held = inner & inputs.train[fit]
        held_out = jnp.isfinite(inputs.costs) & held[:, None, None]
        scaled = inputs.costs / inputs.spread[fit]

        def predict(params: Any) -> Array:
            costs = jax.vmap(algorithm.predict, in_axes=(None, 0))(params, x)
            return costs / inputs.spread[fit]

        def check(carry: Any, steps: Array) -> tuple[Any, None]:
            state, kept, lowest = carry
            state, _ = jax.lax.scan(body, state, steps)
            made = predict(state.params)
            regret = jnp.sum(_regret(made, scaled, held_out))
            kept = jnp.where(regret < lowest, made, kept)
            return (state, kept, jnp.minimum(regret, lowest)), None

        state = algorithm.init(key, tasks)
        fresh = predict(state.params)
        start = state, fresh, jnp.sum(_regret(fresh, scaled, held_out))
        steps = jnp.arange(STEPS).reshape(CHECKS, -1)
        (_, kept, _), _ = jax.lax.scan(check, start, steps)
        left = kept - inputs.base[fit] / inputs.spread[fit]
        judged = inner | ~inputs.train[fit]
        return jnp.where(judged[:, None], left.reshape(num_tasks, -1), 0.0), judged

    return jax.vmap(one)(fits, numbers)


def network(inputs: Inputs) -> np.ndarray:
    """Meta-classifiers, one for each inner fold left out: `(fits, tasks, outputs)`."""
    count, gaps = len(inputs.keys), tuple(_gaps(inputs).tolist())
    fits = np.repeat(np.arange(count), INNER_FOLDS)
    numbers = np.tile(np.arange(INNER_FOLDS), count)
    out, judged = _chunks(
        lambda *jobs: _networks(inputs, *jobs, gaps=gaps),
        (fits, numbers),
        NETWORKS_AT_ONCE,
    )
    judges = _sum_by_fit(judged.astype(np.float32), fits, count)
    return _sum_by_fit(out, fits, count) / np.maximum(judges, 1.0)[:, :, None]
