"""Few-shot learning on pictures: letters, scans and blood cells.

    python benchmarks/images.py --data ../shared/data/images --json

`omniglot`: the 20 official one-shot runs (20-way 1-shot within an alphabet), networks
trained on five background alphabets (`small1`, `small2`) or on all eight of them.
`mednist`: trained on three classes of scans, judged on 3-way episodes of the other
three; ten of the twenty splits, so that each class is judged five times. `bccd`:
trained on all six classes of scans, judged on blood cells.

Beside each learned method stands a control whose support labels are shuffled; beside
all stand plain training on the support, from a fresh network and from one that was
trained to tell the training classes apart, and floors on pixels. Training goes on from
`--out` where it was stopped, and what was evaluated is not evaluated again.
"""

import dataclasses
import functools
import json
import pathlib
import platform
import sys
from collections.abc import Callable
from typing import Any

import image_methods as methods
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from clocked import told, trained_in
from image_experiments import (
    LETTERS,
    SCANS,
    Experiment,
    cells,
    letters,
    scans,
    tasks_of_runs,
)
from image_floors import FLOORS, nearest_by_hausdorff
from jax.tree_util import Partial
from rich.console import Console
from rich.table import Table

from jmeta.data.omniglot import read_omniglot_runs
from jmeta.tasks import Task

UNTRAINED = (*FLOORS, "hausdorff")
TUNED = ("fresh", "pretrained")
KINDS = ("omniglot", "mednist", "bccd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder of `omniglot`, `mednist` and `bccd`.
      out: where checkpoints and what was evaluated are kept.
      only: experiments.
      methods: learned ones, plain training, and floors.
      episodes: that judge, of each experiment and number of shots but `omniglot`.
      seeds: of training, of `omniglot`.
      valid: judge `omniglot` on the alphabets of the other background set instead of
        the runs, to choose settings by.
      json: print one JSON object and nothing else on stdout.
    """

    data: pathlib.Path = pathlib.Path("../shared/data/images")
    out: pathlib.Path = pathlib.Path("images-run")
    only: tuple[str, ...] = KINDS
    methods: tuple[str, ...] = (*UNTRAINED, *TUNED, *methods.LEARNED)
    episodes: int = 600
    seeds: tuple[int, ...] = (0,)
    valid: bool = False
    json: bool = False


def experiments_of(kind: str, arguments: Arguments) -> list[Experiment]:
    """What is trained on and what judges, by name."""
    if kind == "omniglot":
        return letters(arguments.data, arguments.seeds, valid=arguments.valid)
    make = scans if kind == "mednist" else cells
    return make(arguments.data, arguments.episodes)


def predictor(predict: Callable[..., Any]) -> Callable[[Any, Task], np.ndarray]:
    """The likeliest class of each query of each episode."""
    run = jax.jit(
        lambda params, tasks: jax.lax.map(
            lambda task: jnp.argmax(predict(params, task), axis=1), tasks
        )
    )
    return lambda params, tasks: np.asarray(run(params, tasks))


def trained(
    experiment: Experiment, name: str, folder: pathlib.Path
) -> tuple[Callable[[Task], np.ndarray], float]:
    """What a method answers after its training, and how many seconds that took."""
    plan = experiment.plan
    # Any episode tells the shapes, and spares a program that draws one.
    shapes: Any = jax.tree.map(
        lambda leaf: leaf[:1], next(iter(experiment.judged.values()))
    )
    some = shapes.support.x[0]
    if name == "fresh":
        start, predict = methods.fine_tuned(plan, some, None)
        return functools.partial(predictor(predict), start), 0.0
    if name == "pretrained":
        algorithm, sample = methods.pretraining(plan, experiment.bank)
        shapes = jax.tree.map(lambda leaf: leaf[0], shapes.support)
    else:
        algorithm, sample = methods.learned(name, plan), methods.sampler(plan)
    state, seconds = trained_in(
        folder,
        f"{experiment.name} {name}",
        algorithm,
        Partial(sample, experiment.bank),
        jax.random.key(experiment.seed),
        num_steps=plan.num_steps[name],
        steps_per_call=25,
        init_tasks=shapes,
        checkpoint_every=100,
    )
    params, predict = state.params, algorithm.predict
    if name == "pretrained":
        params, predict = methods.fine_tuned(plan, some, state.params)
    return functools.partial(predictor(predict), params), seconds


def floor(name: str, tasks: Task) -> np.ndarray:
    """A floor's answers, episode by episode."""
    answers = []
    for x, y, query in zip(*map(np.asarray, (*tasks.support[:2], tasks.query.x))):
        if name == "hausdorff":
            answers.append(
                y[nearest_by_hausdorff(255 * x[..., 0], 255 * query[..., 0])]
            )
        else:
            answers.append(FLOORS[name](x, y, query))
    return np.array(answers)


def shuffled(tasks: Task) -> Task:
    """The control: the same episodes, the labels of each support in random order."""
    keys = jax.random.split(jax.random.key(1), len(tasks.support.y))
    y = jax.vmap(jax.random.permutation)(keys, tasks.support.y)
    return tasks._replace(support=tasks.support._replace(y=y))


def errors(tasks: Task, answers: np.ndarray) -> list[float]:
    """The share of wrong answers in each episode, in which all rows count."""
    return np.mean(answers != np.asarray(tasks.query.y), axis=1).tolist()


def evaluated(
    experiment: Experiment, name: str, arguments: Arguments
) -> dict[str, Any] | None:
    """The errors of one method, read from the folder where they are there already."""
    official = experiment.name.startswith("omniglot") and not arguments.valid
    if name == "hausdorff" and not official:
        return None
    # What is not trained is the same for all sets of letters.
    shared = official and name in UNTRAINED
    folder = arguments.out / ("omniglot" if shared else experiment.name) / name
    file = folder.with_suffix(".json")
    if file.exists():
        return json.loads(file.read_text())
    found: dict[str, Any] = {}
    if name in UNTRAINED:
        answer, seconds = functools.partial(floor, name), 0.0
    else:
        answer, seconds = trained(experiment, name, folder)
    for shots, tasks in experiment.judged.items():
        if name == "hausdorff":
            # On the points of the pictures as they are.
            path = arguments.data / "omniglot" / "all_runs.zip"
            tasks = tasks_of_runs(read_omniglot_runs(path, size=105))
        found[shots] = errors(tasks, answer(tasks))
        if name in methods.LEARNED:
            found[f"{shots}_shuffled"] = errors(tasks, answer(shuffled(tasks)))
        told(f"{experiment.name} {name}, {shots} shots: {np.mean(found[shots]):.4f}")
    found = {"errors": found, "seconds": seconds}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))
    return found


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean errors in percent by method, with half of their 95 % intervals.

    Intervals are over episodes; where several networks were trained, on splits or with
    seeds, that over networks stands beside it.
    """
    out: dict[str, Any] = {}
    for name, runs in found.items():
        rows: dict[str, Any] = {}
        for shots in runs[0]["errors"]:
            each = [np.array(run["errors"][shots]) for run in runs]
            pooled = np.concatenate(each)
            half = 1.96 * pooled.std(ddof=1) / len(pooled) ** 0.5
            rows[shots] = {
                "error": round(100 * float(pooled.mean()), 2),
                "interval": round(100 * float(half), 2),
                "episodes": len(pooled),
            }
            if len(each) > 1:
                means = 100 * np.array([one.mean() for one in each])
                rows[shots] |= {
                    "networks": means.round(2).tolist(),
                    "deviation": round(float(means.std(ddof=1)), 2),
                }
        rows["seconds"] = round(float(np.mean([run["seconds"] for run in runs])), 1)
        out[name] = rows
    return out


def check_folder(arguments: Arguments) -> None:
    """See that what the folder holds was made with the same settings."""
    settings = {
        "plans": [LETTERS._asdict(), SCANS._asdict()],
        "episodes": arguments.episodes,
        "valid": arguments.valid,
    }
    text = json.dumps(settings)
    file = arguments.out / "settings.json"
    if file.exists() and file.read_text() != text:
        sys.exit(f"images: {str(file)!r} holds other settings; choose another --out.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def main(arguments: Arguments) -> None:
    """Train, evaluate, print."""
    known = {*UNTRAINED, *TUNED, *methods.LEARNED}
    for given, all_of_them in (
        (arguments.methods, known),
        (arguments.only, set(KINDS)),
    ):
        if set(given) - all_of_them:
            sys.exit(f"images: must be of {sorted(all_of_them)}, not {given}.")
    check_folder(arguments)
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for kind in arguments.only:
        for experiment in experiments_of(kind, arguments):
            # The splits of mednist are one result, and so are seeds.
            group = experiment.name
            if kind != "bccd":
                cut = -2 if kind == "omniglot" else -4
                group = experiment.name[:cut]
            for name in arguments.methods:
                made = evaluated(experiment, name, arguments)
                if made is not None:
                    groups.setdefault(group, {}).setdefault(name, []).append(made)
    out: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "plans": {"omniglot": LETTERS._asdict(), "mednist": SCANS._asdict()},
        "errors": {group: summary(found) for group, found in groups.items()},
    }
    if arguments.json:
        print(json.dumps(out, indent=1))
    else:
        show(out["errors"])


def show(groups: dict[str, Any]) -> None:
    """A table for people."""
    table = Table("errors, %", "method", "1 shot", "5 shots", "shuffled", "seconds")
    for group, found in groups.items():
        for name, rows in found.items():
            cells = [
                f"{rows[shots]['error']:.2f} ± {rows[shots]['interval']:.2f}"
                if shots in rows
                else ""
                for shots in ("1", "5", "1_shuffled")
            ]
            table.add_row(group, name, *cells, str(rows["seconds"]))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
