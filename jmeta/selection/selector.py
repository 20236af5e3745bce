"""Choosing candidates for tasks never seen, learnt from a meta-dataset.

All training sets of all seeds are one batch of fits: every expert is trained on all of
them by the same compiled program.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmeta.data.records import MetaDataset
from jmeta.evaluation import Recommended, mean_costs, objective, paid
from jmeta.selection import experts
from jmeta.selection.inputs import FITS, Inputs, by_fits, chunked, make_inputs
from jmeta.selection.mixture import Mixture, choose_mixture
from jmeta.selection.sets import Trust, portfolio_of, settle_trust
from jmeta.types import Array

__all__ = ["Selected", "feature_sets", "recommend", "select"]

SURE = 0.5
"""Standard errors by which the gain must be above zero, or a fit abstains: the chances
that there is one are then two in three or better."""

TASKS_AT_ONCE = 16
"""Of which portfolios are made in one call."""


class Selected(NamedTuple):
    """What every fit chooses for every task, of training or not.

    Attributes:
      inputs: what the fits learnt from.
      mixture: what was made of the experts; leaves have a leading axis of fits. A fit
        that abstained chooses the single best and expects mean costs.
      charged: seconds spent on descriptions before `(fits, tasks)`; 0 where the fit
        abstained, which is decided before any description is computed.
      abstained: whether the fit always returns the single best `(fits,)`.
      usable: which features the fit uses `(fits, features)`.
    """

    inputs: Inputs
    mixture: Mixture
    charged: np.ndarray
    abstained: np.ndarray
    usable: np.ndarray


class FeatureSet(NamedTuple):
    """Features that are worth considering together, and what they cost.

    Attributes:
      usable: `(features,)` bool.
      charge: `(tasks,)` seconds.
      steps: places of the groups that are computed.
    """

    usable: np.ndarray
    charge: np.ndarray
    steps: tuple[int, ...]


def feature_sets(data: MetaDataset) -> list[FeatureSet]:
    """All features; then, where they cost time, without the most expensive steps.

    Steps are left out from the one that costs most on average; a set is kept if it
    costs at most half of the one before. A step goes with what it requires.
    """
    kept = list(range(len(data.groups)))
    whole = FeatureSet(
        usable=np.ones(len(data.features), bool),
        charge=data.group_costs.sum(1),
        steps=tuple(kept),
    )
    sets = [whole]
    names, usable = [group.name for group in data.groups], whole.usable.copy()
    for place in np.argsort(-data.group_costs.mean(0), kind="stable"):
        if place not in kept:
            continue
        gone = {names[place]}
        while True:  # What needs a step that is gone, goes too.
            more = {g.name for g in data.groups if gone & set(g.requires)} - gone
            if not more:
                break
            gone |= more
        kept = [place for place in kept if names[place] not in gone]
        lost = {f for g in data.groups if g.name in gone for f in g.features}
        usable[sorted(lost)] = False
        charge = data.group_costs[:, kept].sum(1)
        if not usable.any():
            break
        before = sets[-1].charge.mean()
        if before > 0 and charge.mean() <= before / 2:
            sets.append(FeatureSet(usable.copy(), charge, tuple(kept)))
    return sets


def _mix_one(
    inputs: Inputs,
    residuals: Array,
    costs: Array,
    reference: Array,
    reference_costs: Array,
) -> Mixture:
    return choose_mixture(
        residuals.reshape(-1, *inputs.costs.shape),
        (inputs.costs - inputs.base) / inputs.spread,
        inputs.base / inputs.spread,
        costs,
        reference,
        reference_costs,
        inputs.train,
        inputs.families,
    )


_mix = jax.jit(jax.vmap(_mix_one, in_axes=(FITS, 0, 0, 0, 0)))


def _mixtures(
    data: MetaDataset,
    inputs: Inputs,
    residuals: np.ndarray,
    charge: np.ndarray,
) -> Mixture:
    """Mixtures of all fits.

    Args:
      residuals: `(fits, experts, tasks, outputs)`.
      charge: `(fits, tasks)` seconds.
    """
    costs, train = objective(data), np.asarray(inputs.train)
    reference = np.array([mean_costs(costs[row]).argmin() for row in train])
    free = paid(data, np.zeros(len(data.tasks)))
    return by_fits(
        _mix,
        inputs,
        residuals,
        np.stack([paid(data, row) for row in charge]).astype(np.float32),
        reference,
        free[:, reference].T.astype(np.float32),
    )


def select(
    data: MetaDataset,
    train: np.ndarray,
    keys: np.ndarray,
    descriptions: np.ndarray | None = None,
    *,
    loss: str = "mixture",
) -> Selected:
    """Choose for every task, learning from each training set.

    Args:
      data: the meta-dataset; tasks that no fit learns from may have no costs.
      train: `(fits, tasks)` which tasks each fit may learn from.
      keys: `(fits,)` uint32; decide the fit's draws.
      descriptions: `(fits, tasks, features)` what each fit sees of the tasks, in
        place of the data's own.
      loss: of the meta-classifier; see `experts.network`.
    """
    num_fits = len(train)
    sets = feature_sets(data)
    whole = make_inputs(data, train, keys, descriptions)
    taken = np.zeros(num_fits, int)
    if len(sets) > 1:
        gains = []
        for option in sets:
            inputs = whole.using(np.tile(option.usable, (num_fits, 1)))
            trees = experts.forest(inputs, experts.FEW_TREES)
            charge = np.tile(option.charge, (num_fits, 1))
            gains.append(_mixtures(data, inputs, trees[:, None], charge).gain)
        taken = np.argmax(np.stack(gains), axis=0)
    usable = np.stack([sets[place].usable for place in taken])
    charge = np.stack([sets[place].charge for place in taken])
    inputs = whole.using(usable)
    both = np.stack([experts.forest(inputs), experts.network(inputs, loss)], axis=1)
    residuals = np.concatenate([both, experts.kernel(inputs)], axis=1)
    mixture = _mixtures(data, inputs, residuals, charge)
    abstained = np.asarray(mixture.gain <= SURE * mixture.error)
    return Selected(
        inputs=inputs,
        mixture=_without(mixture, inputs, abstained),
        charged=np.where(abstained[:, None], 0.0, charge),
        abstained=abstained,
        usable=usable,
    )


def _without(mixture: Mixture, inputs: Inputs, abstained: np.ndarray) -> Mixture:
    """The fits that abstained know nothing but the candidates' mean costs."""
    spread = np.asarray(inputs.spread)[:, None, None, 0]
    mean = (np.asarray(inputs.base)[:, None, :, 0]) / spread
    costs = np.asarray(inputs.costs)[None, :, :, 0] / spread
    errors = np.where(np.isfinite(costs), costs - mean, 0.0)
    plain = mixture._replace(
        expected=np.broadcast_to(mean, mixture.expected.shape),
        errors=errors,
        chosen=np.broadcast_to(mixture.reference[:, None], mixture.chosen.shape),
    )
    return jax.tree.map(
        lambda made, other: np.where(
            abstained.reshape(-1, *[1] * (made.ndim - 1)), other, made
        ),
        mixture,
        plain,
    )


@functools.partial(jax.jit, static_argnames=("size", "least"))
def _trusts(
    inputs: Inputs,
    expected: Array,
    errors: Array,
    chosen: Array,
    size: int,
    least: float,
) -> Trust:
    settle = functools.partial(settle_trust, size=size, least=least)
    return jax.vmap(settle, in_axes=(FITS, 0, 0, 0))(inputs, expected, errors, chosen)


@functools.partial(jax.jit, static_argnames=("size", "least"))
def _portfolios(
    inputs: Inputs,
    expected: Array,
    errors: Array,
    trust: Trust,
    task: Array,
    first: Array,
    size: int,
    least: float,
) -> Array:
    """Of several tasks, each with the fit that is asked for it."""

    def one(fit: Inputs, *asked: Any) -> Array:
        expected, errors, trust, task, first = asked
        gaps = jnp.sum(jnp.abs(fit.x - fit.x[task]), axis=1)
        return portfolio_of(
            task, fit, expected, errors, gaps, first, trust, size, least
        )

    return jax.vmap(one, in_axes=(FITS, 0, 0, 0, 0, 0))(
        inputs, expected, errors, trust, task, first
    )


def recommend(
    selected: Selected,
    fits: np.ndarray,
    size: int,
    *,
    least: float = -math.inf,
    rows: np.ndarray | None = None,
) -> Recommended:
    """What one fit recommends for each task: its choice, then what insures it.

    Args:
      selected: what every fit chooses.
      fits: `(tasks,)` the fit that is asked for each task.
      size: how many candidates, at most all.
      least: no cost is lower, such as 0 for regrets.
      rows: `(tasks,)` places of the tasks; None for all, in order.
    """
    made, rows = selected.mixture, np.arange(len(fits)) if rows is None else rows
    first = made.chosen[fits, rows]
    order: Any = first[:, None]
    if size > 1:
        trust = by_fits(
            lambda *some: _trusts(*some, size=size, least=least),
            selected.inputs,
            made.expected,
            made.errors,
            made.chosen,
        )
        # Who abstained uses no description.
        trust = trust._replace(scale=np.where(selected.abstained, np.inf, trust.scale))

        def some(fit: np.ndarray, task: np.ndarray, place: np.ndarray) -> Array:
            return _portfolios(
                selected.inputs.of(fit),
                made.expected[fit],
                made.errors[fit],
                jax.tree.map(lambda leaf: leaf[fit], trust),
                task,
                place,
                size,
                least,
            )

        order = chunked(some, (fits, rows, first), TASKS_AT_ONCE)
    return Recommended(order=order, charged=selected.charged[fits, rows])
