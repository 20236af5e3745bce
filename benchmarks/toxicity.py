"""Tox21 and SIDER: few-shot learning of toxicity beside similarity and forests.

    python benchmarks/toxicity.py --data ../shared/data/molecules/moleculenet --json

Meta-trains on the assays that PAR (Wang et al., 2021) learns from and judges on its
test assays, by the area under the ROC curve with 10 and with 1 molecule of each class,
ten draws of each assay, all other molecules as query. Beside each learned method stands
a control whose support labels are shuffled: what it still knows does not come from the
support. `--pretrained` starts the networks from a model that `benchmarks/fsmol.py` has
trained on other assays.

Published with 10 and 1 molecules of each class: MAML 80.2 and 80.1 on Tox21, 70.4 and
70.1 on SIDER; PAR, pretrained, 84.9 and 81.8, 78.1 and 72.9.
"""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from clocked import told
from fsmol_floors import scores_of
from fsmol_protocol import predictor
from jax.tree_util import Partial
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from jmeta.algorithms import deep_kernel, deep_tanimoto, maml, prototypical
from jmeta.base import MetaAlgorithm
from jmeta.checkpoint import Checkpoints
from jmeta.data.collection import of_molecules, subset
from jmeta.data.molecules import read_molecules
from jmeta.episodes import Bank, draw_episode, draw_episodes, make_bank
from jmeta.fewshot.drawing import Draws, shuffled
from jmeta.fingerprints import dense_counts
from jmeta.learners.inner import classifier
from jmeta.networks import FingerprintMLP, from_linen
from jmeta.tasks import bucket
from jmeta.train import train

SHOTS = (10, 1)
FLOORS = ("tanimoto", "logistic", "forest")
LEARNED = ("prototypical", "deep_kernel", "maml")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder of MoleculeNet's files.
      only: collections.
      methods: learned ones and floors.
      steps: of meta-training.
      tasks: episodes in a step.
      query: molecules of a training episode's query.
      dropout: of the network, where rows are embedded.
      draws: of supports in the evaluation.
      seeds: of training, one run each.
      pretrained: checkpoints of `deep_kernel` by `benchmarks/fsmol.py`; none for a
        fresh start.
      json: print one JSON object and nothing else on stdout.
    """

    data: pathlib.Path = pathlib.Path("../shared/data/molecules/moleculenet")
    only: tuple[str, ...] = ("tox21", "sider")
    methods: tuple[str, ...] = (*FLOORS, *LEARNED)
    steps: int = 800
    tasks: int = 8
    query: int = 64
    dropout: float = 0.3
    draws: int = 10
    seeds: int = 1
    pretrained: pathlib.Path | None = None
    json: bool = False


def algorithm_of(name: str, arguments: Arguments) -> MetaAlgorithm:
    """A method that learns across assays."""
    rate = optax.cosine_decay_schedule(1e-3, arguments.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    if name == "maml":
        learner = classifier(from_linen(FingerprintMLP((512, 512), 2)), 2)
        return maml(learner, optimizer, inner_lr=0.05, inner_steps=3)
    network = from_linen(FingerprintMLP((512, 512), 256, dropout=arguments.dropout))
    stochastic = arguments.dropout > 0
    if name == "prototypical":
        return prototypical(network, optimizer, stochastic=stochastic)
    return deep_kernel(
        network, optimizer, kernel=deep_tanimoto(), stochastic=stochastic
    )


def trained(name: str, bank: Bank, arguments: Arguments, seed: int) -> Callable:
    """Predictions of a method after meta-training."""
    algorithm = algorithm_of(name, arguments)
    draw = functools.partial(
        draw_episodes,
        num_tasks=arguments.tasks,
        support_rows=2 * max(SHOTS),
        query_rows=arguments.query,
        window=bucket(int(bank.size.max()), "rows"),
        balanced=True,
    )

    def sample(bank: Bank, key: Any) -> Any:
        return draw(key, bank, shots=2 * jnp.array(SHOTS))

    key, state = jax.random.key(seed), None
    if arguments.pretrained is not None and name == "deep_kernel":
        state = algorithm.init(key, sample(bank, key))
        template = jax.tree.map(jnp.zeros_like, state.params)
        found = Checkpoints(arguments.pretrained).restore()
        assert found is not None, "no checkpoint to start from"
        params = jax.tree.unflatten(
            jax.tree.structure(template), jax.tree.leaves(found[1]["params"])
        )
        state = state._replace(params=params)
    state = train(
        algorithm,
        Partial(sample, bank),
        key,
        num_steps=arguments.steps,
        state=state,
        progress=lambda m: (
            told(f"{name}: step {m['step']:.0f}, loss {m['loss']:.4f}")
            if "loss" in m and m["step"] % 200 == 0
            else None
        ),
    )
    return functools.partial(predictor(algorithm.predict), state.params)


@functools.cache
def _drawer(support_rows: int, window: int) -> Callable[..., Any]:
    draw = functools.partial(
        draw_episode,
        support_rows=support_rows,
        query_rows=window,
        window=window,
        balanced=True,
    )
    return jax.jit(jax.vmap(draw, in_axes=(0, None, None, None)))


def all_draws(bank: Bank, shot: int, num_draws: int) -> list[Draws]:
    """Of every assay, the same for all methods."""
    window = bucket(int(bank.size.max()), "rows")
    found = []
    for task in range(len(bank.size)):
        keys = jax.random.split(jax.random.key(1000 * task + shot), num_draws)
        args = (keys, bank, jnp.array(task), jnp.array(2 * shot))
        episodes = _drawer(2 * max(SHOTS), window)(*args)
        found.append(Draws(task=task, shot=shot, episodes=episodes))
    return found


@functools.cache
def _written_out() -> Callable[..., Any]:
    return jax.jit(lambda x: dense_counts(x, 2048))


def floor(name: str, draws: Draws) -> np.ndarray:
    """A floor's scores `(draws, rows)`."""
    support, query = draws.episodes.support, draws.episodes.query
    scores = np.zeros(query.y.shape)
    for i, mask in enumerate(np.asarray(query.mask)):
        kept = np.asarray(support.mask[i])
        x = np.asarray(_written_out()(support.x[i]))[kept]
        asked = np.asarray(_written_out()(query.x[i]))[mask]
        scores[i, mask] = scores_of(name, x, np.asarray(support.y[i])[kept], asked)
    return scores


def areas(draws: Draws, scores: np.ndarray) -> list[float]:
    """Under the ROC curve, in per cent, of each draw."""
    query = draws.episodes.query
    each = zip(scores, np.asarray(query.y), np.asarray(query.mask))
    return [100.0 * roc_auc_score(y[mask], p[mask]) for p, y, mask in each]


def judged(draws: list[Draws], predict: Callable[[Draws], np.ndarray]) -> np.ndarray:
    """Areas `(assays, draws)`."""
    return np.array([areas(one, predict(one)) for one in draws])


def run(name: str, arguments: Arguments) -> dict[str, Any]:
    """One collection: mean areas, and their deviation over draws."""
    data = read_molecules(arguments.data / f"{name}.npz")
    every = of_molecules(data)
    assert data.train_tasks is not None and data.test_tasks is not None
    bank = make_bank(subset(every, data.train_tasks))
    judge = make_bank(subset(every, data.test_tasks))
    draws = {shot: all_draws(judge, shot, arguments.draws) for shot in SHOTS}
    out: dict[str, Any] = {}
    for method in arguments.methods:
        begin = time.perf_counter()
        found: dict[str, list[np.ndarray]] = {}
        for seed in range(1 if method in FLOORS else arguments.seeds):
            if method in FLOORS:
                predict = functools.partial(floor, method)
            else:
                predict = trained(method, bank, arguments, seed)
            for shot, some in draws.items():
                found.setdefault(str(shot), []).append(judged(some, predict))
                if method in LEARNED:
                    control = judged([shuffled(one) for one in some], predict)
                    found.setdefault(f"{shot}_shuffled", []).append(control)
        out[method] = {
            key: {
                "auc": round(float(np.mean(values)), 2),
                # Of the mean over assays, from draw to draw and seed to seed.
                "deviation": round(float(np.std(np.mean(values, axis=1))), 2),
            }
            for key, values in found.items()
        }
        out[method]["seconds"] = round(time.perf_counter() - begin, 1)
        told(f"{name}, {method}: {out[method]}")
    return out


def main(arguments: Arguments) -> None:
    """Train, judge, print."""
    results: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "arguments": json.loads(json.dumps(dataclasses.asdict(arguments), default=str)),
    }
    results |= {name: run(name, arguments) for name in arguments.only}
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    for name in arguments.only:
        columns = [f"{shot}{extra}" for shot in SHOTS for extra in ("", "_shuffled")]
        table = Table(name, *columns, title="area under the ROC curve, per cent")
        for method, found in results[name].items():
            cells = [f"{found[c]['auc']:.1f}" if c in found else "" for c in columns]
            table.add_row(method, *cells)
        Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
