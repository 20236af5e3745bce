"""Which experts are trusted: those that were right where they had not learnt."""

import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

from jmeta.selection import mixture


def setting(seed=0, num_tasks=200, candidates=4):
    rng = np.random.default_rng(seed)
    measured = rng.normal(size=(num_tasks, candidates, 2))
    measured[..., 1] = measured[..., 0]
    return rng, measured


def choose(experts, measured, train=None, base=None, families=None):
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
        jnp.arange(num_tasks) if families is None else jnp.asarray(families),
    )


def test_the_first_recipe_is_the_plain_one_and_all_differ():
    scale, margin = mixture.RECIPES
    assert scale[0].tolist() == [0.5, 0.5] and margin[0] == 0.0
    np.testing.assert_allclose(scale.sum(1), 1.0)
    assert len({(*s.tolist(), m) for s, m in zip(scale, margin)}) == len(margin)


def test_weights_are_those_of_least_squares_from_zero_drawn_toward_equal_ones():
    rng, measured = setting(num_tasks=60)
    y = measured[..., 0]
    experts = np.stack(
        [y + rng.normal(size=y.shape), 0.5 * y, -y, rng.normal(size=(60, 4))]
    )
    y[rng.random(y.shape) < 0.2] = np.nan
    train = np.arange(60) < 50

    known = np.isfinite(y) & train[:, None]

    def centred(values):
        level = np.where(known, values, 0).sum(1) / known.sum(1).clip(1)
        return np.where(known, values - level[:, None], 0.0).ravel()

    a, b = np.stack([centred(e) for e in experts], 1), centred(np.nan_to_num(y))
    mean = a.mean(1)
    equal = np.full(4, np.clip(mean @ b / (mean @ mean), 0, 1) / 4)
    pull = np.sqrt(mixture.EQUAL * (a**2).sum() / 4)
    wanted, _ = nnls(np.vstack([a, pull * np.eye(4)]), np.append(b, pull * equal))

    found = mixture.stack(
        jnp.asarray(experts, jnp.float32),
        jnp.asarray(y, jnp.float32),
        jnp.asarray(train),
    )
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert (wanted == 0).any() and (wanted > 0.1).any()


def test_experts_that_say_nothing_change_nothing():
    _, measured = setting()
    made = choose([0 * measured], measured)
    assert np.isfinite(made.weights).all()
    assert (np.asarray(made.chosen) == np.asarray(made.reference)).all()
    assert made.gain == 0.0


def test_an_expert_that_is_right_is_trusted_and_noise_is_not():
    rng, measured = setting()
    right = measured + 0.3 * rng.normal(size=measured.shape)
    noise = rng.normal(size=measured.shape)
    made = choose([noise, right], measured)
    weights = np.asarray(made.weights)
    assert (weights[0] < 0.15).all() and (weights[1] > 0.7).all()
    assert made.gain > 5 * made.error


def test_only_training_tasks_decide():
    _, measured = setting()
    train = np.arange(200) < 120
    right = np.where(train[:, None, None], measured, -measured)
    made = choose([right], measured, train=train)
    other = choose([right], np.where(train[:, None, None], measured, 9.0), train=train)
    np.testing.assert_array_equal(made.weights, other.weights)
    np.testing.assert_array_equal(made.scale, other.scale)
    np.testing.assert_allclose(made.gain, other.gain, rtol=1e-5)


def test_a_candidate_that_never_ran_in_training_is_not_chosen():
    _, measured = setting()
    measured[:, 2] = np.nan
    said = np.where(np.isnan(measured), -50.0, measured)
    made = choose([said], measured)
    assert not (np.asarray(made.chosen) == 2).any()
    assert np.isfinite(made.errors).all()


def test_a_scale_that_is_surely_better_is_taken():
    """The expert knows the first view; what it says of the second misleads."""
    _, measured = setting()
    said = measured.copy()
    said[..., 1] = -3 * measured[..., 0]
    measured = measured.copy()
    measured[..., 1] = said[..., 1]
    made = choose([said], measured)
    assert made.scale.tolist() == [1.0, 0.0]


def test_tasks_of_a_family_are_not_counted_as_independent():
    rng, measured = setting(num_tasks=200)
    said = measured + 2 * rng.normal(size=measured.shape)
    copies = np.tile(np.arange(50), 4)
    measured, said = measured[copies], said[copies]
    alone = choose([said[:50]], measured[:50])
    apart, kept = choose([said], measured), choose([said], measured, families=copies)
    assert kept.error > 1.7 * apart.error
    np.testing.assert_allclose(kept.error, alone.error, rtol=0.3)


def test_the_gain_of_luck_is_not_believed():
    """Experts that know nothing: something always looks good on the same tasks."""
    believed = 0
    for seed in range(20):
        rng, measured = setting(seed, num_tasks=60)
        noise = [rng.normal(size=measured.shape) for _ in range(5)]
        base = np.repeat([[0.0], [0.3], [0.3], [0.3]], 2, axis=1)
        made = choose(noise, measured, base=base)
        believed += bool(made.gain > made.error)
    assert believed <= 4
