"""Which experts are trusted: those that were right where they had not learnt."""

import jax.numpy as jnp
import numpy as np

from jmeta.selection import mixture


def setting(seed=0, num_tasks=200, candidates=4):
    rng = np.random.default_rng(seed)
    measured = rng.normal(size=(num_tasks, candidates, 2))
    measured[..., 1] = measured[..., 0]
    return rng, measured


def choose(experts, measured, recipes, train=None, base=None):
    num_tasks, candidates, _ = measured.shape
    base = np.zeros((candidates, 2)) if base is None else base
    costs = measured[..., 0] + base[:, 0]
    reference = int(np.argmin(base[:, 0]))
    return mixture.choose_mixture(
        jnp.asarray(np.stack(experts), jnp.float32),
        jnp.asarray(measured, jnp.float32),
        jnp.asarray(base, jnp.float32),
        jnp.asarray(costs, jnp.float32),
        jnp.asarray(reference),
        jnp.asarray(costs[:, reference], jnp.float32),
        jnp.ones(num_tasks, bool) if train is None else jnp.asarray(train),
        jnp.arange(num_tasks) % mixture.PARTS,
        recipes,
    )


def test_recipes_average_one_expert_of_a_kind_at_most():
    made = mixture.recipes(1, 1, 3)
    np.testing.assert_allclose(made.weights.sum((1, 2)), 1.0, rtol=1e-6)
    used = made.weights.sum(2) > 0
    assert (used[:, 2:].sum(1) <= 1).all() and used.any(1).all()
    assert len(made.weights) == 15 * 3 * 3
    assert len({(*w.ravel().tolist(), m) for w, m in zip(*made)}) == len(made.margin)


def test_an_expert_that_is_right_is_trusted_and_noise_is_not():
    rng, measured = setting()
    right = measured + 0.3 * rng.normal(size=measured.shape)
    noise = rng.normal(size=measured.shape)
    made = choose([noise, right], measured, mixture.recipes(1, 1))
    weights = np.asarray(made.weights.sum(1))
    assert weights[0] < 0.05 < 0.4 < weights[1]
    assert made.gain > 5 * made.error


def test_shrinkage_is_the_slope_and_never_outside_zero_and_one():
    rng, measured = setting(num_tasks=2000)
    twice, opposite = 2 * measured, -measured
    noisy = measured + rng.normal(size=measured.shape)
    told = np.stack([twice, opposite, noisy, 0 * measured])
    found = mixture.shrinkage(
        jnp.asarray(told), jnp.asarray(measured), jnp.ones(2000, bool)
    )
    expected = np.repeat([[0.5], [0.0], [0.5], [0.0]], 2, axis=1)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_only_training_tasks_decide():
    _, measured = setting()
    train = np.arange(200) < 120
    right = np.where(train[:, None, None], measured, -measured)
    made = choose([right], measured, mixture.recipes(1), train=train)
    other = choose(
        [right],
        np.where(train[:, None, None], measured, 9.0),
        mixture.recipes(1),
        train=train,
    )
    np.testing.assert_array_equal(made.weights, other.weights)
    np.testing.assert_allclose(made.gain, other.gain, rtol=1e-5)


def test_a_candidate_that_never_ran_in_training_is_not_chosen():
    _, measured = setting()
    measured[:, 2] = np.nan
    said = np.where(np.isnan(measured), -50.0, measured)
    made = choose([said], measured, mixture.recipes(1))
    assert not (np.asarray(made.chosen) == 2).any()
    assert np.isfinite(made.errors).all()


def test_the_gain_of_luck_is_not_believed():
    """Experts that know nothing: some recipe always looks good on the same tasks."""
    believed = 0
    for seed in range(20):
        rng, measured = setting(seed, num_tasks=60)
        noise = [rng.normal(size=measured.shape) for _ in range(5)]
        base = np.repeat([[0.0], [0.3], [0.3], [0.3]], 2, axis=1)
        made = choose(noise, measured, mixture.recipes(1, 1, 3), base=base)
        believed += bool(made.gain > made.error)
    assert believed <= 2
