"""A meta-dataset evaluated: jmeta beside what people use today, on the same folds."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jmeta.data.records import MetaDataset
from jmeta.errors import InputError
from jmeta.evaluation import Recommended, by_regret, grouped_folds, scores, summary
from jmeta.floors import FLOORS, floors_for, recommend_by
from jmeta.selection.optimizer import WAYS, chosen_ways, has_settings, learn, propose
from jmeta.selection.presolve import presolved, schedules
from jmeta.selection.selector import recommend, select

__all__ = [
    "OPTIMIZER",
    "OURS",
    "PRESOLVED",
    "applies",
    "evaluate",
    "fits_of",
    "folds_of",
    "methods_for",
]

OURS = "jmeta"
PRESOLVED = "jmeta_presolved"
"""The same, once trained, with a schedule of short runs before."""

OPTIMIZER = "meta_optimizer"
"""Proposes settings instead; judged by the candidates nearest to them."""

NUM_FOLDS, SIZE = 10, 10

Report = Callable[[str, int, int, dict[str, Any]], None]
"""Told `(stage, done, total, numbers)`."""


def folds_of(data: MetaDataset, how: str | None, num_seeds: int) -> np.ndarray:
    """Folds `(seeds, tasks)`, -1 where a task is in none.

    Args:
      data: the meta-dataset.
      how: "official": those of the scenario, the same for every seed unless it has
        several repeats; "grouped": ten, drawn by the seed, that keep families
        together; None for the official ones where there are any.
      num_seeds: how many.

    Raises:
      InputError: if official folds are asked for and there are none, or tasks cannot
        be split.
    """
    how = how or ("grouped" if data.folds is None else "official")
    if how == "official":
        if data.folds is None:
            raise InputError(f"{data.name} has no official folds; use --folds grouped.")
        return data.folds[np.arange(num_seeds) % len(data.folds)]
    try:
        seeds = range(num_seeds)
        return np.stack([grouped_folds(data.families, NUM_FOLDS, s) for s in seeds])
    except ValueError as error:
        raise InputError(f"{data.name}: {error}") from error


def methods_for(data: MetaDataset, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """What `evaluate` compares: those wanted that can be run on such data.

    Args:
      data: the meta-dataset.
      wanted: names; () for all but forests of pairs, which take longer than everything
        else together.

    Raises:
      InputError: if there is no such method, or none can be run.
    """
    floors = (name for name in floors_for(data) if name != "forest_pairs")
    names = wanted or (OURS, OPTIMIZER, *floors)
    found = tuple(name for name in names if applies(name, data))
    if not found:
        raise InputError(
            f"{data.name}: {', '.join(names)} cannot be run on such data; leave "
            "--methods out for those that can."
        )
    return found


def applies(name: str, data: MetaDataset) -> bool:
    """Whether a method can be run on such data.

    Raises:
      InputError: if there is no such method.
    """
    if name not in (OURS, OPTIMIZER, *FLOORS):
        known = ", ".join((OURS, OPTIMIZER, *FLOORS))
        raise InputError(f"there is no method {name!r}; choose of {known}.")
    if name == OPTIMIZER:
        return by_regret(data) and has_settings(data)
    return name == OURS or FLOORS[name].applies(data)


def fits_of(folds: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """What every fold of every seed trains on, its key, and whom each seed's tasks ask.

    A task in no fold asks the seed's first fit, and is never judged.
    """
    places = [(s, np.unique(row[row >= 0])) for s, row in enumerate(folds)]
    train = np.concatenate([folds[s] != p[:, None] for s, p in places])
    keys = np.concatenate([1000 * s + p for s, p in places]).astype(np.uint32)
    asked, before = [], 0
    for seed, fold in places:
        asked.append(before + np.maximum(np.searchsorted(fold, folds[seed]), 0))
        before += len(fold)
    return train, keys, asked


def _optimized(data: MetaDataset, folds: np.ndarray) -> dict[str, Any]:
    """Scores of `OPTIMIZER`; folds of all seeds trained together."""
    start = time.perf_counter()
    train, keys, asked = fits_of(folds)
    learnt = learn(data, train, keys)
    made = [propose(learnt, fits).recommended for fits in asked]
    found = _told([scores(data, row, one) for row, one in zip(folds, made)])
    ways = chosen_ways(learnt.regrets, learnt.train)
    counts = np.bincount(ways, minlength=len(WAYS))
    return found | {
        "seconds": (time.perf_counter() - start) / len(folds),
        "fits": len(train),
        "ways": dict(zip(WAYS, counts.tolist())),
    }


def _ours(
    data: MetaDataset, folds: np.ndarray, presolve: bool, loss: str
) -> dict[str, Any]:
    """`OURS` and, if asked for, `PRESOLVED`; folds of all seeds trained together."""
    start, num_seeds = time.perf_counter(), len(folds)
    train, keys, asked = fits_of(folds)
    selected = select(data, train, keys, loss=loss)
    size, least = 1, -math.inf
    if by_regret(data):
        size, least = min(SIZE, len(data.candidates)), 0.0
    rows = np.tile(np.arange(len(data.tasks)), num_seeds)
    told = recommend(selected, np.concatenate(asked), size, least=least, rows=rows)
    made = [
        Recommended(*parts) for parts in zip(*(np.split(x, num_seeds) for x in told))
    ]
    found = _told([scores(data, row, one) for row, one in zip(folds, made)])
    seconds = (time.perf_counter() - start) / num_seeds
    count = {"abstained": int(selected.abstained.sum()), "fits": len(train)}
    told = {OURS: found | {"seconds": seconds} | count}
    if presolve and data.metric.cutoff is not None:
        schedule = schedules(data, selected)
        later = [presolved(data, schedule, *both) for both in zip(asked, made)]
        found = _told([scores(data, row, one) for row, one in zip(folds, later)])
        seconds = (time.perf_counter() - start) / num_seeds
        told[PRESOLVED] = found | {
            "seconds": seconds,
            "fits": len(train),
            "steps": float((schedule.seconds > 0).sum(axis=1).mean()),
            "schedule": float(schedule.seconds.sum(axis=1).mean()),
        }
    return told


def evaluate(
    data: MetaDataset,
    folds: np.ndarray,
    methods: Sequence[str],
    report: Report | None = None,
    *,
    presolve: bool = False,
    loss: str = "mixture",
) -> dict[str, Any]:
    """Scores of methods on a meta-dataset, as plain data.

    Args:
      data: the meta-dataset.
      folds: `(seeds, tasks)`, as `folds_of` gives them.
      methods: `OURS`, `OPTIMIZER` or names of `jmeta.floors.FLOORS`. A floor that
        draws nothing, on folds that all seeds share, is run once.
      report: told how far it is.
      presolve: of runtimes, tell `PRESOLVED` beside `OURS`, from the same training.
      loss: of the meta-classifier; see `jmeta.algorithms.losses`.

    Returns:
      `name`, `metric`, sizes, and for each method its mean scores over seeds, with
      `intervals` (95 %, over seeds), `by_seed`, `seconds` per seed, and
      `tasks_per_second`, counting the training tasks of all folds; for ours also how
      many fits `abstained`, of `OPTIMIZER` how many took which of the `ways`, and of
      `PRESOLVED` the fits' mean number of `steps` and the `schedule`'s mean seconds.
    """
    num_seeds = len(folds)
    found: dict[str, Any] = {}
    for place, name in enumerate(methods):
        if report is not None:
            report(data.name, place, len(methods), {})
        if name == OURS:
            found |= _ours(data, folds, presolve, loss)
            continue
        if name == OPTIMIZER:
            found[name] = _optimized(data, folds)
            continue
        start = time.perf_counter()
        values = [
            scores(data, row, recommend_by(name, data, row, seed))
            for seed, row in enumerate(folds)
        ]
        seconds = (time.perf_counter() - start) / num_seeds
        found[name] = _told(values) | {"seconds": seconds}
    if report is not None:
        report(data.name, len(methods), len(methods), {})
    train, _, _ = fits_of(folds)
    for one in found.values():
        seconds = num_seeds * max(one["seconds"], 1e-9)
        one["tasks_per_second"] = float(train.sum() / seconds)
    return {
        "name": data.name,
        "metric": "regret" if by_regret(data) else "npar10",
        "measured": data.metric.name,
        "tasks": len(data.tasks),
        "candidates": len(data.candidates),
        "features": len(data.features),
        "folds": len(np.unique(folds[0][folds[0] >= 0])),
        "seeds": num_seeds,
        "methods": found,
    }


def _told(values: list[dict[str, float]]) -> dict[str, Any]:
    whole = {name: summary([v[name] for v in values]) for name in values[0]}
    return {name: made.mean for name, made in whole.items()} | {
        "intervals": {name: [made.low, made.high] for name, made in whole.items()},
        "by_seed": {name: [v[name] for v in values] for name in values[0]},
    }
