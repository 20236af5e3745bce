"""The response model: dense solves and grid search say the same."""

import jax
import jax.numpy as jnp
import numpy as np

from jmeta.algorithms.response import climb, product_ridge, settings_kernel

KEY = jax.random.key(0)


def spectrum(kernel):
    return tuple(jnp.linalg.eigh(kernel))


def test_the_product_solves_the_whole_system():
    x, s, y = (
        jax.random.uniform(jax.random.fold_in(KEY, place), shape)
        for place, shape in enumerate([(6, 2), (5, 3), (6, 5)])
    )
    tasks, candidates = settings_kernel(x, x, 0.7), settings_kernel(s, s, 0.5)
    y = y.at[4:].set(0.0)
    tasks = tasks.at[4:].set(0.0).at[:, 4:].set(0.0)
    got = product_ridge(spectrum(tasks), spectrum(candidates), y, 0.2)
    whole = np.kron(tasks[:4, :4], candidates) + 0.2 * np.eye(20)
    expected = np.linalg.solve(whole, np.asarray(y[:4]).ravel()).reshape(4, 5)
    np.testing.assert_allclose(got[:4], expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(got[4:], 0.0, atol=1e-6)


def test_the_kernel_is_one_at_no_distance_and_has_a_gradient_everywhere():
    units = jax.random.uniform(KEY, (4, 3))
    kernel = settings_kernel(units, units, 0.4)
    np.testing.assert_allclose(jnp.diag(kernel), 1.0, atol=1e-5)
    away = np.sqrt(5) * np.linalg.norm(units[0] - units[1]) / 0.4
    expected = (1 + away + away**2 / 3) * np.exp(-away)
    np.testing.assert_allclose(kernel[0, 1], expected, rtol=1e-4)
    slope = jax.grad(lambda u: settings_kernel(u[None], units, 0.4).sum())(units[0])
    assert jnp.isfinite(slope).all()


def bowl():
    """A cost that is lowest between two candidates that were run."""
    settings = jnp.linspace(0.0, 1.0, 11)[:, None]
    values = jnp.square(settings[:, 0] - 0.43)
    kernel = settings_kernel(settings, settings, 0.5)
    weights = jnp.linalg.solve(kernel + 1e-4 * jnp.eye(11), values - values.mean())
    settings = jnp.concatenate([settings, jnp.full((11, 1), 0.5)], axis=1)
    return weights[None], settings, jnp.array([0.5])


def test_a_climb_ends_at_the_minimum_and_moves_what_may_move():
    weights, settings, lengths = bowl()
    free = jnp.array([True, False])
    end = climb(weights, settings, lengths, jnp.array([0.6, 0.5]), free, 1.0)
    np.testing.assert_allclose(end, [0.43, 0.5], atol=0.02)
    still = climb(weights, settings, lengths, settings[6], ~free & False, 1.0)
    np.testing.assert_array_equal(still, settings[6])


def test_a_climb_stays_within_reach_and_is_never_worse():
    weights, settings, lengths = bowl()
    free = jnp.array([True, False])
    end = climb(weights, settings, lengths, jnp.array([0.8, 0.5]), free, 0.05)
    np.testing.assert_allclose(end, [0.75, 0.5], atol=0.005)

    def cost(unit):
        return settings_kernel(unit[None], settings, lengths[0])[0] @ weights[0]

    for start in settings:
        end = climb(weights, settings, lengths, start, free, 0.3)
        assert cost(end) <= cost(start) + 1e-6 and (end >= 0).all() and (end <= 1).all()
