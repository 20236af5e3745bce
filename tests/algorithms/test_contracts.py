"""What every algorithm must do, whatever it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import KEY, cases, count_traces, start

every = pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@functools.cache
def counted(case):
    """The compiled step that all tests of a case share, and how often it is traced."""
    step, traces = count_traces(case.algorithm.step)
    return jax.jit(step), traces


def compiled(case):
    return counted(case)[0]


def stepped(case, fill=7.0):
    tasks = case.sample(KEY, 4, fill)
    state = start(case.algorithm)(KEY, tasks)
    return state, *compiled(case)(jax.random.key(0), state, tasks)


def same(one, other, **tolerance):
    jax.tree.map(
        lambda a, b: (
            np.testing.assert_allclose(a, b, **tolerance)
            if tolerance
            else np.testing.assert_array_equal(a, b)
        ),
        one,
        other,
    )


def plain(state):
    """The state with keys as numbers, which NumPy can compare."""
    return jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ),
        state,
    )


@every
def test_a_step_keeps_structure_shapes_and_dtypes(case):
    before, after, info = stepped(case)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    assert np.isfinite(info.loss).all()


@every
def test_the_second_step_is_not_traced_again(case):
    step, traces = counted(case)
    state = start(case.algorithm)(KEY, case.sample(KEY, 4))
    for seed in range(2):
        state, _ = step(jax.random.key(seed), state, case.sample(KEY, 4))
    assert len(traces) == 1


@every
def test_the_same_key_repeats_the_step_exactly(case):
    same(plain(stepped(case)[1:]), plain(stepped(case)[1:]))


@every
def test_padding_changes_nothing_even_if_it_is_nan(case):
    same(plain(stepped(case)), plain(stepped(case, fill=jnp.nan)))


@every
def test_predictions_of_a_batch_are_those_of_its_tasks(case):
    _, state, _ = stepped(case)
    asked = case.asked(case.sample(jax.random.key(1), 3))
    batch = jax.jit(jax.vmap(case.algorithm.predict, in_axes=(None, 0)))(
        state.params, asked
    )
    predict = jax.jit(case.algorithm.predict)
    for i in range(3):
        one = predict(state.params, jax.tree.map(lambda leaf, i=i: leaf[i], asked))
        same(jax.tree.map(lambda leaf, i=i: leaf[i], batch), one, rtol=1e-5, atol=1e-6)


@every
def test_training_lowers_the_loss(case):
    tasks = case.sample(KEY, 32)
    state = start(case.algorithm)(KEY, tasks)

    def body(state, step):
        return case.algorithm.step(jax.random.fold_in(KEY, step), state, tasks)

    _, info = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(100)))(state)
    loss = np.asarray(info.loss).reshape(100, -1).mean(axis=1)
    # The ridge family has noise that no setting removes.
    noisy = case.name in ("meta_optimizer", "bilevel")
    assert loss[-10:].mean() < (0.8 if noisy else 0.5) * loss[0]


@every
def test_a_missing_description_gives_a_finite_step_and_prediction(case):
    tasks = case.sample(KEY, 4)
    tasks = tasks._replace(description=tasks.description.at[:, 1].set(jnp.nan))
    state = start(case.algorithm)(KEY, tasks)
    state, info = compiled(case)(KEY, state, tasks)
    assert np.isfinite(info.loss).all() and np.isfinite(info.grad_norm).all()
    nothing = tasks._replace(description=jnp.full_like(tasks.description, jnp.nan))
    asked = jax.tree.map(lambda leaf: leaf[0], case.asked(nothing))
    prediction = jax.jit(case.algorithm.predict)(state.params, asked)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(prediction))
