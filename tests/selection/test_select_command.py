"""`jmeta select` and `jmeta importance`: what they print, write and refuse."""

import json

import numpy as np
import pytest
from small_meta import meta_dataset

from jmeta.cli import main
from jmeta.data.metadataset import write_folder
from jmeta.data.new_tasks import read_new_tasks
from jmeta.selection import answers, experts

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(experts, "NUM_TREES", 10)
    monkeypatch.setattr(answers, "ROWS", 128)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "meta"
    write_folder(path, meta_dataset(noise=0.05)._replace(name="meta"))
    return path


@pytest.fixture
def new(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("task,c,place\nearly,0.5,0.3\nlate,,0.9\nfar,0.5,7\n")
    return path


def test_new_tasks_are_read_by_name_and_what_is_not_there_is_missing(new):
    names, values = read_new_tasks(new, meta_dataset())
    assert names == ("early", "late", "far")
    nan = np.nan
    np.testing.assert_array_equal(
        values, [[0.3, nan, 0.5], [0.9, nan, nan], [7.0, nan, 0.5]]
    )


def test_json_holds_choices_reasons_and_neighbours_of_every_task(folder, new, run):
    code, out, err = run("select", folder, new, "--size", "2", "--json")
    assert code == 0 and not err
    made = json.loads(out)
    assert made["name"] == "meta" and made["unit"] == "regret"
    assert made["known_tasks"] == 80 and made["candidates"] == 4
    tasks = {one["task"]: one for one in made["tasks"]}
    assert list(tasks) == ["early", "late", "far"]
    assert tasks["early"]["choice"] == "c1" and tasks["late"]["choice"] == "c3"
    assert len(tasks["late"]["set"]) == 2
    assert tasks["late"]["attributions"][0]["description"] == "place"
    assert tasks["late"]["nearest"][0]["best"] == "c3"
    assert tasks["far"]["outside"] == ["place"] and not tasks["late"]["outside"]


def test_words_and_page_say_what_to_use_how_surely_and_why(folder, new, tmp_path, run):
    page = tmp_path / "out" / "page.html"
    code, out, _ = run("select", folder, new, "--report", page)
    assert code == 0
    text = " ".join(out.split())
    for told in (
        "meta: 80 known tasks, 4 candidates.",
        "3 of 3 descriptions are used.",
        "late: use c3",
        "Expected regret",
        "90 % interval",
        "with a probability of",
        "Why, and not c0: place = 0.9 (+",
        "Note: Beyond all known tasks in place.",
        "the single best's",
    ):
        assert told in text
    html = page.read_text()
    for told in ("late", "against / for", "Beyond all known tasks", "best there"):
        assert told in html


def test_importance_gives_json_a_plot_and_a_page(folder, tmp_path, run):
    page, plot = tmp_path / "a" / "page.html", tmp_path / "b" / "plot.png"
    args = ["--repeats", "1", "--report", page, "--plot", plot]
    code, out, _ = run("importance", folder, *args, "--json")
    assert code == 0
    made = json.loads(out)
    assert made["descriptions"][0]["name"] == "place" and made["repeats"] == 1
    assert made["descriptions"][0]["low"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64" in page.read_text() and "place" in page.read_text()
    code, out, _ = run("importance", folder, "--repeats", "1", "--by", "description")
    lines = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert code == 0 and {"place", "b", "c"} <= set(lines)
    assert "0 of 10 fits abstained." in " ".join(out.split())


@pytest.mark.parametrize(
    "text, told",
    [
        ("task,x,y\na,1,2\n", "has no column that is a description of meta"),
        ("task,place,plce\na,1,2\n", "did you mean 'place'?"),
        ("task,place\na,many\n", "line 2 has 'many' in the column 'place'"),
        ("task,place\n", "has no rows below its header"),
        ("task,place\na,1\na,2\n", "line 3 names 'a' again"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(folder, tmp_path, run, text, told):
    path = tmp_path / "new.csv"
    path.write_text(text)
    code, out, err = run("select", folder, path)
    assert code == 2 and told in err and err.count("\n") == 1 and not out


@pytest.mark.parametrize(
    "args, told",
    [
        (("select", "nowhere", "NEW"), "nowhere"),
        (("select", "FOLDER", "nothing.csv"), "there is no file 'nothing.csv'"),
        (("select", "FOLDER", "NEW", "--size", "0"), "--size must be at least 1"),
        (("select", "FOLDER", "NEW", "--seed", "-1"), "--seed must be between 0"),
        (("importance", "FOLDER", "--repeats", "0"), "--repeats must be at least 1"),
        (("importance", "FOLDER", "--folds", "official"), "has no official folds"),
        (("importance", "FOLDER", "--plot", "a.pdf"), "must end in .png"),
    ],
)
def test_bad_arguments_are_one_line_and_write_nothing(
    folder, new, tmp_path, run, args, told
):
    page = tmp_path / "page.html"
    named = {"FOLDER": folder, "NEW": new}
    code, out, err = run(*(named.get(a, a) for a in args), "--report", page)
    assert code == 2 and told in err and err.count("\n") == 1
    assert not out and not page.exists()


@pytest.mark.parametrize("command", ["select", "importance"])
def test_ctrl_c_leaves_nothing(folder, new, tmp_path, monkeypatch, capsys, command):
    def stop(*_, **__):
        raise KeyboardInterrupt

    page = tmp_path / "page.html"
    monkeypatch.setattr("jmeta.selection.selector.make_inputs", stop)
    args = [command, folder, *([new] if command == "select" else []), "--report", page]
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    assert ended.value.code == 130 and not page.exists()
    assert "stopped; nothing was written." in capsys.readouterr().err
