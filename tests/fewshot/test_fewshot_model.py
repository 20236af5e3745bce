"""What a file of a few-shot model holds, and which files are refused."""

import jax
import numpy as np
import pytest
from tiny_fewshot import PLAN, RECIPE, source, untrained, write_tasks

from jmeta.errors import InputError
from jmeta.fewshot.model import load, save
from jmeta.publish import load_model, save_model


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model, and its file."""
    folder = tmp_path_factory.mktemp("model")
    model = untrained(source(write_tasks(folder)).data)
    save(folder / "model.safetensors", model)
    return model, folder / "model.safetensors"


def test_what_is_read_is_what_was_written(written):
    model, path = written
    again = load(path.parent)
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    jax.tree.map(np.testing.assert_array_equal, again.calibration, model.calibration)
    assert (again.recipe, again.plan) == (RECIPE, PLAN)
    assert (again.reader, again.header) == (model.reader, model.header)


@pytest.mark.parametrize(
    "place, value, told",
    [
        ("content", "meta-model", "not a few-shot model"),
        ("layout", 99, "not a few-shot model of layout 1"),
        ("recipe.hidden", [9], "where its recipe asks for"),
        ("recipe.algorithm", "magic", "no algorithm is called 'magic'"),
        ("recipe.colour", "red", "is damaged"),
        ("plan", None, "is damaged"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(written, tmp_path, place, value, told):
    params, header = load_model(written[1])
    *parents, last = place.split(".")
    part = header[parents[0]] if parents else header
    part[last] = value
    save_model(tmp_path / "m.safetensors", params, header)
    with pytest.raises(InputError, match=told):
        load(tmp_path / "m.safetensors")


def test_a_file_that_is_cut_or_lacks_numbers_is_refused(written, tmp_path):
    path = tmp_path / "m.safetensors"
    whole = written[1].read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        load(path)
    params, header = load_model(written[1])
    del params["params"]["network"]["first"]
    save_model(path, params, header)
    with pytest.raises(InputError, match="damaged"):
        load(path)
    params, header = load_model(written[1])
    params["calibration"]["confidence"] = params["calibration"]["confidence"][:, :9]
    save_model(path, params, header)
    with pytest.raises(InputError, match="calibration of shapes"):
        load(path)
