import signal
import subprocess
import sys
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import cases, count_traces, scored_tasks
from jax.tree_util import Partial

from jmeta.algorithms import MetaExamples
from jmeta.base import MetaAlgorithm
from jmeta.checkpoint import Checkpoints
from jmeta.logs import MetricsLog
from jmeta.train import Interrupted, train

KEY = jax.random.key(5)
ENSEMBLE = next(case.algorithm for case in cases if case.name == "ensemble")


class WalkState(NamedTuple):
    params: jax.Array
    opt_state: optax.OptState


class WalkInfo(NamedTuple):
    loss: jax.Array


def walk(fails_at: float = jnp.inf) -> MetaAlgorithm:
    """Follow the mean of the tasks; the loss is NaN once `fails_at` steps are done."""
    optimizer = optax.adam(0.1)

    def init(key, tasks):
        params = jax.random.normal(key, tasks.shape[1:])
        return WalkState(params=params, opt_state=optimizer.init(params))

    def step(key, state, tasks):
        noise = jax.random.normal(key, state.params.shape)
        grads = state.params - tasks.mean(axis=0) + 0.1 * noise
        updates, opt_state = optimizer.update(grads, state.opt_state)
        count = optax.tree.get(state.opt_state, "count")
        loss = jnp.where(count >= fails_at, jnp.nan, jnp.sum(grads**2))
        params = optax.apply_updates(state.params, updates)
        return WalkState(params=params, opt_state=opt_state), WalkInfo(loss=loss)

    return MetaAlgorithm(init=init, step=step, predict=lambda params, task: params)


def draw(key):
    return jax.random.normal(key, (4, 3))


def equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def pick(data: MetaExamples, key) -> MetaExamples:
    rows = jax.random.randint(key, (8,), 0, len(data.description))
    return jax.tree.map(lambda leaf: leaf[rows], data)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    data = scored_tasks(jax.random.key(1), 32)
    sample = Partial(pick, data)
    whole = train(
        ENSEMBLE, sample, KEY, num_steps=23, steps_per_call=5, init_tasks=data
    )
    with_others = {"init_tasks": data, "checkpoint_every": 5}
    first = Checkpoints(tmp_path / "run")
    # 7 steps end in the middle of a call of 5, and 4 does not divide 7 nor 23.
    train(
        ENSEMBLE,
        sample,
        KEY,
        num_steps=7,
        steps_per_call=5,
        checkpoints=first,
        **with_others,
    )
    first.close()
    second = Checkpoints(tmp_path / "run")
    assert second.latest == 7
    resumed = train(
        ENSEMBLE,
        sample,
        KEY,
        num_steps=23,
        steps_per_call=4,
        checkpoints=second,
        **with_others,
    )
    second.close()
    equal(whole, resumed)


def test_the_log_holds_every_call_once_after_a_resume(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    options = {"steps_per_call": 4, "checkpoints": checkpoints, "log": log}
    train(walk(), draw, KEY, num_steps=8, checkpoint_every=4, **options)
    log({"step": 12, "loss": 1.0})  # As of a run that was killed after its log.
    train(walk(), draw, KEY, num_steps=14, checkpoint_every=4, **options)
    assert [row["step"] for row in log.read()] == [4, 8, 12, 14]
    assert {"loss", "steps_per_s", "tasks_per_s"} <= log.read()[-1].keys()
    row = log.read()[0]
    np.testing.assert_allclose(row["tasks_per_s"] / row["steps_per_s"], 4.0)
    assert checkpoints.latest == 14
    checkpoints.close()


def test_steps_are_traced_once_whatever_the_last_call_holds():
    algorithm = walk()
    step, traces = count_traces(algorithm.step)
    train(algorithm._replace(step=step), draw, KEY, num_steps=11, steps_per_call=4)
    # Once for the shapes of what it reports, and once for the loop.
    assert len(traces) <= 2


def test_the_logged_loss_is_the_mean_over_the_steps_of_the_call():
    single, grouped = [], []
    train(walk(), draw, KEY, num_steps=5, steps_per_call=1, log=single.append)
    train(walk(), draw, KEY, num_steps=5, steps_per_call=3, log=grouped.append)
    losses = [row["loss"] for row in single]
    np.testing.assert_allclose(
        [row["loss"] for row in grouped],
        [np.mean(losses[:3]), np.mean(losses[3:])],
        rtol=1e-6,
    )


def test_a_loss_that_is_not_finite_is_named_and_the_checkpoint_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 6; .*step 4 is"):
        train(
            walk(fails_at=6),
            draw,
            KEY,
            num_steps=20,
            steps_per_call=2,
            checkpoint_every=4,
            checkpoints=checkpoints,
        )
    assert checkpoints.steps() == [4]
    checkpoints.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    checkpoints = Checkpoints(tmp_path / "run")
    before = signal.getsignal(number)

    def stop(metrics):
        if metrics["step"] == 6:
            signal.raise_signal(number)

    options = {"num_steps": 40, "steps_per_call": 3, "checkpoints": checkpoints}
    with pytest.raises(Interrupted, match=r"after step 6, which is saved.*resume") as e:
        train(walk(), draw, KEY, log=stop, **options)
    assert (e.value.step, e.value.signal) == (6, number)
    assert isinstance(e.value, KeyboardInterrupt)
    assert signal.getsignal(number) == before
    assert checkpoints.latest == 6
    resumed = train(walk(), draw, KEY, **options)
    checkpoints.close()
    equal(resumed, train(walk(), draw, KEY, num_steps=40))


def test_evaluation_decides_which_checkpoint_is_best(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", metric="valid")
    told = []
    train(
        walk(),
        draw,
        KEY,
        num_steps=6,
        steps_per_call=2,
        checkpoint_every=2,
        checkpoints=checkpoints,
        evaluate=lambda state: {
            "valid": jnp.abs(optax.tree.get(state.opt_state, "count") - 4)
        },
        log=told.append,
    )
    assert [row["valid"] for row in told] == [2.0, 0.0, 2.0]
    assert checkpoints.best == 4
    checkpoints.close()


def test_a_given_state_is_where_it_starts_and_survives():
    state = walk().init(KEY, draw(KEY))
    train(walk(), draw, KEY, num_steps=2, state=state)
    assert np.isfinite(state.params).all()  # Its memory was not given away.


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps, steps_per_call and checkpoint_ev"):
        train(walk(), draw, KEY, num_steps=0)


def test_the_loop_imports_neither_flax_nor_orbax():
    code = (
        "import sys, jmeta.train, jmeta.checkpoint, jmeta.publish, jmeta.algorithms\n"
        "print([m for m in ('flax', 'orbax', 'rich', 'safetensors') "
        "if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def host_draw(step):
    return np.random.default_rng((3, step)).normal(size=(4, 3)).astype(np.float32)


def test_tasks_of_the_host_are_those_of_each_step_and_a_resumed_run_is_equal(tmp_path):
    asked = []

    def noted(step):
        asked.append((step, threading.current_thread() is threading.main_thread()))
        return host_draw(step)

    whole = train(walk(), None, KEY, host_tasks=noted, num_steps=11, steps_per_call=4)
    # The first once more, for its shapes; all others in a thread, each once.
    assert asked == [(0, True)] + [(step, False) for step in range(11)]
    checkpoints = Checkpoints(tmp_path / "run")
    options = {"host_tasks": host_draw, "steps_per_call": 4, "checkpoints": checkpoints}

    def stop(metrics):
        if metrics["step"] == 8:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(walk(), None, KEY, num_steps=11, log=stop, **options)
    resumed = train(walk(), None, KEY, num_steps=11, **options)
    checkpoints.close()
    equal(whole, resumed)
    # By hand: the same steps, one after another.
    init_key, key = jax.random.split(KEY)
    state = walk().init(init_key, host_draw(0))
    for step in range(11):
        step_key = jax.random.split(jax.random.fold_in(key, step))[1]
        state, _ = walk().step(step_key, state, host_draw(step))
    np.testing.assert_allclose(whole.params, state.params, rtol=1e-5)


def test_what_fails_on_the_host_is_raised_and_two_sources_are_refused():
    def fails(step):
        if step == 5:
            raise OSError("the disk is gone")
        return host_draw(step)

    with pytest.raises(OSError, match="the disk is gone"):
        train(walk(), None, KEY, host_tasks=fails, num_steps=9, steps_per_call=2)
    for sample in (None, draw):
        host = None if sample is None else host_draw
        with pytest.raises(ValueError, match="sample_tasks or host_tasks, and not bo"):
            train(walk(), sample, KEY, host_tasks=host, num_steps=1)
