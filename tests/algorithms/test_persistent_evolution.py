import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import KEY, start

from jmeta.adjoints import Inner
from jmeta.algorithms import persistent_evolution
from jmeta.tasks import Examples, Task


def points(key, num_tasks: int = 4) -> Task:
    """Tasks whose weights should reach a point in the plane."""
    x = jax.random.normal(key, (num_tasks, 1, 2))
    side = Examples(
        x=x, y=jnp.zeros((num_tasks, 1)), mask=jnp.ones((num_tasks, 1), bool)
    )
    return Task(support=side, query=side, description=jnp.zeros((num_tasks, 0)))


def to_the_point(settings, weights, support, key):
    """A quadratic ten times as steep in one direction as in the other."""
    del key
    return 0.5 * jnp.sum(jnp.square(weights - support.x[0]) * jnp.array([1.0, 10.0]))


def made(num_steps=8, stretch=4, optimizer=None, num_pairs=4, sigma=0.1, rate=0.01):
    return persistent_evolution(
        Inner(to_the_point, lambda rate: optax.sgd(rate), num_steps),
        optimizer or optax.sgd(1.0),
        start=jnp.log(rate),
        decode=jnp.exp,
        weights=lambda key, task: jnp.zeros(2),
        query_loss=lambda w, task: jnp.sum(jnp.square(w - task.query.x[0])),
        stretch=stretch,
        sigma=sigma,
        num_pairs=num_pairs,
    )


def test_a_training_goes_on_between_meta_steps_and_then_begins_anew():
    # Gradient descent on a quadratic: the first weight is x (1 - (1 - rate)^steps).
    algorithm = made(optimizer=optax.sgd(0.0), sigma=1e-6)
    first, later = points(KEY), points(jax.random.key(1))
    state = start(algorithm)(KEY, first)
    step = jax.jit(algorithm.step)
    for tasks, done, x in ((first, 4, first), (later, 8, first), (later, 4, later)):
        state, _ = step(KEY, state, tasks)
        wanted = x.support.x[:, 0, 0] * (1.0 - 0.99**done)
        weights = state.inner[0][..., 0]
        np.testing.assert_allclose(
            weights, jnp.broadcast_to(wanted[:, None, None], weights.shape), rtol=1e-3
        )


def test_the_estimate_is_that_of_the_whole_training_within_its_error():
    # With settings that stay, the sum of a training's estimates is unbiased for the
    # gradient of the sum of the losses at the ends of its stretches.
    algorithm = made(optimizer=optax.sgd(0.0), num_pairs=64, sigma=0.03, rate=0.05)
    task = points(KEY, 1)
    size = jnp.array([1.0, 10.0])

    def whole(log_rate):
        left = [jnp.abs(1.0 - jnp.exp(log_rate) * size) ** done for done in (4, 8)]
        return sum(jnp.sum(jnp.square(x * task.query.x[0, 0])) for x in left)

    # Where the outer optimizer is plain descent, it is its gradient that moves it.
    watched = made(optimizer=optax.sgd(1.0), num_pairs=64, sigma=0.03, rate=0.05)

    def estimate(key):
        state = algorithm.init(key, task)
        total = 0.0
        for number in range(2):
            moved, _ = watched.step(jax.random.fold_in(key, number), state, task)
            total += state.params - moved.params
            state, _ = algorithm.step(jax.random.fold_in(key, number), state, task)
        return total

    told = jax.jit(jax.vmap(estimate))(jax.random.split(KEY, 256))
    error = np.std(told) / np.sqrt(len(told))
    slope = jax.grad(whole)(jnp.log(0.05))
    assert abs(np.mean(told) - slope) < 4.0 * error
    # The interval is narrow enough to tell the last stretch alone, which truncation is.
    assert 8.0 * error < abs(slope)


def test_it_finds_the_rate_that_trains_fastest():
    algorithm = made(num_steps=20, stretch=5, optimizer=optax.adam(0.05))
    state = start(algorithm)(KEY, points(KEY))

    def body(state, number):
        key = jax.random.fold_in(KEY, number)
        return algorithm.step(key, state, points(key))

    state, info = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(200)))(state)
    # The best constant rate on curvatures 1 and 10 is 2 / 11.
    assert 0.1 < algorithm.predict(state.params, None) < 0.2
    assert np.mean(info.loss[-20:]) < 0.25 * np.mean(info.loss[:20])


def test_a_training_that_diverges_is_counted_and_left_out():
    algorithm = made(num_steps=400, stretch=200, rate=0.05)
    tasks = points(KEY, 2)
    tasks = tasks._replace(
        support=tasks.support._replace(x=tasks.support.x.at[0].set(jnp.nan))
    )
    state, info = jax.jit(algorithm.step)(KEY, start(algorithm)(KEY, tasks), tasks)
    assert info.num_diverged == 1
    assert np.isfinite(info.loss) and np.isfinite(state.params)


def test_a_stretch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="stretch=3 does not divide the 8 inner"):
        made(stretch=3)
    with pytest.raises(ValueError, match="sigma above 0 and num_pairs of at least"):
        made(num_pairs=0)
