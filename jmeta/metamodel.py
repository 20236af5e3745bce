"""The meta-model: what was learnt across tasks, ready to be used on the next one.

One for each kind of target. It holds an ensemble of meta-classifiers (description ->
cost of every candidate), two meta-optimizers (description -> settings of every
learner; one learnt from good settings, one through training), and its own errors on
tasks it was not trained on, which are its uncertainty.
"""

import dataclasses
import functools
import importlib.resources
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from jmeta import learners, metrics, publish
from jmeta.algorithms import ensemble, meta_classification, meta_optimizer
from jmeta.base import MetaAlgorithm
from jmeta.describe import SCHEMA_VERSION, names
from jmeta.errors import InputError
from jmeta.networks import MetaClassifier, MetaOptimizer, default_units, from_linen
from jmeta.score import Candidate
from jmeta.types import Array, Params

__all__ = [
    "VERSION",
    "MetaModel",
    "Prediction",
    "Shape",
    "classifier_algorithm",
    "load",
    "optimizer_network",
    "save",
    "signs",
    "single_best",
]

VERSION = 1
"""Of the file's layout; a file of another version is refused."""

SHIPPED = "shipped.safetensors"


class Shape(NamedTuple):
    """The sizes of a meta-model's networks."""

    members: int = 5
    width: int = 96
    blocks: int = 2
    dropout: float = 0.1


class Prediction(NamedTuple):
    """What the meta-model expects on one task; costs are lower-better.

    Attributes:
      mean: over the ensemble.
      std: of the ensemble's members.
    """

    mean: Float[Array, "candidates scores"]
    std: Float[Array, "candidates scores"]


def signs(kind: str) -> np.ndarray:
    """What turns the scores of a kind into costs: 1, or -1 where higher is better."""
    better = metrics.HIGHER_IS_BETTER
    return np.array([-1.0 if s in better else 1.0 for s in metrics.SCORES[kind]])


def single_best(
    typical: np.ndarray, candidates: Sequence[Candidate], score: int = 0
) -> int:
    """The place of the fixed candidate with the lowest typical cost."""
    fixed = np.array([candidate.unit is not None for candidate in candidates])
    return int(np.argmin(np.where(fixed, typical[:, score], np.inf)))


@functools.cache
def classifier_algorithm(
    shape: Shape, num_candidates: int, num_scores: int, learning_rate: float, steps: int
) -> MetaAlgorithm:
    """The ensemble of meta-classifiers, as it is trained and as it predicts."""
    module = MetaClassifier(
        num_candidates=num_candidates,
        num_metrics=num_scores,
        width=shape.width,
        num_blocks=shape.blocks,
        dropout=shape.dropout,
    )
    schedule = optax.cosine_decay_schedule(learning_rate, max(steps, 1), alpha=0.02)
    algorithm = meta_classification(
        from_linen(module),
        optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-2)
        ),
        loss={"cost": 1.0, "soft": 0.3, "expected": 0.3},
        temperature=0.5,
        feature_dropout=0.05,
        stochastic=True,
    )
    return ensemble(algorithm, shape.members, bagged=True)


@functools.cache
def optimizer_network(names_of_learners: tuple[str, ...]) -> Any:
    """The network of a meta-optimizer for some learners."""
    made = [learners.get(name, 2) for name in names_of_learners]
    return from_linen(MetaOptimizer(defaults=default_units(made), width=64))


@functools.cache
def _proposer(names_of_learners: tuple[str, ...]) -> MetaAlgorithm:
    made = [learners.get(name, 2) for name in names_of_learners]
    return meta_optimizer(optimizer_network(names_of_learners), made, optax.identity())


@functools.partial(jax.jit, static_argnames=("algorithm",))
def _predict(algorithm: MetaAlgorithm, params: Params, descriptions: Array) -> Any:
    return jax.vmap(lambda d: algorithm.predict(params, d))(descriptions)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MetaModel:
    """What was learnt across tasks for one kind of target.

    Attributes:
      kind: `"classes"` or `"number"`.
      candidates: what can be recommended.
      shape: of the networks.
      params: `classifier` (ensemble), `optimizers` (by name: network parameters),
        `residuals` `(tasks, candidates, scores)`: measured minus predicted costs on
        tasks that were held out, `typical` `(candidates, scores)`: mean costs, and
        `sure` `(scores,)`: the probability of a gain that a recommendation needs.
      learner_names: by meta-optimizer, the learners it has settings for.
      header: name, version, what it was trained on and how.
    """

    kind: str
    candidates: tuple[Candidate, ...]
    shape: Shape
    params: dict[str, Any]
    learner_names: dict[str, tuple[str, ...]]
    header: dict[str, Any]

    @property
    def score_names(self) -> tuple[str, ...]:
        """The scores that are predicted, in order."""
        return metrics.SCORES[self.kind]

    @property
    def provenance(self) -> dict[str, Any]:
        """Its name, its version and what it was trained on."""
        return {k: self.header.get(k) for k in ("name", "version", "trained_on")}

    def single_best(self, score: int = 0) -> int:
        """The place of the fixed candidate that is best on average over tasks.

        Those whose settings are proposed for each task do not count: the single best
        is what one would use without looking at the task.
        """
        return single_best(np.asarray(self.params["typical"]), self.candidates, score)

    @property
    def algorithm(self) -> MetaAlgorithm:
        """The ensemble, whose `predict` gives one prediction a member."""
        return classifier_algorithm(
            self.shape, len(self.candidates), len(self.score_names), 0.0, 1
        )

    def predict(self, descriptions: Float[Array, "tasks meta"]) -> Prediction:
        """Expected costs of every candidate on each task."""
        out = _predict(
            self.algorithm, self.params["classifier"], jnp.asarray(descriptions)
        )
        return Prediction(mean=out.mean(1), std=out.std(1))

    def propose(
        self, descriptions: Float[Array, "tasks meta"]
    ) -> dict[str, Float[Array, "tasks size"]]:
        """The meta-optimizers' settings of every learner for each task."""
        units: dict[str, Array] = {}
        for name, of in self.learner_names.items():
            params = self.params["optimizers"][name]
            units |= _predict(_proposer(of), params, jnp.asarray(descriptions))
        return units


def _header_of(model: MetaModel) -> dict[str, Any]:
    return {
        "candidates": [[c.learner, c.unit and list(c.unit)] for c in model.candidates],
        "shape": list(model.shape),
        "learner_names": {k: list(v) for k, v in model.learner_names.items()},
        "descriptions": list(names(model.kind)),
        "schema": SCHEMA_VERSION,
        "header": model.header,
    }


def save(path: pathlib.Path | str, models: dict[str, MetaModel]) -> None:
    """Write the meta-models, one for each kind, as one `.safetensors` file."""
    publish.save_model(
        path,
        {kind: model.params for kind, model in models.items()},
        {
            "content": "meta-model",
            "layout": VERSION,
            "kinds": {kind: _header_of(model) for kind, model in models.items()},
        },
    )


def load(path: pathlib.Path | str | None = None) -> dict[str, MetaModel]:
    """Read meta-models by kind; None reads the one that ships with jmeta.

    Raises:
      InputError: if the file is foreign, truncated, of another version, or was made
        for other descriptions or learners than this jmeta has.
    """
    if path is None:
        with importlib.resources.as_file(
            importlib.resources.files("jmeta") / SHIPPED
        ) as shipped:
            return load(shipped)
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    params, header = publish.load_model(path)
    if header.get("content") != "meta-model" or header.get("layout") != VERSION:
        raise InputError(
            f"{path}: holds {header.get('content')!r} of layout "
            f"{header.get('layout')}, not a meta-model of layout {VERSION}; train one "
            "with this version: jmeta train."
        )
    try:
        return {
            kind: _model_of(path, kind, params[kind], about)
            for kind, about in header["kinds"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged ({type(error).__name__}: {error}); train or fetch it "
            "again."
        ) from error


def _model_of(
    path: pathlib.Path, kind: str, params: Params, about: dict[str, Any]
) -> MetaModel:
    if about["schema"] != SCHEMA_VERSION or about["descriptions"] != list(names(kind)):
        raise InputError(
            f"{path}: was trained on descriptions of schema {about['schema']}, and "
            f"this jmeta computes schema {SCHEMA_VERSION}; train one with this "
            "version: jmeta train."
        )
    known = set(learners.names(kind))
    unknown = sorted({name for name, _ in about["candidates"]} - known)
    if unknown:
        raise InputError(
            f"{path}: recommends learners that are not registered here: {unknown}; "
            "register them before loading it."
        )
    candidates = tuple(
        Candidate(learner=name, unit=None if unit is None else tuple(unit))
        for name, unit in about["candidates"]
    )
    return MetaModel(
        kind=kind,
        candidates=candidates,
        shape=Shape(*about["shape"]),
        params=jax.tree.map(jnp.asarray, params),
        learner_names={k: tuple(v) for k, v in about["learner_names"].items()},
        header=about["header"],
    )
