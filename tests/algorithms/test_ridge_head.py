import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct
from sklearn.linear_model import Ridge, RidgeClassifier

from jmeta.algorithms import deep_tanimoto, ridge_head
from jmeta.algorithms.embedding import Rows
from jmeta.algorithms.ridge_head import dual_ridge
from jmeta.base import Network
from jmeta.tasks import Examples, Task

KEY = jax.random.key(0)
IDENTITY = Network(init=lambda *_: {}, apply=lambda _, x, counted: x)


def a_task(targets, rows=20, size=4):
    """Of `targets(x)`, five rows of the support being padding."""
    x = jax.random.normal(KEY, (2 * rows, size))
    y = targets(x)
    x = x.at[:5].set(jnp.nan)
    mask = jnp.arange(rows) >= 5
    return Task(
        support=Examples(x=x[:rows], y=y[:rows], mask=mask),
        query=Examples(x=x[rows:], y=y[rows:], mask=jnp.ones(rows, bool)),
        description=jnp.zeros(0),
    )


def start(algorithm, task):
    return algorithm.init(KEY, jax.tree.map(lambda leaf: leaf[None], task))


def test_one_task_by_hand():
    # x = -1, 1; y = -3, 5: centred, y' = -4, 4, slope = 8 / (2 + 2) = 2, mean 1.
    x, y = jnp.array([[-1.0], [1.0]]), jnp.array([-3.0, 5.0])
    support = Examples(x=x, y=y, mask=jnp.ones(2, bool))
    query = Examples(x=3.0 * x[1:], y=jnp.zeros(1), mask=jnp.ones(1, bool))
    task = Task(support=support, query=query, description=jnp.zeros(0))
    tasks = jax.tree.map(lambda leaf: leaf[None], task)
    algorithm = ridge_head(IDENTITY, optax.sgd(0.0), num_classes=None, penalty=2.0)
    state, info = algorithm.step(KEY, algorithm.init(KEY, tasks), tasks)
    predicted = algorithm.predict(state.params, task)
    np.testing.assert_allclose(predicted, [1.0 + 2.0 * 3.0], rtol=1e-5)
    np.testing.assert_allclose(info.loss, 49.0, rtol=1e-5)
    # With u = log penalty, slope 8 / (2 + e^u): its derivative is -8 * 2 / 16 = -1;
    # that of the loss 2 * 7 * 3 * -1. The factor is of classes alone.
    np.testing.assert_allclose(info.grad_norm, 42.0, rtol=1e-5)


def test_numbers_are_those_of_scikit_learn():
    task = a_task(lambda x: x @ jnp.arange(4.0) + jnp.sin(9.0 * x[:, 0]) + 3.0)
    algorithm = ridge_head(IDENTITY, optax.sgd(0.1), num_classes=None, penalty=0.7)
    found = algorithm.predict(start(algorithm, task).params, task)
    kept = task.support.mask
    peer = Ridge(alpha=0.7).fit(task.support.x[kept], task.support.y[kept])
    np.testing.assert_allclose(found, peer.predict(task.query.x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_classes_are_those_of_scikit_learn(num_classes):
    task = a_task(lambda x: jnp.argmax(x[:, :num_classes], axis=1))
    algorithm = ridge_head(IDENTITY, optax.sgd(0.1), num_classes=num_classes)
    found = algorithm.predict(start(algorithm, task).params, task)
    kept = task.support.mask
    peer = RidgeClassifier(alpha=1.0).fit(task.support.x[kept], task.support.y[kept])
    scores = np.asarray(peer.decision_function(task.query.x))
    if num_classes == 2:  # The target of class 0 is minus that of class 1.
        odds = found[:, 1] - found[:, 0]
        np.testing.assert_allclose(odds, 2.0 * scores, rtol=1e-4, atol=1e-4)
    else:
        wanted = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_with_a_kernel_it_is_the_mean_of_a_gaussian_process():
    # Targets of mean zero on rows that are symmetric, where centring changes nothing.
    half = jax.random.normal(KEY, (6, 3))
    x, query = jnp.concatenate([half, -half]), jax.random.normal(KEY, (5, 3))
    y = jnp.concatenate([half[:, 0], -half[:, 0]])
    found = dual_ridge(
        x @ x.T, query @ x.T, y[:, None], jnp.ones(12, bool), jnp.array(0.5)
    )
    peer = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=0.5, optimizer=None)
    wanted = peer.fit(x, y).predict(query)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-4, atol=1e-5)


def test_a_deep_kernel_is_positive_and_as_high_as_its_parts():
    keys = jax.random.split(KEY, 3)
    places = jax.random.randint(keys[0], (12, 5), 0, 64).astype(jnp.float32)
    counts = jax.random.randint(keys[1], (12, 5), 1, 4).astype(jnp.float32)
    rows = Rows(
        z=jax.random.normal(keys[2], (12, 3)), x=jnp.stack([places, counts], axis=-1)
    )
    kernel = deep_tanimoto(num_bits=64)
    params = kernel.init(3)
    found = kernel.covariance(params, kernel.compare(rows, rows))
    np.testing.assert_allclose(kernel.variance(params, rows), np.diag(found), rtol=1e-5)
    found = np.asarray(found, np.float64)
    np.testing.assert_allclose(np.diag(found), 1.0 + np.exp(-1.0), rtol=1e-5)
    assert np.linalg.eigvalsh(found).min() > 0


@pytest.mark.parametrize("changes", [{"penalty": 0.0}, {"num_classes": 1}])
def test_settings_that_mean_nothing_are_refused(changes):
    with pytest.raises(ValueError, match="ridge_head: needs a penalty above 0"):
        ridge_head(IDENTITY, optax.sgd(0.1), **changes)
