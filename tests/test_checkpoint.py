import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jmeta.algorithms import EnsembleState
from jmeta.checkpoint import Checkpoints
from jmeta.errors import InputError


def state(value=1.0) -> EnsembleState:
    members = {"w": jnp.full((300,), float(value)), "count": jnp.int32(4)}
    return EnsembleState(
        members={"params": members, "opt": optax.adam(1e-3).init(members)},
        keys=jax.random.split(jax.random.key(3), 2),
    )


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def filled(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, loss in [(10, 3.0), (20, 1.0), (30, 2.0), (40, 5.0)]:
        checkpoints.save(step, state(step), {"loss": loss})
    yield checkpoints
    checkpoints.close()


def largest(folder: pathlib.Path) -> pathlib.Path:
    return max(
        (p for p in (folder / "default").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )


def test_the_best_and_the_latest_two_are_kept_and_read_back(filled):
    assert filled.steps() == [20, 30, 40]
    assert (filled.latest, filled.best) == (40, 20)
    step, restored = filled.restore(jax.eval_shape(state))
    assert step == 40
    equal(restored, state(40))
    equal(filled.restore(state(), step=filled.best)[1], state(20))
    # Without a template: nested dicts, by name.
    np.testing.assert_array_equal(
        filled.restore()[1]["members"]["params"]["w"], np.full(300, 40.0)
    )


def test_an_empty_or_absent_folder_holds_nothing_and_reading_writes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.latest is None and checkpoints.best is None
    assert checkpoints.restore(state()) is None
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_is_not_overwritten(filled):
    with pytest.raises(ValueError, match="already holds step 40"):
        filled.save(40, state(), {"loss": 0.0})


def test_a_damaged_checkpoint_gives_way_to_an_older_good_one(filled):
    for name in ("40", "30"):
        file = largest(filled.folder / name)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    filled.close()
    again = Checkpoints(filled.folder)
    step, restored = again.restore(state())
    assert step == 20
    equal(restored, state(20))
    # Going on from there meets the damaged steps, which are kept aside.
    again.save(30, state(31), {"loss": 9.0})
    assert again.restore(state())[0] == 30
    assert (again.folder / "damaged-40").is_dir()
    again.close()


def test_broken_metrics_count_as_damage(filled):
    filled.close()
    (filled.folder / "40" / "metrics" / "metrics").write_text('{"lo')
    again = Checkpoints(filled.folder)
    assert again.restore(state())[0] == 30 and again.best == 20
    again.close()


def test_a_folder_of_damaged_checkpoints_is_refused_in_a_sentence(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(5, state(), {})
    file = largest(checkpoints.folder / "5")
    file.write_bytes(b"")
    with pytest.raises(InputError, match=r"checkpoints cannot be used .* step 5 is da"):
        checkpoints.restore(state())
    checkpoints.close()


def test_another_models_checkpoint_is_refused_by_what_differs(filled):
    other = state()
    for members, told in (
        (
            {"w": jnp.ones(3), "count": jnp.int32(0)},
            r"w is float32\[300\], not",
        ),
        ({"w": jnp.ones(300, jnp.float16), "count": jnp.int32(0)}, "not float16"),
        ({"v": jnp.ones(300)}, "count is not in the run"),
    ):
        wanted = other._replace(members={**other.members, "params": members})
        with pytest.raises(InputError, match=told) as raised:
            filled.restore(wanted)
        assert "\n" not in str(raised.value)


def test_files_of_something_else_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files but no checkpoint"):
        Checkpoints(tmp_path).restore(state())
    with pytest.raises(InputError, match="holds files but no checkpoint"):
        Checkpoints(tmp_path / "notes.txt").restore(state())
    assert (tmp_path / "notes.txt").read_text() == "mine"
