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


@pytest.mark.parametrize("end", [0.001, 0.999])
def test_the_gradient_passes_where_rounding_meets_an_end(end):
    space = Space(
        kernel=choice("rbf", "matern", default="rbf"), depth=integer(1, 3, default=2)
    )
    slopes = jax.jacobian(lambda unit: jnp.stack(list(space.decode(unit).values())))
    np.testing.assert_allclose(slopes(jnp.full(2, end)), np.diag([1.0, 2.0]), rtol=1e-6)


CONDITIONAL = Space(
    kernel=choice("linear", "rbf", "matern", default="linear"),
    scale=real(0.1, 10.0, default=2.0, log=True, when=("kernel", ("rbf", "matern"))),
    order=choice("three", "five", default="five", when=("kernel", ("matern",))),
    terms=integer(1, 9, default=3, when=("order", ("three",))),
)


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        ([0.0, 0.0, 0.0, 1.0], {"kernel": "linear"}),
        ([0.5, 1.0, 0.0, 1.0], {"kernel": "rbf", "scale": 10.0}),
        ([1.0, 0.5, 1.0, 1.0], {"kernel": "matern", "scale": 1.0, "order": "five"}),
        (
            [1.0, 0.5, 0.0, 1.0],
            {"kernel": "matern", "scale": 1.0, "order": "three", "terms": 9},
        ),
    ],
)
def test_settings_that_do_not_count_are_defaults_and_left_out(unit, told):
    assert CONDITIONAL.readable(unit) == pytest.approx(told)
    default = CONDITIONAL.decode(CONDITIONAL.encode({}))
    decoded = CONDITIONAL.decode(jnp.asarray(unit))
    for name in set(CONDITIONAL.names) - set(told):
        assert decoded[name] == default[name]
    # The way back needs only those that count.
    again = CONDITIONAL.decode(CONDITIONAL.encode(told))
    for name in CONDITIONAL.names:
        np.testing.assert_allclose(again[name], decoded[name], rtol=1e-5)


def test_settings_that_do_not_count_have_a_gradient_of_zero():
    def slopes(unit):
        jacobian = jax.jacobian(
            lambda unit: jnp.stack(list(CONDITIONAL.decode(unit).values()))
        )(jnp.asarray(unit))
        assert np.count_nonzero(jacobian - np.diag(np.diag(jacobian))) == 0
        return np.diag(jacobian) != 0

    np.testing.assert_array_equal(slopes([0.1, 0.4, 0.1, 0.4]), [1, 0, 0, 0])
    np.testing.assert_array_equal(slopes([0.5, 0.4, 0.1, 0.4]), [1, 1, 0, 0])
    np.testing.assert_array_equal(slopes([0.9, 0.4, 0.1, 0.4]), [1, 1, 1, 1])


def test_conditions_hold_in_a_batch_and_inside_a_program():
    units = CONDITIONAL.sample(jax.random.key(0), 50)
    together = jax.jit(CONDITIONAL.decode)(units)
    for place, unit in enumerate(units[:5]):
        alone = CONDITIONAL.decode(unit)
        for name in CONDITIONAL.names:
            np.testing.assert_allclose(together[name][place], alone[name], rtol=1e-6)
    linear = together["kernel"] == 0
    assert np.any(linear) and np.all((together["scale"] == 2.0)[linear])


@pytest.mark.parametrize(
    "hypers",
    [
        # After it, of itself, of each other, of a number, and of no such option.
        {"scale": ("kernel", ("rbf",)), "kernel": None},
        {"kernel": ("kernel", ("rbf",))},
        {"kernel": ("other", ("rbf",)), "other": ("kernel", ("rbf",))},
        {"depth": None, "scale": ("depth", ("rbf",))},
        {"kernel": None, "scale": ("kernel", ("poly",))},
        {"kernel": None, "scale": ("kernel", ())},
    ],
)
def test_conditions_on_what_is_no_earlier_choice_are_refused(hypers):
    made = {
        name: (
            choice("linear", "rbf", default="rbf", when=when)
            if name in ("kernel", "other")
            else real(0.0, 1.0, default=0.5, when=when)
        )
        for name, when in hypers.items()
    }
    with pytest.raises(ValueError, match="must be options of a choice before it"):
        Space(**made)


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
