import json
import struct

import numpy as np
import pytest

from jmeta.errors import InputError
from jmeta.publish import load_model, save_model

PARAMS = {
    "network": {"deep": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)}},
    "spread": np.float32(2.0),
    "names": np.arange(6).reshape(2, 3).T,
}
HEADER = {"candidates": ["ridge", "é"], "seed": 3, "steps": [1, 2]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "deep" / "model.safetensors"
    save_model(path, PARAMS, HEADER)
    return path


def test_what_is_saved_is_loaded(path):
    params, header = load_model(path)
    assert header == HEADER
    np.testing.assert_array_equal(
        params["network"]["deep"]["kernel"], PARAMS["network"]["deep"]["kernel"]
    )
    assert params["spread"].shape == () and params["spread"].dtype == np.float32
    # A transposed array lies in memory in another order than it reads.
    np.testing.assert_array_equal(params["names"], PARAMS["names"])
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_file_cut_short_is_refused_by_name(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"model .*model\.safetensors is damaged"):
        load_model(path)


def test_text_and_missing_files_are_refused_by_name(tmp_path):
    (tmp_path / "notes").write_text("not a model at all, but long enough to look")
    with pytest.raises(InputError, match=r"model .*notes is damaged, or no safe"):
        load_model(tmp_path / "notes")
    with pytest.raises(InputError, match=r"model .*none cannot be opened: No such"):
        load_model(tmp_path / "none")
    with pytest.raises(InputError, match=r"model .* cannot be opened"):
        load_model(tmp_path)


def rewritten(path, **metadata):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] |= metadata
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def test_another_version_is_refused_by_number(path):
    rewritten(path, version="99")
    with pytest.raises(InputError, match="has version 99, but this jmeta reads"):
        load_model(path)


def test_anothers_safetensors_file_is_refused(path):
    rewritten(path, format="pt")
    with pytest.raises(InputError, match="was not written by jmeta"):
        load_model(path)


def test_a_header_that_json_cannot_hold_leaves_the_old_file(path):
    with pytest.raises(TypeError):
        save_model(path, PARAMS, {"candidates": {1, 2}})
    with pytest.raises(ValueError, match="cannot name parameters"):
        save_model(path, {"a/b": np.ones(1)}, {})
    assert load_model(path)[1] == HEADER
    assert len(list(path.parent.iterdir())) == 1
