"""ASlib scenarios become the record by the rules of the format, or say why not."""

import csv

import numpy as np
import pytest
from real_folders import real_folder

from jmeta.data.aslib import read_aslib
from jmeta.data.metadataset import FeatureGroup, Metric
from jmeta.errors import InputError

STATUS = "{ok, timeout, memout, not_applicable, crash, other}"
STEP = "{ok, timeout, memout, presolved, crash, other, unknown}"
DESCRIPTION = """\
scenario_id: TINY
performance_measures:
- runtime
maximize:
- false
performance_type:
- runtime
algorithm_cutoff_time: 100
algorithm_cutoff_memory: '?'
feature_steps:
  fast:
    provides:
    - size
  slow:
    requires:
    - fast
    provides:
    - depth
    - absent
"""


def arff(columns, rows):
    """An ARFF table with keys; `columns` is "name type, name type"."""
    keys = ["instance_id string", "repetition numeric"]
    columns = keys + [column.strip() for column in columns.split(";") if column]
    lines = ["@relation tiny", *(f"@attribute {column}" for column in columns)]
    return "\n".join([*lines, "@data", *rows.split()]) + "\n"


def run_table(rows, measure="runtime"):
    return arff(f"algorithm string;{measure} numeric;runstatus {STATUS}", rows)


RUNS = """
i1,1,a,10,ok  i1,1,b,100,timeout
i2,1,a,100.5,memout  i2,1,b,20,ok
i3,1,a,?,crash  i3,1,b,100,ok
"""
FILES = {
    "description.txt": DESCRIPTION,
    "algorithm_runs.arff": run_table(RUNS),
    "feature_values.arff": arff(
        "size numeric;depth numeric", "i4,1,7,8 i3,1,5,6 i1,1,1,2 i2,1,3,4"
    ),
    "feature_runstatus.arff": arff(
        f"fast {STEP};slow {STEP}", "i1,1,ok,ok i2,1,ok,crash i3,1,presolved,?"
    ),
    "feature_costs.arff": arff(
        "fast numeric;slow numeric", "i1,1,0.5,2 i2,1,?,1 i9,1,3,3"
    ),
    "cv.arff": arff("fold numeric", "i1,1,1 i2,1,10 i2,2,1 i9,2,2"),
}
OPTIONAL = ("feature_runstatus", "feature_costs", "cv")


def scenario(folder, **changes):
    """Write a scenario; `changes` are contents by stem, None leaves a file out."""
    folder.mkdir(exist_ok=True)
    for name, content in FILES.items():
        content = changes.pop(name.partition(".")[0], content)
        if content is not None:
            (folder / name).write_bytes(content.encode())
    assert not changes
    return folder


def described(**values):
    """The description with other values of keys; None removes a key."""
    text = DESCRIPTION
    for key, value in values.items():
        start = text.find(f"{key}:")
        rest = text[start:].split("\n", 1)[1]
        while rest.startswith((" ", "-")):
            rest = rest.split("\n", 1)[1]
        text = text[:start] + ("" if value is None else f"{key}: {value}\n") + rest
    return text


def quality(rows, maximize, tmp_path):
    return read_aslib(
        scenario(
            tmp_path / "quality",
            description=described(
                performance_measures="[accuracy, runtime]",
                performance_type="[solution_quality, runtime]",
                maximize=f"[{maximize}, false]",
                algorithm_cutoff_time="0",
            ),
            algorithm_runs=run_table(rows, "accuracy"),
        )
    )


def equal(data, other):
    """Whether two records are the same, apart from their names."""
    for field, ours, theirs in zip(data._fields, data, other):
        if field == "name":
            continue
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=field)
        else:
            assert ours == theirs or ours is theirs, field
    return True


def test_a_scenario_is_the_record_worked_out_by_hand(tmp_path):
    data = read_aslib(scenario(tmp_path))
    assert data.name == "TINY"
    assert data.tasks == ("i1", "i2", "i3")
    assert data.candidates == ("a", "b")
    assert data.features == ("size", "depth")
    assert data.metric == Metric("runtime", maximize=False, cutoff=100.0)
    np.testing.assert_array_equal(data.families, [0, 1, 2])
    np.testing.assert_array_equal(data.costs, [[10, 1000], [1000, 20], [1000, 1000]])
    np.testing.assert_array_equal(data.solved, [[1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(data.descriptions, [[1, 2], [3, 4], [5, 6]])
    assert data.groups == (
        FeatureGroup("fast", features=(0,), requires=()),
        FeatureGroup("slow", features=(1,), requires=("fast",)),
    )
    np.testing.assert_array_equal(data.group_costs, [[0.5, 2], [0, 1], [0, 0]])
    np.testing.assert_array_equal(data.folds, [[0, 2, -1], [-1, 0, -1]])
    assert data.settings is None


def test_files_that_hold_par10_already_give_the_costs_of_runtimes(tmp_path):
    plain = read_aslib(scenario(tmp_path / "plain"))
    rows = RUNS.replace("100,timeout", "1000,timeout").replace("100.5,m", "1000,m")
    par10 = read_aslib(
        scenario(
            tmp_path / "par10",
            description=described(performance_measures="PAR10"),
            algorithm_runs=run_table(rows, "PAR10"),
        )
    )
    assert par10.metric == Metric("PAR10", maximize=False, cutoff=100.0)
    assert equal(par10._replace(metric=plain.metric), plain)


@pytest.mark.parametrize("cutoff", ["'?'", "0", "-1", "null", None])
def test_without_a_cutoff_the_longest_ok_run_is_it_and_is_solved(tmp_path, cutoff):
    description = described(algorithm_cutoff_time=cutoff)
    data = read_aslib(scenario(tmp_path, description=description))
    assert data.metric.cutoff == 100.0
    np.testing.assert_array_equal(data.costs, [[10, 1000], [1000, 20], [1000, 100]])
    np.testing.assert_array_equal(data.solved, [[1, 0], [0, 1], [0, 1]])


def test_repetitions_are_averaged_and_the_majority_says_what_is_solved(tmp_path):
    rows = """
    i1,1,a,10,ok  i1,2,a,100,timeout  i1,3,a,40,ok  i1,1,b,7,ok
    i2,1,a,10,ok  i2,2,a,100,timeout
    """
    values = "i1,1,1,2 i1,2,3,? i2,1,5,? i2,2,?,?"
    ended = "i1,1,ok,ok i1,2,crash,ok"
    data = read_aslib(
        scenario(
            tmp_path,
            algorithm_runs=run_table(rows),
            feature_values=arff("size numeric;depth numeric", values),
            feature_runstatus=arff(f"fast {STEP};slow {STEP}", ended),
            feature_costs=arff("fast numeric", "i1,1,1 i1,2,4 i1,3,?"),
        )
    )
    # PAR10 first, then the mean: (10 + 1000 + 40) / 3 and (10 + 1000) / 2.
    np.testing.assert_array_equal(data.costs, [[350, 7], [505, np.nan]])
    np.testing.assert_array_equal(data.solved, [[1, 1], [0, 0]])
    # The size of the second repetition counts, though a step that crashed gave it.
    np.testing.assert_array_equal(data.descriptions, [[2, 2], [5, np.nan]])
    np.testing.assert_array_equal(data.group_costs, [[2.5, 0], [0, 0]])


@pytest.mark.parametrize("maximize, sign", [("true", -1), ("'yes'", -1), ("no", 1)])
def test_quality_is_a_cost_and_failed_runs_keep_their_value(tmp_path, maximize, sign):
    rows = """
    i1,1,a,0.5,ok  i1,1,b,0.75,timeout
    i2,1,a,?,crash  i2,1,b,0,ok
    i3,1,a,?,ok  i3,1,b,?,memout
    """
    data = quality(rows, maximize, tmp_path)
    assert data.metric == Metric("accuracy", maximize=sign < 0, cutoff=None)
    assert data.tasks == ("i1", "i2")  # Nothing ran on the third.
    costs = np.array([[0.5, 0.75], [np.nan, 0.0]])
    np.testing.assert_array_equal(data.costs, sign * costs)
    np.testing.assert_array_equal(data.solved, [[1, 1], [0, 1]])


def test_what_is_not_always_there_may_be_absent(tmp_path):
    changes = dict.fromkeys(OPTIONAL)
    text = described(scenario_id=None, feature_steps=None, maximize=None)
    data = read_aslib(scenario(tmp_path / "X-2030", description=text, **changes))
    assert data.name == "X-2030"
    assert data.groups == (FeatureGroup("other", features=(0, 1), requires=()),)
    np.testing.assert_array_equal(data.group_costs, np.zeros((3, 1)))
    np.testing.assert_array_equal(data.descriptions, [[1, 2], [3, 4], [5, 6]])
    assert data.folds is None


@pytest.mark.parametrize(
    "steps, groups",
    [
        (
            "{fast: [size], slow: [size, depth, depth]}",
            [("fast", (0,)), ("slow", (0, 1))],
        ),
        ("{slow: {provides: depth}}", [("slow", (1,)), ("fast", ()), ("other", (0,))]),
        (
            "{other: {provides: }, slow: }",
            [("other", ()), ("slow", ()), ("fast", ()), ("other_", (0, 1))],
        ),
    ],
)
def test_features_of_no_step_form_a_last_group(tmp_path, steps, groups):
    text = described(feature_steps=steps)
    data = read_aslib(scenario(tmp_path, description=text))
    assert [(group.name, group.features) for group in data.groups] == groups
    # Steps that have costs are charged, whether or not the description lists them.
    assert data.group_costs.sum() == 3.5


def test_a_feature_of_several_steps_belongs_to_each(tmp_path):
    text = described(feature_steps="{fast: [size, depth], slow: [size]}")
    data = read_aslib(scenario(tmp_path, description=text))
    assert [group.features for group in data.groups] == [(0, 1), (0,)]


def test_an_instance_without_features_is_kept_and_one_without_runs_is_not(tmp_path):
    values = arff("size numeric;depth numeric", "i2,1,3,? i7,1,3,4")
    data = read_aslib(scenario(tmp_path, feature_values=values))
    assert data.tasks == ("i1", "i2", "i3")
    known = ~np.isnan(data.descriptions)
    np.testing.assert_array_equal(known, [[0, 0], [1, 0], [0, 0]])


def test_many_algorithms_and_instances_agree_with_a_loop(tmp_path):
    random = np.random.default_rng(0)
    times = random.uniform(0, 120, (300, 60)).round(2)
    runs = {(i, a): times[i, a] for i in range(300) for a in range(60)}
    rows = [
        f"{i},1,s{a},{time},{'ok' if time < 110 else 'timeout'}"
        for (i, a), time in runs.items()
        if (i + a) % 7  # The others never ran.
    ]
    random.shuffle(rows)
    values = arff("size numeric", " ".join(f"{i},1,?" for i in range(300)))
    changes = {**dict.fromkeys(OPTIONAL), "feature_values": values}
    data = read_aslib(
        scenario(tmp_path, algorithm_runs=run_table(" ".join(rows)), **changes)
    )
    assert data.costs.shape == (300, 60) and np.isnan(data.descriptions).all()
    for task, name in enumerate(data.tasks):
        for place, algorithm in enumerate(data.candidates):
            i, a = int(name), int(algorithm[1:])
            time = runs[i, a] if runs[i, a] < 100 else 1000.0
            expected = time if (i + a) % 7 else np.nan
            np.testing.assert_equal(data.costs[task, place], expected)
            assert data.solved[task, place] == (expected < 100)


def test_spellings_do_not_matter(tmp_path):
    plain = read_aslib(scenario(tmp_path / "plain"))
    changes = {
        name.partition(".")[0]: "% read me\r\n\r\n"
        + content.replace("@data", "@DATA, \n% more\n")
        .replace("@attribute", "@ATTRIBUTE")
        .replace(" numeric", " INTEGER")
        .replace("\n", "\r\n")
        for name, content in FILES.items()
        if name.endswith(".arff")
    }
    text = described(
        performance_measures="runtime",
        maximize="'FALSE'",
        performance_type="Runtime",
        algorithm_cutoff_time="1.0e+2",
    )
    other = read_aslib(scenario(tmp_path / "other", description=text, **changes))
    assert equal(plain, other)


def test_names_that_look_like_values_are_names(tmp_path):
    rows = RUNS.replace(",a,", ",1e5,").replace("i1", "001").replace("i2", "no")
    values = arff("no numeric;1e5 numeric", "001,1,1,2 no,1,3,4")
    data = read_aslib(
        scenario(
            tmp_path,
            description=described(feature_steps="{fast: [no], slow: [1e5, ~]}"),
            algorithm_runs=run_table(rows),
            feature_values=values,
            **dict.fromkeys(OPTIONAL),
        )
    )
    assert data.tasks[:2] == ("001", "no") and data.candidates == ("1e5", "b")
    assert [group.features for group in data.groups] == [(0,), (1,)]
    np.testing.assert_array_equal(data.descriptions[:2], [[1, 2], [3, 4]])


def test_instances_may_be_numbers_in_one_table_and_texts_in_another(tmp_path):
    values = arff("size numeric;depth numeric", "1,1,1,2 2,1,3,4")
    data = read_aslib(
        scenario(
            tmp_path,
            algorithm_runs=run_table(
                RUNS.replace("i1", "1").replace("i2", "2").replace("i3", "3")
            ),
            feature_values=values.replace("instance_id string", "instance_id real"),
            **dict.fromkeys(OPTIONAL),
        )
    )
    assert data.tasks == ("1", "2", "3")
    np.testing.assert_array_equal(data.descriptions[:2], [[1, 2], [3, 4]])


HEAD = len(FILES["algorithm_runs.arff"].split("@data")[0].splitlines()) + 1
"""The line of @data in the runs; the first run stands below it."""

BAD = {
    "yaml": ("description.txt", "scenario_id: TINY", "a: b: c", "line 1 is no YAML"),
    "open": ("description.txt", "- runtime", "- [runtime", "line 4 is no YAML"),
    "zero": ("description.txt", "- false", "- \0", "line 5 is no YAML: special"),
    "list": ("description.txt", DESCRIPTION, "- a\n- b\n", "line 1 begins no desc"),
    "text": ("description.txt", DESCRIPTION, "hello\n", "line 1 begins no desc"),
    "measure": ("description.txt", "performance_measures", "x", "lacks performance_m"),
    "type": (
        *("description.txt", "type:\n- runtime", "type: speed"),
        "line 6: performance_type must be runtime or solution_quality, not 'speed'",
    ),
    "maximize": ("description.txt", "- false", "- maybe", "line 4: maximize must be"),
    "upwards": ("description.txt", "- false", "- true", "line 4: maximize.*a runtime"),
    "cutoff": ("description.txt", "100", "soon", "line 8: algorithm_cutoff_time"),
    "steps": (
        *("description.txt", "feature_steps:", "feature_steps: [fast]\nx:"),
        "line 10: feature_steps must be a mapping",
    ),
    "column": ("algorithm_runs.arff", "runtime", "time", f"line {HEAD}.*'runtime'"),
    "no status": ("algorithm_runs.arff", "runstatus", "s", "no column 'runstatus'"),
    "no key": ("feature_values.arff", "repetition", "r", "no column 'repetition'"),
    "no fold": ("cv.arff", "fold", "f", "no column 'fold'"),
    "status": ("algorithm_runs.arff", "20,ok", "20,won", f"line {HEAD + 4}.*'won'"),
    "negative": (
        *("algorithm_runs.arff", "a,10,ok", "a,-10,ok"),
        f"line {HEAD + 1} has the runtime -10; it must not be negative",
    ),
    "word": ("algorithm_runs.arff", "a,10,ok", "a,ten,ok", f"line {HEAD + 1}.*'ten'"),
    "no id": ("algorithm_runs.arff", "i2,1,b", "?,1,b", f"line {HEAD + 4} has no inst"),
    "twice": (
        *("algorithm_runs.arff", "i2,1,b", "i2,1,a"),
        f"line {HEAD + 4} repeats the row of instance_id 'i2', repetition '1', "
        "algorithm 'a'",
    ),
    "one": ("algorithm_runs.arff", ",b,", ",a,", f"line {HEAD + 2} repeats"),
    "short": ("algorithm_runs.arff", "i3,1,b,100,ok", "i3,1", f"line {HEAD + 6}"),
    "feature twice": ("feature_values.arff", "i2,", "i1,", "line 10 repeats.*'i1'"),
    "feature word": ("feature_values.arff", "3,4", "3,four", "line 10.*'four'"),
    "feature inf": (
        "feature_values.arff",
        "3,4",
        "3,inf",
        "line 10 has inf.*'depth'",
    ),
    "others": ("feature_values.arff", "\ni", "\nj", "describes none of the instances"),
    "cost": ("feature_costs.arff", "0.5", "-0.5", r"line 7 has -0\.5 in 'fast'"),
    "fold twice": ("cv.arff", "i2,2", "i2,1", "line 8 repeats"),
    "fold names": ("cv.arff", "\ni", "\nj", "names none of the instances"),
    "header": ("cv.arff", "@data", "", "line 6 is"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_scenario_is_named_by_file_and_line(tmp_path, case):
    name, old, new, pattern = BAD[case]
    assert old in FILES[name]
    changed = {name.partition(".")[0]: FILES[name].replace(old, new)}
    with pytest.raises(InputError, match=pattern) as raised:
        read_aslib(scenario(tmp_path, **changed))
    message = str(raised.value)
    assert name in message and "\n" not in message


@pytest.mark.parametrize("stem", ["algorithm_runs", "feature_values", "description"])
def test_a_missing_file_is_named(tmp_path, stem):
    with pytest.raises(InputError, match=f"there is no file .*{stem}"):
        read_aslib(scenario(tmp_path, **{stem: None}))


def test_a_status_of_any_type_is_checked(tmp_path):
    text = FILES["algorithm_runs.arff"].replace(STATUS, "string")
    assert equal(
        read_aslib(scenario(tmp_path, algorithm_runs=text.replace("20,ok", "20,OK"))),
        read_aslib(scenario(tmp_path)),
    )
    text = text.replace("20,ok", "20,solved")
    with pytest.raises(InputError, match=f"line {HEAD + 4} has the runstatus 'solved'"):
        read_aslib(scenario(tmp_path, algorithm_runs=text))


def test_a_number_of_any_type_is_checked(tmp_path):
    text = FILES["algorithm_runs.arff"].replace("runtime numeric", "runtime string")
    assert equal(
        read_aslib(scenario(tmp_path, algorithm_runs=text)),
        read_aslib(scenario(tmp_path, algorithm_runs=FILES["algorithm_runs.arff"])),
    )
    text = text.replace("b,20,", "b,twenty,")
    with pytest.raises(InputError, match=f"line {HEAD + 4} has 'twenty' in 'runtime'"):
        read_aslib(scenario(tmp_path, algorithm_runs=text))


def test_too_little_to_choose_from_is_said_so(tmp_path):
    for rows in ("i1,1,a,1,ok i2,1,a,2,ok", "i1,1,a,1,ok i1,1,b,1,ok"):
        with pytest.raises(InputError, match="needs at least 2 of both"):
            read_aslib(scenario(tmp_path, algorithm_runs=run_table(rows)))


def test_a_cutoff_that_nothing_tells_is_asked_for(tmp_path):
    rows = "i1,1,a,0,ok i1,1,b,9,timeout i2,1,a,?,crash"
    text = described(algorithm_cutoff_time="'?'")
    with pytest.raises(InputError, match="state algorithm_cutoff_time"):
        read_aslib(scenario(tmp_path, description=text, algorithm_runs=run_table(rows)))


def test_infinite_quality_is_refused_unless_the_run_failed(tmp_path):
    rows = "i1,1,a,1,ok i1,1,b,inf,crash i2,1,a,0.5,ok i2,1,b,0,ok"
    data = quality(rows, "true", tmp_path)
    np.testing.assert_array_equal(data.costs, [[-1, np.nan], [-0.5, 0]])
    with pytest.raises(InputError, match=f"line {HEAD + 3} has an infinite 'accuracy'"):
        quality(rows.replace("0.5", "inf"), "true", tmp_path)


REAL = {  # Instances, algorithms, features.
    "ASP-POTASSCO": (1294, 11, 138),
    "BNSL-2016": (1179, 8, 86),
    "CPMP-2015": (527, 4, 22),
    "CSP-2010": (2024, 2, 86),
    "CSP-Minizinc-Obj-2016": (100, 22, 95),
    "CSP-Minizinc-Time-2016": (100, 20, 95),
    "GRAPHS-2015": (5725, 7, 35),
    "MAXSAT-PMS-2016": (601, 19, 37),
    "MAXSAT-WPMS-2016": (630, 18, 37),
    "MAXSAT12-PMS": (876, 6, 37),
    "MAXSAT15-PMS-INDU": (601, 29, 37),
    "MIP-2016": (218, 5, 143),
    "OPENML-WEKA-2017": (105, 30, 103),
    "QBF-2011": (1368, 5, 46),
    "QBF-2014": (1254, 14, 46),
    "QBF-2016": (825, 24, 46),
    "SAT11-HAND": (296, 15, 115),
    "SAT11-INDU": (300, 18, 115),
    "SAT11-RAND": (600, 9, 115),
    "SAT12-HAND": (767, 31, 115),
    "SAT12-INDU": (1167, 31, 115),
    "SAT15-INDU": (300, 28, 54),
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_scenario_is_read_whole(name):
    data = read_aslib(real_folder("aslib", name))
    shape = (len(data.tasks), len(data.candidates), len(data.features))
    assert shape == REAL[name] and data.name == name
    assert data.costs.shape == data.solved.shape == shape[:2]
    assert data.descriptions.shape == (shape[0], shape[2])
    assert not np.isnan(data.costs).any() and not np.isinf(data.descriptions).any()
    assert np.isnan(data.descriptions).mean() < 0.2
    assert sorted(set(data.folds[0])) == list(range(10))
    assert data.group_costs.shape == (shape[0], len(data.groups))
    cutoff = data.metric.cutoff
    if cutoff is None:
        assert data.solved.all()
    else:
        assert (data.costs[data.solved] < cutoff).all()
        assert (data.costs[~data.solved] == 10 * cutoff).all()


def test_the_costs_of_a_real_scenario_agree_with_a_loop():
    folder = real_folder("aslib", "SAT12-HAND")
    data = read_aslib(folder)
    text = (folder / "algorithm_runs.arff").read_text(encoding="utf-8")
    rows = list(csv.reader(text.partition("@DATA")[2].split()))
    assert len(rows) == data.costs.size
    for instance, _, algorithm, time, status in rows[::97]:
        cell = data.tasks.index(instance), data.candidates.index(algorithm)
        assert data.costs[cell] == (float(time) if status == "ok" else 12000.0)
