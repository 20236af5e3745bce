"""Recommendations of the shipped meta-model: consistent, explained, repeatable."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import explain, pipeline, predictor, recommend
from jmeta.data import builtin
from jmeta.errors import InputError
from jmeta.tasks import pad_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoded():
    features, target, kind = builtin.load("breast_cancer")
    rows = np.arange(0, len(target), 6)
    return pipeline.encode_table(features.iloc[rows, :12], target.iloc[rows], kind=kind)


@pytest.fixture(scope="module")
def zero_shot(encoded):
    return pipeline.recommend_table(encoded)


@pytest.fixture(scope="module")
def tried(encoded):
    return pipeline.recommend_table(encoded, budget=3)


def test_it_holds_what_the_command_line_prints_and_json_can(zero_shot):
    plain = json.loads(json.dumps(zero_shot.to_json(), allow_nan=False))
    assert set(plain["task"]) == {"rows", "features", "kind", "classes"}
    expected = plain["recommendation"]["expected"]
    assert expected["low"] <= expected["value"] <= expected["high"]
    assert {"model", "settings", "expected", "std"} <= set(plain["ranking"][0])
    assert {"feature", "effect"} == set(plain["explanation"][0])
    assert {"name", "version", "trained_on"} == set(plain["meta_model"])


def test_the_ranking_is_in_order_of_what_is_expected(zero_shot, tried):
    for made in (zero_shot, tried):
        values = [row["expected"] for row in made.ranking]
        assert values == sorted(values)


def test_the_same_table_gets_the_same_recommendation_and_explanation(
    encoded, zero_shot
):
    assert pipeline.recommend_table(encoded).to_json() == zero_shot.to_json()


@pytest.fixture(scope="module")
def grown(encoded):
    """The same table among more padding, which holds NaN."""
    table = encoded.table
    padded = pad_table(
        np.asarray(table.x), np.asarray(table.y), np.asarray(table.columns), rows=256
    )
    real = jnp.arange(256) < table.mask.sum()
    return padded._replace(mask=real, x=jnp.where(real[:, None], padded.x, jnp.nan))


def test_padding_changes_no_recommendation(grown, zero_shot):
    model = pipeline.load_models()["classes"]
    made = recommend.recommend(model, grown, num_classes=2)
    assert made.model == zero_shot.model
    np.testing.assert_allclose(
        made.expected["value"], zero_shot.expected["value"], atol=2e-2
    )


@pytest.mark.parametrize("made", ["zero_shot", "tried"])
def test_padding_changes_no_fitted_model(encoded, grown, made, request):
    made = dataclasses.replace(request.getfixturevalue(made), trained=None)
    x = np.asarray(encoded.table.x)[np.asarray(encoded.table.mask)]
    one = predictor.fit(made, encoded.table).predict(x)
    other = predictor.fit(made, grown).predict(x)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_attributions_add_up_to_the_difference_they_explain(encoded):
    model = pipeline.load_models()["classes"]
    description = recommend.describe_table(encoded.table, "classes", 2)
    scaler = jax.tree.map(lambda x: x[0], model.params["classifier"]["scaler"])
    both = jnp.stack([jnp.asarray(description), scaler["centre"]])
    here, average = np.asarray(model.predict(both).mean)[:, :, 0]
    one, other = np.argsort(here)[[0, 5]].tolist()
    effects = explain.attributions(model, description, one, other, 0)
    gained = (here[other] - here[one]) - (average[other] - average[one])
    np.testing.assert_allclose(effects.sum(), gained, atol=1e-3)


def test_a_budget_cross_validates_that_many_and_weights_sum_to_one(tried):
    assert tried.evidence["cross_validated"] == 3
    assert len(tried.ranking) == 3
    np.testing.assert_allclose(sum(m.weight for m in tried.members), 1.0, rtol=1e-5)


def test_without_an_ensemble_one_candidate_is_returned(encoded):
    made = pipeline.recommend_table(encoded, budget=3, ensemble=False)
    assert len(made.members) == 1
    best = made.ranking[0]
    assert made.to_json()["recommendation"]["model"] == best["model"]


def test_an_abstention_returns_the_single_best(encoded, monkeypatch):
    model = pipeline.load_models()["classes"]
    monkeypatch.setitem(model.params, "sure", np.full(5, 1.1, np.float32))
    made = recommend.recommend(model, encoded.table, num_classes=2)
    assert made.abstained
    chosen = {"model": made.model, "settings": made.settings}
    assert chosen == made.single_best


def test_a_metric_of_another_kind_and_a_negative_budget_are_refused(encoded):
    with pytest.raises(InputError, match="metric must be one of"):
        pipeline.recommend_table(encoded, metric="rmse")
    with pytest.raises(InputError, match="budget must be at least 0"):
        pipeline.recommend_table(encoded, budget=-1)


def test_calibrated_probabilities_sum_to_one_on_any_number_of_rows(encoded, tried):
    fitted = pipeline.fit_table(encoded, tried)
    for rows in (1, 70):
        x = np.asarray(encoded.table.x)[:rows, : fitted.predictor.features]
        out = fitted.predictor.predict(x)
        assert out.shape == (rows, 2)
        np.testing.assert_allclose(out.sum(1), 1.0, rtol=1e-6)
