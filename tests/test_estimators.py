"""The scikit-learn face: its contracts, kept recommendations, and kinds of input."""

import copy
import inspect
import os
import pathlib
import pickle
import tempfile

import numpy as np
import pandas as pd
import polars as pl
import pytest
import untrained
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from jmeta import MetaClassifierCV, MetaRegressorCV, estimators, pipeline
from jmeta.errors import InputError

# Known before any test runs, since the parametrised checks name it.
MODEL = str(
    pathlib.Path(tempfile.gettempdir()) / f"jmeta-untrained-{os.getuid()}.safetensors"
)


@pytest.fixture(scope="module", autouse=True)
def model():
    yield untrained.write(pathlib.Path(MODEL))
    pathlib.Path(MODEL).unlink(missing_ok=True)


def classifier(**options):
    return MetaClassifierCV(model=MODEL, **options)


def regressor(**options):
    return MetaRegressorCV(model=MODEL, **options)


@pytest.fixture
def unchecked(monkeypatch):
    """`__init__` as it is outside the tests, which check its types as they check all:
    scikit-learn wants it to take anything."""
    plain = inspect.unwrap(estimators._Recommended.__init__)
    monkeypatch.setattr(estimators._Recommended, "__init__", plain)


@pytest.mark.slow
@parametrize_with_checks([classifier(), regressor()])
def test_estimators_keep_the_contracts_of_scikit_learn(unchecked, estimator, check):
    check(estimator)


@parametrize_with_checks([classifier(budget=2), regressor(budget=2)], legacy=False)
def test_estimators_with_a_budget_keep_the_contracts(unchecked, estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True, as_frame=True)
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)
    return x, pd.Series(names[y], name="species")


@pytest.fixture(scope="module")
def diabetes():
    x, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    return x[:128], y[:128]


# What is recommended stays recommended.


@pytest.fixture(scope="module")
def fixed(iris):
    return classifier(budget=2).with_recommendation(*iris)


def test_a_recommendation_is_a_parameter_and_nothing_is_fitted(fixed):
    assert fixed.recommendation.evidence["cross_validated"] == 2
    assert not [name for name in vars(fixed) if name.endswith("_")]


def test_finding_a_recommendation_leaves_the_estimator_as_it_was(iris):
    estimator = classifier()
    before = dict(vars(estimator))
    estimator.with_recommendation(*iris)
    assert vars(estimator) == before


@pytest.mark.parametrize(
    "copied",
    [clone, copy.deepcopy, lambda estimator: pickle.loads(pickle.dumps(estimator))],
)
def test_copies_keep_the_recommendation_and_fit_the_same(fixed, iris, copied):
    other = copied(fixed)
    assert other.recommendation.to_json() == fixed.recommendation.to_json()
    one, other = clone(fixed).fit(*iris), other.fit(*iris)
    assert other.recommendation_.members == fixed.recommendation.members
    np.testing.assert_array_equal(
        one.predict_proba(iris[0]), other.predict_proba(iris[0])
    )


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_copies_of_what_is_fitted_predict_the_same(iris, diabetes, copied):
    for estimator, (x, y) in ((classifier(), iris), (regressor(), diabetes)):
        fitted = estimator.fit(x, y)
        np.testing.assert_array_equal(fitted.predict(x), copied(fitted).predict(x))


def counting(monkeypatch):
    """A list that grows whenever a table is recommended for."""
    calls = []
    plain = pipeline.recommend_table

    def counted(*args, **options):
        calls.append(options)
        return plain(*args, **options)

    monkeypatch.setattr(pipeline, "recommend_table", counted)
    return calls


def test_cross_validation_keeps_the_recommendation(fixed, iris, monkeypatch):
    calls = counting(monkeypatch)
    scores = cross_val_score(fixed, *iris, cv=3)
    assert scores.min() > 0.8
    assert not calls
    cross_val_score(classifier(), *iris, cv=3)
    assert len(calls) == 3


def test_pipelines_and_searches_keep_the_recommendation(fixed, iris, monkeypatch):
    calls = counting(monkeypatch)
    piped = make_pipeline(StandardScaler(), clone(fixed))
    out = cross_val_predict(piped, *iris, cv=3, method="predict_proba")
    np.testing.assert_allclose(out.sum(axis=1), 1.0)
    name = "metaclassifiercv__random_state"
    search = GridSearchCV(piped, {name: [0, 1]}, cv=2, scoring="neg_log_loss")
    search.fit(*iris)
    assert search.best_estimator_[-1].recommendation is not None
    assert not calls


def test_a_search_chooses_the_budget(diabetes):
    search = GridSearchCV(regressor(), {"budget": [0, 2]}, cv=2).fit(*diabetes)
    assert search.best_params_["budget"] in (0, 2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_the_single_best_can_be_what_is_fitted(iris):
    best = pipeline.single_best(untrained.untrained("classes"))
    fitted = classifier(recommendation=best).fit(*iris)
    assert fitted.recommendation_.members == best.members
    assert fitted.recommendation_.task["rows"] == len(iris[0])


def test_a_recommendation_for_another_kind_of_target_is_refused(fixed, diabetes):
    estimator = regressor(recommendation=fixed.recommendation)
    with pytest.raises(ValueError, match="for targets of kind 'classes'"):
        estimator.fit(*diabetes)


# Kinds of input.


def mixed_table() -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(5)
    n = 60
    frame = pd.DataFrame(
        {
            "age": random.uniform(20, 90, n),
            "ward": random.choice(["north", "south", "west"], n),
            "dose": random.uniform(0, 5, n),
            "smokes": random.random(n) < 0.4,
        }
    )
    risk = 0.06 * (frame["age"] - 55) + (frame["ward"] == "north") * 1.5
    died = pd.Series(np.where(risk + random.normal(0, 0.4, n) > 0.3, "yes", "no"))
    frame.loc[::7, "dose"] = np.nan
    frame.loc[::11, "ward"] = None
    return frame, died


def test_texts_truth_values_and_missing_cells_are_learnt_from():
    frame, died = mixed_table()
    fitted = classifier(budget=2).fit(frame, died)
    assert list(fitted.classes_) == ["no", "yes"]
    assert list(fitted.feature_names_in_) == list(frame)
    assert fitted.n_features_in_ == 4
    probabilities = fitted.predict_proba(frame)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    assert set(fitted.predict(frame)) <= {"no", "yes"}
    assert fitted.score(frame, died) > 0.8
    unseen = frame.assign(ward="east", dose=np.nan)
    assert np.isfinite(fitted.predict_proba(unseen)).all()


def test_pandas_polars_and_numpy_give_the_same_predictions():
    frame, died = mixed_table()
    frame = frame.assign(smokes=frame["smokes"].astype(float))
    cells = {name: frame[name].astype(object) for name in frame}
    polars = pl.DataFrame(
        {name: list(cell.where(cell.notna(), None)) for name, cell in cells.items()}
    )
    table = frame.to_numpy(dtype=object)
    expected = classifier().fit(frame, died).predict_proba(frame)
    for x, y in ((polars, pl.Series(list(died))), (table, died.to_numpy())):
        fitted = classifier().fit(x, y)
        np.testing.assert_allclose(fitted.predict_proba(x), expected, atol=1e-6)
    assert list(classifier().fit(polars, died).feature_names_in_) == list(frame)


def test_columns_in_another_order_are_refused_as_scikit_learn_does(iris):
    x, y = iris
    fitted = classifier().fit(x, y)
    with pytest.raises(ValueError, match="same order"):
        fitted.predict(x[x.columns[::-1]])


def test_types_override_what_is_inferred():
    frame, died = mixed_table()
    fitted = classifier(types={"ward": "ignore", "age": "category"}).fit(frame, died)
    kinds = {column.name: column.kind for column in fitted.fitted_.encoder.columns}
    assert (kinds["ward"], kinds["age"]) == ("ignored", "ordinal")
    with pytest.raises(InputError, match="'wards'"):
        classifier(types={"wards": "ignore"}).fit(frame, died)


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1.0, 5.0, 7.5], ["a", "b", "c"]])
def test_labels_of_any_type_come_back_as_they_were(iris, labels):
    x, species = iris
    y = np.array(labels)[np.unique(species, return_inverse=True)[1]]
    if y.dtype.kind == "f":
        y = np.floor(y)
    fitted = classifier().fit(x, y)
    assert fitted.classes_.dtype == y.dtype
    assert fitted.predict(x).dtype == y.dtype
    assert (fitted.predict(x) == y).mean() > 0.7


def test_two_of_three_classes_may_be_rare(iris):
    x, y = iris
    rows = np.r_[0:50, 50:52, 100]
    fitted = classifier().fit(x.iloc[rows], y.iloc[rows])
    probabilities = fitted.predict_proba(x)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)


def test_intervals_hold_the_prediction_and_most_of_the_targets(diabetes):
    x, y = diabetes
    fitted = regressor(budget=2).fit(x, y)
    low, high = fitted.predict_interval(x).T
    predicted = fitted.predict(x)
    assert (low < predicted).all() and (predicted < high).all()
    assert 0.8 < np.mean((low <= y) & (y <= high)) <= 1.0


def test_a_target_of_another_unit_scales_predictions_with_it(diabetes):
    x, y = diabetes
    one, other = regressor().fit(x, y), regressor().fit(x, 1e6 * y - 5e7)
    np.testing.assert_allclose(other.predict(x), 1e6 * one.predict(x) - 5e7, rtol=1e-3)
    assert one.recommendation_.model == other.recommendation_.model
    ratio = (
        other.recommendation_.expected["value"] / one.recommendation_.expected["value"]
    )
    np.testing.assert_allclose(ratio, 1e6, rtol=1e-3)


def test_the_same_random_state_gives_the_same_and_none_draws_one(iris):
    x, y = iris
    one, other = (classifier(budget=2, random_state=7).fit(x, y) for _ in range(2))
    np.testing.assert_array_equal(one.predict_proba(x), other.predict_proba(x))
    for state in (None, np.random.RandomState(0)):
        fitted = classifier(random_state=state).fit(x, y)
        assert np.isfinite(fitted.predict_proba(x)).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": ["a"] * 60}, ValueError, "one class only"),
        ({"y": ["a", None] * 30}, ValueError, "NaN or None, the first in row 2"),
        ({"y": ["a", 1] * 30}, ValueError, "mixes texts and other values"),
        ({"y": list(np.linspace(0.1, 1.2, 60))}, ValueError, "continuous"),
        ({"y": ["a", "b"]}, ValueError, "inconsistent"),
        ({"budget": -1}, ValueError, "budget must be at least 0"),
        ({"budget": 1.5}, TypeError, "budget must be an integer"),
        ({"metric": "rmse"}, ValueError, "metric must be one of"),
        ({"random_state": -1}, ValueError, "random_state must be between"),
        ({"model": "nowhere"}, ValueError, "nowhere"),
        ({"recommendation": "logistic"}, TypeError, "with_recommendation"),
    ],
)
def test_what_cannot_be_used_is_named(unchecked, change, error, words):
    frame, died = mixed_table()
    options = {"model": MODEL} | change
    y = options.pop("y", died)
    y = np.array(y, dtype=object) if isinstance(y, list) else y
    with pytest.raises(error, match=words):
        MetaClassifierCV(**options).fit(frame, y)


@pytest.mark.slow
def test_the_meta_model_that_ships_serves_both_kinds(iris, diabetes):
    assert MetaClassifierCV().fit(*iris).score(*iris) > 0.9
    assert MetaRegressorCV().fit(*diabetes).score(*diabetes) > 0.3
