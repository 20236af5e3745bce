"""Extremely randomised oblivious trees against arithmetic and real rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from jmeta import tasks
from jmeta.learners import extra_trees as module
from jmeta.tasks import Examples

KEY = jax.random.key(0)
FOUR = module.extra_trees(4)
NUMBER = module.extra_trees_regressor()
LEARNERS = {"four": FOUR, "number": NUMBER}


def settings(learner, **values):
    return learner.space.decode(learner.space.encode({"depth": 4, **values}))


def rows(kind, n=48, features=5):
    random = np.random.default_rng(3)
    x = random.normal(size=(n, features)).round(1).astype(np.float32)
    signal = x[:, 0] * x[:, 1] + x[:, 2] + 0.3 * random.normal(size=n)
    y = {
        "four": np.digitize(signal, [-0.7, 0.7]).astype(np.int32),
        "number": signal.astype(np.float32),
    }[kind]
    return Examples(x=jnp.asarray(x), y=jnp.asarray(y), mask=jnp.ones(n, bool))


def padded(support, garbage):
    """The same rows in 64 by 8, with garbage in the rows that do not count."""
    extra = 64 - len(support.y)
    x = jnp.pad(support.x, ((0, 0), (0, 8 - support.x.shape[1])))
    return Examples(
        x=jnp.pad(x, ((0, extra), (0, 0)), constant_values=garbage),
        y=jnp.pad(support.y, (0, extra), constant_values=1),
        mask=jnp.pad(support.mask, (0, extra)),
    )


@pytest.fixture(scope="module")
def run():
    """Predictions and trees, compiled once for each learner and shape."""

    def one(learner):
        def both(s, support):
            weights = learner.fit(KEY, s, support)
            return learner.predict(weights, support.x), weights.trees

        return jax.jit(both)

    return {kind: one(learner) for kind, learner in LEARNERS.items()}


def test_a_stump_shrinks_its_leaves_as_worked_out_by_hand(run):
    # One column of two values: every tree splits there. Leaves hold 0 and 4, the
    # root 2: (2 rows * 0 + 2 * 2) / (2 + 2) = 1 on the left and 3 on the right.
    x = np.zeros((48, 5), np.float32)
    x[2:4, 3] = 1.0
    y = np.zeros(48, np.float32)
    y[:4] = [0, 0, 4, 4]
    support = Examples(x=jnp.asarray(x), y=jnp.asarray(y), mask=jnp.arange(48) < 4)
    s = settings(NUMBER, depth=1, smoothing=2.0, rows=1.0)
    got, _ = run["number"](s, support)
    np.testing.assert_allclose(got[:4], [1, 1, 3, 3], rtol=1e-5)


@pytest.mark.parametrize("kind", ["four", "number"])
def test_leaves_are_the_shrunk_means_of_their_rows(run, kind):
    # Leaf by leaf from the trees' own splits, by a plain loop over nodes.
    support = rows(kind)
    s = settings(LEARNERS[kind], rows=1.0, smoothing=0.7)
    _, trees = run[kind](s, support)
    x, y = np.asarray(support.x), np.asarray(support.y)
    target = np.eye(4)[y] if kind == "four" else y[:, None]
    for tree in (0, 57):
        value = {0: target.mean(0)}
        leaf = np.zeros(len(x), int)
        for level in range(4):
            above = x[:, trees.feature[tree, level]] > trees.threshold[tree, level]
            leaf = leaf + 2**level * above
            assert np.isfinite(trees.threshold[tree, level])
            value = {
                node: (target[leaf == node].sum(0) + 0.7 * value[node % 2**level])
                / ((leaf == node).sum() + 0.7)
                for node in range(2 ** (level + 1))
            }
        want = np.stack([value[node] for node in range(16)])
        np.testing.assert_allclose(trees.leaf[tree, :16], want, atol=1e-5)


@pytest.mark.parametrize("kind", ["four", "number"])
def test_padding_changes_nothing(run, kind):
    support = rows(kind)
    s = settings(LEARNERS[kind], rows=0.7)
    plain, _ = run[kind](s, support)
    for garbage in (7.0, jnp.nan):
        got, _ = run[kind](s, padded(support, garbage))
        np.testing.assert_allclose(got[:48], plain, atol=1e-4)


@pytest.mark.parametrize("kind", ["four", "number"])
def test_a_fold_that_is_a_mask_equals_the_rows_cut_out(run, kind):
    whole = padded(rows(kind, n=64), 0.0)
    s = settings(LEARNERS[kind])
    masked, _ = run[kind](s, whole._replace(mask=jnp.arange(64) < 48))
    cut = jax.tree.map(lambda leaf: leaf[:48], whole)
    sliced, _ = run[kind](s, cut._replace(x=cut.x[:, :5]))
    np.testing.assert_allclose(masked[:48], sliced, atol=1e-4)


def test_more_padded_classes_change_nothing(run):
    support = rows("four")
    s = settings(FOUR)
    four, _ = run["four"](s, support)
    eight = module.extra_trees(8)
    got = jax.jit(lambda: eight.predict(eight.fit(KEY, s, support), support.x))()
    np.testing.assert_allclose(got[:, :3], four[:, :3], atol=1e-4)
    assert np.all(np.asarray(got[:, 3:]) == module.ABSENT)


def test_a_batch_of_depths_gives_what_each_gives_alone(run):
    support = rows("number")
    depths = np.array([1.0, 3.0, 5.0])
    s = NUMBER.space.decode(NUMBER.space.encode({"depth": depths}))
    batch = jax.vmap(lambda s: NUMBER.predict(NUMBER.fit(KEY, s, support), support.x))
    for depth, got in zip(depths, jax.jit(batch)(s)):
        alone, _ = run["number"](settings(NUMBER, depth=depth), support)
        np.testing.assert_allclose(got, alone, atol=1e-4)


@pytest.mark.parametrize("kind", ["four", "number"])
def test_degenerate_supports_give_finite_predictions(run, kind):
    support = rows(kind)
    s = settings(LEARNERS[kind])
    one_value = support._replace(y=jnp.zeros_like(support.y))
    one_row = support._replace(mask=jnp.arange(48) < 1)
    no_row = support._replace(mask=jnp.zeros(48, bool))
    constant = support._replace(x=jnp.zeros_like(support.x))
    for case in (one_value, one_row, no_row, constant):
        assert np.all(np.isfinite(run[kind](s, case)[0]))
    flat = np.asarray(run[kind](s, constant)[0])
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[:1], flat.shape))


def test_breast_cancer_log_loss_is_low():
    # The folds on which HistGradientBoosting has 0.108 at its defaults.
    x, y = load_breast_cancer(return_X_y=True)
    learner = module.extra_trees(2)
    table = tasks.pad_table(
        x.astype(np.float32), y.astype(np.int32), np.full(30, tasks.NUMBER)
    )
    folds = tasks.kfold(KEY, table.y, table.mask, 5)
    s = settings(learner, depth=7, candidates=16, smoothing=0.3, rows=1.0)

    def fold(support, query):
        prepared = tasks.prepare(table.x, table.columns, support)
        weights = learner.fit(KEY, s, Examples(x=prepared, y=table.y, mask=support))
        p = jax.nn.log_softmax(learner.predict(weights, prepared))
        return jnp.where(query[:, None], p, 0)

    both = jax.jit(lambda: jax.lax.map(lambda f: fold(*f), folds))()
    p = np.asarray(jnp.sum(both, axis=0))[np.arange(len(y)), y]
    assert -np.mean(p) < 0.14
