"""A meta-dataset in memory: what every candidate cost on every task."""

from typing import NamedTuple

import numpy as np
import pandas as pd

__all__ = ["FeatureGroup", "MetaDataset", "Metric"]


class Metric(NamedTuple):
    """What the costs mean.

    Attributes:
      name: "balanced accuracy", "runtime"; "score" if the source does not say.
      maximize: whether higher was better in the source.
      cutoff: the time limit in seconds if costs are PAR10 of it, that is the runtime,
        or ten times the limit for a run that failed; None if they are no runtimes.
    """

    name: str
    maximize: bool
    cutoff: float | None


class FeatureGroup(NamedTuple):
    """Features that one step computes together.

    Attributes:
      name: of the step.
      features: places of the features it provides. A feature that several steps
        provide needs all of them.
      requires: steps that must have run before.
    """

    name: str
    features: tuple[int, ...]
    requires: tuple[str, ...]


class MetaDataset(NamedTuple):
    """Costs of candidates on tasks, and what is known of both.

    Attributes:
      name: the folder's, or the scenario's own.
      tasks: their names.
      families: `(tasks,)` int, numbered by first appearance. Tasks of one family never
        stand on both sides of a split; where nothing is known each is its own.
      candidates: their names.
      features: names of the descriptions' columns.
      descriptions: `(tasks, features)` float64, NaN where missing.
      costs: `(tasks, candidates)` float64, lower is better: the negative score if the
        source maximizes, PAR10 for runtimes; NaN where never run.
      metric: what the costs mean.
      settings: a row per candidate, in order, a column per hyperparameter; Python
        values, None where unknown. None if there are none.
      groups: steps that compute features; () if nothing is known.
      group_costs: `(tasks, groups)` float64 seconds, 0 where unknown.
      solved: `(tasks, candidates)` bool: the run ended within the cutoff and without
        failing; where costs are no runtimes, there is a cost.
      folds: `(repeats, tasks)` int, official folds from 0, -1 where a task is in none;
        None if there are none.
    """

    name: str
    tasks: tuple[str, ...]
    families: np.ndarray
    candidates: tuple[str, ...]
    features: tuple[str, ...]
    descriptions: np.ndarray
    costs: np.ndarray
    metric: Metric
    settings: pd.DataFrame | None
    groups: tuple[FeatureGroup, ...]
    group_costs: np.ndarray
    solved: np.ndarray
    folds: np.ndarray | None
