"""The whole selector on meta-datasets whose right answers are known."""

import numpy as np
import pytest
from small_meta import meta_dataset

from jmeta.data.records import MetaDataset
from jmeta.evaluation import scores
from jmeta.selection import experts, inputs, selector, study

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(experts, "NUM_TREES", 20)


def evaluated(data: MetaDataset, seeds=1):
    folds = study.folds_of(data, None, seeds)
    return study.evaluate(data, folds, ["jmeta", "single_best"])["methods"]


@pytest.mark.parametrize("runtime", [False, True])
def test_descriptions_that_decide_are_learnt_from(runtime):
    made = evaluated(meta_dataset(runtime=runtime, noise=0.02))
    metric = "npar10" if runtime else "regret@1"
    assert made["jmeta"][metric] < 0.65 * made["single_best"][metric]


def test_descriptions_that_say_nothing_make_it_abstain():
    data = meta_dataset(decided=False, runtime=True)
    made = evaluated(data)["jmeta"]
    assert made["abstained"] >= made["fits"] - 1
    assert made["npar10"] == pytest.approx(1.0, abs=0.1)


def test_steps_that_cost_more_than_they_tell_are_left_out():
    data = meta_dataset(runtime=True)
    costs = np.stack([np.full(80, 0.1), np.full(80, 40.0)], axis=1)
    folds = study.folds_of(data, None, 1)
    train = np.stack([folds[0] != fold for fold in range(5)])
    selected = selector.select(
        data._replace(group_costs=costs), train, np.arange(5, dtype=np.uint32)
    )
    assert selected.usable.tolist() == [[True, False, False]] * 5
    assert not selected.abstained.any()
    np.testing.assert_allclose(selected.charged, 0.1)


def test_sets_of_features_fall_by_what_they_cost():
    data = meta_dataset(runtime=True)
    assert len(selector.feature_sets(data)) == 1
    costs = np.stack([np.full(80, 1.0), np.full(80, 40.0)], axis=1)
    sets = selector.feature_sets(data._replace(group_costs=costs))
    assert [one.usable.tolist() for one in sets] == [[True] * 3, [True, False, False]]
    assert [one.charge[0] for one in sets] == [41.0, 1.0]


def test_steps_that_cost_nothing_are_never_left_out():
    data = meta_dataset(runtime=True)
    free = [group._replace(requires=()) for group in data.groups]
    assert len(selector.feature_sets(data._replace(groups=tuple(free)))) == 1


def test_more_fits_compile_nothing_and_change_none_of_the_others():
    data = meta_dataset(noise=0.1)
    folds = np.arange(80) % 4
    train = np.stack([folds != fold for fold in range(4)])
    keys = np.arange(4, dtype=np.uint32)
    part = selector.select(data, train[:2], keys[:2])
    programs = (
        experts._forests,
        experts._networks,
        experts._ridges,
        selector._mix,
        selector._trusts,
        selector._portfolios,
        inputs._prepare,
    )
    few = selector.recommend(part, np.arange(80) % 2, 3, least=0.0)
    compiled = [program._cache_size() for program in programs]
    whole = selector.select(data, train, keys)
    more = selector.recommend(whole, np.arange(80) % 2, 3, least=0.0)
    assert compiled == [program._cache_size() for program in programs]
    np.testing.assert_array_equal(whole.mixture.chosen[:2], part.mixture.chosen)
    np.testing.assert_allclose(
        whole.mixture.expected[:2], part.mixture.expected, atol=1e-4
    )
    np.testing.assert_array_equal(more.order, few.order)


def test_seeds_of_the_same_folds_share_the_kernels_and_draw_the_rest():
    data = meta_dataset(noise=0.1)
    train = np.tile(np.arange(80) < 60, (3, 1))
    made = inputs.make_inputs(data, train, np.array([7, 8, 7], np.uint32))
    kernels, trees = experts.kernel(made), experts.forest(made)
    np.testing.assert_array_equal(kernels, np.broadcast_to(kernels[0], kernels.shape))
    np.testing.assert_array_equal(trees[0], trees[2])
    assert (trees[0] != trees[1]).any()
    both = np.stack([train[0], train[0, ::-1]])
    apart = inputs.make_inputs(data, both, np.array([7, 7], np.uint32))
    np.testing.assert_allclose(experts.kernel(apart)[0], kernels[0], atol=1e-6)
    assert (experts.kernel(apart)[1] != kernels[0]).any()


def test_a_fit_does_not_depend_on_what_others_beside_it_miss():
    data = meta_dataset(noise=0.1)
    x = data.descriptions.copy()
    x[60:, 1] = np.nan  # Only where the first fit does not learn.
    data = data._replace(descriptions=x)
    train = np.stack([np.arange(80) < 60, np.arange(80) >= 20])
    keys = np.arange(2, dtype=np.uint32)
    alone = selector.select(data, train[:1], keys[:1])
    compiled = experts._networks._cache_size(), experts._ridges._cache_size()
    beside = selector.select(data, train, keys)
    assert compiled == (experts._networks._cache_size(), experts._ridges._cache_size())
    np.testing.assert_allclose(
        beside.mixture.expected[0], alone.mixture.expected[0], atol=1e-4
    )


def test_a_family_that_the_kernel_learns_from_in_part_is_not_judged_by_it(monkeypatch):
    """Families are copies: who learns from a sibling is right."""
    monkeypatch.setattr(experts, "KERNEL_TASKS", 25)
    data = meta_dataset(num_tasks=40, families=np.repeat(np.arange(4), 10))
    costs = np.repeat(np.random.default_rng(0).random((4, 4)), 10, axis=0)
    data = data._replace(
        costs=costs, descriptions=np.repeat(np.arange(4.0), 10)[:, None] * np.ones(3)
    )
    made = inputs.make_inputs(data, np.ones((1, 40), bool), np.zeros(1, np.uint32))
    told = experts.kernel(made)[0, 0].reshape(40, 4, 2)[..., 0]
    found = (costs - np.asarray(made.base)[0, :, 0]) / np.asarray(made.spread)[0, 0]
    close = [np.corrcoef(told[t], found[t])[0, 1] for t in range(40)]
    assert max(close) < 0.9


def test_the_loss_of_costs_predicts_them_and_that_of_the_best_does_not():
    data = meta_dataset(num_tasks=200, noise=0.02)
    train = (np.arange(200) < 160)[None]
    made = inputs.make_inputs(data, train, np.zeros(1, np.uint32))
    above = (made.costs[None] - made.base[:, None]) / made.spread[:, None, None]

    def error(loss):
        told = experts.network(made, loss).reshape(above.shape)
        return float(np.mean(np.square(told - above)[0, 160:, :, 0]))

    assert error("cost") < 0.7 * min(error("best"), error("bce"))


def test_a_fit_knows_nothing_of_the_tasks_that_test_it():
    data = meta_dataset(noise=0.1)
    train = (np.arange(80) < 60)[None]
    keys = np.zeros(1, np.uint32)
    costs = np.where(train.T, data.costs, data.costs[:, ::-1])
    one = selector.select(data, train, keys)
    other = selector.select(data._replace(costs=costs), train, keys)
    np.testing.assert_array_equal(one.mixture.chosen, other.mixture.chosen)


@pytest.mark.parametrize("what", ["two", "no feature", "one family", "unsolved"])
def test_unusual_meta_datasets_are_evaluated(what):
    # Of the shapes of other tests, whose programs it shares.
    num_candidates = 2 if what == "two" else 4
    data = meta_dataset(num_candidates=num_candidates, runtime=what == "unsolved")
    if what == "no feature":
        data = data._replace(descriptions=np.full((80, 3), np.nan))
    if what == "one family":
        data = data._replace(families=np.repeat(np.arange(10), 8))
    if what == "unsolved":
        first = (data.folds[0] == 0)[:, None]
        data = data._replace(
            costs=np.where(first, 1000.0, data.costs),
            solved=np.where(first, False, data.solved),
        )
    made = evaluated(data)["jmeta"]
    assert all(np.isfinite(v) for v in made["by_seed"][next(iter(made["by_seed"]))])


def test_recommended_sets_hold_different_candidates_and_start_with_the_choice():
    data = meta_dataset(noise=0.1)
    folds = study.folds_of(data, None, 1)
    train = np.stack([folds[0] != fold for fold in range(10)])
    selected = selector.select(data, train, np.arange(10, dtype=np.uint32))
    made = selector.recommend(selected, folds[0], 4)
    assert all(len(set(row)) == 4 for row in made.order.tolist())
    chosen = selected.mixture.chosen[folds[0], np.arange(80)]
    np.testing.assert_array_equal(made.order[:, 0], chosen)
    assert scores(data, folds[0], made)["regret@1"] >= 0
