"""Gaussian processes: scikit-learn's, and what inducing rows lose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from real_tables import (
    FEATURES,
    KEY,
    TOLERANCE,
    largest_difference,
    padded,
    real_table,
)
from sklearn.gaussian_process import (
    GaussianProcessClassifier,
    GaussianProcessRegressor,
)
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern

from jmeta import learners
from jmeta.learners import gaussian_process as module
from jmeta.learners.newton import targets
from jmeta.tasks import Examples


def covariance(kind, lengthscale):
    if kind == 0:
        return RBF(lengthscale)
    return Matern(lengthscale, nu=2.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [0, 1])
def test_the_mean_is_that_of_scikit_learn(kind, dtype):
    reference = GaussianProcessRegressor(
        covariance(kind, 1.5 * np.sqrt(10)), alpha=0.1, optimizer=None
    )
    # The target is centred up to rounding, so that the mean of zero is the same.
    settings = {"lengthscale": 1.5, "noise": 0.1, "kernel": kind}
    difference = largest_difference(
        "gaussian_process_regressor", "diabetes", settings, reference, dtype
    )
    assert difference < TOLERANCE[dtype]


def classifier_logits(dtype, kind, num_classes):
    x, y = real_table("breast cancer")
    learner = learners.get("gaussian_process", num_classes)
    settings = {
        "lengthscale": jnp.asarray(1.5, dtype),
        "amplitude": jnp.asarray(2.0, dtype),
        "kernel": jnp.asarray(kind, dtype),
    }
    query = jnp.pad(jnp.asarray(x, dtype), ((0, 0), (0, FEATURES - x.shape[1])))
    # A new function, so that nothing traced before is used again.
    fit = jax.jit(lambda *args: learner.fit(*args))
    return learner.predict(fit(KEY, settings, padded(x, y, dtype)), query)


@pytest.mark.parametrize(
    ("num_classes", "kind", "dtype"),
    [(2, 0, "float32"), (2, 1, "float64"), (4, 0, "float64"), (4, 1, "float32")],
)
def test_the_log_odds_are_scikit_learns_latent_mean(num_classes, kind, dtype):
    with jax.enable_x64(dtype == "float64"):
        logits = classifier_logits(dtype, kind, num_classes)
    x, y = real_table("breast cancer")
    kernel = ConstantKernel(4.0) * covariance(kind, 1.5 * np.sqrt(30))
    fitted = GaussianProcessClassifier(kernel, optimizer=None).fit(x, y)
    fitted = fitted.base_estimator_
    latent = fitted.kernel_(x, x) @ (fitted.y_train_ - fitted.pi_)
    # scikit-learn's own iteration stops at a change of 1e-10 in the likelihood.
    tolerance = {"float32": 1e-4, "float64": 1e-7}[dtype]
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], latent, atol=tolerance)


def test_the_mode_is_where_its_gradient_is_zero():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        factor = jnp.asarray(rng.normal(size=(12, 5)))
        y = jnp.arange(12, dtype=jnp.int32) % 3
        wanted = targets(
            Examples(x=factor, y=y, mask=jnp.ones(12, bool)), num_classes=3
        )
        for gram in (factor @ factor.T, factor):
            values = module.latent_mode(gram, wanted)
            probs = jax.nn.softmax(factor @ (factor.T @ values), axis=-1)
            np.testing.assert_allclose(values, wanted.hot - probs, atol=1e-9)


def test_the_gradient_of_the_mode_is_exact_with_and_without_a_factor():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        factor = jnp.asarray(rng.normal(size=(12, 5)))
        y = jnp.arange(12, dtype=jnp.int32) % 3
        wanted = targets(
            Examples(x=factor, y=y, mask=jnp.ones(12, bool)), num_classes=3
        )

        def square(factor):
            factor = jnp.asarray(factor)
            return jnp.sum(jnp.sin(module.latent_mode(factor @ factor.T, wanted)))

        def factored(factor):
            return jnp.sum(jnp.sin(module.latent_mode(factor, wanted)))

        check_grads(square, (factor,), order=1, rtol=1e-5, eps=1e-5)
        np.testing.assert_allclose(
            jax.grad(square)(factor), jax.grad(factored)(factor), rtol=1e-6
        )


def test_inducing_rows_that_hold_the_whole_support_lose_nothing(monkeypatch):
    exact = classifier_logits("float32", 1, 2)
    monkeypatch.setattr(module, "_EXACT", 248)
    induced = classifier_logits("float32", 1, 2)
    assert not np.array_equal(exact, induced)
    np.testing.assert_allclose(
        jax.nn.softmax(induced), jax.nn.softmax(exact), atol=5e-3
    )


def test_half_the_rows_predict_a_smooth_number_nearly_as_well(monkeypatch):
    x, y = real_table("diabetes")
    support = padded(x, y, "float32")
    query = jnp.where(support.mask[:, None], support.x, 0.0)
    learner = learners.get("gaussian_process_regressor")
    settings = learner.space.decode(
        learner.space.encode({"lengthscale": 3.0, "kernel": "rbf"})
    )

    def predict():
        weights = jax.jit(lambda *args: learner.fit(*args))(KEY, settings, support)
        return learner.predict(weights, query)[: len(y)]

    exact = predict()
    monkeypatch.setattr(module, "_EXACT", 128)
    induced = predict()
    assert not np.allclose(exact, induced, atol=1e-6)
    np.testing.assert_allclose(exact, induced, atol=0.1)
