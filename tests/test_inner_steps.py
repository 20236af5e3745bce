"""Steps of optimizers can be differentiated where a gradient is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jmeta.inner_steps import check_optimizer, clip_by_global_norm

SETTINGS = {"rate": jnp.asarray(0.1)}
WEIGHTS = {"w": jnp.zeros((2, 3)), "b": jnp.zeros(())}


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda s: optax.adam(s["rate"]),
        lambda s: optax.adamw(s["rate"]),
        lambda s: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(s["rate"])),
    ],
    ids=["adam", "adamw", "clip"],
)
def test_steps_without_a_derivative_at_zero_are_refused(optimizer):
    with pytest.raises(ValueError, match=r"mine: .* has no derivative.*eps_root=1e-16"):
        check_optimizer("mine", optimizer, SETTINGS, WEIGHTS)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda s: optax.adam(s["rate"], eps_root=1e-16),
        lambda s: optax.adamw(lambda count: s["rate"] / (1 + count), eps_root=1e-16),
        lambda s: optax.sgd(s["rate"], momentum=0.9, nesterov=True),
        lambda s: optax.rmsprop(s["rate"]),
        lambda s: optax.chain(clip_by_global_norm(1.0), optax.sgd(s["rate"])),
    ],
    ids=["adam", "adamw", "momentum", "rmsprop", "clip"],
)
def test_steps_with_a_derivative_at_zero_are_accepted(optimizer):
    check_optimizer("mine", optimizer, SETTINGS, WEIGHTS)

    def traced(rate):
        check_optimizer("mine", optimizer, {"rate": rate}, WEIGHTS)
        return rate

    jax.eval_shape(jax.vmap(traced), jnp.zeros(2))


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_clipping_is_that_of_optax(size):
    updates = jax.tree.map(
        lambda leaf: size * jax.random.normal(jax.random.key(1), leaf.shape), WEIGHTS
    )
    ours, theirs = clip_by_global_norm(1.5), optax.clip_by_global_norm(1.5)
    told, _ = ours.update(updates, ours.init(WEIGHTS), WEIGHTS)
    wanted, _ = theirs.update(updates, theirs.init(WEIGHTS), WEIGHTS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), told, wanted)


def test_the_derivative_of_clipping_is_that_of_a_factor_and_finite_at_zero():
    def clipped(updates, most):
        made = clip_by_global_norm(most)
        return made.update(updates, made.init(updates))[0]

    both = jax.jacobian(clipped, argnums=(0, 1))
    at_zero, by_most = both(jnp.zeros(2), jnp.asarray(1.0))
    np.testing.assert_array_equal(at_zero, np.eye(2))
    np.testing.assert_array_equal(by_most, 0.0)
    # (3, 4) of norm 5 becomes 2 (3, 4) / 5.
    inside, by_most = both(jnp.array([3.0, 4.0]), jnp.asarray(2.0))
    across = np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])
    np.testing.assert_allclose(inside, 0.4 * across, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_most, [0.6, 0.8], rtol=1e-6)
