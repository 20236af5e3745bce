"""Grid searches of learners' settings on real tables, and what they leave behind.

The grid of 64 by inner 5-fold cross-validation, as scikit-learn's GridSearchCV does it,
with all folds in one compiled program; and a file of what was measured, to which each
table is added as it is done.
"""

import functools
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tables as outer

from jmeta import learners, metrics, score
from jmeta.base import Learner
from jmeta.data import encode
from jmeta.tasks import Table, bucket, kfold, pad_table, stack

FOLDS, INNER_FOLDS, SLOTS = 5, 5, 64
WORST = 1e3
"""The loss of settings whose fit fails."""

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


def key_of(seed: int, name: str) -> jax.Array:
    """One key a table and seed."""
    number = int.from_bytes(name.encode()[-4:], "little") % 2**31
    return jax.random.fold_in(jax.random.key(seed), number)


def measure_grids(
    paths: Sequence[Path],
    names: Sequence[str],
    store: Store,
    *,
    num_folds: int,
    seed: int,
) -> None:
    """The grid search and the defaults, of every learner on every table."""
    for name, path in itertools.product(names, paths):
        table = table_of(path)
        key = key_of(seed, table)
        for fold in range(num_folds):
            if store.has(learner=name, table=table, fold=fold):
                continue
            real = read(path, seed)
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
