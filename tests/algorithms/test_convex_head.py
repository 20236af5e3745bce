import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from jmeta.algorithms import convex_head
from jmeta.base import Network
from jmeta.learners import crammer_singer
from jmeta.learners.common import ABSENT
from jmeta.learners.crammer_singer import margin_coefficients
from jmeta.tasks import Examples, Task

KEY = jax.random.key(0)
IDENTITY = Network(init=lambda *_: {}, apply=lambda _, x, counted: x)
both = pytest.mark.parametrize("loss", ["svm", "logistic"])


def a_task(num_classes, rows=18, size=4):
    """Classes that overlap; three rows of the support are padding."""
    x = jax.random.normal(KEY, (2 * rows, size))
    noise = jax.random.normal(jax.random.key(1), (2 * rows, num_classes))
    y = jnp.argmax(x[:, :num_classes] + 0.5 * noise, axis=1)
    mask = jnp.arange(rows) >= 3
    return Task(
        support=Examples(x=x[:rows].at[:3].set(jnp.nan), y=y[:rows], mask=mask),
        query=Examples(x=x[rows:], y=y[rows:], mask=jnp.ones(rows, bool)),
        description=jnp.zeros(0),
    )


def start(algorithm, task):
    return algorithm.init(KEY, jax.tree.map(lambda leaf: leaf[None], task))


def test_one_task_by_hand():
    # Rows at -1 and 1: with odds v x it is v^2 / 4 + 2 C max(1 - v, 0), least at
    # v = min(4 C, 1) = 1 / 2 for C = 1 / 8; the query at 3.
    x, y = jnp.array([[-1.0], [1.0]]), jnp.array([0, 1])
    support = Examples(x=x, y=y, mask=jnp.ones(2, bool))
    query = Examples(x=3.0 * x[1:], y=y[1:], mask=jnp.ones(1, bool))
    task = Task(support=support, query=query, description=jnp.zeros(0))
    tasks = jax.tree.map(lambda leaf: leaf[None], task)
    algorithm = convex_head(IDENTITY, optax.sgd(0.0), penalty=8.0)
    state, info = jax.jit(algorithm.step)(KEY, algorithm.init(KEY, tasks), tasks)
    found = jax.jit(algorithm.predict)(state.params, task)[0]
    np.testing.assert_allclose(found[1] - found[0], 1.5, rtol=1e-4)
    np.testing.assert_allclose(info.loss, np.log1p(np.exp(-1.5)), rtol=1e-4)
    # The odds of 1.5 rise with the factor's logarithm as they fall with the penalty's.
    slope = 1.5 / (1.0 + np.exp(1.5))
    np.testing.assert_allclose(info.grad_norm, 2.0**0.5 * slope, rtol=1e-4)


@both
@pytest.mark.parametrize("num_classes", [2, 3])
def test_scores_are_those_of_scikit_learn(loss, num_classes):
    task = a_task(num_classes)
    # One class more than the support holds, where there are more than two.
    most = 2 if num_classes == 2 else 4
    algorithm = convex_head(
        IDENTITY, optax.sgd(0.1), num_classes=most, loss=loss, penalty=0.7
    )
    found = jax.jit(algorithm.predict)(start(algorithm, task).params, task)
    if loss == "svm":
        peer = LinearSVC(
            multi_class="crammer_singer",
            C=1 / 0.7,
            fit_intercept=False,
            tol=1e-6,
            max_iter=100_000,
        )
    else:
        peer = LogisticRegression(C=1 / 0.7, fit_intercept=False, tol=1e-6)
    kept = task.support.mask
    peer.fit(task.support.x[kept], task.support.y[kept])
    scores = np.asarray(peer.decision_function(task.query.x))
    if num_classes == 2:
        odds = found[:, 1] - found[:, 0]
        np.testing.assert_allclose(odds, scores, rtol=1e-3, atol=1e-3)
    else:
        wanted = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(found[:, :3], wanted, rtol=1e-3, atol=1e-3)
        assert (found[:, 3] == ABSENT).all()


@both
def test_the_gradient_is_that_of_finite_differences(loss):
    with jax.enable_x64(True):
        task = jax.tree.map(
            lambda leaf: leaf.astype(float) if leaf.dtype == jnp.float32 else leaf,
            a_task(3),
        )
        algorithm = convex_head(IDENTITY, optax.sgd(0.1), num_classes=3, loss=loss)
        params = jax.tree.map(
            lambda leaf: leaf.astype(float), start(algorithm, task).params
        )

        def score(log_penalty, move):
            head = params["head"] | {"log_penalty": log_penalty}
            support = task.support._replace(x=task.support.x + move)
            logs = algorithm.predict(
                params | {"head": head}, task._replace(support=support)
            )
            return jnp.sum(logs[:, 0] * jnp.cos(jnp.arange(len(logs))))

        at = jnp.zeros(()), jnp.zeros_like(task.support.x)
        way = jnp.ones(()), jax.random.normal(KEY, at[1].shape, float)
        score = jax.jit(jax.value_and_grad(score, (0, 1)))
        _, slopes = score(*at)
        for place in (0, 1):
            only = [way[i] if i == place else jnp.zeros_like(way[i]) for i in (0, 1)]
            ends = [
                score(*(a + sign * 1e-5 * w for a, w in zip(at, only)))[0]
                for sign in (1, -1)
            ]
            wanted = (ends[0] - ends[1]) / 2e-5
            found = jnp.vdot(slopes[place], way[place])
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


def test_rows_twice_are_a_penalty_of_half():
    # Their distributions are not determined then, and yet the scores are.
    task = a_task(3)
    kept = np.asarray(task.support.mask)
    x, hot = task.support.x[kept], jax.nn.one_hot(task.support.y[kept], 3)
    x, count = jnp.concatenate([x, x]), len(x)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def found(x, hot, strength):
        weights = strength * x.T @ margin_coefficients(strength * x @ x.T, hot)
        return jnp.sum(jnp.sin(weights)), weights

    once, twice = jnp.pad(hot, ((0, count), (0, 0))), jnp.concatenate([hot, hot])
    (_, wanted), of_once = found(x, once, 2.0)
    (_, weights), of_twice = found(x, twice, 1.0)
    np.testing.assert_allclose(weights, wanted, rtol=1e-3, atol=1e-3)
    for half in jnp.split(of_twice, 2):
        np.testing.assert_allclose(2.0 * half, of_once[:count], rtol=2e-3, atol=2e-3)


def test_memory_does_not_grow_with_the_steps(monkeypatch):
    def bytes_of(steps):
        monkeypatch.setattr(crammer_singer, "_STEPS", steps)
        slope = jax.grad(lambda gram, hot: margin_coefficients(gram, hot)[0, 0])
        program = jax.jit(slope).lower(jnp.eye(6), jnp.eye(6)).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert bytes_of(50) == bytes_of(10)


@pytest.mark.parametrize(
    "changes", [{"penalty": 0.0}, {"num_classes": 1}, {"loss": "hinge"}]
)
def test_settings_that_mean_nothing_are_refused(changes):
    with pytest.raises(ValueError, match="convex_head: needs a loss of"):
        convex_head(IDENTITY, optax.sgd(0.1), **changes)
