"""Scores agree with scikit-learn and do not see what is masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from jmeta import metrics


def _classes(num_classes: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(num_classes), 90).round(1) + 0.01
    probs /= probs.sum(1, keepdims=True)
    labels = rng.integers(0, num_classes, 90)
    mask = np.arange(90) < 70
    probs[70:] = np.nan
    return probs.astype(np.float32), labels.astype(np.int32), mask


@pytest.mark.parametrize("num_classes", [2, 3])
def test_class_scores_equal_scikit_learns(num_classes):
    probs, labels, mask = _classes(num_classes)
    log_loss, brier, auc, accuracy, _ = metrics.score_all(
        jnp.asarray(probs), jnp.asarray(labels), jnp.asarray(mask)
    )
    p, y = probs[mask].astype(float), labels[mask]
    p /= p.sum(1, keepdims=True)
    hot = np.eye(num_classes)[y]
    # Class by class, since scikit-learn wants rows that sum to 1, which breaks ties.
    areas = [sk.roc_auc_score(y == c, probs[mask][:, c]) for c in range(1, num_classes)]
    if num_classes > 2:
        areas.append(sk.roc_auc_score(y == 0, probs[mask][:, 0]))
    np.testing.assert_allclose(log_loss, sk.log_loss(y, p), rtol=1e-5)
    np.testing.assert_allclose(brier, ((p - hot) ** 2).sum(1).mean(), rtol=1e-5)
    np.testing.assert_allclose(auc, np.mean(areas), rtol=1e-5)
    np.testing.assert_allclose(
        accuracy, sk.balanced_accuracy_score(y, p.argmax(1)), rtol=1e-5
    )


def test_tied_scores_count_half():
    probs = jnp.asarray([[0.5, 0.5]] * 4 + [[0.2, 0.8]])
    labels = jnp.asarray([0, 0, 1, 1, 1])
    # Positives: two tied with both negatives (1/2 each), one above both.
    area = metrics.auc(probs, labels, jnp.ones(5, bool))
    np.testing.assert_allclose(area, (2 * 1.0 + 2.0) / 6.0, rtol=1e-6)


def test_calibration_error_is_the_gap_worked_out_by_hand():
    # Two bins of two rows: confidence .9 and right once (gap .4), .6 and right twice.
    probs = jnp.asarray([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = jnp.asarray([0, 1, 0, 0])
    error = metrics.calibration_error(probs, labels, jnp.ones(4, bool))
    np.testing.assert_allclose(error, 0.5 * 0.4 + 0.5 * 0.4, rtol=1e-5)


_line = jax.jit(metrics.calibration_line)
_ratio = jax.jit(metrics.observed_expected)


def _padded(p, y, mask=True):
    """Risks and outcomes as 90 rows, of which the rest is garbage."""
    probs, labels = np.full((90, 2), np.nan, np.float32), np.full(90, 7, np.int32)
    probs[: len(p)] = np.stack([1.0 - np.asarray(p), p], axis=1)
    labels[: len(y)] = y
    return probs, labels, (np.arange(90) < len(p)) & mask


def test_the_calibration_line_of_two_predictions_is_that_through_their_shares():
    # Odds 1/3 for 10 rows, 2 of them sick; 3 for 10 rows, 6 sick: log odds -log 4 at
    # -log 3 and log 1.5 at log 3. The line through both, by hand.
    line = _line(
        *_padded(np.repeat([0.25, 0.75], 10), np.repeat([1, 0, 1, 0], [2, 8, 6, 4]))
    )
    slope = (np.log(1.5) + np.log(4.0)) / (2.0 * np.log(3.0))
    np.testing.assert_allclose(line.slope, slope, rtol=1e-3)
    np.testing.assert_allclose(
        line.intercept, np.log(1.5) - slope * np.log(3.0), rtol=1e-3
    )


def test_the_calibration_line_equals_an_unpenalised_logistic_regression():
    probs, labels, mask = _classes(2, seed=3)
    line = _line(probs, labels, mask)
    odds = np.log(probs[mask, 1] / probs[mask, 0])
    fit = LogisticRegression(C=np.inf, tol=1e-8).fit(odds[:, None], labels[mask])
    np.testing.assert_allclose(line.slope, fit.coef_[0, 0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(line.intercept, fit.intercept_[0], rtol=1e-3, atol=1e-4)
    # With the intercept in the large, as many are expected as are observed.
    shifted = 1.0 / (1.0 + np.exp(-odds - np.asarray(line.in_the_large)))
    np.testing.assert_allclose(shifted.mean(), labels[mask].mean(), rtol=1e-5)
    wanted = labels[mask].mean() / probs[mask, 1].mean()
    np.testing.assert_allclose(_ratio(probs, labels, mask), wanted, rtol=1e-5)


def test_degenerate_calibration_lines_are_finite():
    both = [0, 0, 1, 1]
    flat = _line(*_padded([0.2] * 4, both))
    assert flat.slope == 0
    np.testing.assert_allclose(flat.in_the_large, np.log(4.0), rtol=1e-4)
    separated = _line(*_padded([0.0, 0.1, 0.2, 1.0], both))
    assert 10 < separated.slope < 1e4 and np.isfinite(separated).all()
    assert _line(*_padded([0.1, 0.2, 0.3, 0.4], [1] * 4)) == (0, 0, 0)
    assert _line(*_padded([0.1, 0.2, 0.3, 0.4], both, mask=False)) == (0, 0, 0)


def test_number_scores_equal_scikit_learns():
    rng = np.random.default_rng(1)
    y, p = rng.normal(size=(2, 50)).astype(np.float32)
    mask = np.arange(50) < 40
    p[40:] = np.nan
    rmse, mae, r2 = metrics.score_all(jnp.asarray(p), jnp.asarray(y), jnp.asarray(mask))
    y, p = y[mask], p[mask]
    np.testing.assert_allclose(rmse, sk.root_mean_squared_error(y, p), rtol=1e-5)
    np.testing.assert_allclose(mae, sk.mean_absolute_error(y, p), rtol=1e-5)
    np.testing.assert_allclose(r2, sk.r2_score(y, p), rtol=1e-4)


def test_an_empty_mask_gives_finite_scores():
    probs, labels, _ = _classes(3)
    empty = jnp.zeros(90, bool)
    scores = metrics.score_all(jnp.asarray(probs), jnp.asarray(labels), empty)
    assert np.isfinite(scores).all()
    numbers = metrics.score_all(jnp.full(9, jnp.nan), jnp.zeros(9), empty[:9])
    assert np.isfinite(numbers).all()


def test_a_batch_of_tasks_gives_what_one_by_one_gives():
    batch = [_classes(3, seed) for seed in range(3)]
    stacked = [jnp.stack(part) for part in zip(*batch, strict=True)]
    together = jax.vmap(metrics.score_all)(*stacked)
    alone = [metrics.score_all(*map(jnp.asarray, one)) for one in batch]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-6)
