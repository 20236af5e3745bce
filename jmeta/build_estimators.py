"""Meta-datasets from anybody's scikit-learn estimators, cross-validated by joblib.

What runs in the workers takes and gives plain arrays and imports no JAX: everything
else of jmeta is imported when `build_with` is called. Scores are computed here, by the
same functions as for jmeta's own learners.
"""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone

from jmeta.data.records import MetaDataset
from jmeta.errors import InputError
from jmeta.publish import first_line

__all__ = ["build_with", "out_of_fold"]

_PLAIN = (bool, int, float, str)


def build_with(
    estimators: Mapping[str, Any],
    tables: Mapping[str, tuple[Any, Any]],
    *,
    metric: str | None = None,
    folds: int = 5,
    seed: int = 0,
    n_jobs: int | None = None,
    kind: str | None = None,
    families: Mapping[str, Hashable] | None = None,
    name: str = "tables",
) -> MetaDataset:
    """Cross-validate scikit-learn estimators on tables, and describe these.

    An estimator gets features as they are given, a data frame or an array, without
    the rows that lack a target, and classes as whole numbers from 0 in sorted order. It
    must bring its own encoding and imputation where they are needed. One run is all
    folds of an estimator on a table; runs go through `joblib.Parallel`, so that
    `joblib.parallel_config` chooses the back-end. An estimator that fails on a table
    has no cost there, and a warning names both.

    Args:
      estimators: two or more by name. They are cloned, never fitted themselves.
      tables: two or more by name: features and target.
      metric: one of `jmeta.metrics.SCORES`; None for log_loss or rmse. Errors of a
        number are in units of its deviation on the table.
      folds: of the cross-validation; the same for all estimators.
      seed: decides folds, and the draws of estimators whose `random_state` is None.
      n_jobs: runs at a time; None for what joblib's configuration says.
      kind: of target, `"classes"` or `"number"`; None infers it from the tables.
      families: by table; tables of one family never stand on both sides of a split. A
        table that it lacks is a family of its own.
      name: of the meta-dataset.

    Returns:
      What `jmeta.data.metadataset.write_folder` writes.

    Raises:
      InputError: if a table cannot be used, tables differ in kind, or fewer than two
        have a score.
      ValueError: if there are too few estimators or folds, or one of them gives no
        probabilities and the metric needs them.
    """
    from jmeta import build

    if len(estimators) < 2 or folds < 2:
        raise ValueError(
            "build_with: needs at least 2 estimators and 2 folds, got "
            f"{len(estimators)} and {folds}."
        )
    prepared: dict[str, _Prepared] = {}
    for task, (x, y) in tables.items():
        try:
            prepared[task] = _prepared(x, y, kind=kind, folds=folds, seed=seed)
        except InputError as error:
            raise InputError(f"build_with: table {task!r}: {error}") from error
    kinds: set[str] = {table.encoded.target.kind for table in prepared.values()}
    if len(kinds) != 1:
        raise InputError(
            f"build_with: needs tables with one kind of target, got {sorted(kinds)} in "
            f"{len(prepared)} tables; say which with kind=, or drop some."
        )
    (found,) = kinds
    build.check_metric(metric, found)
    _check_estimators(estimators, found, metric)
    runs = (
        delayed(out_of_fold)(estimator, t.x, t.y, t.fold, t.num_classes, seed)
        for t in prepared.values()
        for estimator in estimators.values()
    )
    parallel: Any = Parallel(n_jobs=n_jobs)
    ended = iter(parallel(runs))
    scores = []
    for task, table in prepared.items():
        outs = [next(ended) for _ in estimators]
        for estimator, (_, why) in zip(estimators, outs):
            if why:
                warnings.warn(
                    f"build_with: estimator {estimator!r} failed on table {task!r}, "
                    f"so that run is missing: {why}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        scores.append(_scores(table, [out for out, _ in outs]))
    return build.record(
        np.stack([table.description for table in prepared.values()]),
        np.stack(scores),
        name=name,
        kind=found,
        metric=metric,
        tasks=list(prepared),
        families=families,
        candidates={name: _settings(some) for name, some in estimators.items()},
    )


class _Prepared(NamedTuple):
    """A table as estimators see it, beside how jmeta sees it.

    Attributes:
      x, y: the rows with a target; classes as whole numbers from 0.
      fold: of each row.
      num_classes: 0 for a number.
      encoded: the same rows, padded.
      folds: as masks, less what cannot be judged.
      description: `(meta,)`.
    """

    x: Any
    y: np.ndarray
    fold: np.ndarray
    num_classes: int
    encoded: Any
    folds: Any
    description: np.ndarray


def _prepared(x: Any, y: Any, *, kind: str | None, folds: int, seed: int) -> _Prepared:
    """Encode and describe a table, and deal its rows to the folds."""
    from jmeta.build import split_table
    from jmeta.data.columns import numbers_of
    from jmeta.data.encode import known_rows
    from jmeta.data.tables import as_frame
    from jmeta.pipeline import encode_table
    from jmeta.recommend import describe_table

    frame, target = as_frame(x), pd.Series(np.asarray(y), name="target")
    if len(target) != len(frame):
        raise InputError(
            f"{len(frame)} rows and {len(target)} values of the target do not go "
            "together."
        )
    frame = frame.set_axis(target.index, axis=0)
    encoded = encode_table(frame, target, kind=kind, seed=seed)
    known = known_rows(target)
    rows = int(known.sum())
    if rows < 2 * folds:
        raise InputError(f"{rows} rows are too few for {folds} folds.")
    coder = encoded.target
    if coder.kind == "number":
        values = numbers_of(target, "target", "number")[known]
    else:
        values = coder.encode(target.loc[known])
    split = split_table(encoded.full, folds, seed)
    return _Prepared(
        x=x[known] if isinstance(x, np.ndarray) else frame.loc[known],
        y=values,
        fold=np.argmin(np.asarray(split.support)[:, :rows], axis=0),
        num_classes=len(coder.classes),
        encoded=encoded,
        folds=split,
        description=describe_table(encoded.table, coder.kind, encoded.num_classes),
    )


def _scores(table: _Prepared, outs: Sequence[np.ndarray | None]) -> np.ndarray:
    """Scores `(estimators, scores)`, NaN where nothing was predicted."""
    from jmeta.build import mean_scores
    from jmeta.tasks import bucket

    full, target = table.encoded.full, table.encoded.target
    shape: tuple[int, ...] = (len(outs), *full.y.shape)
    if table.num_classes:
        shape = (*shape, bucket(table.num_classes, "classes"))
    predictions = np.zeros(shape, np.float32)
    for place, out in enumerate(outs):
        if out is None:
            continue
        if table.num_classes:
            predictions[place, : len(out), : table.num_classes] = out
        else:
            out = (out - target.centre) / target.scale
            predictions[place, : len(out)] = np.clip(out, -1e15, 1e15)
    scores = mean_scores(predictions, full, table.folds)
    scores[[out is None for out in outs]] = np.nan
    return scores


def out_of_fold(
    estimator: Any,
    x: Any,
    y: np.ndarray,
    fold: np.ndarray,
    num_classes: int,
    seed: int,
) -> tuple[np.ndarray | None, str]:
    """Predict every row by an estimator that was fitted without the row's fold.

    Args:
      estimator: is cloned.
      x: features, an array or a data frame.
      y: classes in [0, num_classes), or numbers.
      fold: of each row.
      num_classes: 0 for a number.
      seed: for the draws of an estimator without a `random_state` of its own.

    Returns:
      Probabilities `(n, num_classes)` or numbers `(n,)`, and ""; or None, and why it
      failed.
    """
    try:
        out = np.zeros((len(y), num_classes) if num_classes else len(y))
        for number in np.unique(fold):
            support, query = fold != number, fold == number
            fitted = _fresh(estimator, seed).fit(_rows(x, support), y[support])
            out[query] = _predict(fitted, _rows(x, query), num_classes)
        if not np.isfinite(out).all():
            raise ValueError("its predictions are not all finite.")
    except Exception as error:  # Whatever somebody's estimator raises.
        return None, f"{type(error).__name__}: {first_line(error)}"
    return out.astype(np.float32) if num_classes else out, ""


def _rows(x: Any, rows: np.ndarray) -> Any:
    return x.loc[rows] if isinstance(x, pd.DataFrame) else x[rows]


def _fresh(estimator: Any, seed: int) -> Any:
    """A clone that is not fitted, whose draws are decided."""
    fresh: Any = clone(estimator)
    unset = {
        name: seed
        for name, value in fresh.get_params().items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return fresh.set_params(**unset) if unset else fresh


def _predict(fitted: Any, x: Any, num_classes: int) -> np.ndarray:
    if not num_classes:
        return np.asarray(fitted.predict(x), float).reshape(-1)
    if not hasattr(fitted, "predict_proba"):
        return np.eye(num_classes)[np.asarray(fitted.predict(x), int)]
    out = np.zeros((len(x), num_classes))
    # A fold may lack a class.
    out[:, np.asarray(fitted.classes_, int)] = fitted.predict_proba(x)
    return out


def _check_estimators(
    estimators: Mapping[str, Any], kind: str, metric: str | None
) -> None:
    if kind == "number" or metric == "balanced_accuracy":
        return
    for name, estimator in estimators.items():
        if not hasattr(estimator, "predict_proba"):
            raise ValueError(
                f"build_with: estimator {name!r} has no predict_proba, which "
                f"{metric or 'log_loss'} needs; choose metric='balanced_accuracy', or "
                "wrap it in CalibratedClassifierCV."
            )


def _settings(estimator: Any) -> dict[str, Any]:
    """The estimator's class and those of its parameters that are plain values."""
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in estimator.get_params().items()
        if _is_plain(value)
    }
    return {"learner": type(estimator).__name__} | plain


def _is_plain(value: Any) -> bool:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | list):
        return all(isinstance(part, _PLAIN) for part in value)
    return isinstance(value, _PLAIN) and value == value  # NaN is no setting.
