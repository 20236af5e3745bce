"""The published networks have the published sizes, and none mixes uncounted rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.networks import (
    ResidualNet,
    finn_mini_imagenet,
    finn_omniglot,
    pooled_omniglot,
    sinusoid_mlp,
)

KEY = jax.random.key(0)
# 3 x 3 kernels, scale and bias of each block, and the head; no bias before a scale.
SIZES = [
    (pooled_omniglot(5), (28, 28, 1), 9 * 64 + 2 * 9 * 64**2 + 3 * 128 + 65 * 5),
    (finn_omniglot(5), (28, 28, 1), 9 * 64 + 3 * 9 * 64**2 + 4 * 128 + 65 * 5),
    (
        finn_mini_imagenet(5),
        (84, 84, 3),
        27 * 32 + 3 * 9 * 32**2 + 4 * 64 + (25 * 32 + 1) * 5,
    ),
    (sinusoid_mlp(), (1,), 80 + 41 * 40 + 41),
]


@pytest.mark.parametrize(("network", "shape", "size"), SIZES)
def test_published_networks_have_their_size(network, shape, size):
    x, counted = jnp.zeros((2, *shape)), jnp.ones(2, bool)
    params = jax.eval_shape(network.init, KEY, x, counted)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size


@pytest.mark.parametrize("side", [32, 40])
def test_a_row_that_does_not_count_changes_no_other(side):
    network = ResidualNet(out=3, widths=(8, 16))
    x, counted = jax.random.normal(KEY, (3, side, side, 3)), jnp.arange(3) < 2
    params = jax.jit(network.init)(KEY, x, counted)
    apply = jax.jit(network.apply)
    one, other = (apply(params, x.at[2].mul(k), counted) for k in (1.0, 9.0))
    np.testing.assert_array_equal(one[:2], other[:2])
    assert not np.allclose(one[2], other[2])
