"""From a data frame to a recommendation and a fitted model, and to a folder and back.

What the command line and the estimators share.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jmeta import metamodel, predictor, publish, recommend
from jmeta.data import encode
from jmeta.errors import InputError
from jmeta.recommendation import Recommendation, always
from jmeta.tasks import Table, pad_table

__all__ = [
    "LARGEST",
    "Encoded",
    "FittedModel",
    "encode_table",
    "fit_table",
    "load_models",
    "recommend_table",
    "single_best",
]

LARGEST = 4096
"""Tables with more rows are described and selected on a stratified subsample."""

_FILE = "model.safetensors"
_LAYOUT = 1


def load_models(path: str | None = None) -> dict[str, metamodel.MetaModel]:
    """The meta-models of a file or run folder by kind; None for the shipped ones.

    A file is read once, and again when it has changed.

    Raises:
      InputError: as `jmeta.metamodel.load`.
    """
    if path is None:
        return dict(_load(None, ()))
    place = pathlib.Path(path).absolute()
    place = place / _FILE if place.is_dir() else place
    state: tuple[int, ...] = ()
    with contextlib.suppress(OSError):  # Told by reading it.
        found = os.stat(place)
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
    return dict(_load(str(place), state))


@functools.lru_cache(maxsize=8)
def _load(path: str | None, state: tuple[int, ...]) -> dict[str, metamodel.MetaModel]:
    del state  # Part of the key alone.
    return metamodel.load(path)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A table as the engine sees it.

    Attributes:
      encoder: of the features.
      target: of what is predicted.
      full: all labelled rows.
      table: what is described and selected on: all rows, or a subsample.
    """

    encoder: encode.TableEncoder
    target: encode.TargetEncoder
    full: Table
    table: Table

    @property
    def num_classes(self) -> int:
        """The number of classes; 2 for a number, where it is not used."""
        return max(len(self.target.classes), 2)


def encode_table(
    features: pd.DataFrame,
    target: pd.Series,
    *,
    kind: str | None = None,
    types: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Encoded:
    """Encode a labelled table; rows without a target are left out.

    Args:
      features: one row an example.
      target: what is to be predicted.
      kind: `"classes"` or `"number"`; None infers it.
      types: `"number"`, `"category"` or `"ignore"` by column; the rest is inferred.
      seed: of the subsample.

    Raises:
      InputError: if the table cannot be used; the message says why.
    """
    coder = encode.fit_target(target, kind)
    known = encode.known_rows(target)
    features, target = features.loc[known], target.loc[known]
    encoder = encode.fit_encoder(features, types)
    x, columns = encoder.encode(features)
    y = coder.encode(target)
    full = pad_table(x, y, columns)
    table = full
    if len(y) > LARGEST:
        rows = encode.subsample(y, coder.kind, limit=LARGEST, seed=seed)
        table = pad_table(x[rows], y[rows], columns)
    return Encoded(encoder=encoder, target=coder, full=full, table=table)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FittedModel:
    """A recommended model for one kind of table, ready to predict frames."""

    encoder: encode.TableEncoder
    target: encode.TargetEncoder
    predictor: predictor.Predictor
    recommendation: dict[str, Any]

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """Predictions of a table, columns matched by name.

        Returns:
          For classes `prediction` and one column `p(class)` a class; for a number
          `prediction` and the ends `low` and `high` of its 90 % interval.

        Raises:
          InputError: if a column is missing or holds what it did not hold before.
        """
        x, _ = self.encoder.encode(features)
        out = self.predictor.predict(x)
        if self.target.kind == "number":
            reach = self.predictor.reach
            parts = {"prediction": out, "low": out - reach, "high": out + reach}
            parts = {name: self.target.decode(y) for name, y in parts.items()}
            return pd.DataFrame(parts, index=features.index)
        best = self.target.decode(np.argmax(out, axis=1))
        frame = pd.DataFrame({"prediction": best}, index=features.index)
        for label, column in zip(self.target.classes, out.T):
            frame[f"p({label})"] = column
        return frame

    def save(self, folder: pathlib.Path | str) -> pathlib.Path:
        """Write the model into a folder as one file; returns the file.

        The file of a nearest-neighbour or kernel model holds rows of the table.
        """
        params, header = self.predictor.to_params()
        path = pathlib.Path(folder) / _FILE
        publish.save_model(
            path,
            params,
            {
                "content": "fitted model",
                "layout": _LAYOUT,
                "predictor": header,
                "encoder": self.encoder.to_json(),
                "target": self.target.to_json(),
                "recommendation": json.loads(json.dumps(self.recommendation)),
            },
        )
        return path

    @staticmethod
    def load(folder: pathlib.Path | str) -> "FittedModel":
        """Read what `save` wrote.

        Raises:
          InputError: if the folder holds no such file, or one that is damaged or of
            another version.
        """
        path = pathlib.Path(folder)
        path = path if path.is_file() else path / _FILE
        if not path.is_file():
            raise InputError(
                f"{folder}: holds no fitted model; make one with "
                "jmeta recommend TABLE --target COLUMN --fit DIR."
            )
        params, header = publish.load_model(path)
        if header.get("content") != "fitted model" or header.get("layout") != _LAYOUT:
            raise InputError(
                f"{path}: holds {header.get('content')!r} of layout "
                f"{header.get('layout')}, not a fitted model of layout {_LAYOUT}."
            )
        try:
            return FittedModel(
                encoder=encode.TableEncoder.from_json(header["encoder"]),
                target=encode.TargetEncoder.from_json(header["target"]),
                predictor=predictor.Predictor.from_params(params, header["predictor"]),
                recommendation=header["recommendation"],
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: is damaged ({type(error).__name__} {error}); fit it again."
            ) from error


def recommend_table(
    encoded: Encoded,
    *,
    model: str | None = None,
    budget: int = 0,
    metric: str | None = None,
    ensemble: bool | None = None,
    seed: int = 0,
) -> Recommendation:
    """A recommendation for an encoded table; see `jmeta.recommend.recommend`.

    Raises:
      InputError: if the meta-model knows no such kind of target.
    """
    models = load_models(model)
    kind = encoded.target.kind
    if kind not in models:
        raise InputError(
            f"{model or 'the shipped meta-model'}: knows targets of kind "
            f"{sorted(models)}, and this target is of kind {kind!r}."
        )
    return recommend.recommend(
        models[kind],
        encoded.table,
        num_classes=encoded.num_classes,
        budget=budget,
        metric=metric,
        ensemble=ensemble,
        seed=seed,
        unit=encoded.target.scale if kind == "number" else 1.0,
    )


def single_best(
    model: metamodel.MetaModel, metric: str | None = None
) -> Recommendation:
    """The candidate that is best on average, whatever the table: the floor to beat.

    Give it to an estimator as its `recommendation`.
    """
    return always(model, metric)


def fit_table(
    encoded: Encoded, recommendation: Recommendation, *, seed: int = 0
) -> FittedModel:
    """Train what was recommended on all rows; see `jmeta.predictor.fit`."""
    fitted = predictor.fit(recommendation, encoded.table, full=encoded.full, seed=seed)
    return FittedModel(
        encoder=encoded.encoder,
        target=encoded.target,
        predictor=fitted,
        recommendation=recommendation.to_json(),
    )
