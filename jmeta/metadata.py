"""Meta-datasets: descriptions of tasks beside how every candidate did on them."""

import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmeta import learners, metrics
from jmeta.data.prior import sample_tables
from jmeta.describe import SCHEMA_VERSION, describe, names
from jmeta.errors import InputError
from jmeta.score import Candidate, score
from jmeta.tasks import Folds, Table
from jmeta.types import Array, Key

__all__ = [
    "Bucket",
    "MetaDataset",
    "collect",
    "concatenate",
    "describe_tables",
    "draw_described",
    "draw_tasks",
    "read_chunk",
    "write_chunk",
]


class MetaDataset(NamedTuple):
    """What meta-models are learnt from, as host arrays.

    Attributes:
      descriptions: `(tasks, meta)` float32; NaN where missing.
      scores: `(tasks, candidates, scores)` float32 on rows never seen in fitting, in
        the order of `jmeta.metrics.SCORES`; NaN where a candidate was not run.
      rows: `(tasks,)` support rows of each task.
    """

    descriptions: np.ndarray
    scores: np.ndarray
    rows: np.ndarray


class Bucket(NamedTuple):
    """One size of tables drawn from the prior, and how many support rows they have."""

    rows: int
    features: int
    num_classes: int
    min_support: int
    max_support: int


def _split(key: Key, table: Table, low: int, high: int) -> Folds:
    """One random split; the support's size is log-uniform in [low, high]."""
    size_key, order_key = jax.random.split(key)
    num_rows = table.mask.shape[0]
    high_rows = jnp.minimum(high, jnp.sum(table.mask) * 3 // 4)
    low_rows = jnp.minimum(low, high_rows)
    size = low_rows * jnp.exp(
        jax.random.uniform(size_key) * jnp.log(high_rows / jnp.maximum(low_rows, 1))
    )
    draw = jnp.where(table.mask, jax.random.uniform(order_key, (num_rows,)), jnp.inf)
    rank = jnp.argsort(jnp.argsort(draw))
    support = table.mask & (rank < jnp.round(size))
    query = table.mask & ~support
    if jnp.issubdtype(table.y.dtype, jnp.integer):
        # A class that the support lacks cannot be predicted: it would measure chance.
        same = table.y[:, None] == table.y[None, :]
        query &= jnp.any(same & support[None, :], axis=1)
    return Folds(support=support[None], query=query[None])


def draw_tasks(
    key: Key, num_tasks: int, bucket: Bucket, kind: str
) -> tuple[Table, Folds]:
    """Tables from the prior, each with one split into support and query."""
    table_key, split_key = jax.random.split(key)
    tables = sample_tables(
        table_key,
        num_tasks,
        rows=bucket.rows,
        features=bucket.features,
        num_classes=bucket.num_classes,
        kind=kind,
        fewest_rows=bucket.rows // 2,
    )
    keys = jax.random.split(split_key, num_tasks)
    folds = jax.vmap(_split, in_axes=(0, 0, None, None))(
        keys, tables, bucket.min_support, bucket.max_support
    )
    return tables, folds


_draw_tasks = jax.jit(draw_tasks, static_argnames=("num_tasks", "bucket", "kind"))


def describe_tables(
    tables: Table, *, kind: str, num_classes: int, chunk: int = 16
) -> Array:
    """Descriptions `(tasks, meta)` of a batch of tables, a few at a time."""
    return jax.lax.map(
        lambda table: describe(table, kind=kind, num_classes=num_classes),
        tables,
        batch_size=chunk,
    )


_describe_tables = jax.jit(
    describe_tables, static_argnames=("kind", "num_classes", "chunk")
)


def draw_described(
    key: Key, num_tasks: int, bucket: Bucket, kind: str
) -> tuple[Table, Folds, Array]:
    """Tables from the prior, their splits, and descriptions of the supports."""
    tables, folds = _draw_tasks(key, num_tasks, bucket, kind)
    seen = tables._replace(mask=folds.support[:, 0])
    described = _describe_tables(seen, kind=kind, num_classes=bucket.num_classes)
    return tables, folds, described


Proposer = Callable[[Array], dict[str, Array]]


def collect(
    key: Key,
    candidates: Sequence[Candidate],
    bucket: Bucket,
    *,
    kind: str,
    num_tasks: int,
    propose: Proposer | None = None,
) -> MetaDataset:
    """Draw tasks from the prior and measure every candidate on each.

    A candidate is fitted on the support and judged on the query; the description is
    of the support alone.

    Args:
      key: decides the tasks; a chunk of tasks is the same whatever was drawn before.
      candidates: what to measure.
      bucket: the size of the tables.
      kind: `"classes"` or `"number"`.
      num_tasks: how many; all in one batch.
      propose: `descriptions -> {learner: units}`, for the candidates whose settings
        the meta-optimizer proposes; without it they are left NaN.
    """
    draw_key, score_key = jax.random.split(key)
    tables, folds, descriptions = draw_described(draw_key, num_tasks, bucket, kind)
    if propose is None:
        # Measured and thrown away: one compiled program serves both cases.
        proposals = {
            c.learner: jnp.tile(
                learners.get(c.learner, 2).space.default(), (num_tasks, 1)
            )
            for c in candidates
        }
    else:
        proposals = propose(descriptions)
    measured = score(
        candidates,
        score_key,
        tables,
        folds,
        num_classes=bucket.num_classes if kind == learners.CLASSES else None,
        proposals=proposals,
    )
    scores = np.array(measured[:, :, 0])
    if propose is None:
        scores[:, [c.unit is None for c in candidates]] = np.nan
    if kind == learners.NUMBER:
        # In units of the query's own deviation, so that tasks can be compared.
        y, query = np.asarray(tables.y), np.asarray(folds.query[:, 0])
        deviation = np.array([max(np.std(v[q]), 1e-12) for v, q in zip(y, query)])
        scores[:, :, :2] /= deviation[:, None, None]
    return MetaDataset(
        descriptions=np.asarray(descriptions),
        scores=scores,
        rows=np.asarray(folds.support.sum((1, 2))),
    )


def concatenate(parts: Sequence[MetaDataset]) -> MetaDataset:
    """One meta-dataset of several, tasks one after another."""
    return MetaDataset(*(np.concatenate(leaves) for leaves in zip(*parts)))


def signature(kind: str, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """What must agree for two meta-datasets to be put together."""
    return {
        "kind": kind,
        "schema": SCHEMA_VERSION,
        "descriptions": list(names(kind)),
        "scores": list(metrics.SCORES[kind]),
        "candidates": [[c.learner, c.unit and list(c.unit)] for c in candidates],
    }


def write_chunk(path: pathlib.Path, data: MetaDataset, meta: dict[str, Any]) -> None:
    """Write a meta-dataset as one `.npz`, atomically, with its signature."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(
                file, **data._asdict(), signature=np.array(json.dumps(meta))
            )
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def read_chunk(path: pathlib.Path, meta: dict[str, Any]) -> MetaDataset:
    """Read what `write_chunk` wrote.

    Raises:
      InputError: if the file is not such a file, or was made for other candidates,
        descriptions or scores.
    """
    try:
        with path.open("rb") as whole, np.load(whole, allow_pickle=False) as file:
            found = json.loads(str(file["signature"]))
            data = MetaDataset(*(file[name] for name in MetaDataset._fields))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a part of a jmeta meta-dataset, or cut short ({error}); "
            "delete it, and it is made again."
        ) from error
    if found != meta:
        raise InputError(
            f"{path}: was made for other candidates or descriptions than this version "
            "of jmeta uses; choose another --out folder."
        )
    return data
