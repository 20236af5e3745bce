import jax
import jax.numpy as jnp
import numpy as np

from jmeta.sorting import ordered_bits, sort

VALUES = [3.0, -np.inf, 1e-37, np.nan, -2.5, 0.0, -0.0, np.inf, 7.0, -np.nan, -1e30]


def test_numbers_come_in_order_with_infinities_at_the_ends_and_nan_last():
    got = sort(jnp.asarray(VALUES, jnp.float32))
    np.testing.assert_array_equal(got, np.sort(np.asarray(VALUES, np.float32)))


def test_any_axis_under_vmap_is_as_in_numpy():
    x = jax.random.normal(jax.random.key(0), (5, 40, 3))
    np.testing.assert_array_equal(jax.vmap(sort)(x), np.sort(x, axis=1))
    np.testing.assert_array_equal(sort(x, axis=2), np.sort(x, axis=2))


def test_both_zeros_are_equal():
    zeros = ordered_bits(jnp.asarray([0.0, -0.0]))
    assert zeros[0] == zeros[1]


def test_float64_keeps_all_its_digits():
    with jax.enable_x64(True):
        x = jnp.asarray([1.0 + 2e-16, 1.0, -1.0, -1.0 - 3e-16])
        got = sort(x)
        assert got.dtype == jnp.float64
        np.testing.assert_array_equal(got, np.sort(x))
