"""Surrogates as learners: exact settings, and the gradient of their own networks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from data.real_folders import real_folder
from data.tiny_surrogate import LAYOUT, closed_form, tiny_folder

from jmeta.adjoints import evolution
from jmeta.algorithms.bilevel import bilevel
from jmeta.algorithms.meta_optimizer import meta_optimizer
from jmeta.data.surrogates import encode, read_surrogate
from jmeta.errors import InputError
from jmeta.learners.surrogate import (
    relative_regret,
    surrogate_learner,
    surrogate_tasks,
)
from jmeta.networks import MetaOptimizer, default_units, from_linen

KEY = jax.random.key(0)
REAL = {
    "rbv2_rpart": ("bac", {"num.impute.selected.cpo": "impute.mean"}),
    "rbv2_xgboost": ("auc", {"booster": "dart"}),
    "lcbench": ("val_accuracy", {}),
}


@pytest.fixture
def tiny(tmp_path):
    return read_surrogate(tiny_folder(tmp_path / "tiny"), LAYOUT)


def one_task(place, best=0.5, worst=-0.5):
    """A task without an axis, described by its place."""
    tasks = surrogate_tasks(
        *map(np.array, ([place], [best], [worst], [[float(place)]]))
    )
    return jax.tree.map(lambda leaf: leaf[0], tasks)


def regret_of(learner, task):
    """Regret of a unit vector, to be differentiated."""

    def regret(unit):
        weights = learner.fit(KEY, learner.space.decode(unit), task.support)
        return relative_regret(learner, weights, task)

    return regret


def test_predictions_are_the_closed_form_and_conditions_hold(tiny):
    learner = surrogate_learner(tiny, "y")
    assert learner.space.names == ("kind", "rate", "depth")
    for kind, depth in (("p", 3), ("q", 0)):  # Only kind p has a depth.
        unit = learner.space.encode({"kind": kind, "rate": 0.5, "depth": 3})
        support = one_task(0).support
        weights = learner.fit(KEY, learner.space.decode(unit), support)
        made = learner.predict(weights, jnp.array([[0.0], [1.0]]))
        code = {"p": 1, "q": 2}[kind]
        expected = [closed_form(task, code, 0.5, depth)[0] for task in (2, 1)]
        np.testing.assert_allclose(made, expected, rtol=1e-5)


@pytest.mark.parametrize("fixed", [{}, {"kind": "q"}, {"depth": 4}])
def test_what_is_asked_is_what_is_read_out_of_the_recommendation(tiny, fixed):
    learner = surrogate_learner(tiny, "y", fixed=fixed)
    for unit in learner.space.sample(KEY, 20):
        made = learner.fit(KEY, learner.space.decode(unit), one_task(0).support)
        expected = encode(tiny, [learner.space.readable(unit) | fixed])
        np.testing.assert_array_equal(made.words, expected.words[0])
        # People read six digits; the depth is whole in both.
        np.testing.assert_allclose(made.numbers, expected.numbers[0], rtol=6e-6)
        assert made.numbers[1] == expected.numbers[0, 1]


def test_the_gradient_is_that_of_the_closed_form(tiny):
    learner = surrogate_learner(tiny, "y", fixed={"kind": "p"})
    unit = learner.space.encode({"rate": 0.6, "depth": 2})
    found = jax.grad(regret_of(learner, one_task(0)))(unit)

    def cost(rate, depth):  # 0.5 - y, which is the regret from best 0.5 to worst -0.5.
        return 0.5 - closed_form(2, 1, rate, depth)[0]

    step, rate = 1e-5, 0.6
    by_rate = (cost(rate + step, 2) - cost(rate - step, 2)) / (2 * step)
    by_depth = (cost(rate, 2 + step) - cost(rate, 2 - step)) / (2 * step)
    # Over the unit interval: rate from 0.1 to 2 in ratios, depth from 1 to 9.
    expected = [by_rate * rate * np.log(20.0), by_depth * 8]
    assert (np.abs(expected) > 1e-3).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_whole_numbers_are_rounded_and_their_gradient_passes(tiny):
    learner = surrogate_learner(tiny, "y", fixed={"kind": "p"})
    value_and_grad = jax.value_and_grad(regret_of(learner, one_task(0)))
    whole, near = (value_and_grad(jnp.array([0.5, d / 8])) for d in (1.0, 1.3))
    np.testing.assert_allclose(whole[0], near[0], rtol=1e-6)
    np.testing.assert_allclose(whole[1], near[1], rtol=1e-6)


def test_what_is_not_there_gets_no_gradient_and_options_need_evolution(tiny):
    learner = surrogate_learner(tiny, "y")
    unit = learner.space.encode({"kind": "q", "rate": 0.5, "depth": 3})
    regret = regret_of(learner, one_task(0))
    kind, rate, depth = jax.grad(regret)(unit)
    assert kind == 0 and depth == 0 and rate != 0
    how = evolution(sigma=1.0, num_pairs=64)
    assert how.value_and_grad(regret, unit, KEY)[1][0] != 0


@pytest.mark.parametrize("junk", [7.0, np.nan])
def test_padding_changes_neither_regret_nor_gradient(tiny, junk):
    learner = surrogate_learner(tiny, "y", fixed={"kind": "p"})
    task, unit = one_task(0), jnp.array([0.4, 0.6])

    def padded(examples):
        x = jnp.concatenate([examples.x, jnp.full((2, 1), junk)])
        y = jnp.concatenate([examples.y, jnp.full(2, junk)])
        return examples._replace(x=x, y=y, mask=jnp.array([True, False, False]))

    longer = task._replace(support=padded(task.support), query=padded(task.query))
    expected = jax.value_and_grad(regret_of(learner, task))(unit)
    found = jax.value_and_grad(regret_of(learner, longer))(unit)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
    )
    assert float(jnp.abs(expected[1]).min()) > 0


def test_regret_is_in_units_of_best_to_worst_whichever_way_is_good(tiny):
    learner = surrogate_learner(tiny, "y", fixed={"kind": "p"})
    unit = jnp.array([0.4, 0.6])
    weights = learner.fit(KEY, learner.space.decode(unit), one_task(0).support)
    y = float(learner.predict(weights, jnp.array([[0.0]]))[0])
    for best, worst in ((y + 0.1, y - 0.3), (y - 0.1, y + 0.3)):
        made = regret_of(learner, one_task(0, best, worst))(unit)
        np.testing.assert_allclose(made, 0.25, rtol=1e-4)
    better = regret_of(learner, one_task(0, y - 0.1, y - 0.3))(unit)
    np.testing.assert_allclose(better, -0.5, rtol=1e-4)


def test_a_task_of_equal_candidates_teaches_nothing(tiny):
    learner = surrogate_learner(tiny, "y", fixed={"kind": "p"})
    regret = regret_of(learner, one_task(0, 0.2, 0.2))
    value, grads = jax.value_and_grad(regret)(jnp.array([0.4, 0.6]))
    assert value == 0 and not grads.any()


def test_a_network_and_shared_settings_learn_through_a_surrogate(tiny):
    learner = surrogate_learner(tiny, "y", fixed={"kind": "p"})
    tasks = surrogate_tasks(
        np.arange(2), np.full(2, 0.5), np.full(2, -0.5), np.array([[0.0], [1.0]])
    )
    network = from_linen(MetaOptimizer(defaults=default_units([learner]), width=8))
    for algorithm in (
        meta_optimizer(network, [learner], optax.adam(3e-2), loss=relative_regret),
        bilevel(learner, optax.adam(3e-2), loss=relative_regret),
    ):
        step = jax.jit(algorithm.step)
        state, losses = algorithm.init(KEY, tasks), []
        for seed in range(40):
            state, info = step(jax.random.key(seed), state, tasks)
            losses.append(float(info.loss))
            assert info.num_diverged == 0
        assert losses[-1] < losses[0] - 0.02


def test_what_the_surrogate_does_not_know_is_refused(tiny):
    with pytest.raises(ValueError, match="output='z'"):
        surrogate_learner(tiny, "z")
    with pytest.raises(ValueError, match="deep"):
        surrogate_learner(tiny, "y", fixed={"deep": 3})
    with pytest.raises(InputError, match=r"a number from 0\.1 to 2"):
        surrogate_learner(tiny, "y", fixed={"rate": 3.0})


@pytest.mark.parametrize("name", REAL)
def test_real_surrogates_are_asked_for_what_is_recommended(name):
    surrogate = read_surrogate(real_folder("surrogates", name))
    output, fixed = REAL[name]
    learner = surrogate_learner(surrogate, output, fixed=fixed)
    units = learner.space.sample(KEY, 50)
    support = one_task(0).support
    made = jax.vmap(lambda u: learner.fit(KEY, learner.space.decode(u), support))(units)
    rows = [learner.space.readable(unit) | fixed for unit in units]
    expected = encode(surrogate, rows)
    np.testing.assert_array_equal(made.words, expected.words)
    np.testing.assert_allclose(made.numbers, expected.numbers, rtol=6e-6)
    whole = [one.kind == "int" for one in surrogate.numbers]
    np.testing.assert_array_equal(made.numbers[:, whole], expected.numbers[:, whole])


@pytest.mark.parametrize("name", REAL)
def test_gradients_through_real_surrogates_are_finite_differences(name):
    surrogate = read_surrogate(real_folder("surrogates", name))
    output, fixed = REAL[name]
    learner = surrogate_learner(surrogate, output, fixed=fixed)
    many = np.arange(20)
    tasks = surrogate_tasks(many, np.ones(20), np.zeros(20), np.zeros((20, 1)))
    hypers = learner.space.hypers.values()
    smooth = np.array([not one.integer for one in hypers])

    @jax.jit
    def mean(unit):
        return jax.vmap(lambda task: regret_of(learner, task)(unit))(tasks).mean()

    unit, step = jnp.full(len(smooth), 0.4), 1e-3
    moves = step * jnp.eye(len(unit))
    differences = jax.vmap(mean)(unit + moves) - jax.vmap(mean)(unit - moves)
    found = np.asarray(jax.grad(mean)(unit))
    assert np.isfinite(found).all()
    # Between two kinks of the network; float32 outputs leave 1% of such differences.
    largest = np.abs(found[smooth]).max()
    np.testing.assert_allclose(
        found[smooth], differences[smooth] / (2 * step), atol=0.03 * largest
    )
    assert largest > 0.02
