"""The training loop: many steps in one compiled call, resumable to the bit.

A step's randomness comes from the run's key and the step's number, and every call
runs the same compiled program whatever its number of steps, so that a resumed run
equals an uninterrupted one bit for bit.
"""

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jmeta.base import MetaAlgorithm
from jmeta.logs import Metrics, MetricsLog
from jmeta.parallel import alone, any_process, first, local, replicated, shaped
from jmeta.prefetch import prefetched
from jmeta.types import Key

__all__ = ["Interrupted", "MetricsLog", "train"]


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and stopped after a whole number of steps.

    Attributes:
      signal: the signal that asked.
      step: how many steps are done.
    """

    def __init__(self, message: str, *, signal: int, step: int) -> None:
        super().__init__(message)
        self.signal, self.step = signal, step


@runtime_checkable
class Saver(Protocol):
    """What `train` needs of `jmeta.checkpoint.Checkpoints`."""

    def save(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Write a checkpoint."""
        ...

    def restore(self, template: Any) -> tuple[int, Any] | None:
        """Read the latest checkpoint that can be read; None where there is none."""
        ...


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM instead of dying in the middle of a step.

    A second Ctrl-C acts at once. Only the main thread can listen to signals.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handler(number: int, frame: Any) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)


def _names(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a pytree with names such as `losses/ridge`."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]


def _program(algorithm: MetaAlgorithm, steps_per_call: int) -> Callable[..., Any]:
    """The compiled call: `(state, key, source, first, stop) -> (state, infos)`.

    The source draws a step's tasks, if it is callable, or holds those of all steps.
    """

    def one(
        state: Any, key: Key, source: Any, first: Any, step: Any
    ) -> tuple[Any, Any]:
        task_key, step_key = jax.random.split(jax.random.fold_in(key, step))
        if callable(source):
            tasks = source(task_key)
        else:
            tasks = jax.tree.map(lambda leaf: leaf[step - first], source)
        return algorithm.step(step_key, state, tasks)

    # A loop to a traced `stop`, not a scan: a shorter last call is the same program.
    @functools.partial(jax.jit, donate_argnums=0)
    def run(
        state: Any, key: Key, source: Any, first: Any, stop: Any
    ) -> tuple[Any, Any]:
        infos = jax.tree.map(
            lambda leaf: jnp.zeros((steps_per_call, *leaf.shape), leaf.dtype),
            jax.eval_shape(one, state, key, source, first, first)[1],
        )

        def body(step: Any, carry: Any) -> Any:
            state, infos = carry
            state, info = one(state, key, source, first, step)
            place = step - first
            infos = jax.tree.map(lambda a, b: a.at[place].set(b), infos, info)
            return state, infos

        return jax.lax.fori_loop(first, stop, body, (state, infos))

    return run


def _check(infos: list[tuple[str, np.ndarray]], first: int, kept: str) -> None:
    """Raise where a loss is not finite, naming the first such step."""
    for name, values in infos:
        if name.split("/")[-1] != "loss":
            continue
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            place = int(np.argmax(bad))
            raise FloatingPointError(
                f"train: the {name} is {np.ravel(values[place])[0]} at step "
                f"{first + place}; lower the learning rate or clip the meta-gradient"
                f"{kept}."
            )


def train(
    algorithm: MetaAlgorithm,
    sample_tasks: Callable[[Key], Any] | None,
    key: Key,
    *,
    num_steps: int,
    steps_per_call: int = 50,
    init_tasks: Any = None,
    host_tasks: Callable[[int], Any] | None = None,
    state: Any = None,
    checkpoints: Saver | None = None,
    checkpoint_every: int = 1000,
    evaluate: Callable[[Any], Mapping[str, Any]] | None = None,
    log: Callable[[Metrics], Any] | None = None,
    progress: Callable[[Metrics], Any] | None = None,
) -> Any:
    """Take `num_steps` steps, or those that are left after the latest checkpoint.

    Args:
      algorithm: what is trained.
      sample_tasks: `(key) -> tasks`, traced: it draws one step's tasks on the device.
        Data that it draws from is best bound by `jax.tree_util.Partial(draw, data)`,
        which keeps it out of the compiled program. None where `host_tasks` does.
      key: the run's key; a resumed run must use the same one.
      num_steps: of the whole run, those before a checkpoint included.
      steps_per_call: steps between two looks of the host; part of no result.
      init_tasks: what `algorithm.init` sees, such as all training tasks; None for
        one draw of `sample_tasks`, or the `host_tasks` of step 0.
      host_tasks: `(step) -> tasks` of NumPy arrays, instead of `sample_tasks`. They
        depend on nothing but the step, and those of the next call are prepared in a
        thread while the device computes; `steps_per_call` says how many are held.
      state: where to start instead of `algorithm.init`; it is not consumed.
      checkpoints: resumed from if it holds one, and written to. None keeps nothing.
      checkpoint_every: steps between checkpoints, at least; they come after a call.
      evaluate: `(state) -> {name: number}`, at every checkpoint (also without
        `checkpoints`), on one device: its numbers are logged and decide which one is
        best.
      log: told the means over every call, beside `step` (done), `steps_per_s` and
        `tasks_per_s`. If it has a `truncate(step)`, that is called at the start.
      progress: told the same, and once at the start `{"step": ...}`.

    Returns:
      The state after the last step.

    Where there are several processes (see `jmeta.parallel`), all call this alike; the
    first of them tells `log` and `progress`, and a signal to one stops all.

    Raises:
      ValueError: if a number of steps is below 1, or tasks come from two sources.
      FloatingPointError: if the loss is not finite; the last checkpoint is kept.
      Interrupted: on Ctrl-C or SIGTERM, after the state was saved.
    """
    if min(num_steps, steps_per_call, checkpoint_every) < 1:
        raise ValueError(
            "train: num_steps, steps_per_call and checkpoint_every must be at least "
            f"1, got {num_steps}, {steps_per_call} and {checkpoint_every}."
        )
    if (sample_tasks is None) == (host_tasks is None):
        raise ValueError("train: needs sample_tasks or host_tasks, and not both.")
    init_key, key = jax.random.split(key)

    sampler: Any = None
    if host_tasks is not None:
        a_step = host_tasks(0)
        init_tasks = a_step if init_tasks is None else init_tasks
    else:
        # Arrays in a `Partial` are arguments of the program, not constants inside it.
        bound = isinstance(sample_tasks, Partial)
        sampler = sample_tasks if bound else Partial(sample_tasks)
        a_step = jax.eval_shape(sampler, key)

    def start(key: Key, sampler: Any, tasks: Any) -> Any:
        return algorithm.init(key, sampler(key) if tasks is None else tasks)

    begun = (init_key, sampler, init_tasks)
    template = shaped(jax.eval_shape(start, *begun) if state is None else state)
    found = checkpoints.restore(template) if checkpoints is not None else None
    step = 0
    if found is not None:
        step, state = found
    else:
        # Copied, since a call consumes its state and arrays may be shared in it.
        fresh = jax.jit(start)(*begun) if state is None else state
        state = jax.tree.map(jnp.copy, fresh)
    state, key, sampler = replicated((state, key, sampler))
    if not first():
        log = progress = None
    for listener in (log, progress):
        if hasattr(listener, "truncate"):
            listener.truncate(step)  # pyright: ignore
    if progress is not None:
        progress({"step": step})

    run = _program(algorithm, steps_per_call)
    drawn = jax.tree.leaves(a_step)
    num_tasks = drawn[0].shape[0] if drawn and drawn[0].shape else 1
    saved = step
    metrics: Metrics = {}

    def save() -> None:
        nonlocal saved
        if checkpoints is not None and saved != step:
            checkpoints.save(step, state, metrics)
            saved = step

    with _signals() as received, contextlib.ExitStack() as open_until_done:
        source = lambda _: sampler  # noqa: E731
        if host_tasks is not None:
            source = open_until_done.enter_context(
                prefetched(host_tasks, num_steps, steps_per_call)
            )
        while step < num_steps and not any_process(bool(received)):
            begin = time.perf_counter()
            stop = min(step + steps_per_call, num_steps)
            state, infos = run(state, key, source(step), step, stop)
            host = [
                (name, np.asarray(leaf)[: stop - step]) for name, leaf in _names(infos)
            ]
            rate = (stop - step) / (time.perf_counter() - begin)
            kept = f" (the checkpoint of step {saved} is kept)" if checkpoints else ""
            _check(host, step, kept)
            metrics = {name: float(np.mean(values)) for name, values in host}
            due = stop // checkpoint_every > step // checkpoint_every
            step = stop
            if due or step == num_steps:
                if evaluate is not None:
                    copy = local(state)
                    with alone():
                        judged = jax.device_get(dict(evaluate(copy)))
                    metrics |= {name: float(v) for name, v in judged.items()}
                save()
            told = {"step": step} | metrics
            told |= {"steps_per_s": rate, "tasks_per_s": rate * num_tasks}
            for listener in (log, progress):
                if listener is not None:
                    listener(told)
        if step < num_steps or received:
            number = received[0] if received else signal.SIGTERM  # Of another process.
            raise _stopped(number, step, save, checkpoints)
    return state


def _stopped(
    number: int, step: int, save: Callable[[], None], checkpoints: Any
) -> Interrupted:
    name = signal.Signals(number).name
    if checkpoints is None:
        told = f"train: stopped by {name} after step {step}; nothing was saved."
    else:
        save()
        told = (
            f"train: stopped by {name} after step {step}, which is saved in "
            f"{getattr(checkpoints, 'folder', 'the checkpoints')}; the same command "
            "with --resume goes on from there."
        )
    return Interrupted(told, signal=number, step=step)
