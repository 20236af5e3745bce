"""`jmeta evaluate` on scenarios of kinds that jmeta was never tried on."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from small_meta import meta_dataset

from jmeta.data.metadataset import write_folder
from jmeta.selection import experts

pytestmark = pytest.mark.slow

ONE = pytest.approx(1.0, rel=1e-12)
"""A mean of ratios."""

ABOUT = """\
scenario_id: {name}
performance_measures: {measure}
maximize: {maximize}
performance_type: {kind}
algorithm_cutoff_time: {cutoff}
feature_steps:
  all:
    provides: [{features}]
"""


def cell(value):
    return "?" if np.isnan(value) else repr(float(value))


def arff(columns, rows):
    head = ["instance_id string", "repetition numeric", *columns]
    lines = ["@relation r", *(f"@attribute {column}" for column in head), "@data"]
    return "\n".join([*lines, *rows]) + "\n"


def write_aslib(folder, data, *, seconds=None, undescribed=()):
    """Write a record of one or more repeats of folds as an ASlib scenario.

    Args:
      seconds: that descriptions cost; None for no table of feature costs.
      undescribed: places of the tasks without a row of features.
    """
    runtime, sign = data.metric.cutoff is not None, -1.0 if data.metric.maximize else 1
    measure, kind = ("runtime",) * 2 if runtime else ("value", "solution_quality")
    folder.mkdir()
    text = ABOUT.format(
        name=data.name,
        measure=measure,
        maximize=str(data.metric.maximize).lower(),
        kind=kind,
        cutoff=data.metric.cutoff or "'?'",
        features=", ".join(data.features),
    )
    runs, described = [], []
    for t, task in enumerate(data.tasks):
        for c, candidate in enumerate(data.candidates):
            cost, ok = data.costs[t, c], data.solved[t, c] or not runtime
            if not np.isnan(cost):
                value = cell(sign * cost if ok else data.metric.cutoff)
                status = "ok" if ok else "timeout"
                runs.append(f"{task},1,{candidate},{value},{status}")
        if t not in undescribed:
            described.append(f"{task},1,{','.join(map(cell, data.descriptions[t]))}")
    columns = ["algorithm string", f"{measure} numeric", "runstatus {ok, timeout}"]
    names = [f"{name} numeric" for name in data.features]
    folds = [
        f"{task},{repeat + 1},{fold + 1}"
        for repeat, row in enumerate(data.folds)
        for task, fold in zip(data.tasks, row)
    ]
    files = {
        "description.txt": text,
        "algorithm_runs.arff": arff(columns, runs),
        "feature_values.arff": arff(names, described),
        "cv.arff": arff(["fold numeric"], folds),
    }
    if seconds is not None:
        files["feature_costs.arff"] = arff(
            ["all numeric"], [f"{task},1,{seconds}" for task in data.tasks]
        )
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(experts, "NUM_TREES", 20)
    monkeypatch.setattr(experts, "STEPS", 100)


@pytest.fixture
def evaluated(tmp_path, run):
    """Scores of all methods, by name."""

    def evaluated(data, **changes):
        folder = write_aslib(tmp_path / f"{len(os.listdir(tmp_path))}", data, **changes)
        return told(folder)

    def told(folder):
        code, out, err = run("evaluate", folder, "--seeds", "1", "--json", "--presolve")
        assert code == 0 and not err
        made = json.loads(out)
        metric = "npar10" if made["metric"] == "npar10" else "regret@1"
        for name, found in made["methods"].items():
            assert np.isfinite(found[metric]) and found[metric] >= 0, name
        return {name: found[metric] for name, found in made["methods"].items()}

    evaluated.folder = told
    return evaluated


def runtimes(num_tasks=80, num_candidates=4):
    """The first feature tells who needs 5 seconds; the others often fail."""
    data = meta_dataset(num_tasks, num_candidates, runtime=True)
    rng = np.random.default_rng(1)
    costs = rng.uniform(20, 180, data.costs.shape)
    place = np.minimum(data.descriptions[:, 0] * num_candidates, num_candidates - 1)
    costs[np.arange(num_tasks), place.astype(int)] = 5.0
    solved = costs < 100
    return data._replace(costs=np.where(solved, costs, 1000.0), solved=solved)


def without_features(data):
    return data._replace(descriptions=np.full(data.descriptions.shape, np.nan))


def test_two_algorithms(evaluated):
    made = evaluated(runtimes(num_candidates=2))
    assert made["single_best"] == made["portfolio"] == ONE
    assert made["jmeta"] < 0.4


def test_sixty_algorithms(evaluated):
    # Twenty copies of each of three, each a little slower than the one before.
    data = runtimes(120, 3)
    slower = 1 + 1e-3 * np.arange(20).repeat(3)
    costs = np.where(
        np.tile(data.solved, 20), np.tile(data.costs, 20) * slower, 10 * 100.0
    )
    data = data._replace(
        candidates=tuple(f"c{i}" for i in range(60)), costs=costs, solved=costs < 100
    )
    made = evaluated(data)
    assert made["single_best"] == ONE and made["jmeta"] < 0.5


def test_a_feature_that_is_missing_everywhere(evaluated):
    data = runtimes()
    data.descriptions[:, 1] = np.nan
    made = evaluated(data)
    assert made["jmeta"] < 0.5 and made["knn"] < 0.9


def test_without_any_value_of_any_feature_it_is_the_single_best(evaluated):
    made = evaluated(without_features(runtimes()))
    assert made["jmeta"] == made["single_best"] == ONE


def test_features_that_never_vary_make_it_abstain(evaluated):
    data = runtimes()
    made = evaluated(data._replace(descriptions=np.full((80, 3), 7.0)), seconds=5.0)
    assert made["jmeta"] == made["single_best"] == ONE and made["knn"] > 1.001


def test_a_fold_without_solved_instances_is_not_judged(evaluated):
    data = runtimes()
    first = (data.folds[0] == 0)[:, None]
    costs = np.where(first, 1000.0, data.costs)
    data = data._replace(costs=costs, solved=data.solved & ~first)
    made = evaluated(data)
    assert made["single_best"] == ONE and made["jmeta"] < 0.5
    # Nor does it matter what is chosen there: the weights are those of four folds.
    apart = data._replace(folds=np.where(first.T, -1, data.folds))
    np.testing.assert_allclose(evaluated(apart)["jmeta"], made["jmeta"], rtol=1e-6)


def test_feature_costs_that_are_absent_are_nothing_and_dear_ones_are_not_paid(
    evaluated,
):
    data = runtimes()
    free = evaluated(data)
    assert free["jmeta"] < 0.5
    assert free == evaluated(data, seconds=0.0)
    dear = evaluated(data, seconds=99.0)  # What then runs, fails.
    assert dear["jmeta"] == dear["single_best"] == ONE and dear["forest"] > 1.1


def test_runs_that_are_missing(evaluated):
    data = runtimes()
    rng = np.random.default_rng(0)
    gone = (rng.random(data.costs.shape) < 0.2) & (np.arange(4) > 0)
    costs = np.where(gone, np.nan, data.costs)
    made = evaluated(data._replace(costs=costs, solved=data.solved & ~gone))
    assert made["single_best"] == ONE and made["jmeta"] < 0.5


def test_instances_without_features(evaluated):
    data = runtimes(160)
    whole = evaluated(data)["jmeta"]
    made = evaluated(data, undescribed=range(0, 160, 8))
    assert made["single_best"] == ONE and whole < made["jmeta"] < 0.5


def test_a_quality_is_maximised_as_its_negative_is_minimised(evaluated):
    data = meta_dataset(noise=0.02)._replace(folds=np.arange(80)[None] % 5)
    up = evaluated(data)
    assert up["jmeta"] < 0.5 and up["single_best"] == ONE
    assert "jmeta_presolved" not in up
    down = data._replace(metric=data.metric._replace(maximize=False))
    assert evaluated(down) == up


def test_tables_of_two_candidates(evaluated, tmp_path):
    data = meta_dataset(num_candidates=2, noise=0.02)._replace(name="two")
    write_folder(tmp_path / "two", data)
    made = evaluated.folder(tmp_path / "two")
    assert made["jmeta"] < 0.4 * made["single_best"]


def test_tables_with_a_candidate_that_never_ran(evaluated, tmp_path):
    data = meta_dataset(num_candidates=3, noise=0.02)._replace(name="never")
    nothing = np.full((80, 1), np.nan)
    data = data._replace(
        candidates=(*data.candidates, "never"),
        costs=np.concatenate([data.costs, nothing], axis=1),
        solved=np.concatenate([data.solved, ~np.isnan(nothing)], axis=1),
    )
    write_folder(tmp_path / "never", data)
    made = evaluated.folder(tmp_path / "never")
    assert made["jmeta"] < 0.5 * made["single_best"]


def test_tables_in_which_one_of_two_ran_leave_nothing_to_choose(evaluated, tmp_path):
    data = meta_dataset(num_candidates=2)._replace(name="one")
    data.costs[:, 1] = np.nan
    write_folder(tmp_path / "one", data._replace(solved=~np.isnan(data.costs)))
    assert set(evaluated.folder(tmp_path / "one").values()) == {0.0}


BAD = {
    "yaml": ("description.txt", "maximize: false", "maximize: a: b", "line 3"),
    "kind": ("description.txt", "type: runtime", "type: fun", "line 4"),
    "number": ("algorithm_runs.arff", "t0,1,c1,5.0", "t0,1,c1,five", "line 9"),
    "status": ("algorithm_runs.arff", "t0,1,c1,5.0,ok", "t0,1,c1,5.0,good", "line 9"),
    "short": ("algorithm_runs.arff", "t0,1,c1,5.0,ok", "t0,1,c1", "line 9"),
    "feature": ("feature_values.arff", "t3,1,", "t3,1,9,", "line 11"),
    "infinite": ("feature_values.arff", "t3,1,0.", "t3,1,inf,0,0\nt3,2,0.", "line 11"),
    "cost": ("feature_costs.arff", "t2,1,1.5", "t2,1,-1.5", "line 8"),
    "fold": ("cv.arff", "t1,1,2", "t0,1,2", "line 7"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_scenario_is_one_line_that_names_file_and_line(tmp_path, run, case):
    name, old, new, line = BAD[case]
    data = runtimes(20, 2)
    data.costs[0] = [20.0, 5.0]
    data.solved[0] = True
    good = write_aslib(tmp_path / "good", data, seconds=1.5)
    bad = write_aslib(tmp_path / "bad", data, seconds=1.5)
    text = (bad / name).read_text()
    assert text.count(old) == 1
    (bad / name).write_text(text.replace(old, new))
    page = tmp_path / "page.html"
    code, out, err = run("evaluate", good, bad, "--report", page)
    assert code == 2 and not out and not page.exists()
    assert err.count("\n") == 1 and f"bad/{name}" in err and line in err


def test_a_malformed_table_is_one_line_that_names_file_and_line(tmp_path, run):
    write_folder(tmp_path / "bad", meta_dataset(20)._replace(name="bad"))
    table = next((tmp_path / "bad").glob("scores.csv*"))
    table.unlink()
    (tmp_path / "bad" / "scores.csv").write_text("task,a,b\nt0,1,2\nt1,1,two\n")
    code, out, err = run("evaluate", tmp_path / "bad")
    assert code == 2 and not out and err.count("\n") == 1
    assert "bad/scores.csv" in err and "line 3" in err


CHILD = r"""
import re, sys
from jmeta.cli import main
from jmeta.selection import experts
experts.NUM_TREES, experts.STEPS = 20, 100  # As in this process.
try:
    main(sys.argv[1:])
finally:
    # Not ru_maxrss, which counts the parent's memory too.
    told = open("/proc/self/status").read()
    print(re.search(r"VmHWM:\s*(\d+) kB", told)[1], file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_eight_thousand_instances_fit_in_memory(tmp_path):
    data = runtimes(8000, 3)
    folder = write_aslib(tmp_path / "many", data)
    args = ["evaluate", folder, "--seeds", "1", "--methods", "jmeta", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, args)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["methods"]["jmeta"]["npar10"] < 0.5
    assert int(done.stderr) < 2 * 2**20  # Kibibytes.
