"""Settings and unit vectors turn into each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.spaces import Space, choice, integer, real

SPACE = Space(
    rate=real(1e-3, 1.0, default=0.1, log=True),
    share=real(0.0, 2.0, default=1.0),
    rounds=integer(1, 100, default=10, log=True),
    kernel=choice("rbf", "matern", default="matern"),
)


def test_units_survive_the_way_there_and_back():
    settings = {"rate": 0.02, "share": 0.5, "rounds": 7, "kernel": "rbf"}
    unit = SPACE.encode(settings)
    decoded = SPACE.decode(unit)
    np.testing.assert_allclose(decoded["rate"], 0.02, rtol=1e-5)
    np.testing.assert_allclose(SPACE.encode(decoded), unit, atol=1e-6)
    assert SPACE.readable(unit) == settings


def test_log_settings_are_equal_ratios():
    middle = SPACE.decode(jnp.full(4, 0.5))["rate"]
    np.testing.assert_allclose(middle, np.sqrt(1e-3), rtol=1e-5)


def test_a_whole_number_is_rounded_and_its_gradient_passes():
    def rounds(u):
        return SPACE.decode(jnp.full(4, 0.4).at[2].set(u))["rounds"]

    assert float(rounds(0.4)) == 6.0  # 100 ** 0.4 = 6.3.
    # d/du 100**u = ln(100) 100**u, at the value before rounding.
    np.testing.assert_allclose(jax.grad(rounds)(0.4), np.log(100) * 100**0.4, rtol=1e-4)


def test_a_limit_that_depends_on_the_task_is_applied():
    space = Space(neighbors=integer(1, 64, default=32, at_most_rows=True))
    assert space.readable(space.default(), num_rows=20) == {"neighbors": 20}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rat": 1.0}, r"no hyperparameter \['rat'\]"),
        ({"kernel": "poly"}, "kernel must be one of"),
    ],
)
def test_unknown_names_and_options_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        SPACE.encode(settings)


def test_impossible_ranges_are_refused():
    with pytest.raises(ValueError, match="low <= default <= high"):
        real(1.0, 0.5, default=0.7)
    with pytest.raises(ValueError, match="low > 0 if log"):
        real(0.0, 0.5, default=0.1, log=True)
