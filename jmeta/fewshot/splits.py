"""Which of some tasks or classes are learnt from, and which are held out."""

from collections.abc import Sequence

import numpy as np

from jmeta.data.collection import Collection, of_classes, subset
from jmeta.errors import InputError

__all__ = ["apart", "held_out", "named_classes", "origins"]


def named_classes(data: Collection, names: Sequence[str]) -> Collection:
    """The tasks with these classes alone.

    Raises:
      InputError: if there is no class of one of the names.
    """
    known = {name for of_task in data.classes for name in of_task}
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"no class is called {unknown[0]!r}; there are "
            f"{', '.join(sorted(known)[:8])}{', ...' if len(known) > 8 else ''}."
        )
    wanted = set(names)
    return of_classes(
        data,
        [
            np.flatnonzero([name in wanted for name in of_task])
            for of_task in data.classes
        ],
    )


def origins(data: Collection, ways: int | None) -> list[str]:
    """What must not be both trained on and judged: families, or where episodes draw
    classes these."""
    if ways is None:
        return [str(name) for name in data.family]
    pairs = zip(data.family, data.classes)
    return [f"{family}/{name}" for family, names in pairs for name in names]


def apart(data: Collection, judged: Collection) -> Collection:
    """The tasks of whose family none judges."""
    return subset(data, np.flatnonzero(~np.isin(data.family, judged.family)))


def held_out(
    data: Collection,
    share: float,
    *,
    ways: int | None = None,
    most: int = 200,
    seed: int = 0,
) -> tuple[Collection, Collection]:
    """Split tasks into those to train on, and a share that is held out, by families.

    Args:
      data: at least two families, or with ways classes enough for two episodes.
      share: of the tasks, at least; one family at any rate.
      ways: classes of an episode; of a single task so many of them, or the share, are
        held out. None where episodes do not draw classes.
      most: tasks that are held out.
      seed: decides which families.

    Raises:
      InputError: if none can be held out.
    """
    if not len(data.tasks):
        raise InputError("no task is left to train on: --valid holds all families.")
    generator = np.random.default_rng(seed)
    families, of_task, sizes = np.unique(
        data.family, return_inverse=True, return_counts=True
    )
    if len(families) > 1:
        order = generator.permutation(len(families))
        wanted = min(share * len(data.tasks), most)
        # Those that together do not exceed what is wanted, and at least one.
        fits = np.cumsum(sizes[order]) <= max(wanted, sizes[order[0]])
        fits[-1] = False
        held = np.isin(of_task, order[fits])
        return subset(data, np.flatnonzero(~held)), subset(data, np.flatnonzero(held))
    count = len(data.classes[0])
    if ways is None or len(data.tasks) > 1 or count < 2 * ways:
        raise InputError(
            f"all {len(data.tasks)} task(s) are of one family, so that none can be "
            "held out; name other tasks by --valid."
        )
    order = generator.permutation(count)
    number = min(max(round(share * count), ways), count - ways)
    parts = np.sort(order[number:]), np.sort(order[:number])
    rest, held = (of_classes(data, [chosen]) for chosen in parts)
    return rest, held
