import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.data.prior import FEWEST_ROWS, sample_tables
from jmeta.data.prior.latent import standardise
from jmeta.data.prior.targets import _in_order, _without_gaps
from jmeta.tasks import CATEGORY, INDICATOR, NUMBER, PADDING, prepare

KINDS = ("classes", "number")
ROWS, FEATURES, CLASSES = 64, 8, 4


@functools.cache
def drawn(kind, seed=0, num=128):
    tables = sample_tables(
        jax.random.key(seed),
        num,
        rows=ROWS,
        features=FEATURES,
        num_classes=CLASSES,
        kind=kind,
    )
    return jax.tree.map(np.asarray, tables)


def class_counts(tables):
    return np.array(
        [np.bincount(y[m], minlength=CLASSES) for y, m in zip(tables.y, tables.mask)]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_key_gives_the_same_tables_and_another_key_others(kind):
    again = sample_tables(
        jax.random.key(0),
        128,
        rows=ROWS,
        features=FEATURES,
        num_classes=CLASSES,
        kind=kind,
    )
    jax.tree.map(np.testing.assert_array_equal, again, drawn(kind))
    assert not np.array_equal(drawn(kind).y, drawn(kind, seed=1).y)


def test_a_longer_batch_begins_with_the_same_tables():
    few, many = drawn("classes", num=4), drawn("classes")
    np.testing.assert_array_equal(few.y, many.y[:4])
    np.testing.assert_array_equal(few.columns, many.columns[:4])
    # Another batch size is another program, which may round otherwise.
    np.testing.assert_allclose(few.x, many.x[:4], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_finite_except_missing_numbers(kind):
    tables = drawn(kind)
    number = (tables.columns == NUMBER)[:, None, :] & tables.mask[:, :, None]
    assert np.isfinite(tables.x[~number]).all()
    assert not np.isinf(tables.x).any() and np.nanmax(np.abs(tables.x)) < 1e7
    assert np.isfinite(tables.y).all()


def test_padding_is_zero_and_rows_come_first():
    tables = drawn("classes")
    sizes = tables.mask.sum(axis=1)
    np.testing.assert_array_equal(tables.mask, np.arange(ROWS) < sizes[:, None])
    assert (tables.x[~tables.mask] == 0).all() and (tables.y[~tables.mask] == 0).all()
    padding = np.broadcast_to((tables.columns == PADDING)[:, None], tables.x.shape)
    assert (tables.x[padding] == 0).all()


def test_classes_have_no_gaps_and_two_rows_each():
    counts = class_counts(drawn("classes"))
    present = (counts > 0).sum(axis=1)
    assert (present >= 2).all()
    for count, classes in zip(counts, present):
        assert (count[:classes] >= 2).all() and (count[classes:] == 0).all()


def test_tables_vary_in_size_kind_and_balance():
    tables = drawn("classes")
    counts = class_counts(tables)
    sizes = tables.mask.sum(axis=1)
    assert FEWEST_ROWS <= sizes.min() < 35 and sizes.max() > 58
    columns = (tables.columns != PADDING).sum(axis=1)
    assert columns.min() <= 2 and columns.max() == FEATURES and len(set(columns)) >= 6
    classes = (counts > 0).sum(axis=1)
    assert 0.5 < (classes == 2).mean() < 0.85 and set(classes) == {2, 3, 4}
    majority = counts.max(axis=1) / sizes
    assert majority.min() < 0.45 and majority.max() > 0.8
    for kind in (NUMBER, CATEGORY, INDICATOR):
        assert (tables.columns == kind).any()
    with_missing = np.isnan(tables.x).any(axis=(1, 2)).mean()
    assert 0.05 < with_missing < 0.4


def test_one_hot_columns_hold_zeros_and_ones_with_at_most_one_of_them_a_row():
    tables = drawn("classes")
    hot = tables.columns == CATEGORY
    said = tables.columns == INDICATOR
    for x, mask, which in zip(tables.x, tables.mask, hot | said):
        assert np.isin(x[mask][:, which], (0.0, 1.0)).all()
    # An indicator stands beside its number and says where that is missing.
    for x, mask, which in zip(tables.x, tables.mask, said):
        for column in np.flatnonzero(which):
            np.testing.assert_array_equal(
                x[mask, column] == 1, np.isnan(x[mask, column - 1])
            )


def test_few_valued_numbers_and_continuous_ones_both_occur():
    tables = drawn("classes")
    distinct = [
        len(np.unique(column[~np.isnan(column)]))
        for x, mask, kinds in zip(tables.x, tables.mask, tables.columns)
        for column in x[mask][:, kinds == NUMBER].T
    ]
    distinct = np.array(distinct)
    assert (distinct <= 8).mean() > 0.15 and (distinct > 20).mean() > 0.3


def test_some_tables_are_nearly_noise_and_some_nearly_certain():
    tables = drawn("classes")

    @jax.jit
    @jax.vmap
    def neighbour_agrees(x, y, mask, columns):
        z = jnp.where(mask[:, None], prepare(x, columns, mask), 1e3)
        distance = jnp.sum(jnp.square(z[:, None] - z), axis=-1)
        distance = jnp.where(jnp.eye(ROWS, dtype=bool) | ~mask, jnp.inf, distance)
        return jnp.sum(mask & (y[jnp.argmin(distance, 1)] == y)) / jnp.sum(mask)

    agrees = np.asarray(neighbour_agrees(*tables))
    chance = (class_counts(tables) ** 2).sum(1) / tables.mask.sum(1) ** 2
    gain = (agrees - chance) / np.maximum(1 - chance, 0.05)
    assert np.quantile(gain, 0.1) < 0.15 and np.quantile(gain, 0.9) > 0.55


def test_numbers_vary_and_are_not_all_of_one_unit():
    tables = drawn("number")
    assert tables.y.dtype == np.float32
    spread = np.array([y[m].std() for y, m in zip(tables.y, tables.mask)])
    assert spread.min() > 0 and spread.max() / spread.min() > 100


def test_equal_scores_stay_in_one_class():
    score = jnp.array([1.0, 1, 1, 1, -1, -1, -1, -1, 5, 5])
    mask = jnp.arange(10) < 8
    y = _in_order(score, jnp.array([0.4, 0.6]), mask)
    np.testing.assert_array_equal(y[:8], [1, 1, 1, 1, 0, 0, 0, 0])


def test_a_class_of_one_row_joins_the_largest_and_one_class_is_split():
    mask = jnp.arange(8) < 7
    y = _without_gaps(jnp.array([3, 3, 3, 2, 1, 1, 3, 2]), mask, 4)
    np.testing.assert_array_equal(y, [1, 1, 1, 1, 0, 0, 1, 0])
    y = _without_gaps(jnp.full(8, 2), mask, 4)
    np.testing.assert_array_equal(y, [0, 1, 0, 1, 0, 1, 0, 0])


def test_standardised_columns_have_mean_zero_and_deviation_one_on_the_mask():
    x = jnp.arange(12.0).reshape(6, 2) ** 2
    z = standardise(x, jnp.arange(6) < 4)
    np.testing.assert_allclose(z[:4].mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(z[:4].std(0), 1.0, rtol=1e-5)
    assert (z[4:] == 0).all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"rows": 8, "features": 8}, "at least 20 rows"),
        ({"rows": 64, "features": 1}, "2 features"),
        ({"rows": 64, "features": 8, "num_classes": 1}, "num_classes must be in"),
        ({"rows": 64, "features": 8, "kind": "text"}, "kind must be one of"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        sample_tables(jax.random.key(0), 2, **sizes)
