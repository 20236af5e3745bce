import dataclasses

import jax
import numpy as np
import pytest
from tiny_fewshot import PLAN, RECIPE, source, trained, write_tasks

from jmeta.errors import InputError
from jmeta.fewshot import model as models
from jmeta.fewshot.judging import COVERAGES, judge
from jmeta.fewshot.words import notes_of, tables_of
from jmeta.publish import load_model, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """The folder of a run, and its model."""
    out = tmp_path_factory.mktemp("run")
    return out, trained(folder, out)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_resumed_run_equals_one_that_was_never_stopped(folder, run, tmp_path):
    def stop(stage, done, total, numbers):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(folder, tmp_path, report=stop)
    assert not (tmp_path / "model.safetensors").exists()
    seen = []
    again = trained(folder, tmp_path, report=lambda *told: seen.append(told[:2]))
    assert seen[0] == ("training", 2)
    same(again.params, run[1].params)
    same(again.calibration, run[1].calibration)
    assert again.header["step"] == run[1].header["step"]


def test_what_is_read_is_what_was_written(run):
    out, model = run
    again = models.load(out)
    same(again.params, model.params)
    same(again.calibration, model.calibration)
    assert (again.recipe, again.plan) == (RECIPE, PLAN)
    assert again.reader == model.reader and again.header == model.header
    assert len(again.header["origins"]) == 9


def test_files_that_are_no_such_model_are_refused(run, tmp_path):
    out, _ = run
    whole = (out / "model.safetensors").read_bytes()
    path = tmp_path / "m.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        models.load(path)
    params, header = load_model(out / "model.safetensors")
    save_model(path, params, header | {"content": "meta-model"})
    with pytest.raises(InputError, match="not a few-shot model"):
        models.load(path)
    wrong = header["recipe"] | {"hidden": [9]}
    save_model(path, params, header | {"recipe": wrong})
    with pytest.raises(InputError, match="where its recipe asks for"):
        models.load(path)
    wrong = header["recipe"] | {"algorithm": "magic"}
    save_model(path, params, header | {"recipe": wrong})
    with pytest.raises(InputError, match="no algorithm is called 'magic'"):
        models.load(path)
    del params["params"]["network"]["first"]
    save_model(path, params, header)
    with pytest.raises(InputError, match="damaged"):
        models.load(path)


@pytest.fixture(scope="module")
def made(folder, run):
    data = source(folder, "valid").data
    return judge(run[1], data, (8, 16), draws=2, seed=3)


def test_an_evaluation_tells_every_method_and_size(made):
    assert set(made["shots"]) == {"8", "16"}
    for found in made["shots"].values():
        assert found["tasks"] == 3
        model = found["methods"]["model"]
        assert set(found["methods"]) == {
            "model",
            "model, not calibrated",
            "model, supports shuffled",
            "tanimoto",
            "logistic",
            "forest",
        }
        for metric in ("dauprc", "auc", "log_loss", "calibration_error"):
            each = [t["scores"]["model"][metric] for t in made["tasks"]["8"]]
            assert np.isfinite(each).all()
            assert model[metric]["standard_error"] >= 0
        assert "log_loss" not in found["methods"]["tanimoto"]
    means = [t["scores"]["forest"]["auc"] for t in made["tasks"]["16"]]
    told = made["shots"]["16"]["methods"]["forest"]["auc"]
    np.testing.assert_allclose(told["mean"], np.mean(means))
    np.testing.assert_allclose(
        told["standard_error"], np.std(means, ddof=1) / 3**0.5, rtol=1e-6
    )
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
        assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1


def test_families_that_were_trained_on_are_told(folder, run):
    data = source(folder).data
    found = judge(run[1], data, (8,), draws=1, floors=False)
    assert found["seen"] == 9
    assert "trained on" in notes_of(found)[-1]


def test_tasks_that_are_too_small_are_refused_by_what_to_do(folder, run, tmp_path):
    data = source(folder, "valid").data
    with pytest.raises(InputError, match="choose smaller --shots"):
        judge(run[1], data, (500,), draws=1)
    plan = PLAN._replace(shots=(500,))
    with pytest.raises(InputError, match="choose smaller --shots"):
        trained(folder, tmp_path, plan=plan)


def test_numbers_are_told_with_intervals(folder, tmp_path):
    recipe = dataclasses.replace(RECIPE, algorithm="ridge_head", kind="number")
    plan = PLAN._replace(kind="number")
    model = trained(folder, tmp_path, recipe=recipe, plan=plan, kind="number")
    data = source(folder, "valid", kind="number").data
    found = judge(model, data, (8,), draws=2)["shots"]["8"]["methods"]
    assert set(found["model"]) == {"r2", "rmse", "coverage"}
    # Of what the fingerprints do not tell, an interval must hold most by its width.
    assert 0.7 <= found["model"]["coverage"]["mean"] <= 1.0
    assert {"tanimoto", "ridge", "forest"} < set(found)
