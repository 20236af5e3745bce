import importlib.util
import pathlib

import numpy as np

PATH = pathlib.Path(__file__).parents[1] / "benchmarks" / "image_floors.py"
SPEC = importlib.util.spec_from_file_location("image_floors", PATH)
floors = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(floors)


def test_the_modified_hausdorff_distance_is_the_worse_of_two_means():
    a = np.array([[0.0, 0.0], [0.0, 2.0]])
    b = np.array([[5.0, 4.0], [5.0, 7.0], [5.0, 10.0]])
    # Centred: -1 and 1, and -3, 0 and 3. The means are 1, and (2 + 1 + 2) / 3.
    np.testing.assert_allclose(floors.hausdorff(a, b), 5 / 3)
    np.testing.assert_allclose(floors.hausdorff(b, a), 5 / 3)
    assert floors.hausdorff(a, a + 3.0) == 0.0


def test_the_nearest_drawing_is_the_one_moved_not_another():
    line, square = np.zeros((9, 9)), np.zeros((9, 9))
    line[1, 1:6] = 255.0
    square[2:5, 2:5] = 255.0
    moved = [np.roll(square, 3, axis=1), np.roll(line, (5, 2), axis=(0, 1))]
    found = floors.nearest_by_hausdorff(np.stack([line, square]), np.stack(moved))
    assert found.tolist() == [1, 0]
    x, y = np.stack([line, square]), np.array([0, 1])
    assert floors.FLOORS["nearest_pixels"](x, y, x).tolist() == [0, 1]
    assert floors.FLOORS["logistic_pixels"](x, y, x).tolist() == [0, 1]
