import functools

import jax
import jax.numpy as jnp
import numpy as np

from jmeta.augment import jittered

KEY = jax.random.key(3)
X = jax.random.uniform(jax.random.key(0), (2, 5, 7, 3))


def test_no_deviation_changes_nothing():
    np.testing.assert_allclose(jittered(KEY, X), X, atol=1e-6)


def test_a_shift_moves_what_is_there_and_brings_in_what_the_edge_says():
    one = jnp.zeros((64, 9, 9, 1)).at[:, 4, 4].set(1.0)
    moved = np.asarray(jittered(KEY, one, shift=0.7))[..., 0]
    places = np.indices((9, 9)) - 4.0
    centres = (moved[:, None] * places).sum(axis=(2, 3))
    np.testing.assert_allclose(moved.sum(axis=(1, 2)), 1.0, atol=1e-5)
    # Four deviations of what 128 draws give.
    np.testing.assert_allclose(centres.std(), 0.7, atol=4 * 0.7 / 256**0.5)
    bright = jnp.ones((4, 6, 6, 1))
    assert float(jittered(KEY, bright, shift=2.0).min()) < 0.5
    kept = jittered(KEY, bright, shift=2.0, edge="nearest")
    np.testing.assert_allclose(kept, 1.0, atol=1e-6)


def test_turning_and_stretching_keep_the_centre():
    one = jnp.zeros((8, 9, 9, 1)).at[:, 4, 4].set(1.0).at[:, 0].set(0.5)
    change = functools.partial(jittered, degrees=20.0, scale=0.1, shear=0.2)
    changed = np.asarray(change(KEY, one))
    np.testing.assert_allclose(changed[:, 4, 4], 1.0, atol=1e-5)
    assert len({image.tobytes() for image in changed}) == 8
    np.testing.assert_array_equal(changed, change(KEY, one))


def test_a_turn_by_so_many_degrees_is_one():
    # All images are turned by what the first number drawn says.
    angle = 90.0 / float(jax.random.normal(KEY, (1, 6))[0, 0])
    turned = jittered(KEY, X[:1, :, 1:6], degrees=angle)
    np.testing.assert_allclose(
        turned, jnp.rot90(X[:1, :, 1:6], -1, axes=(1, 2)), atol=1e-5
    )
