"""Padding, folds and scaling: exact, stratified, and learnt from the support alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import tasks
from jmeta.tasks import CATEGORY, NUMBER, PADDING

KEY = jax.random.key(0)


def _table(rows: int = 90, padded: int = 128, features: int = 8) -> tasks.Table:
    rng = np.random.default_rng(0)
    x = rng.lognormal(size=(rows, 3)).astype(np.float32)
    x[:, 2] = rng.integers(0, 2, rows)
    x[5, 0] = np.nan
    columns = np.array([NUMBER, NUMBER, CATEGORY])
    y = rng.integers(0, 3, rows).astype(np.int32)
    return tasks.pad_table(x, y, columns, rows=padded, features=features)


@pytest.mark.parametrize(
    ("size", "axis", "padded"),
    [(1, "rows", 64), (64, "rows", 64), (65, "rows", 128), (9, "features", 16)],
)
def test_a_bucket_is_the_next_power_of_two(size, axis, padded):
    assert tasks.bucket(size, axis) == padded


def test_rows_that_do_not_fit_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"90 examples do not fit in length=64"):
        _table(padded=64)


def test_folds_deal_every_class_evenly_and_every_row_once():
    table = _table()
    folds = tasks.kfold(KEY, table.y, table.mask, 5)
    np.testing.assert_array_equal(folds.query.sum(0), table.mask)
    np.testing.assert_array_equal(folds.support, table.mask & ~folds.query)
    per_class = [(folds.query & (table.y == c)).sum(1) for c in range(3)]
    assert max(int(c.max() - c.min()) for c in per_class) <= 1


def test_folds_do_not_depend_on_padding():
    short, long = _table(padded=128), _table(padded=256)
    first = tasks.kfold(KEY, short.y, short.mask, 5)
    second = tasks.kfold(KEY, long.y, long.mask, 5)
    np.testing.assert_array_equal(first.query, second.query[:, :128])


def test_scaling_is_learnt_from_the_support_alone():
    table = _table()
    support = table.mask & (jnp.arange(128) < 60)
    x = tasks.prepare(table.x, table.columns, support)
    spoiled = jnp.where(support[:, None], table.x, 1e6)
    np.testing.assert_array_equal(
        x[:60], tasks.prepare(spoiled, table.columns, support)[:60]
    )


def test_scaling_is_median_and_quartiles_worked_out_by_hand():
    # Median 3, quartiles 2 and 4: z = (5 - 3) / (2 / 1.349), squashed towards 4.
    x = jnp.asarray([[1.0], [2.0], [3.0], [4.0], [5.0]])
    out = tasks.prepare(x, jnp.asarray([NUMBER]), jnp.ones(5, bool))
    z = 1.349
    np.testing.assert_allclose(out[4, 0], z / np.sqrt(1 + (z / 4) ** 2), rtol=1e-6)
    np.testing.assert_allclose(out[2, 0], 0.0, atol=1e-7)


def test_padding_missing_and_constant_columns_become_zeros():
    table = _table()
    spoiled = table._replace(
        x=jnp.where((table.columns == PADDING) | ~table.mask[:, None], 7.0, table.x)
        .at[:, 1]
        .set(3.0)
    )
    x = tasks.prepare(spoiled.x, table.columns, table.mask)
    assert (x[:, 3:] == 0).all() and (x[:, 1] == 0).all() and x[5, 0] == 0
    assert jnp.isfinite(x).all()


def test_order_survives_squashing_and_huge_values_stay_finite():
    x = jnp.asarray([[-1e30], [-2.0], [0.0], [1.0], [3.0], [1e30]])
    out = tasks.prepare(x, jnp.asarray([NUMBER]), jnp.ones(6, bool))[:, 0]
    assert jnp.isfinite(out).all() and (jnp.diff(out) >= 0).all()
    assert jnp.abs(out).max() <= 4.001
