"""Short runs before any description is computed, for runtimes.

A task that a pre-solver ends costs the seconds until then and no description; any
other pays for the whole schedule before its description and its choice.

Source: Kadioglu et al., 2011 (3S), https://doi.org/10.1007/978-3-642-23786-7_35;
greedy as in Lindauer et al., 2015 (AutoFolio), https://doi.org/10.1613/jair.4726.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jmeta.data.records import MetaDataset
from jmeta.evaluation import Recommended, delayed, paid
from jmeta.selection.selector import Selected

__all__ = ["Schedule", "presolved", "schedules"]

STEPS = 3
SHARE = 0.1
"""Of the cutoff that a schedule may take."""

SURE = 2.0
"""Standard errors by which a step must save; it is the best of many on these tasks."""

LENGTHS = 0.5 ** np.arange(9.0, -1.0, -1.0)
"""Of a step, in units of what a schedule may take; shortest first, which wins ties."""


class Schedule(NamedTuple):
    """Which solvers run first, and for how long; a row a fit.

    Attributes:
      solvers: places of candidates, in the order in which they run.
      seconds: of each; 0 where there is no step, nor any after it.
    """

    solvers: Int[np.ndarray, "fits steps"]
    seconds: Float[np.ndarray, "fits steps"]


def _times(data: MetaDataset) -> Float[np.ndarray, "tasks candidates"]:
    """Seconds after which a run ends well; infinite if it never does."""
    return np.where(data.solved, data.costs, np.inf)


def schedules(data: MetaDataset, selected: Selected) -> Schedule:
    """Schedules that lower the mean cost of each fit's own training tasks.

    Steps are added greedily: of those whose mean saving is above zero by `SURE`
    standard errors, the one that saves most. Every training task has the choice of
    experts that had not learnt from it, and the descriptions are charged.

    Args:
      data: of runtimes, with a cutoff.
      selected: what every fit chooses.

    Raises:
      ValueError: if the costs are no runtimes.
    """
    if data.metric.cutoff is None:
        raise ValueError("schedules: costs must be runtimes with a cutoff.")
    cutoff, times = data.metric.cutoff, _times(data)
    train = np.asarray(selected.inputs.train)
    limit, num_fits = SHARE * cutoff, len(train)
    rows = np.arange(len(data.tasks))
    own = paid(data, np.zeros(len(rows)))[rows, selected.mixture.chosen]
    left, total = train.copy(), np.zeros(num_fits)
    made = Schedule(np.zeros((num_fits, STEPS), int), np.zeros((num_fits, STEPS)))

    def after(total: Float[np.ndarray, " fits"]) -> Float[np.ndarray, "fits tasks"]:
        """What the choices cost if a schedule of so many seconds ran before."""
        return delayed(own, selected.charged + total[:, None], cutoff)

    for step in range(STEPS):
        now, found = after(total), []
        for seconds in limit * LENGTHS:
            later = after(total + seconds)
            gain = _surely(times, left, now, later, total, seconds, train)
            found.append(np.where(total[:, None] + seconds <= limit, gain, 0.0))
        gains = np.stack(found, axis=1).reshape(num_fits, -1)
        add, best = gains.max(axis=1) > 0, gains.argmax(axis=1)
        length, solver = np.divmod(best, len(data.candidates))
        made.solvers[:, step] = np.where(add, solver, 0)
        made.seconds[:, step] = np.where(add, limit * LENGTHS[length], 0.0)
        left &= ~(add[:, None] & (times.T[solver] <= made.seconds[:, step, None]))
        total = total + made.seconds[:, step]
    return made


def _surely(
    times: Float[np.ndarray, "tasks candidates"],
    left: Bool[np.ndarray, "fits tasks"],
    now: Float[np.ndarray, "fits tasks"],
    later: Float[np.ndarray, "fits tasks"],
    total: Float[np.ndarray, " fits"],
    seconds: float,
    train: Bool[np.ndarray, "fits tasks"],
) -> Float[np.ndarray, "fits candidates"]:
    """What every solver as the next step saves of the mean; 0 where that is unsure.

    Args:
      left: training tasks that no step before ends.
      now: what the choices cost without the step, `later` after it.
      total: seconds of the steps before.
    """
    ends = times <= seconds
    needed = np.where(ends, times, 0.0)
    if_ended = np.where(left, now - total[:, None], 0.0)  # Less what is needed.
    if_not = np.where(left, now - later, 0.0)
    saved = if_ended @ ends - left @ needed + if_not @ ~ends
    squares = (
        np.square(if_ended) @ ends
        - 2 * if_ended @ needed
        + left @ np.square(needed)
        + np.square(if_not) @ ~ends
    )
    count = train.sum(axis=1, keepdims=True)
    gain = saved / count
    error = np.sqrt(np.maximum(squares / count - np.square(gain), 0.0) / count)
    return np.where(gain > SURE * error, gain, 0.0)


def presolved(
    data: MetaDataset,
    schedule: Schedule,
    fits: Int[np.ndarray, " tasks"],
    recommended: Recommended,
) -> Recommended:
    """What runs on each task in the end: a pre-solver, or what was recommended.

    Args:
      data: of runtimes.
      schedule: of every fit.
      fits: the fit that is asked for each task.
      recommended: what the fits would choose without a schedule.
    """
    solvers, seconds = schedule.solvers[fits], schedule.seconds[fits]
    needed = np.take_along_axis(_times(data), solvers, axis=1)
    ends = (needed <= seconds) & (seconds > 0)  # A run may take 0 seconds.
    rows, first = np.arange(len(fits)), ends.argmax(axis=1)
    done, before = ends.any(axis=1), np.cumsum(seconds, axis=1) - seconds
    last = recommended.charged + seconds.sum(axis=1)
    order = np.where(done, solvers[rows, first], recommended.order[:, 0])
    charged = np.where(done, before[rows, first], last)
    return Recommended(order=order[:, None], charged=charged)
