import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from tiny_fewshot import source, untrained, write_tasks

from jmeta.errors import InputError
from jmeta.fewshot.adapting import adapt
from jmeta.fewshot.recipes import algorithm_of
from jmeta.fewshot.samples import Samples
from jmeta.tasks import Examples, Task, bucket


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return source(write_tasks(tmp_path_factory.mktemp("tasks"))).data


def samples(data, places, labels=None):
    x = data.x[data.rows[np.asarray(places)]]
    y = None if labels is None else pd.Series(labels, name="label", dtype=object)
    return Samples(x=x, y=y, names=pd.DataFrame(index=range(len(x))))


def activity(data, places):
    return np.array(["inactive", "active"], dtype=object)[data.label[np.array(places)]]


GIVEN, ASKED = range(12), range(12, 40)


def test_what_is_adapted_is_what_the_model_predicts(data):
    model = untrained(data)
    support = samples(data, GIVEN, activity(data, GIVEN))
    made = adapt(model, support, samples(data, ASKED)).table
    # The same task by hand, padded to other lengths.
    x, asked = (
        data.x[data.rows[np.array(p)]].astype(np.float32) for p in (GIVEN, ASKED)
    )
    task = Task(
        Examples(jnp.float32(x), jnp.asarray(data.label[:12]), jnp.ones(12, bool)),
        Examples(jnp.float32(asked), jnp.zeros(28, jnp.int32), jnp.ones(28, bool)),
        jnp.zeros(1),
    )
    algorithm = algorithm_of(model.recipe)
    logs = algorithm.predict(model.params, task)
    heat = np.exp(0.3 - 0.1 * np.log(12 / 32))
    probs = np.asarray(jax.nn.softmax(logs / heat, axis=-1))
    np.testing.assert_allclose(made[["p(inactive)", "p(active)"]], probs, atol=1e-5)
    best = np.array(["inactive", "active"])[probs.argmax(axis=1)]
    assert list(made["prediction"]) == list(best)
    np.testing.assert_allclose(made["uncertainty"], 1 - probs.max(axis=1), atol=1e-5)


def test_queries_come_back_in_their_order_whatever_their_number(data, monkeypatch):
    model = untrained(data)
    support = samples(data, GIVEN, activity(data, GIVEN))
    whole = adapt(model, support, samples(data, range(12, 110))).table
    monkeypatch.setattr("jmeta.fewshot.adapting._CHUNK", bucket(1, "rows"))
    parts = adapt(model, support, samples(data, range(12, 110))).table
    assert len(whole) == len(parts) == 98
    np.testing.assert_allclose(whole["p(active)"], parts["p(active)"], atol=1e-6)


def test_names_of_classes_are_those_of_the_support(data):
    model = untrained(data)
    labels = ["toxic" if one == "active" else "safe" for one in activity(data, GIVEN)]
    usual = adapt(
        model, samples(data, GIVEN, activity(data, GIVEN)), samples(data, ASKED)
    ).table
    made = adapt(
        model, samples(data, GIVEN, labels), samples(data, ASKED), positive="toxic"
    ).table
    np.testing.assert_allclose(made["p(toxic)"], usual["p(active)"], atol=1e-6)
    assert set(made["prediction"]) <= {"toxic", "safe"}


def test_rows_without_a_label_are_left_out(data):
    model = untrained(data)
    labels = list(activity(data, GIVEN))
    more = samples(data, [*GIVEN, 30, 31], [*labels, None, None])
    made = adapt(model, more, samples(data, ASKED))
    plain = adapt(model, samples(data, GIVEN, labels), samples(data, ASKED))
    pd.testing.assert_frame_equal(made.table, plain.table)
    assert "2 rows of the support have no label" in made.notes[-1]


def test_the_least_sure_are_not_answered(data):
    model = untrained(data)
    support = samples(data, GIVEN, activity(data, GIVEN))
    made = adapt(model, support, samples(data, ASKED), coverage=0.9).table
    # The threshold is 0.55: the calibration has confidences from 0.5 to 1.
    sure = made[["p(inactive)", "p(active)"]].max(axis=1) >= 0.55
    assert 0 < sure.sum() < len(sure)
    assert list(made["abstain"]) == ["no" if one else "yes" for one in sure]
    assert list(made["prediction"].notna()) == list(sure)
    with pytest.raises(InputError, match="--coverage must be above 0"):
        adapt(model, support, samples(data, ASKED), coverage=0.0)


def test_more_classes_than_in_training_need_an_algorithm_that_can(data):
    labels = (["a", "b", "c"] * 4)[:12]
    asked = samples(data, ASKED)
    made = adapt(untrained(data), samples(data, GIVEN, labels), asked)
    np.testing.assert_allclose(
        made.table[["p(a)", "p(b)", "p(c)"]].sum(axis=1), 1.0, rtol=1e-5
    )
    assert "3 classes" in made.notes[-1]
    model = untrained(data, algorithm="maml")
    with pytest.raises(InputError, match="more than the 2"):
        adapt(model, samples(data, GIVEN, labels), asked)


@pytest.mark.parametrize(
    "labels, told",
    [
        (["active"] * 12, "the class 'active' alone"),
        (["active", *[None] * 11], "at least 2 are needed"),
    ],
)
def test_a_support_that_says_nothing_is_refused(data, labels, told):
    with pytest.raises(InputError, match=told):
        adapt(untrained(data), samples(data, GIVEN, labels), samples(data, ASKED))


def test_numbers_come_back_in_the_unit_of_the_support(data):
    model = untrained(data, algorithm="ridge_head", kind="number")
    values = np.linspace(0.0, 1.0, 12)
    asked = samples(data, ASKED)
    usual = adapt(model, samples(data, GIVEN, values), asked).table
    made = adapt(model, samples(data, GIVEN, 1000.0 + 50.0 * values), asked).table
    for name in ("prediction", "low", "high"):
        np.testing.assert_allclose(made[name], 1000.0 + 50.0 * usual[name], rtol=1e-4)
    half = (made["high"] - made["low"]) / 2
    std = 50.0 * np.std(values) * np.exp(0.5 * (0.3 - 0.1 * np.log(12 / 32)))
    np.testing.assert_allclose(made["uncertainty"], std, rtol=1e-4)
    # Between 1.6 at 8 rows and 1.7 at 16, by the logarithm.
    reach = 1.6 + 0.1 * np.log(12 / 8) / np.log(2)
    np.testing.assert_allclose(half, reach * std, rtol=1e-3)
    with pytest.raises(InputError, match="not all of them equal"):
        adapt(model, samples(data, GIVEN, np.ones(12)), asked)


def test_a_support_of_another_size_than_those_seen_is_said(data):
    model = untrained(data)
    places = range(30)
    support = samples(data, places, activity(data, places))
    made = adapt(model, support, samples(data, ASKED))
    assert "supports of 8 to 16" in made.notes[0]
