import numpy as np

from jmeta.data.collection import Collection, merged, subset


def letters():
    """Two alphabets of two and three letters, on rows that they do not own in order."""
    return Collection(
        form="image",
        x=np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1),
        tasks=np.array(["latin", "greek"]),
        family=np.array(["west", "east"]),
        offset=np.array([0, 2, 5]),
        rows=np.array([4, 3, 2, 1, 0], np.int32),
        label=np.array([1, 0, 2, 0, 1], np.int32),
        value=np.full(5, np.nan, np.float32),
        classes=(("a", "b"), ("alpha", "beta", "gamma")),
    )


def test_a_subset_keeps_the_entries_of_its_tasks_in_the_order_given():
    some = subset(letters(), [1, 0])
    assert some.tasks.tolist() == ["greek", "latin"] and some.offset.tolist() == [
        0,
        3,
        5,
    ]
    assert some.rows.tolist() == [2, 1, 0, 4, 3]
    assert some.label.tolist() == [2, 0, 1, 1, 0]
    assert subset(letters(), [1]).classes == (("alpha", "beta", "gamma"),)


def test_merged_classes_are_those_of_all_tasks():
    one = merged(letters())
    assert one.classes == (("a", "b", "alpha", "beta", "gamma"),)
    assert one.label.tolist() == [1, 0, 4, 2, 3] and one.offset.tolist() == [0, 5]
