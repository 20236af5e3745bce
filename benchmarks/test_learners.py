"""Fits per second of every learner, beside scikit-learn's under joblib.

    pytest benchmarks/test_learners.py --benchmark-enable -n 0

Both fit each of 256 tasks of 128 rows and 16 features and predict its own rows, on
the same cores, one right after the other; trees at equal rounds, depth and bins. A
table of the ratios comes at the end. Nothing is asserted, since machines differ.
"""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import joblib
import numpy as np
import pytest
from sklearn import ensemble
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
CHUNK = 8
"""Tasks side by side, as `jmeta.score` takes them; more leave the cache."""

TREES: dict[str, Any] = {"depth": 4, "rounds": 100}
UNTUNED: dict[str, Any] = {"optimizer": None}
_BOOSTED: dict[str, Any] = {"max_iter": 100, "max_depth": 4, "max_bins": 17}
_EXTRA: dict[str, Any] = {"n_estimators": 100, "max_depth": 4}
PEERS: dict[str, Any] = {
    "logistic": LogisticRegression(),
    "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1),
    "qda": QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1),
    "naive_bayes": GaussianNB(),
    "knn": KNeighborsClassifier(10, weights="distance"),
    "gaussian_process": GaussianProcessClassifier(
        ConstantKernel(16.0) * Matern(4.0, nu=2.5), **UNTUNED
    ),
    "boosted_trees": ensemble.HistGradientBoostingClassifier(**_BOOSTED),
    "extra_trees": ensemble.ExtraTreesClassifier(**_EXTRA),
    "ridge": Ridge(),
    "knn_regressor": KNeighborsRegressor(10, weights="distance"),
    "gaussian_process_regressor": GaussianProcessRegressor(
        Matern(4.0, nu=2.5), alpha=0.1, **UNTUNED
    ),
    "boosted_trees_regressor": ensemble.HistGradientBoostingRegressor(**_BOOSTED),
    "extra_trees_regressor": ensemble.ExtraTreesRegressor(**_EXTRA),
}
CASES = [
    (name, kind)
    for kind in (learners.CLASSES, learners.NUMBER)
    for name in learners.names(kind)
]


@functools.cache
def tables():
    """Noisy linear targets, bent by a sine: features, classes, standardised numbers."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_TASKS, ROWS, FEATURES)).astype(np.float32)
    score = np.einsum("tnf,tf->tn", x, rng.normal(size=(NUM_TASKS, FEATURES)))
    score += 2.0 * np.sin(3 * x[..., 0]) + 2.0 * rng.normal(size=score.shape)
    score -= score.mean(axis=1, keepdims=True)
    numbers = (score / score.std(axis=1, keepdims=True)).astype(np.float32)
    return x, (score > 0).astype(np.int32), numbers


def compiled(name: str, tasks: Examples) -> Any:
    """All tasks in one program, `CHUNK` at a time."""
    learner = learners.get(name, CLASSES)
    chosen = {k: v for k, v in TREES.items() if k in learner.space.names}
    settings = learner.space.decode(learner.space.encode(chosen))
    key = jax.random.key(0)

    def one(support: Examples) -> jax.Array:
        return learner.predict(learner.fit(key, settings, support), support.x)

    def every(tasks: Examples) -> jax.Array:
        return jax.lax.map(one, tasks, batch_size=CHUNK)

    return jax.jit(every).lower(tasks).compile()


def fit_and_predict(estimator, x, y):
    fitted: Any = clone(estimator)
    fitted.fit(x, y)
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(x)
    return fitted.predict(x)


def peer_rate(name: str, y: np.ndarray, seconds: float = 2.0) -> float:
    """The peer's fits per second, its workers already started."""
    x = tables()[0]
    one = joblib.delayed(fit_and_predict)
    with joblib.Parallel(n_jobs=-1) as parallel:
        parallel([one(PEERS[name], *task) for task in zip(x[:8], y[:8])])
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            parallel([one(PEERS[name], *task) for task in zip(x[:128], y[:128])])
            done += 128
        return done / (time.perf_counter() - begin)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_learner(benchmark, name, kind):
    x, classes, numbers = tables()
    y = classes if kind == learners.CLASSES else numbers
    mask = jnp.ones((NUM_TASKS, ROWS), bool)
    tasks = Examples(x=jnp.asarray(x), y=jnp.asarray(y), mask=mask)
    program = compiled(name, tasks)
    benchmark(lambda: jax.block_until_ready(program(tasks)))
    benchmark.extra_info |= {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "num_tasks": NUM_TASKS,
        "rows": ROWS,
        "features": FEATURES,
    }
    if benchmark.stats:  # None when timing is disabled.
        rates = {"fits_per_s": NUM_TASKS / benchmark.stats["median"]}
        if name in PEERS:
            rates["peer_fits_per_s"] = peer_rate(name, y)
        benchmark.extra_info |= rates
