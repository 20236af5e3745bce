"""Trees over tasks: they split what can be split, and judge only strangers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.algorithms import forest

NUM_TASKS, LENGTH = 90, 64


def grown(x, targets, bag, seed=0, **settings):
    options = {"candidates": 24, "levels": 8, "min_leaf": 2} | settings
    return forest.grow(
        jnp.uint32(seed),
        lambda rows, features: x[rows, features],
        jnp.arange(x.shape[1]),
        jnp.asarray(x.shape[1]),
        targets,
        bag,
        **options,
    )


@pytest.fixture
def tasks():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((NUM_TASKS, 5)), jnp.float32)
    targets = jnp.where(x[:, 3:4] > 0.5, jnp.array([[1.0, -1.0]]), 0.0)
    families = jnp.asarray(np.arange(NUM_TASKS) // 3)
    train = jnp.arange(NUM_TASKS) < 75
    return x, targets, families, train


def bag_of(tasks, seed=0, most=47.4):
    _, _, families, train = tasks
    return forest.draw_bag(
        jax.random.key(seed), families, train, length=LENGTH, most=jnp.asarray(most)
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_bag_holds_training_tasks_and_judges_no_family_that_it_holds(tasks, seed):
    _, _, families, train = tasks
    bag = bag_of(tasks, seed)
    inside = np.asarray(bag.rows)[: int(bag.size)]
    assert int(bag.size) == 45  # The most families of three that fit.
    assert len(set(inside.tolist())) == len(inside)
    assert np.asarray(train)[inside].all()
    judged = np.asarray(bag.judged)
    assert judged[~np.asarray(train)].all()
    held = set(np.asarray(families)[inside].tolist())
    assert not held & set(np.asarray(families)[judged].tolist())
    assert judged[np.asarray(train)].any()


def test_a_family_of_more_than_a_third_is_left_out_of_some_bags():
    families = jnp.where(jnp.arange(80) < 40, 0, jnp.arange(80))
    judged = np.zeros(80)
    for seed in range(20):
        bag = forest.draw_bag(
            jax.random.key(seed),
            families,
            jnp.ones(80, bool),
            length=64,
            most=jnp.asarray(0.632 * 80),
        )
        judged += np.asarray(bag.judged)
        assert 1 <= int(bag.size) <= 50
    assert (judged > 0).all()


def test_of_one_family_that_does_not_fit_a_part_is_taken():
    none = jnp.zeros(80, int)
    bag = forest.draw_bag(
        jax.random.key(0), none, jnp.ones(80, bool), length=64, most=jnp.asarray(50.0)
    )
    assert int(bag.size) == 50 and not np.asarray(bag.judged).any()


def test_a_tree_finds_the_feature_that_decides(tasks):
    x, targets, _, _ = tasks
    leaves = grown(x, targets, bag_of(tasks))
    means = np.asarray(forest.leaf_means(leaves, targets))
    assert np.abs(means - np.asarray(targets)).mean() < 0.1


def test_every_task_of_the_bag_is_in_the_leaf_that_it_falls_into(tasks):
    x, targets, _, _ = tasks
    bag = bag_of(tasks)
    leaves = grown(x, targets, bag)
    rows = np.asarray(leaves.rows)
    for task in np.asarray(bag.rows)[: int(bag.size)]:
        start, count = int(leaves.start[task]), int(leaves.count[task])
        assert task in rows[start : start + count]
        assert count >= 2


def test_means_are_of_the_rows_of_the_leaf(tasks):
    x, targets, _, _ = tasks
    leaves = grown(x, targets, bag_of(tasks))
    means = np.asarray(forest.leaf_means(leaves, targets))
    for task in range(0, NUM_TASKS, 7):
        start, count = int(leaves.start[task]), int(leaves.count[task])
        rows = np.asarray(leaves.rows)[start : start + count]
        expected = np.asarray(targets)[rows].mean(0)
        np.testing.assert_allclose(means[task], expected, atol=1e-5)


def test_a_node_is_split_where_the_squared_error_falls_most():
    """One level, every threshold of one feature among the draws: the stump is known."""
    x = jnp.asarray([[0.0], [0.1], [0.2], [0.3], [0.7], [0.8], [0.9], [1.0]])
    targets = jnp.asarray([0.0, 0.1, 0.0, 0.1, 3.0, 3.1, 3.0, 3.1])[:, None]
    rows = jnp.concatenate([jnp.arange(8), jnp.zeros(24, int)]).astype(jnp.int32)
    bag = forest.Bag(rows=rows, size=jnp.asarray(8), judged=jnp.zeros(8, bool))
    leaves = grown(x, targets, bag, candidates=200, levels=1)
    means = np.asarray(forest.leaf_means(leaves, targets))[:, 0]
    np.testing.assert_allclose(means, [0.05] * 4 + [3.05] * 4, rtol=1e-5)


def test_leaves_are_no_smaller_and_trees_no_deeper_than_they_may_be(tasks):
    x = tasks[0]
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(NUM_TASKS, 2)))
    bag = bag_of(tasks)
    for min_leaf in (2, 5):
        leaves = grown(x, noise, bag, min_leaf=min_leaf)
        assert int(leaves.count[bag.rows[: int(bag.size)]].min()) >= min_leaf
    shallow = grown(x, noise, bag, levels=2)
    assert len(set(np.asarray(shallow.start).tolist())) <= 4


def test_costs_of_tasks_outside_the_bag_change_nothing(tasks):
    x, targets, _, _ = tasks
    bag = bag_of(tasks)
    inside = np.zeros(NUM_TASKS, bool)
    inside[np.asarray(bag.rows)[: int(bag.size)]] = True
    garbage = jnp.where(jnp.asarray(inside)[:, None], targets, jnp.nan)
    one, other = grown(x, targets, bag), grown(x, garbage, bag)
    np.testing.assert_array_equal(one.start, other.start)
    np.testing.assert_array_equal(one.count, other.count)


def test_the_same_key_grows_the_same_tree_and_another_key_another(tasks):
    x = tasks[0]
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(NUM_TASKS, 2)))
    bag = bag_of(tasks)
    one, same, other = (grown(x, noise, bag, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.start, same.start)
    assert (one.start != other.start).any()
