"""How long the task prior and descriptions take, warm, by batch and table size."""

import functools

import jax
import pytest

from jmeta.data.prior import sample_tables
from jmeta.describe import describe, names


def _report(benchmark, program, num_tables):
    benchmark.extra_info |= {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "num_tables": num_tables,
        "temp_mib": program.memory_analysis().temp_size_in_bytes / 2**20,
    }
    if benchmark.stats:  # None when timing is disabled.
        benchmark.extra_info["tasks_per_s"] = num_tables / benchmark.stats["median"]


@pytest.mark.parametrize("kind", ["classes", "number"])
@pytest.mark.parametrize(
    ("num_tables", "rows", "features"), [(1, 512, 32), (256, 128, 16)]
)
def test_describe(benchmark, num_tables, rows, features, kind):
    tables = sample_tables(
        jax.random.key(0), num_tables, rows=rows, features=features, kind=kind
    )
    one = functools.partial(describe, kind=kind, num_classes=2)
    program = jax.jit(jax.vmap(one)).lower(tables).compile()

    benchmark(lambda: jax.block_until_ready(program(tables)))
    benchmark.extra_info["numbers"] = len(names(kind))
    _report(benchmark, program, num_tables)


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_sample_tables(benchmark, kind):
    num_tables = 256
    sizes = {"rows": 128, "features": 16, "num_classes": 4, "kind": kind}
    key = jax.random.key(0)
    program = sample_tables.lower(key, num_tables, **sizes).compile()

    benchmark(lambda: jax.block_until_ready(program(key)))
    _report(benchmark, program, num_tables)
