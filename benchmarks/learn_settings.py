"""Settings of all learners from one network: learnt from measured losses, and then
through the training of the learners themselves.

The losses that grid searches and `cut_tasks.py` left behind become smooth surfaces over
the settings, whose gradient trains the network; then it goes on through training.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tables as outer
from grid_search import FOLDS, SLOTS, Store, family, grid, table_of

from jmeta import adjoints, learners
from jmeta.algorithms import ensemble, meta_optimizer
from jmeta.base import Learner, MetaAlgorithm, Network
from jmeta.data import encode
from jmeta.describe.probes import columns_for, lowest, probe_names, probes
from jmeta.learners.kernels import kernel, squared_distances
from jmeta.networks import MetaOptimizer, default_units, from_linen
from jmeta.tasks import Examples, Table, Task, pad_table, stack, task_of

PARTS, MEMBERS, SURFACE_BATCH = 5, 5, 128
KNOWN = frozenset(jax.eval_shape(lowest, jnp.zeros(len(probe_names()))))
"""Learners whose probes already say where their settings are best."""
WAYS = ("surfaces", "through")
SMALL_ROWS, SMALL_FEATURES, SMALL_TASKS, SMALL_BATCH = 192, 16, 4, 8
"""Tasks for training through training: so many of each training table that fits."""


def near(a: jax.Array, b: jax.Array) -> jax.Array:
    """The Matern kernel of a surface, half a unit cube wide."""
    return kernel(squared_distances(a, b), jnp.asarray(0.5), jnp.asarray(1.0))


def surface(
    points: np.ndarray, places: Sequence[int], losses: Sequence[float]
) -> tuple[np.ndarray, float]:
    """A smooth function of the settings through the losses at some points of a grid.

    Losses far above the best are cut, so that it is steep only where it pays.

    Returns:
      Kernel weights of all points, and what to add for the loss above the best.
    """
    told = np.nan_to_num(losses, nan=np.inf)
    regret = np.minimum(told - told.min(), 1.0)
    some = points[list(places)]
    gram = np.asarray(near(some, some), float) + 1e-3 * np.eye(len(some))
    weights = np.zeros(len(points))
    weights[list(places)] = np.linalg.solve(gram, regret - regret.mean())
    return weights, regret.mean()


def surface_tasks(
    names: Sequence[str], measured: Sequence[dict[str, Any]], about: np.ndarray
) -> Task:
    """What was measured, as tasks of `meta_optimizer`.

    Their support holds each learner's surface in a column, NaN where nothing was
    measured, which leaves that pair out.

    Args:
      names: of the learners.
      measured: by learner, the places in its grid and the losses there.
      about: the descriptions.
    """
    points = {name: grid(learners.get(name, 2)) for name in names}
    lacking = np.full(SLOTS, np.nan), np.nan
    made = [
        [surface(points[n], *one[n]) if n in one else lacking for n in names]
        for one in measured
    ]
    weights = np.array([[w for w, _ in row] for row in made]).transpose(0, 2, 1)
    offsets = np.array([[offset for _, offset in row] for row in made])[:, None]
    return Task(
        support=examples_of(weights),
        query=examples_of(offsets),
        description=jnp.asarray(about, jnp.float32),
    )


def examples_of(x: np.ndarray) -> Examples:
    """Numbers as the features of rows that all count."""
    x = jnp.asarray(x, jnp.float32)
    return Examples(x=x, y=jnp.zeros(x.shape[:2]), mask=jnp.ones(x.shape[:2], bool))


def network_of(names: Sequence[str]) -> Network:
    """One network for all learners, that moves what the probes already say."""
    defaults = default_units([learners.get(name, 2) for name in names])
    for name in KNOWN & defaults.keys():
        defaults[name] = (0.5,) * len(defaults[name])
    reads = {name: columns_for(name) for name in names}
    return from_linen(MetaOptimizer(defaults=defaults, reads=reads, width=32))


def committee(network: Network) -> Network:
    """Several networks that give the mean of what each would."""

    def init(key: jax.Array, x: jax.Array) -> Any:
        keys = jax.random.split(key, MEMBERS)
        return jax.vmap(lambda key: network.init(key, x))(keys)

    def apply(params: Any, x: jax.Array) -> Any:
        made = jax.vmap(lambda p: network.apply(p, x))(params)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), made)

    return Network(init=init, apply=apply)


def surface_algorithm(
    names: Sequence[str], network: Network, num_steps: int
) -> MetaAlgorithm:
    """The meta-optimizer, trained through the surfaces of measured losses."""
    chosen = [learners.get(name, 2) for name in names]
    places = {name: place for place, name in enumerate(names)}
    points = {learner.name: jnp.asarray(grid(learner)) for learner in chosen}

    def told(learner: Learner, unit: jax.Array, task: Task) -> jax.Array:
        place = places[learner.name]
        by_point = near(unit[None], points[learner.name])[0]
        height = by_point @ task.support.x[:, place] + task.query.x[0, place]
        # Below the best that was measured nothing is known, only extrapolated.
        return jnp.maximum(height, 0.0)

    stubs = [
        one._replace(fit=lambda key, unit, support: unit, through=None)
        for one in chosen
    ]
    schedule = optax.cosine_decay_schedule(3e-3, num_steps)
    one = meta_optimizer(
        network,
        stubs,
        optax.adamw(schedule, weight_decay=0.1),
        feature_dropout=0.1,
        decode=lambda learner, unit: unit,
        loss=told,
        start=lowest,
    )
    return ensemble(one, MEMBERS, bagged=False)


def through_algorithm(
    names: Sequence[str], network: Network, num_steps: int
) -> MetaAlgorithm:
    """The meta-optimizer, trained through the training of the learners themselves."""
    trees = {"boosted_trees": adjoints.evolution(num_pairs=1)}
    return meta_optimizer(
        committee(network),
        [learners.get(name, 2) for name in names],
        optax.adam(optax.cosine_decay_schedule(1e-3, max(num_steps, 1))),
        adjoint={name: how for name, how in trees.items() if name in names},
        micro_batch=4,
        feature_dropout=0.1,
        start=lowest,
    )


def small_tasks(paths: Sequence[Path], seed: int) -> tuple[Task, np.ndarray]:
    """Tasks of two classes cut from the tables at random, and each one's table."""
    made, places = [], []
    for place, path in enumerate(paths):
        features, y = outer.read(path, FOLDS)
        if y.max() > 1 or encode.fit_encoder(features).width > SMALL_FEATURES:
            continue
        rng = np.random.default_rng([seed, place])
        for _ in range(SMALL_TASKS):
            rows = rng.permutation(len(y))[:SMALL_ROWS]
            size = int(np.exp(rng.uniform(np.log(32), np.log(0.7 * len(rows)))))
            if len(set(y[rows[:size]])) < 2:
                continue
            coder = encode.fit_encoder(features.iloc[rows[:size]])
            x, columns = coder.encode(features.iloc[rows])
            table = pad_table(
                x, y[rows], columns, rows=SMALL_ROWS, features=SMALL_FEATURES
            )
            made.append((table, jnp.arange(SMALL_ROWS) < size))
            places.append(place)
    tables, supports = (stack(list(part)) for part in zip(*made))

    def one(each: tuple[Table, jax.Array]) -> Task:
        table, support = each
        seen = table._replace(mask=table.mask & support)
        return task_of(table, support, ~support, probes(seen, num_classes=2))

    described = jax.jit(lambda t, m: jax.lax.map(one, (t, m)))(tables, supports)
    return described, np.array(places)


def steps_of(algorithm: MetaAlgorithm, num_steps: int, batch: int) -> Any:
    """`(key, state, tasks, rows) -> (state, infos)`: each step on some of the rows."""

    def run(key: jax.Array, state: Any, tasks: Task, rows: jax.Array) -> Any:
        def body(state: Any, number: jax.Array) -> Any:
            draw_key, step_key = jax.random.split(jax.random.fold_in(key, number))
            drawn = jax.random.choice(draw_key, rows, (batch,))
            some = jax.tree.map(lambda leaf: leaf[drawn], tasks)
            return algorithm.step(step_key, state, some)

        return jax.lax.scan(body, state, jnp.arange(num_steps))

    return jax.jit(run)


def deal(families: Sequence[str], seed: int) -> dict[str, int]:
    """Which part each family is in."""
    shuffled = np.random.default_rng(seed).permutation(np.unique(families))
    return {name: i % PARTS for i, name in enumerate(shuffled)}


def learn(
    names: Sequence[str],
    paths: Sequence[Path],
    about: np.ndarray,
    grids: Store,
    cuttings: Store,
    *,
    num_steps: tuple[int, int],
    seed: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Settings of every table by networks that saw no relative of it.

    The families are dealt into five parts; each part's settings come from networks that
    are trained on the others, on as many whole tables as cuttings.

    Args:
      names: of the learners.
      paths: of the tables.
      about: `(tables, folds, numbers)`, their descriptions.
      grids, cuttings: what was measured.
      num_steps: from measured losses, and then through training.
      seed: of everything drawn.

    Returns:
      By way and learner: `surfaces` and `through`, units `(tables, folds, size)` before
      and after training through training.
    """
    tables = [table_of(path) for path in paths]
    searched = {name: {} for name in tables}
    for row in grids.rows:
        if row["table"] in searched and not row["fold"]:
            searched[row["table"]][row["learner"]] = (range(SLOTS), row["cv"])
    cut = [
        {name: (row["points"][name], row["losses"][name]) for name in names}
        for row in cuttings.rows
    ]
    told = np.concatenate([about[:, 0], [row["description"] for row in cuttings.rows]])
    tasks = surface_tasks(names, [*searched.values(), *cut], told)
    part_of = deal([family(name) for name in tables], seed)
    parts = np.array([part_of[family(name)] for name in tables])
    # What is drawn from the prior has no relatives.
    cut_parts = np.array([part_of.get(row["family"], -1) for row in cuttings.rows])
    small, places = small_tasks(paths, seed)

    network = network_of(names)
    surfaces = surface_algorithm(names, network, num_steps[0])
    through = through_algorithm(names, network, num_steps[1])
    first = steps_of(surfaces, num_steps[0], SURFACE_BATCH)
    second = steps_of(through, num_steps[1], SMALL_BATCH)
    # As many rows in every part, so that all run the same programs.
    half = max(len(tables), len(cut))
    ask = jax.jit(jax.vmap(jax.vmap(through.predict, (None, 0)), (None, 0)))
    out: dict[str, dict[str, Any]] = {way: {} for way in WAYS}
    for part in range(PARTS):
        key = jax.random.fold_in(jax.random.key(seed), part)
        own = np.flatnonzero(parts == part)
        of_tables = np.flatnonzero(parts != part)
        of_cut = len(tables) + np.flatnonzero(cut_parts != part)
        rows = np.concatenate([np.resize(some, half) for some in (of_tables, of_cut)])
        seen = jax.tree.map(lambda leaf, r=rows: leaf[r], tasks)
        state, infos = first(key, surfaces.init(key, seen), tasks, jnp.asarray(rows))
        told = [f"surfaces {ends(infos)}"]
        params = {
            "network": state.params["network"],
            # All members were given the same tasks to scale by.
            "scaler": jax.tree.map(lambda leaf: leaf[0], state.params["scaler"]),
        }
        found = {"surfaces": ask(params, about[own])}

        rows = np.resize(np.flatnonzero(parts[places] != part), len(places))
        begun = through.init(key, small)._replace(params=params)
        state, infos = second(key, begun, small, jnp.asarray(rows))
        told.append(f"through training {ends(infos)}")
        found["through"] = ask(state.params, about[own])
        for way, name in itertools.product(WAYS, names):
            of_part = np.asarray(found[way][name])
            shape = (len(tables), *of_part.shape[1:])
            out[way].setdefault(name, np.zeros(shape, np.float32))[own] = of_part
        print(f"part {part + 1} of {PARTS}: {'; '.join(told)}", file=sys.stderr)
    return out


def ends(infos: Any) -> str:
    """The mean loss of the first and of the last steps, and how much was left out."""
    losses = [float(jnp.mean(some)) for some in (infos.loss[:20], infos.loss[-20:])]
    left_out = int(infos.num_diverged.sum())
    return f"{losses[0]:.3f} to {losses[1]:.3f}, {left_out} left out"
