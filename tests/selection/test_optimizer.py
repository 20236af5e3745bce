"""The meta-optimizer on meta-datasets whose best settings are known."""

import json

import numpy as np
import pandas as pd
import pytest
from small_meta import meta_dataset

from jmeta.data.metadataset import write_folder
from jmeta.data.records import Metric
from jmeta.errors import InputError
from jmeta.evaluation import scores
from jmeta.selection import optimizer, proposer, study, surface

pytestmark = pytest.mark.slow

RESPONSE, MIXTURE, SINGLE = range(3)


def tried(costs, frame, tasks, **changes):
    names = tuple(f"c{i}" for i in range(len(frame)))
    return meta_dataset(num_tasks=len(costs))._replace(
        descriptions=tasks,
        costs=costs,
        solved=np.isfinite(costs),
        candidates=names,
        settings=frame,
        metric=Metric("loss", False, None),
        **changes,
    )


def smooth(num_tasks=90, seed=0):
    """Two numbers, of which the best are known functions of the description."""
    rng = np.random.default_rng(seed)
    tasks = rng.random((num_tasks, 3))
    grid = rng.random((60, 2))
    frame = pd.DataFrame(
        {
            "rate": (1e-3 * 10 ** (3 * grid[:, 0])).tolist(),
            "share": grid[:, 1].tolist(),
            "same": [1] * 60,
        },
        dtype=object,
    )
    costs = np.square(best(tasks)[:, None] - grid).sum(axis=2)
    return tried(costs, frame, tasks)


def best(tasks):
    return np.stack([0.2 + 0.6 * tasks[:, 0], 0.8 - 0.6 * tasks[:, 1] ** 2], axis=1)


def bimodal(num_tasks=90):
    """Both ends are good, which one is better the description tells; between is bad."""
    rng = np.random.default_rng(1)
    tasks, place = rng.random((num_tasks, 3)), np.linspace(0, 1, 21)
    high = np.where(tasks[:, :1] > 0.5, 0.05, 0.0)
    ends = np.minimum(place**2 + high, (1 - place) ** 2 + 0.05 - high)
    return tried(ends, pd.DataFrame({"place": place.tolist()}, dtype=object), tasks)


def learnt(data, num_folds=3):
    folds = np.arange(len(data.tasks)) % num_folds
    train = np.stack([folds != fold for fold in range(num_folds)])
    keys = np.arange(num_folds, dtype=np.uint32)
    return optimizer.learn(data, train, keys), folds


def by(made, folds, way):
    return optimizer.propose(made, folds, np.full(len(made.train), way))


@pytest.fixture(scope="module")
def on_smooth():
    data = smooth()
    return data, *learnt(data)


@pytest.mark.parametrize("way", [RESPONSE, MIXTURE, SINGLE])
def test_the_best_settings_are_found_where_they_are_a_function_of_the_task(
    on_smooth, way
):
    data, made, folds = on_smooth
    proposed = by(made, folds, way)
    truth = best(data.descriptions)
    rates = [made.space.decode(row[0])["rate"] for row in proposed.units]
    found = np.stack([np.log10(rates) / 3 + 1, proposed.units[:, 0, 1]], axis=1)
    away = np.abs(found - truth).mean()
    blind = np.abs(truth - truth.mean(axis=0)).mean()
    assert away < 0.55 * blind
    regret = scores(data, folds, proposed.recommended)["regret@1"]
    floor = scores(data, folds, study.recommend_by("single_best", data, folds, 0))
    assert regret < 0.5 * floor["regret@1"]


def test_the_response_model_goes_between_candidates_and_gets_nearer(on_smooth):
    data, made, folds = on_smooth
    still = made._replace(movable=np.zeros_like(made.movable))
    truth = best(data.descriptions)
    moved = by(made, folds, RESPONSE)
    started = by(still, folds, RESPONSE)
    np.testing.assert_array_equal(moved.nearest, started.nearest)
    rates = data.settings["rate"].tolist()
    scale = np.log10(max(rates) / min(rates)) / 3
    offset = np.log10(min(rates)) / 3 + 1
    shares = data.settings["share"].tolist()

    def error(proposed):
        unit = proposed.units[:, 0]
        found = np.stack(
            [offset + scale * unit[:, 0], min(shares) + np.ptp(shares) * unit[:, 1]], 1
        )
        return np.abs(found - truth).mean()

    assert error(moved) < 0.9 * error(started)


def test_where_good_settings_are_at_both_ends_their_mean_is_not_proposed():
    data = bimodal()
    made, folds = learnt(data)
    regret = [
        scores(data, folds, by(made, folds, way).recommended)["regret@1"]
        for way in (RESPONSE, MIXTURE)
    ]
    assert max(regret) < 0.15
    chosen = optimizer.propose(made, folds)
    assert scores(data, folds, chosen.recommended)["regret@1"] < 0.15


def test_settings_of_every_kind_and_missing_runs_are_proposed_as_candidates_have_them():
    rng = np.random.default_rng(0)
    tasks = rng.random((60, 3))
    kernels = ["rbf"] * 10 + ["poly"] * 10
    frame = pd.DataFrame(
        {
            "kernel": kernels,
            "width": [*np.geomspace(0.01, 10, 10).tolist(), *[None] * 10],
            "degree": [*[None] * 10, *range(1, 11)],
            "flag": [place % 2 == 0 for place in range(20)],
            "same": [3] * 20,
        },
        dtype=object,
    )
    at = np.tile(np.linspace(0, 1, 10), 2)
    costs = np.abs(tasks[:, :1] - at) + np.where(np.arange(20) < 10, tasks[:, 1:2], 0.5)
    whole = np.concatenate([costs, np.full((60, 1), 0.7)], axis=1)
    costs[rng.random(costs.shape) < 0.3] = np.nan
    # One candidate of which nothing is known but its cost.
    frame = pd.concat([frame, pd.DataFrame([{}], columns=frame.columns, dtype=object)])
    frame = frame.astype(object).where(frame.notna(), None).reset_index(drop=True)
    costs = np.concatenate([costs, np.full((60, 1), 0.7)], axis=1)
    data = tried(costs, frame, tasks)
    made, folds = learnt(data)
    assert made.places.tolist() == list(range(20))
    for way in (RESPONSE, MIXTURE, SINGLE):
        proposed = by(made, folds, way)
        assert (proposed.nearest < 20).all()
        for row in proposed.units[::7]:
            for unit in row:
                found = made.space.decode(unit)
                numbers = {"degree": int} if found["kernel"] == "poly" else {}
                numbers = numbers or {"width": float}
                kinds = {"kernel": str, "flag": bool, "same": int, **numbers}
                assert {k: type(v) for k, v in found.items()} == kinds
                assert found["same"] == 3
                assert 1 <= found.get("degree", 1) <= 10
                assert 0.01 <= found.get("width", 1.0) <= 10
        order = proposed.recommended.order
        assert order.shape == (60, 10)
        assert all(len(set(row)) == 10 for row in order.tolist())
    # What was never run is judged here too: missing runs would rule the scores.
    full = data._replace(costs=whole, solved=np.isfinite(whole))
    regret = scores(full, folds, by(made, folds, RESPONSE).recommended)["regret@1"]
    floor = scores(full, folds, study.recommend_by("single_best", data, folds, 0))
    assert regret < 0.5 * floor["regret@1"]


def test_a_fit_knows_nothing_of_the_tasks_that_test_it(on_smooth):
    data, *_ = on_smooth
    train = (np.arange(90) < 60)[None]
    keys = np.zeros(1, np.uint32)
    other = np.where(train.T, data.costs, data.costs[:, ::-1])
    asked = np.zeros(90, int)
    one = optimizer.learn(data, train, keys)
    two = optimizer.learn(data._replace(costs=other), train, keys)
    np.testing.assert_array_equal(one.regrets, two.regrets)
    for way in (RESPONSE, MIXTURE, SINGLE):
        np.testing.assert_allclose(
            by(one, asked, way).units, by(two, asked, way).units, atol=1e-5
        )


def test_more_fits_compile_nothing_and_change_none_of_the_others(on_smooth):
    data, made, _ = on_smooth
    programs = (surface._surfaces, surface._spectra, proposer._networks)
    compiled = [program._cache_size() for program in programs]
    more, _ = learnt(data, num_folds=5)
    assert len(more.regrets) == 5
    again = optimizer.learn(data, made.train[:2], np.arange(2, dtype=np.uint32))
    assert compiled == [program._cache_size() for program in programs]
    np.testing.assert_allclose(again.regrets, made.regrets[:2], atol=1e-6)


def test_fewer_candidates_than_proposals_give_as_many_as_there_are():
    data = meta_dataset(noise=0.05)
    frame = pd.DataFrame({"place": [0.1, 0.4, 0.6, 0.9]}, dtype=object)
    made, folds = learnt(data._replace(settings=frame))
    for way in (RESPONSE, MIXTURE, SINGLE):
        proposed = by(made, folds, way)
        assert proposed.units.shape == (80, 4, 1)
        assert proposed.recommended.order.shape == (80, 4)


@pytest.mark.parametrize(
    "settings",
    [
        None,
        pd.DataFrame({"a": [1, 1, 1, 1]}, dtype=object),
        pd.DataFrame({"a": [None] * 4}, dtype=object),
        pd.DataFrame({"a": [1, None, None, None]}, dtype=object),
    ],
)
def test_without_settings_that_differ_it_says_what_to_do(settings):
    data = meta_dataset(num_tasks=40)._replace(settings=settings)
    assert not study.applies("meta_optimizer", data)
    assert "meta_optimizer" not in study.methods_for(data)
    with pytest.raises(InputError, match=r"small tells no settings .* candidates\.csv"):
        learnt(data)


def test_evaluate_tells_it_beside_the_others(tmp_path, run):
    write_folder(tmp_path / "meta", smooth()._replace(name="meta"))
    args = ["--seeds", "1", "--methods", "meta_optimizer", "single_best", "--json"]
    code, out, _ = run("evaluate", tmp_path / "meta", *args)
    assert code == 0
    found = json.loads(out)["methods"]
    ours = found["meta_optimizer"]
    assert ours["regret@1"] < 0.5 * found["single_best"]["regret@1"]
    assert sum(ours["ways"].values()) == ours["fits"] == 10 and ours["seconds"] > 0


def test_methods_that_cannot_be_run_are_told_in_a_sentence(tmp_path, run):
    write_folder(tmp_path / "meta", meta_dataset()._replace(name="meta"))
    args = ["--seeds", "1", "--methods", "meta_optimizer"]
    code, out, err = run("evaluate", tmp_path / "meta", *args)
    assert code == 2 and not out
    assert "meta: meta_optimizer cannot be run on such data" in err


def test_another_way_is_taken_only_if_it_is_surely_better():
    rng = np.random.default_rng(0)
    first = rng.random(200)
    noise = rng.normal(size=200)
    ways = [first, first + noise - noise.mean() - 0.01, first + 0.1]
    better = [first, first - 0.01, first - 0.02]
    regrets, train = np.stack([ways, better]), np.ones((2, 200), bool)
    assert optimizer.chosen_ways(regrets, train).tolist() == [0, 2]
    # What is outside training counts nothing.
    regrets[1, :, 100:] = 0.0
    train[:, 100:] = False
    assert optimizer.chosen_ways(regrets, train).tolist()[1] == 2
