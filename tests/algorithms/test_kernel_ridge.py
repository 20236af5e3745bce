"""Kernel ridge regression against its definition, one fit for each family left out."""

import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.algorithms import kernel_ridge


def plain(gaps, train, targets, noise):
    """Fitted to the training tasks, predictions of all."""
    pairs = gaps[np.ix_(train, train)]
    median = np.median(pairs[~np.eye(len(train), dtype=bool)])
    kernel = np.exp(-gaps / median)
    system = kernel[np.ix_(train, train)] + noise * np.eye(len(train))
    return kernel[:, train] @ np.linalg.solve(system, targets[train]), median


@pytest.mark.parametrize("sizes", [[1] * 24, [3, 1, 2, 5, 1, 4, 1, 1, 6]])
def test_each_family_is_predicted_as_if_it_had_been_left_out(sizes):
    rng = np.random.default_rng(0)
    families = np.repeat(np.arange(len(sizes)), sizes)
    num, num_train = 30, len(families)
    x = rng.random((num, 4))
    targets = np.stack([np.sin(5 * x[:, 0]), x[:, 1]], axis=1)
    gaps = np.asarray(kernel_ridge.distances(jnp.asarray(x), jnp.arange(num)))
    np.testing.assert_allclose(
        gaps, np.abs(x[:, None] - x[None]).sum(-1), rtol=1e-5, atol=1e-6
    )
    train = np.arange(num) < num_train
    members = np.full((len(sizes), max(sizes)), num)
    for family in range(len(sizes)):
        places = np.flatnonzero(families == family)
        members[family, : len(places)] = places
    garbage = np.where(train[:, None], targets, np.nan)
    found = kernel_ridge.honest_ridge(
        jnp.asarray(gaps),
        jnp.arange(num),
        jnp.asarray(train),
        jnp.asarray(members),
        jnp.asarray(garbage),
        jnp.asarray(0.1),
    )
    rows = np.flatnonzero(train)
    expected, median = plain(gaps, rows, targets, 0.1)
    np.testing.assert_allclose(found[num_train:], expected[num_train:], atol=2e-4)
    kernel = np.exp(-gaps / median)
    for family in range(len(sizes)):
        left = rows[families != family]
        mine = rows[families == family]
        system = kernel[np.ix_(left, left)] + 0.1 * np.eye(len(left))
        said = kernel[np.ix_(mine, left)] @ np.linalg.solve(system, targets[left])
        np.testing.assert_allclose(np.asarray(found)[mine], said, atol=2e-4)


def test_tasks_that_are_all_alike_are_finite():
    num = 6
    found = kernel_ridge.honest_ridge(
        jnp.zeros((num, num)),
        jnp.arange(num),
        jnp.ones(num, bool),
        jnp.arange(num)[:, None],
        jnp.arange(num, dtype=jnp.float32)[:, None],
        jnp.asarray(0.3),
    )
    assert np.isfinite(found).all()
