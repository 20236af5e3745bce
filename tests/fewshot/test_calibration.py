import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.fewshot.calibration import (
    LEVELS,
    Calibration,
    calibrated,
    factor,
    fit_factor,
    fit_temperature,
    quantiles,
    reach,
    threshold,
)

QUERIES = 100


def episodes(shares, rows):
    """Of each, queries whose log odds are all 2, of which a share is of that class."""
    logs = jax.nn.log_softmax(jnp.array([0.0, 2.0]))
    right = jnp.arange(QUERIES) < jnp.round(QUERIES * jnp.array(shares))[:, None]
    return {
        "log_probs": jnp.broadcast_to(logs, (len(shares), QUERIES, 2)),
        "labels": right.astype(jnp.int32),
        "mask": jnp.ones(right.shape, bool),
        "rows": jnp.array(rows),
    }


def known(power=(0.0, 0.0), rows=(16, 64), confidence=None):
    levels = np.linspace(0.0, 1.0, LEVELS) if confidence is None else confidence
    return Calibration(
        power=jnp.array(power),
        rows=jnp.array(rows),
        confidence=jnp.broadcast_to(jnp.asarray(levels), (len(rows), LEVELS)),
        reach=jnp.array([2.0, 1.0][: len(rows)]),
    )


def at(share):
    """The temperature at which log odds of 2 are those of a share."""
    return math.log(2.0 / math.log(share / (1.0 - share)))


def test_the_temperature_is_the_closed_form():
    power, loss = fit_temperature(**episodes([0.75, 0.75], [32, 32]))
    np.testing.assert_allclose(power, [at(0.75), 0.0], atol=1e-5)
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    np.testing.assert_allclose(loss, entropy, rtol=1e-5)


def test_the_temperature_follows_the_size_of_the_support():
    power, _ = fit_temperature(**episodes([0.7, 0.9], [8, 128]))
    found = power[0] + power[1] * np.log(np.array([8, 128]) / 32)
    # Within what caution about the slope costs.
    np.testing.assert_allclose(found, [at(0.7), at(0.9)], atol=0.02)


def test_queries_outside_the_mask_do_not_count():
    data = episodes([0.75], [32])
    hidden = jnp.arange(QUERIES) % 2 == 0
    strange = jnp.where(
        hidden[None, :, None], jnp.array([9.0, -9.0]), data["log_probs"]
    )
    data["mask"] = ~hidden[None]
    data["labels"] = jnp.where(hidden, 7, jnp.arange(QUERIES) < 75)[None].astype(int)
    expected, _ = fit_temperature(**data)
    power, _ = fit_temperature(**(data | {"log_probs": strange}))
    np.testing.assert_allclose(power, expected, atol=1e-6)


def test_the_variance_is_the_mean_square_over_episodes():
    errors = jnp.array([[1.0, -3.0], [2.0, 7.0]])
    mask = jnp.array([[True, True], [True, False]])
    power, loss = fit_factor(errors, jnp.full((2, 2), 0.5), mask, jnp.array([32, 32]))
    wanted = ((1 + 9) / 2 + 4) / 2
    np.testing.assert_allclose(power, [math.log(wanted), 0.0], atol=1e-5)
    entropy = 0.5 * (1.0 + math.log(2.0 * math.pi * wanted)) + 0.5
    np.testing.assert_allclose(loss, entropy, rtol=1e-5)


def test_the_factor_is_held_beyond_the_sizes_that_were_seen():
    calibration = known(power=(0.1, 0.5))
    found = [float(factor(calibration, jnp.array(n))) for n in (2, 16, 64, 500)]
    assert found[0] == found[1] < found[2] == found[3]
    np.testing.assert_allclose(found[2], math.exp(0.1 + 0.5 * math.log(2)), rtol=1e-6)


def test_a_temperature_of_one_changes_nothing():
    logs = jax.nn.log_softmax(jnp.array([[0.3, -1.0, 2.0]]))
    found = calibrated(known(), logs, jnp.array(16))
    np.testing.assert_allclose(found, np.exp(logs), rtol=1e-6)


def test_the_threshold_leaves_the_share_that_was_asked_for():
    rng = np.random.default_rng(0)
    confidence = rng.beta(2, 1, (40, 50))
    mask = rng.uniform(size=confidence.shape) < 0.8
    levels = np.linspace(0.0, 1.0, LEVELS)
    calibration = known(rows=(16,), confidence=quantiles(confidence, mask, levels))
    new = rng.beta(2, 1, 4000)
    for coverage in (0.5, 0.8, 0.95):
        least = threshold(calibration, jnp.array(coverage), jnp.array(16))
        assert abs(np.mean(new >= least) - coverage) < 0.03
    everything = threshold(calibration, jnp.array(1.0), jnp.array(16))
    assert everything <= confidence[mask].min() + 1e-6


def test_an_episode_counts_as_one_however_many_queries_it_has():
    values = np.array([[1.0, 2.0, 3.0, 4.0], [9.0, 0.0, 0.0, 0.0]])
    mask = np.array([[True] * 4, [True, False, False, False]])
    found = quantiles(values, mask, np.array([0.0, 0.5, 0.51, 1.0]))
    np.testing.assert_array_equal(found, [1.0, 4.0, 9.0, 9.0])


@pytest.mark.parametrize("rows, wanted", [(4, 2.0), (16, 2.0), (32, 1.5), (999, 1.0)])
def test_the_reach_is_read_between_the_sizes(rows, wanted):
    np.testing.assert_allclose(reach(known(), jnp.array(rows)), wanted, rtol=1e-5)
