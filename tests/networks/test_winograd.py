"""Convolution by tiles is that of JAX, in value and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.networks.winograd import interleaved, winograd, winograd_pays

NAMES = ("NHWC", "HWIO", "NHWC")


def draws(height, width, dtype=float):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, height, width, 3), dtype)
    return x, jax.random.normal(keys[1], (3, 3, 3, 4), dtype)


def theirs(x, kernel, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=NAMES
    )


@pytest.mark.parametrize(
    ("height", "width", "padding"),
    [(6, 5, "VALID"), (5, 4, "SAME"), (4, 3, ((0, 2), (1, 0)))],
)
def test_the_convolution_is_jax_s_in_value_and_two_derivatives(height, width, padding):
    def told(function, arguments):
        def loss(*arguments):
            return jnp.sum(jnp.sin(function(*arguments)))

        def slope(*arguments):
            grads = jax.grad(loss, argnums=(0, 1))(*arguments)
            return sum(jnp.sum(jnp.cos(leaf)) for leaf in grads)

        value = function(*arguments)
        return value, jax.grad(slope, argnums=(0, 1))(*arguments)

    with jax.enable_x64(True):
        arguments = draws(height, width)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
            jax.jit(
                lambda a: told(lambda x, k: interleaved(winograd(x, k, padding)), a)
            )(arguments),
            jax.jit(lambda a: told(lambda x, k: theirs(x, k, padding), a))(arguments),
        )


def test_quarters_are_every_second_row_and_column():
    x, kernel = draws(7, 6, jnp.float32)
    whole = theirs(x, kernel, "VALID")
    for row, quarters in enumerate(winograd(x, kernel, "VALID")):
        for column, found in enumerate(quarters):
            wanted = whole[:, row::2, column::2]
            # Rounding is that of a few sums of numbers of order ten.
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_tiles_are_taken_where_they_save_a_third_of_the_products():
    assert winograd_pays(11, 11, 64)
    assert not winograd_pays(3, 3, 64)
    assert not winograd_pays(11, 11, 1)
