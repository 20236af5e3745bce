"""What the commands share: the types of options, checks of them, and how to tell."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jmeta.errors import InputError

__all__ = [
    "LARGEST_SEED",
    "Coordinator",
    "Count",
    "Devices",
    "Flag",
    "Help",
    "Kind",
    "Names",
    "ProcessId",
    "Processes",
    "Seed",
    "Split",
    "at_least",
    "cache_folder",
    "check_seed",
    "counts",
    "hint",
    "prepare",
    "say",
    "spread",
]

LARGEST_SEED = 2**32 - 1


def hint(default: str) -> str:
    """How a default that is no value is told."""
    return f"(default: {default})"


Help = tyro.conf.arg
Flag = tyro.conf.FlagCreatePairsOff[bool]
Kind = Annotated[
    Literal["classes", "number"] | None, Help(help_behavior_hint=hint("inferred"))
]
Seed = Annotated[int, Help(metavar="INTEGER")]
Count = Annotated[int, Help(metavar="COUNT")]
Names = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    Help(metavar="NAME", help_behavior_hint="(may be given many times)"),
]
Split = Annotated[
    str | None, Help(metavar="NAME", help_behavior_hint=hint("as the files say"))
]


Devices = Annotated[int | None, Help(metavar="COUNT", help_behavior_hint=hint("all"))]
Coordinator = Annotated[
    str | None,
    Help(metavar="HOST:PORT", help_behavior_hint=hint("as the scheduler says")),
]
Processes = Annotated[
    int | None, Help(metavar="COUNT", help_behavior_hint=hint("as the scheduler says"))
]
ProcessId = Annotated[
    int | None, Help(metavar="INDEX", help_behavior_hint=hint("as the scheduler says"))
]


def cache_folder(name: str) -> Path | None:
    """Of the user, readable by the user alone; None if it cannot be written to, which
    costs time and nothing else."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "jmeta" / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder


def prepare() -> None:
    """Keep compiled programs in the user's cache folder, readable by the user alone."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_folder("programs")
    if folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def spread(
    num_tasks: int,
    devices: int | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
) -> Callable[[], AbstractContextManager[Any]]:
    """Split the tasks of every step over devices, cores of the CPU among them.

    To be called before anything is computed; where something was, there are the
    devices that there are.

    Args:
      num_tasks: of a step, which the devices are to divide.
      devices: how many, at most, of a single process; None for all.
      coordinator, processes, process_id: see `jmeta.parallel.join`.

    Returns:
      What sets the mesh of the devices, for the length of a `with`.

    Raises:
      InputError: if these do not go together, or the devices of all processes do not
        divide the tasks.
    """
    import jax

    from jmeta import parallel

    try:
        parallel.join(coordinator, processes, process_id)
    except ValueError as error:
        told = str(error).removeprefix("join: ").replace("process_id", "--process-id")
        raise InputError(f"several processes: {told}") from error
    if jax.distributed.is_initialized():
        count = jax.device_count()
        if num_tasks % count:
            raise InputError(
                f"--batch {num_tasks} must be a multiple of the {count} devices of all "
                "processes."
            )
        return lambda: jax.set_mesh(parallel.task_mesh())
    with contextlib.suppress(RuntimeError):
        parallel.use_cpu_cores(devices)
    chosen = parallel.dividing(num_tasks, devices)
    if len(chosen) == 1:
        return contextlib.nullcontext
    return lambda: jax.set_mesh(parallel.task_mesh(chosen))


def at_least(least: int, **counts: int) -> None:
    """See that numbers are not too small; each is named as its option is."""
    for name, count in counts.items():
        if count < least:
            raise InputError(f"--{name} must be at least {least}, got {count}.")


def counts(option: str, given: Sequence[str]) -> tuple[int, ...]:
    """Numbers apart by commas, blanks or both, each once, rising.

    Raises:
      InputError: if one is no whole number above 0, or there is none.
    """
    parts = [part for text in given for part in text.replace(",", " ").split()]
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(
            f"--{option} must be whole numbers above 0, such as 16,64; got "
            f"{' '.join(given) or 'nothing'}."
        )
    return tuple(sorted({int(part) for part in parts}))


def check_seed(seed: int) -> None:
    """See that a seed is one that every generator takes."""
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"--seed must be between 0 and {LARGEST_SEED}, got {seed}.")


def say(text: str) -> None:
    """Tell the user, on stderr: stdout is for what was asked for."""
    print(text, file=sys.stderr)
