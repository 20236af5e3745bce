"""Learners trained by steps: what may be learnt, and what never makes a NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jmeta import adjoints
from jmeta.algorithms import query_loss
from jmeta.inner_steps import clip_by_global_norm
from jmeta.learners.trained import class_loss, number_loss, trained
from jmeta.spaces import Space
from jmeta.tasks import Examples, Task, stack

KEY = jax.random.key(0)
ROWS, FEATURES, HIDDEN, CLASSES, STEPS = 16, 3, 4, 3, 5
ADJOINTS = {
    "unrolled": adjoints.unrolled(),
    "checkpointed": adjoints.checkpointed(),
    "forward_over_reverse": adjoints.forward_over_reverse(),
    "truncated": adjoints.truncated(2),
    "first_order": adjoints.first_order(),
    "implicit": adjoints.implicit(adjoints.neumann(5, 0.1)),
    "evolution": adjoints.evolution(num_pairs=1),
}
HARD = (
    "plain",
    "other padding",
    "empty class",
    "constant column",
    "no support",
    "no query",
    "nothing",
)


def network(activation, weights, x):
    hidden = activation(x @ weights["a"]["w"] + weights["a"]["b"])
    return hidden @ weights["z"]["w"] + weights["z"]["b"]


smooth = functools.partial(network, jnp.tanh)


def begin(key, settings, x, num_outputs=CLASSES):
    del settings
    first, last = jax.random.split(key)
    return {
        "a": {
            "w": jax.random.normal(first, (FEATURES, HIDDEN), x.dtype),
            "b": jnp.zeros(HIDDEN, x.dtype),
        },
        "z": {
            "w": jax.random.normal(last, (HIDDEN, num_outputs), x.dtype),
            "b": jnp.zeros(num_outputs, x.dtype),
        },
    }


def task(which="plain", *, classes=True) -> Task:
    """A small task in NumPy; its padding holds NaN."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, ROWS, FEATURES))
    y = np.argmax(x @ rng.normal(size=(FEATURES, CLASSES)), axis=-1)
    mask = np.broadcast_to(np.arange(ROWS) < ROWS - 3, (2, ROWS)).copy()
    if which == "empty class":
        y[0] = np.minimum(y[0], 1)
    elif which == "constant column":
        x[:, :, 0], x[:, :, 1] = 0.0, 3.0
    mask[0] &= which not in ("no support", "nothing")
    mask[1] &= which not in ("no query", "nothing")
    y = y.astype(np.int32 if classes else float)
    x[~mask] = fill = 7.0 if which == "other padding" else np.nan
    y[~mask] = 99 if classes else fill
    support, query = (
        Examples(x=x[i], y=y[i] if classes else y[i] + x[i, :, 0], mask=mask[i])
        for i in range(2)
    )
    return Task(support=support, query=query, description=np.zeros(1))


def plain_loss(settings, weights, support, key):
    del settings, key
    return class_loss(smooth(weights, support.x), support)


def sgd(settings):
    del settings
    return optax.sgd(0.3)


def penalised(settings, weights, support, key):
    squares = jax.tree.map(lambda leaf: jnp.sum(leaf**2), weights)
    penalty = (
        settings["first"] * squares["a"]["w"] + settings["last"] * squares["z"]["w"]
    )
    return plain_loss(settings, weights, support, key) + penalty


def smoothed(settings, weights, support, key):
    smoothing = settings["smoothing"]
    return class_loss(smooth(weights, support.x), support, label_smoothing=smoothing)


def weighted(settings, weights, support, key):
    return class_loss(
        smooth(weights, support.x), support, class_weights=settings["classes"]
    )


def augmented(settings, weights, support, key):
    noise = jax.random.normal(key, support.x.shape, support.x.dtype)
    x = support.x + settings["strength"] * noise
    return class_loss(smooth(weights, x), support)


def dropped(settings, weights, support, key):
    """Gaussian dropout, whose strength is the deviation of a factor about one."""
    hidden = jnp.tanh(support.x @ weights["a"]["w"] + weights["a"]["b"])
    hidden *= 1.0 + settings["rate"] * jax.random.normal(
        key, hidden.shape, hidden.dtype
    )
    return class_loss(hidden @ weights["z"]["w"] + weights["z"]["b"], support)


def scaled(settings, weights, support, key):
    """A Gaussian kernel of learnt scales about the centres of the first layer."""
    away = (support.x[:, :, None] - weights["a"]["w"]) / settings["scales"][:, None]
    hidden = jnp.exp(-0.5 * jnp.sum(away**2, axis=1))
    return class_loss(hidden @ weights["z"]["w"] + weights["z"]["b"], support)


def from_start(key, settings, x):
    drawn = begin(key, settings, x)
    return {**drawn, "z": {"w": settings["w"], "b": settings["b"]}}


def by_layer(settings):
    rates = {name: optax.sgd(settings[name]) for name in ("a", "z")}
    return optax.partition(rates, {"a": "a", "z": "z"})


def injected(settings):
    return optax.inject_hyperparams(optax.adamw)(
        learning_rate=settings["rate"],
        b1=settings["b1"],
        weight_decay=settings["decay"],
        eps_root=1e-10,
    )


LEARNT = {
    "rate of every step": (
        {"rates": np.linspace(0.1, 0.5, STEPS)},
        {"optimizer": lambda s: optax.sgd(lambda count: s["rates"][count])},
    ),
    "rate of every layer": ({"a": 0.2, "z": 0.4}, {"optimizer": by_layer}),
    "momentum": (
        {"rate": 0.2, "momentum": 0.7},
        {"optimizer": lambda s: optax.sgd(s["rate"], momentum=s["momentum"])},
    ),
    "weight decay": (
        {"rate": 0.05, "decay": 0.3},
        {
            "optimizer": lambda s: optax.adamw(
                s["rate"], weight_decay=s["decay"], eps_root=1e-10
            )
        },
    ),
    "clipping": (
        {"most": 0.3},
        {
            "optimizer": lambda s: optax.chain(
                clip_by_global_norm(s["most"]), optax.sgd(0.5)
            )
        },
    ),
    "injected": ({"rate": 0.05, "b1": 0.8, "decay": 0.2}, {"optimizer": injected}),
    "penalties": ({"first": 0.1, "last": 0.02}, {"loss": penalised}),
    "kernel scales": ({"scales": np.array([0.7, 1.0, 1.4])}, {"loss": scaled}),
    "label smoothing": ({"smoothing": 0.1}, {"loss": smoothed}),
    "dropout": ({"rate": 0.3}, {"loss": dropped}),
    "augmentation": ({"strength": 0.4}, {"loss": augmented}),
    "initial weights": (
        {"w": np.linspace(-1.0, 1.0, HIDDEN * CLASSES).reshape(HIDDEN, CLASSES)}
        | {"b": np.array([0.1, -0.2, 0.3])},
        {"init": from_start},
    ),
    "class weights": ({"classes": np.array([0.5, 1.0, 2.0])}, {"loss": weighted}),
}


def judged(adjoint, *, init=begin, optimizer=sgd, loss=plain_loss, **changes):
    """`(settings, task, key) -> (value, gradient)` through a learner made for it."""
    arguments = {"apply": smooth, "kind": "classes", "space": Space()} | changes
    learner = trained(
        "mine", init=init, optimizer=optimizer, loss=loss, num_steps=STEPS, **arguments
    ).through(adjoint)

    def told(settings, task):
        def value(settings):
            weights = learner.fit(KEY, settings, task.support)
            return query_loss(learner, weights, task)

        return adjoint.value_and_grad(value, settings, KEY)

    return told


@pytest.mark.parametrize("what", LEARNT)
def test_what_may_be_learnt_has_the_gradient_of_finite_differences(what):
    settings, changes = LEARNT[what]
    with jax.enable_x64(True):
        settings = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), settings)
        ways = [
            judged(ADJOINTS[how], **changes)
            for how in ("checkpointed", "forward_over_reverse")
        ]
        program = jax.jit(lambda *arguments: [way(*arguments) for way in ways])
        (_, gradient), (_, other) = program(settings, task())
        gradient, other = ravel_pytree(gradient)[0], ravel_pytree(other)[0]
        np.testing.assert_allclose(gradient, other, rtol=1e-10, atol=1e-15)
        flat, unravel = ravel_pytree(settings)
        assert np.max(np.abs(gradient)) > 1e-3
        for place in range(flat.size):
            side = jnp.zeros_like(flat).at[place].set(2e-4)
            values = [
                program(unravel(flat + k * side), task())[0][0] for k in (-2, -1, 1, 2)
            ]
            slope = np.dot([1, -8, 8, -1], values) / (12 * 2e-4)
            np.testing.assert_allclose(gradient[place], slope, rtol=1e-8, atol=1e-11)


def dead_start(settings, x, num_outputs):
    """Half of the units never fire."""
    weights = begin(KEY, settings, x, num_outputs)
    dead = jnp.where(jnp.arange(HIDDEN) < 2, -100.0, 0.0)
    return {**weights, "a": {**weights["a"], "b": dead.astype(x.dtype)}}


def relu_case(how, classes):
    """A network of rectified units, two of which are dead, and all its settings."""
    outputs = CLASSES if classes else 1
    apply = functools.partial(network, jax.nn.relu)

    def loss(settings, weights, support, key):
        told = apply(weights, support.x)
        squares = jnp.sum(weights["a"]["w"] ** 2) + jnp.sum(weights["z"]["w"] ** 2)
        squares += jnp.sum(weights["a"]["b"] ** 2) + jnp.sum(weights["z"]["b"] ** 2)
        penalty = settings["penalty"] * squares
        if classes:
            smoothing = settings["smoothing"]
            return class_loss(told, support, label_smoothing=smoothing) + penalty
        return number_loss(told, support) + penalty

    return judged(
        ADJOINTS[how],
        apply=apply,
        kind="classes" if classes else "number",
        init=lambda key, settings, x: dead_start(settings, x, outputs),
        loss=loss,
        optimizer=lambda s: (
            optax.chain(clip_by_global_norm(1.0), optax.sgd(s["rate"]))
            if classes
            else optax.adamw(s["rate"], eps_root=1e-16)
        ),
    )


@pytest.mark.parametrize(
    ("how", "classes"),
    [
        *((how, True) for how in ADJOINTS),
        *((how, False) for how in ("checkpointed", "forward_over_reverse")),
    ],
)
def test_neither_dead_units_nor_empty_tasks_make_a_nan(how, classes):
    with jax.enable_x64(True):
        settings = {"rate": 0.05, "penalty": 0.01, "smoothing": 0.1}
        settings = {name: jnp.asarray(value) for name, value in settings.items()}
        told = relu_case(how, classes)
        tasks = stack([task(which, classes=classes) for which in HARD])
        values, gradients = jax.jit(jax.vmap(told, in_axes=(None, 0)))(settings, tasks)
        gradients = np.stack(list(gradients.values()), axis=-1)
        for place, which in enumerate(HARD):
            assert np.isfinite(values[place]), which
            assert np.all(np.isfinite(gradients[place])), which
        np.testing.assert_allclose(values[0], values[1], rtol=1e-12)
        np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-10, atol=1e-15)
        for which in ("no query", "nothing"):
            np.testing.assert_array_equal(gradients[HARD.index(which)], 0.0)


def test_an_optimizer_without_a_derivative_is_refused_by_the_learner_s_name():
    told = judged(adjoints.unrolled(), optimizer=lambda s: optax.adam(s["rate"]))
    with pytest.raises(ValueError, match=r"mine: the optimizer's step .* eps_root"):
        jax.eval_shape(told, {"rate": jnp.asarray(0.1)}, task())


@pytest.mark.parametrize("how", ["implicit", "evolution"])
def test_any_optimizer_will_do_where_its_steps_are_not_crossed(how):
    told = judged(
        ADJOINTS[how], loss=smoothed, optimizer=lambda settings: optax.adam(0.1)
    )
    _, gradient = jax.jit(told)({"smoothing": jnp.asarray(0.1)}, task())
    assert all(np.isfinite(leaf) for leaf in gradient.values())


def test_the_loss_of_classes_is_the_cross_entropy_of_those_present():
    # Softmax of (0, ln 3) is (1/4, 3/4); the class that is absent takes no part.
    outputs = jnp.array([[0.0, np.log(3.0), 9.0]] * 2)
    support = Examples(x=jnp.zeros((2, 1)), y=jnp.array([0, 1]), mask=jnp.ones(2, bool))
    plain = class_loss(outputs, support)
    np.testing.assert_allclose(plain, (np.log(4) + np.log(4 / 3)) / 2, rtol=1e-6)
    even = class_loss(outputs, support, label_smoothing=1.0)
    np.testing.assert_allclose(even, (np.log(4) + np.log(4 / 3)) / 2, rtol=1e-6)
    first = class_loss(outputs, support, class_weights=jnp.array([3.0, 1.0, 5.0]))
    np.testing.assert_allclose(first, (3 * np.log(4) + np.log(4 / 3)) / 4, rtol=1e-6)


def test_a_number_is_learnt_about_the_mean_of_the_support():
    learner = trained(
        "mine",
        lambda weights, x: jnp.zeros((len(x), 1)) + weights,
        lambda key, settings, x: jnp.zeros(()),
        lambda settings: optax.sgd(0.5),
        kind="number",
        space=Space(),
        num_steps=2,
    )
    support = Examples(
        x=jnp.zeros((3, 1)), y=jnp.array([1.0, 3.0, 99.0]), mask=jnp.arange(3) < 2
    )
    weights = learner.fit(KEY, {}, support)
    np.testing.assert_allclose(learner.predict(weights, support.x), 2.0, rtol=1e-6)


def test_no_step_at_all_is_refused():
    with pytest.raises(ValueError, match="mine: num_steps must be at least 1, got 0"):
        trained("mine", smooth, begin, sgd, kind="classes", space=Space(), num_steps=0)
