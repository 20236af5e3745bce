"""Small meta-datasets whose right answers are known."""

import numpy as np

from jmeta.data.records import FeatureGroup, MetaDataset, Metric


def meta_dataset(
    num_tasks=80,
    num_candidates=4,
    *,
    runtime=False,
    noise=0.0,
    decided=True,
    seed=0,
    families=None,
):
    """Candidate k is good where the first description is in the k-th part of [0, 1].

    Candidate 0 is the single best: it is nearly as good everywhere. If not `decided`,
    descriptions say nothing.
    """
    rng = np.random.default_rng(seed)
    x = rng.random((num_tasks, 3))
    place = np.minimum((x[:, 0] * num_candidates).astype(int), num_candidates - 1)
    if not decided:
        place = rng.integers(num_candidates, size=num_tasks)
    costs = np.full((num_tasks, num_candidates), 0.8)
    costs[:, 0] = 0.4
    costs[np.arange(num_tasks), place] = 0.1
    costs = np.abs(costs + noise * rng.normal(size=costs.shape))
    solved, metric = np.ones(costs.shape, bool), Metric("score", True, None)
    if runtime:
        metric = Metric("runtime", False, 100.0)
        costs, solved = np.where(costs > 0.7, 1000.0, 50 * costs), costs <= 0.7
    return MetaDataset(
        name="small",
        tasks=tuple(f"t{i}" for i in range(num_tasks)),
        families=np.arange(num_tasks) if families is None else families,
        candidates=tuple(f"c{i}" for i in range(num_candidates)),
        features=("place", "b", "c"),
        descriptions=x,
        costs=costs,
        metric=metric,
        settings=None,
        groups=(
            FeatureGroup("cheap", (0,), ()),
            FeatureGroup("dear", (1, 2), ("cheap",)),
        ),
        group_costs=np.zeros((num_tasks, 2)),
        solved=solved,
        folds=np.arange(num_tasks)[None] % 5 if runtime else None,
    )
