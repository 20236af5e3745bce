"""Shape annotations are checked while the tests trace; compiled programs are kept."""

import os
import pathlib
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(tempfile.gettempdir()) / f"jmeta-test-cache-{os.getuid()}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("jmeta", "beartype.beartype")

if "XLA_FLAGS" not in os.environ:
    # Tests wait for compilers, not for programs: the machine code is not optimised, and
    # the emitters of fusions that compile fastest are used. Processes that tests start
    # compile as users' do, and where the variable is set, so do the tests.
    os.environ["XLA_FLAGS"] = (
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
        "--xla_cpu_use_fusion_emitters=false"
    )
    jax.block_until_ready(jax.numpy.zeros(1))  # Read now, and never again.
    del os.environ["XLA_FLAGS"]

MOST_MAPS = 30_000
"""Of memory that a process may have before it forgets its compiled programs; Linux
allows 65,530, and XLA dies of the next one."""


def pytest_collection_modifyitems(items):
    """Files with slow tests first, lest one worker wait for the other's last file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Hundreds of compiled programs in one process are more than Linux lets it map."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    from jmeta.cli import main  # After the hook above.

    def run(*args):
        code = 0
        try:
            main([str(arg) for arg in args])
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
