"""The convolution is that of JAX, in value and derivatives; the block that of Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.networks import ConvBlock, conv

KEY = jax.random.key(0)
NAMES = ("NHWC", "HWIO", "NHWC")
CASES = [
    ((1, 1), "VALID", (1, 1)),
    ((1, 1), "SAME", (1, 1)),
    ((2, 2), "SAME", (1, 1)),
    ((2, 1), ((0, 2), (1, 0)), (1, 1)),
    ((1, 2), "SAME", (2, 1)),
]


def draws(channels=2):
    keys = jax.random.split(KEY, 3)
    x = jax.random.normal(keys[0], (3, 9, 8, channels), float)
    kernel = jax.random.normal(keys[1], (3, 3, channels, 4), float)
    return x, kernel


@pytest.mark.parametrize(("strides", "padding", "dilation"), CASES)
def test_the_convolution_is_jax_s_in_value_and_two_derivatives(
    strides, padding, dilation
):
    def theirs(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=NAMES,
        )

    def ours(x, kernel):
        return conv(x, kernel, strides, padding, rhs_dilation=dilation)

    def told(function, arguments):
        def loss(*arguments):
            return jnp.sum(jnp.sin(function(*arguments)))

        def slope(*arguments):
            grads = jax.grad(loss, argnums=(0, 1))(*arguments)
            return sum(jnp.sum(jnp.cos(leaf)) for leaf in grads)

        second = jax.grad(slope, argnums=(0, 1))(*arguments)
        forward = jax.jvp(jax.grad(loss, argnums=(0, 1)), arguments, arguments)
        return function(*arguments), second, forward

    with jax.enable_x64(True):
        arguments = draws()
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
            jax.jit(lambda a: told(ours, a))(arguments),
            jax.jit(lambda a: told(theirs, a))(arguments),
        )


def test_a_flax_layer_takes_the_convolution():
    x, _ = draws()
    plain = nn.Conv(5, (3, 3), strides=2)
    params = plain.init(KEY, x)
    fast = nn.Conv(5, (3, 3), strides=2, conv_general_dilated=conv)
    np.testing.assert_allclose(
        fast.apply(params, x), plain.apply(params, x), rtol=1e-5, atol=1e-5
    )


def test_what_the_convolution_cannot_do_is_refused():
    x, kernel = draws()
    for wrong in (
        {"feature_group_count": 2},
        {"lhs_dilation": (2, 1)},
        {"dimension_numbers": jax.lax.ConvDimensionNumbers(*[(0, 1, 2, 3)] * 3)},
    ):
        with pytest.raises(ValueError, match="conv: takes neither"):
            conv(x, kernel, (1, 1), "SAME", **wrong)


@pytest.mark.parametrize(
    ("channels", "pool"),
    [(1, True), (1, False), (2, True), (2, False), (16, True), (16, False)],
)
def test_the_block_is_its_parts_in_the_published_order(channels, pool):
    # Of 18 or 9 numbers that a place sees, 16 channels are made: moments either way;
    # 16 channels are enough for tiles.
    with jax.enable_x64(True):
        x, _ = draws(channels)
        counted = jnp.asarray([True, False, True])
        block = ConvBlock(16, padding="SAME", pool=pool)
        params = block.init(KEY, x, counted)["params"]
        # Of either sign, since pooling comes before the scale.
        params = params | {
            "scale": jax.random.normal(KEY, (16,), float),
            "bias": jax.random.normal(jax.random.key(1), (16,), float),
        }

        def theirs(params, x):
            z = jax.lax.conv_general_dilated(
                x, params["kernel"], (1, 1), "SAME", dimension_numbers=NAMES
            )
            seen = z[jnp.array([0, 2])]
            mean = jnp.mean(seen, axis=(0, 1, 2))
            variance = jnp.var(seen, axis=(0, 1, 2))
            z = (z - mean) / jnp.sqrt(variance + 1e-5) * params["scale"]
            z = jax.nn.relu(z + params["bias"])
            return nn.max_pool(z, (2, 2), (2, 2)) if pool else z

        def ours(params, x):
            return block.apply({"params": params}, x, counted)

        def told(function, arguments):
            def loss(*arguments):
                return jnp.sum(jnp.sin(function(*arguments)))

            grads = jax.grad(loss, argnums=(0, 1))
            return function(*arguments), jax.jvp(grads, arguments, arguments)

        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9),
            jax.jit(lambda a: told(ours, a))((params, x)),
            jax.jit(lambda a: told(theirs, a))((params, x)),
        )
