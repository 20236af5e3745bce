"""Boosted oblivious trees against arithmetic, a plain loop and real rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from jmeta import tasks
from jmeta.learners import boosted_trees as module
from jmeta.tasks import Examples

KEY = jax.random.key(0)
BINARY = module.boosted_trees(2)
FOUR = module.boosted_trees(4)
NUMBER = module.boosted_trees_regressor()
LEARNERS = {"binary": BINARY, "four": FOUR, "number": NUMBER}


def settings(learner, **values):
    return learner.space.decode(learner.space.encode({"rounds": 8, **values}))


def rows(kind, n=48, features=5, dtype=np.float32):
    random = np.random.default_rng(3)
    x = random.normal(size=(n, features)).round(1).astype(dtype)
    signal = x[:, 0] * x[:, 1] + x[:, 2] + 0.3 * random.normal(size=n)
    y = {
        "binary": (signal > 0).astype(np.int32),
        "four": np.digitize(signal, [-0.7, 0.7]).astype(np.int32),
        "number": signal.astype(dtype),
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
    """Fit and predict, compiled once for each learner and shape."""

    def one(learner):
        return jax.jit(lambda s, e, x: learner.predict(learner.fit(KEY, s, e), x))

    return {kind: one(learner) for kind, learner in LEARNERS.items()}


def naive(x, target, slopes, base, *, rounds, rate, depth, l2):
    """The same trees by plain loops: no padding, no sampling."""
    n, num_features = x.shape
    cuts = np.asarray(
        module.cut_points(jnp.asarray(x), jnp.ones(n, bool), module.NUM_CUTS)
    )
    outputs = np.repeat(base[None], n, 0)
    for _ in range(rounds):
        g, h = slopes(outputs, target)
        leaf = np.zeros(n, int)
        for level in range(depth):
            scored = []
            for f in range(num_features):
                for cut in cuts[f]:
                    node = leaf + 2**level * (x[:, f] > cut)
                    members = [node == k for k in range(2 ** (level + 1))]
                    gain = sum(
                        np.sum(g[m].sum(0) ** 2) / (m.sum() + l2) for m in members
                    )
                    scored.append((gain, f, cut))
            best = max(gain for gain, _, _ in scored)
            _, f, cut = next(s for s in scored if s[0] >= best * (1 - 1e-13))
            leaf = leaf + 2**level * (x[:, f] > cut)
        for k in np.unique(leaf):
            m = leaf == k
            outputs[m] -= rate * g[m].sum(0) / (h[m].sum(0) + l2)
    return outputs


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", ["binary", "four", "number"])
def test_trees_are_those_of_a_plain_loop(kind):
    with jax.enable_x64(True):
        support = rows(kind, dtype=np.float64)
        learner = LEARNERS[kind]
        values = {"rate": 0.3, "depth": 3, "l2": 2.0, "rounds": 8}
        s = {
            k: jnp.asarray(v)
            for k, v in {**values, "rows": 1.0, "columns": 1.0}.items()
        }
        got = learner.predict(learner.fit(KEY, s, support), support.x)
        x, y = np.asarray(support.x), np.asarray(support.y)
        if kind == "number":
            want = naive(
                x,
                y[:, None],
                lambda f, t: (f - t, np.ones_like(f)),
                np.array([y.mean()]),
                **values,
            )[:, 0]
        elif kind == "binary":

            def slopes(f, t):
                p = 1 / (1 + np.exp(-f))
                return p - t, p * (1 - p)

            base = np.array([np.log((y.sum() + 0.5) / ((1 - y).sum() + 0.5))])
            raw = naive(x, y[:, None], slopes, base, **values)
            want = raw * [[-0.5, 0.5]]
        else:

            def slopes(f, t):
                p = softmax(f)
                return (p - t) * 2 / 3, p * (1 - p)

            hot = np.eye(3)[y]
            want = naive(x, hot, slopes, np.log(hot.sum(0) + 0.5), **values)
            got = got[:, :3]
        np.testing.assert_allclose(got, want, atol=1e-8)


def test_one_round_takes_the_newton_step_worked_out_by_hand(run):
    # Targets 0, 0, 3, 5 have mean 2; the best cut parts them in the middle, and the
    # leaves hold 2 + rate * sum / (rows + l2) = 2 -+ 0.5 * 4 / (2 + 2) = 1.5 and 2.5.
    support = rows("number")
    values = np.zeros(48)
    values[:4] = [0, 0, 3, 5]
    x = np.zeros((48, 5))
    x[:4, 1] = [1, 2, 3, 4]
    support = Examples(
        x=jnp.asarray(x, jnp.float32),
        y=jnp.asarray(values, jnp.float32),
        mask=jnp.arange(48) < 4,
    )
    s = {"rounds": 1.0, "rate": 0.5, "depth": 1.0, "l2": 2.0, "rows": 1.0}
    s = {k: jnp.asarray(v) for k, v in {**s, "columns": 1.0}.items()}
    got = run["number"](s, support, support.x)
    np.testing.assert_allclose(got[:4], [1.5, 1.5, 2.5, 2.5], rtol=1e-6)


@pytest.mark.parametrize("kind", ["binary", "four", "number"])
def test_padding_changes_nothing(run, kind):
    support = rows(kind)
    s = settings(LEARNERS[kind], rows=0.7, columns=0.6)
    plain = run[kind](s, support, support.x)
    for garbage in (7.0, jnp.nan):
        more = padded(support, garbage)
        got = run[kind](s, more, more.x)[:48]
        np.testing.assert_allclose(got, plain, atol=1e-4)


@pytest.mark.parametrize("kind", ["binary", "number"])
def test_a_fold_that_is_a_mask_equals_the_rows_cut_out(run, kind):
    whole = padded(rows(kind, n=64), 0.0)
    s = settings(LEARNERS[kind], columns=0.6)
    masked = run[kind](s, whole._replace(mask=jnp.arange(64) < 48), whole.x)
    cut = jax.tree.map(lambda leaf: leaf[:48], whole)
    cut = cut._replace(x=cut.x[:, :5])
    np.testing.assert_allclose(masked[:48], run[kind](s, cut, cut.x), atol=1e-4)


def test_more_padded_classes_change_nothing(run):
    support = rows("four")
    s = settings(FOUR)
    four = run["four"](s, support, support.x)
    eight = module.boosted_trees(8)
    got = eight.predict(eight.fit(KEY, s, support), support.x)
    np.testing.assert_allclose(got[:, :3], four[:, :3], atol=1e-4)
    assert np.all(np.asarray(got[:, 3:]) == module.ABSENT)


def test_two_classes_of_four_predict_like_two(run):
    support = rows("binary")
    s = settings(BINARY)
    two = jax.nn.softmax(run["binary"](s, support, support.x))
    four = jax.nn.softmax(run["four"](s, support, support.x))
    np.testing.assert_allclose(four[:, :2], two, atol=1e-4)


def test_fewer_rounds_are_the_first_trees_of_more():
    support = rows("binary")
    fit = jax.jit(jax.vmap(BINARY.fit, (None, 0, None)))
    s = BINARY.space.decode(BINARY.space.encode({"rounds": np.array([8.0, 16.0])}))
    trees = fit(KEY, s, support).trees
    np.testing.assert_array_equal(trees.leaf[0, :8], trees.leaf[1, :8])
    assert np.all(np.asarray(trees.leaf[0, 8:]) == 0)
    assert np.any(np.asarray(trees.leaf[1, 8:16]) != 0)


def test_a_batch_of_depths_gives_what_each_gives_alone(run):
    support = rows("four")
    depths = np.array([1.0, 3.0, 6.0])
    s = FOUR.space.decode(FOUR.space.encode({"rounds": 8, "depth": depths}))
    both = jax.vmap(lambda s: FOUR.predict(FOUR.fit(KEY, s, support), support.x))(s)
    for depth, got in zip(depths, both):
        alone = run["four"](settings(FOUR, depth=depth), support, support.x)
        np.testing.assert_allclose(got, alone, atol=1e-4)


@pytest.mark.parametrize("kind", ["binary", "four", "number"])
def test_degenerate_supports_give_finite_predictions(run, kind):
    support = rows(kind)
    s = settings(LEARNERS[kind])
    one_value = support._replace(y=jnp.zeros_like(support.y))
    one_row = support._replace(mask=jnp.arange(48) < 1)
    no_row = support._replace(mask=jnp.zeros(48, bool))
    constant = support._replace(x=jnp.zeros_like(support.x))
    for case in (one_value, one_row, no_row, constant):
        assert np.all(np.isfinite(run[kind](s, case, support.x)))
    flat = np.asarray(run[kind](s, constant, support.x))
    np.testing.assert_array_equal(flat, np.broadcast_to(flat[:1], flat.shape))


def out_of_fold(learner, x, y, **values):
    """Predictions of five folds as masks, each row by the fold that left it out."""
    table = tasks.pad_table(x, y, np.full(x.shape[1], tasks.NUMBER))
    folds = tasks.kfold(KEY, table.y, table.mask, 5)
    s = settings(learner, **values)

    def fold(support, query):
        prepared = tasks.prepare(table.x, table.columns, support)
        weights = learner.fit(KEY, s, Examples(x=prepared, y=table.y, mask=support))
        predicted = learner.predict(weights, prepared)
        return jnp.where(query.reshape(-1, *[1] * (predicted.ndim - 1)), predicted, 0)

    both = jax.jit(lambda: jax.lax.map(lambda f: fold(*f), folds))()
    return np.asarray(jnp.sum(both, axis=0))[: len(y)]


def test_breast_cancer_log_loss_is_low():
    # The folds on which HistGradientBoosting has 0.108 at its defaults.
    x, y = load_breast_cancer(return_X_y=True)
    chosen = {"rounds": 128, "rate": 0.15, "l2": 1.0, "columns": 0.4}
    logits = out_of_fold(BINARY, x.astype(np.float32), y.astype(np.int32), **chosen)
    p = softmax(logits)[np.arange(len(y)), y]
    assert -np.mean(np.log(p)) < 0.095


def test_diabetes_is_explained_in_part():
    x, y = load_diabetes(return_X_y=True)
    y = ((y - y.mean()) / y.std()).astype(np.float32)
    predicted = out_of_fold(NUMBER, x.astype(np.float32), y, rounds=100)
    assert 1 - np.mean((predicted - y) ** 2) > 0.40


def test_gains_of_many_outputs_are_right_on_average():
    gradient = jax.random.normal(jax.random.key(3), (9, 20))
    keys = jax.random.split(jax.random.key(4), 4000)
    every = jnp.ones(9, bool)
    drawn = jax.vmap(
        lambda key: jnp.sum(module._sketch(key, gradient, every).sum(1) ** 2)
    )
    full = jnp.sum(gradient.sum(1) ** 2)
    values = drawn(keys)
    error = jnp.std(values) / 4000**0.5
    assert abs(jnp.mean(values) - full) < 4 * error < 0.1 * full
