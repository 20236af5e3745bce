"""Contracts of the whole description, and of its schema."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.data.prior import sample_tables
from jmeta.describe import SCHEMA_VERSION, describe, groups, names
from jmeta.tasks import CATEGORY, INDICATOR, NUMBER, PADDING, Table, stack

KINDS = ("classes", "number")
ROWS, FEATURES = 64, 8

FROZEN = {
    1: {
        "classes": "c7999288ae292005",
        "number": "c2444493207333f2",
    }
}


@functools.cache
def described(kind):
    # One compiled program a kind, for every test of this file.
    return jax.jit(jax.vmap(functools.partial(describe, kind=kind, num_classes=4)))


@functools.cache
def tables(kind):
    return sample_tables(
        jax.random.key(3), 8, rows=ROWS, features=FEATURES, num_classes=4, kind=kind
    )


def of(table, kind):
    """The description of one table by the program for eight."""
    return np.asarray(described(kind)(stack([table] * 8)))[0]


def one(kind, index):
    return jax.tree.map(lambda leaf: leaf[index], tables(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_unique_and_fill_the_groups_in_order(kind):
    assert len(set(names(kind))) == len(names(kind))
    ends = [0]
    for part in groups(kind).values():
        assert part.start == ends[-1]
        ends.append(part.stop)
    assert ends[-1] == len(names(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_the_schema_raises_its_version(kind):
    digest = hashlib.sha256("\n".join(names(kind)).encode()).hexdigest()[:16]
    assert FROZEN[SCHEMA_VERSION][kind] == digest


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_are_finite_float32_of_the_schema_length(kind):
    got = described(kind)(tables(kind))
    assert got.shape == (8, len(names(kind))) and got.dtype == jnp.float32
    assert np.isfinite(got).all()


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_tell_tables_apart(kind):
    got = np.asarray(described(kind)(tables(kind)))
    varies = np.ptp(got, axis=0) > 1e-3
    # Eight tables need not hold every rarity (constant columns, outliers).
    assert varies.mean() > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_one_by_one_gives(kind):
    got = np.asarray(described(kind)(tables(kind)))
    for index in (0, 5):
        np.testing.assert_allclose(
            of(one(kind, index), kind), got[index], rtol=2e-3, atol=2e-3
        )


@pytest.mark.parametrize("kind", KINDS)
def test_padding_may_hold_nan(kind):
    table = tables(kind)
    padded = ~(table.mask[:, :, None] & (table.columns != PADDING)[:, None, :])
    y = jnp.where(table.mask, table.y, 3 if kind == "classes" else jnp.nan)
    garbage = table._replace(x=jnp.where(padded, jnp.nan, table.x), y=y)
    np.testing.assert_array_equal(described(kind)(garbage), described(kind)(table))


@pytest.mark.parametrize("kind", KINDS)
def test_more_padding_changes_nothing(kind):
    table = one(kind, 1)
    wide = Table(
        x=jnp.pad(table.x, ((0, 16), (0, 4)), constant_values=jnp.nan),
        y=jnp.pad(table.y, (0, 16)),
        mask=jnp.pad(table.mask, (0, 16)),
        columns=jnp.pad(table.columns, (0, 4)),
    )
    classes = 6 if kind == "classes" else 4
    got = jax.jit(functools.partial(describe, kind=kind, num_classes=classes))(wide)
    # Trees and iterations amplify the rounding of sums of another length.
    np.testing.assert_allclose(got, of(table, kind), rtol=2e-2, atol=1e-2)
    cheap = slice(0, groups(kind)["landmarks"].start)
    np.testing.assert_allclose(got[cheap], of(table, kind)[cheap], atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_and_columns_matters_to_landmarks_alone(kind):
    table = one(kind, 2)
    rows = jax.random.permutation(jax.random.key(0), ROWS)
    columns = jax.random.permutation(jax.random.key(1), FEATURES)
    moved = Table(
        x=table.x[rows][:, columns],
        y=table.y[rows],
        mask=table.mask[rows],
        columns=table.columns[columns],
    )
    cheap = slice(0, groups(kind)["landmarks"].start)
    np.testing.assert_allclose(
        of(moved, kind)[cheap], of(table, kind)[cheap], atol=2e-4
    )


def test_the_names_of_the_classes_matter_to_landmarks_alone():
    table = one("classes", 2)
    renamed = table._replace(y=jnp.array([2, 0, 3, 1])[table.y])
    cheap = slice(0, groups("classes")["landmarks"].start)
    np.testing.assert_allclose(
        of(renamed, "classes")[cheap], of(table, "classes")[cheap], atol=2e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_columns_and_of_the_target_do_not_matter(kind):
    table = one(kind, 3)
    numbers = (table.columns == NUMBER) & (jnp.arange(FEATURES) % 2 == 0)
    scaled = table._replace(x=jnp.where(numbers, table.x * 1024.0, table.x))
    if kind == "number":
        scaled = scaled._replace(y=table.y * 4096.0)
    np.testing.assert_allclose(of(scaled, kind), of(table, kind), atol=2e-2)


def degenerate(kind):
    x = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    y = np.arange(ROWS) % 3
    plain = Table(
        x=jnp.asarray(x),
        y=jnp.asarray(y, jnp.int32 if kind == "classes" else jnp.float32),
        mask=jnp.arange(ROWS) < 20,
        columns=jnp.full(FEATURES, NUMBER),
    )
    kinds = jnp.array([NUMBER, CATEGORY, INDICATOR] + [PADDING] * (FEATURES - 3))
    return {
        "constant columns": plain._replace(x=jnp.ones_like(plain.x)),
        "one class": plain._replace(y=jnp.ones_like(plain.y)),
        "nothing known": plain._replace(x=jnp.full_like(plain.x, jnp.nan)),
        "one column missing": plain._replace(x=plain.x.at[:, 2].set(jnp.nan)),
        "one column": plain._replace(columns=kinds.at[1:].set(PADDING)),
        "no number": plain._replace(columns=kinds.at[0].set(CATEGORY)),
        "enormous values": plain._replace(x=plain.x * 1e30),
        "one row": plain._replace(mask=jnp.arange(ROWS) < 1),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_degenerate_tables_have_finite_descriptions(kind):
    cases = degenerate(kind)
    got = np.asarray(described(kind)(stack(list(cases.values()))))
    finite = dict(zip(cases, np.isfinite(got).all(axis=1)))
    assert all(finite.values()), finite
    # Bounded too: logarithms and inverse hyperbolic sines grow slowly.
    assert np.abs(got).max() < 50


@pytest.mark.parametrize("kind", KINDS)
def test_an_unlearnable_table_has_landmarks_like_chance(kind):
    table = degenerate(kind)["constant columns"]
    got = dict(zip(names(kind), of(table, kind)))
    for name in names(kind)[groups(kind)["landmarks"]]:
        if name.endswith("auc"):
            assert 0.2 < got[name] < 0.8, (name, got[name])
        else:
            # knn's smoothing and folds of other shares cost a little over chance.
            assert 0.9 < got[name] < 1.6, (name, got[name])


def test_an_unknown_kind_or_too_few_classes_is_refused():
    with pytest.raises(ValueError, match="describe: kind must be one of"):
        names("text")
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        describe(one("classes", 0), num_classes=1)
