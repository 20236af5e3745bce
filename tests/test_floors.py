"""Floors choose by what they may see, and nothing in a meta-dataset stops them."""

import numpy as np
import pytest
from data.real_folders import real_folder
from test_evaluation import dataset

from jmeta.data.metadataset import read_meta_dataset
from jmeta.data.records import FeatureGroup
from jmeta.evaluation import grouped_folds, scores
from jmeta.floors import FLOORS, _targets, floors_for, recommend_by

NAN = np.nan


def sides(num_tasks=40, *, cutoff=None, folds=None):
    """One feature decides: left tasks want candidate 0, right ones 1; 2 is never far.

    Two more features say nothing: one is constant, one is missing everywhere.
    """
    x = np.random.default_rng(0).uniform(-1, 1, num_tasks)
    costs = np.stack([np.where(x < 0, 1, 8), np.where(x < 0, 9, 1), x * 0 + 4], axis=1)
    data = dataset(costs, cutoff=cutoff, folds=folds)
    described = np.stack([x, np.full(num_tasks, 3.0), np.full(num_tasks, NAN)], axis=1)
    return data._replace(descriptions=described, features=("x", "same", "unknown"))


def official(num_tasks=40):
    return np.arange(num_tasks) % 2


def first(data, floor, train, seed=0):
    return FLOORS[floor].rank(data, train, seed)[~train, 0]


@pytest.mark.parametrize("floor", ["knn", "forest"])
def test_floors_that_read_descriptions_beat_the_single_best(floor):
    data = sides()
    folds = grouped_folds(data.families, 4, 0)
    found = scores(data, folds, recommend_by(floor, data, folds, 0))
    single = scores(data, folds, recommend_by("single_best", data, folds, 0))
    assert found["regret@1"] < 0.1 < single["regret@1"]


@pytest.mark.parametrize("floor", ["knn", "forest", "forest_log", "forest_pairs"])
def test_floors_of_runtimes_beat_the_single_best(floor):
    folds = official(80)
    data = sides(80, cutoff=10.0, folds=folds)
    found = scores(data, folds, recommend_by(floor, data, folds, 0))
    assert found["npar10"] < 0.5


def test_the_single_best_is_exactly_the_best_mean():
    data = sides(cutoff=10.0, folds=official())
    found = recommend_by("single_best", data, official(), 0)
    assert scores(data, official(), found) == {"npar10": 1.0}
    train = official() != 0
    order = FLOORS["single_best"].rank(data, train, 0)
    means = data.costs[train].mean(axis=0)
    np.testing.assert_array_equal(order, np.tile(np.argsort(means), (40, 1)))


def test_the_single_best_of_regrets_does_not_see_a_tasks_scale():
    # The last column is best on two tasks of three, by little but all that there is.
    data = dataset([[0.0, 1000.0], [0.1, 0.0], [0.1, 0.0], [0.0, 0.0]])
    train = np.array([True, True, True, False])
    assert first(data, "single_best", train) == [1]
    timed = data._replace(metric=data.metric._replace(cutoff=1e4))
    assert first(timed, "single_best", train) == [0]


def test_the_portfolio_covers_what_the_single_best_cannot():
    costs = [[0.1, 0.1, 1.0, 0.0], [0.1, 0.2, 1.0, 0.0], [0.6, 1.0, 0.0, 1.0]] * 2
    data = dataset(costs)
    train = np.array([True] * 3 + [False] * 3)
    order = FLOORS["portfolio"].rank(data, train, 0)
    # Means .27, .43, .67 and .33: 0 is first; 2 solves the third task, then 3 the rest.
    np.testing.assert_array_equal(order[3:], [[0, 2, 3, 1]] * 3)


@pytest.mark.parametrize("floor", sorted(FLOORS))
def test_costs_and_other_descriptions_of_test_tasks_are_not_seen(floor):
    data = sides(cutoff=10.0, folds=official())
    train = official() != 0
    hidden = data._replace(
        costs=np.where(train[:, None], data.costs, 0.5),
        descriptions=np.where(
            train[:, None] | (np.arange(40) < 20)[:, None], data.descriptions, 9.0
        ),
    )
    np.testing.assert_array_equal(
        first(data, floor, train)[:10], first(hidden, floor, train)[:10]
    )


@pytest.mark.parametrize("floor", sorted(FLOORS))
@pytest.mark.parametrize("cutoff", [None, 10.0])
def test_floors_repeat_themselves_and_return_all_of_few_candidates(floor, cutoff):
    data = sides(12, cutoff=cutoff)
    train = np.arange(12) % 3 != 0
    one, two = (FLOORS[floor].rank(data, train, 5) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (12, 3)
    np.testing.assert_array_equal(np.sort(one, axis=1), np.tile(range(3), (12, 1)))


@pytest.mark.parametrize("floor", ["single_best", "portfolio", "knn", "forest"])
def test_of_many_candidates_ten_are_recommended(floor):
    rng = np.random.default_rng(0)
    data = dataset(rng.uniform(size=(6, 14)))
    order = FLOORS[floor].rank(data, np.arange(6) > 1, 0)
    assert order.shape == (6, 10)
    assert all(len(set(row)) == 10 for row in order)


@pytest.mark.parametrize("floor", sorted(FLOORS))
def test_missing_runs_and_candidates_never_run_do_not_stop_a_floor(floor):
    data = sides(cutoff=10.0, folds=official())
    # The first candidate was not run on every third task, the last one never.
    costs = np.column_stack([data.costs, np.full(40, NAN)])
    costs[::3, 0] = NAN
    data = data._replace(costs=costs, candidates=("a", "b", "c", "d"))
    data = data._replace(solved=costs <= 10)
    found = recommend_by(floor, data, official(), 0)
    assert (found.order[:, 0] != 3).all()
    assert np.isfinite(scores(data, official(), found)["npar10"])


def test_a_missing_run_is_the_candidates_mean_at_the_tasks_level():
    # Means of the candidates are 2 and 6; the third task has 1 more than usual.
    costs = [[1.0, 5.0], [2.0, 7.0], [3.0, NAN], [0.0, 0.0]]
    data = dataset(costs, cutoff=10.0)
    found = _targets(data, np.array([True, True, True, False]))
    np.testing.assert_allclose(found, [[1, 5], [2, 7], [3, 7]])


@pytest.mark.parametrize("floor", sorted(FLOORS))
def test_two_tasks_are_enough(floor):
    data = dataset([[1.0, 2.0], [2.0, 1.0]], cutoff=10.0)
    found = recommend_by(floor, data, np.array([0, 1]), 0)
    np.testing.assert_array_equal(found.order[:, 0], [1, 0])


def test_features_beyond_single_precision_do_not_stop_a_forest():
    data = sides()
    data.descriptions[0, 0] = -1e300
    assert first(data, "forest", np.arange(40) % 4 != 1).shape == (10,)


def test_only_floors_that_read_descriptions_are_charged():
    data = sides(cutoff=10.0, folds=official())
    groups = tuple(FeatureGroup(name, (), ()) for name in "ab")
    data = data._replace(groups=groups, group_costs=np.tile([1.0, 0.5], (40, 1)))
    charged = {
        name: recommend_by(name, data, official(), 0).charged[0]
        for name in floors_for(data)
    }
    assert charged == {
        "single_best": 0.0,
        "portfolio": 0.0,
        "knn": 1.5,
        "forest": 1.5,
        "forest_log": 1.5,
        "forest_pairs": 1.5,
    }


def test_logarithms_are_of_runtimes_and_pairs_of_few_candidates():
    always = ("single_best", "portfolio", "knn", "forest")
    assert floors_for(sides()) == always
    quality = sides(folds=official())
    assert floors_for(quality) == (*always, "forest_pairs")
    many = dataset(np.ones((2, 17)), cutoff=10.0)
    assert floors_for(many) == (*always, "forest_log")


def test_a_floor_of_another_name_is_refused():
    with pytest.raises(ValueError, match="there is no floor 'best'; give one of"):
        recommend_by("best", sides(), official(), 0)


@pytest.mark.parametrize(
    "name, floor, expected",
    # What was measured on these files elsewhere; folds of other seeds differ by this.
    [
        ("autosklearn-acc", "single_best", (0.049, 0.032, 0.024)),
        ("xgboost-auc", "portfolio", (0.062, 0.022, 0.016)),
        ("xgboost-auc", "knn", (0.051, 0.021, 0.015)),
        ("rpart-bac", "single_best", (0.077, 0.039, 0.035)),
        ("rpart-bac", "portfolio", (0.077, 0.017, 0.009)),
    ],
)
def test_floors_of_real_tables_are_what_others_measured(name, floor, expected):
    data = read_meta_dataset(real_folder("meta", name))
    folds = [grouped_folds(data.families, 10, seed) for seed in range(3)]
    found = [
        list(scores(data, fold, recommend_by(floor, data, fold, 0)).values())
        for fold in folds
    ]
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.012)


@pytest.mark.parametrize(
    "name, floor, expected, tolerance",
    [
        ("SAT11-RAND", "knn", 0.113, 0.001),
        ("CPMP-2015", "knn", 0.800, 0.001),
        ("CPMP-2015", "forest", 0.647, 0.1),  # Its own randomness.
        ("SAT11-RAND", "single_best", 1.0, 1e-9),
    ],
)
def test_floors_of_real_scenarios_are_what_others_measured(
    name, floor, expected, tolerance
):
    data = read_meta_dataset(real_folder("aslib", name))
    found = scores(data, data.folds[0], recommend_by(floor, data, data.folds[0], 0))
    np.testing.assert_allclose(found["npar10"], expected, atol=tolerance)
