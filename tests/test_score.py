"""Scoring in batches, with folds as masks, equals scoring one by one on slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import learners, metrics, score
from jmeta.score import Candidate
from jmeta.tasks import NUMBER, Folds, Table, kfold, pad_table, stack

KEY = jax.random.key(0)
CANDIDATES = [Candidate("lda", (0.1,)), Candidate("lda", (0.6,))]


def _tables(num: int, kind: str = "classes", rows: int = 64) -> Table:
    made = []
    for seed in range(num):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(50 + seed, 3)).astype(np.float32)
        signal = x[:, 0] + rng.normal(size=len(x))
        y = (signal > 0).astype(np.int32) if kind == "classes" else signal
        made.append(pad_table(x, y, np.full(3, NUMBER), rows=rows))
    return stack(made)


def _folds(tables: Table) -> Folds:
    return jax.vmap(kfold, in_axes=(None, 0, 0, None))(KEY, tables.y, tables.mask, 3)


def test_a_batch_gives_what_one_by_one_gives():
    tables = _tables(3)
    together = score.score(CANDIDATES, KEY, tables, _folds(tables), num_classes=2)
    assert together.shape == (3, 2, 3, len(metrics.SCORES["classes"]))
    for place in range(3):
        one = jax.tree.map(lambda leaf, p=place: leaf[p : p + 1], tables)
        alone = score.score(CANDIDATES, KEY, one, _folds(one), num_classes=2)
        np.testing.assert_allclose(together[place], alone[0], atol=2e-5)


def test_a_fold_as_a_mask_gives_what_the_sliced_fold_gives():
    tables = _tables(1)
    folds = _folds(tables)
    learner = learners.get("lda", 2)
    settings = learner.space.decode(jnp.asarray(CANDIDATES[0].unit))
    table = jax.tree.map(lambda leaf: leaf[0], tables)
    support, query = (np.asarray(side[0, 0]) for side in folds)
    x, y = np.asarray(table.x), np.asarray(table.y)
    sliced = pad_table(x[support], y[support], np.asarray(table.columns))
    fitted = score.fit(learner, KEY, settings, sliced, sliced.mask)
    out = jax.nn.softmax(score.predict(learner, fitted, jnp.asarray(x[query])))
    expected = metrics.log_loss(out, jnp.asarray(y[query]), jnp.ones(query.sum(), bool))
    masked = score.score(CANDIDATES[:1], KEY, tables, folds, num_classes=2)
    np.testing.assert_allclose(masked[0, 0, 0, 0], expected, rtol=1e-5)


def test_padding_filled_with_nan_changes_no_score():
    tables = _tables(2)
    folds = _folds(tables)
    spoiled = tables._replace(
        x=jnp.where(
            tables.mask[..., None] & (tables.columns[:, None] == NUMBER),
            tables.x,
            jnp.nan,
        ),
        y=jnp.where(tables.mask, tables.y, 77),
    )
    np.testing.assert_allclose(
        score.score(CANDIDATES, KEY, spoiled, folds, num_classes=2),
        score.score(CANDIDATES, KEY, tables, folds, num_classes=2),
        rtol=1e-6,
    )


def test_numbers_are_scored_in_the_unit_of_the_target():
    tables = _tables(1, "number")
    ridge = [Candidate("ridge", (0.3,))]
    plain = score.score(ridge, KEY, tables, _folds(tables))
    larger = score.score(
        ridge, KEY, tables._replace(y=100.0 * tables.y + 9.0), _folds(tables)
    )
    np.testing.assert_allclose(larger[..., :2], 100 * plain[..., :2], rtol=1e-3)
    np.testing.assert_allclose(larger[..., 2], plain[..., 2], atol=1e-4)


def test_out_of_fold_predictions_are_those_of_the_folds():
    tables = _tables(1)
    table = jax.tree.map(lambda leaf: leaf[0], tables)
    folds = jax.tree.map(lambda leaf: leaf[0], _folds(tables))
    learner = learners.get("lda", 2)
    units = jnp.zeros((4, 1)).at[0, 0].set(0.1)
    out, fitted = score.cross_fit(learner, KEY, units, jnp.asarray(1), table, folds)
    every = score.predict_folds(learner, KEY, units[:1], table, folds.support)
    for fold in range(3):
        rows = np.asarray(folds.query[fold])
        expected = jax.nn.softmax(every[fold, 0])[rows]
        np.testing.assert_allclose(out[0][rows], expected, rtol=1e-5)
    assert (out[1:] == 0).all()
    settings = learner.space.decode(units[0])
    whole = score.fit(learner, KEY, settings, table, table.mask)
    jax.tree.map(
        lambda leaf, slots: np.testing.assert_allclose(leaf, slots[0], rtol=1e-5),
        whole,
        fitted,
    )


def test_one_program_serves_other_settings_of_the_same_bucket():
    tables = _tables(2)
    folds = _folds(tables)
    score.score(CANDIDATES, KEY, tables, folds, num_classes=2)
    before = score._score_learner._cache_size()
    others = [Candidate("lda", (0.2,)), Candidate("lda", (0.9,))]
    score.score(others, KEY, tables._replace(x=2 * tables.x), folds, num_classes=2)
    assert score._score_learner._cache_size() == before


def test_a_candidate_without_settings_needs_proposals():
    tables = _tables(1)
    free = [Candidate("lda", None)]
    with pytest.raises(ValueError, match="pass the meta-optimizer's proposals"):
        score.score(free, KEY, tables, _folds(tables), num_classes=2)
    proposed = score.score(
        free,
        KEY,
        tables,
        _folds(tables),
        num_classes=2,
        proposals={"lda": jnp.asarray([[0.1]])},
    )
    fixed = score.score(CANDIDATES[:1], KEY, tables, _folds(tables), num_classes=2)
    np.testing.assert_allclose(proposed, fixed, rtol=1e-5)
