import numpy as np

from jmeta.fewshot.floors import floors_for, predict_floor


def rows(*molecules):
    """Fingerprints of single counts, behind a slot that a descriptor takes."""
    slots = max(map(len, molecules))
    padded = np.zeros((len(molecules), 1 + slots, 2), np.uint16)
    padded[:, 0] = 2048, 77
    for row, places in zip(padded, molecules):
        row[1 : 1 + len(places)] = [[place, 1] for place in places]
    return padded


def test_similarity_ranks_by_both_classes_and_sees_fingerprints_alone():
    x = rows((1, 2, 3, 4), (7, 8))
    query = rows((1, 2, 9, 9), (1, 2, 7, 8))
    floor = floors_for("fingerprint", "classes")["tanimoto"]
    found = predict_floor(floor, "fingerprint", x, np.array([1, 0]), query, 2)
    # Shares of common entries with the active and the inactive molecule.
    alike = np.array([[0.0, 2 / 5], [2 / 4, 2 / 6]])
    expected = alike - alike.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_class_that_the_support_lacks_is_the_least_likely():
    x = np.array([[0.0], [5.0]], np.float32)
    floor = floors_for("numbers", "classes")["nearest"]
    query = np.array([[4.0], [99.0]], np.float32)
    found = predict_floor(floor, "numbers", x, np.array([0, 2]), query, 3)
    assert found.argmax(axis=1).tolist() == [2, 2]
    assert found.argmin(axis=1).tolist() == [1, 1]
