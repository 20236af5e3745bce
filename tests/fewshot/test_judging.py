import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_fewshot import PLAN, source, untrained, write_tasks

from jmeta.episodes import make_bank
from jmeta.errors import InputError
from jmeta.fewshot.drawing import held_out_episodes, judging_draws, shuffled
from jmeta.fewshot.judging import COVERAGES, judge
from jmeta.fewshot.training import Held, calibrate
from jmeta.fewshot.words import notes_of, tables_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def made(folder):
    data = source(folder, "valid").data
    return judge(untrained(data), data, (8, 16), draws=2, seed=3)


def test_an_evaluation_tells_every_method_and_size(made):
    assert set(made["shots"]) == {"8", "16"}
    for found in made["shots"].values():
        assert found["tasks"] == 3
        assert set(found["methods"]) == {
            "model",
            "model, not calibrated",
            "model, supports shuffled",
            "tanimoto",
            "logistic",
            "forest",
        }
        assert "log_loss" not in found["methods"]["tanimoto"]
        for metric in ("dauprc", "auc", "log_loss", "calibration_error"):
            assert np.isfinite(found["methods"]["model"][metric]["mean"])
    means = [task["scores"]["forest"]["auc"] for task in made["tasks"]["16"]]
    told = made["shots"]["16"]["methods"]["forest"]["auc"]
    np.testing.assert_allclose(told["mean"], np.mean(means))
    error = np.std(means, ddof=1) / 3**0.5
    np.testing.assert_allclose(told["standard_error"], error, rtol=1e-6)
    captions = [table.caption for table in tables_of(made)]
    assert len(captions) == 5 and "Abstention" in captions[-1]
    assert any("perfectly calibrated" in note for note in notes_of(made))


def test_a_temperature_changes_no_order(made):
    for found in made["shots"].values():
        plain, model = (found["methods"][n] for n in ("model, not calibrated", "model"))
        np.testing.assert_allclose(plain["auc"]["mean"], model["auc"]["mean"])


def test_more_coverage_answers_more(made):
    for found in made["shots"].values():
        shares = [found["abstention"][str(c)]["answered"] for c in COVERAGES]
        assert shares == sorted(shares) and shares[0] < shares[-1] <= 1


def test_tasks_that_were_trained_on_are_told(folder):
    data = source(folder).data
    found = judge(untrained(data), data, (8,), draws=2, floors=False)
    assert found["seen"] == 2
    assert notes_of(found)[-1].startswith("2 of the tasks are of families that were")


def test_tasks_that_are_too_small_are_refused_by_what_to_do(folder):
    data = source(folder, "valid").data
    with pytest.raises(InputError, match="choose smaller --shots"):
        judge(untrained(data), data, (500,), draws=1)


def test_numbers_are_judged_beside_the_mean_of_the_support(folder):
    data = source(folder, "valid", kind="number").data
    model = untrained(data, algorithm="ridge_head", kind="number")
    found = judge(model, data, (8,), draws=2)["shots"]["8"]["methods"]
    assert set(found["model"]) == {"r2", "rmse", "coverage"}
    assert {"tanimoto", "ridge", "forest"} < set(found)
    # Fingerprints that say nothing are no better than the mean.
    assert all(found[name]["r2"]["mean"] < 0.1 for name in found)


def test_a_shuffled_support_has_the_targets_it_had(folder):
    data = source(folder, "valid").data
    (drawn, *_) = judging_draws(PLAN, make_bank(data), (8, 16), 2)
    other = shuffled(drawn)
    support, mixed = drawn.episodes.support, other.episodes.support
    np.testing.assert_array_equal(support.mask, mixed.mask)
    np.testing.assert_array_equal(support.x, mixed.x)
    for y, mask, new in zip(support.y, support.mask, mixed.y):
        assert sorted(y[mask].tolist()) == sorted(new[mask].tolist())
    assert (support.y != mixed.y).any()


def seen(task):
    return jnp.sum(task.support.mask), jnp.sum(task.query.x)


def test_held_out_episodes_take_every_task_alike(folder):
    data = source(folder, "valid").data
    over = held_out_episodes(PLAN, make_bank(data), (8, 16), most=6)
    look = jax.jit(lambda over: over(seen))
    rows, first = look(over)
    assert rows.tolist() == [8] * 6 + [16] * 6
    np.testing.assert_array_equal(first, look(over)[1])
    assert len(set(first.tolist())) > 3  # Draws differ.


def test_intervals_of_numbers_hold_the_share_that_they_promise():
    rng = np.random.default_rng(0)
    # Heavier tails than a normal distribution has, and twice too sure.
    y = 2.0 * rng.standard_t(4, (60, 50)).astype(np.float32)
    held = Held(
        out=jnp.zeros(y.shape),
        log_std=jnp.zeros(y.shape),
        y=jnp.asarray(y),
        mask=jnp.ones(y.shape, bool),
        rows=jnp.full(60, 16),
    )
    found = calibrate(held)
    half = float(found.reach[0]) * np.exp(0.5 * float(found.power[0]))
    # The reach is at 16 rows, where the power's slope is 0 but for caution.
    assert abs(np.mean(np.abs(y) <= half) - 0.9) < 0.01
