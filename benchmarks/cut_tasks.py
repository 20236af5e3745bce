"""Many small tasks with measured losses, for learning settings from.

Cut from tables at random (some rows, some columns, some classes) and drawn from the
task prior. Of each are measured its description and the cross-validated losses of
every learner at some points of its grid, as `grid_search.py` measures whole grids.
"""

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tables as outer
from grid_search import (
    SLOTS,
    Store,
    family,
    forget_programs,
    grid,
    losses_of,
    slots,
    table_of,
)

from jmeta import learners
from jmeta.data import encode, prior
from jmeta.describe.probes import probes
from jmeta.tasks import Table, kfold, pad_table

FOLDS, POINTS = 3, 16
ROWS, FEATURES, CLASSES = (256, 512), (16, 64), (2, 8)
FEWEST = 48
"""Rows of a cutting, at least; at most those of the largest size."""


def fits(size: int, sizes: Sequence[int]) -> int:
    """The smallest of the padded sizes that holds it."""
    return next(one for one in sizes if one >= size)


def cut(path: Path, rng: np.random.Generator) -> tuple[Table, int] | None:
    """Some rows, columns and classes of a table, and its padded number of classes;
    None if too little is left."""
    features, y = outer.read(path, 5)
    names = np.unique(y)
    if (len(names) > 2 and rng.random() < 0.5) or len(names) > CLASSES[-1]:
        most = min(len(names), CLASSES[-1])
        names = rng.permutation(names)[: rng.integers(2, most + 1)]
    rows = rng.permutation(np.flatnonzero(np.isin(y, names)))
    most = min(len(rows), ROWS[-1])
    if most < FEWEST:
        return None
    rows = rows[: int(np.exp(rng.uniform(np.log(FEWEST), np.log(most))))]
    if rng.random() < 0.5:
        share = rng.uniform(0.3, 1.0)
        kept = rng.permutation(features.shape[1])
        kept = kept[: max(2, round(share * len(kept)))]
        features = features.iloc[:, np.sort(kept)]
    counts = np.bincount(y[rows], minlength=y.max() + 1)
    rows = rows[counts[y[rows]] >= FOLDS]
    labels, y = np.unique(y[rows], return_inverse=True)
    coder = encode.fit_encoder(features.iloc[rows])
    if len(labels) < 2 or len(rows) < FEWEST or coder.width > FEATURES[-1]:
        return None
    x, columns = coder.encode(features.iloc[rows])
    sizes = fits(len(rows), ROWS), fits(len(columns), FEATURES)
    padded = pad_table(x, y, columns, rows=sizes[0], features=sizes[1])
    return padded, fits(len(labels), CLASSES)


def cuttings(
    paths: Sequence[Path], count: int, seed: int
) -> Iterator[tuple[str, str, Table, int]]:
    """Name, family, table and classes: `count` of every table, and as many in all
    from the prior as one in four."""
    for number in range(count):
        for place, path in enumerate(paths):
            rng = np.random.default_rng([seed, place, number])
            made = cut(path, rng)
            if made is not None:
                name = table_of(path)
                yield f"{name}/{number}", family(name), *made
            if place % 4 == 0:
                key = jax.random.fold_in(jax.random.key(seed), number)
                yield (
                    f"prior/{number}/{place}",
                    f"prior{place}",
                    *drawn(jax.random.fold_in(key, place), int(rng.integers(4))),
                )


def drawn(key: jax.Array, which: int) -> tuple[Table, int]:
    """A table of the prior, of one of four sizes."""
    rows, classes = ROWS[which // 2], CLASSES[which % 2]
    made = prior.sample_tables(
        key,
        1,
        rows=rows,
        features=FEATURES[0],
        num_classes=classes,
        fewest_rows=FEWEST,
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), made), classes


@functools.partial(jax.jit, static_argnames="num_classes")
def described(table: Table, num_classes: int) -> jax.Array:
    """Everything that any learner's settings depend on."""
    return probes(table, num_classes=num_classes)


def measure(
    table: Table, num_classes: int, names: Sequence[str], seed: int
) -> dict[str, Any]:
    """The description, and each learner's losses at some of its grid's points."""
    told: dict[str, Any] = {"points": {}, "losses": {}}
    told["description"] = np.asarray(described(table, num_classes)).tolist()
    key = jax.random.key(seed)
    folds = kfold(key, jnp.asarray(table.y), jnp.asarray(table.mask), FOLDS)
    many = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (FOLDS, *leaf.shape)), table
    )
    for name in names:
        learner = learners.get(name, num_classes)
        points = np.random.default_rng(seed).permutation(SLOTS)[:POINTS]
        units = np.repeat(grid(learner)[points][:, None], FOLDS, axis=1)
        padded, count = slots(units)
        found = losses_of(learner, key, padded, count, many, folds.support, folds.query)
        told["points"][name] = points.tolist()
        told["losses"][name] = np.asarray(found)[:count].mean(axis=1).tolist()
    return told


def measure_cuttings(
    paths: Sequence[Path], names: Sequence[str], count: int, seed: int, store: Store
) -> None:
    """Measure what the store does not hold yet."""
    for place, (task, its_family, table, classes) in enumerate(
        cuttings(paths, count, seed)
    ):
        if store.has(task=task):
            continue
        store.add(
            {
                "task": task,
                "family": its_family,
                **measure(table, classes, names, seed + place),
            }
        )
        forget_programs()
        print(f"measured {task}", file=sys.stderr)
