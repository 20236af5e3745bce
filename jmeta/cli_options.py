"""What the commands share: the types of options, checks of them, and how to tell."""

import contextlib
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jmeta.errors import InputError

__all__ = [
    "LARGEST_SEED",
    "Count",
    "Flag",
    "Help",
    "Kind",
    "Names",
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


def spread(devices: int | None, num_tasks: int) -> AbstractContextManager[Any]:
    """Split the tasks of every step over devices, cores of the CPU among them.

    To be called before anything is computed; where something was, there are the
    devices that there are.

    Args:
      devices: how many, at most; None for all.
      num_tasks: of a step, which the devices are to divide.
    """
    import jax

    from jmeta import parallel

    with contextlib.suppress(RuntimeError):
        parallel.use_cpu_cores(devices)
    chosen = parallel.dividing(num_tasks, devices)
    if len(chosen) == 1:
        return contextlib.nullcontext()
    return jax.set_mesh(parallel.task_mesh(chosen))


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
