import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from real_folders import real_folder

from jmeta.data.collection import subset
from jmeta.data.images import collection_of, joined, read_images
from jmeta.data.omniglot import read_omniglot_runs
from jmeta.errors import InputError


def picture(level=0, shape=(4, 4), kind="PNG", **options):
    """The bytes of a picture of one colour, or of the pixels given."""
    pixels = np.full(shape, level, np.uint8) if np.ndim(level) == 0 else level
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def strokes(dark=2):
    """A picture as Omniglot's are: a dark square on white, one bit a pixel."""
    pixels = np.ones((105, 105), bool)
    pixels[: 15 * dark, :15] = False
    return picture(pixels)


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_folder(path, members):
    for name, content in members.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


LETTERS = {
    "images_small/": b"",
    "images_small/Greek/character02/0002_01.png": strokes(4),
    "images_small/Greek/character01/0001_02.png": strokes(3),
    "images_small/Greek/character01/0001_01.png": strokes(2),
    "images_small/Latin/character01/0003_01.png": strokes(1),
    "images_small/.DS_Store": b"junk",
    "__MACOSX/images_small/Latin/._0003_01.png": b"junk",
}


def test_a_zip_of_omniglot_is_a_task_an_alphabet_with_bright_strokes(tmp_path):
    data = read_images(write_zip(tmp_path / "small.zip", LETTERS))
    assert data.form == "image" and data.x.shape == (4, 28, 28, 1)
    assert data.tasks.tolist() == data.family.tolist() == ["Greek", "Latin"]
    assert data.classes == (("character01", "character02"), ("character01",))
    assert data.offset.tolist() == [0, 3, 4]
    assert data.label.tolist() == [0, 0, 1, 0]
    # 15 of 105 pixels are 4 of 28, and so many times higher than wide.
    np.testing.assert_array_equal(data.x[:, :3, :3].min(axis=(1, 2, 3)), 255)
    np.testing.assert_array_equal((data.x > 127).sum(axis=(1, 2, 3)), [32, 48, 64, 16])
    assert (data.x[:, :, 8:] == 0).all()


def test_pictures_of_omniglot_are_of_the_size_asked_for(tmp_path):
    path = write_zip(tmp_path / "small.zip", LETTERS)
    assert read_images(path, size=105).x.shape == (4, 105, 105, 1)
    assert set(np.unique(read_images(path, size=105).x)) == {0, 255}


def test_a_folder_holds_classes_or_groups_of_classes(tmp_path):
    cells = write_folder(
        tmp_path / "cells",
        {
            "round/a.png": picture(10),
            "flat/b.jpg": picture(200, kind="JPEG"),
            "flat/notes.txt": b"not a picture",
        },
    )
    data = read_images(cells)
    assert data.tasks.tolist() == ["cells"] and data.classes == (("flat", "round"),)
    np.testing.assert_array_equal(data.x[:, 0, 0, 0], [200, 10])
    sites = write_folder(
        tmp_path / "sites",
        {
            "east/ill/a.png": picture(1),
            "east/well/b.png": picture(2),
            "west/well/c.png": picture(3),
        },
    )
    data = read_images(sites)
    assert data.tasks.tolist() == ["east", "west"]
    assert data.classes == (("ill", "well"), ("well",))
    assert read_images(sites, split="east").classes == (("ill", "well"),)
    with pytest.raises(InputError, match="has no folder 'north'"):
        read_images(sites, split="north")


def test_colours_and_transparency_are_brought_together(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    folder = write_folder(
        tmp_path / "f",
        {
            "a/1.png": picture(7),
            "a/2.png": picture(red),
            "b/3.png": picture(np.zeros((4, 4, 4), np.uint8)),
        },
    )
    x = read_images(folder).x
    np.testing.assert_array_equal(x[:, 0, 0], [[7, 7, 7], [255, 0, 0], [255, 255, 255]])
    assert read_images(folder, channels=1).x[:, 0, 0, 0].tolist() == [7, 76, 255]
    assert read_images(folder, channels=1, size=2).x.shape == (3, 2, 2, 1)


def write_medmnist(path, labels=None, **changes):
    """A file as MedMNIST's are: three splits, labels in a column."""
    arrays = {}
    for number, split in enumerate(("train", "val", "test")):
        y = np.array([[0], [1], [2]]) if labels is None else labels
        arrays[f"{split}_images"] = np.full((len(y), 28, 28), number, np.uint8)
        arrays[f"{split}_labels"] = y.astype(np.uint8)
    np.savez(path, **arrays | changes)
    return path


def test_the_splits_of_medmnist_are_read_together_or_alone(tmp_path):
    path = write_medmnist(
        tmp_path / "derma.npz", test_labels=np.array([[1], [1], [3]], np.uint8)
    )
    data = read_images(path)
    assert data.x.shape == (9, 28, 28, 1) and data.tasks.tolist() == ["derma"]
    assert data.label.tolist() == [0, 1, 2, 0, 1, 2, 1, 1, 3]
    alone = read_images(path, split="test", size=14, channels=3)
    assert alone.x.shape == (3, 14, 14, 3) and (alone.x == 2).all()
    # A class that a split lacks keeps its number.
    assert alone.label.tolist() == [1, 1, 3] and alone.classes == (
        ("0", "1", "2", "3"),
    )
    with pytest.raises(InputError, match="no split 'all'"):
        read_images(path, split="all")


def test_an_archive_of_images_and_labels_tells_its_classes(tmp_path):
    path = tmp_path / "cells.npz"
    x, y = np.zeros((2, 8, 8, 3), np.uint8), np.array([1, 0], np.uint8)
    np.savez(path, images=x, labels=y, label_names=np.array(["red", "white"]))
    assert read_images(path).classes == (("red", "white"),)
    np.savez(path, images=x, labels=y + 1, label_names=np.array(["red", "white"]))
    with pytest.raises(InputError, match="names 2 classes, but has labels up to 2"):
        read_images(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_labels": np.zeros((3, 14), np.uint8)}, "has 14 labels for each image"),
        ({"train_labels": np.zeros((3, 1))}, "labels must be integers"),
        ({"train_labels": np.zeros((2, 1), np.uint8)}, "3 images, but 2 labels"),
        ({"train_images": np.zeros((3, 28, 28))}, "images of type float64"),
        ({"train_images": np.zeros((3, 8, 8, 8), np.uint8)}, r"shape \(3, 8, 8, 8\)"),
        ({"train_images": np.zeros((3, 8, 8), np.uint8)}, "splits differ in shape"),
        ({"train_images": np.array([{}] * 3)}, "no plain array"),
    ],
)
def test_an_archive_that_holds_something_else_is_named(tmp_path, changes, said):
    path = write_medmnist(tmp_path / "chest.npz", **changes)
    with pytest.raises(InputError, match=said) as error:
        read_images(path)
    assert "chest.npz" in str(error.value) and "\n" not in str(error.value)


def test_an_archive_without_images_says_what_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", scores=np.zeros(3))
    with pytest.raises(InputError, match="but scores"):
        read_images(tmp_path / "a.npz")


def test_a_file_cut_anywhere_is_refused_in_a_sentence(tmp_path):
    archive = write_medmnist(tmp_path / "a.npz")
    letters = write_zip(tmp_path / "a.zip", LETTERS)
    for path in (archive, letters):
        content = path.read_bytes()
        for length in (0, 1, 30, 100, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(InputError, match="cut short"):
                read_images(path)
    whole = picture(np.random.default_rng(0).integers(0, 255, (9, 9), np.uint8))
    for length in (0, 20, 40, len(whole) - 40):
        folder = write_folder(tmp_path / "f", {"a/b.png": whole[:length]})
        with pytest.raises(InputError, match=r"b\.png' is cut short or no picture"):
            read_images(folder)


def test_a_flipped_byte_of_an_archive_is_seen(tmp_path):
    path = write_medmnist(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    content[400] ^= 255  # Among the pixels of the first array.
    path.write_bytes(content)
    with pytest.raises(InputError, match="train_images is cut short"):
        read_images(path)


def huge(width, height):
    """A PNG of 100 bytes that says it is that large."""

    def chunk(name, content):
        sum_ = zlib.crc32(name + content)
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", sum_)
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(b"")),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_what_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    for width, height in ((10_000, 10_000), (1_000_000, 1_000_000)):
        folder = write_folder(tmp_path / "f", {"a/b.png": huge(width, height)})
        with pytest.raises(InputError, match="larger than 67108864 pixels"):
            read_images(folder)
    # An array that promises more than the file could hold.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 28, 28)}
    )
    labels = io.BytesIO()
    np.save(labels, np.zeros(1, np.uint8))
    members = {"images.npy": header.getvalue(), "labels.npy": labels.getvalue()}
    path = write_zip(tmp_path / "bomb.npz", members)
    with pytest.raises(InputError, match="more than 17179869184 bytes"):
        read_images(path)
    monkeypatch.setattr("jmeta.data.pictures._MOST_BYTES_OF_FILE", 1000)
    bomb = write_zip(tmp_path / "b.zip", {"a/b.png": bytes(1001)})
    with pytest.raises(InputError, match=r"a/b\.png' is larger than"):
        read_images(bomb)


def test_what_is_no_source_of_images_is_named(tmp_path):
    with pytest.raises(InputError, match="no file or folder"):
        read_images(tmp_path / "no.zip")
    with pytest.raises(InputError, match="there is no file"):
        read_images(tmp_path / "no.npz")
    with pytest.raises(InputError, match=r"must be a folder, a \.zip or"):
        read_images(tmp_path / "table.csv")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(InputError, match="cut short or no zip"):
        read_images(tmp_path / "text.zip")
    with pytest.raises(InputError, match="holds no pictures"):
        read_images(write_zip(tmp_path / "e.zip", {"a/b.txt": b""}))
    for name in ("../../evil/a.png", "/evil/b/a.png", "..\\evil\\a.png"):
        with pytest.raises(InputError, match="leaves the zip"):
            read_images(write_zip(tmp_path / "t.zip", {name: picture()}))
    uneven = {"a/1.png": picture(), "b/c/2.png": picture()}
    with pytest.raises(InputError, match=r"throughout, unlike .*2\.png"):
        read_images(write_zip(tmp_path / "u.zip", uneven))
    sizes = {"a/1.png": picture(), "a/2.png": picture(shape=(4, 5))}
    with pytest.raises(
        InputError, match=r"2\.png' is 5 by 4 pixels and .*1\.png' 4 by"
    ):
        read_images(write_zip(tmp_path / "s.zip", sizes))
    deep = picture(np.zeros((4, 4), np.uint16))
    with pytest.raises(InputError, match="mode I;16; scale them to 8 bits"):
        read_images(write_zip(tmp_path / "d.zip", {"a/1.png": deep}))
    with pytest.raises(ValueError, match="size of at least 1, and 1 or 3"):
        read_images(tmp_path, channels=2)


def test_arrays_are_a_collection_without_a_copy():
    x = np.zeros((4, 8, 8), np.uint8)
    data = collection_of(x, ["b", "a", "b", "a"])
    assert np.shares_memory(data.x, x) and data.label.tolist() == [1, 0, 1, 0]
    grouped = collection_of(x, [5, 7, 9, 7], groups=["v", "u", "v", "u"])
    assert grouped.tasks.tolist() == ["u", "v"]
    assert grouped.classes == (("7",), ("5", "9"))
    assert grouped.rows.tolist() == [1, 3, 0, 2]
    assert grouped.label.tolist() == [0, 0, 0, 1]
    for wrong, said in (
        ((x / 255.0, [0] * 4), "images must be uint8"),
        ((x, np.full(4, 0.5)), "classes must be integers or texts"),
        ((x, [0] * 3), "one for each of 4"),
    ):
        with pytest.raises(ValueError, match=said):
            collection_of(*wrong)
    with pytest.raises(ValueError, match=r"must be in \[0, 2\), got 0 to 2"):
        collection_of(x, [0, 1, 2, 0], classes=["a", "b"])


def test_joined_collections_keep_their_rows_and_labels():
    one = collection_of(np.zeros((2, 4, 4), np.uint8), ["a", "b"], name="one")
    two = collection_of(np.ones((3, 4, 4), np.uint8), ["c", "d", "c"], name="two")
    both = joined([one, two])
    assert both.tasks.tolist() == ["one", "two"] and both.offset.tolist() == [0, 2, 5]
    alone = subset(both, [1])
    assert (both.x[alone.rows] == 1).all() and alone.label.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="one form and shape"):
        joined([one, collection_of(np.zeros((1, 5, 5), np.uint8), ["a"])])


def one_run(name="run01", labels=None):
    pairs = [(1, 2), (2, 1)]
    lines = [
        f"{name}/test/item0{i}.png {name}/training/class0{c}.png" for i, c in pairs
    ]
    return {
        f"{name}/class_labels.txt": ("\n".join(lines) if labels is None else labels),
        f"{name}/test/item01.png": strokes(2),
        f"{name}/test/item02.png": strokes(1),
        f"{name}/training/class01.png": strokes(1),
        f"{name}/training/class02.png": strokes(2),
        f"{name}/training/class03.png": strokes(3),
    }


def test_a_one_shot_run_says_which_class_each_item_is_of(tmp_path):
    path = write_zip(tmp_path / "runs.zip", one_run() | one_run("run02"))
    runs = read_omniglot_runs(path)
    assert runs.names == ("run01", "run02")
    assert runs.support.shape == (2, 3, 28, 28, 1)
    assert runs.answer.tolist() == [[1, 0], [1, 0]]
    np.testing.assert_array_equal(runs.support[0][runs.answer[0]], runs.query[0])


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a/b.png": picture()}, "holds no runs"),
        (one_run(labels="run01/test/item01.png run01/a.png"), "must name two pictures"),
        (one_run(labels="../etc ../etc"), "must name two pictures"),
        (one_run(labels=b"\xff\xfe"), "no text of paths"),
        (one_run(labels=" \n"), "is empty"),
    ],
)
def test_runs_that_are_none_are_named(tmp_path, members, said):
    with pytest.raises(InputError, match=said) as error:
        read_omniglot_runs(write_zip(tmp_path / "runs.zip", members))
    assert "runs.zip" in str(error.value)


def test_the_real_files_hold_what_their_notes_say():
    folder = real_folder("images", "omniglot")
    runs = read_omniglot_runs(folder / "all_runs.zip")
    assert runs.support.shape == runs.query.shape == (20, 20, 28, 28, 1)
    assert (np.sort(runs.answer, axis=1) == np.arange(20)).all()
    cells = read_images(folder.parent / "bccd" / "bccd_crops_32.npz")
    assert cells.x.shape == (4886, 32, 32, 3)
    assert cells.classes == (("RBC", "WBC", "Platelets"),)
    scans = read_images(folder.parent / "mednist" / "mednist_500_per_class.npz")
    assert np.bincount(scans.label).tolist() == [500] * 6
