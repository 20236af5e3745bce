"""How many tasks a second meta-training measures and learns from.

pytest benchmarks/test_metatrain.py --benchmark-enable -n 0
"""

import jax
import jax.numpy as jnp
import pytest

from jmeta import algorithms, metadata
from jmeta.candidates import default_candidates
from jmeta.metadata import Bucket
from jmeta.metamodel import Shape, classifier_algorithm

KEY = jax.random.key(0)


def _about(benchmark, num_tasks, **extra):
    benchmark.extra_info |= {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "num_tasks": num_tasks,
        **extra,
    }
    if benchmark.stats:  # None when timing is disabled.
        rate = num_tasks / benchmark.stats["median"]
        benchmark.extra_info["tasks_per_s"] = rate


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_measuring_every_candidate(benchmark, kind):
    """Draw, describe, and fit all candidates with fixed settings: 32 tasks."""
    candidates = [c for c in default_candidates(kind) if c.unit is not None]
    bucket = Bucket(256, 16, 2, 40, 192)

    def measure():
        return metadata.collect(KEY, candidates, bucket, kind=kind, num_tasks=32)

    measure()
    benchmark.pedantic(measure, rounds=3)
    _about(benchmark, 32, candidates=len(candidates), bucket=list(bucket))


def test_a_step_of_the_meta_classifier(benchmark):
    """Five members on a batch of 64 tasks, 60 candidates, 58 features, 5 scores."""
    tasks = algorithms.MetaExamples(
        description=jax.random.normal(KEY, (64, 58)),
        costs=jax.random.normal(KEY, (64, 60, 5)),
        mask=jnp.ones((64, 60), bool),
    )
    algorithm = classifier_algorithm(Shape(), 60, 5, 1e-3, 1000)
    state = algorithm.init(KEY, tasks)
    step = jax.jit(algorithm.step).lower(KEY, state, tasks).compile()
    benchmark(lambda: jax.block_until_ready(step(KEY, state, tasks)))
    _about(benchmark, 64, members=Shape().members)
