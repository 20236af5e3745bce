"""A recommended model: fitted on all rows, calibrated out of fold, saved and read.

Nothing executes on load: the file holds arrays, and the program that uses them is
rebuilt from the learners' names.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmeta import choose, learners, score
from jmeta.crossval import NUM_FOLDS, cross_folds, cross_validate
from jmeta.errors import InputError
from jmeta.recommendation import (
    COVERAGE,
    Member,
    Recommendation,
    Trained,
    num_features,
)
from jmeta.tasks import Table, bucket

__all__ = ["Predictor", "fit"]


CALIBRATION_ROWS = 1536
"""Padded rows by which the number of folds that calibrate falls: five up to 256 rows,
four up to 512, three up to 1,024, and then two."""

_fit = jax.jit(score.fit, static_argnames=("learner",))
_predict = jax.jit(score.predict, static_argnames=("learner",))
_fit_calibration = jax.jit(choose.fit_calibration)
_calibrate = jax.jit(choose.calibrate)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A recommended model, fitted on all rows and calibrated out of fold.

    Attributes:
      kind: `"classes"` or `"number"`.
      num_classes: not padded; 0 for a number.
      features: the width of the table, not padded.
      rows: of the table it was fitted on, padded.
      members: what is averaged.
      fitted: each member's weights, in the same order, as host arrays.
      calibration: of the averaged probabilities; None for a number.
      reach: half the width of a number's 90 % interval; 0 for classes.
    """

    kind: str
    num_classes: int
    features: int
    rows: int
    members: tuple[Member, ...]
    fitted: tuple[score.Fitted, ...]
    calibration: choose.Calibration | None
    reach: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities `(n, classes)`, or numbers `(n,)`, of rows as encoded.

        Args:
          x: `(n, features)` float32, encoded as the table that was fitted.
        """
        limit = max(64, min(4096, 2**26 // self.rows))
        parts = [
            self._predict_some(x[first : first + limit])
            for first in range(0, len(x), limit)
        ]
        if not parts:
            return np.zeros((0, self.num_classes) if self.num_classes else (0,))
        return np.concatenate(parts)

    def _predict_some(self, x: np.ndarray) -> np.ndarray:
        rows, width = bucket(len(x), "rows"), bucket(self.features, "features")
        padded = np.zeros((rows, width), np.float32)
        padded[: len(x), : x.shape[1]] = x
        classes = _padded_classes(self.num_classes)
        total: Any = 0.0
        for member, fitted in zip(self.members, self.fitted):
            learner = learners.get(member.learner, classes)
            out = _predict(learner, fitted, jnp.asarray(padded))
            if self.kind == learners.CLASSES:
                out = jax.nn.softmax(out)
            total = total + member.weight * out
        if self.calibration is None:
            return np.asarray(total)[: len(x)]
        out = np.asarray(_calibrate(self.calibration, total), np.float64)
        out = out[: len(x), : self.num_classes]
        return out / out.sum(axis=1, keepdims=True)

    def to_params(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Nested dicts of arrays, and what JSON holds: together, the predictor."""
        params: dict[str, Any] = {
            f"member{i}": {
                f"leaf{j}": np.asarray(leaf)
                for j, leaf in enumerate(jax.tree.leaves(fitted))
            }
            for i, fitted in enumerate(self.fitted)
        }
        if self.calibration is not None:
            params["calibration"] = {
                name: np.asarray(leaf)
                for name, leaf in self.calibration._asdict().items()
            }
        fields = ("kind", "num_classes", "features", "rows", "reach")
        header = {name: getattr(self, name) for name in fields}
        return params, header | {"members": [list(m) for m in self.members]}

    @staticmethod
    def from_params(params: dict[str, Any], header: dict[str, Any]) -> "Predictor":
        """What `to_params` gave, checked against this version's learners.

        Raises:
          InputError: if the arrays are not what the learners make.
        """
        members = tuple(
            Member(name, tuple(unit), weight)
            for name, unit, weight in header["members"]
        )
        fitted = tuple(
            _restored(member, params[f"member{i}"], header)
            for i, member in enumerate(members)
        )
        calibration = None
        if "calibration" in params:
            calibration = choose.Calibration(**params["calibration"])
        fields = ("kind", "num_classes", "features", "rows", "reach")
        return Predictor(
            members=members,
            fitted=fitted,
            calibration=calibration,
            **{name: header[name] for name in fields},
        )


def _padded_classes(num_classes: int) -> int | None:
    return bucket(num_classes, "classes") if num_classes else None


def _restored(
    member: Member, leaves: dict[str, Any], header: dict[str, Any]
) -> score.Fitted:
    """A member's weights, put back into the record that its learner makes."""
    learner = learners.get(member.learner, _padded_classes(header["num_classes"]))
    rows, width = header["rows"], bucket(header["features"], "features")
    spec: Any = jax.ShapeDtypeStruct
    target = jnp.int32 if header["kind"] == learners.CLASSES else jnp.float32
    table = Table(
        x=spec((rows, width), jnp.float32),
        y=spec((rows,), target),
        mask=spec((rows,), jnp.bool_),
        columns=spec((width,), jnp.int32),
    )
    expected = jax.eval_shape(
        lambda table: score.fit(
            learner, jax.random.key(0), _settings(member, learner), table, table.mask
        ),
        table,
    )
    shapes, structure = jax.tree.flatten(expected)
    found = [leaves.get(f"leaf{j}") for j in range(len(shapes))]
    for shape, leaf in zip(shapes, found):
        if leaf is None or leaf.shape != shape.shape or leaf.dtype != shape.dtype:
            raise InputError(
                f"the fitted {member.learner} does not fit this version of jmeta; "
                "fit it again: jmeta recommend TABLE --target COLUMN --fit DIR."
            )
    return jax.tree.unflatten(structure, found)


def _settings(member: Member, learner: Any) -> Any:
    return learner.space.decode(jnp.asarray(member.unit, jnp.float32))


def fit(
    recommendation: Recommendation,
    table: Table,
    *,
    full: Table | None = None,
    seed: int = 0,
) -> Predictor:
    """Train what was recommended on all rows, and calibrate it.

    Args:
      recommendation: of this table.
      table: what the recommendation was made on; its out-of-fold predictions
        calibrate.
      full: all rows, where `table` is a subsample of them; None for `table`.
      seed: of folds and draws; the recommendation's, or any.
    """
    kind = recommendation.task["kind"]
    num_classes = recommendation.task["classes"] or 0
    members, trained = recommendation.members, recommendation.trained
    if trained is None:
        trained = _train(members, _padded_classes(num_classes), table, seed)
    fitted = trained.fitted
    if full is not None and full is not table:
        fitted = _fit_all(members, _padded_classes(num_classes), full, seed)
    full = table if full is None else full
    mixed, known = trained.out_of_fold, trained.known
    calibration, reach = None, 0.0
    if kind == learners.CLASSES:
        calibration = _fit_calibration(
            jnp.asarray(mixed), table.y, table.mask, jnp.asarray(known)
        )
    else:
        errors = np.sort(np.abs(mixed - np.asarray(table.y))[known])
        place = int(np.ceil(COVERAGE * (len(errors) + 1))) - 1
        reach = float(errors[min(place, len(errors) - 1)])
    return Predictor(
        kind=kind,
        num_classes=num_classes,
        features=num_features(table),
        rows=int(full.mask.shape[0]),
        members=members,
        fitted=fitted,
        calibration=jax.device_get(calibration),
        reach=reach,
    )


def _train(
    members: tuple[Member, ...], classes: int | None, table: Table, seed: int
) -> Trained:
    """Fit the members to all rows, and predict rows without having seen them.

    On a larger table some of the folds are enough: calibration needs hundreds of
    rows, and each fold is one more fit.
    """
    models = [(member.learner, member.unit) for member in members]
    folds = cross_folds(seed, table)
    rows = bucket(int(table.mask.sum()), "rows")
    enough = min(NUM_FOLDS, 1 + math.ceil(CALIBRATION_ROWS / rows))
    folds = jax.tree.map(lambda leaf: leaf[:enough], folds)
    predictions, fitted = cross_validate(models, table, classes or 2, folds, seed)
    weights = np.array([member.weight for member in members])
    return Trained(
        out_of_fold=np.tensordot(weights, predictions, axes=1),
        known=np.asarray(jnp.any(folds.query, axis=0)),
        fitted=tuple(jax.device_get(fitted)),
    )


def _fit_all(
    members: tuple[Member, ...], classes: int | None, full: Table, seed: int
) -> tuple[score.Fitted, ...]:
    """The members fitted to all rows of a table too large to try candidates on."""
    fitted = []
    for member in members:
        learner = learners.get(member.learner, classes)
        settings = _settings(member, learner)
        fitted.append(_fit(learner, jax.random.key(seed), settings, full, full.mask))
    return tuple(jax.device_get(fitted))
