"""Settings that all tasks share are learnt through the training inside each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import KEY, noisy_lines

from jmeta import adjoints
from jmeta.algorithms import bilevel, query_loss
from jmeta.learners.ridge import ridge
from jmeta.learners.trained import number_loss, trained
from jmeta.spaces import Space


def line(num_steps=4):
    """A line trained by gradient steps, each with a rate of its own."""

    def loss(settings, weights, support, key):
        return number_loss((support.x @ weights)[:, None], support)

    return trained(
        "line",
        lambda weights, x: (x @ weights)[:, None],
        lambda key, settings, x: jnp.zeros(x.shape[1], x.dtype),
        lambda settings: optax.sgd(lambda count: settings["rates"][count]),
        kind="number",
        space=Space(),
        num_steps=num_steps,
        loss=loss,
    )


def exponential(learnt):
    return jax.tree.map(jnp.exp, learnt)


def mean_loss(learner, settings, tasks):
    def one(task):
        return query_loss(learner, learner.fit(KEY, settings, task.support), task)

    return jnp.mean(jax.vmap(one)(tasks))


@pytest.mark.parametrize(
    "adjoint",
    [None, adjoints.unrolled(), adjoints.forward_over_reverse()],
    ids=["default", "unrolled", "forward_over_reverse"],
)
def test_a_step_is_the_gradient_of_the_mean_loss_of_the_tasks(adjoint):
    with jax.enable_x64(True):
        tasks = jax.tree.map(
            lambda leaf: leaf.astype(float) if leaf.dtype == jnp.float32 else leaf,
            noisy_lines(KEY, 3),
        )
        start = {"rates": jnp.log(jnp.asarray([0.1, 0.2, 0.1, 0.05], float))}
        algorithm = bilevel(
            line(),
            optax.sgd(1.0),
            start=start,
            decode=exponential,
            adjoint=adjoint,
            max_task_norm=jnp.inf,
        )
        state = algorithm.init(KEY, tasks)
        state, info = jax.jit(algorithm.step)(KEY, state, tasks)
        value, gradient = jax.jit(
            jax.value_and_grad(
                lambda learnt: mean_loss(line(), exponential(learnt), tasks)
            )
        )(start)
        np.testing.assert_allclose(info.loss, value, rtol=1e-10)
        told = algorithm.predict(state.params, tasks.description[0])
        wanted = jnp.exp(start["rates"] - gradient["rates"])
        np.testing.assert_allclose(told["rates"], wanted, rtol=1e-9)


def test_rates_learnt_for_every_step_beat_those_at_the_start():
    tasks = noisy_lines(KEY, 16)
    start = {"rates": jnp.full(4, jnp.log(0.02))}
    algorithm = bilevel(line(), optax.adam(0.1), start=start, decode=exponential)
    state = algorithm.init(KEY, tasks)

    def body(state, step):
        return algorithm.step(jax.random.fold_in(KEY, step), state, tasks)

    state, info = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(60)))(state)
    assert info.loss[-1] < 0.9 * info.loss[0]
    assert not np.any(info.num_diverged)
    settings = algorithm.predict(state.params, tasks.description[0])
    told = mean_loss(line(), settings, tasks)
    assert told < info.loss[0] and np.all(settings["rates"] > 0.02)


def test_the_space_and_its_defaults_are_where_it_begins():
    tasks = noisy_lines(KEY, 2)
    algorithm = bilevel(ridge(), optax.sgd(0.0))
    state = algorithm.init(KEY, tasks)
    told = algorithm.predict(state.params, tasks.description[0])
    np.testing.assert_allclose(told["penalty"], 1.0, rtol=1e-5)


def test_evolution_learns_without_a_gradient():
    tasks = noisy_lines(KEY, 4)
    adjoint = adjoints.evolution(sigma=0.05, num_pairs=2)
    algorithm = bilevel(ridge(), optax.sgd(0.02), adjoint=adjoint)
    state = algorithm.init(KEY, tasks)

    def body(state, step):
        return algorithm.step(jax.random.fold_in(KEY, step), state, tasks)

    after, _ = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(40)))(state)
    before, told = (
        mean_loss(ridge(), algorithm.predict(s.params, tasks.description[0]), tasks)
        for s in (state, after)
    )
    assert told < before
