"""Gradients worked out by hand, what diverged, and what a prediction may see."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jmeta.adjoints import cg, first_order, forward_over_reverse, unrolled
from jmeta.algorithms import anil, imaml, maml, meta_sgd, reptile
from jmeta.base import InnerLearner
from jmeta.learners.inner import classifier, regressor
from jmeta.networks import MLP, ConvNet, from_linen
from jmeta.tasks import Examples, Task

KEY = jax.random.key(0)


def places():
    """The loss of a place w on y is (w - y)^2 / 2, in two layers that add up to w."""

    def init(key, x):
        del key
        one = jnp.ones((), x.dtype)
        return {"body": 0.25 * one, "head": 0.75 * one}

    def apply(weights, x, counted):
        del counted
        return 0.0 * x + weights["head"] + weights["body"]

    def loss(outputs, y, mask):
        return jnp.sum(jnp.where(mask, 0.5 * (outputs[:, 0] - y) ** 2, 0.0))

    return InnerLearner(kind="number", init=init, apply=apply, loss=loss)


def point(*values):
    """A task for each value, with one row."""
    y = jnp.asarray(values)[:, None]
    return Examples(x=jnp.zeros((*y.shape, 1)), y=y, mask=jnp.ones(y.shape, bool))


def tasks(support=(3.0,), query=(0.0,)):
    return Task(
        support=point(*support),
        query=point(*query),
        description=jnp.zeros((len(support), 0)),
    )


def gradient(algorithm, batch):
    """By one step of plain descent with rate 1."""
    before = algorithm.init(KEY, batch)
    # Flax's layers start in float32.
    before = jax.tree.map(lambda leaf: leaf.astype(batch.support.x.dtype), before)
    after, info = jax.jit(algorithm.step)(KEY, before, batch)
    return jax.tree.map(jnp.subtract, before.params, after.params), info


# With w = body + head = 1, s = 3, q = 0, a rate of 1/8 and the sum of both layers
# moving by 1/4 of the gradient: w' = w - (w - s) / 4 = 1.5 after one step.


def test_the_gradient_of_maml_is_the_closed_form():
    found, info = gradient(
        maml(places(), optax.sgd(1.0), inner_lr=0.125, inner_steps=2), tasks()
    )
    # w'' - s = (3/4)^2 (w - s), so w'' = 3 - 9/8; dw''/dw = 9/16.
    np.testing.assert_allclose(found["head"], 9 / 16 * 15 / 8, rtol=1e-6)
    np.testing.assert_allclose(found["body"], 9 / 16 * 15 / 8, rtol=1e-6)
    np.testing.assert_allclose(info.loss, 0.5 * (15 / 8) ** 2, rtol=1e-6)


def test_first_order_maml_leaves_out_the_curvature():
    algorithm = maml(
        places(),
        optax.sgd(1.0),
        inner_lr=0.125,
        inner_steps=2,
        adjoint=first_order(),
    )
    found, _ = gradient(algorithm, tasks())
    np.testing.assert_allclose(found["head"], 15 / 8, rtol=1e-6)


def test_the_gradient_of_anil_is_the_closed_form():
    found, _ = gradient(
        anil(places(), optax.sgd(1.0), inner_lr=0.25, inner_steps=1), tasks()
    )
    # head' = head - (w - s) / 4, so w' = 1.5, and dw'/dhead = dw'/dbody = 3/4.
    np.testing.assert_allclose(found["head"], 0.75 * 1.5, rtol=1e-6)
    np.testing.assert_allclose(found["body"], 0.75 * 1.5, rtol=1e-6)


def test_the_gradient_of_meta_sgd_is_the_closed_form():
    algorithm = meta_sgd(places(), optax.sgd(1.0), inner_lr=0.125, inner_steps=1)
    found, _ = gradient(algorithm, tasks())
    np.testing.assert_allclose(found["weights"]["head"], 0.75 * 1.5, rtol=1e-6)
    # dw'/drate = -(w - s) = 2.
    np.testing.assert_allclose(found["rates"]["head"], 2.0 * 1.5, rtol=1e-6)


def test_the_gradient_of_imaml_is_that_of_the_optimum():
    algorithm = imaml(
        places(),
        optax.sgd(1.0),
        proximity=2.0,
        inner_lr=0.125,
        inner_steps=200,
        solver=cg(),
    )
    found, _ = gradient(algorithm, tasks())
    # Layers move alike by d: 2 d - 2 + 2 d = 0 is (w + 2 d - s) + 2 d, so d = 1/2 and
    # w' = 2; dw'/dbody = 1 - 1/2, since d = (s - w) / 4.
    np.testing.assert_allclose(found["head"], 0.5 * 2.0, rtol=1e-4)


def test_the_gradient_of_reptile_is_how_far_training_went():
    found, _ = gradient(
        reptile(places(), optax.sgd(1.0), inner_lr=0.125, inner_steps=2), tasks()
    )
    # w'' = 15/8, and both layers moved by half of 7/8.
    np.testing.assert_allclose(found["head"], -7 / 16, rtol=1e-6)


@pytest.mark.parametrize("micro_batch", [None, 1, 2])
def test_a_task_that_is_not_finite_is_left_out_and_counted(micro_batch):
    algorithm = maml(
        places(),
        optax.sgd(1.0),
        inner_lr=0.125,
        inner_steps=2,
        micro_batch=micro_batch,
    )
    found, info = gradient(algorithm, tasks((3.0, np.inf), (0.0, 0.0)))
    np.testing.assert_allclose(found["head"], 9 / 16 * 15 / 8, rtol=1e-6)
    assert info.num_diverged == 1


def images(num_tasks=2, side=12, fill=0.0):
    """Noise, three classes; the last support row and the last query are padding."""
    rng = np.random.default_rng(1)

    def examples(count):
        x = rng.normal(size=(num_tasks, count, side, side, 1))
        y = np.broadcast_to(np.arange(count) % 3, (num_tasks, count)).copy()
        mask = np.broadcast_to(np.arange(count) < count - 1, y.shape)
        x[:, -1] = fill
        return Examples(
            x=jnp.asarray(x, float), y=jnp.asarray(y, jnp.int32), mask=jnp.asarray(mask)
        )

    return Task(
        support=examples(7),
        query=examples(8),
        description=jnp.zeros((num_tasks, 0)),
    )


def small_images():
    return classifier(from_linen(ConvNet(out=3, num_blocks=2, channels=4)), 3)


def one(batch):
    return jax.tree.map(lambda leaf: leaf[0], batch)


@pytest.mark.parametrize("transductive", [False, True])
def test_padding_of_images_may_be_nan(transductive):
    algorithm = maml(
        small_images(), optax.sgd(1.0), inner_steps=1, transductive=transductive
    )
    told = [gradient(algorithm, images(fill=fill)) for fill in (0.0, np.nan)]
    jax.tree.map(np.testing.assert_array_equal, told[0], told[1])


@pytest.mark.parametrize("transductive", [False, True])
def test_queries_see_each_other_only_if_asked_to(transductive):
    algorithm = maml(
        small_images(), optax.sgd(1.0), inner_steps=1, transductive=transductive
    )
    batch = images()
    params = algorithm.init(KEY, batch).params
    predict = jax.jit(algorithm.predict)
    task = one(batch)
    moved = task._replace(query=task.query._replace(x=task.query.x.at[1].add(3.0)))
    first = predict(params, task)[0], predict(params, moved)[0]
    assert np.allclose(*first, rtol=1e-6) != transductive


def test_a_conv_net_has_the_same_gradient_another_way_and_task_by_task():
    with jax.enable_x64(True):
        told = []
        for adjoint, micro_batch in ((unrolled(), None), (forward_over_reverse(), 1)):
            algorithm = maml(
                small_images(),
                optax.sgd(1.0),
                inner_steps=2,
                adjoint=adjoint,
                micro_batch=micro_batch,
            )
            told.append(gradient(algorithm, images())[0])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *told
        )


def test_impossible_settings_are_refused():
    for make in (maml, anil, meta_sgd, imaml, reptile):
        with pytest.raises(ValueError, match=f"{make.__name__}: inner_steps"):
            make(places(), optax.sgd(1.0), inner_steps=0)
        with pytest.raises(ValueError, match=f"{make.__name__}: micro_batch"):
            make(places(), optax.sgd(1.0), micro_batch=0)
    with pytest.raises(ValueError, match="anil: no layer is called 'tail'"):
        anil(places(), optax.sgd(1.0), head="tail").init(KEY, tasks())
    three = jax.tree.map(lambda leaf: jnp.repeat(leaf, 3, axis=0), tasks())
    with pytest.raises(ValueError, match="micro_batch=2 does not divide the 3 tasks"):
        gradient(maml(places(), optax.sgd(1.0), micro_batch=2), three)
    with pytest.raises(ValueError, match="classifier: num_classes"):
        classifier(from_linen(MLP((4,), 2)), 1)
    with pytest.raises(ValueError, match="regressor: the network gives outputs of"):
        regressor(from_linen(MLP((4,), 2))).init(KEY, jnp.zeros((3, 1)))
