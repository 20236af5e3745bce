"""The supervised meta-optimizer: from a task's description to settings in a space.

Three ways are learnt: a response model that is minimised over the space, a network that
proposes several settings, and one that proposes a single one, by squared distance to
good settings. A training set takes the first unless another surely did better on
training tasks whose family it had not learnt from. Proposals may lie between the
candidates that were run; they are judged by the nearest of these.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from jmeta.base import Proposals
from jmeta.data.records import MetaDataset
from jmeta.errors import InputError
from jmeta.evaluation import Recommended, mean_costs, objective
from jmeta.selection.inputs import make_inputs
from jmeta.selection.proposer import proposals
from jmeta.selection.settings import SettingsSpace, read_space
from jmeta.selection.surface import Surface, minima, surfaces

__all__ = [
    "WAYS",
    "Learnt",
    "Proposed",
    "chosen_ways",
    "has_settings",
    "learn",
    "propose",
]

WAYS = ("response", "mixture", "single")

SURE = 1.0
"""Standard errors by which another way than the first must be better to be taken."""

SIZE = 10
"""How many settings are proposed, or as many as there are candidates."""


class Learnt(NamedTuple):
    """What every fit proposes for every task.

    Attributes:
      space: of the settings.
      places: of the candidates whose settings are known, among all.
      settings: theirs, as columns in [0, 1].
      movable: which of their columns may change alone.
      regrets: of the first proposals of each of `WAYS`, on training tasks that it had
        not learnt from `(fits, ways, tasks)`; 0 on other tasks.
      lengths: of the response models' kernels.
      surface: the response models.
      mixture, single: proposals of the networks; leaves have axes of fits and tasks.
      train: which tasks each fit learnt from.
      rest: all candidates `(fits, candidates)` by mean cost.
      seconds: what each task's description costs `(tasks,)`.
    """

    space: SettingsSpace
    places: np.ndarray
    settings: np.ndarray
    movable: np.ndarray
    regrets: np.ndarray
    lengths: np.ndarray
    surface: Surface
    mixture: Proposals
    single: Proposals
    train: np.ndarray
    rest: np.ndarray
    seconds: np.ndarray


class Proposed(NamedTuple):
    """Settings to try on each task, best first.

    Attributes:
      units: `(tasks, proposals, columns)`; `Learnt.space` decodes them.
      nearest: `(tasks, proposals)` among all candidates the one nearest to each.
      recommended: different candidates: the nearest ones without repetition, then
        others near the first proposal, then any by mean cost.
    """

    units: np.ndarray
    nearest: np.ndarray
    recommended: Recommended


def _known(settings: pd.DataFrame | None) -> np.ndarray:
    """Places of the candidates of which any setting is known."""
    if settings is None:
        return np.zeros(0, int)
    return np.flatnonzero(settings.notna().any(axis=1))


def has_settings(data: MetaDataset) -> bool:
    """Whether candidates have settings that differ."""
    if data.settings is None:
        return False
    return any(read_space(data.settings.iloc[_known(data.settings)]).kept)


def chosen_ways(
    regrets: Float[np.ndarray, "fits ways tasks"], train: Bool[np.ndarray, "fits tasks"]
) -> Int[np.ndarray, " fits"]:
    """The way of each fit: the first, unless another surely has less regret."""
    counts = np.maximum(train.sum(axis=1), 1)[:, None]
    saved = regrets[:, :1] - regrets
    mean = saved.sum(axis=2) / counts
    spread = np.square(saved - mean[..., None]) * train[:, None]
    return np.argmax(mean - SURE * np.sqrt(spread.sum(axis=2)) / counts, axis=1)


def learn(data: MetaDataset, train: np.ndarray, keys: np.ndarray) -> Learnt:
    """Learn to propose settings, from each training set.

    Args:
      data: judged by regret. Candidates without any setting are not learnt from, and
        neither are tasks on which no other was run.
      train: `(fits, tasks)` which tasks each fit may learn from.
      keys: `(fits,)` uint32; decide the fit's draws.

    Raises:
      InputError: if candidates have no settings, or all have the same.
    """
    places = _known(data.settings)
    if data.settings is None or not has_settings(data):
        raise InputError(
            f"{data.name} tells no settings in which its candidates differ, so there "
            "is no space to propose settings in; give them in candidates.csv or leave "
            "meta_optimizer out."
        )
    paid = objective(data)
    rest = np.stack([mean_costs(paid[row]).argsort(kind="stable") for row in train])
    frame = data.settings.iloc[places].reset_index(drop=True)
    space = read_space(frame)
    settings = space.encode(frame)
    costs = data.costs[:, places]
    train = train & np.isfinite(costs).any(axis=1)
    inputs = make_inputs(
        data._replace(
            candidates=tuple(data.candidates[place] for place in places),
            costs=costs,
            solved=data.solved[:, places],
            settings=frame,
        ),
        train,
        keys,
    )
    surface, lengths, modelled = surfaces(inputs, settings)
    mixture, mixed = proposals(inputs, settings, min(SIZE, len(settings)))
    single, alone = proposals(inputs, settings, 1)
    return Learnt(
        space=space,
        places=places,
        settings=settings,
        movable=space.movable(frame),
        regrets=np.stack([modelled, mixed, alone], axis=1),
        lengths=lengths,
        surface=surface,
        mixture=mixture,
        single=single,
        train=train,
        rest=rest,
        seconds=data.group_costs.sum(axis=1),
    )


def propose(
    learnt: Learnt, fits: np.ndarray, ways: np.ndarray | None = None
) -> Proposed:
    """What one fit proposes for each task.

    Args:
      learnt: what every fit has learnt.
      fits: `(tasks,)` the fit that is asked for each task.
      ways: `(fits,)` places in `WAYS`; None for `chosen_ways`.
    """
    taken = chosen_ways(learnt.regrets, learnt.train) if ways is None else ways
    rows, size = np.arange(len(fits)), min(SIZE, len(learnt.settings))
    lowest = minima(
        learnt.surface,
        learnt.train,
        jnp.asarray(learnt.settings, jnp.float32),
        jnp.asarray(learnt.lengths),
        jnp.asarray(learnt.movable),
        fits,
        size,
    )
    several = _by_gate(jax.tree.map(lambda leaf: leaf[fits, rows], learnt.mixture))
    alone = np.repeat(learnt.single.units[fits, rows], size, axis=1)
    units = np.stack([lowest, several, alone])[taken[fits], rows]
    # Words, and who has which setting, are as in the nearest candidate.
    nearest = _gaps(units, learnt.settings).argmin(axis=2)
    units = np.where(learnt.movable[nearest], units, learnt.settings[nearest])
    units = learnt.space.snap(units)
    gaps = _gaps(units, learnt.settings)
    nearest = learnt.places[gaps.argmin(axis=2)]
    near = learnt.places[gaps[:, 0].argsort(axis=1, kind="stable")]
    order = np.concatenate([nearest, near, learnt.rest[fits]], axis=1)
    return Proposed(
        units=units,
        nearest=nearest,
        recommended=Recommended(order=_different(order), charged=learnt.seconds),
    )


def _by_gate(made: Proposals) -> np.ndarray:
    order = np.argsort(-np.asarray(made.logits), axis=1, kind="stable")[..., None]
    return np.take_along_axis(np.asarray(made.units), order, axis=1)


def _gaps(units: np.ndarray, settings: np.ndarray) -> np.ndarray:
    """Distances `(tasks, proposals, candidates)`."""
    from scipy.spatial.distance import cdist

    flat = cdist(units.reshape(-1, units.shape[-1]), settings)
    return flat.reshape(*units.shape[:-1], len(settings))


def _different(order: Int[np.ndarray, "tasks many"]) -> Int[np.ndarray, "tasks k"]:
    """The first different places of each row, in which every place occurs."""
    first = np.full((len(order), int(order.max()) + 1), order.shape[1])
    rows, steps = np.arange(len(order))[:, None], np.arange(order.shape[1])
    np.minimum.at(first, (rows, order), steps)
    return first.argsort(axis=1, kind="stable")[:, :SIZE]
