"""Settings learnt through training, beside a grid search, on real tables.

    python benchmarks/through_training.py --data ../shared/data/tabular/pmlb --out OUT

For each learner and table, on the folds of `tables.py`: log loss with the default
settings; with the best of a grid of 64 by inner 5-fold cross-validation, as
scikit-learn's GridSearchCV does it; with the settings that the meta-optimizer gives
from the description alone; and with the best of 8 candidates around those, by the same
inner folds. The meta-optimizer never saw a table of the same family. Settings aside,
all four are the same learner, run by the same compiled program.

One network gives the settings of all learners. It starts from the losses that the grid
searches of the training tables left behind, as smooth surfaces over the settings, and
goes on through the training of the learners on small tasks cut from these tables.

What is measured is appended to OUT after every table, and a stopped run goes on.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import tables as outer
import tyro

from jmeta import adjoints, learners, metrics, score
from jmeta.algorithms import meta_optimizer
from jmeta.base import Learner, MetaAlgorithm, Network
from jmeta.data import encode
from jmeta.describe.probes import MOST_ROWS, probes
from jmeta.learners.kernels import kernel, squared_distances
from jmeta.networks import MetaOptimizer, default_units, from_linen
from jmeta.tasks import (
    Examples,
    Table,
    Task,
    bucket,
    kfold,
    pad_table,
    stack,
    task_of,
)

Path = pathlib.Path
RUN = Path("runs/through-training")
FOLDS, INNER_FOLDS, SLOTS = 5, 5, 64
WORST = 1e3
"""The loss of settings whose fit fails."""
PARTS, MEMBERS, SURFACE_STEPS = 5, 5, 300
SMALL_ROWS, SMALL_FEATURES, SMALL_TASKS, BATCH = 192, 16, 4, 8
"""Tasks for training through training: so many of each training table that fits."""

GRIDS: dict[str, dict[str, list[Any]]] = {
    "logistic": {"penalty": np.geomspace(1e-3, 1e3, 64).tolist()},
    "gaussian_process": {
        "lengthscale": np.geomspace(0.1, 10.0, 8).tolist(),
        "amplitude": [0.5, 1.5, 4.0, 10.0],
        "kernel": ["rbf", "matern52"],
    },
    "mlp": {
        "learning_rate": [1e-3, 3e-3, 1e-2, 3e-2],
        "weight_decay": [0.01, 0.1, 1.0, 10.0],
        "label_smoothing": [0.0, 0.03, 0.1, 0.2],
    },
    "boosted_trees": {
        "rate": [0.03, 0.1, 0.3, 0.5],
        "depth": [2, 4],
        "rounds": [50, 128],
        "l2": [1.0, 10.0],
        "columns": [0.4, 0.8],
    },
}
"""64 points each: the values that a user would put down, over the learner's space."""

SAME = (
    ("cleve", "clevel", "heartc", "hearth", "hearts", "hungar"),
    ("austra", "credit", "crx", "buggyc", "german"),
    ("allbp", "allhyp", "allrep", "dis", "hypoth", "annthy", "newthy"),
    ("mfeatf", "mfeatk", "mfeatm", "mfeatp", "mfeatz", "optdig", "pendig"),
    ("diabet", "pima"),
    ("glass", "prnnfg"),
    ("colic", "horsec"),
    ("car", "careva"),
    ("vote", "housev"),
    ("flare", "solarf"),
    ("molecu", "promot"),
    ("winequ", "winere"),
    ("corral", "mofn", "monk", "mux", "parity", "threeo", "xd"),
)
"""Families whose tables are copies or relatives of each other under other names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder of tables.
      out: where everything is kept, and resumed from.
      learners: which; all if nothing is said.
      grid_folds: outer folds on which the grid is searched, of 5.
      through_steps: meta-steps through the learners' training, after the surfaces.
      seed: of the folds and of everything drawn.
      min_rows, max_rows, max_columns, limit: which tables, as in `tables.py`.
      json: print one JSON object and nothing else on stdout.
    """

    data: Path
    out: Path = RUN
    learners: tuple[str, ...] = tuple(GRIDS)
    grid_folds: int = 1
    through_steps: int = 200
    seed: int = 0
    min_rows: int = 50
    max_rows: int = 2000
    max_columns: int = 100
    limit: int = 0
    json: bool = False


class Real(NamedTuple):
    """One table in its outer folds; the encoder of each saw its support alone.

    Attributes:
      tables: with a leading axis of folds.
      support, query: `(folds, n)`.
      num_classes: padded.
    """

    tables: Table
    support: jax.Array
    query: jax.Array
    num_classes: int


def family(name: str) -> str:
    """The family of a table: the letters its name starts with, relatives merged."""
    letters = "".join(c for c in name.lower().rstrip("0123456789") if c.isalpha())
    short = letters[:6]
    return next((group[0] for group in SAME if short in group), short)


@functools.lru_cache(maxsize=4)
def read(path: Path, seed: int) -> Real:
    """Read a table, split it, encode every fold."""
    from sklearn.model_selection import StratifiedKFold

    features, y = outer.read(path, FOLDS)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    rows = max(128, bucket(len(y), "rows"))
    made, masks = [], []
    for support, query in folds.split(features, y):
        coder = encode.fit_encoder(features.iloc[support])
        x, columns = coder.encode(features)
        made.append((x, columns))
        masks.append(np.stack([np.isin(np.arange(rows), p) for p in (support, query)]))
    width = max(len(columns) for _, columns in made)
    width = next(size for size in (16, 64, 128, 256, 512) if size >= width)
    padded = [pad_table(x, y, c, rows=rows, features=width) for x, c in made]
    support, query = jnp.asarray(np.stack(masks, axis=1))
    num_classes = bucket(int(y.max()) + 1, "classes")
    return Real(stack(padded), support, query, num_classes)


@functools.partial(jax.jit, static_argnames="learner")
def losses_of(
    learner: Learner,
    key: jax.Array,
    units: jax.Array,
    num_units: jax.Array | int,
    tables: Table,
    support: jax.Array,
    query: jax.Array,
) -> jax.Array:
    """Log losses `(slots, folds)` of units `(slots, folds, size)`, one after another.

    All folds of one are fitted at once; slots from `num_units` on are not computed.
    """

    def one(unit: jax.Array, table: Table, support: Any, query: Any) -> jax.Array:
        fitted = score.fit(learner, key, learner.space.decode(unit), table, support)
        logits = score.predict(learner, fitted, table.x)
        return metrics.log_loss(jax.nn.softmax(logits), table.y, query)

    def body(index: jax.Array, done: jax.Array) -> jax.Array:
        now = jax.vmap(one)(units[index], tables, support, query)
        return done.at[index].set(now)

    start = jnp.zeros(units.shape[:2], tables.x.dtype)
    return jax.lax.fori_loop(0, num_units, body, start)


def slots(units: Sequence[Any] | np.ndarray) -> tuple[jax.Array, int]:
    """Units `(some, folds, size)` padded to the slots of one program, and how many."""
    found = np.asarray(units, np.float32)
    padded = np.zeros((SLOTS, *found.shape[1:]), np.float32)
    padded[: len(found)] = found
    return jnp.asarray(padded), len(found)


def grid(learner: Learner) -> np.ndarray:
    """The grid's unit vectors `(64, size)`."""
    names, values = zip(*GRIDS[learner.name].items())
    points = [dict(zip(names, point)) for point in itertools.product(*values)]
    return np.array([learner.space.encode(point) for point in points], np.float32)


def inner_folds(key: jax.Array, real: Real, fold: int) -> tuple[Table, Any, Any]:
    """The support of an outer fold, split in five: as one batch of tables."""
    table = jax.tree.map(lambda leaf: leaf[fold], real.tables)
    split = kfold(key, table.y, real.support[fold], INNER_FOLDS)
    many = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (INNER_FOLDS, *leaf.shape)), table
    )
    return many, split.support, split.query


def searched(
    learner: Learner, key: jax.Array, units: np.ndarray, real: Real, fold: int
) -> tuple[np.ndarray, float]:
    """Inner cross-validated losses of some settings, and the seconds they took."""
    folds = inner_folds(key, real, fold)
    padded, count = slots(np.repeat(units[:, None], INNER_FOLDS, axis=1))
    jax.block_until_ready(losses_of(learner, key, padded, 1, *folds))
    begin = time.perf_counter()
    told = np.asarray(losses_of(learner, key, padded, count, *folds))
    seconds = time.perf_counter() - begin
    mean = told[:count].mean(axis=1)
    # A fit that fails is never chosen, as in scikit-learn.
    return np.where(np.isfinite(mean), mean, WORST), seconds


def on_queries(
    learner: Learner, key: jax.Array, units: np.ndarray, real: Real
) -> tuple[np.ndarray, float]:
    """Losses `(some, folds)` of units `(some, folds, size)` on the outer queries, and
    the seconds of the last fit and prediction of all folds."""
    padded, count = slots(units)
    folds = real.tables, real.support, real.query
    told = np.asarray(losses_of(learner, key, padded, count, *folds))[:count]
    begin = time.perf_counter()
    jax.block_until_ready(losses_of(learner, key, padded, 1, *folds))
    return told, time.perf_counter() - begin


def forget_programs() -> None:
    """Hundreds of programs in one process are more memory maps than Linux allows."""
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > 30_000:
        jax.clear_caches()


def table_of(path: Path) -> str:
    """A table's name."""
    return path.name.removesuffix(".csv.gz")


class Store:
    """One JSON object a line, by a key; what is there is not computed again."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def has(self, **about: Any) -> bool:
        return any(about.items() <= row.items() for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def key_of(arguments: Arguments, name: str) -> jax.Array:
    """One key a table and seed."""
    number = int.from_bytes(name.encode()[-4:], "little") % 2**31
    return jax.random.fold_in(jax.random.key(arguments.seed), number)


def measure_grids(arguments: Arguments, paths: Sequence[Path], store: Store) -> None:
    """The grid search and the defaults, of every learner on every table."""
    for name, path in itertools.product(arguments.learners, paths):
        table = table_of(path)
        key = key_of(arguments, table)
        for fold in range(arguments.grid_folds):
            if store.has(learner=name, table=table, fold=fold):
                continue
            real = read(path, arguments.seed)
            learner = learners.get(name, real.num_classes)
            points = grid(learner)
            cv, seconds = searched(learner, key, points, real, fold)
            chosen = points[int(np.argmin(cv))]
            both = np.stack([learner.space.default(), chosen])
            units = np.repeat(both[:, None], FOLDS, axis=1)
            told, fit_seconds = on_queries(learner, key, units, real)
            store.add(
                {
                    "learner": name,
                    "table": table,
                    "fold": fold,
                    "default": float(told[0, fold]),
                    "grid": float(told[1, fold]),
                    "chosen": chosen.tolist(),
                    "cv": cv.tolist(),
                    "grid_seconds": seconds + fit_seconds / FOLDS,
                    "fit_seconds": fit_seconds / FOLDS,
                }
            )
            print(f"{name} {table} fold {fold}: {seconds:.1f} s", file=sys.stderr)
        forget_programs()


@functools.partial(jax.jit, static_argnames="num_classes")
def described(tables: Table, num_rows: jax.Array, num_classes: int) -> jax.Array:
    """Descriptions of a batch of tables that hold at most `MOST_ROWS` rows."""
    return jax.lax.map(
        lambda each: probes(each[0], num_classes=num_classes, num_rows=each[1]),
        (tables, num_rows),
    )


def few_rows(real: Real, seed: int) -> tuple[Table, jax.Array]:
    """Of each fold's support at most `MOST_ROWS` rows, and how many there are.

    Drawn here, so that tables of all lengths are described by one program.
    """
    rng = np.random.default_rng(seed)
    seen = real.tables._replace(mask=real.support)
    made = []
    for fold in range(FOLDS):
        rows = np.flatnonzero(real.support[fold])
        kept = np.sort(rng.permutation(rows)[:MOST_ROWS])
        kept = np.pad(kept, (0, MOST_ROWS - len(kept)), constant_values=-1)
        one = jax.tree.map(lambda leaf, f=fold: np.asarray(leaf[f]), seen)
        few = Table(*(leaf[kept] for leaf in one[:3]), one.columns)
        made.append(few._replace(mask=few.mask & (kept >= 0)))
    return stack(made), jnp.sum(real.support, axis=1)


def measure_descriptions(
    arguments: Arguments, paths: Sequence[Path], store: Store
) -> None:
    """Describe every outer fold of every table, and say how long it takes."""
    for path in paths:
        table = table_of(path)
        if store.has(table=table):
            continue
        real = read(path, arguments.seed)
        folds = *few_rows(real, arguments.seed), real.num_classes
        found = np.asarray(described(*folds))
        begin = time.perf_counter()
        jax.block_until_ready(described(*folds))
        seconds = (time.perf_counter() - begin) / FOLDS
        row = {"table": table, "seconds": seconds, "description": found.tolist()}
        store.add(row)
        print(f"described {table}: {seconds:.4f} s", file=sys.stderr)


def surfaces_of(learner: Learner, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smooth functions of the settings through the losses `(tables, 64)` of a grid.

    Losses far above a table's best are cut, so that it is steep only where it pays.

    Returns:
      Kernel weights `(tables, 64)`, and what to add for the loss above the best.
    """
    points = jnp.asarray(grid(learner))
    gram = np.asarray(near(points, points), float) + 1e-3 * np.eye(len(points))
    regret = np.minimum(losses - losses.min(axis=1, keepdims=True), 1.0)
    offset = regret.mean(axis=1)
    return np.linalg.solve(gram, regret.T - offset).T, offset


def near(a: jax.Array, b: jax.Array) -> jax.Array:
    """The Matern kernel of a surface, half a unit cube wide."""
    return kernel(squared_distances(a, b), jnp.asarray(0.5), jnp.asarray(1.0))


def surface_tasks(
    arguments: Arguments, tables: Sequence[str], grids: Store, about: np.ndarray
) -> Task:
    """What was measured of training tables, as tasks of `meta_optimizer`.

    Their support holds each learner's surface in a column, NaN where its grid was not
    searched, which leaves that pair out.
    """
    first = {
        (row["learner"], row["table"]): row for row in grids.rows if not row["fold"]
    }
    columns, offsets = [], []
    for name in arguments.learners:
        lacking = {"cv": [np.nan] * SLOTS}
        losses = [first.get((name, table), lacking)["cv"] for table in tables]
        weights, offset = surfaces_of(learners.get(name, 2), np.array(losses))
        columns.append(weights)
        offsets.append(offset)
    return Task(
        support=examples_of(np.stack(columns, axis=-1)),
        query=examples_of(np.stack(offsets, axis=-1)[:, None]),
        description=jnp.asarray(about),
    )


def examples_of(x: np.ndarray) -> Examples:
    """Numbers as the features of rows that all count."""
    x = jnp.asarray(x, jnp.float32)
    return Examples(x=x, y=jnp.zeros(x.shape[:2]), mask=jnp.ones(x.shape[:2], bool))


def committee(network: Network, size: int) -> Network:
    """Several networks that give the mean of what each would."""

    def init(key: jax.Array, x: jax.Array) -> Any:
        return jax.vmap(lambda key: network.init(key, x))(jax.random.split(key, size))

    def apply(params: Any, x: jax.Array) -> Any:
        made = jax.vmap(lambda p: network.apply(p, x))(params)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), made)

    return Network(init=init, apply=apply)


def surface_algorithm(arguments: Arguments, network: Network) -> MetaAlgorithm:
    """The meta-optimizer, trained through the surfaces of searched grids."""
    chosen = [learners.get(name, 2) for name in arguments.learners]
    places = {learner.name: place for place, learner in enumerate(chosen)}
    points = {learner.name: jnp.asarray(grid(learner)) for learner in chosen}

    def told(learner: Learner, unit: jax.Array, task: Task) -> jax.Array:
        place = places[learner.name]
        height = near(unit[None], points[learner.name])[0] @ task.support.x[:, place]
        return height + task.query.x[0, place]

    stubs = [
        one._replace(fit=lambda key, unit, support: unit, through=None)
        for one in chosen
    ]
    return meta_optimizer(
        network,
        stubs,
        optax.adamw(optax.cosine_decay_schedule(3e-3, SURFACE_STEPS), weight_decay=0.1),
        feature_dropout=0.1,
        decode=lambda learner, unit: unit,
        loss=told,
    )


def through_algorithm(arguments: Arguments, network: Network) -> MetaAlgorithm:
    """The meta-optimizer, trained through the training of the learners themselves."""
    return meta_optimizer(
        network,
        [learners.get(name, 2) for name in arguments.learners],
        optax.adam(optax.cosine_decay_schedule(1e-3, max(arguments.through_steps, 1))),
        adjoint={"boosted_trees": adjoints.evolution(num_pairs=1)}
        if "boosted_trees" in arguments.learners
        else None,
        micro_batch=4,
        feature_dropout=0.1,
    )


def small_tasks(arguments: Arguments, paths: Sequence[Path]) -> tuple[Task, np.ndarray]:
    """Tasks of two classes cut from the tables at random, and each one's table."""
    made, places = [], []
    for place, path in enumerate(paths):
        features, y = outer.read(path, FOLDS)
        if y.max() > 1 or encode.fit_encoder(features).width > SMALL_FEATURES:
            continue
        rng = np.random.default_rng([arguments.seed, place])
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
        told = probes(seen, num_classes=2)
        return task_of(table, support, ~support, told)

    return jax.jit(lambda t, m: jax.lax.map(one, (t, m)))(tables, supports), np.array(
        places
    )


def steps_of(algorithm: MetaAlgorithm, num_steps: int, batch: int | None) -> Any:
    """`(key, state, tasks) -> (state, infos)`: training on a batch of tasks, or all."""

    def run(key: jax.Array, state: Any, tasks: Task) -> Any:
        count = len(tasks.description)

        def body(state: Any, number: jax.Array) -> Any:
            draw_key, step_key = jax.random.split(jax.random.fold_in(key, number))
            some = tasks
            if batch is not None:
                rows = jax.random.randint(draw_key, (batch,), 0, count)
                some = jax.tree.map(lambda leaf: leaf[rows], tasks)
            return algorithm.step(step_key, state, some)

        return jax.lax.scan(body, state, jnp.arange(num_steps))

    return jax.jit(run)


def learn(
    arguments: Arguments, paths: Sequence[Path], grids: Store, about: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """Units `(tables, folds, size)` by learner, after the surfaces and after training
    through training, by networks that saw no relative of the table.

    The families are dealt into five parts; each part's settings come from the network
    that is trained on the others.
    """
    names = [table_of(path) for path in paths]
    families = np.array([family(name) for name in names])
    rng = np.random.default_rng(arguments.seed)
    dealt = {
        name: i % PARTS for i, name in enumerate(rng.permutation(np.unique(families)))
    }
    parts = np.array([dealt[name] for name in families])
    chosen = [learners.get(name, 2) for name in arguments.learners]
    module = MetaOptimizer(defaults=default_units(chosen), width=32, num_blocks=1)
    network = committee(from_linen(module), MEMBERS)
    surfaces = surface_algorithm(arguments, network)
    through = through_algorithm(arguments, network)
    measured = surface_tasks(arguments, names, grids, about[:, 0])
    small, places = small_tasks(arguments, paths)
    first = steps_of(surfaces, SURFACE_STEPS, None)
    second = steps_of(through, arguments.through_steps, BATCH)
    asked = jax.jit(jax.vmap(jax.vmap(surfaces.predict, (None, 0)), (None, 0)))
    start = jax.jit(surfaces.init)

    size = {learner.name: len(learner.space) for learner in chosen}
    empty = {n: np.zeros((len(names), FOLDS, size[n]), np.float32) for n in size}
    out = {way: jax.tree.map(np.copy, empty) for way in ("surfaces", "through")}
    for part in range(PARTS):
        # Padded by repetition, so that all parts have one shape.
        train = np.resize(np.flatnonzero(parts != part), len(names))
        tasks = jax.tree.map(lambda leaf, r=train: leaf[r], measured)
        key = jax.random.fold_in(jax.random.key(arguments.seed), part)
        state, infos = first(key, start(key, tasks), tasks)
        own = np.flatnonzero(parts == part)
        found = {"surfaces": asked(state.params, jnp.asarray(about[own]))}
        told = [f"surfaces {infos.loss[0]:.3f} to {infos.loss[-1]:.3f}"]
        if arguments.through_steps:
            rows = np.resize(np.flatnonzero(parts[places] != part), len(places))
            begun = through.init(key, tasks)._replace(params=state.params)
            ours = jax.tree.map(lambda leaf, r=rows: leaf[r], small)
            state, infos = second(key, begun, ours)
            ends = [
                float(jnp.mean(some)) for some in (infos.loss[:20], infos.loss[-20:])
            ]
            told.append(
                f"through training {ends[0]:.3f} to {ends[1]:.3f}, "
                f"{int(infos.num_diverged.sum())} diverged"
            )
        found["through"] = asked(state.params, jnp.asarray(about[own]))
        for way, name in itertools.product(found, arguments.learners):
            out[way][name][own] = found[way][name]
        print(f"part {part + 1} of {PARTS}: {'; '.join(told)}", file=sys.stderr)
    return out


def around(unit: np.ndarray, seed: int) -> np.ndarray:
    """Eight candidates: the settings given, and a Latin square of seven around them."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(-0.3, 0.3, 7)
    moves = np.stack([rng.permutation(levels) for _ in unit], axis=1)
    return np.clip(np.concatenate([unit[None], unit + moves]), 0.0, 1.0)


def judge(
    arguments: Arguments,
    paths: Sequence[Path],
    grids: Store,
    units: dict[str, dict[str, np.ndarray]],
    seconds: np.ndarray,
) -> list[dict[str, Any]]:
    """What was learnt, on the outer queries, beside the grid and the defaults."""
    out = []
    for name, (place, path) in itertools.product(arguments.learners, enumerate(paths)):
        table = table_of(path)
        key = key_of(arguments, table)
        for row in grids.rows:
            fold = row["fold"]
            if (row["learner"], row["table"]) != (name, table):
                continue
            if fold >= arguments.grid_folds:
                continue
            real = read(path, arguments.seed)
            learner = learners.get(name, real.num_classes)
            given = np.stack(
                [units[way][name][place] for way in ("through", "surfaces")]
            )
            told, fit_seconds = on_queries(learner, key, given, real)
            eight = around(given[0, fold], arguments.seed)
            cv, warm_seconds = searched(learner, key, eight, real, fold)
            # The grid's own seconds, unless the machine had more to do at that time.
            as_many = SLOTS / len(eight)
            best = np.repeat(eight[np.argmin(cv)][None, None], FOLDS, axis=1)
            warm, _ = on_queries(learner, key, best, real)
            out.append(
                {
                    "learner": name,
                    "table": table,
                    "family": family(table),
                    "default": row["default"],
                    "grid": row["grid"],
                    "zero_shot": float(told[0, fold]),
                    "surfaces_alone": float(told[1, fold]),
                    "warm_8": float(warm[0, fold]),
                    "grid_seconds": min(row["grid_seconds"], as_many * warm_seconds),
                    "zero_seconds": float(seconds[place] + fit_seconds / FOLDS),
                    "warm_seconds": float(seconds[place] + warm_seconds),
                }
            )
        forget_programs()
        print(f"judged {name} on {table}", file=sys.stderr)
    return out


def recovered(rows: pd.DataFrame, column: str) -> float:
    """The share of the grid's gain over the defaults."""
    mean = rows[["default", "grid", column]].mean()
    return float((mean["default"] - mean[column]) / (mean["default"] - mean["grid"]))


def summarise(rows: pd.DataFrame) -> dict[str, Any]:
    """Means over tables, with intervals over families drawn with replacement."""
    scores = ["default", "grid", "zero_shot", "surfaces_alone", "warm_8"]
    out = {name: float(rows[name].mean()) for name in scores}
    out["recovered"] = recovered(rows, "zero_shot")
    groups = [group for _, group in rows.groupby("family")]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(1000):
        picked = pd.concat(
            [groups[i] for i in rng.integers(0, len(groups), len(groups))]
        )
        draws.append(
            (
                recovered(picked, "zero_shot"),
                picked["grid"].mean() - picked["warm_8"].mean(),
            )
        )
    for name, values in zip(("recovered", "warm_ahead"), zip(*draws)):
        out[f"{name}_interval"] = np.quantile(values, [0.025, 0.975]).tolist()
    total = rows[["grid_seconds", "zero_seconds", "warm_seconds"]].sum()
    out["time_ratio"] = float(total["zero_seconds"] / total["grid_seconds"])
    out["warm_time_ratio"] = float(total["warm_seconds"] / total["grid_seconds"])
    out["tables"] = int(rows["table"].nunique())
    return out


def main(arguments: Arguments) -> None:
    """Measure, learn, judge, write and print."""
    sized = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(arguments)}
    sized = {
        k: v for k, v in sized.items() if k in ("min_rows", "max_rows", "max_columns")
    }
    paths = outer.chosen(
        outer.Arguments(data=arguments.data, limit=arguments.limit, **sized)
    )
    if not paths:
        sys.exit(f"through_training.py: no table of that size in {arguments.data}")
    grids = Store(arguments.out / "grids.jsonl")
    descriptions = Store(arguments.out / "descriptions.jsonl")
    measure_descriptions(arguments, paths, descriptions)
    measure_grids(arguments, paths, grids)
    told = {row["table"]: row for row in descriptions.rows}
    rows = [told[table_of(path)] for path in paths]
    about = np.array([row["description"] for row in rows], np.float32)
    seconds = np.array([row["seconds"] for row in rows])
    units = learn(arguments, paths, grids, about)
    judged = pd.DataFrame(judge(arguments, paths, grids, units, seconds))
    judged.to_csv(arguments.out / "judged.csv", index=False)
    results = {name: summarise(group) for name, group in judged.groupby("learner")}
    (arguments.out / "through-training.json").write_text(json.dumps(results, indent=1))
    if arguments.json:
        print(json.dumps(results))
    else:
        print(pd.DataFrame(results).T.to_string())


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
