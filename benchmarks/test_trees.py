"""Fits of both trees per second, beside scikit-learn's on the same cores.

    pytest benchmarks/test_trees.py --benchmark-enable -s

prints the ratio of each; nothing is asserted, since machines differ.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn import ensemble

from jmeta import learners
from jmeta.tasks import Examples

NUM_ROWS, NUM_FEATURES = 128, 16
DEPTH, ROUNDS = 4, 100
CHUNK = 8
"""Tasks side by side; more leave the cache."""

PEERS = {
    "boosted_trees": lambda: ensemble.HistGradientBoostingClassifier(
        max_iter=ROUNDS, max_depth=DEPTH, max_bins=32, early_stopping="auto"
    ),
    "extra_trees": lambda: ensemble.ExtraTreesClassifier(ROUNDS, max_depth=DEPTH),
    "boosted_trees_regressor": lambda: ensemble.HistGradientBoostingRegressor(
        max_iter=ROUNDS, max_depth=DEPTH, max_bins=32, early_stopping="auto"
    ),
    "extra_trees_regressor": lambda: ensemble.ExtraTreesRegressor(
        ROUNDS, max_depth=DEPTH
    ),
}


def sample(kind: str, num_tasks: int) -> Examples:
    """Tasks whose target is a noisy line bent by a sine."""
    random = np.random.default_rng(0)
    x = random.normal(size=(num_tasks, NUM_ROWS, NUM_FEATURES)).astype(np.float32)
    slope = random.normal(size=(num_tasks, NUM_FEATURES))
    y = np.einsum("tnf,tf->tn", x, slope) + 3 * np.sin(3 * x[..., 0])
    y = y + 2 * random.normal(size=y.shape)
    y = (y > 0).astype(np.int32) if kind == "classes" else (y / 5).astype(np.float32)
    mask = np.ones(y.shape, bool)
    return Examples(x=jnp.asarray(x), y=jnp.asarray(y), mask=jnp.asarray(mask))


def peer_rate(name: str, tasks: Examples, num: int = 32) -> float:
    """Fits per second of the peer under joblib, its workers already started."""
    x, y = np.asarray(tasks.x), np.asarray(tasks.y)
    with Parallel(n_jobs=-1) as parallel:
        for _ in range(2):
            start = time.perf_counter()
            parallel(delayed(PEERS[name]().fit)(x[i], y[i]) for i in range(num))
            seconds = time.perf_counter() - start
    return num / seconds


@pytest.mark.parametrize("num_tasks", [256])
@pytest.mark.parametrize("name", list(PEERS))
def test_tree_fits(benchmark, name, num_tasks):
    kind = "number" if name.endswith("regressor") else "classes"
    learner = learners.get(name, 2)
    tasks = sample(kind, num_tasks)
    chosen = {"depth": DEPTH}
    if "rounds" in learner.space.names:
        chosen["rounds"] = ROUNDS
    settings = learner.space.decode(learner.space.encode(chosen))
    keys = jax.random.split(jax.random.key(0), num_tasks)

    def fits(keys, settings, tasks):
        def one(both):
            return learner.fit(both[0], settings, both[1])

        return jax.lax.map(one, (keys, tasks), batch_size=CHUNK)

    start = time.perf_counter()
    run = jax.jit(fits).lower(keys, settings, tasks).compile()
    compile_s = time.perf_counter() - start

    benchmark(lambda: jax.block_until_ready(run(keys, settings, tasks)))
    benchmark.extra_info |= {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "num_tasks": num_tasks,
        "rows": NUM_ROWS,
        "features": NUM_FEATURES,
        "depth": DEPTH,
        "compile_s": compile_s,
    }
    if memory := run.memory_analysis():
        benchmark.extra_info["temp_mib"] = memory.temp_size_in_bytes / 2**20
    if benchmark.stats:  # None when timing is disabled.
        rate = num_tasks / benchmark.stats["median"]
        peer = peer_rate(name, tasks)
        benchmark.extra_info |= {"fits_per_s": rate, "peer_fits_per_s": peer}
        print(f"\n{name}: {rate:.0f} fits/s, {rate / peer:.1f} times scikit-learn's")
