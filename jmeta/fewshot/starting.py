"""From the settings of a run to what is trained, on what, and judged by what."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jmeta.data.collection import Collection
from jmeta.data.descriptors import scaling_of, with_descriptors
from jmeta.errors import InputError
from jmeta.fewshot.drawing import Plan
from jmeta.fewshot.recipes import Recipe, check_recipe, named
from jmeta.fewshot.sources import (
    Options,
    Source,
    described,
    read_tasks,
    with_levels,
)
from jmeta.fewshot.splits import apart, held_out

__all__ = ["Settings", "Start", "start"]

_USUAL = {"shots": (16, 32, 64), "query": 64}
_USUAL_WITH_WAYS = {"shots": (1, 5), "query": 15}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a run; those of `jmeta train fewshot`, by whose names errors are told."""

    algorithm: str
    data: Path
    valid: Path | None = None
    split: str | None = None
    kind: str | None = None
    target: tuple[str, ...] = ()
    task: str | None = None
    classes: tuple[str, ...] = ()
    size: int | None = None
    ways: int | None = None
    turn: bool = False
    shots: tuple[int, ...] | None = None
    query: int | None = None
    steps: int = 2000
    batch: int = 16
    holdout: float = 0.1
    lr: float = 1e-3
    inner_lr: float | None = None
    inner_steps: int | None = None
    descriptors: bool = False
    dropout: float = 0.0
    checkpoint_every: int = 200
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return {
            name: list(value)
            if isinstance(value, tuple)
            else str(value)
            if isinstance(value, Path)
            else value
            for name, value in dataclasses.asdict(self).items()
        }


class Start(NamedTuple):
    """What a run begins with.

    Attributes:
      recipe, plan: what is trained, and on what episodes.
      training, held: tasks, of families that differ.
      choosing: tasks that choose the checkpoint; None for those that are held out.
      reader: of rows like theirs.
      told: about them, as sentences.
    """

    recipe: Recipe
    plan: Plan
    training: Collection
    held: Collection
    choosing: Collection | None
    reader: dict[str, Any]
    told: tuple[str, ...]


def start(
    settings: Settings,
    *,
    cache: Path | None = None,
    report: Callable[..., None] | None = None,
) -> Start:
    """Read the tasks of a run, and part them.

    Args:
      settings: of the run.
      cache: the folder where descriptors of molecules are kept; None for nowhere.
      report: told `(stage, done, total, numbers)`.

    Raises:
      InputError: if a setting is out of range, or does not go with the tasks.
    """
    _check(settings)
    options = Options(
        split=settings.split,
        kind=settings.kind,
        targets=settings.target,
        task=settings.task,
        size=settings.size,
        classes=settings.classes,
        descriptors=settings.descriptors,
    )
    found = read_tasks(settings.data, "train", options)
    training, valid = found.data, None
    if settings.valid is not None:
        options = Options(kind=settings.kind, descriptors=settings.descriptors)
        valid = read_tasks(settings.valid, "valid", options, found.reader)
        training = apart(training, valid.data)
    left_out = len(found.data.tasks) - len(training.tasks)
    ways = _ways(found, settings.ways)
    training, held = held_out(training, settings.holdout, ways=ways, seed=settings.seed)
    reader = {**found.reader, "kind": found.kind}
    if settings.descriptors:
        known = described(found.smiles, cache, report)
        scaling = scaling_of(known[np.unique(training.rows)])
        x = with_descriptors(found.data.x, known, scaling)
        training, held = training._replace(x=x), held._replace(x=x)
        reader |= {"row": list(x.shape[1:]), "descriptors": scaling}
    if valid is not None:
        valid = with_levels(valid, reader, cache, report)
    recipe = _recipe(settings, found, ways, reader)
    told = f"Training on {len(training.tasks)} tasks, with {len(held.tasks)} held out"
    told += f" and {left_out} left out for their family." if left_out else "."
    return Start(
        recipe=recipe,
        plan=_plan(settings, found, ways),
        training=training,
        held=held,
        choosing=None if valid is None else valid.data,
        reader=reader,
        told=(*found.told, told),
    )


def _check(settings: Settings) -> None:
    named(settings.algorithm)
    counts = ("size", "query", "steps", "batch", "inner_steps", "checkpoint_every")
    for name in counts:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"{_option(name)} must be at least 1, got {value}.")
    for name in ("lr", "inner_lr"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{_option(name)} must be above 0, got {value}.")
    if not 0 <= settings.dropout < 1:
        raise InputError(
            f"--dropout must be at least 0 and below 1, got {settings.dropout}."
        )
    if not 0 < settings.holdout < 1:
        raise InputError(
            f"--holdout must be above 0 and below 1, got {settings.holdout}."
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _ways(found: Source, ways: int | None) -> int | None:
    """Classes of an episode; None where every task has the same two, or numbers."""
    if not found.pools:
        if ways is not None:
            raise InputError(
                "--ways is for tasks of many classes; these have two, or numbers."
            )
        return None
    most = max(map(len, found.data.classes))
    if ways is None:
        return min(5, most)
    if not 2 <= ways <= most:
        raise InputError(
            f"--ways must be from 2 to {most}, the classes of a task; got {ways}."
        )
    return ways


def _recipe(
    settings: Settings, found: Source, ways: int | None, reader: dict[str, Any]
) -> Recipe:
    form = found.data.form
    recipe = Recipe(
        algorithm=settings.algorithm,
        form=form,
        kind=found.kind,
        num_classes=2 if ways is None else ways,
        pixels=min(found.data.x.shape[1:3]) if form == "image" else 0,
        num_descriptors=len(reader.get("descriptors", {}).get("names", ())),
        # Encoded tables have few columns, and few tasks to learn from.
        hidden=(128, 128) if form == "numbers" else (512, 512),
        size=64 if form == "numbers" else 256,
        dropout=settings.dropout,
        steps=settings.steps,
        lr=settings.lr,
        inner_lr=settings.inner_lr,
        inner_steps=settings.inner_steps,
    )
    check_recipe(recipe)
    return recipe


def _plan(settings: Settings, found: Source, ways: int | None) -> Plan:
    usual = _USUAL if ways is None else _USUAL_WITH_WAYS
    shots = usual["shots"] if settings.shots is None else settings.shots
    least = 2 if ways is None else 1
    if min(shots) < least:
        raise InputError(f"--shots must be at least {least}, got {min(shots)}.")
    return Plan(
        kind=found.kind,
        ways=ways,
        shots=shots,
        query=usual["query"] if settings.query is None else settings.query,
        batch=settings.batch,
        turn=settings.turn and found.data.form == "image",
    )
