"""Which descriptions a meta-model chooses by: permutation importance.

Source: Breiman, 2001, https://doi.org/10.1023/A:1010933404324, section 10; on tasks
that the fit did not learn from.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jmeta.data.records import MetaDataset
from jmeta.errors import InputError
from jmeta.evaluation import paid, summary
from jmeta.floors import scaled_quantiles
from jmeta.selection.answers import Report, with_tasks
from jmeta.selection.attribution import varying
from jmeta.selection.explain import unit_of
from jmeta.selection.inputs import chunked, fits_at_once
from jmeta.selection.selector import select

__all__ = ["importance"]

ROWS = 4096
"""About how many shuffled tasks one fit predicts."""

ALIKE = 0.7
"""Rank correlation from which on descriptions tell the same."""

By = Literal["alike", "description", "step"]


class _Unit(NamedTuple):
    """Descriptions that are shuffled together; the first names them, unless a step."""

    name: str
    features: tuple[int, ...]


class _Plan(NamedTuple):
    """What is asked of which fit.

    Attributes:
      folds: `(seeds, tasks)`.
      units: `(units, features)` which descriptions each permutes.
      donors: `(seeds, shuffles, tasks)` whose descriptions each task is given; there
        are as many shuffles as units times repeats.
      seed, fold: of each fit.
      test: places of its test tasks, repeated to one length `(fits, length)`.
    """

    folds: Int[np.ndarray, "seeds tasks"]
    units: Bool[np.ndarray, "units features"]
    donors: Int[np.ndarray, "seeds shuffles tasks"]
    seed: Int[np.ndarray, " fits"]
    fold: Int[np.ndarray, " fits"]
    test: Int[np.ndarray, "fits length"]


class _Costs(NamedTuple):
    """What is paid on the test tasks of some fits; leaves have an axis of fits.

    Attributes:
      shuffled: for the choice by shuffled descriptions `(shuffles, length)`.
      plain: for the choice `(length,)`.
      single: for always the single best `(length,)`.
      abstained: whether the fit always returns it.
    """

    shuffled: np.ndarray
    plain: np.ndarray
    single: np.ndarray
    abstained: np.ndarray


def alike(
    descriptions: Float[np.ndarray, "tasks features"],
) -> list[Int[np.ndarray, " members"]]:
    """Places of descriptions that tell nearly the same, the most typical one first.

    Clusters by average linkage, in which absolute rank correlations are at least
    `ALIKE` on average; without descriptions that never vary.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # Slow to import.

    places = varying(descriptions)
    if len(places) < 2:
        return [np.array([place]) for place in places]
    scaled = scaled_quantiles(descriptions, np.ones(len(descriptions), bool))[:, places]
    scaled -= scaled.mean(axis=0)
    size = np.sqrt(np.sum(scaled**2, axis=0))
    scaled /= np.where(size > 0, size, 1.0)
    same = np.abs(scaled.T @ scaled)
    apart = np.maximum(1.0 - same, 0.0)[np.triu_indices(len(places), 1)]
    cluster = fcluster(linkage(apart, "average"), 1.0 - ALIKE, "distance")
    groups = [np.flatnonzero(cluster == number) for number in np.unique(cluster)]
    return [
        places[group[np.argsort(-same[np.ix_(group, group)].sum(1), kind="stable")]]
        for group in groups
    ]


def _units(data: MetaDataset, by: By) -> list[_Unit]:
    """What is shuffled together; the last is everything."""
    if by == "step":
        units = [_Unit(group.name, group.features) for group in data.groups]
    elif by == "alike":
        groups = [tuple(group.tolist()) for group in alike(data.descriptions)]
        units = [_Unit(data.features[group[0]], group) for group in groups]
    else:
        units = [_Unit(name, (place,)) for place, name in enumerate(data.features)]
    return [*units, _Unit("all descriptions", tuple(range(len(data.features))))]


def _plan(
    data: MetaDataset, folds: np.ndarray, units: list[_Unit], repeats: int
) -> _Plan:
    pairs = [(s, f) for s, row in enumerate(folds) for f in np.unique(row[row >= 0])]
    seed, fold = np.array(pairs).T
    test = [np.flatnonzero(folds[s] == f) for s, f in pairs]
    length = max(len(places) for places in test)
    used = np.zeros((len(units), len(data.features)), bool)
    for row, unit in zip(used, units):
        row[list(unit.features)] = True
    shape = len(folds), len(units) * repeats, 1
    tasks = np.tile(np.arange(len(data.tasks)), shape)
    return _Plan(
        folds=folds,
        units=used,
        donors=np.random.default_rng(0).permuted(tasks, axis=2),
        seed=seed,
        fold=fold,
        test=np.stack([np.resize(places, length) for places in test]),
    )


def _ask(
    data: MetaDataset, plan: _Plan, fits: np.ndarray, shuffles: np.ndarray
) -> _Costs:
    """Costs of some fits, each asked of some shuffles `(fits, shuffles)`."""
    num_fits, known = len(fits), len(data.tasks)
    seed, fold, test = plan.seed[fits], plan.fold[fits], plan.test[fits]
    repeats = plan.donors.shape[1] // len(plan.units)
    own = data.descriptions[test][:, None]
    donors = plan.donors[seed[:, None, None], shuffles[..., None], test[:, None]]
    moved = plan.units[shuffles // repeats][:, :, None]
    made = np.where(moved, data.descriptions[donors], own)
    made = made.reshape(num_fits, -1, len(data.features))
    old = np.broadcast_to(data.descriptions, (num_fits, *data.descriptions.shape))
    train = np.zeros((num_fits, known + made.shape[1]), bool)
    train[:, :known] = plan.folds[seed] != fold[:, None]
    selected = select(
        with_tasks(data, [""] * made.shape[1], made[0]),
        train,
        (1000 * seed + fold).astype(np.uint32),
        np.concatenate([old, made], axis=1),
    )
    chosen = np.asarray(selected.mixture.chosen)
    reference = np.asarray(selected.mixture.reference)
    costs = np.stack([paid(data, row[:known]) for row in selected.charged])
    free = paid(data, np.zeros(known))
    rows = np.arange(num_fits)[:, None]
    shuffled = chosen[:, known:].reshape(*shuffles.shape, -1)
    return _Costs(
        shuffled=costs[rows[..., None], test[:, None], shuffled],
        plain=costs[rows, test, chosen[rows, test]],
        single=free[test, reference[:, None]],
        abstained=selected.abstained,
    )


def _over_families(
    values: Float[np.ndarray, "units tasks"],
    families: Int[np.ndarray, " tasks"],
) -> Float[np.ndarray, "units families"]:
    """Values whose mean is that of the tasks, one for each family of like tasks."""
    _, family, counts = np.unique(families, return_inverse=True, return_counts=True)
    return values @ np.eye(len(counts))[family] * len(counts) / len(families)


def _rises(
    data: MetaDataset, plan: _Plan, made: _Costs, fits: np.ndarray, shuffles: np.ndarray
) -> Float[np.ndarray, "units tasks"]:
    """By how much shuffling raises what is paid, mean over repeats and seeds."""
    rise = np.zeros(plan.donors.shape)
    places = plan.seed[fits][:, None, None], shuffles[..., None], plan.test[fits]
    rise[*places[:2], places[2][:, None]] = made.shuffled - made.plain[:, None]
    counts = np.maximum((plan.folds >= 0).sum(axis=0), 1)
    rise = rise.sum(axis=0) / counts
    return rise.reshape(len(plan.units), -1, len(data.tasks)).mean(axis=1)


def _mean(plan: _Plan, fits: np.ndarray, values: np.ndarray) -> float:
    """Of `(fits, length)` values over test tasks and seeds."""
    found = np.full(plan.folds.shape, np.nan)
    found[plan.seed[fits][:, None], plan.test[fits]] = values
    return float(np.nanmean(found))


def importance(
    data: MetaDataset,
    folds: Int[np.ndarray, "seeds tasks"],
    *,
    repeats: int = 5,
    by: By = "alike",
    report: Report | None = None,
) -> dict[str, Any]:
    """How much worse choices get where some descriptions are another task's.

    Each fold's fit chooses for its test tasks, as they are and with some descriptions
    in turn shuffled among all tasks; their importance is the rise of what is paid.

    Args:
      data: the meta-dataset.
      folds: as `jmeta.selection.study.folds_of` gives them.
      repeats: shuffles of each description and seed, at least 1.
      by: what is shuffled together: descriptions that tell nearly the same, since one
        stands in for the other where it is shuffled alone; each alone; or what a step
        computes.
      report: told how far it is.

    Returns:
      `name`, `unit`, sizes, what is paid on average for the `choice` and for the
      `single_best`, how many fits `abstained` (and use no description), and for `all`
      of them together and each of `descriptions`, the most important first, the
      `rise` with the ends (`low`, `high`) of a 95 % interval over families of tasks.

    Raises:
      InputError: if steps are asked for and none is known.
    """
    if by == "step" and not data.groups:
        raise InputError(
            f"{data.name} names no steps that compute descriptions; use --by alike or "
            "--by description."
        )
    units = _units(data, by)
    plan = _plan(data, folds, units, repeats)
    length, total = plan.test.shape[1], plan.donors.shape[1]
    size = min(total, max(1, ROWS // length))
    # Every fit is asked of as many shuffles at a time, so that it is one program.
    parts = np.resize(np.arange(total), (-(-total // size), size))
    fits = np.repeat(np.arange(len(plan.seed)), len(parts))
    shuffles = np.tile(parts, (len(plan.seed), 1))
    done = 0

    def some(fits: np.ndarray, shuffles: np.ndarray) -> _Costs:
        nonlocal done
        made = _ask(data, plan, fits, shuffles)
        done = min(done + len(fits), len(plan.seed) * len(parts))
        if report is not None:
            report(data.name, done, len(plan.seed) * len(parts), {})
        return made

    made = chunked(some, (fits, shuffles), fits_at_once())
    judged = (folds >= 0).any(axis=0)
    rises = _rises(data, plan, made, fits, shuffles)[:, judged]
    told = [summary(row) for row in _over_families(rises, data.families[judged])]
    order = np.argsort([-one.mean for one in told[:-1]], kind="stable").tolist()

    def row(place: int) -> dict[str, Any]:
        members = [data.features[feature] for feature in units[place].features]
        rise = dict(zip(("rise", "low", "high"), told[place]))
        return {"name": units[place].name, "members": members, **rise}

    return {
        "name": data.name,
        "unit": unit_of(data),
        "tasks": int(judged.sum()),
        "families": len(np.unique(data.families[judged])),
        "seeds": len(folds),
        "repeats": repeats,
        "choice": _mean(plan, fits, made.plain),
        "single_best": _mean(plan, fits, made.single),
        "fits": len(plan.seed),
        "abstained": int(made.abstained[:: len(parts)].sum()),
        "by": by,
        "all": row(len(units) - 1),
        "descriptions": [row(place) for place in order],
    }
