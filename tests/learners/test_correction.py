"""A correction of log odds is the optimum it claims to be, and so is its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads
from scipy.optimize import minimize

from jmeta.learners.correction import correction
from jmeta.tasks import Examples

LEARNER = correction()
KEY = jax.random.key(0)
SETTINGS = {"intercept": 0.3, "slope": 2.0, "features": 1.5, "trust": 0.7}


def support(y=None):
    """Rows of three features and log odds; the last five are padding."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 4))
    y = rng.integers(0, 2, 20) if y is None else np.full(20, y)
    mask = np.arange(20) < 15
    x[~mask] = np.nan
    return Examples(x=jnp.asarray(x), y=jnp.asarray(y), mask=jnp.asarray(mask))


@jax.jit
def fit(settings, examples):
    return LEARNER.fit(KEY, settings, examples)


def test_a_correction_minimises_the_penalised_log_loss():
    with jax.enable_x64(True):
        examples = support()
        found = fit(SETTINGS, examples)
        x, y = (np.asarray(leaf)[:15] for leaf in examples[:2])

        def loss(v):
            odds = 0.7 * x[:, 3] + v[0] + v[1] * x[:, 3] + x[:, :3] @ v[2:]
            square = 0.3 * v[0] ** 2 + 2.0 * v[1] ** 2 + 1.5 * v[2:] @ v[2:]
            return np.sum(np.logaddexp(0, odds) - y * odds) + 0.5 * square

        best = minimize(loss, np.zeros(5), tol=1e-12).x
        np.testing.assert_allclose(found["intercept"], best[0], atol=1e-6)
        np.testing.assert_allclose(found["slope"], 0.7 + best[1], atol=1e-6)
        np.testing.assert_allclose(found["features"], best[2:], atol=1e-6)
        logits = LEARNER.predict(found, examples.x[:15])
        odds = best[0] + (0.7 + best[1]) * x[:, 3] + x[:, :3] @ best[2:]
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], odds, atol=1e-5)


def test_without_rows_the_model_stays_and_one_class_moves_it():
    with jax.enable_x64(True):
        examples = support(1)
        none = examples._replace(mask=jnp.zeros(20, bool))
        kept, sick = fit(SETTINGS, none), fit(SETTINGS, examples)
        assert kept["intercept"] == 0 and not kept["features"].any()
        np.testing.assert_allclose(kept["slope"], 0.7, rtol=1e-6)
        assert sick["intercept"] > 0.5


def test_the_gradient_crosses_the_fit_to_every_setting():
    with jax.enable_x64(True):
        examples = support()
        start = SETTINGS | {"features": np.array([0.5, 1.0, 2.0])}

        @jax.jit
        def value(logs):
            weights = fit(jax.tree.map(jnp.exp, logs), examples)
            return jnp.sum(jnp.sin(LEARNER.predict(weights, examples.x[:15])))

        logs = jax.tree.map(lambda leaf: jnp.log(jnp.asarray(leaf)), start)
        check_grads(value, (logs,), order=1, modes=["rev"], rtol=1e-5, eps=1e-5)
