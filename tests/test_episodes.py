import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_molecules import write_fsmol

from jmeta.data.collection import of_molecules, subset
from jmeta.data.molecules import read_molecules
from jmeta.episodes import (
    draw_episode,
    draw_episodes,
    eligible,
    make_bank,
    unit_targets,
)

KEY = jax.random.key(0)
SIZES = (40, 30, 12, 20)
LENGTHS = {"support_rows": 16, "query_rows": 32, "window": 64}


def collected(path):
    return of_molecules(read_molecules(path))


@pytest.fixture
def data(tmp_path):
    """Three tasks that are half active, and one with a single active row."""
    label = np.arange(sum(SIZES), dtype=np.int8) % 2
    label[82:] = np.arange(20) == 7
    return collected(write_fsmol(tmp_path, sizes=SIZES, label=label))


def drawn(data, task, num_support, seed=0, **changes):
    draw = jax.jit(functools.partial(draw_episode, **(LENGTHS | changes)))
    key = jax.random.key(seed)
    return draw(key, make_bank(data), jnp.array(task), jnp.array(num_support))


def molecules(examples):
    """What tells rows apart: their entries."""
    return {tuple(row.ravel()) for row in np.asarray(examples.x[examples.mask])}


def test_tasks_too_small_or_without_two_of_a_class_are_not_eligible(data):
    bank = make_bank(data)
    np.testing.assert_array_equal(eligible(bank, 8, 4), [True, True, True, False])
    np.testing.assert_array_equal(eligible(bank, 9, 4), [True, True, False, False])


def test_support_and_query_split_the_task(data):
    task = drawn(data, 1, 8)
    assert task.support.mask.sum() == 8 and task.query.mask.sum() == 22
    assert not molecules(task.support) & molecules(task.query)
    rows = slice(*data.offset[1:3])
    held = np.concatenate([s.y[s.mask] for s in (task.support, task.query)])
    assert held.sum() == data.label[rows].sum()


def test_rows_hold_the_entries_and_labels_of_their_molecule(data):
    bank = make_bank(data)
    task = drawn(data, 0, 8)
    known = {
        tuple(np.asarray(bank.x[row], np.float32).ravel()): label
        for row, label in zip(data.rows, data.label)
    }
    for x, y in zip(task.query.x[task.query.mask], task.query.y):
        assert known[tuple(np.asarray(x).ravel())] == y


@pytest.mark.parametrize("num_support", [2, 5, 8, 16])
def test_the_support_keeps_the_share_of_classes(data, num_support):
    for seed in range(3):
        task = drawn(data, 0, num_support, seed)
        active = int(task.support.y[task.support.mask].sum())
        assert abs(active - num_support / 2) <= 0.5 and 0 < active < num_support
        np.testing.assert_allclose(task.description, [active / num_support], rtol=1e-6)


def test_a_rare_class_stands_on_both_sides(tmp_path):
    label = np.isin(np.arange(40), (3, 30)).astype(np.int8)
    data = collected(write_fsmol(tmp_path, sizes=(40,), label=label))
    for seed in range(3):
        task = drawn(data, 0, 16, seed)
        assert task.support.y[task.support.mask].sum() == 1
        assert task.query.y[task.query.mask].sum() == 1


def test_a_balanced_support_has_as_many_of_each_class(tmp_path):
    label = (np.arange(40) % 5 == 0).astype(np.int8)
    data = collected(write_fsmol(tmp_path, sizes=(40,), label=label))
    task = drawn(data, 0, 10, balanced=True)
    assert task.support.y[task.support.mask].sum() == 5
    # Eight are active, of which one is left to the query.
    task = drawn(data, 0, 16, balanced=True)
    assert task.support.y[task.support.mask].sum() == 7


def test_the_query_is_cut_where_there_is_no_room(data):
    task = drawn(data, 0, 8, query_rows=10)
    assert task.query.mask.all() and len(task.query.mask) == 10
    assert 0 < task.query.y.sum() < 10  # Not the first rows of one class.


def test_unknown_values_are_in_neither_set(tmp_path):
    value = np.linspace(4.0, 9.0, 40, dtype=np.float32)
    value[::4] = np.nan
    data = collected(write_fsmol(tmp_path, sizes=(40,), log_value=value))
    task = drawn(data, 0, 16, numbers=True)
    assert task.support.mask.sum() == 16 and task.query.mask.sum() == 14
    assert np.isfinite(task.query.y[task.query.mask]).all()
    np.testing.assert_array_equal(eligible(make_bank(data), 14, numbers=True), [True])
    np.testing.assert_array_equal(eligible(make_bank(data), 15, numbers=True), [False])


def test_targets_have_mean_zero_and_deviation_one_on_the_support(data):
    task = drawn(data, 0, 8, numbers=True)
    unit, mean, scale = unit_targets(task)
    seen = unit.support.y[unit.support.mask]
    np.testing.assert_allclose([seen.mean(), seen.std()], [0.0, 1.0], atol=1e-6)
    kept = task.query.mask
    back = unit.query.y[kept] * scale + mean
    np.testing.assert_allclose(back, task.query.y[kept], rtol=1e-6)


def test_a_batch_repeats_itself_and_draws_large_enough_tasks_alone(data):
    bank = make_bank(subset(data, [0, 1, 2]))
    draw = functools.partial(draw_episodes, num_tasks=64, least_query=4, **LENGTHS)
    draw = jax.jit(draw)
    shots = jnp.array([8, 16])
    tasks = draw(KEY, bank, shots=shots)
    jax.tree.map(np.testing.assert_array_equal, tasks, draw(KEY, bank, shots=shots))
    taken = tasks.support.mask.sum(axis=1)
    rows = taken + tasks.query.mask.sum(axis=1)
    assert set(np.asarray(taken).tolist()) == {8, 16}
    assert set(np.asarray(rows).tolist()) == {12, 30, 40}
    assert (rows[taken == 16] > 12).all()
