"""What a fit on a whole meta-dataset says of new tasks, and of what explains them.

Both are tasks that the fit does not learn from: one compiled program trains it and
predicts all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jmeta.data.records import MetaDataset
from jmeta.evaluation import by_regret
from jmeta.selection.attribution import (
    draw_ranks,
    effects,
    paths,
    typical_task,
    varying,
)
from jmeta.selection.inputs import chunked, fits_at_once
from jmeta.selection.selector import recommend, select

__all__ = ["ROWS", "Answers", "Report", "answers", "with_tasks"]

ROWS = 1024
"""About how many further tasks one fit predicts."""

PAIRS = 4
"""Of orders, for each task's attributions."""

Report = Callable[[str, int, int, dict[str, Any]], None]
"""Told `(stage, done, total, numbers)`."""


class Answers(NamedTuple):
    """What fits say of batches of new tasks; leaves have a leading axis of fits.

    Attributes:
      order: the choice, then what insures it `(batch, size)`.
      other: what the choice is compared with: the single best, or where that is the
        choice the runner-up `(batch,)`.
      expected: costs `(batch, candidates)`.
      seconds: what is spent on descriptions before `(batch,)`.
      lead: of the choice over the other, in expected cost `(batch,)`.
      typical: the same candidates' on the typical task `(batch,)`.
      effects: of each description; they add up to lead - typical `(batch, features)`.
      errors: measured less expected costs of the known tasks `(tasks, candidates)`.
      chosen: for the known tasks, without having learnt from them `(tasks,)`.
      reference: place of the single best.
      abstained: whether the fit always returns it.
      usable: which descriptions the fit uses `(features,)`.
      gain: mean cost saved on known tasks, and its standard error `(2,)`.
    """

    order: np.ndarray
    other: np.ndarray
    expected: np.ndarray
    seconds: np.ndarray
    lead: np.ndarray
    typical: np.ndarray
    effects: np.ndarray
    errors: np.ndarray
    chosen: np.ndarray
    reference: np.ndarray
    abstained: np.ndarray
    usable: np.ndarray
    gain: np.ndarray


def with_tasks(
    data: MetaDataset,
    names: Sequence[str],
    descriptions: Float[np.ndarray, "new features"],
) -> MetaDataset:
    """A meta-dataset with further tasks on which nothing was run yet.

    Each is a family of its own, in no fold; its descriptions take as long to compute
    as those of the others on average.

    Raises:
      ValueError: if names and descriptions do not fit the meta-dataset.
    """
    num = len(names)
    if descriptions.shape != (num, len(data.features)):
        raise ValueError(
            f"with_tasks: descriptions must have shape ({num}, {len(data.features)}), "
            f"got {descriptions.shape}."
        )
    families = data.families.max() + 1 + np.arange(num)
    runs = num, len(data.candidates)
    seconds = np.tile(data.group_costs.mean(axis=0), (num, 1))
    folds = data.folds
    if folds is not None:
        folds = np.concatenate([folds, np.full((len(folds), num), -1)], axis=1)
    return data._replace(
        tasks=(*data.tasks, *names),
        families=np.concatenate([data.families, families]),
        descriptions=np.concatenate([data.descriptions, descriptions]),
        costs=np.concatenate([data.costs, np.full(runs, np.nan)]),
        group_costs=np.concatenate([data.group_costs, seconds]),
        solved=np.concatenate([data.solved, np.zeros(runs, bool)]),
        folds=folds,
    )


def _runner_up(
    data: MetaDataset, expected: np.ndarray, choice: np.ndarray
) -> np.ndarray:
    """The lowest expected cost but the choice's, of candidates that ever ran."""
    costs = np.where(np.isfinite(data.costs).any(axis=0), expected, np.inf)
    np.put_along_axis(costs, choice[..., None], np.inf, axis=-1)
    return costs.argmin(axis=-1)


def _leads(costs: np.ndarray, choice: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What the choice costs less than the other `(fits, batch, ...)`.

    Args:
      costs: `(fits, batch, ..., candidates)`.
      choice, other: `(fits, batch)`.
    """

    def of(places: np.ndarray) -> np.ndarray:
        places = places.reshape(*places.shape, *[1] * (costs.ndim - 2))
        return np.take_along_axis(costs, places, axis=-1)[..., 0]

    return of(other) - of(choice)


def _ask(
    data: MetaDataset,
    tasks: Float[np.ndarray, "fits batch features"],
    ranks: Int[np.ndarray, "orders players"],
    size: int,
    seed: int,
) -> Answers:
    """Ask the same fit of several batches of new tasks, and of what explains them."""
    (num_fits, batch, features), known = tasks.shape, len(data.tasks)
    typical, players = typical_task(data.descriptions), varying(data.descriptions)
    ways = paths(tasks, typical, players, ranks)
    parts = [
        np.broadcast_to(data.descriptions, (num_fits, known, features)),
        tasks,
        np.broadcast_to(typical, (num_fits, 1, features)),
        ways.reshape(num_fits, -1, features),
    ]
    rows = np.concatenate(parts, axis=1)
    new = rows[0, known:]
    train = np.tile(np.arange(rows.shape[1]) < known, (num_fits, 1))
    selected = select(
        with_tasks(data, [""] * len(new), new),
        train,
        np.full(num_fits, seed, np.uint32),
        rows,
    )
    made = selected.mixture
    spread = np.asarray(selected.inputs.spread)[:, :1, None]
    fits, places = np.divmod(np.arange(num_fits * batch), batch)
    least = 0.0 if by_regret(data) else -np.inf
    told = recommend(selected, fits, size, least=least, rows=known + places)
    order = told.order.reshape(num_fits, batch, size)
    choice, reference = order[..., 0], np.asarray(made.reference)
    expected = np.asarray(made.expected)[:, known:] * spread
    here, there = expected[:, :batch], expected[:, batch]
    single = np.broadcast_to(reference[:, None], choice.shape)
    other = np.where(choice == single, _runner_up(data, here, choice), single)

    ends = (*ways.shape[:3], 1, len(data.candidates))
    on_the_way = [
        np.broadcast_to(there[:, None, None, None], ends),
        expected[:, batch + 1 :].reshape(*ways.shape[:4], -1),
        np.broadcast_to(here[:, :, None, None], ends),
    ]
    leads = _leads(np.concatenate(on_the_way, axis=3), choice, other)
    found = np.zeros(tasks.shape)
    found[..., players] = effects(leads, ranks)
    return Answers(
        order=order,
        other=other,
        expected=here,
        seconds=told.charged.reshape(num_fits, batch),
        lead=leads[:, :, 0, -1],
        typical=leads[:, :, 0, 0],
        effects=found,
        errors=np.asarray(made.errors)[:, :known] * spread,
        chosen=np.asarray(made.chosen)[:, :known],
        reference=reference,
        abstained=selected.abstained,
        usable=selected.usable,
        gain=np.stack([made.gain, made.error], axis=1),
    )


def answers(
    data: MetaDataset,
    descriptions: Float[np.ndarray, "new features"],
    size: int,
    seed: int,
    report: Report | None = None,
) -> Answers:
    """What one fit that has learnt from all tasks says of new ones.

    Args:
      data: the meta-dataset.
      descriptions: of at least one new task.
      size: of the sets that are recommended, at most the number of candidates.
      seed: decides the fit's draws and the orders of the attributions.
      report: told how far it is.

    Returns:
      Leaves without the axes of fits and batches, but one of new tasks where tasks
      differ.
    """
    num = len(descriptions)
    ranks = draw_ranks(len(varying(data.descriptions)), PAIRS, seed)
    # Always as many tasks, so that another number of them compiles nothing.
    batch = max(1, ROWS // max(ranks.size - len(ranks) + 1, 1))
    count = -(-num // batch)
    done = 0

    def some(places: np.ndarray) -> Answers:
        nonlocal done
        made = _ask(data, descriptions[places], ranks, size, seed)
        done += len(places)
        if report is not None:
            report(data.name, min(done * batch, num), num, {})
        return made

    places = np.minimum(np.arange(count * batch), num - 1).reshape(count, batch)
    made = chunked(some, (places,), fits_at_once())
    return Answers(
        *(leaf.reshape(-1, *leaf.shape[2:])[:num] for leaf in made[:7]),
        *(leaf[0] for leaf in made[7:]),
    )
