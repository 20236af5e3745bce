"""FS-Mol: learned adaptation beside what chemists use, on the same draws.

    python benchmarks/fsmol.py --data ../shared/data/molecules/fsmol --json

Meta-trains on the split `train`, of which tasks are left out that share their target
with one of `valid`, and evaluates on `valid`: supports of 16, 32, 64 and 128 molecules
that keep the task's share of actives, ten draws each, the rest as query. The score is
the average precision less the query's share of actives; means and standard errors are
over tasks. Beside each learned method stands a control whose support labels are
shuffled, and below them the mean of their probabilities. With `--descriptors`, learned
methods see those of rdkit before the fingerprints, from the SMILES beside the files;
they take many minutes, and are kept. Training goes on from `--out`
where it was stopped, and what was evaluated is not evaluated again.
"""

import dataclasses
import functools
import json
import pathlib
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import fsmol_protocol as protocol
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from clocked import told, trained_in
from fsmol_floors import FLOORS, scores_of
from jax.tree_util import Partial
from rich.console import Console
from rich.table import Table

from jmeta.algorithms import deep_kernel, deep_tanimoto, prototypical, ridge_head
from jmeta.base import MetaAlgorithm
from jmeta.data.collection import Collection
from jmeta.data.descriptors import kept_descriptors, scaling_of, with_descriptors
from jmeta.episodes import Bank, draw_episodes, eligible, make_bank
from jmeta.fewshot.drawing import Draws, shuffled
from jmeta.fewshot.sources import Options, Source, read_tasks
from jmeta.fewshot.splits import apart
from jmeta.fingerprints import dense_counts
from jmeta.networks import FingerprintMLP, from_linen
from jmeta.tasks import bucket

LEARNED = ("deep_kernel", "deep_ridge", "ridge", "mahalanobis", "prototypical")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder of FS-Mol's files.
      out: where checkpoints and what was evaluated are kept.
      methods: learned ones and floors.
      descriptors: the folder where they are kept; none to do without.
      steps: of meta-training, of each learned method.
      tasks: episodes in a step.
      query: molecules of a training episode's query.
      train_shots: sizes of supports in training, drawn alike.
      lr: of Adam on the network, falling to 0 by a cosine; the head learns ten times
        as fast.
      dropout: of the network.
      draws: of supports in the evaluation.
      seed: of training.
      json: print one JSON object and nothing else on stdout.
    """

    data: pathlib.Path = pathlib.Path("../shared/data/molecules/fsmol")
    out: pathlib.Path = pathlib.Path("fsmol-run")
    methods: tuple[str, ...] = (*FLOORS, *LEARNED)
    descriptors: pathlib.Path | None = None
    steps: int = 2400
    tasks: int = 16
    query: int = 64
    train_shots: tuple[int, ...] = (16, 32, 64)
    lr: float = 1e-3
    dropout: float = 0.0
    draws: int = 10
    seed: int = 0
    json: bool = False


def with_levels(
    arguments: Arguments, training: Source, judging: Source
) -> tuple[Collection, Collection, int]:
    """Both with descriptors, scaled by those that are trained on; and how many."""
    kept = apart(training.data, judging.data)
    if arguments.descriptors is None:
        return kept, judging.data, 0
    known, others = (
        kept_descriptors(source.smiles, arguments.descriptors)
        for source in (training, judging)
    )
    scaling = scaling_of(known[np.unique(kept.rows)])
    judged = judging.data
    return (
        kept._replace(x=with_descriptors(kept.x, known, scaling)),
        judged._replace(x=with_descriptors(judged.x, others, scaling)),
        len(scaling["names"]),
    )


def algorithm_of(
    name: str, arguments: Arguments, num_descriptors: int
) -> MetaAlgorithm:
    """A method that learns across tasks."""
    network = from_linen(
        FingerprintMLP(
            (512, 512),
            256,
            num_descriptors=num_descriptors,
            dropout=arguments.dropout,
        )
    )

    def adam(lr: float) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(lr, arguments.steps))

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.partition(
            {"network": adam(arguments.lr), "head": adam(10.0 * arguments.lr)},
            {"network": "network", "head": "head"},
        ),
    )
    make: dict[str, Callable[..., MetaAlgorithm]] = {
        "deep_kernel": functools.partial(deep_kernel, kernel=deep_tanimoto()),
        "prototypical": prototypical,
        "mahalanobis": functools.partial(prototypical, metric="mahalanobis"),
        "ridge": functools.partial(ridge_head, penalty=10.0),
        "deep_ridge": functools.partial(
            ridge_head, kernel=deep_tanimoto(), penalty=0.1
        ),
    }
    return make[name](network, optimizer, stochastic=arguments.dropout > 0)


def trained(
    name: str, bank: Bank, arguments: Arguments, num_descriptors: int
) -> tuple[Callable[[Draws], np.ndarray], dict[str, Any]]:
    """A method after meta-training: its predictions, and what training took."""
    algorithm = algorithm_of(name, arguments, num_descriptors)
    draw = functools.partial(
        draw_episodes,
        num_tasks=arguments.tasks,
        support_rows=max(arguments.train_shots),
        query_rows=arguments.query,
        window=bucket(int(bank.size.max()), "rows"),
    )

    def sample(bank: Bank, key: Any) -> Any:
        return draw(key, bank, shots=jnp.array(arguments.train_shots))

    state, seconds = trained_in(
        arguments.out / name,
        name,
        algorithm,
        Partial(sample, bank),
        jax.random.key(arguments.seed),
        num_steps=arguments.steps,
        checkpoint_every=500,
    )
    predict = functools.partial(protocol.predictor(algorithm.predict), state.params)
    head = jax.tree.map(lambda leaf: round(float(leaf), 4), state.params["head"])
    return predict, {"seconds": seconds, "head": head}


@functools.cache
def _written_out() -> Callable[..., Any]:
    return jax.jit(jax.vmap(lambda x: dense_counts(x, 2048)))


def floor(name: str, draws: Draws) -> np.ndarray:
    """A floor's scores, `(draws, rows)`; those of padding are 0."""
    support, query = draws.episodes.support, draws.episodes.query
    scores = np.zeros(query.y.shape)
    for i, mask in enumerate(np.asarray(query.mask)):
        x = np.asarray(_written_out()(support.x[i : i + 1]))[0]
        asked = np.asarray(_written_out()(query.x[i : i + 1]))[0][mask]
        scores[i, mask] = scores_of(name, x, np.asarray(support.y[i]), asked)
    return scores


def evaluated(
    name: str,
    predict: Callable[[Draws], np.ndarray],
    bank: Bank,
    arguments: Arguments,
    *,
    control: bool = False,
) -> dict[str, Any]:
    """The scores of one method, read from the folder where they are there already."""
    name = f"{name}_shuffled" if control else name
    file = arguments.out / f"{name}.json"
    if file.exists():
        return json.loads(file.read_text())
    rows = []
    begin = time.perf_counter()
    for draws in protocol.all_draws(bank, arguments.draws):
        asked = shuffled(draws) if control else draws
        found = protocol.judged(draws, predict(asked))
        rows.append({"task": draws.task, "shot": draws.shot} | found)
    found = protocol.summary(rows)
    told(f"{name}: " + ", ".join(f"{k}: {v['dauprc']:.3f}" for k, v in found.items()))
    seconds = round(time.perf_counter() - begin, 1)
    found = {"shots": found, "evaluation_seconds": seconds, "tasks": rows}
    file.write_text(json.dumps(found))
    return found


def check_folder(arguments: Arguments) -> None:
    """See that what the folder holds was made with the same settings."""
    settings = dataclasses.asdict(arguments)
    for name in ("out", "methods", "json", "descriptors"):
        del settings[name]
    settings["described"] = arguments.descriptors is not None
    text = json.dumps(settings, default=str)
    file = arguments.out / "settings.json"
    if file.exists() and file.read_text() != text:
        sys.exit(f"fsmol: {str(file)!r} holds other settings; choose another --out.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def main(arguments: Arguments) -> None:
    """Train, evaluate, print."""
    unknown = set(arguments.methods) - {*FLOORS, *LEARNED}
    if unknown:
        sys.exit(f"fsmol: methods must be of {[*FLOORS, *LEARNED]}, not {unknown}.")
    check_folder(arguments)
    options = Options(descriptors=arguments.descriptors is not None)
    every, judging = (
        read_tasks(arguments.data, role, options) for role in ("train", "valid")
    )
    kept, judged, num_descriptors = with_levels(arguments, every, judging)
    bank, judge = make_bank(kept), make_bank(judged)
    out: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "steps": arguments.steps,
        "tasks_per_step": arguments.tasks,
        "train_tasks": len(kept.tasks),
        "left_out_for_target": len(every.data.tasks) - len(kept.tasks),
        "too_few_rows": {
            shot: int((~eligible(bank, shot)).sum()) for shot in arguments.train_shots
        },
        "methods": {},
    }
    learned: dict[str, Callable[[Draws], np.ndarray]] = {}
    told(f"{out['train_tasks']} tasks, {out['left_out_for_target']} left out")
    for name in arguments.methods:
        if name in FLOORS:
            predict, extra = functools.partial(floor, name), {}
        else:
            predict, extra = trained(name, bank, arguments, num_descriptors)
        if name in LEARNED:
            control = evaluated(name, predict, judge, arguments, control=True)
            extra["shuffled"] = control["shots"]
            predict = learned[name] = protocol.remembered(predict)
        out["methods"][name] = evaluated(name, predict, judge, arguments) | extra
    if len(learned) > 1:

        def mean(draws: Draws) -> np.ndarray:
            return np.mean([predict(draws) for predict in learned.values()], axis=0)

        name = "mean_of_" + "_and_".join(learned)
        out["methods"][name] = evaluated(name, mean, judge, arguments)
    if arguments.json:
        print(json.dumps(out, indent=1))
    else:
        show(out)


def show(out: dict[str, Any]) -> None:
    """A table for people."""
    table = Table(*["dAUPRC", *map(str, protocol.SHOTS), "shuffled at 64", "seconds"])
    for name, found in out["methods"].items():
        cells = [
            f"{found['shots'][str(shot)]['dauprc']:.3f}"
            f" ± {found['shots'][str(shot)]['standard_error']:.3f}"
            for shot in protocol.SHOTS
        ]
        shuffled = found.get("shuffled", {}).get("64", {}).get("dauprc", "")
        table.add_row(name, *cells, str(shuffled), str(found.get("seconds", "")))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
