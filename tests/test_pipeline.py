"""From frames to fitted models: what is read once, what is written and read back."""

import decimal
import os

import numpy as np
import pandas as pd
import pytest
import untrained

from jmeta import metamodel, pipeline
from jmeta.errors import InputError

ROWS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(untrained.write(tmp_path_factory.mktemp("model") / "m.safetensors"))


def table(rows: int = ROWS) -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(2)
    x = random.normal(size=(rows, 3))
    y = np.where(x[:, 0] + 0.3 * random.normal(size=rows) > 0, "up", "down")
    return pd.DataFrame(x, columns=["a", "b", "c"]), pd.Series(y, name="way")


def fitted(model, features, target):
    encoded = pipeline.encode_table(features, target)
    made = pipeline.recommend_table(encoded, model=model)
    return pipeline.fit_table(encoded, made)


def test_a_saved_model_predicts_what_it_predicted_before(model, tmp_path):
    features, target = table()
    before = fitted(model, features, target)
    path = before.save(tmp_path / "new")
    for place in (tmp_path / "new", path):
        after = pipeline.FittedModel.load(place)
        assert after.recommendation == before.recommendation
        pd.testing.assert_frame_equal(
            after.predict(features), before.predict(features), rtol=1e-6
        )


def test_predictions_keep_the_index_and_no_rows_give_none(model):
    features, target = table()
    made = fitted(model, features, target)
    some = features.iloc[[5, 3]]
    assert list(made.predict(some).index) == [5, 3]
    empty = made.predict(features.iloc[:0])
    assert list(empty) == ["prediction", "p(down)", "p(up)"]
    assert not len(empty)


def test_rows_without_a_target_do_not_count():
    features, target = table()
    target.iloc[::4] = None
    encoded = pipeline.encode_table(features, target)
    assert int(encoded.full.mask.sum()) == 45


def test_a_long_table_is_described_on_a_sample_and_fitted_on_all_rows():
    features, target = table(pipeline.LARGEST + 100)
    encoded = pipeline.encode_table(features, target)
    assert int(encoded.table.mask.sum()) == pipeline.LARGEST
    assert int(encoded.full.mask.sum()) == pipeline.LARGEST + 100


def test_a_meta_model_is_read_once_and_again_when_it_has_changed(tmp_path):
    path = untrained.write(tmp_path / "model.safetensors")
    first = pipeline.load_models(str(path))["classes"]
    assert pipeline.load_models(str(tmp_path))["classes"] is first
    only = untrained.untrained("number")
    metamodel.save(path, {"number": only})
    os.utime(path, ns=(1, 1))
    assert set(pipeline.load_models(str(path))) == {"number"}


def test_a_kind_that_the_meta_model_lacks_is_named(tmp_path):
    path = tmp_path / "numbers.safetensors"
    metamodel.save(path, {"number": untrained.untrained("number")})
    encoded = pipeline.encode_table(*table())
    with pytest.raises(InputError, match="this target is of kind 'classes'"):
        pipeline.recommend_table(encoded, model=str(path))


def test_a_signalling_nan_is_a_missing_value():
    features, target = table()
    cells = [decimal.Decimal(place) for place in range(ROWS)]
    cells[4] = decimal.Decimal("sNaN")
    encoded = pipeline.encode_table(features.assign(d=cells), target)
    column = encoded.encoder.names.index("d")
    assert np.isnan(np.asarray(encoded.full.x)[4, column])
