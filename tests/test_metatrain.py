"""Meta-training from prior to meta-model: resumed runs equal uninterrupted ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import metamodel, metatrain
from jmeta.candidates import candidates_of
from jmeta.errors import InputError
from jmeta.metadata import Bucket
from jmeta.metamodel import Shape
from jmeta.plans import Plan, Share

pytestmark = pytest.mark.slow

CANDIDATES = (
    *candidates_of("lda", [{"shrinkage": 0.3}]),
    *candidates_of("logistic", [{"penalty": 2.0}, {"penalty": 100.0}]),
)
PLAN = Plan(
    shares=(Share(Bucket(64, 8, 2, 24, 48), 16, 8),),
    num_steps=12,
    optimizer_steps=10,
    through_steps=2,
    batch=8,
    shape=Shape(members=2, width=16, blocks=1),
)


def _train(folder, **options):
    return metatrain.meta_train(
        folder, "classes", PLAN, candidates=CANDIDATES, seed=3, **options
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, _train(folder)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(run, tmp_path):
    _, whole = run

    def stop(stage, done, total, numbers):
        if stage.endswith("measure proposed settings"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, report=stop)
    resumed = _train(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)


def test_the_model_survives_its_file(run, tmp_path):
    _, model = run
    path = tmp_path / "model.safetensors"
    metamodel.save(path, {"classes": model})
    loaded = metamodel.load(path)["classes"]
    assert loaded.candidates == model.candidates
    description = jnp.zeros((1, len(metamodel.names("classes"))))
    np.testing.assert_array_equal(
        loaded.predict(description).mean, model.predict(description).mean
    )
    for name, units in model.propose(description).items():
        np.testing.assert_array_equal(loaded.propose(description)[name], units)


def test_a_model_of_another_layout_or_schema_is_refused(run, tmp_path, monkeypatch):
    _, model = run
    path = tmp_path / "model.safetensors"
    metamodel.save(path, {"classes": model})
    monkeypatch.setattr(metamodel, "SCHEMA_VERSION", 99)
    with pytest.raises(InputError, match="schema 1, and this jmeta computes schema 99"):
        metamodel.load(path)
    monkeypatch.setattr(metamodel, "VERSION", 7)
    with pytest.raises(InputError, match="not a meta-model of layout 7"):
        metamodel.load(path)


def test_a_learner_that_is_not_registered_is_named(run, tmp_path):
    _, model = run
    strange = model.candidates[0]._replace(learner="oracle")
    renamed = dataclasses.replace(model, candidates=(strange, *model.candidates[1:]))
    path = tmp_path / "model.safetensors"
    metamodel.save(path, {"classes": renamed})
    with pytest.raises(InputError, match=r"not registered here: \['oracle'\]"):
        metamodel.load(path)


def test_measured_tasks_of_other_candidates_are_not_mixed_in(run, tmp_path):
    folder, _ = run
    (tmp_path / "meta").symlink_to(folder / "meta")
    with pytest.raises(InputError, match="made for other candidates"):
        metatrain.meta_train(
            tmp_path, "classes", PLAN, candidates=CANDIDATES[:3], seed=3
        )


def test_proposed_candidates_were_measured_on_the_later_tasks_only(run):
    folder, model = run
    free = [i for i, c in enumerate(model.candidates) if c.unit is None]
    parts = {p.name.split("-")[1]: np.load(p) for p in (folder / "meta").iterdir()}
    assert np.isnan(parts["fixed settings"]["scores"][:, free]).all()
    assert np.isfinite(parts["proposed settings"]["scores"][:, free]).all()


def test_the_single_best_is_a_fixed_candidate(run):
    _, model = run
    assert model.candidates[model.single_best()].unit is not None


def test_sureness_is_the_threshold_with_the_lowest_mean_cost():
    # Candidate 1 is predicted to gain .1 and always does: never abstain.
    candidates = CANDIDATES[:1] * 2
    predicted = np.tile([[[0.5], [0.4]]], (6, 1, 1))
    typical = np.array([[0.45], [0.5]])
    good = metatrain._sureness(predicted, predicted, typical, candidates)
    assert good[0] == 0.0
    # It is predicted to gain and always loses: always abstain.
    bad = metatrain._sureness(predicted, predicted[:, ::-1], typical, candidates)
    assert bad[0] > 0.0
