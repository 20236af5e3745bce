"""How large a meta-training is: which tasks, how many, how many steps."""

import dataclasses
from typing import Any, NamedTuple

from jmeta import learners
from jmeta.metadata import Bucket
from jmeta.metamodel import Shape

__all__ = ["Plan", "Share", "default_plan"]


class Share(NamedTuple):
    """How many tasks of one size to draw, and how many of them at a time."""

    bucket: Bucket
    num_tasks: int
    chunk: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of a meta-training.

    Attributes:
      shares: which tasks are drawn.
      proposed: the share of the tasks that is drawn after the meta-optimizers are
        learnt, and so measures what they propose.
      num_steps: of the meta-classifiers.
      optimizer_steps: of the meta-optimizer learnt from good settings.
      through_steps: of the meta-optimizer learnt through training.
      batch: tasks a step.
      learning_rate: of the meta-classifiers, at its start.
      shape: of the networks.
    """

    shares: tuple[Share, ...]
    proposed: float = 0.6
    num_steps: int = 3000
    optimizer_steps: int = 1000
    through_steps: int = 100
    batch: int = 64
    learning_rate: float = 2e-3
    shape: Shape = dataclasses.field(default_factory=Shape)


_SHARES = {
    learners.CLASSES: (
        (0.45, Bucket(256, 16, 2, 40, 192), 32),
        (0.2, Bucket(256, 16, 4, 40, 192), 32),
        (0.2, Bucket(1024, 32, 2, 150, 768), 16),
        (0.15, Bucket(512, 32, 8, 100, 400), 16),
    ),
    learners.NUMBER: (
        (0.3, Bucket(256, 16, 2, 40, 192), 32),
        (0.1, Bucket(1024, 32, 2, 150, 768), 16),
        (0.1, Bucket(512, 64, 2, 100, 400), 16),
    ),
}


def default_plan(kind: str, num_tasks: int, **options: Any) -> Plan:
    """The plan of `jmeta train`: small and middling tables, mostly of two classes.

    Args:
      kind: `"classes"` or `"number"`, of which half as many are drawn.
      num_tasks: for classes; rounded to whole chunks.
      options: of `Plan`.
    """
    shares = (
        Share(bucket, round(part * num_tasks), chunk)
        for part, bucket, chunk in _SHARES[kind]
    )
    return Plan(shares=tuple(shares), **options)
