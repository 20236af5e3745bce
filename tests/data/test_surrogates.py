"""Surrogates tell what their networks tell, and say which file is wrong."""

import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from real_folders import real_folder
from tiny_surrogate import LAYOUT, SPACE, WEIGHTS, closed_form, tiny_folder, tiny_model

from jmeta.data.metadataset import read_meta_dataset
from jmeta.data.onnx_graphs import OPERATORS, read_graph
from jmeta.data.surrogates import encode, read_surrogate
from jmeta.errors import InputError

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'jmeta[surrogates]'")
reference = pytest.importorskip("onnx.reference")

KEY = jax.random.key(0)


def ask(surrogate, settings, tasks):
    """Outputs `(settings, outputs)`, each on its task."""
    places = np.array([surrogate.tasks.index(task) for task in tasks])
    told = jax.jit(jax.vmap(surrogate.predict, in_axes=(None, 0, 0)))
    return np.asarray(told(surrogate.params, encode(surrogate, settings), places))


def test_a_surrogate_is_its_closed_form(tmp_path):
    surrogate = read_surrogate(tiny_folder(tmp_path / "tiny"), LAYOUT)
    assert surrogate.tasks == ("b", "a")
    settings = [
        {"kind": "p", "rate": 0.5, "depth": 3},
        {"kind": "p", "rate": 2, "depth": 9},
        {"kind": "q", "rate": 0.1},
        # Only kind p has a depth: whatever is given, the network is told 0.
        {"kind": "q", "rate": 0.1, "depth": 5},
    ]
    expected = [
        *(closed_form(2, 1, 0.5, 3), closed_form(1, 1, 2.0, 9)),
        *(closed_form(2, 2, 0.1, 0), closed_form(2, 2, 0.1, 0)),
    ]
    assert np.ptp(expected[:3]) > 0.1
    np.testing.assert_allclose(
        ask(surrogate, settings, "babb"), expected, rtol=1e-5, atol=1e-6
    )


def test_one_setting_needs_no_batch_and_has_the_gradient_of_the_closed_form(tmp_path):
    surrogate = read_surrogate(tiny_folder(tmp_path / "tiny"), LAYOUT)
    (row,) = [
        jax.tree.map(lambda leaf: leaf[0], encode(surrogate, [given]))
        for given in [{"kind": "p", "rate": 0.5, "depth": 2}]
    ]

    def output(numbers):
        return surrogate.predict(surrogate.params, row._replace(numbers=numbers), 0)[0]

    assert output(row.numbers).shape == ()
    step = 1e-6
    slopes = [
        (closed_form(2, 1, 0.5 + step, 2) - closed_form(2, 1, 0.5 - step, 2)),
        (closed_form(2, 1, 0.5, 2 + step) - closed_form(2, 1, 0.5, 2 - step)),
    ]
    expected = np.array(slopes)[:, 0] / (2 * step)
    assert (abs(expected) > 1e-3).all()
    np.testing.assert_allclose(
        jax.grad(output)(jnp.asarray(row.numbers)), expected, rtol=1e-4
    )


def test_sizes_divide_towards_zero_and_axes_may_be_left_out():
    divide, cut = OPERATORS["Div"], OPERATORS["Slice"]
    np.testing.assert_array_equal(divide(np.array([7, -7]), np.array([2, 2])), [3, -3])
    found = cut(np.arange(12).reshape(3, 4), np.array([1, 0]), np.array([3, 2]))
    np.testing.assert_array_equal(found, [[4, 5], [8, 9]])
    found = cut(np.arange(5), np.array([0]), np.array([2**62]), None, np.array([2]))
    np.testing.assert_array_equal(found, [0, 2, 4])


def test_products_are_scaled_and_transposed_as_stated():
    key_a, key_b = jax.random.split(KEY)
    a, b = jax.random.normal(key_a, (2, 3)), jax.random.normal(key_b, (4, 3))
    found = OPERATORS["Gemm"](a, b, jnp.ones(4), alpha=2.0, beta=3.0, transB=1)
    expected = 2 * np.asarray(a) @ np.asarray(b).T + 3
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = OPERATORS["Gemm"](a.T, b.T, transA=1)
    np.testing.assert_allclose(found, (expected - 3) / 2, rtol=1e-5)


def needs(child, parent):
    """A condition."""
    return {"child": child, "parent": parent, "type": "EQ", "value": "p"}


def refused(folder, layout=LAYOUT):
    """The one line that says why a folder cannot be read."""
    with pytest.raises(InputError) as caught:
        read_surrogate(folder, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.9, 0.999])
def test_a_cut_off_network_is_refused_with_its_name(tmp_path, share):
    path = tiny_folder(tmp_path / "tiny") / "model.onnx"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "model.onnx" in refused(tmp_path / "tiny")


@pytest.mark.parametrize("size", [10, 60, 150, 153, 190, 220])
def test_bytes_of_something_else_are_refused(tmp_path, size):
    path = tiny_folder(tmp_path / "tiny") / "model.onnx"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    assert "model.onnx" in refused(tmp_path / "tiny")


def test_unknown_operators_are_named_with_those_known(tmp_path):
    model = tiny_model()
    (relu,) = [node for node in model.graph.node if node.op_type == "Relu"]
    relu.op_type = "Tanh"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        InputError, match=r"does not know: 'Tanh'; it knows Add, .*Gemm"
    ):
        read_graph(tmp_path / "model.onnx")


def test_weights_of_a_wrong_shape_in_other_files_or_not_finite_are_refused(tmp_path):
    folder = tiny_folder(tmp_path / "tiny", gain=np.ones(3, np.float32))
    assert "no whole network" in refused(folder)
    folder = tiny_folder(folder, head=np.array([[np.nan, 1]], np.float32))
    assert "'head' are not all finite" in refused(folder)
    model = tiny_model()
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert "in other files" in refused(folder)


def test_files_of_different_scenarios_are_refused(tmp_path):
    folder = tiny_folder(tmp_path / "tiny", tasks=WEIGHTS["tasks"][:2])
    assert "tells no number of the task 'b'" in refused(folder)
    fewer = LAYOUT._replace(outputs=("y", "z"))
    assert "2 outputs" in refused(tiny_folder(folder), fewer)
    more = LAYOUT._replace(words=("kind", "shape"))
    assert "with shape" in refused(folder, more)
    assert "agree on depth" in refused(folder, LAYOUT._replace(numbers=("rate",)))
    assert "give layout" in refused(folder, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"conditions": [{"child": "rate", "type": "GT"}]}, "'GT', not EQ or IN"),
        ({"conditions": [{"child": "rate", "type": "EQ"}]}, "'value' is missing"),
        ({"forbiddens": [{}]}, "forbids combinations"),
        ({"hyperparameters": [{"name": "rate", "type": "normal"}]}, "'normal'"),
        ({"hyperparameters": 3}, "not as expected"),
        ({"conditions": [needs("task", "kind"), needs("kind", "task")]}, "circle"),
        ({"conditions": [needs("depth", "rate")]}, "depend on rate"),
    ],
)
def test_spaces_that_are_not_understood_are_refused(tmp_path, change, says):
    message = refused(tiny_folder(tmp_path / "tiny", space=SPACE | change))
    assert says in message and "config_space.json" in message


def test_missing_files_and_no_json_are_refused_with_their_name(tmp_path):
    for name in ("model.onnx", "config_space.json", "encoding.json"):
        folder = tiny_folder(tmp_path / "tiny")
        (folder / name).write_text("{")
        assert name in refused(folder)
        (folder / name).unlink()
        assert name in refused(folder)


def test_without_onnx_it_is_said_what_to_install(tmp_path, monkeypatch):
    folder = tiny_folder(tmp_path / "tiny")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'jmeta[surrogates]'" in refused(folder)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "p", "rate": 0.5}, "setting 0: the setting depth is missing"),
        ({"kind": "z", "rate": 0.5, "depth": 3}, "one of p, q"),
        ({"kind": "#na#", "rate": 0.5, "depth": 3}, "one of p, q"),
        ({"kind": "p", "rate": 2.1, "depth": 3}, "a number from 0.1 to 2"),
        ({"kind": "p", "rate": float("nan"), "depth": 3}, "a number from 0.1 to 2"),
        ({"kind": "p", "rate": "fast", "depth": 3}, "a number from 0.1 to 2"),
        ({"kind": "p", "rate": 1, "depth": 2.5}, "a whole number from 1 to 9"),
        ({"kind": "q", "rate": 1, "deep": 2}, "no settings deep"),
    ],
)
def test_settings_that_cannot_be_asked_are_refused(tmp_path, given, says):
    surrogate = read_surrogate(tiny_folder(tmp_path / "tiny"), LAYOUT)
    with pytest.raises(InputError, match="tiny") as caught:
        encode(surrogate, [given])
    assert says in str(caught.value)


REAL = {
    "rpart-bac": ("rbv2_rpart", "bac", {}),
    "xgboost-auc": ("rbv2_xgboost", "auc", {"booster": "gbtree"}),
    "xgboost-bac": ("rbv2_xgboost", "bac", {"booster": "gbtree"}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_surrogates_tell_the_scores_that_were_written_of_them(name):
    folder, output, words = REAL[name]
    surrogate = read_surrogate(real_folder("surrogates", folder))
    data = read_meta_dataset(real_folder("meta", name))
    assert data.settings is not None
    rng = np.random.default_rng(0)
    tasks = rng.integers(len(data.tasks), size=500)
    candidates = rng.integers(len(data.candidates), size=500)
    words = words | {"num.impute.selected.cpo": "impute.mean"}
    rows = data.settings.to_dict("records")
    made = ask(
        surrogate,
        [rows[place] | words for place in candidates],
        [data.tasks[place] for place in tasks],
    )
    # The scores are printed with six digits, and are exponentials of what float32
    # holds to some 2e-6, as it is -28 to 0; the largest gap of all 59,392 is 1.4e-5.
    np.testing.assert_allclose(
        made[:, surrogate.outputs.index(output)],
        -data.costs[tasks, candidates],
        atol=2e-5,
    )


@pytest.mark.parametrize("name", ["rbv2_rpart", "rbv2_xgboost", "lcbench"])
def test_real_networks_tell_what_the_evaluator_of_onnx_tells(name):
    path = real_folder("surrogates", name) / "model.onnx"
    surrogate, graph = read_surrogate(path.parent), read_graph(path)
    rng = np.random.default_rng(0)
    words = [rng.integers(1, 4, 100) for _ in surrogate.words]
    words = np.stack([rng.integers(1, 30, 100), *words], axis=1).astype(np.int32)
    numbers = [rng.uniform(one.low, one.high, 100) for one in surrogate.numbers]
    numbers = np.stack(numbers, axis=1).astype(np.float32)
    (made,) = jax.jit(graph.apply)(graph.params, words, numbers)
    model = onnx.load(path)
    # Its BatchNormalization of older sets mixes the batch's own statistics in.
    model.opset_import[0].version = 15
    evaluator = reference.ReferenceEvaluator(model)
    with np.errstate(all="ignore"):  # Its sigmoid overflows where it is not taken.
        (expected,) = evaluator.run(None, {"x_cat": words, "x_cont": numbers})
    scale = np.abs(expected).max(axis=0)
    # Inputs from anywhere drive the networks to 1e5, and float32 leaves 2e-5 then.
    np.testing.assert_allclose(made / scale, expected / scale, atol=1e-4)


@pytest.mark.parametrize("name", ["rbv2_rpart", "rbv2_xgboost", "lcbench"])
def test_gradients_of_real_surrogates_are_finite_differences(name):
    surrogate = read_surrogate(real_folder("surrogates", name))
    known = (*surrogate.words, *surrogate.numbers)
    given = {one.name: one.default for one in known}
    given |= {"booster": "dart"} if "booster" in given else {}
    row = jax.tree.map(lambda leaf: leaf[0], encode(surrogate, [given]))
    low, high = (
        jnp.array([getattr(one, end) for one in surrogate.numbers])
        for end in ("low", "high")
    )

    def output(unit):
        settings = row._replace(numbers=low + unit * (high - low))
        told = jax.vmap(surrogate.predict, in_axes=(None, None, 0))
        return told(surrogate.params, settings, jnp.arange(20))[:, 1].mean()

    unit, step = jnp.full(len(surrogate.numbers), 0.4), 1e-3
    ask_all, steps = jax.jit(jax.vmap(output)), step * jnp.eye(len(unit))
    differences = (ask_all(unit + steps) - ask_all(unit - steps)) / (2 * step)
    found = jax.grad(output)(unit)
    # Between two kinks of the network; float32 outputs leave 1% of such differences.
    largest = float(jnp.abs(found).max())
    np.testing.assert_allclose(found, differences, atol=0.03 * largest)
    assert largest > 0.02


def test_real_files_cut_off_or_exchanged_are_refused(tmp_path):
    folder = tmp_path / "rbv2_rpart"
    shutil.copytree(real_folder("surrogates", "rbv2_rpart"), folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])
    assert "model.onnx" in refused(folder, None)
    other = real_folder("surrogates", "rbv2_xgboost")
    shutil.copy(other / "model.onnx", folder / "model.onnx")
    assert "another scenario" in refused(folder, None)
    (folder / "model.onnx").write_bytes(content)
    shutil.copy(other / "config_space.json", folder / "config_space.json")
    assert "config_space.json" in refused(folder, None)
