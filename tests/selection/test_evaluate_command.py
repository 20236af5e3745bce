"""`jmeta evaluate`: what it prints, writes and refuses."""

import json

import numpy as np
import pytest
from small_meta import meta_dataset

from jmeta.data.metadataset import write_folder
from jmeta.selection import experts, study

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(experts, "NUM_TREES", 10)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "meta"
    write_folder(path, meta_dataset(noise=0.05)._replace(name="meta"))
    return path


def test_json_holds_every_method_on_the_same_folds(folder, run):
    code, out, _ = run("evaluate", folder, "--seeds", "2", "--json")
    assert code == 0
    made = json.loads(out)
    assert made["name"] == "meta" and made["metric"] == "regret" and made["seeds"] == 2
    methods = made["methods"]
    assert set(methods) == {"jmeta", "single_best", "portfolio", "knn", "forest"}
    for found in methods.values():
        assert 0 <= found["regret@1"] <= 1 and found["seconds"] >= 0
        low, high = found["intervals"]["regret@1"]
        assert low <= found["regret@1"] <= high
        assert np.mean(found["by_seed"]["regret@1"]) == pytest.approx(found["regret@1"])
    assert methods["jmeta"]["regret@1"] < methods["single_best"]["regret@1"]


def test_several_paths_give_a_list_a_table_each_and_a_page(folder, tmp_path, run):
    times = tmp_path / "times"
    write_folder(times, meta_dataset(runtime=True)._replace(name="times"))
    page = tmp_path / "out" / "page.html"
    args = ["--methods", "jmeta", "single_best", "--seeds", "1"]
    code, out, _ = run("evaluate", folder, times, *args, "--report", page)
    assert code == 0
    assert "meta: 80 tasks" in out and "times: 80 tasks" in out and "npar10" in out
    text = page.read_text()
    assert "data:image/png;base64" in text and "nPAR10" in text and "Regret" in text
    code, out, _ = run("evaluate", folder, times, *args, "--json")
    assert [made["name"] for made in json.loads(out)] == ["meta", "times"]


@pytest.mark.parametrize(
    "args, told",
    [
        (("nowhere",), "nowhere"),
        (("FOLDER", "--methods", "oracle"), "there is no method 'oracle'"),
        (("FOLDER", "--folds", "official"), "has no official folds"),
        (("FOLDER", "--seeds", "0"), "--seeds must be at least 1"),
        ((), "name at least one folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(folder, tmp_path, run, args, told):
    page = tmp_path / "page.html"
    args = [folder if arg == "FOLDER" else arg for arg in args]
    code, out, err = run("evaluate", *args, "--report", page)
    assert code == 2 and told in err and err.count("\n") == 1
    assert not out and not page.exists()


def test_what_is_done_is_told_if_it_is_stopped(folder, tmp_path, run, monkeypatch):
    other = tmp_path / "other"
    write_folder(other, meta_dataset()._replace(name="other"))
    evaluate = study.evaluate

    def stopped(data, *args, **kwargs):
        if data.name == "other":
            raise KeyboardInterrupt
        return evaluate(data, *args, **kwargs)

    monkeypatch.setattr(study, "evaluate", stopped)
    page = tmp_path / "page.html"
    args = ["--methods", "single_best", "--seeds", "1", "--json", "--report", page]
    code, out, err = run("evaluate", folder, other, *args)
    assert code == 130 and "the folders that were done are told" in err
    assert [made["name"] for made in json.loads(out)] == ["meta"]
    assert "meta" in page.read_text()


def test_methods_that_fit_no_such_data_are_named(folder, run):
    code, _, err = run("evaluate", folder, "--methods", "forest_log")
    assert code == 2 and "forest_log cannot be run on such data" in err
