"""Portfolios, shrinkage, weights and calibration do what their arithmetic says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import choose


def test_the_portfolio_covers_what_the_first_cannot():
    # Candidate 0 is best on average; 2 alone solves the last draw; 1 is nearly 0.
    costs = jnp.asarray([[0.1, 0.1, 1.0], [0.1, 0.2, 1.0], [1.0, 1.0, 0.0]])
    places = choose.greedy_portfolio(costs, 3, 0)
    np.testing.assert_array_equal(places, [0, 2, 1])


def test_a_portfolio_larger_than_the_candidates_is_refused():
    with pytest.raises(ValueError, match=r"size must be in \[1, 2\]"):
        choose.greedy_portfolio(jnp.zeros((3, 2)), 3, 0)


def test_shrinkage_is_the_normal_posterior_worked_out_by_hand():
    # Differences to the first: .4 and .2 in two folds, mean .3, variance .02; one
    # other candidate, so pooled = own; noise = .01. Prior mean 0, variance .01:
    # trust = 1/2 and the posterior difference is .15.
    observed = jnp.asarray([[1.0, 1.2], [1.4, 1.4]])
    posterior = choose.shrink(
        jnp.asarray([0.5, 0.5]), jnp.asarray([0.1, 0.1]), observed, jnp.ones(2, bool)
    )
    np.testing.assert_allclose(posterior.mean, [1.1, 1.25], rtol=1e-5)
    np.testing.assert_allclose(
        posterior.std[1], np.hypot(np.sqrt(0.005), 0.1), rtol=1e-5
    )


def test_padding_candidates_never_win_and_never_count():
    observed = jnp.asarray([[1.0, 1.2], [1.4, 1.4], [jnp.nan, -9.0]])
    expected, spread = jnp.asarray([0.5, 0.5, -9.0]), jnp.asarray([0.1, 0.1, 9.0])
    tried = jnp.asarray([True, True, False])
    padded = choose.shrink(expected, spread, observed, tried)
    plain = choose.shrink(expected[:2], spread[:2], observed[:2], tried[:2])
    np.testing.assert_allclose(padded.mean[:2], plain.mean)
    assert padded.mean[2] == np.inf


def test_mixture_weights_are_the_most_probable_ones():
    # One number says everything: candidate 0 is right with probability p, the other
    # with q, so that the posterior of the weight can be searched on a grid.
    key = jax.random.key(0)
    truth = jax.random.uniform(key, (2, 30), minval=0.05, maxval=0.95)
    probs = jnp.stack([truth, 1 - truth], axis=-1)
    y, mask = jnp.zeros(30, int), jnp.arange(30) < 24
    prior = jnp.asarray([2.0, 1.0])
    weights = choose.mixture_weights(probs, y, mask, prior, num_steps=2000)
    grid = np.linspace(1e-4, 1 - 1e-4, 20001)
    mixed = grid[:, None] * truth[0, :24] + (1 - grid[:, None]) * truth[1, :24]
    value = np.log(mixed).sum(1) + 2.0 * np.log(grid) + 1.0 * np.log(1 - grid)
    np.testing.assert_allclose(weights[0], grid[np.argmax(value)], atol=2e-4)
    garbage = jnp.where(mask[:, None], probs, jnp.nan)
    again = choose.mixture_weights(garbage, y, mask, prior, num_steps=2000)
    np.testing.assert_array_equal(weights, again)


def test_without_rows_mixture_weights_are_the_prior():
    probs = jnp.full((3, 4, 2), 0.5)
    prior = jnp.asarray([3.0, 1.0, 0.0])
    weights = choose.mixture_weights(
        probs, jnp.zeros(4, int), jnp.zeros(4, bool), prior
    )
    np.testing.assert_allclose(weights, [0.75, 0.25, 0.0], atol=1e-6)


def test_mixture_weights_of_two_complementary_numbers_are_halves():
    y = jnp.zeros(4)
    predictions = jnp.asarray([[1.0, 1, 1, np.nan], [-1.0, -1, -1, 3], [9.0, 9, 9, 9]])
    mask = jnp.asarray([True, True, True, False])
    weights = choose.mixture_weights(predictions, y, mask, jnp.full(3, 0.01))
    np.testing.assert_allclose(weights, [0.5, 0.5, 0.0], atol=5e-3)


def test_a_perfect_number_takes_all_the_weight():
    y = jnp.arange(8.0)
    predictions = jnp.stack([y, y + 1.0, y - 0.5])
    weights = choose.mixture_weights(
        predictions, y, jnp.ones(8, bool), jnp.full(3, 0.1)
    )
    np.testing.assert_allclose(weights, [8.1 / 8.3, 0.1 / 8.3, 0.1 / 8.3], atol=1e-5)


def test_overconfident_probabilities_are_cooled_and_padding_is_not_seen():
    key = jax.random.key(0)
    logits = jax.random.normal(key, (400, 2))
    y = jax.random.categorical(jax.random.key(1), logits)
    mask = jnp.arange(400) < 380
    probs = jax.nn.softmax(3.0 * logits)
    fitted = choose.fit_calibration(probs, y, mask, mask)
    assert 2.0 < fitted.temperature < 4.0
    garbage = choose.fit_calibration(
        jnp.where(mask[:, None], probs, jnp.nan), jnp.where(mask, y, 7), mask, mask
    )
    np.testing.assert_array_equal(fitted.temperature, garbage.temperature)
    calibrated = choose.calibrate(fitted, probs)
    np.testing.assert_allclose(calibrated.sum(1), 1.0, rtol=1e-5)


def test_a_class_without_rows_keeps_no_probability():
    probs = jnp.asarray([[0.5, 0.4, 0.1]] * 6)
    y = jnp.asarray([0, 1, 0, 1, 0, 0])
    every = jnp.ones(6, bool)
    fitted = choose.fit_calibration(probs, y, every, every)
    assert choose.calibrate(fitted, probs)[:, 2].max() == 0.0


def test_a_class_keeps_its_probability_where_none_of_its_rows_is_predicted():
    probs = jnp.asarray([[0.5, 0.3, 0.2]] * 6)
    y = jnp.asarray([0, 1, 0, 1, 0, 2])
    known = jnp.arange(6) < 4
    fitted = choose.fit_calibration(probs, y, jnp.ones(6, bool), known)
    assert choose.calibrate(fitted, probs)[:, 2].min() > 0.1
