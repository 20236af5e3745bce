"""Logistic regression: scikit-learn's, its gradient, and hard cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from real_tables import TOLERANCE, largest_difference
from sklearn.linear_model import LogisticRegression

from jmeta.learners import logistic as module
from jmeta.learners.newton import targets
from jmeta.tasks import Examples


def reference(penalty):
    return LogisticRegression(
        C=1 / penalty, solver="newton-cholesky", tol=1e-13, max_iter=1000
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("table", "num_classes"), [("breast cancer", 2), ("breast cancer", 4), ("wine", 4)]
)
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_probabilities_are_those_of_scikit_learn(table, num_classes, penalty, dtype):
    difference = largest_difference(
        "logistic", table, {"penalty": penalty}, reference(penalty), dtype, num_classes
    )
    assert difference < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_conjugate_gradients_find_the_same_optimum(dtype, monkeypatch):
    monkeypatch.setattr(module, "_DIRECT", 0)
    difference = largest_difference(
        "logistic", "wine", {"penalty": 0.1}, reference(0.1), dtype, 5
    )
    assert difference < TOLERANCE[dtype]


def problem(num_classes, dtype=np.float64):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(24, 4)).astype(dtype)
    x[:, 3] = 1.0
    y = (np.arange(24) % num_classes).astype(np.int32)
    support = Examples(x=jnp.asarray(x), y=jnp.asarray(y), mask=jnp.arange(24) < 20)
    rows = support.mask[:, None]
    return jnp.where(rows, support.x, 0.0), targets(support, num_classes)


@pytest.mark.parametrize("direct", [160, 0])
def test_the_gradient_is_that_of_the_optimum_in_features_and_penalty(
    direct, monkeypatch
):
    monkeypatch.setattr(module, "_DIRECT", direct)
    with jax.enable_x64(True):
        x, wanted = problem(3)
        penalty = jnp.asarray([0.5, 1.0, 2.0])

        def value(x, penalty):
            x, penalty = jnp.asarray(x), jnp.append(jnp.asarray(penalty), 0.0)
            return jnp.sum(jnp.sin(module.solve(x, penalty, wanted)))

        check_grads(value, (x, penalty), order=1, rtol=1e-5, eps=1e-5)


def test_separable_data_and_a_tiny_penalty_stay_finite_and_separated():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32) * 1e3
    support = Examples(
        x=jnp.asarray(x), y=jnp.asarray(x[:, 0] > 0, int), mask=jnp.ones(64, bool)
    )
    learner = module.logistic(2)
    weights = learner.fit(jax.random.key(0), {"penalty": jnp.asarray(1e-3)}, support)
    logits = learner.predict(weights, support.x)
    assert np.all(np.isfinite(logits))
    np.testing.assert_array_equal(jnp.argmax(logits, axis=1), support.y)
