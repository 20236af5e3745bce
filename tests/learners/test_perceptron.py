"""The perceptron: what one step of it is, and that training bends the line."""

import jax
import jax.numpy as jnp
import numpy as np

from jmeta import learners
from jmeta.learners import perceptron
from jmeta.tasks import Examples

KEY = jax.random.key(0)


def test_the_first_step_is_the_sign_of_the_gradient_and_the_decay():
    start = {"w": jnp.asarray([3.0, -2.0, 0.0])}
    trained = perceptron.train(
        lambda weights: jnp.sum(jnp.asarray([5.0, -7.0, 0.0]) * weights["w"]),
        start,
        learning_rate=0.1,
        weight_decay=0.5,
        num_steps=1,
    )
    # w - 0.1 (sign g + 0.5 w); the weight without a gradient stays 0.
    np.testing.assert_allclose(trained["w"], [2.75, -1.8, 0.0], rtol=1e-5)


def test_a_weight_without_a_gradient_gives_no_nan():
    def loss(rate):
        trained = perceptron.train(
            lambda weights: weights["used"] ** 2 + 0.0 * weights["unused"],
            {"used": jnp.asarray(1.0), "unused": jnp.asarray(1.0)},
            learning_rate=rate,
            weight_decay=0.0,
            num_steps=5,
        )
        return trained["used"] + trained["unused"]

    assert np.isfinite(jax.grad(loss)(0.01))


def test_it_learns_what_no_line_can():
    x = jax.random.normal(KEY, (64, 8)).at[:, 2:].set(0.0)
    y = jnp.where(x[:, 0] * x[:, 1] > 0, 1, 0)
    support = Examples(x=x, y=y, mask=jnp.ones(64, bool))
    learner = learners.get("mlp", 2)
    settings = learner.space.decode(
        learner.space.encode({"learning_rate": 0.02, "weight_decay": 0.1})
    )
    weights = jax.jit(learner.fit)(KEY, settings, support)
    right = jnp.argmax(learner.predict(weights, x), axis=1) == y
    assert np.mean(right) > 0.9


def test_label_smoothing_bounds_the_confidence():
    x = jnp.where(jnp.arange(64) < 32, 1.0, -1.0)[:, None]
    support = Examples(x=x, y=(x[:, 0] > 0).astype(int), mask=jnp.ones(64, bool))
    learner = learners.get("mlp", 2)
    settings = learner.space.decode(
        learner.space.encode(
            {"label_smoothing": 0.2, "weight_decay": 0.01, "learning_rate": 0.02}
        )
    )
    weights = jax.jit(learner.fit)(KEY, settings, support)
    probs = jax.nn.softmax(learner.predict(weights, x), axis=1)
    np.testing.assert_allclose(jnp.max(probs, axis=1), 0.9, atol=0.02)
