"""A few-shot model that is trained in no time, and its tasks."""

import numpy as np
from tiny_molecules import write_fsmol

from jmeta.fewshot.drawing import Plan
from jmeta.fewshot.recipes import Recipe
from jmeta.fewshot.sources import Options, read_tasks
from jmeta.fewshot.splits import held_out
from jmeta.fewshot.training import bring, train_fewshot

RECIPE = Recipe(
    algorithm="prototypical", form="fingerprint", hidden=(8,), size=4, steps=4
)
PLAN = Plan(kind="classes", ways=None, shots=(8,), query=8, batch=2)


def write_tasks(folder, **changes):
    """Twelve tasks to train on, and three others."""
    write_fsmol(folder, "train", sizes=(40,) * 12, **changes)
    names = np.array(["V0", "V1", "V2"])
    return write_fsmol(folder, "valid", sizes=(40,) * 3, task_id=names)


def source(folder, role="train", **options):
    return read_tasks(folder, role, Options(**options))


def trained(folder, out, report=None, recipe=RECIPE, plan=PLAN, **options):
    """A model of the tasks in a folder."""
    found = source(folder, **options)
    rest, held = held_out(found.data, 0.25)
    return train_fewshot(
        out,
        recipe,
        plan,
        bring(plan, rest, held, None),
        reader=found.reader,
        seed=0,
        checkpoint_every=2,
        header={"name": "tiny"},
        report=report,
    )
