"""How a gradient crosses training: exact ways agree, others do what they say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jmeta.adjoints import (
    Inner,
    cg,
    checkpointed,
    evolution,
    first_order,
    forward_over_reverse,
    implicit,
    neumann,
    truncated,
    unrolled,
)

KEY = jax.random.key(0)
EXACT = {
    "checkpointed": checkpointed(),
    "forward_over_reverse": forward_over_reverse(),
    "truncated": truncated(16),
}
ALL = EXACT | {
    "unrolled": unrolled(),
    "first_order": first_order(),
    "implicit": implicit(),
    "evolution": evolution(sigma=0.01, num_pairs=2),
}


def fitted_lines(settings, weights, data, key):
    """A penalised logistic loss, its features disturbed by draws of the step."""
    x, y = data
    x = x + settings["noise"] * jax.random.normal(key, x.shape, x.dtype)
    losses = jax.nn.softplus(-y * (x @ weights["w"] + weights["b"]))
    return jnp.mean(losses) + 0.5 * settings["penalty"] * jnp.sum(weights["w"] ** 2)


def momentum(settings):
    return optax.sgd(settings["rate"], momentum=settings["momentum"])


def start():
    """What is learnt: the settings of loss and optimizer, and the initial weights."""
    return {
        "settings": {
            "noise": jnp.asarray(0.3, float),
            "penalty": jnp.asarray(0.1, float),
            "rate": jnp.asarray(0.4, float),
            "momentum": jnp.asarray(0.6, float),
        },
        "weights": {
            "w": jnp.asarray([0.5, -0.2, 0.1], float),
            "b": jnp.asarray(0.3, float),
        },
    }


def tables(count=3):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(count, 20, 3))
    y = np.sign(x @ rng.normal(size=(3,)) + rng.normal(size=(count, 20)))
    return jnp.asarray(x, float), jnp.asarray(y, float)


def first_table():
    return jax.tree.map(lambda leaf: leaf[0], tables())


def outer(how, num_steps, *, loss=fitted_lines, optimizer=momentum):
    """The loss, on data that training did not see, of what training gives."""
    inner = Inner(loss=loss, optimizer=optimizer, num_steps=num_steps)

    def value(learnt, data):
        seen, unseen = (jax.tree.map(lambda a, s=s: a[s::2], data) for s in (0, 1))
        weights = how.train(inner, learnt["settings"], learnt["weights"], seen, KEY)
        x, y = unseen
        return jnp.mean(jax.nn.softplus(-y * (x @ weights["w"] + weights["b"])))

    def told(learnt, data):
        return how.value_and_grad(lambda learnt: value(learnt, data), learnt, KEY)

    return told


@functools.cache
def compiled(name, num_steps):
    return jax.jit(outer(ALL[name], num_steps))


def assert_close(told, wanted, rtol, atol=0.0):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        told,
        wanted,
    )


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 5, 16])
def test_exact_gradients_agree(name, num_steps):
    with jax.enable_x64(True):
        learnt, data = start(), first_table()
        told = compiled(name, num_steps)(learnt, data)
        wanted = compiled("unrolled", num_steps)(learnt, data)
        assert_close(told, wanted, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("num_steps", [1, 16])
def test_exact_gradients_are_finite_differences(num_steps):
    with jax.enable_x64(True):
        learnt, data = start(), first_table()
        program = compiled("unrolled", num_steps)
        gradient, _ = ravel_pytree(program(learnt, data)[1])
        flat, unravel = ravel_pytree(learnt)
        for place in range(flat.size):
            side = jnp.zeros_like(flat).at[place].set(5e-4)
            values = [
                program(unravel(flat + k * side), data)[0] for k in (-2, -1, 1, 2)
            ]
            slope = np.dot([1, -8, 8, -1], values) / (12 * 5e-4)
            # The first step has no momentum yet.
            np.testing.assert_allclose(gradient[place], slope, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_of_trainings_gives_what_each_gives_alone(name):
    with jax.enable_x64(True):
        learnt, data = start(), tables()
        together = jax.jit(jax.vmap(outer(ALL[name], 5), in_axes=(None, 0)))
        told = together(learnt, data)
        for place in range(len(data[0])):
            alone = jax.tree.map(lambda leaf, p=place: leaf[p], data)
            wanted = compiled(name, 5)(learnt, alone)
            assert_close(
                jax.tree.map(lambda leaf, p=place: leaf[p], told),
                wanted,
                rtol=1e-9,
                atol=1e-14,
            )


def step_by_hand(settings, weights, trace, data, number):
    key = jax.random.fold_in(KEY, number)
    grads = jax.grad(fitted_lines, argnums=1)(settings, weights, data, key)
    trace = jax.tree.map(lambda g, t: g + settings["momentum"] * t, grads, trace)
    moved = jax.tree.map(lambda w, t: w - settings["rate"] * t, weights, trace)
    return moved, trace


@pytest.mark.parametrize("num_kept", [1, 3])
def test_truncation_is_a_stopped_gradient_before_the_last_steps(num_kept):
    num_steps = 5
    with jax.enable_x64(True):

        def by_hand(learnt, data):
            seen, (x, y) = (jax.tree.map(lambda a, s=s: a[s::2], data) for s in (0, 1))
            settings, weights = learnt["settings"], learnt["weights"]
            trace = jax.tree.map(jnp.zeros_like, weights)
            for number in range(num_steps):
                if number == num_steps - num_kept:
                    weights, trace = jax.lax.stop_gradient((weights, trace))
                weights, trace = step_by_hand(settings, weights, trace, seen, number)
            return jnp.mean(jax.nn.softplus(-y * (x @ weights["w"] + weights["b"])))

        learnt, data = start(), first_table()
        wanted = jax.jit(jax.value_and_grad(by_hand))(learnt, data)
        told = jax.jit(outer(truncated(num_kept), num_steps))(learnt, data)
        assert_close(told, wanted, rtol=1e-10)
        np.testing.assert_array_equal(told[1]["weights"]["w"], 0.0)


def test_first_order_gradients_are_those_at_the_trained_weights():
    with jax.enable_x64(True):
        learnt, data = start(), first_table()

        def plain(settings):
            return optax.sgd(settings["rate"])

        value, gradient = jax.jit(outer(first_order(), 5, optimizer=plain))(
            learnt, data
        )
        seen, (x, y) = (jax.tree.map(lambda a, s=s: a[s::2], data) for s in (0, 1))
        settings, weights = learnt["settings"], learnt["weights"]
        total = jax.tree.map(jnp.zeros_like, weights)
        for number in range(5):
            key = jax.random.fold_in(KEY, number)
            grads = jax.grad(fitted_lines, argnums=1)(settings, weights, seen, key)
            weights = jax.tree.map(lambda w, g: w - 0.4 * g, weights, grads)
            total = jax.tree.map(jnp.add, total, grads)

        def judged(weights):
            return jnp.mean(jax.nn.softplus(-y * (x @ weights["w"] + weights["b"])))

        wanted_value, wanted = jax.value_and_grad(judged)(weights)
        np.testing.assert_allclose(value, wanted_value, rtol=1e-12)
        assert_close(gradient["weights"], wanted, rtol=1e-10)
        # w_5 = w_0 - rate * sum of gradients.
        rate = -sum(
            jnp.sum(a * b)
            for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(total))
        )
        np.testing.assert_allclose(gradient["settings"]["rate"], rate, rtol=1e-10)


def quiet(settings, weights, data, key):
    """The same problem at every step, strongly convex."""
    penalised = 0.5 * settings["penalty"] * jnp.square(weights["b"])
    return fitted_lines({**settings, "noise": 0.0}, weights, data, key) + penalised


@pytest.mark.parametrize(
    "solver", [None, cg(), neumann(2000, 1.0)], ids=["default", "cg", "neumann"]
)
def test_implicit_gradients_are_the_limit_of_unrolled_ones(solver):
    with jax.enable_x64(True):
        learnt, data = start(), first_table()
        _, limit = jax.jit(outer(unrolled(), 400, loss=quiet))(learnt, data)
        _, told = jax.jit(outer(implicit(solver), 400, loss=quiet))(learnt, data)
        np.testing.assert_allclose(
            told["settings"]["penalty"], limit["settings"]["penalty"], rtol=1e-9
        )
        # What does not move the optimum.
        for name in ("rate", "momentum", "noise"):
            assert told["settings"][name] == 0.0
            np.testing.assert_allclose(limit["settings"][name], 0.0, atol=1e-9)
        assert_close(told["weights"], jax.tree.map(jnp.zeros_like, told["weights"]), 0)


def test_implicit_gradients_pass_by_weights_that_no_setting_touches():
    def free(settings, weights, data, key):
        return fitted_lines({**settings, "noise": 0.0}, weights, data, key)

    with jax.enable_x64(True):
        learnt, data = start(), first_table()
        _, limit = jax.jit(outer(unrolled(), 400, loss=free))(learnt, data)
        _, told = jax.jit(outer(implicit(), 400, loss=free))(learnt, data)
        np.testing.assert_allclose(
            told["settings"]["penalty"], limit["settings"]["penalty"], rtol=1e-9
        )


def test_implicit_is_refused_where_no_setting_enters_the_loss():
    def deaf(settings, weights, data, key):
        return quiet({"penalty": 0.1}, weights, data, key)

    with pytest.raises(ValueError, match="implicit: no setting enters the inner loss"):
        jax.eval_shape(outer(implicit(), 3, loss=deaf), start(), first_table())


def test_a_setting_that_is_only_added_to_the_loss_does_not_enter_it():
    def added(settings, weights, data, key):
        fixed = {"penalty": 0.1, "noise": 0.0}
        return fitted_lines(fixed, weights, data, key) + settings["penalty"]

    with pytest.raises(ValueError, match="implicit: no setting enters the inner loss"):
        jax.eval_shape(outer(implicit(), 3, loss=added), start(), first_table())


NUM_ESTIMATES, SIGMA = 20_000, 0.5


def estimates(function, at, num_pairs=1):
    """Means of independent estimates of value and gradient, and standard errors."""
    how = evolution(sigma=SIGMA, num_pairs=num_pairs)
    keys = jax.random.split(KEY, NUM_ESTIMATES)
    told = jax.jit(jax.vmap(lambda key: how.value_and_grad(function, at, key)))(keys)
    return [
        (np.mean(leaf, axis=0), np.std(leaf, axis=0) / np.sqrt(NUM_ESTIMATES))
        for leaf in told
    ]


def assert_within(told, wanted, other):
    """In the interval of four standard errors, which is narrow: `other` is not."""
    mean, error = told
    assert np.all(np.abs(mean - wanted) <= 4.0 * error), (mean, wanted, error)
    assert np.all(np.abs(mean - other) > 4.0 * error), (mean, other, error)


def test_evolution_is_unbiased_for_a_smoothed_quadratic():
    with jax.enable_x64(True):
        bend = jnp.asarray([[2.0, 0.7], [0.7, 1.0]])
        at = jnp.asarray([0.4, -0.8])
        value, gradient = estimates(lambda u: 0.5 * u @ bend @ u, at)
        # E f(u + s e) = f(u) + s^2 trace(A) / 2, and the gradient is still A u.
        plain = 0.5 * at @ bend @ at
        assert_within(value, plain + SIGMA**2 * 1.5, plain)
        assert_within(gradient, bend @ at, 0.9 * bend @ at)


@pytest.mark.parametrize("num_pairs", [1, 3])
def test_evolution_is_unbiased_for_a_smoothed_cubic(num_pairs):
    with jax.enable_x64(True):
        at = jnp.asarray([0.4, -0.8])
        value, gradient = estimates(lambda u: jnp.sum(u**3), at, num_pairs)
        # E (u + s e)^3 = u^3 + 3 s^2 u.
        plain = jnp.sum(at**3)
        assert_within(value, plain + 3.0 * SIGMA**2 * jnp.sum(at), plain)
        assert_within(gradient, 3.0 * at**2 + 3.0 * SIGMA**2, 3.0 * at**2)


def test_evolution_is_unbiased_where_there_is_no_gradient():
    with jax.enable_x64(True):
        at = jnp.asarray(0.3)
        value, gradient = estimates(lambda u: jnp.where(u >= 0.0, 1.0, 0.0), at)
        # A step that is smoothed is the normal distribution.
        told = jax.scipy.stats.norm.cdf(at, scale=SIGMA)
        assert_within(value, told, 1.0)
        assert_within(gradient, jax.scipy.stats.norm.pdf(at, scale=SIGMA), 0.0)


def test_evolution_is_unbiased_through_training():
    # Steps of 0.25 towards 1 on (w - 1)^2 / 2 leave 0.75^3 (w - 1): with a the factor,
    # d/dw E (a (w + s e - 1))^3 = 3 a^3 ((w - 1)^2 + s^2).
    inner = Inner(
        loss=lambda settings, w, data, key: 0.5 * jnp.square(w - data),
        optimizer=lambda settings: optax.sgd(0.25),
        num_steps=3,
    )
    with jax.enable_x64(True):

        def judged(start):
            one = jnp.ones(())
            return (evolution().train(inner, {}, start, one, KEY) - 1.0) ** 3

        _, gradient = estimates(judged, jnp.asarray(1.7))
        factor = 0.75**9
        plain = 3.0 * factor * 0.7**2
        assert_within(gradient, plain + 3.0 * factor * SIGMA**2, plain)


def test_all_ways_train_to_the_same_weights():
    with jax.enable_x64(True):
        learnt, data = start(), first_table()
        inner = Inner(loss=fitted_lines, optimizer=momentum, num_steps=7)

        def trained(how):
            return how.train(inner, learnt["settings"], learnt["weights"], data, KEY)

        told = jax.jit(lambda: [trained(how) for how in ALL.values()])()
        for weights in told[1:]:
            assert_close(weights, told[0], rtol=1e-12)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="truncated: num_steps must be at least 1"):
        truncated(0)
    for wrong in ({"sigma": 0.0}, {"num_pairs": 0}):
        with pytest.raises(ValueError, match="evolution: needs sigma above 0"):
            evolution(**wrong)
