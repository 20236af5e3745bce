"""A surrogate's folder that is small enough to be worked out by hand."""

import json

import numpy as np
import pytest

from jmeta.data.surrogates import Layout

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'jmeta[surrogates]'")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

LAYOUT = Layout(task="task", words=("kind",), numbers=("rate", "depth"), outputs=("y",))
SPACE = {
    "hyperparameters": [
        {"name": "task", "type": "categorical", "choices": ["b", "a"], "default": "a"},
        {"name": "kind", "type": "categorical", "choices": ["p", "q"], "default": "p"},
        {
            "name": "rate",
            "type": "uniform_float",
            "log": True,
            "lower": 0.1,
            "upper": 2.0,
            "default": 0.5,
        },
        {
            "name": "depth",
            "type": "uniform_int",
            "log": False,
            "lower": 1,
            "upper": 9,
            "default": 3,
        },
    ],
    "conditions": [{"child": "depth", "parent": "kind", "type": "EQ", "value": "p"}],
    "forbiddens": [],
}
CODES = {"task": {"#na#": 0, "a": 1, "b": 2}, "kind": {"#na#": 0, "p": 1, "q": 2}}
WEIGHTS = {
    "tasks": np.array([[0, 0], [1, -2], [3, 0.5]], np.float32),
    "kinds": np.array([[0], [0.25], [-1]], np.float32),
    "hidden": np.linspace(-1, 1, 20).reshape(4, 5).astype(np.float32),
    "hidden_bias": np.array([0.1, 0.2, -0.3, 0.4], np.float32),
    "gain": np.array([1, 2, 0.5, 1], np.float32),
    "shift": np.array([0, 0.1, 0.2, 0], np.float32),
    "mean": np.array([0.5, 0, -0.5, 1], np.float32),
    "variance": np.array([1, 4, 0.25, 2], np.float32),
    "head": np.array([[1.5, -3.5]], np.float32),
    "head_bias": np.array([0.05], np.float32),
}


def tiny_model(**weights):
    """Embeddings, a scaled number, a normalised layer, a gate of its halves, a head."""
    nodes = []

    def add(operator, *inputs, **attributes):
        out = f"{operator}{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [out], **attributes))
        return out

    def constant(value):
        return add("Constant", value=numpy_helper.from_array(np.array(value)))

    words = [
        add("Gather", table, add("Gather", "x_cat", constant(place), axis=1))
        for place, table in enumerate(("tasks", "kinds"))
    ]
    rate = add("Gather", "x_cont", constant(0), axis=1)
    rate = add("Cast", add("Cast", rate, to=onnx.TensorProto.DOUBLE), to=1)
    rate = add("Log", add("Add", rate, constant(np.float32(1e-12))))
    depth = add("Exp", add("Neg", add("Gather", "x_cont", constant(1), axis=1)))
    numbers = [add("Unsqueeze", one, constant([1])) for one in (rate, depth)]
    whole = add("Concat", *words, *numbers, axis=1)
    hidden = add("Gemm", whole, "hidden", "hidden_bias", transB=1)
    hidden = add("BatchNormalization", hidden, "gain", "shift", "mean", "variance")
    width = add("Gather", add("Shape", hidden), constant([-1]), axis=0)
    half = add("Div", add("Add", width, constant([1])), constant([2]))
    left = add("Slice", hidden, constant([0]), half, constant([-1]))
    right = add("Slice", hidden, half, add("Mul", half, constant([2])), constant([-1]))
    gated = add("Mul", left, add("Relu", right))
    out = add("Sigmoid", add("Gemm", gated, "head", "head_bias", transB=1))
    out = add("Sub", out, constant(np.float32(0.5)))
    nodes[-1].output[0] = "output"

    def port(name, kind, size):
        return helper.make_tensor_value_info(name, kind, ["batch", size])

    graph = helper.make_graph(
        nodes,
        "tiny",
        [port("x_cat", onnx.TensorProto.INT32, 2), port("x_cont", 1, 2)],
        [port("output", 1, 1)],
        [
            numpy_helper.from_array(value, name)
            for name, value in (WEIGHTS | weights).items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def tiny_folder(path, space=SPACE, codes=CODES, **weights):
    path.mkdir(exist_ok=True)
    (path / "model.onnx").write_bytes(tiny_model(**weights).SerializeToString())
    (path / "config_space.json").write_text(json.dumps(space))
    (path / "encoding.json").write_text(json.dumps(codes))
    return path


def closed_form(task, kind, rate, depth):
    """What `tiny_model` means, for one row of codes and numbers."""
    w = {name: value.astype(float) for name, value in WEIGHTS.items()}
    numbers = [np.log(rate + 1e-12), np.exp(-depth)]
    x = np.concatenate([w["tasks"][task], w["kinds"][kind], numbers])
    h = w["hidden"] @ x + w["hidden_bias"]
    h = (h - w["mean"]) / np.sqrt(w["variance"] + 1e-5) * w["gain"] + w["shift"]
    gated = h[:2] * np.maximum(h[2:], 0)
    return 1 / (1 + np.exp(-(w["head"] @ gated + w["head_bias"]))) - 0.5
