"""Advice for new tasks, on meta-datasets whose right answers are known."""

import numpy as np
import pandas as pd
import pytest
from small_meta import meta_dataset

from jmeta.evaluation import objective, paid
from jmeta.selection import answers, experts, inputs, selector
from jmeta.selection.explain import advise
from jmeta.selection.nearness import nearness, outside

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(experts, "NUM_TREES", 20)
    monkeypatch.setattr(answers, "ROWS", 128)


def new_tasks(num=6, **how):
    """Further tasks of the same kind, with what candidates really cost there."""
    data = meta_dataset(num_tasks=num, seed=99, **how)
    return data.tasks, data.descriptions, data


def fits(data):
    train = np.isfinite(data.costs).any(axis=1)[None]
    return selector.select(data, train, np.zeros(1, np.uint32))


@pytest.mark.parametrize("runtime", [False, True])
def test_tasks_that_were_appended_change_nothing_for_the_others(runtime):
    data = meta_dataset(num_tasks=70, noise=0.1, runtime=runtime)
    data.descriptions[::9, 1] = np.nan
    _, descriptions, _ = new_tasks(40)
    descriptions[:20, 2] = np.nan  # Which no known task misses.
    grown = answers.with_tasks(data, [f"n{i}" for i in range(40)], descriptions)
    one, other = fits(data), fits(grown)
    np.testing.assert_array_equal(one.mixture.chosen, other.mixture.chosen[:, :70])
    for name in ("expected", "errors"):
        before, after = getattr(one.mixture, name), getattr(other.mixture, name)
        np.testing.assert_allclose(before, after[:, :70], atol=1e-4)
    np.testing.assert_allclose(one.mixture.gain, other.mixture.gain, atol=1e-5)
    assert np.isfinite(other.mixture.expected).all()


def test_unscored_tasks_cost_nothing_known_and_are_of_no_family_or_fold():
    data = meta_dataset(runtime=True)._replace(families=np.arange(80) // 2)
    data = data._replace(group_costs=np.tile([1.0, 3.0], (80, 1)))
    _, descriptions, _ = new_tasks(3)
    grown = answers.with_tasks(data, "xyz", descriptions)
    assert grown.tasks[80:] == ("x", "y", "z")
    assert grown.families[80:].tolist() == [40, 41, 42]
    np.testing.assert_array_equal(grown.group_costs[80:], [[1.0, 3.0]] * 3)
    assert (grown.folds[:, 80:] == -1).all() and not grown.solved[80:].any()
    assert (
        np.isnan(objective(grown)[80:]).all()
        and np.isnan(inputs.views(grown)[80:]).all()
    )
    np.testing.assert_array_equal(
        paid(grown, np.zeros(83))[:80], paid(data, np.zeros(80))
    )
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        answers.with_tasks(data, "xy", descriptions)


def test_tasks_without_costs_do_not_bring_candidates_settings_into_play():
    data = meta_dataset()
    settings = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0]}, dtype=object)
    grown = answers.with_tasks(data._replace(settings=settings), "x", np.zeros((1, 3)))
    train = np.isfinite(grown.costs).all(axis=1)[None]
    made = inputs.make_inputs(grown, train, np.zeros(1, np.uint32))
    assert made.settings.shape == (4, 0)


def test_what_fits_cannot_know_stands_in_the_middle():
    data = meta_dataset()
    data.descriptions[:, 1] = 7.0
    data.descriptions[:40, 2] = np.nan
    new = np.array([[np.nan, 8.0, np.nan], [2.0, np.nan, 2.0]])
    grown = answers.with_tasks(data, "xy", new)
    train = np.isfinite(grown.costs).all(axis=1)[None]
    x = inputs.make_inputs(grown, train, np.zeros(1, np.uint32)).x[0, 80:]
    np.testing.assert_array_equal(x, [[0.5, 0.5, inputs.MISSING], [1.0, 0.5, 1.0]])


def test_the_description_that_decides_leads_the_attributions_which_add_up():
    data = meta_dataset(noise=0.02)
    names, descriptions, truth = new_tasks(24)
    made = advise(data, names, descriptions, size=3)
    assert not made["abstained"] and made["single_best"] == "c0"
    assert made["descriptions"]["used"] == ["place", "b", "c"]
    right, clear = [], 0
    for one, costs, place in zip(made["tasks"], truth.costs, descriptions[:, 0]):
        if abs(4 * place - round(4 * place)) > 0.2:  # Where it is no close call.
            right.append(one["choice"] == f"c{costs.argmin()}")
        effects = {row["description"]: row["effect"] for row in one["attributions"]}
        moved = one["lead"] - one["lead_on_typical_task"]
        assert sum(effects.values()) == pytest.approx(moved, abs=1e-5)
        if abs(moved) > 0.2:
            clear += 1
            assert one["attributions"][0]["description"] == "place"
            assert one["attributions"][0]["value"] == place
        assert one["set"][0] == one["choice"] and len(set(one["set"])) == 3
        assert (one["probability_better"] is None) == (one["choice"] == "c0")
        assert one["compared_with"] == "c0" or one["choice"] == "c0"
    assert all(right) and len(right) >= 10 and clear >= 8


def test_a_copy_of_a_known_task_is_nearest_to_it_and_learns_what_worked_there():
    data = meta_dataset(noise=0.02)._replace(families=np.arange(80) // 2)
    made = advise(data, ["copy"], data.descriptions[[5]].copy())["tasks"][0]
    first, costs = made["nearest"][0], objective(data)[5]
    assert first["task"] == "t5" and first["distance"] == 0.0
    assert first["family"] == ["t4"] and first["best"] == f"c{costs.argmin()}"
    assert first["cost"]["best"] == costs.min() == 0.0
    assert first["cost"]["choice"] == costs[int(made["choice"][1:])]
    assert first["cost"]["single_best"] == costs[0]
    families = [int(near["task"][1:]) // 2 for near in made["nearest"]]
    assert len(set(families)) == 3 and not made["far"] and not made["outside"]


def test_distances_are_mean_differences_in_quantiles_and_far_tasks_are_told():
    data = meta_dataset(num_tasks=4)
    data.descriptions[:] = np.array([0.0, 1.0, 2.0, 3.0])[:, None]
    data = data._replace(families=np.array([0, 0, 1, 2]))
    new = np.array([[2.0, 99.0, 2.0], [np.nan, np.nan, -1.0]])
    used = np.array([True, False, True])
    near = nearness(data, new, used)
    quantiles, own = np.array([1, 3, 5, 7]) / 8, np.array([[5, 5], [4, 0]]) / 8
    away = np.abs(own[:, None] - quantiles[:, None]).mean(-1)
    np.testing.assert_allclose(near.away, away)
    # To the nearest one of another family: 4/8, 2/8, 2/8, 2/8.
    np.testing.assert_allclose(near.usual, np.quantile([4, 2, 2, 2], 0.95) / 8)
    beyond = outside(data, new, used)
    assert beyond.tolist() == [[False, False, False], [False, False, True]]
    alone = data._replace(families=np.zeros(4, int))
    assert nearness(alone, new, used).usual == np.inf


def test_intervals_hold_the_costs_of_new_tasks_as_often_as_they_say():
    data = meta_dataset(num_tasks=120, noise=0.15)
    names, descriptions, truth = new_tasks(240, noise=0.15)
    made = advise(data, names, descriptions)
    costs, held, better, said = objective(truth), [], [], []
    for row, one in zip(costs, made["tasks"]):
        place = int(one["choice"][1:])
        ends = one["expected"]["choice"]
        assert 0 <= ends["low"] <= ends["value"] <= ends["high"] <= 1
        held.append(ends["low"] - 1e-6 <= row[place] <= ends["high"] + 1e-6)
        if one["probability_better"] is not None:
            better.append(row[place] < row[0])
            said.append(one["probability_better"])
    assert 0.84 <= np.mean(held) <= 0.97
    assert abs(np.mean(better) - np.mean(said)) < 0.12


def test_it_abstains_where_descriptions_say_nothing_and_gives_no_reasons():
    data = meta_dataset(decided=False, runtime=True)
    names, descriptions, _ = new_tasks(3)
    made = advise(data, names, descriptions)
    assert made["abstained"] and made["unit"] == "PAR10 seconds"
    assert made["descriptions"]["used"] == []
    for one in made["tasks"]:
        assert one["choice"] == made["single_best"] and one["attributions"] == []
        assert one["lead"] == one["lead_on_typical_task"] and len(one["nearest"]) == 3


def test_runtimes_include_the_steps_that_are_used_and_name_them():
    data = meta_dataset(runtime=True)
    seconds = np.stack([np.full(80, 0.1), np.full(80, 40.0)], axis=1)
    names, descriptions, _ = new_tasks(2)
    made = advise(data._replace(group_costs=seconds), names, descriptions)
    free = advise(data, names, descriptions)
    assert made["descriptions"] == {
        "used": ["place"],
        "of": 3,
        "steps": [{"step": "cheap", "seconds": pytest.approx(0.1)}],
    }
    for one in made["tasks"]:
        assert [row["description"] for row in one["attributions"]] == ["place"]
    assert {row["description"] for row in free["tasks"][0]["attributions"]} > {"place"}


def test_scores_that_nPAR10_judges_are_told_as_scores():
    data = meta_dataset(noise=0.02)
    data = data._replace(folds=np.arange(80)[None] % 5, costs=-data.costs)
    names, descriptions, _ = new_tasks(1)
    made = advise(data, names, descriptions)
    assert made["unit"] == "score" and made["higher_is_better"]
    ends = made["tasks"][0]["expected"]["choice"]
    assert 0 < ends["low"] <= ends["value"] <= ends["high"] < 1.2


def test_more_new_tasks_compile_nothing_and_change_none_of_the_others():
    data = meta_dataset(noise=0.05)
    names, descriptions, _ = new_tasks(16)
    one = advise(data, names[:1], descriptions[:1])
    compiled = experts._forests._cache_size(), experts._networks._cache_size()
    every = advise(data, names, descriptions)
    assert compiled == (experts._forests._cache_size(), experts._networks._cache_size())
    assert one["tasks"][0]["choice"] == every["tasks"][0]["choice"]
    assert one["tasks"][0]["lead"] == pytest.approx(every["tasks"][0]["lead"], abs=1e-4)


def test_names_and_descriptions_must_fit():
    for names, shape in ((["a"], (1, 2)), ([], (0, 3)), (["a", "b"], (1, 3))):
        with pytest.raises(ValueError, match="give a row for each"):
            advise(meta_dataset(), names, np.zeros(shape))
