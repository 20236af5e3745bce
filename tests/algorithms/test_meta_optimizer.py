import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import KEY, noisy_lines, start

from jmeta import adjoints
from jmeta.algorithms import meta_optimizer
from jmeta.base import Learner, Network
from jmeta.learners.ridge import ridge
from jmeta.networks import MetaOptimizer, default_units, from_linen
from jmeta.spaces import Space, real
from jmeta.tasks import Examples, Task


def constant(unit, name="ridge") -> Network:
    """A network that is its own output."""
    return Network(
        init=lambda key, x: {"unit": jnp.asarray(unit, x.dtype)},
        apply=lambda params, x: {name: params["unit"]},
    )


def one_feature() -> tuple[Task, float]:
    """A task whose ridge solution is a fraction: support (-1, -1), (1, 3)."""
    task = Task(
        support=Examples(
            x=jnp.array([[[-1.0], [1.0]]], float),
            y=jnp.array([[-1.0, 3.0]], float),
            mask=jnp.ones((1, 2), bool),
        ),
        query=Examples(
            x=jnp.array([[[2.0], [0.0]]], float),
            y=jnp.array([[3.0, 0.0]], float),
            mask=jnp.array([[True, False]]),
        ),
        description=jnp.zeros((1, 1), float),
    )
    return task, ridge().space.encode({"penalty": 2.0})


def test_the_meta_gradient_is_the_closed_form():
    # Mean 1, slope Sxy / (Sxx + p) = 4 / (2 + 2) = 1, query 1 + 2 - 3 = 0 ... so that
    # the gradient shows, the query is 2: error 1, over the variance 4 of the support.
    # dL/dp = 2 error 2 dw/dp / 4 with dw/dp = -4 / (2 + p)^2 = -1/4: -1/4.
    # dp/dunit = p ln(1e4 / 1e-3), so dL/dunit = -1/4 * 2 * 7 ln 10.
    task, unit = one_feature()
    task = task._replace(query=task.query._replace(y=jnp.array([[2.0, 0.0]])))
    algorithm = meta_optimizer(
        constant(unit), [ridge()], optax.sgd(1.0), max_task_norm=jnp.inf
    )
    state, info = jax.jit(algorithm.step)(KEY, start(algorithm)(KEY, task), task)
    np.testing.assert_allclose(info.loss, 0.25, rtol=1e-5)
    np.testing.assert_allclose(info.grad_norm, 3.5 * np.log(10), rtol=1e-4)
    np.testing.assert_allclose(
        state.params["network"]["unit"], np.asarray(unit) + 3.5 * np.log(10), rtol=1e-4
    )


def test_the_update_is_finite_differences_through_the_fit():
    with jax.enable_x64(True):
        tasks = jax.tree.map(
            lambda leaf: leaf.astype(float) if leaf.dtype == jnp.float32 else leaf,
            noisy_lines(KEY, 3),
        )
        network = Network(
            init=lambda key, x: {"w": jnp.array([0.2, -0.1, 0.4]), "b": jnp.zeros(1)},
            apply=lambda p, x: {"ridge": jax.nn.sigmoid(x @ p["w"] + p["b"])},
        )
        algorithm = meta_optimizer(
            network, [ridge()], optax.sgd(1.0), max_task_norm=jnp.inf
        )
        state = start(algorithm)(KEY, tasks)
        step = jax.jit(algorithm.step)
        after, info = step(KEY, state, tasks)
        assert info.loss.dtype == jnp.float64

        def loss(place, change):
            moved = state.params["network"]["w"].at[place].add(change)
            network = {**state.params["network"], "w": moved}
            params = {**state.params, "network": network}
            return step(KEY, state._replace(params=params), tasks)[1].loss

        for place in range(3):
            slope = (loss(place, 1e-5) - loss(place, -1e-5)) / 2e-5
            given = state.params["network"]["w"] - after.params["network"]["w"]
            np.testing.assert_allclose(given[place], slope, rtol=1e-6)


def test_a_network_moves_from_where_a_start_is_known():
    tasks = noisy_lines(KEY, 4)
    network = from_linen(MetaOptimizer(defaults={"ridge": (0.5,)}, width=8))
    algorithm = meta_optimizer(
        network,
        [ridge()],
        optax.sgd(1.0),
        # Of the description as it is, not standardised; and of no learner here.
        start=lambda told: {"ridge": told[:1] / 100.0, "absent": told},
    )
    state = start(algorithm)(KEY, tasks)
    told = jnp.array([30.0, 0.0, 0.0])
    np.testing.assert_allclose(algorithm.predict(state.params, told)["ridge"], 0.3)
    ends = algorithm.predict(state.params, told.at[0].set(0.0))["ridge"]
    assert 0.0 < ends < 0.05
    moved, _ = jax.jit(algorithm.step)(KEY, state, tasks)
    assert algorithm.predict(moved.params, told)["ridge"] != 0.3


def test_micro_batches_give_the_whole_batch():
    tasks = noisy_lines(KEY, 4)
    network = from_linen(MetaOptimizer(defaults=default_units([ridge()]), width=8))

    def stepped(micro_batch):
        algorithm = meta_optimizer(
            network, [ridge()], optax.sgd(1.0), micro_batch=micro_batch
        )
        return jax.jit(algorithm.step)(KEY, start(algorithm)(KEY, tasks), tasks)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        stepped(None),
        stepped(2),
    )
    with pytest.raises(ValueError, match="micro_batch=3 does not divide the 4 tasks"):
        stepped(3)


def test_noisy_tasks_learn_larger_penalties():
    tasks = noisy_lines(KEY, 64)
    network = from_linen(MetaOptimizer(defaults=default_units([ridge()]), width=16))
    algorithm = meta_optimizer(network, [ridge()], optax.adam(1e-2))
    state = start(algorithm)(KEY, tasks)

    def body(state, step):
        return algorithm.step(jax.random.fold_in(KEY, step), state, tasks)

    state, info = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(150)))(state)
    assert info.loss[-1] < 0.8 * info.loss[0]
    quiet, noisy = (
        algorithm.predict(state.params, jnp.array([level, 0.0, 0.0]))["ridge"][0]
        for level in (-1.5, 1.5)
    )
    # The whole interval is a factor of 1e7, so 0.2 of it is a factor of 25.
    assert noisy > quiet + 0.2


def diverging() -> Learner:
    """A learner whose fit is not finite where the support's first target is 99."""

    def fit(key, settings, support):
        return settings["level"] / jnp.where(support.y[0] == 99.0, 0.0, 1.0)

    return Learner(
        name="ridge",
        kind="number",
        space=Space(level=real(0.0, 1.0, default=0.5)),
        fit=fit,
        predict=lambda weights, x: jnp.broadcast_to(weights, x.shape[:1]),
    )


def test_a_task_that_diverges_is_counted_and_left_out():
    tasks = noisy_lines(KEY, 2)
    bad = jax.tree.map(lambda leaf: leaf[:1], tasks)
    bad = bad._replace(support=bad.support._replace(y=bad.support.y.at[0, 0].set(99.0)))
    good = jax.tree.map(lambda leaf: leaf[1:], tasks)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), bad, good)
    algorithm = meta_optimizer(constant([0.5]), [diverging()], optax.sgd(1.0))
    state = start(algorithm)(KEY, both)
    alone, wanted = jax.jit(algorithm.step)(KEY, state, good)
    together, info = jax.jit(algorithm.step)(KEY, state, both)
    assert (wanted.num_diverged, info.num_diverged) == (0, 1)
    np.testing.assert_allclose(info.loss, wanted.loss, rtol=1e-6)
    np.testing.assert_allclose(
        together.params["network"]["unit"], alone.params["network"]["unit"], rtol=1e-6
    )
    _, info = jax.jit(algorithm.step)(KEY, state, bad)
    assert info.num_diverged == 1 and info.loss == 0 and info.grad_norm == 0


def test_a_zero_gradient_survives_clipping():
    # The prediction does not depend on the setting, so its gradient is exactly zero.
    flat = diverging()._replace(fit=lambda key, settings, support: jnp.zeros(()))
    tasks = noisy_lines(KEY, 2)
    algorithm = meta_optimizer(constant([0.5]), [flat], optax.sgd(1.0))
    state, info = jax.jit(algorithm.step)(KEY, start(algorithm)(KEY, tasks), tasks)
    assert info.grad_norm == 0 and info.num_diverged == 0
    np.testing.assert_array_equal(state.params["network"]["unit"], [0.5])


def test_one_task_cannot_outweigh_the_rest():
    task, unit = one_feature()
    task = task._replace(query=task.query._replace(y=jnp.array([[1e3, 0.0]])))
    algorithm = meta_optimizer(
        constant(unit), [ridge()], optax.sgd(1.0), max_task_norm=0.5
    )
    _, info = jax.jit(algorithm.step)(KEY, start(algorithm)(KEY, task), task)
    np.testing.assert_allclose(info.grad_norm, 0.5, rtol=1e-5)


def test_learners_of_two_kinds_or_one_name_are_refused():
    other = diverging()._replace(name="other", kind="classes")
    for learners in ([ridge(), ridge()], [ridge(), other], []):
        with pytest.raises(ValueError, match="meta_optimizer: needs learners of one"):
            meta_optimizer(constant([0.5]), learners, optax.sgd(1.0))


def test_each_learner_may_have_its_own_adjoint():
    # One learner's loss is a step, which only evolution sees a slope in.
    flat = diverging()._replace(
        name="steps", fit=lambda key, settings, support: jnp.round(settings["level"])
    )
    tasks = noisy_lines(KEY, 4)
    network = Network(
        init=lambda key, x: {"ridge": jnp.array([0.5]), "steps": jnp.array([0.5])},
        apply=lambda params, x: params,
    )

    def moved(adjoint):
        algorithm = meta_optimizer(
            network, [ridge(), flat], optax.sgd(1.0), adjoint=adjoint
        )
        state = start(algorithm)(KEY, tasks)
        state, _ = jax.jit(algorithm.step)(KEY, state, tasks)
        return state.params["network"]

    plain, mixed = moved(None), moved({"steps": adjoints.evolution(sigma=0.5)})
    np.testing.assert_array_equal(plain["ridge"], mixed["ridge"])
    assert plain["steps"] == 0.5 and mixed["steps"] != 0.5
    with pytest.raises(ValueError, match=r"adjoint names no learner \['forest'\]"):
        moved({"forest": adjoints.evolution()})


def test_what_diverged_is_told_by_learner():
    tasks = noisy_lines(KEY, 2)
    bad = tasks.support.y.at[0, 0].set(99.0)
    tasks = tasks._replace(support=tasks.support._replace(y=bad))
    other = diverging()._replace(name="other")
    network = Network(
        init=lambda key, x: {"ridge": jnp.array([0.5]), "other": jnp.array([0.5])},
        apply=lambda params, x: params,
    )
    algorithm = meta_optimizer(network, [ridge(), other], optax.sgd(1.0))
    _, info = jax.jit(algorithm.step)(KEY, start(algorithm)(KEY, tasks), tasks)
    assert info.diverged == {"ridge": 0, "other": 1} and info.num_diverged == 1
