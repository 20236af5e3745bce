import json
import math

from jmeta.logs import MetricsLog


def test_lines_beyond_the_resumed_step_and_half_lines_are_dropped(tmp_path):
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    for step in (10, 20, 30):
        log({"step": step, "loss": 1.0 / step})
    with log.path.open("a") as file:
        file.write('{"step": 15, "lo')
    assert [row["step"] for row in log.read()] == [10, 20, 30]
    log.truncate(20)
    log({"step": 30, "loss": 0.5})
    lines = log.path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20, 30]
    assert json.loads(lines[-1])["loss"] == 0.5
    assert [p.name for p in log.path.parent.iterdir()] == ["metrics.jsonl"]


def test_making_a_log_and_truncating_nothing_writes_nothing(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.truncate(0)
    assert log.read() == [] and not list(tmp_path.iterdir())


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log({"step": 1, "loss": math.nan})
    assert log.path.read_text() == '{"step": 1, "loss": null}\n'
