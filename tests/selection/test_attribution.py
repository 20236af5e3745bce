"""Attributions: closed forms, and every order of joining by brute force."""

import itertools
import math

import numpy as np
import pytest

from jmeta.selection import attribution

NAN = np.nan


def shapley(value, num):
    """By the definition: the weighted mean of what a player adds to every coalition."""
    found = np.zeros(num)
    for player in range(num):
        others = [p for p in range(num) if p != player]
        for size in range(num):
            weight = math.factorial(size) * math.factorial(num - size - 1)
            for members in itertools.combinations(others, size):
                added = value({*members, player}) - value({*members})
                found[player] += weight / math.factorial(num) * added
    return found


def values_of(predict, task, typical, players, ranks):
    ways = attribution.paths(task, typical, players, ranks)
    ends = [np.broadcast_to(end, (len(ranks), 1, len(task))) for end in (typical, task)]
    return predict(np.concatenate([ends[0], ways, ends[1]], axis=1))


def test_effects_over_all_orders_are_shapley_values():
    task, typical = np.array([2.0, -1.0, 9.0, 3.0, 0.5]), np.zeros(5)
    players = np.array([0, 1, 3, 4])  # The third is not looked at.

    def predict(x):
        return x[..., 0] * x[..., 1] + x[..., 3] ** 2 * x[..., 4] + 2 * x[..., 1]

    ranks = np.array(list(itertools.permutations(range(4))))
    made = attribution.effects(values_of(predict, task, typical, players, ranks), ranks)

    def value(coalition):
        inside = np.isin(np.arange(5), players[[*coalition]])
        return predict(np.where(inside, task, typical))

    np.testing.assert_allclose(made, shapley(value, 4), atol=1e-12)


@pytest.mark.parametrize("num", [1, 2, 7])
def test_effects_add_up_and_those_of_a_sum_are_its_parts(num):
    rng = np.random.default_rng(0)
    task, typical, weights = rng.normal(size=(3, num))
    ranks = attribution.draw_ranks(num, 3, seed=1)
    assert np.sort(ranks).tolist() == [list(range(num))] * 6
    np.testing.assert_array_equal(ranks[:3] + ranks[3:], num - 1)
    values = values_of(lambda x: x @ weights, task, typical, np.arange(num), ranks)
    made = attribution.effects(values, ranks)
    np.testing.assert_allclose(made, weights * (task - typical), atol=1e-12)
    values = values_of(
        lambda x: np.sin(x).prod(-1), task, typical, np.arange(num), ranks
    )
    total = np.sin(task).prod() - np.sin(typical).prod()
    np.testing.assert_allclose(attribution.effects(values, ranks).sum(), total)


def test_the_typical_task_misses_what_most_miss_and_constants_are_no_players():
    found = np.array([[1.0, NAN, 5.0, NAN, 1.0], [2.0, NAN, 5.0, NAN, NAN]] * 2)
    found = np.vstack([found, [9.0, 4.0, 5.0, NAN, 3.0]])
    typical = attribution.typical_task(found)
    np.testing.assert_array_equal(typical, [2.0, NAN, 5.0, NAN, 1.0])
    assert attribution.varying(found).tolist() == [0, 1, 4]
