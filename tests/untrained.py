"""A meta-model of a few cheap candidates that has learnt nothing: enough to be used."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jmeta import learners, metamodel
from jmeta.algorithms import MetaExamples, fit_scaler
from jmeta.candidates import candidates_of
from jmeta.describe import names
from jmeta.metamodel import MetaModel, Shape

CHEAP = {
    learners.CLASSES: {
        "logistic": [{"penalty": 1.0}, {"penalty": 30.0}],
        "naive_bayes": [{}],
    },
    learners.NUMBER: {
        "ridge": [{"penalty": 1.0}, {"penalty": 30.0}],
        "knn_regressor": [{}],
    },
}
"""Learners and settings, none of which takes long to compile."""

SHAPE = Shape(members=2, width=8, blocks=1, dropout=0.0)


@functools.cache
def untrained(kind: str) -> MetaModel:
    """The meta-model of one kind: its networks are as they were initialised."""
    candidates = tuple(
        candidate
        for name, settings in CHEAP[kind].items()
        for candidate in candidates_of(name, settings)
    )
    num_scores = len(metamodel.signs(kind))
    shape = (12, len(candidates), num_scores)
    random = np.random.default_rng(0)
    costs = random.uniform(0.2, 0.8, shape).astype(np.float32)
    algorithm = metamodel.classifier_algorithm(SHAPE, *shape[1:], 0.0, 1)
    descriptions = jnp.asarray(random.normal(size=(12, len(names(kind)))), jnp.float32)
    tasks = MetaExamples(
        description=descriptions,
        costs=jnp.asarray(costs),
        mask=jnp.ones(shape[:2], bool),
    )
    state = jax.jit(algorithm.init)(jax.random.key(0), tasks)
    network = metamodel.optimizer_network(tuple(CHEAP[kind]))
    proposing = {
        "network": network.init(jax.random.key(1), descriptions[0]),
        "scaler": fit_scaler(descriptions),
    }
    return MetaModel(
        kind=kind,
        candidates=candidates,
        shape=SHAPE,
        params={
            "classifier": state.params,
            "optimizers": {"settings": proposing},
            "residuals": costs - costs.mean(0),
            "typical": costs.mean(0),
            "sure": np.zeros(num_scores, np.float32),
        },
        learner_names={"settings": tuple(CHEAP[kind])},
        header={"name": "untrained", "version": "0", "trained_on": "nothing"},
    )


def write(path: pathlib.Path) -> pathlib.Path:
    """Both kinds as one file."""
    metamodel.save(path, {kind: untrained(kind) for kind in CHEAP})
    return path
