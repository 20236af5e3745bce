"""What every registered learner must do, whatever it is."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import learners
from jmeta.base import Learner
from jmeta.learners.common import ABSENT
from jmeta.tasks import Examples

KEY = jax.random.key(0)
ROWS, FEATURES, CLASSES = 64, 8, 4
CASES = [
    (name, kind)
    for kind in (learners.CLASSES, learners.NUMBER)
    for name in learners.names(kind)
]
TASKS = (
    "plain",
    "wide",
    "one class",
    "one row",
    "constant",
    "empty",
    "separable",
    "duplicates",
)


class Programs(NamedTuple):
    """A learner's compiled programs, shared by the tests, and what traced them."""

    learner: Learner
    batch: object
    single: object
    traces: list


@functools.cache
def programs(name, kind):
    learner = learners.get(name, CLASSES if kind == learners.CLASSES else None)
    traces = []

    def run(key, settings, support, x):
        traces.append(name)
        return learner.predict(learner.fit(key, settings, support), x)

    return Programs(
        learner=learner,
        batch=jax.jit(jax.vmap(run, in_axes=(None, None, 0, 0))),
        single=jax.jit(run),
        traces=traces,
    )


def defaults(learner, **changes):
    return learner.space.decode(learner.space.encode(changes))


def table(which, kind, *, dtype=np.float32):
    """A small table of the given character; its rows outside the mask hold junk."""
    rng = np.random.default_rng(TASKS.index(which))
    x = rng.normal(size=(ROWS, FEATURES))
    count = 40
    if which == "wide":
        count = 7
    elif which == "one row":
        count = 1
    elif which == "empty":
        count = 0
    elif which == "constant":
        x[:] = 0.0
    elif which == "duplicates":
        x = np.repeat(x[:4], ROWS // 4, axis=0)
    if which in ("plain", "separable"):
        x[:, 6:] = 0.0
    score = x @ rng.normal(size=FEATURES)
    if which == "separable":
        x *= 100.0
        score *= 100.0
    else:
        score = score + 0.5 * rng.normal(size=ROWS)
    if kind == learners.CLASSES:
        # Class 1 is absent everywhere, class 3 in most tables.
        y = np.where(score > 0, 2, 0)
        y = np.where((score < -1.5) & (which == "plain"), 3, y).astype(np.int32)
        if which == "one class":
            y[:] = 2
        y[count:] = 1
    else:
        y = np.where(np.arange(ROWS) < count, score, np.nan).astype(dtype)
        if which == "one class":
            y[:count] = 3.0
    query = np.where(np.isfinite(x), x, 0.0).astype(dtype)
    x[count:] = np.nan
    mask = np.arange(ROWS) < count
    support = Examples(
        x=jnp.asarray(x, dtype), y=jnp.asarray(y), mask=jnp.asarray(mask)
    )
    return support, jnp.asarray(query)


def tables(kind):
    records = [table(which, kind) for which in TASKS]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *records)


def probabilities(kind, output):
    return jax.nn.softmax(output, axis=-1) if kind == learners.CLASSES else output


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_predictions_are_finite_even_where_there_is_nothing_to_learn(name, kind):
    programmed = programs(name, kind)
    output = programmed.batch(KEY, defaults(programmed.learner), *tables(kind))
    for which, values in zip(TASKS, output):
        assert np.all(np.isfinite(values)), which


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_predictions_are_finite_at_both_ends_of_every_setting(name, kind):
    programmed = programs(name, kind)
    size = len(programmed.learner.space)
    for end in (0.0, 1.0):
        settings = programmed.learner.space.decode(jnp.full((size,), end))
        output = programmed.batch(KEY, settings, *tables(kind))
        for which, values in zip(TASKS, output):
            assert np.all(np.isfinite(values)), (which, end)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_other_settings_are_not_traced_again(name, kind):
    programmed = programs(name, kind)
    first = jnp.full((len(programmed.learner.space),), 0.3)
    programmed.batch(KEY, programmed.learner.space.decode(first), *tables(kind))
    before = len(programmed.traces)
    second = jnp.full((len(programmed.learner.space),), 0.6)
    programmed.batch(KEY, programmed.learner.space.decode(second), *tables(kind))
    assert len(programmed.traces) == before


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_batch_gives_what_its_tasks_give_alone(name, kind):
    programmed = programs(name, kind)
    settings = defaults(programmed.learner)
    supports, queries = tables(kind)
    together = programmed.batch(KEY, settings, supports, queries)
    for i in (0, 1):
        alone = programmed.single(
            KEY, settings, jax.tree.map(lambda leaf, i=i: leaf[i], supports), queries[i]
        )
        np.testing.assert_allclose(
            probabilities(kind, alone),
            probabilities(kind, together[i]),
            rtol=2e-4,
            atol=2e-4,
        )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_more_padding_changes_nothing(name, kind):
    programmed = programs(name, kind)
    settings = defaults(programmed.learner)
    support, query = table("plain", kind)
    small = programmed.single(KEY, settings, support, query)
    larger = learners.get(name, 2 * CLASSES if kind == learners.CLASSES else None)
    more = Examples(
        x=jnp.pad(support.x, ((0, ROWS), (0, FEATURES)))
        .at[ROWS:]
        .set(jnp.nan)
        .at[:ROWS, FEATURES:]
        .set(jnp.where(support.mask[:, None], 0.0, jnp.nan)),
        y=jnp.pad(support.y, (0, ROWS), constant_values=CLASSES + 1),
        mask=jnp.pad(support.mask, (0, ROWS)),
    )
    wide = jnp.pad(query, ((0, 0), (0, FEATURES)))
    large = jax.jit(
        lambda *args: larger.predict(larger.fit(KEY, settings, args[0]), args[1])
    )(more, wide)
    if kind == learners.CLASSES:
        assert np.all(large[:, CLASSES:] == ABSENT)
        large = large[:, :CLASSES]
    np.testing.assert_allclose(
        probabilities(kind, small), probabilities(kind, large), rtol=2e-4, atol=2e-4
    )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_same_key_gives_the_same_predictions(name, kind):
    programmed = programs(name, kind)
    settings = defaults(programmed.learner)
    data = tables(kind)
    np.testing.assert_array_equal(
        programmed.batch(KEY, settings, *data), programmed.batch(KEY, settings, *data)
    )


@pytest.mark.parametrize("name", learners.names(learners.CLASSES))
def test_absent_classes_have_the_logit_that_says_so(name):
    programmed = programs(name, learners.CLASSES)
    supports, queries = tables(learners.CLASSES)
    settings = defaults(programmed.learner)
    output = programmed.batch(KEY, settings, supports, queries)
    for i, which in enumerate(TASKS):
        held = set(np.asarray(supports.y[i])[np.asarray(supports.mask[i])])
        for label in range(CLASSES):
            if label not in held:
                assert np.all(output[i, :, label] == ABSENT), (which, label)
        if held:
            best = set(np.asarray(jnp.argmax(output[i], axis=-1)))
            assert best <= held, which


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_learns_something(name, kind):
    programmed = programs(name, kind)
    support, query = table("plain", kind)
    settings = defaults(programmed.learner)
    output = programmed.single(KEY, settings, support, query)
    held = support.mask
    if kind == learners.CLASSES:
        right = jnp.argmax(output, axis=-1) == support.y
        assert np.mean(right[held]) > 0.7
    else:
        error = jnp.mean(jnp.square(output - support.y)[held])
        assert error < 0.6 * jnp.var(support.y[held])
