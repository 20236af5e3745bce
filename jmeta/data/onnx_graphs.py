"""Networks in ONNX files as pure JAX functions.

Only the operators that small dense networks with embeddings are made of are known.
Nothing in the file is run: it is a list of operators, each looked up here.

Source: https://onnx.ai/onnx/operators, operator sets 13 to 17.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jmeta.errors import InputError
from jmeta.types import Params

__all__ = ["OPERATORS", "Graph", "Port", "read_graph"]

OPSETS = range(13, 18)
"""In which the known operators mean the same."""


class Port(NamedTuple):
    """An input or output.

    Attributes:
      name: of the file's own.
      shape: None along axes of any length, such as the batch.
      dtype: of its values.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype


class Graph(NamedTuple):
    """A network.

    Attributes:
      inputs, outputs: in the order of `apply`.
      params: weights by name.
      apply: `(params, *inputs) -> outputs`, pure; float64 steps inside are float32
        unless JAX has 64 bits enabled.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    params: Params
    apply: Callable[..., tuple[Array, ...]]


class Step(NamedTuple):
    """One operator: its name, what it reads and makes, and its attributes."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]


def _library(*values: Any) -> ModuleType:
    """NumPy for what is known before tracing (sizes and places), else `jax.numpy`."""
    known = all(isinstance(value, np.ndarray | np.generic) for value in values)
    return np if known else jnp


def _divide(a: Any, b: Any) -> Any:
    if np.issubdtype(a.dtype, np.integer):
        return _library(a, b).trunc(a / b).astype(a.dtype)
    return a / b


def _gather(data: Any, places: Any, *, axis: int = 0) -> Any:
    return _library(data, places).take(data, places, axis=axis)


def _slice(data: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None):
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), int) if steps is None else steps
    cut = [slice(None)] * data.ndim
    for axis, *where in zip(axes, starts, ends, steps):
        cut[int(axis)] = slice(*map(int, where))
    return data[tuple(cut)]


def _gemm(
    a: Any,
    b: Any,
    c: Any = 0.0,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Any:
    product = jnp.matmul(
        a.T if transA else a, b.T if transB else b, precision=jax.lax.Precision.HIGHEST
    )
    return alpha * product + beta * c


def _batch_normalization(
    x: Any,
    scale: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> Any:
    del momentum  # Of training.
    scale, bias, mean, variance = (
        value.reshape(-1, *[1] * (x.ndim - 2))
        for value in (scale, bias, mean, variance)
    )
    return (x - mean) / jnp.sqrt(variance + epsilon) * scale + bias


def _cast(x: Any, *, to: int) -> Any:
    from onnx import helper

    return x.astype(jax.dtypes.canonicalize_dtype(helper.tensor_dtype_to_np_dtype(to)))


def _unsqueeze(x: Any, axes: Any) -> Any:
    return _library(x).expand_dims(x, tuple(map(int, axes)))


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Concat": lambda *parts, axis: _library(*parts).concatenate(parts, axis=axis),
    "Constant": lambda *, value: value,
    "Div": _divide,
    "Exp": lambda x: jnp.exp(x),
    "Gather": _gather,
    "Gemm": _gemm,
    "Log": lambda x: jnp.log(x),
    "Mul": lambda a, b: a * b,
    "Neg": lambda x: -x,
    "Relu": lambda x: jax.nn.relu(x),
    "Shape": lambda x: np.array(x.shape, np.int64),
    "Sigmoid": lambda x: jax.nn.sigmoid(x),
    "Slice": _slice,
    "Sub": lambda a, b: a - b,
    "Unsqueeze": _unsqueeze,
}
"""What each operator does with its inputs and attributes."""


def read_graph(path: Path) -> Graph:
    """Read a network.

    Raises:
      InputError: if the file is no ONNX network, is cut off, keeps weights in other
        files, or has operators that are not in `OPERATORS`; or if onnx is missing.
    """
    what = repr(str(path))
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise InputError(
            f"{what} is read with onnx, which is not installed; "
            "pip install 'jmeta[surrogates]'."
        ) from None
    try:
        # Not onnx.load, which would also open other files that this one names.
        model = onnx.load_model_from_string(path.read_bytes())
        _check_operators(model, what)
        _refuse_other_files(model.graph, what)
        onnx.checker.check_model(model)
        graph = _graph(model.graph, what)
        _check_outputs(graph)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no file {what}; check its path.") from None
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror}.") from error
    except (
        *(DecodeError, onnx.checker.ValidationError, ArithmeticError, AttributeError),
        *(LookupError, TypeError, ValueError),
    ) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{what} is no whole network in ONNX ({reason}); get the file again."
        ) from error
    return graph


def _graph(graph: Any, what: str) -> Graph:
    tensors = _weights(graph, what)
    inputs = [value for value in graph.input if value.name not in tensors]
    names = [value.name for value in inputs], [value.name for value in graph.output]
    return Graph(
        inputs=tuple(map(_port, inputs)),
        outputs=tuple(map(_port, graph.output)),
        params={name: jnp.asarray(value) for name, value in tensors.items()},
        apply=_function(*names, _steps(graph, what)),
    )


def _check_outputs(graph: Graph) -> None:
    """Trace the network for a batch of two."""
    given = [
        jax.ShapeDtypeStruct([size or 2 for size in port.shape], port.dtype)
        for port in graph.inputs
    ]
    made = jax.eval_shape(graph.apply, graph.params, *given)
    for port, value in zip(graph.outputs, made):
        stated = tuple(size or 2 for size in port.shape)
        if value.shape != stated:
            raise ValueError(
                f"output {port.name!r} has shape {value.shape} for a batch of 2, and "
                f"should have {stated}"
            )


def _refuse_other_files(graph: Any, what: str) -> None:
    constants = [
        attribute.t
        for node in graph.node
        for attribute in node.attribute
        if attribute.HasField("t")
    ]
    if any(tensor.external_data for tensor in (*graph.initializer, *constants)):
        raise InputError(
            f"{what} keeps its weights in other files, which are not read; save it as "
            "one file."
        )


def _check_operators(model: Any, what: str) -> None:
    found = {(node.domain, node.op_type) for node in model.graph.node}
    if not found:
        raise InputError(f"{what} holds no network; get the file again.")
    unknown = {f"{domain} {name}".strip() for domain, name in found if domain}
    unknown |= {name for domain, name in found if not domain and name not in OPERATORS}
    if unknown:
        raise InputError(
            f"{what} has operators that jmeta does not know: "
            f"{', '.join(map(repr, sorted(unknown)))}; it knows {', '.join(OPERATORS)}."
        )
    sets = [entry.version for entry in model.opset_import if not entry.domain]
    if not sets or sets[0] not in OPSETS:
        raise InputError(
            f"{what} uses the operator set {sets[0] if sets else 'of nobody'}; convert "
            f"it to one of {OPSETS[0]} to {OPSETS[-1]} with onnx.version_converter."
        )


def _weights(graph: Any, what: str) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    found = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    for name, value in found.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise InputError(f"{what}: weights {name!r} are not all finite numbers.")
    return found


def _steps(graph: Any, what: str) -> tuple[Step, ...]:
    from onnx import helper, numpy_helper

    steps = []
    for node in graph.node:
        attributes = {
            attribute.name: helper.get_attribute_value(attribute)
            for attribute in node.attribute
        }
        if node.op_type == "Constant":
            if set(attributes) != {"value"}:
                raise InputError(
                    f"{what}: constant {node.output[0]!r} is no tensor; save the "
                    "network with tensor constants."
                )
            attributes["value"] = numpy_helper.to_array(attributes["value"])
        inputs, output = tuple(node.input), node.output[0]
        steps.append(Step(node.op_type, inputs, output, attributes))
    return tuple(steps)


def _port(value: Any) -> Port:
    from onnx import helper

    tensor = value.type.tensor_type
    sizes = [
        axis.dim_value if axis.dim_value > 0 else None for axis in tensor.shape.dim
    ]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return Port(value.name, tuple(sizes), dtype)


def _function(
    inputs: Sequence[str], outputs: Sequence[str], steps: Sequence[Step]
) -> Callable[..., tuple[Array, ...]]:
    def apply(params: Params, *values: Array) -> tuple[Array, ...]:
        made: dict[str, Any] = {**params, **dict(zip(inputs, values, strict=True))}
        for step in steps:
            # An empty name is an optional input left out.
            given = [made[name] if name else None for name in step.inputs]
            made[step.output] = OPERATORS[step.operator](*given, **step.attributes)
        return tuple(made[name] for name in outputs)

    return apply
