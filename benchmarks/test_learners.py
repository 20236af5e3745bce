"""Fits per second of every learner, beside scikit-learn's under joblib.

Run `pytest benchmarks/test_learners.py --benchmark-enable`. Both fit each of 256
tasks of 128 rows and 16 features and predict its own rows.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.gaussian_process import (
    GaussianProcessClassifier,
    GaussianProcessRegressor,
)
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from jmeta import learners
from jmeta.tasks import Examples

NUM_TASKS, ROWS, FEATURES, CLASSES = 256, 128, 16, 2
UNTUNED: dict[str, Any] = {"optimizer": None}
PEERS = {
    "logistic": LogisticRegression(),
    "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1),
    "qda": QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1),
    "naive_bayes": GaussianNB(),
    "knn": KNeighborsClassifier(10, weights="distance"),
    "gaussian_process": GaussianProcessClassifier(
        ConstantKernel(16.0) * Matern(4.0, nu=2.5), **UNTUNED
    ),
    "ridge": Ridge(),
    "knn_regressor": KNeighborsRegressor(10, weights="distance"),
    "gaussian_process_regressor": GaussianProcessRegressor(
        Matern(4.0, nu=2.5), alpha=0.1, **UNTUNED
    ),
}
CASES = [
    (name, kind)
    for kind in (learners.CLASSES, learners.NUMBER)
    for name in learners.names(kind)
]


@functools.cache
def tables():
    """Noisy linear targets: features, classes, standardised numbers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_TASKS, ROWS, FEATURES)).astype(np.float32)
    score = np.einsum("tnf,tf->tn", x, rng.normal(size=(NUM_TASKS, FEATURES)))
    score += 2.0 * rng.normal(size=score.shape)
    score -= score.mean(axis=1, keepdims=True)
    numbers = (score / score.std(axis=1, keepdims=True)).astype(np.float32)
    return x, (score > 0).astype(np.int32), numbers


def report(benchmark, peer):
    benchmark.extra_info |= {
        "device": peer or jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "num_tasks": NUM_TASKS,
        "rows": ROWS,
        "features": FEATURES,
    }
    if benchmark.stats:  # None when timing is disabled.
        benchmark.extra_info["fits_per_s"] = NUM_TASKS / benchmark.stats["median"]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_learner(benchmark, name, kind):
    x, classes, numbers = tables()
    is_classes = kind == learners.CLASSES
    learner = learners.get(name, CLASSES if is_classes else None)
    settings = learner.space.decode(learner.space.default())
    key = jax.random.key(0)
    tasks = Examples(
        x=jnp.asarray(x),
        y=jnp.asarray(classes if is_classes else numbers),
        mask=jnp.ones((NUM_TASKS, ROWS), bool),
    )

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def run(settings, support):
        return learner.predict(learner.fit(key, settings, support), support.x)

    program = run.lower(settings, tasks).compile()
    benchmark.group = name
    benchmark(lambda: jax.block_until_ready(program(settings, tasks)))
    report(benchmark, None)


def fit_and_predict(estimator, x, y):
    fitted: Any = clone(estimator)
    fitted.fit(x, y)
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(x)
    return fitted.predict(x)


@pytest.mark.parametrize("name", PEERS)
def test_scikit_learn(benchmark, name):
    x, classes, numbers = tables()
    y = classes if name in learners.names(learners.CLASSES) else numbers
    benchmark.group = name
    with joblib.Parallel(n_jobs=-1) as parallel:
        calls = [
            joblib.delayed(fit_and_predict)(PEERS[name], *task) for task in zip(x, y)
        ]
        parallel(calls[:8])  # Starts the workers.
        benchmark.pedantic(lambda: parallel(calls), rounds=3)
    report(benchmark, "scikit-learn")
