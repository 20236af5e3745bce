import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from jmeta.algorithms import prototypical
from jmeta.algorithms.prototypical import class_distances
from jmeta.base import Network
from jmeta.learners.common import ABSENT
from jmeta.tasks import Examples, Task

KEY = jax.random.key(0)
IDENTITY = Network(init=lambda *_: {}, apply=lambda _, x, counted: x)


def blobs(num_classes=3, size=4, rows=30):
    keys = jax.random.split(KEY, 3)
    y = jnp.arange(rows) % num_classes
    centres = 3.0 * jax.random.normal(keys[0], (num_classes, size))
    x = centres[y] + jax.random.normal(keys[1], (rows, size))
    return x, y, 2.0 * jax.random.normal(keys[2], (20, size))


def test_one_task_by_hand():
    # Means 0 (of -1 and 1) and 4; the query at 1: squared distances 1 and 9.
    support = Examples(
        x=jnp.array([[-1.0], [1.0], [4.0], [7.0]]),
        y=jnp.array([0, 0, 1, 0]),
        mask=jnp.array([True, True, True, False]),
    )
    query = Examples(x=jnp.ones((1, 1)), y=jnp.array([0]), mask=jnp.array([True]))
    task = Task(support=support, query=query, description=jnp.zeros(0))
    algorithm = prototypical(IDENTITY, optax.sgd(0.0), num_classes=3)
    tasks = jax.tree.map(lambda leaf: leaf[None], task)
    state = algorithm.init(KEY, tasks)
    odds = np.exp(-0.5 * np.array([1.0, 9.0]))
    logs = algorithm.predict(state.params, task)[0]
    np.testing.assert_allclose(logs[:2], np.log(odds / odds.sum()), rtol=1e-5)
    assert logs[2] == ABSENT  # The support has no such class.
    _, info = algorithm.step(KEY, state, tasks)
    np.testing.assert_allclose(info.loss, -np.log(odds[0] / odds.sum()), rtol=1e-5)


def test_the_mahalanobis_distance_by_hand():
    # Class 0 at -1 and 1: own variance 2, that of all rows (-1, 1, 3, 5; mean 2)
    # 20 / 3; weight 2 / 3: 2 / 3 * 2 + 1 / 3 * 20 / 3 + 1 = 41 / 9. The query at 3.
    z, hot = (
        jnp.array([[-1.0], [1.0], [3.0], [5.0]]),
        jnp.eye(2)[jnp.array([0, 0, 1, 1])],
    )
    found = class_distances(z, hot, jnp.array([[3.0]]), metric="mahalanobis")
    np.testing.assert_allclose(found, [[81.0 / 41.0, 9.0 / 41.0]], rtol=1e-5)


def test_the_nearest_class_is_that_of_scikit_learn():
    x, y, query = blobs()
    squared = class_distances(x, jax.nn.one_hot(y, 3), query, metric="euclidean")
    peer = NearestCentroid().fit(x, y)
    np.testing.assert_array_equal(jnp.argmin(squared, axis=1), peer.predict(query))


def test_many_rows_make_it_the_distance_of_quadratic_discriminants():
    # With much data the shrinkage vanishes, and large spreads drown the identity.
    keys = jax.random.split(KEY, 2)
    y = jnp.arange(20_000) % 2
    x = 100.0 * jax.random.normal(keys[0], (20_000, 2)) * (1.0 + y[:, None])
    query = 100.0 * jax.random.normal(keys[1], (5, 2))
    found = class_distances(x, jax.nn.one_hot(y, 2), query, metric="mahalanobis")
    peer = QuadraticDiscriminantAnalysis(store_covariance=True).fit(x, y)
    for label, (mean, spread) in enumerate(zip(peer.means_, peer.covariance_)):
        away = np.asarray(query) - mean
        wanted = np.sum(away @ np.linalg.inv(spread) * away, axis=1)
        np.testing.assert_allclose(found[:, label], wanted, rtol=2e-3)


@pytest.mark.parametrize("metric", ["euclidean", "mahalanobis"])
def test_padding_and_order_of_the_support_change_no_distance(metric):
    x, y, query = blobs()
    hot = jax.nn.one_hot(y, 3)
    wanted = class_distances(x, hot, query, metric=metric)
    padded = jnp.concatenate([x[::-1], jnp.zeros((5, 4))])
    hot = jnp.concatenate([hot[::-1], jnp.zeros((5, 3))])
    found = class_distances(padded, hot, query, metric=metric)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{"metric": "cosine"}, {"num_classes": 1}])
def test_settings_that_mean_nothing_are_refused(changes):
    with pytest.raises(ValueError, match="prototypical: needs a metric of"):
        prototypical(IDENTITY, optax.sgd(0.1), **changes)
