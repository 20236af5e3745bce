"""Each group's arithmetic: numbers by hand, and agreement with SciPy and sklearn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.feature_selection import f_classif
from sklearn.metrics import mutual_info_score

from jmeta.describe import correlation, information, simple
from jmeta.describe.view import average, quantile, top_mean, view
from jmeta.tasks import CATEGORY, INDICATOR, NUMBER, PADDING, Table

NAN = float("nan")


@functools.partial(jax.jit, static_argnames=("group", "kind", "num_classes"))
def of(group, table, kind="classes", num_classes=4):
    """One group of a table, compiled as users compile it."""
    return group(view(table, kind, num_classes))


def scaled(v):
    return v.z


def small():
    # Six rows of two classes (4 and 2) and two padding rows; a number with a missing
    # value and its indicator, a constant, two categories, and padding.
    x = np.array(
        [
            [0.0, 0, 5, 1, 0, 9],
            [1.0, 0, 5, 1, 0, 9],
            [NAN, 1, 5, 0, 1, 9],
            [3.0, 0, 5, 0, 1, 9],
            [0.0, 0, 5, 1, 0, 9],
            [6.0, 0, 5, 0, 1, 9],
            [7.0, 7, 7, 7, 7, 9],
            [NAN, 7, 7, 7, 7, 9],
        ],
        np.float32,
    )
    return Table(
        x=jnp.asarray(x),
        y=jnp.array([0, 0, 0, 1, 0, 1, 3, 3], jnp.int32),
        mask=jnp.arange(8) < 6,
        columns=jnp.array([NUMBER, INDICATOR, NUMBER, CATEGORY, CATEGORY, PADDING]),
    )


def normal(rows=200, features=6):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    x[:, 1] = np.exp(x[:, 1])
    x[:, 2] = x[:, 3] + 0.3 * x[:, 2]
    y = (x[:, 0] + 0.5 * rng.normal(size=rows) > 0.3).astype(np.int32)
    return x, y


def table_of(x, y):
    return Table(
        x=jnp.asarray(x),
        y=jnp.asarray(y),
        mask=jnp.ones(len(x), bool),
        columns=jnp.full(x.shape[1], NUMBER),
    )


def test_size_by_hand():
    got = of(simple.size, small())
    np.testing.assert_allclose(got["log_rows"], np.log(6), rtol=1e-6)
    np.testing.assert_allclose(got["log_columns"], np.log(5), rtol=1e-6)
    np.testing.assert_allclose(got["log_rows_per_column"], np.log(6 / 4), rtol=1e-6)
    np.testing.assert_allclose(got["number_share"], 0.5)
    np.testing.assert_allclose(got["constant_share"], 0.25)


def test_balance_by_hand():
    got = of(simple.balance, small())
    entropy = scipy.stats.entropy([4, 2])
    np.testing.assert_allclose(got["class_entropy"], entropy / np.log(2), rtol=1e-6)
    np.testing.assert_allclose(got["log_classes"], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(got["majority_share"], 4 / 6, rtol=1e-6)
    np.testing.assert_allclose(got["minority_share"], 2 / 6, rtol=1e-6)
    np.testing.assert_allclose(got["log_minority_rows"], np.log(3), rtol=1e-6)


def test_missing_by_hand():
    got = of(simple.missing, small())
    np.testing.assert_allclose(got["missing_share"], 1 / 12, rtol=1e-6)
    np.testing.assert_allclose(got["columns_with_missing"], 0.5)
    np.testing.assert_allclose(got["rows_with_missing"], 1 / 6, rtol=1e-6)


def test_moments_by_hand():
    got = of(simple.moments, small())
    known = [0.0, 1.0, 3.0, 0.0, 6.0]
    np.testing.assert_allclose(
        got["skewness_mean"], np.arcsinh(scipy.stats.skew(known)), rtol=1e-5
    )
    np.testing.assert_allclose(
        got["kurtosis_mean"], np.arcsinh(scipy.stats.kurtosis(known)), rtol=1e-5
    )
    np.testing.assert_allclose(got["distinct_share_mean"], 4 / 5, rtol=1e-6)
    np.testing.assert_allclose(got["zero_share"], 2 / 5, rtol=1e-6)
    np.testing.assert_allclose(got["few_valued_share"], 1.0)


def test_moments_are_those_of_scipy():
    x, y = normal()
    got = of(simple.moments, table_of(x, y))
    skewness = np.arcsinh(np.abs(scipy.stats.skew(x)))
    np.testing.assert_allclose(got["skewness_mean"], skewness.mean(), rtol=1e-4)
    np.testing.assert_allclose(got["skewness_median"], np.median(skewness), rtol=1e-4)
    np.testing.assert_allclose(got["skewness_max"], skewness.max(), rtol=1e-4)
    kurtosis = np.arcsinh(scipy.stats.kurtosis(x))
    np.testing.assert_allclose(got["kurtosis_mean"], kurtosis.mean(), rtol=1e-4)


def test_spread_of_a_number_by_hand():
    table = small()._replace(y=jnp.array([1.0, 1, 1, 2, 2, 6, NAN, NAN]))
    got = of(simple.spread, table, "number")
    y = [1, 1, 1, 2, 2, 6]
    np.testing.assert_allclose(
        got["target_skewness"], np.arcsinh(scipy.stats.skew(y)), rtol=1e-5
    )
    np.testing.assert_allclose(
        got["target_kurtosis"], np.arcsinh(scipy.stats.kurtosis(y)), rtol=1e-4
    )
    np.testing.assert_allclose(got["target_distinct_share"], 0.5)
    np.testing.assert_allclose(got["target_mode_share"], 0.5)
    np.testing.assert_allclose(got["target_outlier_share"], 0.0)


def test_correlations_are_those_of_numpy():
    x, y = normal()
    got = of(correlation.correlation, table_of(x, y))
    c = np.corrcoef(np.asarray(of(scaled, table_of(x, y))).T)
    pairs = np.abs(c[np.triu_indices(6, 1)])
    np.testing.assert_allclose(got["correlation_mean"], pairs.mean(), rtol=1e-4)
    np.testing.assert_allclose(got["correlation_max"], pairs.max(), rtol=1e-4)
    np.testing.assert_allclose(got["correlated_share"], 1 / 15, rtol=1e-5)
    values = np.linalg.eigvalsh(c)
    np.testing.assert_allclose(
        got["effective_rank"], 36 / np.sum(values**2) / 6, rtol=1e-4
    )
    # From traces of powers, an average of eigenvalues that weighs the largest most.
    np.testing.assert_allclose(got["first_component"], values.max() / 6, rtol=0.01)


def test_separation_is_the_adjusted_share_of_the_f_test():
    x, y = normal()
    f, _ = f_classif(np.asarray(of(scaled, table_of(x, y))), y)
    n = len(y)
    share = f / (f + n - 2)
    adjusted = np.sqrt(np.clip(1 - (1 - share) * (n - 1) / (n - 2), 0, 1))
    got = of(correlation.target, table_of(x, y))
    np.testing.assert_allclose(got["separation_max"], adjusted.max(), rtol=1e-4)
    np.testing.assert_allclose(got["separation_mean"], adjusted.mean(), atol=1e-4)
    np.testing.assert_allclose(
        got["separation_top3"], np.sort(adjusted)[-3:].mean(), atol=1e-4
    )


def test_classes_of_unlike_spread_are_seen():
    x, y = normal()
    alike = of(correlation.target, table_of(x, y))["spread_differs"]
    wide = np.where(y[:, None] == 1, 4.0, 1.0).astype(np.float32) * x
    unlike = of(correlation.target, table_of(wide, y))["spread_differs"]
    assert unlike > alike + 0.2


def test_information_is_sklearns_with_millers_correction():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 4, size=(120, 1)).astype(np.float32)
    y = ((x[:, 0] > 1) ^ (rng.random(120) < 0.2)).astype(np.int32)
    got = of(information.information, table_of(x, y))
    plain = mutual_info_score(x[:, 0], y)
    # Six equal bins keep four values apart; (4 - 1) + (2 - 1) - (8 - 1) = -3 cells.
    corrected = plain - 3 / 240
    entropy = scipy.stats.entropy(np.bincount(y)) + 1 / 240
    np.testing.assert_allclose(got["information_max"], corrected / entropy, rtol=1e-4)
    np.testing.assert_allclose(got["interaction_max"], 0.0)


def test_noise_tells_nothing_after_the_correction():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 6)).astype(np.float32)
    y = rng.integers(0, 2, 200).astype(np.int32)
    got = of(information.information, table_of(x, y))
    assert got["information_mean"] < 0.01 and got["interaction_mean"] < 0.01


def test_an_exclusive_or_shows_in_pairs_and_not_in_single_features():
    rng = np.random.default_rng(4)
    x = rng.integers(0, 2, size=(200, 6)).astype(np.float32)
    y = (x[:, 2] != x[:, 4]).astype(np.int32)
    got = of(information.information, table_of(x, y))
    assert got["information_max"] < 0.1 and got["interaction_max"] > 0.9


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_a_bent_dependence_is_told_from_a_straight_one(kind):
    x, _ = normal()

    def bend(y):
        y = (y > np.median(y)).astype(np.int32) if kind == "classes" else y
        got = of(information.information, table_of(x, y), kind)
        return float(got["nonlinearity_max"])

    # A step is a little bent itself: bins follow it closer than a line.
    assert bend(np.abs(x[:, 0])) > bend(x[:, 0]) + 0.3


def test_helpers_over_nothing_are_zero_and_else_numpys():
    values, none = jnp.array([3.0, 1.0, 8.0, 2.0]), jnp.zeros(4, bool)
    kept = jnp.array([True, True, False, True])
    for helper in (average, lambda v, k: quantile(v, k, 0.3)):
        assert helper(values, none) == 0.0
    assert top_mean(values, none, 3) == 0.0
    assert average(values, kept) == 2.0 and top_mean(values, kept, 2) == 2.5
    np.testing.assert_allclose(
        quantile(values, kept, 0.3), np.quantile([3.0, 1.0, 2.0], 0.3), rtol=1e-6
    )


def test_runs_count_distinct_values_and_the_longest_repeat():
    ordered = jnp.sort(jnp.array([[2.0, 1], [2, 5], [7, 5], [jnp.inf, 5]]), axis=0)
    distinct, longest = jax.jit(simple._runs)(ordered, jnp.array([3.0, 4.0]))
    np.testing.assert_array_equal(distinct, [2, 2])
    np.testing.assert_array_equal(longest, [2, 3])
