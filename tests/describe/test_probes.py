import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta import learners
from jmeta.data.prior import sample_tables
from jmeta.describe.probes import (
    PROBES,
    SIZES,
    columns_for,
    lowest,
    probe,
    probe_names,
    probes,
)
from jmeta.tasks import Examples, kfold

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def tables():
    return sample_tables(KEY, 3, rows=64, features=8, num_classes=2)


@pytest.fixture(scope="module")
def described(tables):
    return jax.jit(jax.vmap(lambda table: probes(table, num_classes=2)))(tables)


def test_every_number_has_a_name_and_is_finite(described):
    assert described.shape == (3, len(probe_names()))
    assert np.isfinite(described).all()
    assert probe_names()[: len(SIZES)] == SIZES


@pytest.mark.parametrize("name", ["logistic", "gaussian_process"])
def test_what_a_learner_does_not_depend_on_is_not_computed(tables, described, name):
    one = jax.tree.map(lambda leaf: leaf[0], tables)
    found = jax.jit(lambda table: probes(table, num_classes=2, of=(name,)))(one)
    known = [place for place in range(len(found)) if np.isfinite(found[place])]
    assert known == list(columns_for(name))
    np.testing.assert_allclose(
        found[jnp.array(known)], described[0, jnp.array(known)], rtol=1e-4, atol=1e-4
    )


def test_a_learner_depends_on_the_sizes_and_on_its_own_probes():
    names = probe_names()
    for learner in PROBES:
        seen = {names[place] for place in columns_for(learner)}
        own = {name for name in names if name.startswith(f"{learner}(")}
        assert own and own | set(SIZES) <= seen


def told_of_logistic(loss):
    """A description in which logistic regression loses `loss(position)`."""
    space = learners.get("logistic", 2).space
    places = [space.encode(place)[0] for place in PROBES["logistic"].places]
    told = jnp.zeros(len(probe_names()))
    first = [name.startswith("logistic(") for name in probe_names()].index(True)
    for number, place in enumerate(places):
        told = told.at[first + 2 * number].set(loss(place))
        slope = jnp.arcsinh(30.0 * jax.grad(loss)(place))
        told = told.at[first + 2 * number + 1].set(slope)
    return told


@pytest.mark.parametrize(
    "loss, best",
    [
        (lambda u: 0.3 + (u - 0.3) ** 2, 0.3),
        (lambda u: 2.0 * (u - 0.6) ** 2 + 0.5 * (u - 0.6) ** 3, 0.6),
        (lambda u: 1.0 - 0.1 * u, 1.0),
        (lambda u: 0.1 * u, 0.0),
    ],
)
def test_the_lowest_point_of_a_cubic_is_found(loss, best):
    np.testing.assert_allclose(lowest(told_of_logistic(loss))["logistic"], best, 0.02)


def test_sizes_are_those_of_the_table(tables, described):
    rows = np.asarray(tables.mask).sum(axis=1)
    np.testing.assert_allclose(described[:, 0], np.log(rows), rtol=1e-6)
    share = np.array([np.mean(np.asarray(y)[m]) for y, m in zip(tables.y, tables.mask)])
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    np.testing.assert_allclose(described[:, SIZES.index("entropy")], entropy, rtol=1e-4)


def test_padding_changes_nothing_even_if_it_is_nan(tables, described):
    filled = tables._replace(
        x=jnp.where(tables.mask[..., None], tables.x, jnp.nan),
        y=jnp.where(tables.mask, tables.y, 1),
    )
    again = jax.jit(jax.vmap(lambda table: probes(table, num_classes=2)))(filled)
    np.testing.assert_array_equal(again, described)


def test_the_slope_is_the_difference_of_the_cross_validated_losses():
    with jax.enable_x64(True):
        x = jax.random.normal(KEY, (40, 3), float)
        y = (x[:, 0] + jax.random.normal(jax.random.key(1), (40,), float) > 0).astype(
            int
        )
        examples = Examples(x=x, y=y, mask=jnp.ones(40, bool))
        folds = kfold(KEY, y, examples.mask, 3)
        learner = learners.get("logistic", 2)
        unit = learner.space.encode(PROBES["logistic"].places[1])
        told = jax.jit(lambda unit: probe(learner, unit, KEY, examples, folds))
        slope = (told(unit + 1e-4)[0] - told(unit - 1e-4)[0]) / 2e-4
        np.testing.assert_allclose(told(unit)[1], jnp.arcsinh(30.0 * slope), rtol=1e-6)
        assert abs(slope) > 1e-4
