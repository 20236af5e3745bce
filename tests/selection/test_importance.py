"""Which descriptions matter, on meta-datasets where that is known."""

import numpy as np
import pytest
from small_meta import meta_dataset

from jmeta.errors import InputError
from jmeta.selection import experts, importance, selector, study

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(experts, "NUM_TREES", 20)
    # Four exchanges of twenty tasks at a time, so that one program serves all tests.
    monkeypatch.setattr(importance, "ROWS", 80)


def folds_of(data, num=4):
    return (np.arange(len(data.tasks)) % num)[None]


def found(data, **how):
    made = importance.importance(data, folds_of(data), **how)
    return made, {row["name"]: row for row in made["descriptions"]}


def test_the_description_that_decides_is_the_only_one_that_matters():
    data = meta_dataset(noise=0.02)
    made, rows = found(data, repeats=3)
    assert made["descriptions"][0]["name"] == "place" and len(rows) == 3
    assert rows["place"]["low"] > 0.1
    for name in "bc":
        assert abs(rows[name]["rise"]) < 0.05 and rows[name]["low"] <= 0
    assert made["all"]["rise"] == pytest.approx(rows["place"]["rise"], abs=0.1)
    assert made["choice"] < made["single_best"] < made["choice"] + made["all"]["rise"]
    assert (made["fits"], made["abstained"]) == (4, 0)


def test_what_is_paid_without_exchanges_is_what_evaluation_says():
    data = meta_dataset(noise=0.1)
    made, _ = found(data, repeats=1)
    methods = study.evaluate(data, folds_of(data), ["jmeta", "single_best"])["methods"]
    assert made["choice"] == pytest.approx(methods["jmeta"]["regret@1"], abs=1e-9)
    assert made["single_best"] == pytest.approx(methods["single_best"]["regret@1"])


def test_a_rise_is_that_of_choosing_for_the_descriptions_of_other_tasks():
    data = meta_dataset(noise=0.1)
    made, rows = found(data, repeats=2, by="description")
    plan = importance._plan(
        data, folds_of(data), importance._units(data, "description"), 2
    )
    rises = []
    for repeat in range(2):  # Of the first description.
        moved = data.descriptions.copy()
        moved[:, 0] = moved[plan.donors[0, repeat], 0]
        train = np.arange(4)[:, None] != folds_of(data)
        seen = np.where(train[..., None], data.descriptions, moved)
        costs, keys = importance.paid(data, np.zeros(80)), np.arange(4, dtype=np.uint32)
        for given in (seen, None):
            chosen = selector.select(data, train, keys, given).mixture.chosen
            paid = np.take_along_axis(costs, chosen.T, axis=1).T
            rises.append(paid[~train].mean())
    shuffled, plain = np.mean(rises[::2]), np.mean(rises[1::2])
    assert rows["place"]["rise"] == pytest.approx(shuffled - plain, abs=1e-9)
    assert made["choice"] == pytest.approx(plain, abs=1e-9)


def test_copies_stand_in_for_each_other_unless_they_are_exchanged_together():
    data = meta_dataset(noise=0.02)
    data.descriptions[:, 2] = -(data.descriptions[:, 0] ** 3)
    data = data._replace(features=("place", "b", "copy"))
    _, alone = found(data, repeats=2, by="description")
    _, rows = found(data, repeats=2)
    both = next(row for row in rows.values() if len(row["members"]) == 2)
    assert set(both["members"]) == {"place", "copy"} and len(rows) == 2
    assert both["low"] > 0.1
    assert max(alone[name]["rise"] for name in ("place", "copy")) < both["rise"]


def test_a_fit_that_abstains_needs_no_description():
    made, rows = found(meta_dataset(decided=False, runtime=True), repeats=1)
    assert made["unit"] == "PAR10 seconds" and made["abstained"] >= 3
    scale = made["single_best"]
    assert all(abs(row["rise"]) < 0.02 * scale for row in rows.values())


def test_steps_are_exchanged_as_a_whole_or_refused_where_there_are_none():
    data = meta_dataset(runtime=True)
    _, rows = found(data, repeats=2, by="step")
    assert rows["dear"]["members"] == ["b", "c"]
    assert rows["cheap"]["rise"] > 10 * abs(rows["dear"]["rise"])
    with pytest.raises(InputError, match="names no steps"):
        found(data._replace(groups=(), group_costs=np.zeros((80, 0))), by="step")


def test_parts_of_the_exchanges_give_the_same_as_all_at_once(monkeypatch):
    data = meta_dataset(noise=0.1)._replace(families=np.arange(80) // 2)
    folds = np.stack([np.where(np.arange(80) < 6, -1, np.arange(80) // 2 % 4)] * 2)
    monkeypatch.setattr(importance, "ROWS", 160)
    whole = importance.importance(data, folds, repeats=2)
    monkeypatch.setattr(importance, "ROWS", 80)
    told = []
    parts = importance.importance(
        data, folds, repeats=2, report=lambda *about: told.append(about[1:3])
    )
    assert whole["tasks"] == 74 and whole["families"] == 37 and whole["seeds"] == 2
    for one, other in zip(whole["descriptions"], parts["descriptions"]):
        assert one["name"] == other["name"]
        for name in ("rise", "low", "high"):
            assert one[name] == pytest.approx(other[name], abs=1e-9)
    assert told[-1][0] == told[-1][1] == 8 * 2


def test_like_descriptions_are_found_by_their_ranks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    columns = [
        x[:, 0],
        np.exp(-3 * x[:, 0]),
        x[:, 1],
        np.ones(60),
        x[:, 2] ** 3,
        x[:, 2],
    ]
    groups = importance.alike(np.stack(columns, axis=1))
    assert sorted(sorted(group.tolist()) for group in groups) == [[0, 1], [2], [4, 5]]
    assert importance.alike(np.ones((9, 2))) == []


def test_values_of_families_have_the_mean_of_their_tasks():
    values, families = np.array([[1.0, 2.0, 6.0, 7.0]]), np.array([5, 5, 9, 9])
    made = importance._over_families(values, families)
    np.testing.assert_allclose(made, [[1.5, 6.5]])
    uneven = importance._over_families(values, np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(uneven, [[4.5, 3.5]])
    np.testing.assert_allclose(uneven.mean(), values.mean())
