"""Gradients through every learner that has one: exact, and never NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import adjoints, learners
from jmeta.algorithms import query_loss
from jmeta.learners import gaussian_process, logistic
from jmeta.tasks import Examples, Task, stack

KEY = jax.random.key(0)
ROWS, FEATURES = 24, 6
SOLVED = [
    *((name, count) for name in ("logistic", "gaussian_process") for count in (2, 4)),
    *((name, 4) for name in ("lda", "qda", "naive_bayes", "knn")),
    # Of more unknowns than are factorised.
    ("logistic", 1 + logistic._DIRECT // (FEATURES + 1)),
    *((name, None) for name in ("ridge", "gaussian_process_regressor")),
]
TRAINED = [("mlp", 4), ("mlp_regressor", None)]
WITHOUT = {
    "knn_regressor",
    *(
        f"{trees}{kind}"
        for trees in ("boosted_trees", "extra_trees")
        for kind in ("", "_regressor")
    ),
}
"""Nothing but whole numbers and choices, or trees."""

EXACT = {
    "unrolled": adjoints.unrolled(),
    "checkpointed": adjoints.checkpointed(),
    "forward_over_reverse": adjoints.forward_over_reverse(),
    "truncated": adjoints.truncated(1000),
}

HARD = (
    "plain",
    "other padding",
    "empty class",
    "one class",
    "one row",
    "constant column",
    "no support",
    "no query",
    "nothing",
)


@functools.cache
def task(which, num_classes) -> Task:
    """A small task of the given character, in NumPy; its padding holds NaN."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, ROWS, FEATURES))
    x[..., -1] = 0.0
    y = x @ rng.normal(size=(FEATURES, num_classes or 1))
    y += 0.5 * rng.normal(size=y.shape)
    # Of four classes, as of twenty, three are seen.
    y = y[..., 0] if num_classes is None else np.argmax(y[..., :3], axis=-1)
    mask = np.broadcast_to(np.arange(ROWS) < ROWS - 4, (2, ROWS)).copy()
    if which == "empty class":
        y[0] = np.minimum(y[0], 1)
    elif which == "one class":
        y[0] = y[0, 0]
    elif which == "one row":
        mask[0, 1:] = False
    elif which == "constant column":
        x[:, :, 0], x[:, :, 1] = 0.0, 3.0
    mask[0] &= which not in ("no support", "nothing")
    mask[1] &= which not in ("no query", "nothing")
    fill = 7.0 if which == "other padding" else np.nan
    x[~mask] = fill
    y[~mask] = 99 if num_classes else fill
    parts = [
        Examples(x=a, y=b, mask=m)
        for a, b, m in zip(x, y if num_classes is None else y.astype(np.int32), mask)
    ]
    return Task(support=parts[0], query=parts[1], description=np.zeros(1))


def value_and_grad(name, num_classes, how="unrolled"):
    learner = learners.get(name, num_classes)
    if learner.through is not None:
        learner = learner.through(EXACT[how])

    def loss(unit, task):
        weights = learner.fit(KEY, learner.space.decode(unit), task.support)
        return query_loss(learner, weights, task)

    return jax.value_and_grad(loss)


@functools.cache
def single(name, num_classes, how="unrolled"):
    return jax.jit(value_and_grad(name, num_classes, how))


def points(space):
    """The defaults; and elsewhere, with the other kernel."""
    default = np.asarray(space.default(), float)
    return [default, np.where(default < 0.5, 0.37 + 0.5 * default, 0.5 * default)]


def five_points(value, unit, place, step):
    """The slope along one setting, up to the fourth power of the step."""
    side = np.eye(len(unit))[place] * step
    told = [float(value(jnp.asarray(unit + side * k))) for k in (-2, -1, 1, 2)]
    return np.dot([1, -8, 8, -1], told) / (12 * step)


def check_differences(program, space, task, step=1e-3):
    for unit in points(space):
        _, gradient = program(jnp.asarray(unit), task)
        for place, (name, hyper) in enumerate(space.hypers.items()):
            if not hyper.integer:
                slope = five_points(lambda u: program(u, task)[0], unit, place, step)
                assert abs(slope) > 1e-3, f"{name} has no effect that could be seen"
                np.testing.assert_allclose(
                    gradient[place], slope, rtol=1e-8, err_msg=name
                )


def test_every_learner_is_in_these_tests():
    registered = {
        name for kind in ("classes", "number") for name in learners.names(kind)
    }
    assert {name for name, _ in SOLVED + TRAINED} | WITHOUT == registered


@pytest.mark.parametrize(("name", "num_classes"), SOLVED + TRAINED)
def test_gradients_are_finite_differences(name, num_classes):
    with jax.enable_x64(True):
        check_differences(
            single(name, num_classes),
            learners.get(name, num_classes).space,
            task("plain", num_classes),
            # Training bends its loss more than a solution does.
            step=3e-5 if (name, num_classes) in TRAINED else 4e-4,
        )


@pytest.mark.parametrize(
    ("name", "num_classes"),
    [("gaussian_process", 4), ("gaussian_process_regressor", None)],
)
def test_gradients_with_inducing_rows_are_finite_differences(
    name, num_classes, monkeypatch
):
    monkeypatch.setattr(gaussian_process, "_EXACT", 8)
    with jax.enable_x64(True):
        check_differences(
            jax.jit(value_and_grad(name, num_classes)),
            learners.get(name, num_classes).space,
            task("plain", num_classes),
        )


@pytest.mark.parametrize("how", list(EXACT)[1:])
@pytest.mark.parametrize(("name", "num_classes"), TRAINED)
def test_exact_adjoints_agree(name, num_classes, how):
    with jax.enable_x64(True):
        space = learners.get(name, num_classes).space
        for unit in points(space):
            arguments = jnp.asarray(unit), task("plain", num_classes)
            value, gradient = single(name, num_classes, how)(*arguments)
            wanted_value, wanted = single(name, num_classes)(*arguments)
            np.testing.assert_allclose(value, wanted_value, rtol=1e-10)
            np.testing.assert_allclose(gradient, wanted, rtol=1e-10)


def test_learners_without_a_gradient_have_a_zero_one():
    with jax.enable_x64(True):
        space = learners.get("knn_regressor").space
        _, gradient = single("knn_regressor", None)(
            space.default(), task("plain", None)
        )
        np.testing.assert_array_equal(gradient, 0.0)


def test_implicit_is_refused_where_no_setting_enters_the_loss():
    learner = learners.get("mlp_regressor").through(adjoints.implicit())
    settings = learner.space.decode(learner.space.default())
    with pytest.raises(ValueError, match="implicit: no setting enters the inner loss"):
        jax.eval_shape(learner.fit, KEY, settings, task("plain", None).support)


@pytest.mark.parametrize(("name", "num_classes"), SOLVED + TRAINED[1:])
def test_no_task_makes_a_gradient_nan(name, num_classes):
    # In float32, where overflow is near.
    tasks = stack([task(which, num_classes) for which in HARD])
    default = learners.get(name, num_classes).space.default()
    units = jnp.stack([default, jnp.zeros_like(default), jnp.ones_like(default)])
    one = value_and_grad(name, num_classes)
    batch = jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))
    values, gradients = jax.jit(batch)(units, tasks)
    for place, which in enumerate(HARD):
        assert np.all(np.isfinite(values[:, place])), which
        assert np.all(np.isfinite(gradients[:, place])), which
    for which in ("no query", "nothing"):
        np.testing.assert_array_equal(values[:, HARD.index(which)], 0.0)
        np.testing.assert_array_equal(gradients[:, HARD.index(which)], 0.0)
    other = HARD.index("other padding")
    np.testing.assert_array_equal(values[:, 0], values[:, other])
    np.testing.assert_array_equal(gradients[:, 0], gradients[:, other])
    if (name, num_classes) in TRAINED:
        return  # Their initial weights are drawn otherwise in float64.
    with jax.enable_x64(True):
        value, gradient = single(name, num_classes)(
            jnp.asarray(default, float), task("plain", num_classes)
        )
    np.testing.assert_allclose(values[0, 0], value, rtol=1e-4)
    np.testing.assert_allclose(gradients[0, 0], gradient, rtol=2e-3, atol=1e-4)
