"""What predicts in a new hospital: models of others, of its own rows, and adapted ones.

All see the same episodes, whose rows are the encoded features, padded to `WIDTH`, and
last the log odds by a logistic regression on other hospitals: of a training episode on
those without the episode's own, so that it is to its hospital what the final one is to
the hospital left out.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from jmeta.algorithms import anil, maml, prototypical, ridge_head
from jmeta.algorithms.bilevel import bilevel
from jmeta.base import MetaAlgorithm
from jmeta.data.collection import Collection, subset
from jmeta.episodes import Bank, draw_episode, draw_episodes, make_bank
from jmeta.learners.boosted_trees import boosted_trees
from jmeta.learners.correction import correction
from jmeta.learners.inner import classifier
from jmeta.networks import MLP, from_linen
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key

SHOTS = (16, 32, 64)
WIDTH = 32
ROWS, WINDOW = 304, 512  # The largest hospital has 303 patients.
ALL_ROWS, TRAIN_QUERY = 832, 128
PER_ROW = ("rows", "label", "value", "x")
INVERSE_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LEARNER = correction()
FIXED = {
    # Normal priors of deviation 2.5 on what may move, and of 0.001 on what may not.
    "recalibrated intercept": {"intercept": 0.16, "slope": 1e6},
    "recalibrated": {"intercept": 0.16, "slope": 0.16},
}
LEARNED = (
    "correction",
    "correction with trust",
    "correction by feature",
    "maml",
    "anil",
    "ridge",
    "prototypical",
)
EPISODES = 16  # In a step of meta-training.


class Hospitals(NamedTuple):
    """The hospitals of training, and the one that is left out.

    Attributes:
      train: the collection of the former.
      bank: its episodes.
      judge: those of the latter.
      x: `(rows, WIDTH + 1)` of all training rows.
      inverse_penalty: of the pooled model, chosen on the hospitals of training.
    """

    train: Collection
    bank: Bank
    judge: Bank
    x: np.ndarray
    inverse_penalty: float


def regression(x: np.ndarray, y: np.ndarray, c: float = 1.0) -> LogisticRegression:
    """Logistic regression as scikit-learn fits it."""
    return LogisticRegression(C=c, max_iter=1000).fit(x, y)


def rows_of(data: Collection, tasks: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of some tasks."""
    some = subset(data, tasks)
    return data.x[some.rows], some.label


def prepared(train: Collection, judge: Collection) -> Hospitals:
    """Choose the pooled model's penalty, and give every row its log odds.

    The penalty has the least log loss in each hospital of training of a model that is
    fitted on the others.
    """
    everyone = list(range(len(train.tasks)))
    others = [[o for o in everyone if o != one] for one in everyone]

    def loss(c: float) -> float:
        found = []
        for one in everyone:
            model = regression(*rows_of(train, others[one]), c)
            x, y = rows_of(train, [one])
            found.append(float(log_loss(y, model.predict_proba(x))))
        return float(np.mean(found))

    best = min(INVERSE_PENALTIES, key=loss)
    odds = np.zeros(len(train.x))
    for one in everyone:
        rows = subset(train, [one]).rows
        model = regression(*rows_of(train, others[one]), best)
        odds[rows] = model.decision_function(train.x[rows])
    pooled = regression(*rows_of(train, everyone), best)
    train = train._replace(x=_wide(train.x, odds))
    judge = judge._replace(x=_wide(judge.x, pooled.decision_function(judge.x)))
    return Hospitals(
        train=train,
        bank=_bank(train, ALL_ROWS),
        judge=_bank(judge, ROWS),
        x=train.x,
        inverse_penalty=best,
    )


def _bank(data: Collection, length: int) -> Bank:
    """As long whichever hospital is left out, so that programs are compiled once."""
    bank = make_bank(data)

    def longer(leaf: Array) -> Array:
        more = length - len(leaf)
        return jnp.pad(leaf, ((0, more),) + ((0, 0),) * (leaf.ndim - 1))

    parts = {name: longer(getattr(bank, name)) for name in PER_ROW}
    return bank._replace(**parts)


def _wide(x: np.ndarray, odds: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, WIDTH - x.shape[1])))
    return np.concatenate([padded, odds[:, None]], axis=1).astype(np.float32)


@functools.cache
def _drawer(num_draws: int) -> Callable[..., Task]:
    draw = functools.partial(
        draw_episode, support_rows=max(SHOTS), query_rows=ROWS, window=WINDOW
    )
    many = jax.vmap(draw, in_axes=(0, None, None, None))

    def all_shots(key: Key, bank: Bank) -> Task:
        keys = jax.random.split(key, (len(SHOTS), num_draws))
        drawn = jax.vmap(many, in_axes=(0, None, None, 0))
        found = drawn(keys, bank, jnp.array(0), jnp.array(SHOTS))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)

    return jax.jit(all_shots)


def judging(key: Key, bank: Bank, num_draws: int) -> Task:
    """The episodes that judge: `num_draws` for each of `SHOTS`, one after another."""
    return _drawer(num_draws)(key, bank)


@jax.jit
def shuffled(key: Key, tasks: Task) -> Task:
    """The control: the labels of each support in random order."""

    def one(key: Key, support: Examples) -> Examples:
        drawn = jax.random.uniform(key, support.mask.shape)
        order = jnp.argsort(jnp.where(support.mask, drawn, 2.0))
        return support._replace(y=support.y[order])  # The rows that count come first.

    keys = jax.random.split(key, len(tasks.support.y))
    return tasks._replace(support=jax.vmap(one)(keys, tasks.support))


def _bare(tasks: Task) -> Task:
    """Without the log odds, for methods that learn from the features themselves."""
    support, query = (
        part._replace(x=part.x[..., :-1]) for part in (tasks.support, tasks.query)
    )
    return tasks._replace(support=support, query=query)


def _logs(name: str) -> dict[str, Array]:
    """What a correction learns, as logarithms, at first."""
    logs = {"intercept": jnp.zeros(()), "slope": jnp.zeros(())}
    logs["features"] = jnp.zeros((WIDTH,) if "feature" in name else ())
    return logs | ({"trust": jnp.zeros(())} if "trust" in name else {})


@functools.cache
def algorithm_of(name: str) -> MetaAlgorithm:
    """A method that learns across hospitals; its settings were fixed beforehand."""
    if name.startswith("correction"):
        return bilevel(
            LEARNER,
            optax.adam(0.05),
            start=_logs(name),
            decode=lambda logs: {"trust": jnp.ones(())} | jax.tree.map(jnp.exp, logs),
        )
    learner = classifier(from_linen(MLP((32,), 2)), 2)
    adam = optax.adam(1e-3)
    if name == "maml":
        return maml(learner, adam, inner_lr=0.1, inner_steps=5)
    if name == "anil":
        return anil(learner, adam, head="Dense_1", inner_lr=0.1, inner_steps=5)
    network = from_linen(MLP((32,), 16))
    return {"ridge": ridge_head, "prototypical": prototypical}[name](network, adam)


@functools.cache
def _pretrained(num_steps: int = 300) -> Callable[..., Any]:
    """A perceptron on the rows of all hospitals, by AdamW."""
    network, optimizer = from_linen(MLP((32,), 2)), optax.adamw(3e-3, weight_decay=0.1)

    def train(key: Key, rows: Examples) -> Any:
        counted = jnp.ones(len(rows.x), bool)
        weights = network.init(key, rows.x, counted)
        learner = classifier(network, 2)

        def body(state: Any, _: None) -> tuple[Any, None]:
            weights, inner = state

            def loss(weights: Any) -> Array:
                outputs = network.apply(weights, rows.x, counted)
                return learner.loss(outputs, rows.y, rows.mask)

            updates, inner = optimizer.update(jax.grad(loss)(weights), inner, weights)
            return (optax.apply_updates(weights, updates), inner), None

        state = weights, optimizer.init(weights)
        return jax.lax.scan(body, state, length=num_steps)[0][0]

    return jax.jit(train)


def _all_rows(hospitals: Hospitals) -> Examples:
    x, y = hospitals.x[hospitals.train.rows, :-1], hospitals.train.label
    more = ALL_ROWS - len(y)
    return Examples(
        x=jnp.asarray(np.pad(x, ((0, more), (0, 0)))),
        y=jnp.asarray(np.pad(y, (0, more))),
        mask=jnp.arange(ALL_ROWS) < len(y),
    )


@functools.cache
def _trainer(name: str, num_steps: int) -> Callable[..., Any]:
    algorithm = algorithm_of(name)

    def sample(key: Key, bank: Bank) -> Task:
        tasks = draw_episodes(
            key,
            bank,
            EPISODES,
            jnp.array(SHOTS),
            support_rows=max(SHOTS),
            query_rows=TRAIN_QUERY,
            window=WINDOW,
        )
        return tasks if name.startswith("correction") else _bare(tasks)

    def train(key: Key, bank: Bank, rows: Examples) -> Any:
        init_key, key = jax.random.split(key)
        state = algorithm.init(init_key, sample(init_key, bank))
        if name in ("maml", "anil"):
            state = state._replace(params=_pretrained()(init_key, rows))

        def body(state: Any, number: Array) -> tuple[Any, Array]:
            tasks_key, step_key = jax.random.split(jax.random.fold_in(key, number))
            state, info = algorithm.step(step_key, state, sample(tasks_key, bank))
            return state, info.loss

        state, losses = jax.lax.scan(body, state, jnp.arange(num_steps))
        return state.params, losses

    return jax.jit(train)


@functools.cache
def _predictor(name: str) -> Callable[..., Array]:
    def corrected(settings: Any, task: Task) -> Array:
        weights = LEARNER.fit(jax.random.key(0), settings, task.support)
        return jax.nn.softmax(LEARNER.predict(weights, task.query.x))

    def learned(params: Any, task: Task) -> Array:
        algorithm = algorithm_of(name)
        if name.startswith("correction"):
            return corrected(algorithm.predict(params, task.description), task)
        return jnp.exp(algorithm.predict(params, _bare(task)))

    one = learned if name in LEARNED else corrected
    return jax.jit(jax.vmap(one, in_axes=(None, 0)))


def learned(
    name: str, hospitals: Hospitals, key: Key, num_steps: int
) -> tuple[Callable[[Task], Array], Any]:
    """A method after meta-training, and what it has learnt."""
    rows = _all_rows(hospitals)
    params, losses = _trainer(name, num_steps)(key, hospitals.bank, rows)
    if not np.isfinite(losses).all():
        raise FloatingPointError(f"hospitals: {name} diverged.")
    return functools.partial(_predictor(name), params), params


def floor(name: str, hospitals: Hospitals, tasks: Task) -> Array:
    """A method that does not learn across hospitals: `(episodes, rows, 2)`."""
    if name in FIXED:
        fixed = {**FIXED[name], "features": 1e6, "trust": 1.0}
        settings = jax.tree.map(jnp.asarray, fixed)
        return _predictor("fixed")(settings, tasks)
    if name == "pooled":
        odds = tasks.query.x[..., -1]
        return jax.nn.softmax(jnp.stack([jnp.zeros_like(odds), odds], axis=-1))
    if name == "pooled trees":
        return _trees()(_all_rows(hospitals), tasks.query.x[..., :-1])
    x, y = np.asarray(tasks.support.x)[..., :-1], np.asarray(tasks.support.y)
    probs = []
    for place, mask in enumerate(np.asarray(tasks.support.mask)):
        model = regression(x[place][mask], y[place][mask])
        probs.append(model.predict_proba(np.asarray(tasks.query.x[place, :, :-1])))
    return jnp.asarray(np.stack(probs), jnp.float32)


FLOORS = ("pooled", "pooled trees", "local", *FIXED)


@functools.cache
def _trees() -> Callable[..., Array]:
    learner = boosted_trees(2)

    def run(rows: Examples, x: Array) -> Array:
        settings = learner.space.decode(learner.space.default())
        weights = learner.fit(jax.random.key(0), settings, rows)
        logits = jax.lax.map(lambda one: learner.predict(weights, one), x)
        return jax.nn.softmax(logits)

    return jax.jit(run)
