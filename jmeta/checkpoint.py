"""Checkpoints of a run, on orbax, which is imported when it is used."""

import contextlib
import gc
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmeta.errors import InputError
from jmeta.parallel import first, together
from jmeta.publish import first_line, write_whole

__all__ = ["Checkpoints"]


_ASIDE, _SUMS = "damaged-", "checksums.json"


class Checkpoints:
    """The checkpoints of one run in a folder: the latest two and the best.

    Writes are atomic and finish before `save` returns: the loop reuses the memory of
    its state at once.

    Args:
      folder: made at the first `save`; nothing in it is overwritten.
      keep_best: how many of the best checkpoints are kept beside the latest.
      metric: which of the metrics of `save` decides; lower is better.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep_best: int = 1,
        metric: str = "loss",
    ) -> None:
        self.folder = Path(folder).absolute()
        self._keep_best, self._metric = keep_best, metric
        self._made: Any = None
        self._broken: set[int] = set()

    def _manager(self) -> Any:
        if self._made is None:
            import orbax.checkpoint as ocp
            from orbax.checkpoint import checkpoint_managers as managers

            metrics = self.folder.glob("[0-9]*/metrics/metrics")
            # Orbax reads them all at once, and one broken file stops it.
            broken = [file for file in metrics if not _is_json(file)]
            self._set_aside([int(file.parent.parent.name) for file in broken])
            policy = managers.AnyPreservationPolicy(
                [
                    managers.LatestN(2),
                    managers.BestN(
                        get_metric_fn=lambda metrics: metrics[self._metric],
                        reverse=True,
                        n=self._keep_best,
                    ),
                ]
            )
            self._made = ocp.CheckpointManager(
                self.folder,
                item_handlers=ocp.StandardCheckpointHandler(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policy,
                    best_fn=lambda metrics: metrics[self._metric],
                    best_mode="min",
                    enable_async_checkpointing=False,
                ),
            )
        return self._made

    def _set_aside(self, steps: list[int]) -> None:
        """Keep damaged checkpoints out of the way of the run, but keep them."""
        together(f"{self.folder} was looked at")
        if steps:
            self.close()
        for step in steps if first() else ():
            aside = self.folder / f"{_ASIDE}{step}"
            while aside.exists():
                aside = aside.with_name(f"{aside.name}-again")
            (self.folder / str(step)).rename(aside)
        together(f"{self.folder} was cleared")

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        if self._made is None and not self.folder.is_dir():
            return []
        with _quiet():
            return sorted(self._manager().all_steps())

    @property
    def latest(self) -> int | None:
        """The last step that has a checkpoint."""
        return max(self.steps(), default=None)

    @property
    def best(self) -> int | None:
        """The step of the best checkpoint, or the last if none has the metric."""
        return self._manager().best_step() if self.steps() else None

    def save(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Write a checkpoint of `state` after `step` steps.

        Raises:
          ValueError: if there is a checkpoint of that step already.
        """
        import orbax.checkpoint as ocp

        if self._broken:
            self._set_aside(sorted(self._broken & set(self.steps())))
        self._broken.clear()
        if step in self.steps():
            raise ValueError(
                f"Checkpoints.save: {self.folder} already holds step {step}; "
                "use another folder."
            )
        numbers = {k: float(v) for k, v in metrics.items() if np.isfinite(v)}
        numbers.setdefault(self._metric, float("inf"))
        self._manager().save(
            step, args=ocp.args.StandardSave(state), metrics=numbers, force=True
        )
        if first():
            folder = self.folder / str(step)
            write_whole(folder / _SUMS, json.dumps(_sums(folder)).encode())

    def restore(
        self, template: Any = None, *, step: int | None = None
    ) -> tuple[int, Any] | None:
        """Read a checkpoint: `step`'s, or the latest that can be read.

        Args:
          template: a state, or its shapes (`jax.eval_shape`), that says how the
            result is built and what it must agree with. None gives nested dicts
            and lists.
          step: which checkpoint; None for the latest.

        Returns:
          The step and the state; None where the folder holds no checkpoint.

        Raises:
          InputError: if no checkpoint can be read, or none fits the template.
        """
        steps = self.steps() if step is None else [step]
        if not steps:
            self._refuse_foreign()
            return None
        reason = ""
        for candidate in reversed(steps):
            try:
                with _quiet():
                    state = self._read(candidate, template)
            except Exception as error:  # Whatever orbax meets in a broken file.
                reason = reason or first_line(error)
                continue
            self._broken |= {later for later in steps if later > candidate}
            return candidate, state
        raise InputError(
            f"checkpoint {self.folder} cannot be used for this run: step {steps[-1]} "
            f"is damaged, or of another model or version ({reason}); "
            "start in another folder"
        )

    def _refuse_foreign(self) -> None:
        inside = self.folder.iterdir() if self.folder.is_dir() else ()
        ours = ("orbax-checkpoint-tmp", _ASIDE)
        foreign = [p for p in inside if not any(name in p.name for name in ours)]
        if self.folder.is_file() or foreign:
            raise InputError(
                f"checkpoint {self.folder} holds files but no checkpoint; "
                "name another folder"
            )

    def _read(self, step: int, template: Any) -> Any:
        import orbax.checkpoint as ocp

        _verify(self.folder / str(step))
        if template is None:
            return self._manager().restore(step, args=ocp.args.StandardRestore())
        shapes = jax.tree.map(_shape, template)
        _compare(
            dict(_named(shapes)), dict(_named(self._manager().item_metadata(step).tree))
        )
        return self._manager().restore(step, args=ocp.args.StandardRestore(shapes))

    def close(self) -> None:
        """Let go of the folder."""
        if self._made is not None:
            self._made.close()
            self._made = None


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda leaf: hasattr(leaf, "dtype")
    )[0]
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in leaves
    ]


def _compare(wanted: dict[str, Any], stored: dict[str, Any]) -> None:
    """Raise if a state of shapes `wanted` is not what is stored.

    Before anything is read, since orbax converts types in silence, after which a
    resumed run would go another way, and stops noisily at another shape.
    """
    for name in sorted(wanted.keys() ^ stored.keys()):
        where = "not in the checkpoint" if name in wanted else "not in the run's state"
        raise ValueError(f"{name} is {where}")
    for name, leaf in wanted.items():
        got = stored[name]
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            continue
        if (str(got.dtype), tuple(got.shape)) != (str(leaf.dtype), leaf.shape):
            raise ValueError(
                f"{name} is {got.dtype}{list(got.shape)}, "
                f"not {leaf.dtype}{list(leaf.shape)}"
            )


def _sums(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of every file of a checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): [
            path.stat().st_size,
            zlib.crc32(path.read_bytes()),
        ]
        for path in files
        if path.name != _SUMS
    }


def _verify(folder: Path) -> None:
    """Raise if a file has changed since it was written, or is gone."""
    if not (folder / _SUMS).exists():  # Stopped between writing and summing.
        return
    found = _sums(folder)
    for name, wanted in json.loads((folder / _SUMS).read_text()).items():
        if found.get(name) != wanted:
            raise ValueError(f"{folder.name}/{name} is not as it was written")


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """Of what is restored, on one device unless it is said where."""
    where = getattr(leaf, "sharding", None)
    if where is None:  # The devices that it was saved on need not be here.
        where = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax's own words about a broken file off the screen; ours follow."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    except Exception:
        gc.collect()  # asyncio complains of failed reads when they are collected.
        raise
    finally:
        logging.disable(before)
