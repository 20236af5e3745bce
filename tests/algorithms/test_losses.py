import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.algorithms.losses import LOSSES

LN2, ALL = np.log(2.0), jnp.array([True, True])


def value(name, predicted, costs, mask=ALL, **options):
    return LOSSES[name](jnp.array(predicted), jnp.array(costs), mask, **options)


def test_each_loss_has_its_hand_worked_value():
    # Probabilities 3/4 and 1/4: predicted costs 0 and ln 3.
    predicted, costs = [0.0, np.log(3.0)], [1.0, 3.0]
    # The first is best: -ln s(0) = ln 2, and -ln(1 - s(-ln 3)) = -ln(3/4).
    np.testing.assert_allclose(
        value("bce", predicted, costs), (LN2 + np.log(4 / 3)) / 2, rtol=1e-6
    )
    np.testing.assert_allclose(
        value("best", predicted, costs), np.log(4 / 3), rtol=1e-6
    )
    # Errors -1 and ln 3 - 3 = -1.9014: 1/2 and 1.9014 - 1/2.
    np.testing.assert_allclose(
        value("cost", predicted, costs), (0.5 + 3 - np.log(3) - 0.5) / 2, rtol=1e-6
    )
    np.testing.assert_allclose(value("expected", predicted, costs), 2 / 4, rtol=1e-6)
    # One pair, margin ln 3: softplus(-ln 3) = ln(4/3).
    np.testing.assert_allclose(
        value("pairwise", predicted, costs), np.log(4 / 3), rtol=1e-6
    )
    # Wanted 1/2 and 1/2, given 3/4 and 1/4.
    np.testing.assert_allclose(
        value("soft", predicted, [1.0, 1.0]), 0.5 * np.log(4 / 3), rtol=1e-6
    )


def test_pairs_weigh_by_their_gap_in_cost():
    # Gaps 1, 2, 3, all predicted equal but the last pair, whose margin is 5 - 0.
    predicted, costs = [0.0, 0.0, 5.0], [0.0, 1.0, 3.0]
    mask = jnp.ones(3, bool)
    tail = np.log1p(np.exp(-5.0))
    expected = (1 * LN2 + 2 * tail + 3 * tail) / 6
    np.testing.assert_allclose(
        value("pairwise", predicted, costs, mask), expected, rtol=1e-5
    )


def test_soft_labels_cost_nothing_where_the_costs_are_known():
    np.testing.assert_allclose(value("soft", [1.0, 3.0], [1.0, 3.0]), 0.0, atol=1e-7)


def test_ties_within_the_tolerance_share_the_label():
    np.testing.assert_allclose(
        value("best", [0.0, 0.0], [1.0, 1.1], tolerance=0.2), LN2, rtol=1e-6
    )


def test_temperature_divides_what_is_predicted():
    cold = value("expected", [0.0, 0.5 * np.log(3.0)], [1.0, 3.0], temperature=0.5)
    np.testing.assert_allclose(cold, 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_candidate_outside_the_mask_changes_nothing(name):
    mask = jnp.array([True, True, False])

    def loss(predicted, junk):
        return LOSSES[name](predicted, jnp.array([1.0, 3.0, junk]), mask)

    few = jax.value_and_grad(lambda p: LOSSES[name](p, jnp.array([1.0, 3.0]), ALL))(
        jnp.array([0.3, 0.1])
    )
    for junk in (-9.0, jnp.nan, jnp.inf):
        got, grads = jax.value_and_grad(loss)(jnp.array([0.3, 0.1, -5.0]), junk)
        np.testing.assert_allclose(got, few[0], rtol=1e-6)
        np.testing.assert_allclose(grads[:2], few[1], rtol=1e-6)
        assert grads[2] == 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_task_without_measurements_costs_nothing(name):
    none = jnp.array([False, False])
    got, grads = jax.value_and_grad(
        lambda p: LOSSES[name](p, jnp.array([jnp.nan, 1.0]), none)
    )(jnp.array([0.3, 0.1]))
    assert got == 0
    np.testing.assert_array_equal(grads, 0.0)
