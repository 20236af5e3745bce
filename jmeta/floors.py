"""What people choose by today, to be re-run on the folds that judge jmeta.

Host side, NumPy and scikit-learn. A floor sees the costs of the training tasks, and
the descriptions if it uses them; `FLOORS` names them all. Where regret judges, models
learn costs as `normalised_regret`, since a task's own scale says nothing about which
candidate to choose on it; where nPAR10 judges, the costs as they are. A missing run
gets the candidate's mean over training tasks, plus how much the task's other runs lie
above the means of their candidates.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jmeta.data.records import MetaDataset
from jmeta.evaluation import (
    Recommended,
    by_regret,
    mean_costs,
    objective,
    splits,
)

__all__ = ["FLOORS", "Floor", "floors_for", "recommend_by", "scaled_quantiles"]

_SIZE = 10
"""How many candidates are recommended, or all if there are fewer."""

_MOST_IN_PAIRS = 16
"""Candidates up to which a forest for every pair of them is affordable."""

_FOREST: dict[str, Any] = {  # Settings of scikit-learn's forests.
    "n_estimators": 100,
    "max_features": 0.33,
    "min_samples_leaf": 2,
    "n_jobs": 1,
}


class Floor(NamedTuple):
    """A method to stand beside.

    Attributes:
      rank: `(data, train, seed) -> order`: `(tasks, k)` places of candidates, best
        first, learnt from the tasks where `train` is True alone and meant for the
        others; training tasks get the order by mean cost. k is 10, or the number of
        candidates if it is smaller.
      uses_descriptions: so that the seconds they took are charged.
      applies: `(data) -> bool`: whether it is run on such data.
    """

    rank: Callable[[MetaDataset, np.ndarray, int], np.ndarray]
    uses_descriptions: bool
    applies: Callable[[MetaDataset], bool]


def _single_best(
    data: MetaDataset, train: Bool[np.ndarray, " tasks"], seed: int
) -> Int[np.ndarray, "tasks k"]:
    """By mean, ties by place, candidates without any run last."""
    del seed  # There is nothing to draw.
    return _everywhere(data, np.argsort(_means(data, train), kind="stable"))


def _everywhere(data: MetaDataset, places: np.ndarray) -> np.ndarray:
    return np.tile(places[:_SIZE], (len(data.tasks), 1))


def _portfolio(
    data: MetaDataset, train: Bool[np.ndarray, " tasks"], seed: int
) -> Int[np.ndarray, "tasks k"]:
    """Greedy set cover of the training tasks, from the single best on.

    Each step adds the candidate that lowers the mean over tasks of the smallest cost
    in the set the most. Source: Xu et al., 2010 (Hydra).
    """
    places = _single_best(data, train, seed)[0, :1].tolist()
    targets = _targets(data, train)
    smallest = targets[:, places[0]]
    while len(places) < min(_SIZE, targets.shape[1]):
        value = np.minimum(smallest[:, None], targets).mean(axis=0)
        value[places] = np.inf
        places.append(int(value.argmin()))
        smallest = np.minimum(smallest, targets[:, places[-1]])
    return _everywhere(data, np.array(places))


def _costs(data: MetaDataset, train: np.ndarray) -> np.ndarray:
    """`(training tasks, candidates)` in the units that judge, NaN where never run."""
    return objective(data, data.costs[train])


def _means(data: MetaDataset, train: np.ndarray) -> np.ndarray:
    return mean_costs(_costs(data, train))


def _targets(data: MetaDataset, train: np.ndarray) -> np.ndarray:
    """`(training tasks, candidates)` what models learn; nothing is missing."""
    costs = _costs(data, train)
    means = mean_costs(costs)
    ran, known = np.isfinite(means), ~np.isnan(costs)
    means = np.where(ran, means, means[ran].max())
    above = np.where(known, costs - means, 0.0).sum(axis=1, keepdims=True)
    level = above / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, costs, means + level)


def _rank(data: MetaDataset, train: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Order of the test tasks by predicted cost; ties by mean cost."""
    means = _means(data, train)
    order = _everywhere(data, np.argsort(means, kind="stable"))
    order[~train] = np.lexsort(
        (np.broadcast_to(means, predicted.shape), predicted), axis=1
    )[:, :_SIZE]
    return order


def _knn(
    data: MetaDataset, train: Bool[np.ndarray, " tasks"], seed: int
) -> Int[np.ndarray, "tasks k"]:
    """Mean target of the nearest training tasks.

    Where regret judges: of 10, by the sum of differences in quantiles of the training
    tasks, at which a missing description stands in the middle. Otherwise: of 16, by
    Euclidean distance of standardised descriptions, filled with medians.
    """
    del seed  # There is nothing to draw.
    from sklearn.neighbors import NearestNeighbors

    targets = _targets(data, train)
    if by_regret(data):
        scaled = scaled_quantiles(data.descriptions, train)
        search = NearestNeighbors(metric="manhattan", algorithm="brute", n_jobs=1)
        neighbors = min(10, len(targets))
    else:
        scaled = _standardised(_filled(data, train), train)
        search = NearestNeighbors(n_jobs=1)
        neighbors = min(16, len(targets))
    search.fit(scaled[train])
    near = search.kneighbors(scaled[~train], neighbors, return_distance=False)
    return _rank(data, train, targets[near].mean(axis=1))


def _standardised(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    scale = values[train].std(axis=0)
    return (values - values[train].mean(axis=0)) / np.where(scale > 0, scale, 1.0)


def scaled_quantiles(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Each feature's share of training tasks below it, ties half; missing is .5."""
    scaled = np.full(values.shape, 0.5)
    for place in range(values.shape[1]):
        column = values[:, place]
        known = ~np.isnan(column)
        seen = np.sort(column[known & train])
        if len(seen):
            below = np.searchsorted(seen, column[known], "left")
            upto = np.searchsorted(seen, column[known], "right")
            scaled[known, place] = (below + upto) / (2 * len(seen))
    return scaled


def _filled(data: MetaDataset, train: np.ndarray) -> np.ndarray:
    """Descriptions with the training tasks' medians where they are missing."""
    # Forests work in float32, which ends earlier.
    limit = float(np.finfo(np.float32).max)
    filled = np.clip(data.descriptions, -limit, limit)
    for column in filled.T:
        seen = column[train & ~np.isnan(column)]
        column[np.isnan(column)] = np.median(seen) if len(seen) else 0.0
    return filled


def _regress(
    data: MetaDataset, train: np.ndarray, targets: np.ndarray, seed: int
) -> np.ndarray:
    from sklearn.ensemble import RandomForestRegressor

    filled = _filled(data, train)
    forest = RandomForestRegressor(**_FOREST, random_state=seed)
    forest.fit(filled[train], targets)
    return _rank(data, train, forest.predict(filled[~train]))


def _forest(
    data: MetaDataset, train: Bool[np.ndarray, " tasks"], seed: int
) -> Int[np.ndarray, "tasks k"]:
    """One forest that predicts the targets of all candidates."""
    return _regress(data, train, _targets(data, train), seed)


def _forest_log(
    data: MetaDataset, train: Bool[np.ndarray, " tasks"], seed: int
) -> Int[np.ndarray, "tasks k"]:
    """The same on the logarithm of PAR10, of a millisecond at least."""
    targets = np.log10(np.maximum(_targets(data, train), 1e-3))
    return _regress(data, train, targets, seed)


def _forest_pairs(
    data: MetaDataset, train: Bool[np.ndarray, " tasks"], seed: int
) -> Int[np.ndarray, "tasks k"]:
    """A forest for each pair says which is better; most wins first, then mean cost.

    Training tasks weigh as much as the pair's costs differ on them.

    Source: Xu et al., 2012 (SATzilla),
    https://www.cs.ubc.ca/~hutter/papers/12-SAT-SATzilla.pdf, section 2.
    """
    from sklearn.ensemble import RandomForestClassifier

    filled, targets = _filled(data, train), _targets(data, train)
    losses = np.zeros((int((~train).sum()), targets.shape[1]))
    for one, other in itertools.combinations(range(targets.shape[1]), 2):
        away = targets[:, other] - targets[:, one]
        differ = away != 0
        if not differ.any():
            continue
        forest = RandomForestClassifier(**_FOREST, random_state=seed)
        forest.fit(
            filled[train][differ], away[differ] > 0, sample_weight=np.abs(away[differ])
        )
        wins = forest.predict(filled[~train]).astype(bool)
        losses[:, other] += wins
        losses[:, one] += ~wins
    return _rank(data, train, losses)


def _always(data: MetaDataset) -> bool:
    del data
    return True


def _is_runtime(data: MetaDataset) -> bool:
    return data.metric.cutoff is not None


def _has_few_pairs(data: MetaDataset) -> bool:
    return not by_regret(data) and len(data.candidates) <= _MOST_IN_PAIRS


FLOORS: dict[str, Floor] = {
    "single_best": Floor(_single_best, False, _always),
    "portfolio": Floor(_portfolio, False, _always),
    "knn": Floor(_knn, True, _always),
    "forest": Floor(_forest, True, _always),
    "forest_log": Floor(_forest_log, True, _is_runtime),
    "forest_pairs": Floor(_forest_pairs, True, _has_few_pairs),
}


def floors_for(data: MetaDataset) -> tuple[str, ...]:
    """Names of the floors that are run on such data."""
    return tuple(name for name, floor in FLOORS.items() if floor.applies(data))


def recommend_by(
    name: str, data: MetaDataset, folds: Int[np.ndarray, " tasks"], seed: int
) -> Recommended:
    """A floor's answer for every task, each by the fold that tests it.

    Charged are the costs of all steps that compute features, if the floor uses any.
    A task in no fold gets places of no meaning, which are never judged.

    Args:
      name: one of `FLOORS`.
      folds: from 0, -1 where a task is in none.

    Raises:
      ValueError: if there is no such floor, or a fold leaves nothing to train on.
    """
    if name not in FLOORS:
        raise ValueError(
            f"recommend_by: there is no floor {name!r}; give one of {sorted(FLOORS)}."
        )
    floor = FLOORS[name]
    order = np.zeros((len(data.tasks), min(_SIZE, len(data.candidates))), dtype=int)
    for train, test in splits(folds):
        order[test] = floor.rank(data, train, seed)[test]
    seconds = data.group_costs.sum(axis=1) * floor.uses_descriptions
    return Recommended(order=order, charged=seconds)
