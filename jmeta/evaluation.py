"""Judging recommendations on a meta-dataset: folds, regret and normalised PAR10.

Host side, NumPy. The floors that stand beside every result are in `floors.py`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jmeta.data.records import MetaDataset

__all__ = [
    "Recommended",
    "Summary",
    "by_regret",
    "delayed",
    "grouped_folds",
    "mean_costs",
    "normalised_regret",
    "objective",
    "paid",
    "scores",
    "splits",
    "summary",
    "task_values",
]

_SIZES = (1, 5, 10)
"""How many of the first recommendations regret is told of."""


class Recommended(NamedTuple):
    """A method's answer for every task, each given by the fold that tests it.

    Attributes:
      order: `(tasks, k)` places of candidates, best first.
      charged: `(tasks,)` seconds spent before the first choice could run, on
        descriptions and on runs that did not end well; 0 where it was made at once.
    """

    order: np.ndarray
    charged: np.ndarray


class Summary(NamedTuple):
    """A mean and the ends of its 95% interval."""

    mean: float
    low: float
    high: float


def grouped_folds(
    families: Int[np.ndarray, " tasks"], num_folds: int, seed: int
) -> Int[np.ndarray, " tasks"]:
    """Folds from 0 that keep families together and have nearly the same sizes.

    Families are shuffled, then dealt from the largest to the smallest, each to the
    fold that has the fewest tasks so far.

    Args:
      families: equal numbers stay together.
      num_folds: at least 2; as many as there are families if these are fewer.

    Raises:
      ValueError: if `num_folds` is below 2, or there is only one family, which leaves
        nothing to learn from.
    """
    if num_folds < 2:
        raise ValueError(
            f"grouped_folds: num_folds must be at least 2, got {num_folds}."
        )
    _, family, counts = np.unique(families, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(
            f"grouped_folds: {len(families)} tasks of {len(counts)} family cannot be "
            "split; at least 2 families are needed."
        )
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    sizes = np.zeros(min(num_folds, len(counts)), dtype=int)
    fold_of = np.empty(len(counts), dtype=int)
    for place in shuffled[np.argsort(-counts[shuffled], kind="stable")]:
        fold_of[place] = sizes.argmin()
        sizes[fold_of[place]] += counts[place]
    return fold_of[family]


def splits(
    folds: Int[np.ndarray, " tasks"],
) -> Iterator[tuple[Bool[np.ndarray, " tasks"], Bool[np.ndarray, " tasks"]]]:
    """Training and test tasks of each fold, in order.

    A task in no fold (-1) is never tested and always trained on.

    Raises:
      ValueError: if a fold leaves nothing to train on, or there is none.
    """
    places = np.unique(folds[folds >= 0])
    if not len(places) or (folds == places[0]).all():
        raise ValueError(
            f"splits: {len(places)} folds over {len(folds)} tasks leave nothing to "
            "train on or to test; give at least 2 folds."
        )
    for place in places:
        yield folds != place, folds == place


def by_regret(data: MetaDataset) -> bool:
    """Whether regret judges the choices: costs are no runtimes, folds not official.

    Otherwise it is nPAR10, also of qualities that come with official folds (ASlib).
    """
    return data.metric.cutoff is None and data.folds is None


def mean_costs(
    costs: Float[np.ndarray, "tasks candidates"],
) -> Float[np.ndarray, " candidates"]:
    """Each candidate's mean over the tasks it was run on; infinite if there is none."""
    known = ~np.isnan(costs)
    means = np.full(costs.shape[1], np.inf)
    total = np.where(known, costs, 0.0).sum(axis=0)
    np.divide(total, known.sum(axis=0), out=means, where=known.any(axis=0))
    return means


def normalised_regret(
    costs: Float[np.ndarray, "tasks candidates"],
) -> Float[np.ndarray, "tasks candidates"]:
    """How far each candidate is from the task's best, in units of best to worst.

    In [0, 1], and NaN where it was never run. 0 on tasks whose candidates are equal,
    which are also those that differ by less than a billionth of what they do on the
    median task: such differences are rounding.
    """
    best = np.fmin.reduce(costs, axis=1, keepdims=True)
    span = np.fmax.reduce(costs, axis=1, keepdims=True) - best
    differ = span > 0
    if differ.any():
        differ &= span > 1e-9 * np.median(span[differ])
    return np.where(differ, (costs - best) / np.where(differ, span, 1.0), costs - costs)


def objective(
    data: MetaDataset, costs: Float[np.ndarray, "tasks candidates"] | None = None
) -> Float[np.ndarray, "tasks candidates"]:
    """What a choice should keep low: the regret where it judges, otherwise costs.

    Args:
      costs: in place of the data's own.
    """
    costs = data.costs if costs is None else costs
    return normalised_regret(costs) if by_regret(data) else costs


def paid(
    data: MetaDataset, seconds: Float[np.ndarray, " tasks"]
) -> Float[np.ndarray, "tasks candidates"]:
    """What it costs to choose each candidate, `seconds` having been spent before.

    A missing run costs the most, so that to choose it does not pay: ten cutoffs, or
    the task's highest cost. Where costs are no runtimes, seconds count nothing.
    """
    cutoff = data.metric.cutoff
    if cutoff is None:
        worst = np.fmax.reduce(data.costs, axis=1, keepdims=True)
        return objective(data, np.where(np.isnan(data.costs), worst, data.costs))
    costs = np.where(np.isnan(data.costs), 10 * cutoff, data.costs)
    return delayed(costs, seconds[:, None], cutoff)


def delayed(
    costs: Float[np.ndarray, "..."], seconds: Float[np.ndarray, "..."], cutoff: float
) -> Float[np.ndarray, "..."]:
    """PAR10 of runs that start late, and fail if they then end after the cutoff."""
    late = costs + seconds
    # Means over repetitions may lie above the cutoff without a second's charge.
    fails = (costs <= cutoff) & (late > cutoff)
    return np.where(fails, 10 * cutoff, np.minimum(late, 10 * cutoff))


def _gaps(
    data: MetaDataset, folds: np.ndarray, recommended: Recommended
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the choice and the single best cost above the oracle, and who is judged."""
    rows = np.arange(len(data.tasks))
    costs = paid(data, np.zeros(len(rows)))
    oracle = np.fmin.reduce(data.costs, axis=1)
    judged = (folds >= 0) & data.solved.any(axis=1)
    chosen = paid(data, recommended.charged)[rows, recommended.order[:, 0]]
    single = np.zeros(len(data.tasks), dtype=int)
    for train, test in splits(folds):
        single[test] = mean_costs(data.costs[train]).argmin()
    return chosen - oracle, costs[rows, single] - oracle, judged


def _npar10(
    data: MetaDataset, folds: np.ndarray, recommended: Recommended
) -> np.ndarray:
    chosen, single, judged = _gaps(data, folds, recommended)
    values = np.full(len(data.tasks), np.nan)
    _, fold, counts = np.unique(folds[judged], return_inverse=True, return_counts=True)
    # With these weights a mean over tasks is the mean over folds of the folds' means.
    weights = judged.sum() / (len(counts) * counts[fold])
    gains, scale = weights * chosen[judged], _mean(weights * single[judged])
    values[judged] = gains / scale if scale > 0 else np.where(gains > 0, np.inf, 0.0)
    return values


def task_values(
    data: MetaDataset, folds: Int[np.ndarray, " tasks"], recommended: Recommended
) -> dict[str, Float[np.ndarray, " tasks"]]:
    """What each task adds to the scores, which are the means of these.

    Returns:
      The names of `scores`; NaN on tasks that are not judged: those in no fold and,
      for nPAR10, those that nobody solves.

    Raises:
      ValueError: as `scores`.
    """
    _check(data, folds, recommended)
    if not by_regret(data):
        return {"npar10": _npar10(data, folds, recommended)}
    regret = paid(data, recommended.charged)
    best = np.minimum.accumulate(
        np.take_along_axis(regret, recommended.order, axis=1), axis=1
    )
    return {
        f"regret@{size}": np.where(folds >= 0, best[:, size - 1], np.nan)
        for size in _SIZES
        if size <= len(data.candidates)
    }


def _check(data: MetaDataset, folds: np.ndarray, recommended: Recommended) -> None:
    order, charged = recommended
    tasks, candidates = data.costs.shape
    needed = min(max(_SIZES), candidates) if by_regret(data) else 1
    if folds.shape != (tasks,) or charged.shape != (tasks,):
        raise ValueError(
            f"scores: folds and charged must have shape ({tasks},), got {folds.shape} "
            f"and {charged.shape}."
        )
    if order.ndim != 2 or len(order) != tasks or order.shape[1] < needed:
        raise ValueError(
            f"scores: order must have shape ({tasks}, {needed} or more), got "
            f"{order.shape}."
        )
    if order.min() < 0 or order.max() >= candidates:
        raise ValueError(
            f"scores: order must hold places in [0, {candidates}), got "
            f"{order.min()} to {order.max()}."
        )
    if not (charged >= 0).all():
        raise ValueError("scores: charged must hold seconds from 0, without NaN.")


def scores(
    data: MetaDataset, folds: Int[np.ndarray, " tasks"], recommended: Recommended
) -> dict[str, float]:
    """Scores of one method on one split into folds; lower is better.

    Where `by_regret`: `regret@1`, `regret@5` and `regret@10`, as far as there are as
    many candidates: (best - best of the first k) / (best - worst) per task, 0 if all
    candidates are equal, then the mean over tasks. A missing run is as bad as the
    worst.

    Otherwise `npar10`: (choice - oracle) / (single best - oracle), each the mean over
    folds of the mean cost over a fold's tasks. 0 is the oracle, 1 the single best,
    which is the candidate of the smallest mean cost over the fold's training tasks
    (over the runs that are there). Tasks that nobody solves are left out, and so are
    folds of nothing else. For runtimes the charged seconds come before the choice's
    run, which fails if that ends after the cutoff; to choose a missing run costs ten
    cutoffs, or the task's worst cost where costs are no runtimes. If the single best
    is the oracle everywhere, the score is 0 for a choice that is too and infinite for
    any other; NaN if no task is solved.

    Args:
      folds: from 0, -1 where a task is in none; such tasks are not tested.

    Raises:
      ValueError: if shapes or places do not fit, or a fold leaves nothing to train on.

    Source: Bischl et al., 2016, https://arxiv.org/abs/1506.02465, section 5; regret as
    Feurer et al., 2022, https://arxiv.org/abs/2007.04074.
    """
    values = task_values(data, folds, recommended)
    return {name: _mean(value[~np.isnan(value)]) for name, value in values.items()}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def summary(values: Sequence[float] | Float[np.ndarray, " n"]) -> Summary:
    """Mean and 95% Student-t interval of values that stand for the same thing.

    Values over seeds give the spread that another seed of folds or of the method
    would show, not that of other tasks; for these give `task_values`, whose NaN are
    left out here.

    Returns:
      Low and high are NaN of a single value, which says nothing about its spread, and
      where the mean is no finite number.
    """
    from scipy.special import stdtrit  # Slow to import.

    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    mean = _mean(known)
    if len(known) < 2 or not math.isfinite(mean):
        return Summary(mean=mean, low=math.nan, high=math.nan)
    half = float(stdtrit(len(known) - 1, 0.975))
    half *= float(known.std(ddof=1)) / math.sqrt(len(known))
    return Summary(mean=mean, low=mean - half, high=mean + half)
