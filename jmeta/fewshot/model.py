"""A few-shot model: what was learnt across tasks, ready to be adapted to the next one.

One `.safetensors` file holds the parameters, the calibration, and what rebuilds the
algorithm and reads rows like those it was trained on.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jmeta import publish
from jmeta.base import MetaAlgorithm
from jmeta.episodes import unit_targets
from jmeta.errors import InputError
from jmeta.fewshot import calibration as calibrating
from jmeta.fewshot.calibration import Calibration
from jmeta.fewshot.drawing import Plan
from jmeta.fewshot.recipes import Recipe, algorithm_of, named
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Params

__all__ = ["VERSION", "Answer", "FewShotModel", "answer", "load", "raw", "save"]

VERSION = 1
"""Of the file's layout; a file of another version is refused."""

CONTENT, FILE = "few-shot model", "model.safetensors"


class Answer(NamedTuple):
    """What a model says of the query rows of one task.

    Attributes:
      probs: of the classes; for numbers their mean, in the unit of the targets.
      std: of numbers; for classes the chance that the likeliest one is wrong.
      reach: half the width of a number's interval; 0 for classes.
      confidence: what abstention goes by, the higher the surer.
      plain: probabilities before calibration, or the mean once more.
    """

    probs: Float[Array, "*tasks m classes"] | Float[Array, "*tasks m"]
    std: Float[Array, "*tasks m"]
    reach: Float[Array, "*tasks m"]
    confidence: Float[Array, "*tasks m"]
    plain: Float[Array, "*tasks m classes"] | Float[Array, "*tasks m"]


def raw(
    algorithm: MetaAlgorithm, kind: str, params: Params, task: Task
) -> tuple[Array, Array]:
    """An algorithm's prediction, before it is calibrated.

    Args:
      algorithm: that was trained.
      kind: "classes" or "number".
      params: of the algorithm.
      task: numbers in units of the support (`jmeta.episodes.unit_targets`).

    Returns:
      Log probabilities `(m, classes)` or means `(m,)`; and logarithms of the standard
      deviations of numbers, 0 where the algorithm does not give them, and for classes.
    """
    out = algorithm.predict(params, task)
    if kind == "classes":
        return jax.nn.log_softmax(out, axis=-1), jnp.zeros(len(out))
    if hasattr(out, "variance"):
        return out.mean, 0.5 * jnp.log(out.variance)
    mean = out.reshape(len(task.query.mask))
    return mean, jnp.zeros_like(mean)


def answer(
    algorithm: MetaAlgorithm,
    kind: str,
    params: Params,
    calibration: Calibration,
    task: Task,
) -> Answer:
    """A calibrated prediction of one task's query."""
    rows = jnp.sum(task.support.mask)
    if kind == "classes":
        logs, nothing = raw(algorithm, kind, params, task)
        probs = calibrating.calibrated(calibration, logs, rows)
        best = jnp.max(probs, axis=-1)
        return Answer(probs, 1.0 - best, nothing, best, jnp.exp(logs))
    task, centre, scale = unit_targets(task)
    mean, log_std = raw(algorithm, kind, params, task)
    mean = mean * scale + centre
    std = jnp.exp(log_std) * jnp.sqrt(calibrating.factor(calibration, rows))
    half = calibrating.reach(calibration, rows) * std
    return Answer(mean, std * scale, half * scale, -std, mean)


@functools.cache
def _answers(algorithm: MetaAlgorithm, kind: str) -> Callable[..., Answer]:
    # One episode after another: queries are large.
    def run(params: Params, calibration: Calibration, tasks: Task) -> Answer:
        return jax.lax.map(
            lambda task: answer(algorithm, kind, params, calibration, task), tasks
        )

    return jax.jit(run)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FewShotModel:
    """What was learnt across few-shot tasks.

    Attributes:
      recipe: rebuilds the algorithm.
      plan: of the episodes that it was trained on.
      reader: how rows are read; see `jmeta.fewshot.sources`.
      params: of the algorithm.
      calibration: from tasks that were held out.
      header: what was trained on (`origins`), version and provenance.
    """

    recipe: Recipe
    plan: Plan
    reader: dict[str, Any]
    params: Params
    calibration: Calibration
    header: dict[str, Any]

    def answers(self, tasks: Task) -> Answer:
        """Predict the queries of a batch of tasks, with a leading axis."""
        recipe = self.recipe
        run = _answers(algorithm_of(recipe), recipe.kind)
        return run(self.params, self.calibration, tasks)

    def abstains(
        self, confidence: Float[np.ndarray, "*m"], rows: int, coverage: float
    ) -> Bool[np.ndarray, "*m"]:
        """Which queries are too uncertain for the share `coverage` to be answered.

        Args:
          confidence: of an `Answer`.
          rows: of the support.
          coverage: in (0, 1]; over tasks like those that were held out.
        """
        least = calibrating.threshold(
            self.calibration, jnp.array(coverage, jnp.float32), jnp.array(rows)
        )
        return confidence < float(least)

    def for_classes(self, count: int) -> "FewShotModel":
        """The same model for tasks of another number of classes.

        Raises:
          InputError: if the algorithm has an output for each class, and too few.
        """
        if count == self.recipe.num_classes:
            return self
        if named(self.recipe.algorithm).any_classes:
            recipe = dataclasses.replace(self.recipe, num_classes=max(count, 2))
            return dataclasses.replace(self, recipe=recipe)
        if count > self.recipe.num_classes:
            raise InputError(
                f"{count} classes are more than the {self.recipe.num_classes} that "
                f"{self.recipe.algorithm} was trained for; take some of them, or train "
                "with more --ways."
            )
        return self


def save(path: pathlib.Path | str, model: FewShotModel) -> None:
    """Write a model as one `.safetensors` file."""
    publish.save_model(
        path,
        {"params": model.params, "calibration": model.calibration._asdict()},
        {
            "content": CONTENT,
            "layout": VERSION,
            "recipe": dataclasses.asdict(model.recipe),
            "plan": model.plan._asdict(),
            "reader": model.reader,
            "header": model.header,
        },
    )


def load(path: pathlib.Path | str) -> FewShotModel:
    """Read a model from its file, or from the folder of its run.

    Raises:
      InputError: if the file is foreign, truncated, of another version, or does not
        hold what its recipe asks for.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / FILE
    found, header = publish.load_model(path)
    if header.get("content") != CONTENT or header.get("layout") != VERSION:
        raise InputError(
            f"{path}: holds {header.get('content')!r} of layout "
            f"{header.get('layout')}, not a {CONTENT} of layout {VERSION}; train one "
            "with this version: jmeta train fewshot."
        )
    try:
        recipe = Recipe(**_tuples(header["recipe"]))
        return FewShotModel(
            recipe=recipe,
            plan=Plan(**_tuples(header["plan"])),
            reader=header["reader"],
            params=_params(path, recipe, header["reader"], found.get("params", {})),
            calibration=_calibration(found["calibration"]),
            header=header["header"],
        )
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: is damaged ({type(error).__name__}: {error}); train or fetch it "
            "again."
        ) from error


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists alone."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in plain.items()
    }


def _calibration(found: dict[str, np.ndarray]) -> Calibration:
    made = Calibration(**{name: jnp.asarray(leaf) for name, leaf in found.items()})
    shapes = tuple(leaf.shape for leaf in made)
    sizes = len(made.rows)
    if shapes != ((2,), (sizes,), (sizes, calibrating.LEVELS), (sizes,)) or not sizes:
        raise ValueError(f"calibration of shapes {shapes}")
    return made


def _params(
    path: pathlib.Path, recipe: Recipe, reader: dict[str, Any], found: dict[str, Any]
) -> Params:
    """The stored parameters, in the shape that the algorithm wants them."""
    shape = tuple(reader["row"])
    number = jnp.int32 if recipe.kind == "classes" else jnp.float32
    init = algorithm_of(recipe).init

    def start() -> Params:
        rows = Examples(
            x=jnp.zeros((1, 2, *shape)),
            y=jnp.zeros((1, 2), number),
            mask=jnp.ones((1, 2), bool),
        )
        return init(jax.random.key(0), Task(rows, rows, jnp.zeros((1, 1)))).params

    wanted = jax.eval_shape(start)  # Nothing is computed, whatever the shape.

    def leaf(place: Any, shaped: Any) -> Array:
        names = [step.key for step in place]
        value: Any = functools.reduce(lambda tree, name: tree[name], names, found)
        if value.shape != shaped.shape:
            raise InputError(
                f"{path}: {'/'.join(names)} has the shape {value.shape}, where its "
                f"recipe asks for {shaped.shape}; train or fetch it again."
            )
        return jnp.asarray(value)

    return jax.tree_util.tree_map_with_path(leaf, wanted)
