"""What experts learn from: quantiles of training tasks, costs above the base."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.stats
from small_meta import meta_dataset

from jmeta.data.records import Metric
from jmeta.selection import inputs
from jmeta.selection.experts import network


def test_quantiles_are_ranks_among_training_tasks():
    values = jnp.asarray([3.0, 1.0, 1.0, 2.0, jnp.nan, -jnp.inf, 9.0, -9.0])
    train = jnp.asarray([1, 1, 1, 1, 1, 0, 0, 0], bool)
    expected = [0.875, 0.25, 0.25, 0.625, -1.0, -1.0, 1.0, 0.0]
    np.testing.assert_allclose(inputs.quantiles(values, train), expected, atol=1e-6)
    rng = np.random.default_rng(0)
    seen = rng.normal(size=50)
    ranks = (scipy.stats.rankdata(seen) - 0.5) / 50
    found = inputs.quantiles(jnp.asarray(seen), jnp.ones(50, bool))
    np.testing.assert_allclose(found, ranks, atol=1e-6)


def made(data, train=None):
    train = np.ones((1, len(data.tasks)), bool) if train is None else train
    return inputs.make_inputs(data, train, np.arange(len(train)))


def residuals(found):
    one = jax.vmap(inputs.Inputs.residuals, in_axes=(inputs.FITS,))
    return one(found)


def test_what_a_fit_does_not_train_on_changes_nothing_it_learns_from():
    data = meta_dataset(noise=0.05)
    train = np.arange(80)[None] < 60
    changed = data._replace(costs=np.where(train.T, data.costs, 77.0))
    one, other = made(data, train), made(changed, train)
    np.testing.assert_array_equal(one.base, other.base)
    np.testing.assert_array_equal(one.spread, other.spread)
    kept = [leaf[0, :60] for leaf in map(residuals, (one, other))]
    np.testing.assert_array_equal(*kept)
    far = data._replace(descriptions=np.where(train.T, data.descriptions, 1e300))
    np.testing.assert_array_equal(one.x[0, :60], made(far, train).x[0, :60])
    assert np.isfinite(made(far, train).x).all()


def test_a_feature_that_may_not_be_used_is_constant():
    found = made(meta_dataset()).using(np.array([[True, False, True]]))
    assert np.ptp(found.x[0, :, 1]) == 0
    assert np.ptp(found.x[0, :, 0]) > 0.9


def test_residuals_are_zero_on_average_and_missing_runs_are_filled():
    data = meta_dataset(noise=0.1)
    costs = data.costs.copy()
    costs[::3, 2] = np.nan
    found = residuals(made(data._replace(costs=costs)))
    assert np.isfinite(found).all()
    whole = residuals(made(data)).reshape(80, 4, 2)
    np.testing.assert_allclose(whole.mean(0), 0.0, atol=1e-4)


def test_the_second_view_is_ranks_or_logarithms():
    data = meta_dataset(noise=0.1)
    ranks = inputs.views(data)[:, :, 1]
    np.testing.assert_array_equal(
        ranks.argsort(1, kind="stable"), data.costs.argsort(1, kind="stable")
    )
    times = meta_dataset(runtime=True)
    np.testing.assert_allclose(
        inputs.views(times)[:, :, 1], np.log10(times.costs + 1.0)
    )


def curve(hidden):
    """Twelve candidates along a line; the best is where the first description is."""
    place = np.linspace(0, 1, 12)
    data = meta_dataset(num_tasks=120)
    costs = (place - data.descriptions[:, :1]) ** 2
    costs[:, hidden] = np.nan
    return data._replace(
        costs=costs,
        solved=np.isfinite(costs),
        candidates=tuple(f"c{i}" for i in range(12)),
        settings=pd.DataFrame({"place": place.tolist()}, dtype=object),
        metric=Metric("loss", False, None),
    )


def test_a_candidate_that_never_ran_is_told_by_its_settings():
    data, hidden = curve([3, 7]), [3, 7]
    train = (np.arange(120) < 100)[None]
    found = made(data, train)
    base = np.asarray(found.base)[0, :, 0]
    for place in hidden:
        around = base[[place - 1, place + 1]]
        assert around.min() - 0.05 < base[place] < around.max() + 0.05
    said = network(found).reshape(1, 120, 12, 2)[0, 100:, :, 0]
    truth = (np.linspace(0, 1, 12) - data.descriptions[100:, :1]) ** 2
    for place in hidden:
        assert np.corrcoef(said[:, place], truth[:, place])[0, 1] > 0.6
