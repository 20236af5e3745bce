"""Three experts that predict what every candidate costs, honestly on every task.

Each is fitted for all training sets at once and predicts every task without having
learnt from its family: a task outside training as it is, a task inside by those
members that left its family out (forest, network) or in closed form (kernel). So how
good an expert is, and what to make of several, is known from training tasks alone.

A program is compiled for a few fits; more folds or seeds are more calls of the same.
"""

import functools
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
from jmeta.selection.inputs import FITS, MISSING, QUICK, Inputs, by_fits
from jmeta.types import Array

__all__ = ["NOISES", "forest", "kernel", "network"]

NUM_TREES = 100
TREES_AT_ONCE = 10
SKETCH = 4
FEW_TREES = 30
"""Enough to tell which descriptions are worth their cost."""

FRACTION, LARGEST_BAG = 0.632, 2048
"""Of the training tasks in a tree's bag: what a bootstrap holds of different ones, and
at most so many."""

NOISES = (0.1, 0.3, 1.0)
"""Of the kernel expert; each is an expert of its own."""

KERNEL_TASKS = 768
"""The kernel expert learns from at most so many tasks, drawn at random."""

INNER_FOLDS = 5
STEPS, BATCH, WIDTH = 300, 64, 64
CHECKS = 10
"""How often the networks are judged, each on the inner fold that it left out."""

LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2
FEATURE_DROPOUT, TEMPERATURE = 0.15, 0.3
MANY, RANK = 64, 16
"""With more candidates than `MANY`, they differ in `RANK` ways only."""


def _usable(x: Array, train: Array) -> tuple[Array, Array]:
    """Places of the features that vary on the training tasks first, and how many."""
    low = jnp.min(jnp.where(train[:, None], x, jnp.inf), axis=0)
    high = jnp.max(jnp.where(train[:, None], x, -jnp.inf), axis=0)
    varies = high > low
    return jnp.argsort(~varies), jnp.maximum(jnp.sum(varies), 1)


def _most(inputs: Inputs) -> int:
    """At least how many tasks the largest training set has; few different numbers.

    Tasks that no fit learns from are predicted, and make nothing else larger.
    """
    _, num_tasks = inputs.train.shape
    count = int(np.asarray(inputs.train).sum(axis=1).max())
    return min(-(-count // 32) * 32, num_tasks)


def _forest(inputs: Inputs, num_trees: Array, most: int) -> Array:
    num_tasks = len(inputs.train)
    length = -(-min(int(FRACTION * most + 1), LARGEST_BAG) // 32) * 32
    size = jnp.minimum(FRACTION * jnp.sum(inputs.train), LARGEST_BAG)
    usable, count = _usable(inputs.x, inputs.train)
    targets = inputs.residuals()
    sketch = _sketches(inputs, targets)

    def tree(number: Array) -> tuple[Array, Array]:
        seed = inputs.key * jnp.uint32(2654435761) + number
        bag = draw_bag(
            jax.random.key(seed),
            inputs.families,
            inputs.train,
            length=length,
            most=size,
        )
        leaves = grow(
            seed,
            lambda rows, features: inputs.x[rows, features],
            usable,
            count,
            sketch,
            bag,
            candidates=24,
            levels=12,
            min_leaf=2,
        )
        return leaf_means(leaves, targets) * bag.judged[:, None], bag.judged

    def some(turn: Array, total: tuple[Array, Array]) -> tuple[Array, Array]:
        numbers = turn * TREES_AT_ONCE + jnp.arange(TREES_AT_ONCE)
        means, judged = jax.vmap(tree)(numbers.astype(jnp.uint32))
        return total[0] + means.sum(0), total[1] + judged.sum(0)

    start = jnp.zeros_like(targets), jnp.zeros(num_tasks, int)
    sums, judges = jax.lax.fori_loop(0, num_trees // TREES_AT_ONCE, some, start)
    return sums / jnp.maximum(judges, 1)[:, None]


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


def _sketches(inputs: Inputs, targets: Array) -> Array:
    """Of every view, side by side; one call of linear algebra for all of them."""
    kept = jnp.where(inputs.train[:, None], targets, 0.0).reshape(inputs.costs.shape)
    parts = jax.vmap(_sketch, in_axes=(2, None), out_axes=2)(kept, SKETCH)
    return parts.reshape(len(targets), -1)


@functools.partial(jax.jit, static_argnames="most", compiler_options=QUICK)
def _forests(inputs: Inputs, num_trees: Array, most: int) -> Array:
    grown = functools.partial(_forest, num_trees=num_trees, most=most)
    return jax.vmap(grown, in_axes=(FITS,))(inputs)


def forest(inputs: Inputs, num_trees: int | None = None) -> np.ndarray:
    """Extremely randomised trees on both views: `(fits, tasks, outputs)`.

    Args:
      inputs: of all fits.
      num_trees: in whole tens; `NUM_TREES` if None. Another number compiles nothing.
    """
    count = jnp.asarray(NUM_TREES if num_trees is None else num_trees)
    most = _most(inputs)
    return by_fits(lambda some: _forests(some, count, most=most), inputs)


def _dense(inputs: Inputs) -> Array:
    """Quantiles in [-1, 1], 0 where missing, then what is missing as 0 or 1."""
    missing = inputs.x == MISSING
    values = jnp.where(missing, 0.0, 2.0 * inputs.x - 1.0)
    told = missing[:, inputs.gaps].astype(values.dtype)
    return jnp.concatenate([values, told], axis=1)


def _ridge(inputs: Inputs, most: int) -> Array:
    num_tasks = len(inputs.train)
    size = min(most, KERNEL_TASKS)
    draws = jax.random.uniform(jax.random.key(inputs.key), (num_tasks,))
    draws = jnp.where(inputs.train, draws[inputs.families], 2.0)
    order = jnp.argsort(draws)
    rows = order[:size]
    # The family at the cut is not learnt from: its other members would be judged by it.
    cut = jnp.append(draws[order], 2.0)[size]
    learnt = inputs.train[rows] & (draws[rows] < cut)
    place = jnp.full(num_tasks + 1, size).at[rows].set(jnp.arange(size))
    away = kernel_ridge.distances(_dense(inputs), rows)
    targets = inputs.residuals()
    return jax.lax.map(
        lambda noise: kernel_ridge.honest_ridge(
            away, rows, learnt, place[inputs.members], targets, noise
        ),
        jnp.array(NOISES),
    )


@functools.partial(jax.jit, static_argnames="most")
def _ridges(inputs: Inputs, most: int) -> Array:
    return jax.vmap(lambda fit: _ridge(fit, most), in_axes=(FITS,))(inputs)


def kernel(inputs: Inputs) -> np.ndarray:
    """Ridge regression with a Laplacian kernel: `(fits, noises, tasks, outputs)`."""
    most = _most(inputs)
    program = functools.partial(_ridges, most=most)
    if most > KERNEL_TASKS:
        return by_fits(program, inputs)
    # All tasks are learnt from, so seeds of the same folds give the same.
    told = zip(np.asarray(inputs.x), np.asarray(inputs.train))
    seen = [x.tobytes() + train.tobytes() for x, train in told]
    first = {key: place for place, key in reversed(list(enumerate(seen)))}
    fits = sorted(first.values())
    made = by_fits(program, inputs.of(np.array(fits)))
    return made[[fits.index(first[key]) for key in seen]]


def _algorithm(
    candidates: int, num_views: int, settings: Array, loss: str
) -> MetaAlgorithm:
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
        loss=loss,
        temperature=TEMPERATURE,
        feature_dropout=FEATURE_DROPOUT,
    )


def _regret(predicted: Array, costs: Array, mask: Array) -> Array:
    """Of choosing softly, for every task and view; 0 where nothing is known."""
    regret = functools.partial(expected_regret, temperature=TEMPERATURE)
    return jax.vmap(jax.vmap(regret, in_axes=-1))(
        predicted, jnp.where(mask, costs, 0.0), mask
    )


def _dealt(key: Array, families: Array, train: Array) -> Array:
    """The inner fold of each task, `(tasks,)`; families stay together.

    Those of training tasks are dealt first, whatever other tasks there are.
    """
    learnt = jnp.zeros(families.shape, bool).at[families].max(train)
    draws = jnp.where(learnt, jax.random.uniform(key, families.shape), 2.0)
    return (jnp.argsort(jnp.argsort(draws)) % INNER_FOLDS)[families]


def _member(inputs: Inputs, number: Array, loss: str) -> tuple[Array, Array]:
    """A network that has not seen one inner fold, each time that it is checked.

    Returns:
      Residuals of all tasks `(checks, tasks, outputs)`, and the regret on the inner
      fold that was left out `(checks,)`.
    """
    num_tasks, candidates, num_views = inputs.costs.shape
    algorithm = _algorithm(candidates, num_views, inputs.settings, loss)
    key = jax.random.key(inputs.key)
    held = (_dealt(key, inputs.families, inputs.train) == number) & inputs.train
    mine = inputs.train & ~held
    key = jax.random.fold_in(key, number)
    x = _dense(inputs)
    known = jnp.isfinite(inputs.costs)
    tasks = MetaExamples(
        description=x, costs=inputs.costs, mask=known & mine[:, None, None]
    )
    order = jnp.argsort(~mine)
    count = jnp.maximum(jnp.sum(mine), 1)

    def step(state: Any, number: Array) -> tuple[Any, None]:
        draw_key, step_key = jax.random.split(jax.random.fold_in(key, number))
        places = order[jax.random.randint(draw_key, (BATCH,), 0, count)]
        batch = jax.tree.map(lambda leaf: leaf[places], tasks)
        return algorithm.step(step_key, state, batch)[0], None

    def judge(state: Any) -> tuple[Array, Array]:
        """Costs in units of the spread, and the regret on the inner fold left out."""
        costs = jax.vmap(algorithm.predict, in_axes=(None, 0))(state.params, x)
        made = costs / inputs.spread
        regret = _regret(
            made, inputs.costs / inputs.spread, known & held[:, None, None]
        )
        return made, jnp.sum(regret)

    def check(state: Any, numbers: Array) -> tuple[Any, tuple[Array, Array]]:
        state, _ = jax.lax.scan(step, state, numbers)
        return state, judge(state)

    state = algorithm.init(key, tasks)
    numbers = jnp.arange(STEPS).reshape(CHECKS, -1)
    _, later = jax.lax.scan(check, state, numbers)
    made, regrets = jax.tree.map(
        lambda fresh, rest: jnp.concatenate([fresh[None], rest]), judge(state), later
    )
    above = made - inputs.base / inputs.spread
    return above.reshape(len(regrets), num_tasks, -1), regrets


def _network(inputs: Inputs, loss: str) -> Array:
    numbers = jnp.arange(INNER_FOLDS)
    made, regrets = jax.vmap(lambda number: _member(inputs, number, loss))(numbers)
    # How long each learns is decided by the others, on tasks that it does not judge.
    best = jnp.argmin(jnp.sum(regrets, axis=0) - regrets, axis=1)
    made = jax.vmap(lambda checks, place: checks[place])(made, best)
    inner = _dealt(jax.random.key(inputs.key), inputs.families, inputs.train)
    judged = (inner == numbers[:, None]) | ~inputs.train
    total = jnp.sum(jnp.where(judged[:, :, None], made, 0.0), axis=0)
    return total / jnp.sum(judged, axis=0)[:, None]


@functools.partial(jax.jit, static_argnames="loss", compiler_options=QUICK)
def _networks(inputs: Inputs, loss: str) -> Array:
    return jax.vmap(lambda fit: _network(fit, loss), in_axes=(FITS,))(inputs)


def network(inputs: Inputs, loss: str = "mixture") -> np.ndarray:
    """Meta-classifiers, one for each inner fold left out: `(fits, tasks, outputs)`.

    Args:
      inputs: of all fits.
      loss: as `jmeta.algorithms.meta_classification` takes it. Those that are no
        estimates of costs only say who should be chosen.
    """
    return by_fits(functools.partial(_networks, loss=loss), inputs)
