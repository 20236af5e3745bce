"""scikit-learn's face: estimators that choose their model from the data's description.

`fit` recommends, fits and calibrates. `with_recommendation` fixes what was recommended
as a parameter, which `clone`, `cross_val_score` and pipelines keep.
"""

import numbers
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from jmeta import pipeline
from jmeta.data import tables
from jmeta.recommendation import Recommendation

__all__ = ["MetaClassifierCV", "MetaRegressorCV"]


# Not `Self`, which the tests' checks of types refuse on a method.
Estimator = TypeVar("Estimator", bound="_Recommended")


class _Recommended(BaseEstimator):
    """What both estimators share; see `MetaClassifierCV`."""

    _kind: str

    def __init__(
        self,
        *,
        budget: int = 0,
        metric: str | None = None,
        ensemble: bool | None = None,
        model: str | None = None,
        recommendation: Recommendation | None = None,
        types: dict[str, str] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.budget = budget
        self.metric = metric
        self.ensemble = ensemble
        self.model = model
        self.recommendation = recommendation
        self.types = types
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def _frame(self, X: Any, *, reset: bool) -> pd.DataFrame:
        if hasattr(X, "columns") and hasattr(X, "shape"):
            frame = tables.as_frame(X)  # First, since it names columns that repeat.
            validate_data(self, X, reset=reset, skip_check_array=True)
            return frame
        X = validate_data(
            self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan"
        )
        return tables.as_frame(X)

    def _encoded(self, X: Any, y: Any, seed: int) -> pipeline.Encoded:
        raise NotImplementedError

    def _recommend(self, encoded: pipeline.Encoded, seed: int) -> Recommendation:
        if not isinstance(self.budget, numbers.Integral):
            raise TypeError(
                f"{type(self).__name__}: budget must be an integer, got "
                f"{self.budget!r}."
            )
        return pipeline.recommend_table(
            encoded,
            model=None if self.model is None else str(self.model),
            budget=int(self.budget),
            metric=self.metric,
            ensemble=self.ensemble,
            seed=seed,
        )

    def fit(self: Estimator, X: Any, y: Any) -> Estimator:
        """Recommend a model unless `recommendation` fixes it; fit and calibrate it.

        Args:
          X: `(n, features)`: a pandas or polars frame, or an array; NaN and None are
            missing values, texts are categories.
          y: `(n,)` classes or numbers.

        Raises:
          ValueError: if the data cannot be used; the message says why.
        """
        seed = _seed(self.random_state)
        encoded = self._encoded(X, y, seed)
        if self.recommendation is None:
            chosen = self._recommend(encoded, seed)
        else:
            chosen = self._given(encoded)
        self.recommendation_ = chosen
        self.fitted_ = pipeline.fit_table(encoded, chosen, seed=seed)
        return self

    def _given(self, encoded: pipeline.Encoded) -> Recommendation:
        given = self.recommendation
        if not isinstance(given, Recommendation):
            raise TypeError(
                f"{type(self).__name__}: recommendation must be what "
                f"with_recommendation gives, got {type(given).__name__}."
            )
        if given.task["kind"] != self._kind:
            raise ValueError(
                f"{type(self).__name__}: the recommendation is for targets of kind "
                f"{given.task['kind']!r}, and this estimator's are {self._kind!r}."
            )
        return given.transferred(encoded.table, encoded.num_classes)

    def with_recommendation(self: Estimator, X: Any, y: Any) -> Estimator:
        """A copy of this estimator that will fit what is recommended for this table.

        `clone` and `cross_val_score` keep the recommendation, since it is a
        parameter of the copy. Scores of the copy on the same rows are optimistic
        where a budget was used.
        """
        from sklearn.base import clone

        seed = _seed(self.random_state)
        # On a copy, since describing data is not fitting.
        aside: Any = clone(self)
        chosen = self._recommend(aside._encoded(X, y, seed), seed)
        copy: Any = clone(self)
        return copy.set_params(recommendation=chosen)

    def _predicted(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "fitted_")
        frame = self._frame(X, reset=False)
        encoded, _ = self.fitted_.encoder.encode(frame)
        return self.fitted_.predictor.predict(encoded)


def _seed(random_state: Any) -> int:
    """The integer that decides everything; drawn where it is not given."""
    if isinstance(random_state, numbers.Integral):
        if not 0 <= int(random_state) < 2**32:
            raise ValueError(
                f"random_state must be between 0 and {2**32 - 1}, got {random_state}."
            )
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _column(estimator: BaseEstimator, y: Any, frame: pd.DataFrame) -> np.ndarray:
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is "
            "None."
        )
    y = column_or_1d(y, warn=True)
    check_consistent_length(frame, y)
    return y


def _check_known(estimator: BaseEstimator, y: np.ndarray) -> None:
    assert_all_finite(y, input_name="y")
    missing = pd.isna(y)
    if missing.any():
        raise ValueError(
            f"{type(estimator).__name__}: y contains NaN or None, the first in row "
            f"{int(missing.argmax()) + 1}; leave out the rows without a class."
        )
    if y.dtype == object and len({isinstance(label, str) for label in y}) > 1:
        raise ValueError(
            f"{type(estimator).__name__}: y mixes texts and other values, which cannot "
            "be sorted; make them all texts."
        )


class MetaClassifierCV(ClassifierMixin, _Recommended):
    """A classifier that chooses its model and settings from the table's description.

    Args:
      budget: how many candidates to cross-validate; 0 chooses from the description
        alone, without trying any.
      metric: what to choose by: "log_loss", "brier", "auc", "balanced_accuracy" or
        "calibration_error"; None for log loss.
      ensemble: whether to average the candidates that were tried; None for yes where
        there is a budget.
      model: a meta-model's file or run folder; None for the one that ships.
      recommendation: what to fit, from `with_recommendation`; None recommends anew.
      types: "number", "category" or "ignore" by column name; the rest is inferred.
      random_state: an integer that decides folds and draws; None draws one.

    Attributes:
      classes_: the classes, sorted.
      recommendation_: what was fitted, and why.
      n_features_in_, feature_names_in_: of the table.
    """

    _kind = "classes"

    def _encoded(self, X: Any, y: Any, seed: int) -> pipeline.Encoded:
        frame = self._frame(X, reset=True)
        y = _column(self, y, frame)
        _check_known(self, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            found = f"one class only ({self.classes_[0]!r})" if len(y) else "no class"
            raise ValueError(
                f"{type(self).__name__}: y holds {found}; at least two are needed."
            )
        labels = pd.Series(codes.astype(int), name="target")
        return pipeline.encode_table(
            frame, labels, kind="classes", types=self.types, seed=seed
        )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Calibrated probabilities `(n, classes)` in the order of `classes_`."""
        return self._predicted(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]


class MetaRegressorCV(RegressorMixin, _Recommended):
    """A regressor that chooses its model and settings from the table's description.

    The arguments are those of `MetaClassifierCV`; the metrics are "rmse" (the
    default), "mae" and "r2".
    """

    _kind = "number"

    def _encoded(self, X: Any, y: Any, seed: int) -> pipeline.Encoded:
        frame = self._frame(X, reset=True)
        y = _column(self, y, frame)
        y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
        target = pd.Series(y.astype(np.float64), name="target")
        return pipeline.encode_table(
            frame, target, kind="number", types=self.types, seed=seed
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predicted numbers `(n,)`."""
        predicted = self._predicted(X)
        return self.fitted_.target.decode(predicted)

    def predict_interval(self, X: Any) -> np.ndarray:
        """Ends `(n, 2)` of intervals that hold 90 % of the out-of-fold errors."""
        middle = self._predicted(X)
        reach = self.fitted_.predictor.reach
        ends = [self.fitted_.target.decode(middle + r) for r in (-reach, reach)]
        return np.stack(ends, axis=1)
