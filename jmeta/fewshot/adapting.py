"""A few-shot model on a new task: from labelled rows to predictions of others."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jmeta.data.collection import unit_of
from jmeta.data.columns import levels_of, numbers_of, quote
from jmeta.data.target import known_rows
from jmeta.errors import InputError
from jmeta.fewshot.model import Answer, FewShotModel
from jmeta.fewshot.samples import Samples
from jmeta.tasks import Task, bucket, pad_examples

__all__ = ["Adapted", "adapt"]

_CHUNK = 1024
"""Query rows that are predicted at once."""


class Adapted(NamedTuple):
    """Predictions of one query.

    Attributes:
      table: a row each, in the order of the query.
      notes: what a reader of it should know, as sentences.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]


def _classes_of(
    y: pd.Series, known: tuple[str, ...], positive: str | None
) -> tuple[np.ndarray, list[str]]:
    """Places of the labels, and the classes: in the order of those that were trained on
    where they are called alike, else sorted, and a positive one last."""
    codes, levels = levels_of(y, str(y.name))
    names = sorted(levels)
    if set(names) <= set(known):
        names = list(known)
    if len(levels) < 2:
        raise InputError(
            f"the support holds the class {quote(levels[0])} alone; at least one row "
            "of another class is needed to tell them apart."
        )
    if positive is not None:
        if positive not in names or len(names) != 2:
            raise InputError(
                f"--positive must name one of two classes, which here are "
                f"{', '.join(map(quote, names))}; got {quote(positive)}."
            )
        names = [name for name in names if name != positive] + [positive]
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[level] for level in levels])[codes].astype(np.int32), names


def _answers(
    model: FewShotModel, x: np.ndarray, y: np.ndarray, query: np.ndarray
) -> Answer:
    """Predictions of all query rows, some at a time."""
    support = pad_examples(x, y, length=bucket(len(x), "rows"))
    length = min(_CHUNK, bucket(len(query), "rows"))
    found = []
    for first in range(0, len(query), length):
        part = query[first : first + length]
        nothing = np.zeros(len(part), y.dtype)
        asked = pad_examples(part, nothing, length=length)
        task = Task(support, asked, jnp.zeros(1))
        found.append(model.answers(jax.tree.map(lambda leaf: leaf[None], task)))
    # Padding comes last, behind all chunks.
    return jax.tree.map(
        lambda *leaves: np.concatenate([leaf[0] for leaf in leaves])[: len(query)],
        *found,
    )


def _notes(model: FewShotModel, rows: int, classes: int) -> list[str]:
    """Where predictions are less sure than they say."""
    seen = np.asarray(model.calibration.rows)
    notes = []
    if not seen[0] <= rows <= seen[-1]:
        notes.append(
            f"The support has {rows} rows, and how sure predictions are was learnt "
            f"from supports of {seen[0]} to {seen[-1]}; probabilities may be off."
        )
    usual = model.plan.ways or 2
    if model.recipe.kind == "classes" and classes != usual:
        notes.append(
            f"The support has {classes} classes, and how sure predictions are was "
            f"learnt from tasks with {usual}; probabilities may be off."
        )
    return notes


def _sized(model: FewShotModel, x: np.ndarray, what: str) -> np.ndarray:
    """Rows of the shape that the model takes."""
    wanted = tuple(model.reader["row"])
    if model.recipe.form != "fingerprint" and x.shape[1:] != wanted:
        raise InputError(
            f"the rows of the {what} have the shape {x.shape[1:]}, where the model was "
            f"trained on rows of {wanted}."
        )
    return x.astype(np.float32) * unit_of(model.recipe.form)


def _with_slots(x: np.ndarray, slots: int) -> np.ndarray:
    """Fingerprints with room for more entries."""
    return np.pad(x, [(0, 0), (0, slots - x.shape[1]), (0, 0)])


def adapt(
    model: FewShotModel,
    support: Samples,
    query: Samples,
    *,
    coverage: float | None = None,
    positive: str | None = None,
) -> Adapted:
    """Adapt to the support, and predict the query.

    Args:
      model: that was trained.
      support: rows with labels; those without are left out.
      query: rows to predict.
      coverage: the share of the queries that is to be answered, over tasks like those
        that were held out in training; None answers all.
      positive: which of two classes is the second one, for algorithms that do not treat
        both alike.

    Returns:
      For classes `prediction`, one column `p(class)` a class, `uncertainty`: the chance
      that the prediction is wrong. For numbers `prediction`, the ends `low` and `high`
      of a 90 % interval, `uncertainty`: the standard deviation, all in the unit of the
      support. With a coverage `abstain`: yes or no; where it is yes there is no
      prediction.

    Raises:
      InputError: if the support has too few rows or one class, or the rows are of
        another shape than those trained on.
    """
    if support.y is None:
        raise ValueError("adapt: the support has no labels.")
    if coverage is not None and not 0 < coverage <= 1:
        raise InputError(f"--coverage must be above 0 and at most 1, got {coverage}.")
    known = np.asarray(known_rows(support.y))
    if known.sum() < 2:
        raise InputError(
            f"the support has {known.sum()} labelled row(s); at least 2 are needed."
        )
    x = _sized(model, support.x[known], "support")
    asked = _sized(model, query.x, "query")
    if model.recipe.form == "fingerprint":
        slots = max(x.shape[1], asked.shape[1])
        x, asked = _with_slots(x, slots), _with_slots(asked, slots)
    y = pd.Series(support.y[known])
    out = query.names.copy()
    if model.recipe.kind == "number":
        values = numbers_of(y, str(y.name), "number").astype(np.float32)
        if not np.isfinite(values).all() or values.min() == values.max():
            raise InputError(
                f"the labels {quote(str(y.name))} must be finite numbers, not all of "
                "them equal."
            )
        answer = _answers(model, x, values, asked)
        out["prediction"] = answer.probs
        out["low"], out["high"] = (
            answer.probs - answer.reach,
            answer.probs + answer.reach,
        )
        classes = 0
    else:
        labels, names = _classes_of(y, tuple(model.reader["classes"]), positive)
        classes = len(names)
        model = model.for_classes(classes)
        answer = _answers(model, x, labels, asked)
        best = np.argmax(answer.probs, axis=1)
        out["prediction"] = np.array(names, dtype=object)[best]
        for place, name in enumerate(names):
            out[f"p({name})"] = answer.probs[:, place]
    out["uncertainty"] = answer.std
    notes = _notes(model, int(known.sum()), classes)
    if not known.all():
        notes.append(f"{(~known).sum()} rows of the support have no label: left out.")
    if coverage is not None:
        silent = model.abstains(
            np.asarray(answer.confidence), int(known.sum()), coverage
        )
        out["abstain"] = np.where(silent, "yes", "no")
        out["prediction"] = out["prediction"].mask(silent)
        notes.append(
            f"{silent.sum()} of {len(silent)} predictions are left empty as too "
            f"uncertain; over tasks like those of training {1 - coverage:.0%} would be."
        )
    return Adapted(table=out, notes=tuple(notes))
