"""Scores are what their definitions give by hand; families never straddle a split."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmeta.data.records import MetaDataset, Metric
from jmeta.evaluation import (
    Recommended,
    grouped_folds,
    mean_costs,
    normalised_regret,
    scores,
    splits,
    summary,
    task_values,
)

NAN = math.nan


def dataset(costs, *, cutoff=None, folds=None, solved=None):
    costs = np.array(costs, dtype=np.float64)
    tasks, candidates = costs.shape
    if solved is None:
        solved = costs <= (np.inf if cutoff is None else cutoff)
    return MetaDataset(
        name="toy",
        tasks=tuple(f"t{place}" for place in range(tasks)),
        families=np.arange(tasks),
        candidates=tuple(f"c{place}" for place in range(candidates)),
        features=("x",),
        descriptions=np.arange(float(tasks))[:, None],
        costs=costs,
        metric=Metric("runtime" if cutoff else "score", cutoff is None, cutoff),
        settings=None,
        groups=(),
        group_costs=np.zeros((tasks, 0)),
        solved=solved,
        folds=None if folds is None else np.array(folds)[None],
    )


def choices(*rows, charged=0.0):
    order = np.array([[row] if isinstance(row, int) else row for row in rows])
    return Recommended(order=order, charged=np.full(len(order), charged))


def test_regret_is_what_the_first_k_leave_of_best_to_worst():
    data = dataset([[-1.0, -0.5, 0.0], [-4.0, -3.0, -2.0]])
    folds = np.array([0, 1])
    # First choices: 0.5 and 1 of the way from best to worst.
    found = scores(data, folds, choices([1, 2, 0], [2, 1, 0]))
    assert found == {"regret@1": 0.75}
    wide = dataset(np.arange(12.0).reshape(2, 6))
    found = scores(wide, folds, choices([5, 4, 3, 2, 1, 0], [3, 1, 2, 5, 4, 0]))
    assert found == {"regret@1": (1 + 0.6) / 2, "regret@5": 0.2}


def test_regret_is_zero_where_all_candidates_are_equal_but_for_rounding():
    costs = np.array([[0.0, 1e-13, NAN], [0.0, 0.5, 1.0], [7.0, 7.0, 7.0]])
    regret = normalised_regret(costs)
    np.testing.assert_array_equal(regret, [[0, 0, NAN], [0, 0.5, 1], [0, 0, 0]])
    # Small numbers throughout are no rounding.
    np.testing.assert_allclose(normalised_regret(costs[1:2] * 1e-13), [[0, 0.5, 1]])


def test_a_missing_run_is_as_bad_as_the_worst():
    data = dataset([[1.0, NAN, 3.0], [0.0, 1.0, 2.0]])
    assert scores(data, np.array([0, 1]), choices([1] * 3, [1] * 3)) == {
        "regret@1": (1 + 0.5) / 2
    }


def test_npar10_is_the_share_of_the_gap_that_is_left():
    # Single best of the other task: 0 (of t1) on t0, 1 (of t0) on t1. Gaps to the
    # oracle: single best 4 and 7, choice 2 and 7.
    data = dataset([[5.0, 1.0, 3.0], [1.0, 8.0, 3.0]], cutoff=10.0)
    folds = np.array([0, 1])
    found = scores(data, folds, choices(2, 1))
    assert found == {"npar10": pytest.approx(9 / 11)}
    assert scores(data, folds, choices(1, 0)) == {"npar10": 0.0}
    assert scores(data, folds, choices(0, 1)) == {"npar10": 1.0}


def test_charged_seconds_count_and_push_a_run_over_its_cutoff():
    data = dataset([[5.0, 1.0, 3.0], [1.0, 8.0, 3.0]], cutoff=10.0)
    # 1 + 2.5 and 8 + 2.5: the second ends after the cutoff and costs 100.
    found = scores(data, np.array([0, 1]), choices(1, 1, charged=2.5))
    assert found == {"npar10": pytest.approx((2.5 + 99) / 11)}
    # At the cutoff a run still ends in time.
    found = scores(data, np.array([0, 1]), choices(1, 1, charged=2.0))
    assert found == {"npar10": pytest.approx((2 + 9) / 11)}


def test_a_run_that_failed_costs_no_more_by_being_late():
    # The mean of two repetitions, one of them failed, stays what it is.
    data = dataset([[5.0, 1.0], [52.0, 1.0], [1.0, 100.0]], cutoff=10.0)
    folds = np.array([0, 1, 2])
    found = task_values(data, folds, choices(1, 0, 1, charged=1.0))["npar10"]
    scale = (4 + 51 + 99) / 3  # Single best: 0, 0 and 1.
    np.testing.assert_allclose(found, np.array([1, 52, 99]) / scale)


def test_the_mean_is_over_the_means_of_folds():
    # Fold 0 has one task, fold 1 two. Single best: 0 for fold 0 (mean 1.5 of t1, t2),
    # 1 for fold 1 (of t0). Its gaps: 4; 2 and 0, so 4 and 1. The choice's: 2; 0, 1.
    data = dataset([[5.0, 1.0, 3.0], [1.0, 3.0, 9.0], [2.0, 1.0, 9.0]], cutoff=10.0)
    found = scores(data, np.array([0, 1, 1]), choices(2, 0, 0))
    assert found == {"npar10": pytest.approx((2 + 0.5) / (4 + 1))}


def test_tasks_that_nobody_solves_and_their_folds_are_left_out():
    rows = [[5.0, 1.0, 3.0], [1.0, 8.0, 3.0]]
    data = dataset([*rows, [100.0] * 3, [100.0] * 3], cutoff=10.0)
    # t2 stands with t0, t3 is a fold of its own; neither changes 9/11.
    folds, chosen = np.array([0, 1, 0, 2]), choices(2, 1, 0, 0, charged=0.0)
    assert scores(data, folds, chosen) == {"npar10": pytest.approx(9 / 11)}
    values = task_values(data, folds, chosen)["npar10"]
    np.testing.assert_array_equal(np.isnan(values), [False, False, True, True])
    unsolved = dataset(np.full((2, 3), 100.0), cutoff=10.0)
    assert math.isnan(scores(unsolved, np.array([0, 1]), choices(0, 0))["npar10"])


def test_choosing_a_run_that_is_missing_costs_ten_cutoffs():
    data = dataset([[5.0, 1.0, NAN], [1.0, 8.0, 3.0]], cutoff=10.0)
    found = scores(data, np.array([0, 1]), choices(2, 0))
    assert found == {"npar10": pytest.approx(99 / 11)}


def test_qualities_with_official_folds_are_judged_by_the_same_ratio_uncharged():
    data = dataset([[-0.5, -0.9, -0.7], [-0.9, -0.2, -0.7]], folds=[0, 1])
    found = scores(data, np.array([0, 1]), choices(2, 1, charged=1e9))
    assert found == {"npar10": pytest.approx((0.2 + 0.7) / (0.4 + 0.7))}


def test_a_single_best_without_a_gap_leaves_zero_or_infinity():
    data = dataset([[1.0, 2.0], [1.0, 2.0]], cutoff=10.0)
    folds = np.array([0, 1])
    assert scores(data, folds, choices(0, 0)) == {"npar10": 0.0}
    assert scores(data, folds, choices(0, 1)) == {"npar10": math.inf}


def test_the_single_best_is_the_best_mean_over_the_runs_there_are():
    means = mean_costs(np.array([[1.0, NAN, NAN], [3.0, 1.5, NAN]]))
    np.testing.assert_array_equal(means, [2.0, 1.5, np.inf])


def test_a_task_in_no_fold_trains_and_is_never_tested():
    folds = np.array([0, -1, 1])
    found = [(train.tolist(), test.tolist()) for train, test in splits(folds)]
    assert found == [
        ([False, True, True], [True, False, False]),
        ([True, True, False], [False, False, True]),
    ]
    data = dataset([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert scores(data, folds, choices([0, 1], [1, 0], [1, 0])) == {"regret@1": 0.5}


@pytest.mark.parametrize("folds", [[0, 0, 0], [-1, -1, -1]])
def test_folds_that_leave_nothing_to_train_on_are_refused(folds):
    with pytest.raises(ValueError, match="give at least 2 folds"):
        next(splits(np.array(folds)))


def test_answers_that_do_not_fit_are_refused():
    data, folds = dataset([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 1])
    with pytest.raises(ValueError, match=r"order must have shape \(2, 2 or more\)"):
        scores(data, folds, choices(0, 1))
    with pytest.raises(ValueError, match=r"places in \[0, 2\), got 0 to 2"):
        scores(data, folds, choices([0, 1], [2, 0]))
    with pytest.raises(ValueError, match="without NaN"):
        scores(data, folds, choices([0, 1], [1, 0], charged=NAN))
    with pytest.raises(ValueError, match=r"must have shape \(2,\)"):
        scores(data, np.array([0, 1, 0]), choices([0, 1], [1, 0]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=60),
    st.integers(2, 12),
    st.integers(0, 2**31),
)
def test_families_never_straddle_and_sizes_are_balanced(families, num_folds, seed):
    families = np.array(families)
    names, counts = np.unique(families, return_counts=True)
    if len(names) < 2:
        with pytest.raises(ValueError, match="at least 2 families"):
            grouped_folds(families, num_folds, seed)
        return
    folds = grouped_folds(families, num_folds, seed)
    assert all(len(set(folds[families == name])) == 1 for name in names)
    sizes = np.bincount(folds)
    assert len(sizes) == min(num_folds, len(names))
    assert sizes.min() >= 1
    # The last family of the largest fold went where the fewest tasks were.
    assert sizes.max() - sizes.min() <= counts.max()
    np.testing.assert_array_equal(folds, grouped_folds(families, num_folds, seed))


def test_another_seed_gives_other_folds():
    families = np.arange(40)
    one, two = (grouped_folds(families, 4, seed) for seed in range(2))
    assert (one != two).any()
    np.testing.assert_array_equal(np.bincount(one), [10] * 4)


def test_a_single_fold_is_refused():
    with pytest.raises(ValueError, match="num_folds must be at least 2, got 1"):
        grouped_folds(np.arange(3), 1, 0)


def test_the_interval_is_students():
    # Standard error 1 / sqrt(3), and 4.302653 standard errors at 2 degrees of freedom.
    found = summary([1.0, 2.0, 3.0])
    np.testing.assert_allclose(found, [2, 2 - 2.484138, 2 + 2.484138], rtol=1e-6)
    assert summary([2.0])[0] == 2.0
    assert all(math.isnan(end) for end in summary([2.0])[1:])
    assert math.isnan(summary([]).mean)
    assert summary(np.array([1.0, NAN, 1.0])) == (1.0, 1.0, 1.0)
    assert math.isinf(summary([1.0, math.inf]).mean)
