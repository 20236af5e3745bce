import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import KEY, slopes, two_clouds
from scipy.stats import norm

from jmeta.algorithms import neural_process, prototypical
from jmeta.base import Network
from jmeta.gaussian import Gaussian
from jmeta.networks import MLP, SetEncoder, from_linen
from jmeta.tasks import Examples, Task


def fixed(apply):
    return Network(init=lambda *_: {}, apply=lambda _, *inputs: apply(*inputs))


IDENTITY = fixed(lambda x, counted: x)
MEAN = fixed(lambda rows, mask: mask @ rows / jnp.maximum(jnp.sum(mask), 1))


def test_one_task_of_numbers_by_hand():
    # Means 2 of x and 5 of y; told 5 + (4 - 2) = 7 for the query at 4, whose y is 8.
    support = Examples(
        x=jnp.array([[1.0], [3.0], [jnp.nan]]),
        y=jnp.array([4.0, 6.0, jnp.nan]),
        mask=jnp.array([True, True, False]),
    )
    query = Examples(
        x=jnp.array([[4.0], [9.0]]),
        y=jnp.array([8.0, jnp.nan]),
        mask=jnp.array([True, False]),
    )
    task = Task(support=support, query=query, description=jnp.zeros(0))
    tasks = jax.tree.map(lambda leaf: leaf[None], task)
    # Of the row asked about, then of the mean row and target.
    decoder = fixed(lambda asked: asked @ jnp.array([[1.0, 0], [-1.0, 0], [1.0, 0]]))
    algorithm = neural_process(
        IDENTITY, MEAN, decoder, optax.sgd(0.0), num_classes=None, min_deviation=0.2
    )
    state, info = jax.jit(algorithm.step)(KEY, algorithm.init(KEY, tasks), tasks)
    found = algorithm.predict(state.params, task)
    assert isinstance(found, Gaussian)
    deviation = 0.2 + np.log(2.0)
    np.testing.assert_allclose(found.mean[0], 7.0, rtol=1e-6)
    np.testing.assert_allclose(found.variance[0], deviation**2, rtol=1e-6)
    np.testing.assert_allclose(info.loss, -norm(7.0, deviation).logpdf(8.0), rtol=1e-5)


def test_reading_means_and_answering_by_distance_is_a_prototypical_network():
    def by_distance(asked):
        row, first, second = jnp.split(asked, 3, axis=1)
        away = jnp.stack([row - first, row - second], axis=1)
        return -0.5 * jnp.mean(jnp.square(away), axis=2)

    tasks = two_clouds(KEY, 3, jnp.nan)
    algorithms = (
        neural_process(IDENTITY, MEAN, fixed(by_distance), optax.sgd(0.1)),
        prototypical(IDENTITY, optax.sgd(0.1)),
    )
    found, wanted = (
        jax.vmap(algorithm.predict, in_axes=(None, 0))(
            algorithm.init(KEY, tasks).params, tasks
        )
        for algorithm in algorithms
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_numbers_are_learnt_and_so_is_how_far_they_stray():
    algorithm = neural_process(
        from_linen(MLP(hidden=(), out=2)),
        from_linen(SetEncoder(hidden=(16,), out=4)),
        from_linen(MLP(hidden=(16,), out=2)),
        optax.adam(0.02),
        num_classes=None,
        min_deviation=0.01,
    )

    # Lines of slope 2 (deviation .1) and noise .5 on them.
    def noisy(key, fill=7.0):
        tasks = slopes(key, 64, fill)
        noise = 0.5 * jax.random.normal(key, tasks.query.y.shape)
        return tasks._replace(query=tasks.query._replace(y=tasks.query.y + noise))

    @jax.jit
    def trained(state):
        def body(state, step):
            key = jax.random.fold_in(KEY, step)
            return algorithm.step(key, state, noisy(key))

        return jax.lax.scan(body, state, jnp.arange(300))[0]

    predict = jax.jit(jax.vmap(algorithm.predict, in_axes=(None, 0)))
    params = trained(algorithm.init(KEY, noisy(KEY))).params
    tasks = noisy(jax.random.key(1))
    found, mask = predict(params, tasks), tasks.query.mask
    away = (tasks.query.y - found.mean)[mask]
    assert 0.8 < jnp.mean(jnp.square(away) / found.variance[mask]) < 1.25
    assert 0.4 < jnp.sqrt(jnp.mean(found.variance[mask])) < 0.7
    holed = predict(params, noisy(jax.random.key(1), jnp.nan))
    np.testing.assert_array_equal(found.mean[mask], holed.mean[mask])
    np.testing.assert_array_equal(found.variance[mask], holed.variance[mask])


@pytest.mark.parametrize("changes", [{"min_deviation": 0.0}, {"num_classes": 1}])
def test_settings_that_mean_nothing_are_refused(changes):
    with pytest.raises(ValueError, match="neural_process: needs a min_deviation above"):
        neural_process(IDENTITY, MEAN, IDENTITY, optax.sgd(0.1), **changes)


def test_a_decoder_of_another_length_is_refused():
    decoder = from_linen(MLP(hidden=(), out=3))
    algorithm = neural_process(IDENTITY, MEAN, decoder, optax.sgd(0.1))
    with pytest.raises(ValueError, match="gives 3 outputs, where 2 are needed"):
        algorithm.init(KEY, two_clouds(KEY, 1))
