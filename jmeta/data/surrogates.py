"""Surrogate benchmarks of YAHPO Gym: settings and a task in, performance out.

A folder holds `model.onnx` (the network, which scales its inputs itself),
`config_space.json` (ranges, options and conditions) and `encoding.json` (a code per
option). In what order the network takes settings and tells outputs stands in none of
them but in YAHPO Gym's source, hence `LAYOUTS`.

Source: Pfisterer et al., 2022, https://arxiv.org/abs/2109.03670;
https://github.com/slds-lmu/yahpo_gym.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jmeta.data.cells import existing_folder, read_json
from jmeta.data.onnx_graphs import Graph, read_graph
from jmeta.data.surrogate_settings import (
    Hyperparameter,
    code,
    read_hyperparameters,
    values_there,
)
from jmeta.errors import InputError
from jmeta.types import Params

__all__ = [
    "LAYOUTS",
    "Encoded",
    "Hyperparameter",
    "Layout",
    "Surrogate",
    "encode",
    "read_surrogate",
]


class Layout(NamedTuple):
    """The order in which a network takes settings and tells outputs.

    Attributes:
      task: the hyperparameter that names the task; the first word.
      words: the others with options.
      numbers: the rest.
      outputs: what comes out.
    """

    task: str
    words: tuple[str, ...]
    numbers: tuple[str, ...]
    outputs: tuple[str, ...]


_IMPUTE = "num.impute.selected.cpo"
_BOT = (
    *("acc", "bac", "auc", "brier", "f1", "logloss"),
    *("timetrain", "timepredict", "memory"),
)

LAYOUTS = {
    "lcbench": Layout(
        task="OpenML_task_id",
        words=(),
        numbers=(
            *("epoch", "batch_size", "learning_rate", "momentum", "weight_decay"),
            *("num_layers", "max_units", "max_dropout"),
        ),
        outputs=(
            *("time", "val_accuracy", "val_cross_entropy", "val_balanced_accuracy"),
            *("test_cross_entropy", "test_balanced_accuracy"),
        ),
    ),
    "rbv2_rpart": Layout(
        task="task_id",
        words=(_IMPUTE,),
        numbers=("cp", "maxdepth", "minbucket", "minsplit", "trainsize", "repl"),
        outputs=_BOT,
    ),
    "rbv2_xgboost": Layout(
        task="task_id",
        words=("booster", _IMPUTE),
        numbers=(
            *("nrounds", "eta", "gamma", "lambda", "alpha", "subsample", "max_depth"),
            *("min_child_weight", "colsample_bytree", "colsample_bylevel"),
            *("rate_drop", "skip_drop", "trainsize", "repl"),
        ),
        outputs=_BOT,
    ),
}
"""By the folder's name, which is the scenario's."""


class Encoded(NamedTuple):
    """Settings as the network takes them; many of them have a leading axis.

    Attributes:
      words: `(words,)` int32 codes of options.
      numbers: `(numbers,)` float32, as they are; 0 where a setting is not there.
    """

    words: Array | np.ndarray
    numbers: Array | np.ndarray


class Surrogate(NamedTuple):
    """A surrogate benchmark.

    Attributes:
      name: the folder's.
      words, numbers: hyperparameters in the order of `Encoded`, without the task.
      tasks: names; their places are what `predict` takes.
      outputs: names of what `predict` tells, in the source's units.
      params: the network's weights.
      predict: `(params, settings, task) -> (outputs,)` for one setting on one task,
        given as its place; pure, and differentiable in numbers that are there.
    """

    name: str
    words: tuple[Hyperparameter, ...]
    numbers: tuple[Hyperparameter, ...]
    tasks: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Params
    predict: Callable[[Params, Encoded, Any], Array]


def read_surrogate(
    path: str | os.PathLike[str], layout: Layout | None = None
) -> Surrogate:
    """Read a surrogate's folder.

    Every task is asked once, so that files that do not belong together are noticed.

    Args:
      path: of the folder.
      layout: None for that of `LAYOUTS` under the folder's name.

    Raises:
      InputError: if a file is missing, cut off or of another scenario, holds what is
        not understood, or onnx is not installed; names the file.
    """
    folder = existing_folder(path)
    name = folder.absolute().name
    layout = layout or LAYOUTS.get(name)
    if layout is None:
        raise InputError(
            f"{str(folder)!r}: nothing is known of the order in which the scenario "
            f"{name!r} takes its settings; give layout, or name the folder as one of "
            f"{', '.join(LAYOUTS)}."
        )
    found = _settings(folder, layout)
    graph = read_graph(folder / "model.onnx")
    _check_shapes(graph, layout, folder)
    tasks = found[layout.task].options
    surrogate = Surrogate(
        name=name,
        words=tuple(found[word] for word in layout.words),
        numbers=tuple(found[number] for number in layout.numbers),
        tasks=tuple(tasks),
        outputs=layout.outputs,
        params=graph.params,
        predict=_predict(graph, np.array([*tasks.values()], np.int32)),
    )
    _ask_all(surrogate, folder)
    return surrogate


def _settings(folder: Path, layout: Layout) -> dict[str, Hyperparameter]:
    """All hyperparameters by name, with that of the task."""
    space = _json(folder / "config_space.json", ("hyperparameters", "conditions"))
    codes = _json(folder / "encoding.json", (layout.task, *layout.words))
    what = repr(str(folder / "config_space.json"))
    try:
        found = read_hyperparameters(space, codes)
    except ValueError as error:
        raise InputError(f"{what} cannot be used: {error}.") from error
    words = [name for name, one in found.items() if one.kind == "word"]
    numbers = [name for name, one in found.items() if one.kind != "word"]
    odd = {layout.task, *layout.words} ^ set(words) | set(layout.numbers) ^ set(numbers)
    if odd:
        raise InputError(
            f"{what} and the layout do not agree on {', '.join(sorted(odd))}; is it of "
            "another scenario?"
        )
    return found


def _json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    found = read_json(path)
    lacking = [k for k in keys if not isinstance(found, dict) or k not in found]
    if lacking:
        raise InputError(
            f"{str(path)!r} must hold an object with {', '.join(lacking)}; is it of "
            "another scenario?"
        )
    return found


def _check_shapes(graph: Graph, layout: Layout, folder: Path) -> None:
    shapes = [port.shape for port in (*graph.inputs, *graph.outputs)]
    words, numbers = 1 + len(layout.words), len(layout.numbers)
    expected = [(None, words), (None, numbers), (None, len(layout.outputs))]
    kinds = [port.dtype.kind for port in graph.inputs]
    if shapes != expected or kinds != ["i", "f"]:
        raise InputError(
            f"{str(folder / 'model.onnx')!r} takes and tells arrays of {shapes}; the "
            f"layout has {words} words, {numbers} numbers and {len(layout.outputs)} "
            "outputs; is it of another scenario?"
        )


def _predict(
    graph: Graph, codes: Int[np.ndarray, " tasks"]
) -> Callable[[Params, Encoded, Any], Array]:
    words, numbers = (port.dtype for port in graph.inputs)

    def predict(
        params: Params, settings: Encoded, task: Int[Array, ""] | int
    ) -> Float[Array, " outputs"]:
        first = jnp.asarray(codes)[task][None]
        codes_of_all = jnp.concatenate([first, jnp.asarray(settings.words, jnp.int32)])
        values = jnp.asarray(settings.numbers, numbers)
        (made,) = graph.apply(params, codes_of_all[None].astype(words), values[None])
        return made[0]

    return predict


def _ask_all(surrogate: Surrogate, folder: Path) -> None:
    """See that the network has a code for every task and every option."""
    options = [tuple(word.options.values()) for word in surrogate.words]
    rows = np.arange(max(map(len, [surrogate.tasks, *options])))
    words = [np.array(codes)[rows % len(codes)] for codes in options]
    numbers = [one.default for one in surrogate.numbers]
    settings = Encoded(
        words=np.array(words, np.int32).reshape(len(words), len(rows)).T,
        numbers=np.tile(np.array(numbers, np.float32), (len(rows), 1)),
    )
    tasks = rows % len(surrogate.tasks)
    ask = jax.jit(jax.vmap(surrogate.predict, in_axes=(None, 0, 0)))
    told = np.isfinite(ask(surrogate.params, settings, tasks)).all(axis=1)
    if not told.all():
        raise InputError(
            f"{str(folder / 'model.onnx')!r} tells no number of the task "
            f"{surrogate.tasks[tasks[told.argmin()]]!r}; it and encoding.json are not "
            "of the same scenario."
        )


def encode(surrogate: Surrogate, settings: Sequence[Mapping[str, Any]]) -> Encoded:
    """Settings by name as arrays with one leading axis.

    What a setting's conditions rule out is not there, whatever value is given for it.

    Raises:
      InputError: if a setting is unknown, missing, outside its range or no option.
    """
    known = {one.name: one for one in (*surrogate.words, *surrogate.numbers)}
    rows = []
    for place, given in enumerate(settings):
        try:
            found = values_there(known, given)
            rows.append([code(one, found[one.name]) for one in known.values()])
        except InputError as error:
            raise InputError(f"{surrogate.name}, setting {place}: {error}") from None
    codes = np.array(rows, float).reshape(len(rows), len(known))
    words, numbers = np.split(codes, [len(surrogate.words)], axis=1)
    return Encoded(words=words.astype(np.int32), numbers=numbers.astype(np.float32))
