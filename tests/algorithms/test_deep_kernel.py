import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from jmeta.algorithms import deep_kernel
from jmeta.algorithms.deep_kernel import evidence, likeliest
from jmeta.base import Network
from jmeta.tasks import Examples, Task

KEY = jax.random.key(0)
IDENTITY = Network(init=lambda *_: {}, apply=lambda _, x, counted: x)
ROWS, SIZE = 12, 3
MASK = jnp.arange(ROWS) >= 2


def a_task(dtype=float):
    """Noisy numbers of three features; the first two rows of the support are NaN."""
    x = jax.random.normal(KEY, (2 * ROWS, SIZE)).astype(dtype)
    noise = jax.random.normal(jax.random.key(1), (2 * ROWS,))
    y = jnp.sin(2.0 * x[:, 0]) + 0.2 * noise + 5.0
    x = x.at[:2].set(jnp.nan)
    return Task(
        support=Examples(x=x[:ROWS], y=y[:ROWS], mask=MASK),
        query=Examples(x=x[ROWS:], y=y[ROWS:], mask=jnp.ones(ROWS, bool)),
        description=jnp.zeros(0),
    )


def predicted(task, **changes):
    algorithm = deep_kernel(
        IDENTITY, optax.sgd(0.1), num_classes=None, noise=0.2, **changes
    )
    tasks = jax.tree.map(lambda leaf: leaf[None], task)
    params = algorithm.init(KEY, tasks).params
    return jax.jit(algorithm.predict)(params, task)


def seen(task):
    x, y = (np.asarray(leaf)[np.asarray(MASK)] for leaf in task.support[:2])
    return x, (y - y.mean()) / y.std(), y.mean(), y.std()


def test_without_a_fit_it_is_the_gaussian_process_of_scikit_learn():
    with jax.enable_x64(True):
        task = a_task()
        found = predicted(task, inner_steps=0)
        x, unit, mean, scale = seen(task)
        # Distances are means over the three features.
        kernel = RBF(SIZE**0.5) + WhiteKernel(0.2 + 1e-4)
        peer = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(x, unit)
        means, deviations = peer.predict(task.query.x, return_std=True)
        np.testing.assert_allclose(found.mean, mean + scale * means, rtol=1e-6)
        np.testing.assert_allclose(
            found.variance, np.square(scale * deviations), rtol=1e-6
        )


def covariance_of(x):
    squared = jnp.sum(jnp.square(x[:, None] - x), axis=-1)
    return lambda h: (jnp.exp(h[0] - 0.5 * squared * jnp.exp(-2.0 * h[1])), h[2])


def problem():
    x = jax.random.normal(KEY, (ROWS, SIZE))
    y = jnp.where(MASK, jnp.sin(2.0 * x[:, 0]), 0.0)[:, None]
    return x, y, jnp.array([0.1, -0.2, -2.0]), jnp.array([0.5, 1.0, 2.0])


def test_the_evidence_is_that_of_scikit_learn():
    with jax.enable_x64(True):
        x, unit, *_ = seen(a_task())
        kernel = ConstantKernel(1.3) * RBF(0.8) + WhiteKernel(0.2)
        peer = GaussianProcessRegressor(kernel, alpha=1e-4, optimizer=None)
        wanted = peer.fit(x, unit).log_marginal_likelihood_value_
        x = jnp.concatenate([jnp.full((2, SIZE), 7.0), jnp.asarray(x)])
        y = jnp.concatenate([jnp.zeros(2), jnp.asarray(unit)])[:, None]
        h = jnp.log(jnp.array([1.3, 0.8, 0.2]))
        np.testing.assert_allclose(
            evidence(*covariance_of(x)(h), y, MASK), wanted, rtol=1e-9
        )


def test_the_fit_ends_where_evidence_and_prior_are_in_balance():
    with jax.enable_x64(True):
        x, y, centre, precision = problem()
        found = likeliest(covariance_of(x), centre, precision, y, MASK, 30)

        def lost(h):
            prior = 0.5 * jnp.sum(precision * jnp.square(h - centre))
            return prior - evidence(*covariance_of(x)(h), y, MASK)

        np.testing.assert_allclose(jax.grad(lost)(found), 0.0, atol=1e-9)


def test_the_derivative_of_the_fit_is_that_of_finite_differences():
    with jax.enable_x64(True):
        x, y, centre, precision = problem()

        def fitted(x, centre, precision):
            h = likeliest(covariance_of(x), centre, precision, y, MASK, 40)
            return jnp.sum(jnp.sin(h))

        place = (x, centre, precision)
        grads = jax.jit(jax.grad(fitted, (0, 1, 2)))(*place)
        moves = jax.tree.map(lambda leaf: jnp.cos(7.0 * leaf), place)
        told = sum(jnp.sum(g * m) for g, m in zip(grads, moves))
        value = jax.jit(fitted)

        def at(step):
            return value(*(p + step * m for p, m in zip(place, moves)))

        step = 1e-3
        wanted = 8.0 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))
        np.testing.assert_allclose(told, wanted / (12.0 * step), rtol=1e-7)


def test_a_sure_prior_leaves_the_kernel_as_it_was_learnt():
    task = a_task(jnp.float32)
    still, sure = predicted(task, inner_steps=0), predicted(task, precision=1e8)
    np.testing.assert_allclose(still.mean, sure.mean, rtol=1e-4)


@pytest.mark.parametrize(
    "changes", [{"noise": 0.0}, {"precision": 0.0}, {"inner_steps": -1}]
)
def test_settings_that_mean_nothing_are_refused(changes):
    with pytest.raises(ValueError, match="needs noise and precision above 0"):
        deep_kernel(IDENTITY, optax.sgd(0.1), **changes)
    with pytest.raises(ValueError, match="at least 2 classes"):
        deep_kernel(IDENTITY, optax.sgd(0.1), num_classes=1)
