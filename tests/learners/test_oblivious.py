"""Oblivious trees: cut points, growth, leaves."""

import jax
import jax.numpy as jnp
import numpy as np

from jmeta.learners.oblivious import batch_max, cut_points, grow, leaf_of, passed


def gain_score(sums):
    return jnp.square(sums[:, 0]) / (sums[:, 1] + 1.0)


def test_cuts_lie_halfway_between_neighbouring_quantiles():
    x = jnp.array([[4.0], [1.0], [3.0], [2.0], [jnp.nan]])
    mask = jnp.array([True, True, True, True, False])
    np.testing.assert_array_equal(cut_points(x, mask, 3), [[1.5, 2.5, 3.5]])


def test_cuts_of_no_rows_are_finite():
    cuts = cut_points(jnp.ones((3, 2)), jnp.zeros(3, bool), 4)
    np.testing.assert_array_equal(cuts, jnp.zeros((2, 4)))


def test_two_levels_find_the_exclusive_or():
    # A product of signs gains nothing at the first split; the third row is doubled
    # so that it does: the leaves then are the four corners.
    x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    gradient = jnp.array([1.0, -1.0, -1.0, 1.0, -1.0])
    cuts = jnp.array([[0.5], [0.5]])
    payload = jnp.stack([gradient, jnp.ones(5)])
    usable = jnp.ones(2, bool)
    grown = grow(
        x, cuts, passed(x, cuts), payload, usable, jnp.array(2.0), gain_score, 2
    )
    assert sorted(grown.column.tolist()) == [0, 1]
    assert grown.leaf[2] == grown.leaf[4]
    assert len(set(grown.leaf[:4].tolist())) == 4


def test_the_split_is_the_one_worked_out_by_hand():
    # Gradients -3, -1 | 2, 4 with one weight each and one added to each node:
    # cut after row 1: 9/2 + 25/4 - 4/5, after 2: 16/3 + 36/3 - 4/5 (best),
    # after 3: 4/4 + 16/2 - 4/5.
    x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
    cuts = jnp.array([[0.5, 1.5, 2.5]])
    payload = jnp.array([[-3.0, -1.0, 2.0, 4.0], [1.0, 1.0, 1.0, 1.0]])
    grown = grow(
        x,
        cuts,
        passed(x, cuts),
        payload,
        jnp.ones(1, bool),
        jnp.array(1.0),
        gain_score,
        2,
    )
    np.testing.assert_array_equal(grown.column, [1, -1])
    np.testing.assert_array_equal(grown.leaf, [0, 0, 1, 1])


def test_leaves_are_the_bits_of_the_comparisons():
    feature = jnp.array([[0, 1, 0]])
    threshold = jnp.array([[0.0, 1.0, jnp.inf]])
    x = jnp.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 2.0], [1.0, 2.0]])
    np.testing.assert_array_equal(leaf_of(feature, threshold, x)[:, 0], [0, 1, 2, 3])


def test_the_largest_of_a_batch_is_seen_by_all_of_it():
    values = jnp.array([[1.0, 5.0], [2.0, 3.0]])
    inner = jax.vmap(jax.vmap(lambda v: v - batch_max(v)))
    np.testing.assert_array_equal(inner(values), values - 5.0)
