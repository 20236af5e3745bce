import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import count_traces

from jmeta.data.images import collection_of, joined
from jmeta.dealing import distinct, uneven_counts
from jmeta.episodes import make_bank
from jmeta.host_ways import host_ways
from jmeta.ways import draw_way_batch, draw_ways, enough_classes

KEY = jax.random.key(0)
LENGTHS = {"most_ways": 4, "most_shots": 3, "queries": 2}
SIZES = (5, 8, 20, 5, 4)


def letters(sizes, first, name):
    """Images that tell their row by one corner, and are black elsewhere."""
    x = np.zeros((sum(sizes), 3, 3), np.uint8)
    x[:, 0, 0] = first + np.arange(len(x))
    return collection_of(x, np.repeat(np.arange(len(sizes)), sizes), name=name)


@pytest.fixture(scope="module")
def data():
    """Five classes of the sizes above, and two of another task."""
    return joined([letters(SIZES, 1, "greek"), letters((6, 6), 100, "latin")])


@pytest.fixture(scope="module")
def bank(data):
    return make_bank(data)


@functools.cache
def drawer(**changes):
    return jax.jit(functools.partial(draw_ways, **(LENGTHS | changes)))


def drawn(bank, ways, shots, *, task=0, seed=0, imbalance=None, **changes):
    numbers = (jnp.array(number) for number in (task, ways, shots))
    # As an array, so that one program serves all.
    dealt = {} if imbalance is None else {"imbalance": jnp.array(imbalance)}
    draw = drawer(**changes)
    return draw(jax.random.key(seed), bank, *numbers, **dealt)


def rows_of(examples):
    """What tells the rows of the table apart, in order."""
    x = np.asarray(examples.x)[np.asarray(examples.mask)]
    return np.round(x.sum(axis=(1, 2, 3)) * 255).astype(int)


def classes_of(rows):
    owner = np.concatenate([np.repeat(np.arange(5), SIZES), np.repeat((5, 6), 6)])
    names = np.full(200, -1)
    names[1 : 1 + sum(SIZES)] = owner[: sum(SIZES)]
    names[100:112] = owner[sum(SIZES) :]
    return names[rows]


@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (3, 3), (4, 2)])
def test_an_episode_has_so_many_ways_and_shots_and_no_row_twice(bank, ways, shots):
    for seed in range(4):
        task = drawn(bank, ways, shots, seed=seed)
        assert task.support.mask.tolist() == [True] * ways * shots + [False] * (
            12 - ways * shots
        )
        assert task.query.mask.sum() == ways * 2 and task.query.mask[: ways * 2].all()
        support, query = rows_of(task.support), rows_of(task.query)
        together = np.concatenate([support, query])
        assert len(set(together)) == len(together)
        for examples, each in ((task.support, shots), (task.query, 2)):
            y = np.asarray(examples.y[examples.mask])
            assert np.bincount(y, minlength=ways).tolist() == [each] * ways
        # A label stands for one class, and a class for one label.
        y = np.concatenate([e.y[e.mask] for e in (task.support, task.query)])
        pairs = set(zip(y.tolist(), classes_of(together).tolist()))
        assert len(pairs) == len(dict(pairs)) == len({name for _, name in pairs})
        np.testing.assert_array_equal(task.description, [ways, shots])


def test_labels_are_shuffled_and_every_class_is_drawn(bank):
    first = set()
    for seed in range(24):
        task = drawn(bank, 2, 1, seed=seed)
        support = classes_of(rows_of(task.support))
        first.add(support[0])
    assert first == {0, 1, 2, 3, 4}


def test_classes_are_those_of_the_task_that_have_rows_enough(bank):
    # Three rows for the support and two for the query: four classes, and two.
    for ways, found in ((2, [True, True]), (4, [True, False]), (5, [False, False])):
        np.testing.assert_array_equal(enough_classes(bank, ways, 3, 2), found)
    np.testing.assert_array_equal(enough_classes(bank, 8, 3, 2, turn=True), [True] * 2)
    for seed in range(10):
        task = drawn(bank, 4, 3, seed=seed)
        assert set(classes_of(rows_of(task.support))) == {0, 1, 2, 3}
        task = drawn(bank, 2, 1, task=1, seed=seed)
        assert set(classes_of(rows_of(task.support))) == {5, 6}


def test_ways_and_shots_are_no_reason_to_trace_again(bank):
    function, traces = count_traces(functools.partial(draw_ways, **LENGTHS))
    draw = jax.jit(function)
    for ways, shots in ((2, 1), (4, 3)):
        draw(KEY, bank, jnp.array(0), jnp.array(ways), jnp.array(shots))
    assert len(traces) == 1


def test_an_imbalanced_support_holds_as_many_rows_and_every_class(bank):
    most = []
    for seed in range(12):
        for imbalance in (0.0, 1.0):
            task = drawn(bank, 3, 3, seed=seed, imbalance=imbalance)
            y = np.asarray(task.support.y[task.support.mask])
            counts = np.bincount(y, minlength=3)
            assert counts.sum() == 9 and counts.min() >= 1
            assert task.query.mask.sum() == 6
            if imbalance == 0.0:
                assert counts.tolist() == [3, 3, 3]
            else:
                most.append(counts.max())
            rows = np.concatenate([rows_of(task.support), rows_of(task.query)])
            assert len(set(rows)) == len(rows)
    # Seven is all but one for each of the others.
    assert np.mean(most) > 4.0 and max(most) == 7


def test_no_class_is_dealt_more_rows_than_it_has():
    there = jnp.array([True, True, True, False])
    room = jnp.array([2, 3, 90, 90])
    deal = jax.jit(functools.partial(uneven_counts, most=20))
    for seed in range(20):
        key = jax.random.key(seed)
        counts = deal(key, there, room, jnp.array(15), imbalance=jnp.array(1.0))
        assert counts.sum() == 15 and (counts[:3] >= 1).all() and counts[3] == 0
        assert (counts <= room).all()
    counts = deal(KEY, there, room, jnp.array(15), imbalance=jnp.array(0.0))
    assert counts.tolist() == [2, 3, 10, 0]  # Five each, as far as there is room.


def test_drawn_places_are_distinct_and_each_is_as_likely_anywhere():
    draw = jax.jit(jax.vmap(lambda key: distinct(key, jnp.array([4, 7, 1000]), 4)))
    found = np.asarray(draw(jax.random.split(KEY, 3000)))
    assert (found >= 0).all() and (found.max(axis=(0, 1)) < [4, 7, 1000]).all()
    for size, column in ((4, 0), (7, 1)):
        order = np.sort(found[:, :, column], axis=1)
        assert (np.diff(order, axis=1) > 0).all()
        for place in range(4):
            share = np.bincount(found[:, place, column], minlength=size) / 3000
            # Four deviations of a share of 3,000 draws.
            np.testing.assert_allclose(share, 1 / size, atol=4 * 0.5 / 3000**0.5)
    assert len(np.unique(found[:, :, 2])) > 990


def test_turned_classes_are_classes_of_their_own(bank):
    corners = set()
    for seed in range(10):
        task = drawn(bank, 4, 1, task=1, seed=seed, turn=True)
        support = np.asarray(task.support.x[task.support.mask])[..., 0]
        query = np.asarray(task.query.x[task.query.mask])[..., 0]
        y, asked = (np.asarray(e.y[e.mask]) for e in (task.support, task.query))
        assert len(set(y)) == 4
        ways = {}
        for x, label in zip([*support, *query], [*y, *asked]):
            place = tuple(np.argwhere(x)[0].tolist())
            corners.add(place)
            row = round(float(x.sum()) * 255)
            ways.setdefault(label, set()).add((place, int(classes_of(row))))
        # One turn and one class for each label, and no two alike.
        assert all(len(found) == 1 for found in ways.values())
        assert len({next(iter(found)) for found in ways.values()}) == 4
    assert corners == {(0, 0), (2, 0), (2, 2), (0, 2)}


def test_a_batch_repeats_itself_and_draws_what_it_is_told(bank):
    draw = jax.jit(functools.partial(draw_way_batch, num_tasks=32, **LENGTHS))
    ways, shots = jnp.array([2, 4]), jnp.array([1, 3])
    tasks = draw(KEY, bank, ways=ways, shots=shots)
    jax.tree.map(
        np.testing.assert_array_equal, tasks, draw(KEY, bank, ways=ways, shots=shots)
    )
    seen = {tuple(row) for row in np.asarray(tasks.description).astype(int).tolist()}
    assert seen == {(2, 1), (2, 3), (4, 1), (4, 3)}
    np.testing.assert_array_equal(
        tasks.support.mask.sum(axis=1), tasks.description.prod(axis=1)
    )
    latin = np.asarray(tasks.support.x[:, 0].max(axis=(1, 2, 3)) * 255 > 90)
    assert latin.any() and (np.asarray(tasks.description)[latin, 0] == 2).all()


def test_pixels_are_fractions_of_the_brightest(bank):
    task = drawn(bank, 2, 1)
    assert task.support.x.dtype == jnp.float32
    row = float(task.support.x[0].sum()) * 255
    np.testing.assert_allclose(row, round(row), rtol=1e-5)
    assert task.support.x.shape == (12, 3, 3, 1) and float(task.query.x.max()) <= 1.0


def test_lengths_that_cannot_be_are_refused(bank):
    with pytest.raises(
        ValueError, match="most_ways from 1 to the number of classes, 7"
    ):
        drawn(bank, 2, 1, most_ways=8)
    with pytest.raises(ValueError, match="got 4, 3 and 0"):
        drawn(bank, 2, 1, queries=0)
    oblong = bank._replace(x=bank.x[:, :2])
    with pytest.raises(ValueError, match=r"square, got rows of shape \(2, 3, 1\)"):
        drawn(oblong, 2, 1, turn=True)


def test_episodes_of_the_host_are_those_of_the_device(data, bank, tmp_path):
    np.save(tmp_path / "x.npy", data.x)
    mapped = data._replace(x=np.load(tmp_path / "x.npy", mmap_mode="r"))
    options = LENGTHS | {"turn": True, "imbalance": 0.5}
    host_tasks = host_ways(KEY, mapped, 3, (2, 4), (1, 3), **options)
    draw = jax.jit(functools.partial(draw_way_batch, num_tasks=3, **options))
    for step in (0, 5):
        found = host_tasks(step)
        assert isinstance(found.support.x, np.ndarray)
        wanted = draw(
            jax.random.fold_in(KEY, step),
            bank,
            ways=jnp.array([2, 4]),
            shots=jnp.array([1, 3]),
        )
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
