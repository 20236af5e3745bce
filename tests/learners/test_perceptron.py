"""The perceptron: that training bends the line, and what smoothing does."""

import jax
import jax.numpy as jnp
import numpy as np

from jmeta import learners
from jmeta.tasks import Examples

KEY = jax.random.key(0)


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
