"""Settings as numbers."""

import numpy as np
import pandas as pd
import pytest

from jmeta.selection.settings import encode_settings, read_space


def test_numbers_are_scaled_words_are_one_hot_and_absence_is_told():
    frame = pd.DataFrame(
        {
            "rate": [0.01, 0.1, 1.0],
            "depth": [1, 2, 5],
            "kernel": ["rbf", None, "poly"],
            "degree": [None, None, 3],
            "flag": [True, False, True],
            "same": [1, 1, 1],
            "never": [None, None, None],
        },
        dtype=object,
    )
    expected = [
        [0.0, 0.5, 1.0],  # Two orders of magnitude: logarithmic.
        [0.0, 0.25, 1.0],
        [1, 0, 1],  # Who has a kernel,
        [0, 0, 1],  # poly,
        [1, 0, 0],  # rbf.
        [0, 0, 1],  # Who has a degree; it does not vary.
        [1, 0, 1],
    ]
    np.testing.assert_allclose(encode_settings(frame).T, expected)


def test_settings_that_never_vary_have_no_columns():
    assert encode_settings(pd.DataFrame({"a": [1, 1]}, dtype=object)).shape == (2, 0)
    assert encode_settings(pd.DataFrame(index=range(3))).shape == (3, 0)


def mixed():
    """Every kind of setting, conditional ones among them."""
    return pd.DataFrame(
        {
            "kernel": ["rbf", "poly", "poly", None, "rbf"],
            "degree": [None, 2, 5, None, None],
            "rate": [1e-4, 0.03, 2.0, 0.5, None],
            "depth": [1, 3, 17, 200, 9],
            "width": [6441, 64, 128, 8, 1],
            "flag": [True, False, True, None, False],
            "features": ["sqrt", 0.5, None, "log2", "sqrt"],
            "word": ["only", None, "only", "only", None],
            "same": [7, 7, 7, 7, 7],
            "never": [None] * 5,
        },
        dtype=object,
    )


def plain(frame):
    rows = frame.to_dict("records")
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


def test_settings_come_back_as_they_were_with_their_kinds():
    frame = mixed()
    space = read_space(frame)
    for dtype in (np.float64, np.float32):
        found = [space.decode(row) for row in space.encode(frame).astype(dtype)]
        for one, other in zip(found, plain(frame)):
            assert one == other
            assert {k: type(v) for k, v in one.items()} == {
                k: type(v) for k, v in other.items()
            }


def test_between_candidates_numbers_follow_their_scale_and_whole_ones_are_whole():
    frame = pd.DataFrame(
        {"rate": [0.01, 1.0], "depth": [2, 5], "share": [0.0, 1.0]}, dtype=object
    )
    space = read_space(frame)
    assert space.decode(np.array([0.5, 0.4, 0.25])) == {
        "rate": pytest.approx(0.1),
        "depth": 3,
        "share": 0.25,
    }
    np.testing.assert_allclose(
        space.snap(np.array([0.5, 0.4, 0.25])), [0.5, 1 / 3, 0.25]
    )
    assert space.decode(np.array([7.0, -1.0, 2.0])) == {
        "rate": pytest.approx(1.0),
        "depth": 2,
        "share": 1.0,
    }


def test_what_is_snapped_is_what_is_decoded():
    frame = mixed()
    space = read_space(frame)
    units = np.random.default_rng(0).random((40, len(space.encode(frame).T)))
    for unit, snapped in zip(units, space.snap(units)):
        assert space.decode(unit) == space.decode(snapped)


def test_only_numbers_that_a_candidate_has_may_move():
    frame = mixed()
    space = read_space(frame)
    movable, encoded = space.movable(frame), space.encode(frame)
    for row, (unit, free) in enumerate(zip(encoded, movable)):
        moved = space.decode(np.where(free, 1 - unit, unit))
        names = {"degree", "rate", "depth", "width"}
        before = space.decode(unit)
        assert {k for k in moved if moved[k] != before[k]} <= names
        assert moved.keys() == plain(frame)[row].keys()
        assert moved["depth"] != before["depth"]


def test_a_number_that_is_not_finite_is_a_word():
    frame = pd.DataFrame({"limit": [1.0, float("inf"), 2.0]}, dtype=object)
    space = read_space(frame)
    assert [space.decode(row)["limit"] for row in space.encode(frame)] == [
        1.0,
        float("inf"),
        2.0,
    ]
