"""Few-shot tasks that are read in no time, and a model of them that knows nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from tiny_molecules import write_fsmol

from jmeta.fewshot.calibration import LEVELS, Calibration
from jmeta.fewshot.drawing import Plan
from jmeta.fewshot.model import FewShotModel
from jmeta.fewshot.recipes import Recipe, algorithm_of
from jmeta.fewshot.sources import Options, read_tasks
from jmeta.tasks import Examples, Task

RECIPE = Recipe(algorithm="prototypical", form="fingerprint", hidden=(8,), size=4)
PLAN = Plan(kind="classes", ways=None, shots=(8,), query=8, batch=2)
CALIBRATION = Calibration(
    power=jnp.array([0.3, -0.1]),
    rows=jnp.array([8, 16]),
    confidence=jnp.broadcast_to(jnp.linspace(0.5, 1.0, LEVELS), (2, LEVELS)),
    reach=jnp.array([1.6, 1.7]),
)


def write_tasks(folder):
    """Twelve tasks to train on, and three others."""
    write_fsmol(folder, "train", sizes=(40,) * 12)
    names = np.array(["V0", "V1", "V2"])
    write_fsmol(folder, "valid", sizes=(40,) * 3, task_id=names)
    return folder


def source(folder, role="train", **options):
    return read_tasks(folder, role, Options(**options))


def untrained(data, **changes):
    """A model as it is before meta-training."""
    recipe = dataclasses.replace(RECIPE, **changes)
    x = jnp.zeros((1, 4, *data.x.shape[1:]))
    y = jnp.zeros((1, 4), jnp.int32 if recipe.kind == "classes" else jnp.float32)
    rows = Examples(x=x, y=y, mask=jnp.ones((1, 4), bool))
    init = jax.jit(algorithm_of(recipe).init)
    return FewShotModel(
        recipe=recipe,
        plan=PLAN._replace(kind=recipe.kind),
        reader={
            "name": "molecules",
            "kind": recipe.kind,
            "row": list(data.x.shape[1:]),
            "classes": ["inactive", "active"],
        },
        params=init(jax.random.key(0), Task(rows, rows, jnp.zeros((1, 1)))).params,
        calibration=CALIBRATION,
        header={"origins": ["CHEMBL0", "CHEMBL1"]},
    )
