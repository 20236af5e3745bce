import jax
import jax.numpy as jnp
import numpy as np

from jmeta.algorithms import fit_scaler, standardise


def test_centre_and_scale_are_median_and_quartiles():
    scaler = fit_scaler(jnp.array([[0.0], [1.0], [2.0], [3.0], [400.0]]))
    np.testing.assert_allclose(scaler["centre"], [2.0])
    np.testing.assert_allclose(scaler["scale"], [2.0 / 1.349], rtol=1e-6)


def test_missing_constant_and_infinite_features_are_zero():
    tasks = jnp.array([[jnp.nan, 5.0, 1.0], [jnp.nan, 5.0, 2.0], [jnp.nan, 5.0, 4.0]])
    scaler = fit_scaler(tasks)
    got = standardise(scaler, jnp.array([3.0, 9.0, jnp.inf]))
    np.testing.assert_array_equal(got, 0.0)
    got = standardise(scaler, jnp.array([jnp.nan, 5.0, jnp.nan]))
    np.testing.assert_array_equal(got, 0.0)


def test_a_feature_that_rarely_varies_is_scaled_by_its_mean_deviation():
    column = jnp.zeros((10, 1)).at[0].set(5.0)
    np.testing.assert_allclose(fit_scaler(column)["scale"], [1.2533 * 0.5], rtol=1e-6)


def test_padded_tasks_do_not_count():
    tasks = jnp.array([[0.0], [1.0], [2.0], [jnp.nan], [1e9]])
    mask = jnp.array([True, True, True, False, False])
    few = fit_scaler(tasks[:3])
    jax.tree.map(np.testing.assert_array_equal, fit_scaler(tasks, mask), few)


def test_outliers_are_squashed_in_order_and_nothing_flows_into_the_scaler():
    scaler = {"centre": jnp.zeros(1), "scale": jnp.ones(1)}
    got = standardise(scaler, jnp.array([[0.1], [10.0], [100.0], [3e38]]))[:, 0]
    assert (np.diff(got) > 0).all() and got[-1] <= 4.0001001
    np.testing.assert_allclose(got[0], 0.1, rtol=1e-3)
    grads = jax.grad(lambda s: jnp.sum(standardise(s, jnp.ones(1))))(scaler)
    np.testing.assert_array_equal(grads["centre"], 0.0)
    np.testing.assert_array_equal(grads["scale"], 0.0)
