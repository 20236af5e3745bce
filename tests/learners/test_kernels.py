"""Kernels: their values, and the way from one to the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import learners
from jmeta.learners import gaussian_process
from jmeta.learners.kernels import KERNELS, kernel
from jmeta.tasks import Examples

SQUARED = jnp.asarray([[0.0, 0.1, 2.0], [30.0, 0.5, 1e4]])
SCALE = jnp.asarray(1.3)


def number(name):
    return jnp.asarray(float(KERNELS.index(name)))


def by_hand(name, squared):
    """In NumPy, in double precision."""
    squared = np.asarray(squared, np.float64) / 1.3**2
    away = np.sqrt(5.0 * squared)
    if name == "rbf":
        return np.exp(-0.5 * squared)
    return (1.0 + away + away**2 / 3.0) * np.exp(-away)


@pytest.mark.parametrize("name", KERNELS)
def test_values_are_the_formula(name):
    told = kernel(SQUARED, SCALE, number(name))
    np.testing.assert_allclose(told, by_hand(name, SQUARED), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", KERNELS)
def test_the_derivative_by_kind_is_that_of_the_line_between_the_kernels(name):
    line = by_hand("matern52", SQUARED) - by_hand("rbf", SQUARED)
    forward, reverse = (
        jacobian(kernel, argnums=2)(SQUARED, SCALE, number(name))
        for jacobian in (jax.jacfwd, jax.jacrev)
    )
    np.testing.assert_allclose(forward, line, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(reverse, line, rtol=1e-4, atol=1e-6)


def exponentials(function):
    compiled = jax.jit(function).lower(SQUARED, SCALE, number("rbf")).compile()
    return compiled.as_text().count(" exponential(")


def test_the_other_kernel_is_not_computed_unless_its_gradient_is_taken():
    def along_scale(squared, scale, kind):
        return jax.grad(lambda scale: jnp.sum(kernel(squared, scale, kind)))(scale)

    def along_kind(squared, scale, kind):
        return jax.grad(lambda kind: jnp.sum(kernel(squared, scale, kind)))(kind)

    assert exponentials(kernel) == 1
    assert exponentials(along_scale) == 1
    assert exponentials(along_kind) == 2


@pytest.mark.parametrize("name", ["gaussian_process", "gaussian_process_regressor"])
def test_the_derivative_of_a_fit_by_kind_is_that_on_the_line(name, monkeypatch):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(12, 2)), jnp.float32)
    wave = np.sin(3.0 * x[:, 0]) + x[:, 1]
    kind = "number" if name.endswith("regressor") else "classes"
    y = wave if kind == "number" else (wave > 0).astype(np.int32)
    support = Examples(x=x, y=jnp.asarray(y), mask=jnp.ones(12, bool))
    learner = learners.get(name, 2)

    def outputs(kind):
        settings = learner.space.decode(learner.space.default())
        settings["kernel"] = kind
        weights = learner.fit(jax.random.key(0), settings, support)
        return jnp.sum(jnp.sin(learner.predict(weights, x + 0.3)))

    told = jax.jit(jax.grad(outputs))(number("rbf"))

    def mixed(squared, lengthscale, kind):
        ends = [kernel(squared, lengthscale, number(end)) for end in KERNELS]
        return ends[0] + kind * (ends[1] - ends[0])

    monkeypatch.setattr(gaussian_process, "kernel", mixed)
    wanted = jax.jit(jax.grad(outputs))(number("rbf"))
    assert abs(wanted) > 1e-3
    np.testing.assert_allclose(told, wanted, rtol=1e-3)
