"""Meta-datasets from tables: each is described, and every candidate cross-validated.

What one table gave is kept as a file of its own until all are measured, so that a
build that was stopped goes on. `jmeta.build_estimators` does the same with
scikit-learn's estimators.
"""

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jmeta import __version__, learners, metadata, metrics
from jmeta.candidates import default_candidates
from jmeta.crossval import NUM_FOLDS, cross_folds, cross_validate
from jmeta.data.records import MetaDataset, Metric
from jmeta.describe import names
from jmeta.errors import InputError
from jmeta.recommend import describe_table
from jmeta.score import Candidate
from jmeta.survey import LEAST_TASKS, Report, Source, read_source
from jmeta.tasks import Folds, Table, bucket
from jmeta.types import Array

__all__ = [
    "candidate_settings",
    "check_metric",
    "mean_scores",
    "measure_folder",
    "record",
    "split_table",
]


def split_table(table: Table, folds: int, seed: int) -> Folds:
    """The folds of one table, in which every class that is asked for was shown."""
    split = cross_folds(seed, table, folds)
    y, support = np.asarray(table.y), np.asarray(split.support)
    query = np.asarray(split.query)
    if y.dtype.kind != "f":
        # A class that the support lacks cannot be predicted: it would measure chance.
        query = query & np.stack([np.isin(y, y[rows]) for rows in support])
    return Folds(support=split.support, query=jnp.asarray(query))


@jax.jit
def _fold_scores(predictions: Array, y: Array, query: Array) -> Array:
    """Scores `(candidates, folds, scores)` of out-of-fold predictions."""
    over_folds = jax.vmap(metrics.score_all, in_axes=(None, None, 0))
    return jax.vmap(over_folds, in_axes=(0, None, None))(predictions, y, query)


def mean_scores(predictions: np.ndarray, table: Table, split: Folds) -> np.ndarray:
    """Scores `(candidates, scores)` of out-of-fold predictions, means over the folds.

    Errors of a number are in units of the target's deviation, so that tables can be
    compared. NaN where a score is not finite.
    """
    query = np.asarray(split.query)
    asked = query.any(axis=1)
    if not asked.any():
        kind = learners.CLASSES if predictions.ndim == 3 else learners.NUMBER
        return np.full((len(predictions), len(metrics.SCORES[kind])), np.nan)
    found = _fold_scores(jnp.asarray(predictions), table.y, split.query)
    scores = np.array(found)[:, asked].mean(axis=1)
    if predictions.ndim == 2:
        y = np.asarray(table.y)[np.asarray(table.mask)]
        scores[:, :2] /= max(float(np.std(y)), 1e-12)
    return np.where(np.isfinite(scores), scores, np.nan)


def _measure(
    source: Source, candidates: Sequence[Candidate], folds: int, seed: int
) -> metadata.MetaDataset:
    """What one table gives: a meta-dataset of one task."""
    _, encoded = read_source(source.path, source.target, source.kind, seed)
    table = encoded.table
    padded = bucket(encoded.num_classes, "classes")
    split = split_table(table, folds, seed)
    models = [(c.learner, c.unit) for c in candidates if c.unit is not None]
    predictions, _ = cross_validate(models, table, padded, split, seed)
    return metadata.MetaDataset(
        descriptions=describe_table(table, source.kind, padded)[None],
        scores=mean_scores(predictions, table, split)[None].astype(np.float32),
        rows=np.array([int(table.mask.sum())]),
    )


def measure_folder(
    sources: Sequence[Source],
    parts: Path,
    *,
    folds: int = NUM_FOLDS,
    seed: int = 0,
    report: Report | None = None,
) -> tuple[metadata.MetaDataset, tuple[Candidate, ...]]:
    """Describe tables, and cross-validate every fixed default candidate on each.

    Args:
      sources: as `survey` gives them, of one kind.
      parts: a folder of one file a table. What is there already is not measured again,
        if the table, the candidates, the folds, the seed and jmeta are the same.
      folds: of the cross-validation.
      seed: of folds, of learners that draw, and of the subsample of long tables.
      report: hears how far it is.

    Returns:
      All scores in the order of `sources`, and the candidates.
    """
    kind = sources[0].kind
    candidates = tuple(c for c in default_candidates(kind) if c.unit is not None)
    about = metadata.signature(kind, candidates)
    about |= {"folds": folds, "seed": seed, "version": __version__}
    measured: dict[str, metadata.MetaDataset] = {}
    shape = None
    for done, source in enumerate(sorted(sources, key=lambda s: (s.shape, s.name)), 1):
        key = json.dumps([about, source.digest, source.target], sort_keys=True)
        path = parts / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
        if not path.exists():
            if shape not in (None, source.shape):
                # Hundreds of sizes would fill the memory maps with compiled programs.
                jax.clear_caches()
            shape = source.shape
            metadata.write_chunk(path, _measure(source, candidates, folds, seed), about)
        measured[source.name] = metadata.read_chunk(path, about)
        if report is not None:
            report("tables", done, len(sources), {})
    return metadata.concatenate([measured[s.name] for s in sources]), candidates


def candidate_settings(candidates: Sequence[Candidate]) -> dict[str, dict[str, Any]]:
    """The learner and settings of every fixed candidate, by a name that tells them."""
    out: dict[str, dict[str, Any]] = {}
    for learner, unit in candidates:
        if unit is None:
            raise ValueError(
                f"candidate_settings: {learner!r} has no settings of its own."
            )
        settings = learners.get(learner, 2).space.readable(unit)
        told = (
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in settings.items()
        )
        name = " ".join([learner, *told])
        out[name if name not in out else f"{name} #{len(out)}"] = {
            "learner": learner
        } | settings
    return out


def check_metric(metric: str | None, kind: str | None) -> None:
    """See that a kind of target, or any if it is None, has a score of that name.

    Raises:
      InputError: if not.
    """
    known = [
        name for k, some in metrics.SCORES.items() if kind in (None, k) for name in some
    ]
    if metric is not None and metric not in known:
        told = "" if kind is None else f" for a target of kind {kind!r}"
        raise InputError(f"metric must be one of {known}{told}, got {metric!r}.")


def record(
    descriptions: np.ndarray,
    scores: np.ndarray,
    *,
    name: str,
    kind: str,
    metric: str | None,
    tasks: Sequence[str],
    families: Mapping[str, Hashable] | None,
    candidates: Mapping[str, Mapping[str, Any]],
) -> MetaDataset:
    """The meta-dataset of what was measured; tasks without any score are left out.

    Args:
      descriptions: `(tasks, meta)`.
      scores: `(tasks, candidates, scores)` in the order of `jmeta.metrics.SCORES`.
      name: of the meta-dataset.
      kind: of target.
      metric: the score that costs are made of; None for the first of the kind.
      tasks: their names.
      families: by task; a task that it lacks is a family of its own.
      candidates: their settings by name.

    Raises:
      InputError: if fewer than two tasks have a score, or there is no such metric.
    """
    check_metric(metric, kind)
    metric = metric or metrics.SCORES[kind][0]
    maximize = metric in metrics.HIGHER_IS_BETTER
    # By way of the shortest texts: 0.3 rather than 0.30000001192092896.
    values = scores[:, :, metrics.SCORES[kind].index(metric)].astype(np.float32)
    values = values.astype(str).astype(np.float64)
    known = np.asarray(~np.isnan(values).all(axis=1))
    if known.sum() < LEAST_TASKS:
        raise InputError(
            f"{known.sum()} tables have a score; a meta-dataset needs {LEAST_TASKS}."
        )
    kept = [task for task, keep in zip(tasks, known) if keep]
    costs = 0.0 - values[known] if maximize else values[known]
    numbers: dict[tuple[Hashable, ...], int] = {}
    stated = families or {}
    keys = [(stated[task],) if task in stated else (task, "alone") for task in kept]
    columns = dict.fromkeys(key for some in candidates.values() for key in some)
    settings = {
        key: pd.Series([some.get(key) for some in candidates.values()], dtype=object)
        for key in columns
    }
    return MetaDataset(
        name=name,
        tasks=tuple(kept),
        families=np.array([numbers.setdefault(key, len(numbers)) for key in keys]),
        candidates=tuple(candidates),
        features=names(kind),
        descriptions=descriptions[known].astype(str).astype(np.float64),
        costs=costs,
        metric=Metric(metric, maximize, None),
        settings=pd.DataFrame(settings),
        groups=(),
        group_costs=np.zeros((len(kept), 0)),
        solved=~np.isnan(costs),
        folds=None,
    )
