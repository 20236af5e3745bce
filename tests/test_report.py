import base64
import copy
import html.parser
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from jmeta import page, report

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(html.parser.HTMLParser):
    """What a browser would see; a tag that is not closed in its place is an error."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.texts, self.ids = [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


BOOSTED = {"rate": 0.1, "depth": 4, "kernel": "rbf"}


def recommendation():
    ranking = [
        {
            "model": f"learner_{place}",
            "settings": {"depth": place},
            "expected": 0.1234 + place / 100,
            "std": 0.0321,
            "cross_validated": False,
        }
        for place in range(20)
    ]
    ranking[0] |= {"model": "boosted_trees", "settings": dict(BOOSTED)}
    return {
        "task": {"rows": 1569, "features": 30, "kind": "classes", "classes": 2},
        "recommendation": {
            "model": "boosted_trees",
            "settings": dict(BOOSTED),
            "expected": {
                "metric": "log_loss",
                "value": 0.1234,
                "low": 0.0712,
                "high": 0.2345,
            },
        },
        "ranking": ranking,
        "abstained": False,
        "single_best": {"model": "learner_3", "settings": {"depth": 3}},
        "evidence": {
            "expected_gain": 0.0456,
            "probability_of_gain": 0.83,
            "meta_training_tasks": 20480,
            "candidates": 61,
            "cross_validated": 0,
            "folds": 0,
            "unusual": ["log_rows", "missing_share"],
        },
        "explanation": [
            {"feature": "class_entropy", "effect": 0.0512},
            {"feature": "kurtosis_mean", "effect": -0.0203},
        ],
        "meta_model": {"name": "prior", "version": "1", "trained_on": {"seed": 7}},
    }


def ensemble():
    out = recommendation()
    out["recommendation"] |= {
        "model": "ensemble",
        "settings": {
            "members": [
                {"model": "boosted_trees", "settings": BOOSTED, "weight": 0.625},
                {"model": "learner_3", "settings": {"depth": 3}, "weight": 0.375},
            ]
        },
    }
    out["evidence"] |= {"cross_validated": 8, "folds": 5, "unusual": []}
    return out


def written(tmp_path, data, notes=(), **options):
    path = tmp_path / "report.html"
    report.recommendation_report(path, data, list(notes), "0.1.0", **options)
    return Page(path)


ROWS = [
    {"table": "cancer", "method": "jmeta", "log_loss": 0.0712, "auc": 0.9953}
    | {"seconds": 1.25},
    {"table": "cancer", "method": "SVC", "log_loss": 0.0911, "auc": 0.9951}
    | {"seconds": 0.03},
    {"table": "diabetes", "method": "jmeta", "rmse": 53.21, "r2": 0.5123}
    | {"seconds": 2.5},
]


def quickstart(tmp_path, rows=ROWS, name="cancer", curve=None):
    path = tmp_path / "quick.html"
    config = {"seed": 3, "plan": {"num_steps": 300, "batch": 64}, "jax": "1.2.3"}
    found = {name: recommendation(), "diabetes": ensemble()}
    report.quickstart_report(path, config, rows, curve, found)
    return Page(path)


def metrics(path, kinds=("classes", "number"), steps=(50, 100, 150)):
    rows = []
    for kind in kinds:
        rows.append({"kind": kind, "stage": "measure fixed settings", "step": 64})
        rows[-1]["tasks_per_s"] = 100.0
        for step in steps:
            about = {"kind": kind, "step": step}
            loss = 1.0 / step
            rows += [
                about | {"stage": "learn settings", "loss": loss},
                about | {"stage": "learn through training", "loss": loss},
                about
                | {"stage": "learn candidates", "loss": loss, "regret": loss}
                | {"single_best_regret": 0.05},
            ]
        rows[-1]["held_out_regret"] = 0.01
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pixels(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def test_the_recommendation_says_the_numbers_it_was_given(tmp_path):
    text = written(tmp_path, recommendation(), ["Column a was ignored."]).text
    for part in (
        *("boosted trees", "rate=0.1, depth=4, kernel=rbf", "1,569 rows, 30 features"),
        *("0.1234 (90% interval 0.0712 to 0.2345; lower is better)", "learner_3"),
        *("It did not abstain", "0.0512", "-0.0203", "class_entropy", "0.0321"),
        *("20,480", "61 candidates", "0.0456", "83%", "No candidate was tried"),
        *("too far from what the meta-model knows: log_rows, missing_share",),
        *("Column a was ignored.", "trained_on.seed", "0.1.0"),
    ):
        assert part in text, part


def test_fifteen_candidates_are_ranked_and_the_chosen_one_stands_out(tmp_path):
    seen = written(tmp_path, recommendation())
    assert "learner_14" in seen.text and "learner_15" not in seen.text
    assert len(seen.all("circle")) == 15
    assert sum(attrs.get("class") == "strong" for attrs in seen.all("tr")) == 1


def test_the_single_best_is_shown_wherever_it_ranks(tmp_path):
    data = recommendation()
    data["single_best"] = {"model": "learner_18", "settings": {"depth": 18}}
    source = written(tmp_path, data).source
    assert source.count("<circle") == 16
    (row,) = [row for row in source.split("<tr") if ">single best<" in row]
    assert ">19<" in row and ">learner_18<" in row


def test_abstention_is_said_and_so_is_its_absence(tmp_path):
    data = recommendation() | {"abstained": True}
    assert (
        "It abstained: no candidate was surely better" in written(tmp_path, data).text
    )
    assert "It abstained" not in written(tmp_path, recommendation()).text


def test_an_ensemble_lists_its_members_with_weights(tmp_path):
    text = written(tmp_path, ensemble()).text
    for part in ("2 models, averaged", "0.6250", "0.3750", "8 candidates were cross-"):
        assert part in text, part
    assert "too far from" not in text


def test_a_number_is_told_without_classes_and_better_when_higher(tmp_path):
    data = recommendation()
    data["task"] |= {"kind": "number", "classes": None}
    expected = {"metric": "r2", "value": 0.5, "low": -0.25, "high": 0.75}
    data["recommendation"]["expected"] = expected
    text = written(tmp_path, data).text
    assert "a number to predict" in text
    assert "0.5000 (90% interval -0.2500 to 0.7500; higher is better)" in text


def test_bars_grow_from_zero_to_their_side(tmp_path):
    bars = written(tmp_path, recommendation()).all("rect")
    zero = 100 * 0.0203 / (0.0512 + 0.0203)
    assert [bar["class"] for bar in bars] == ["for", "against"]
    assert float(bars[0]["x"].rstrip("%")) == pytest.approx(zero, abs=0.01)
    assert float(bars[0]["width"].rstrip("%")) == pytest.approx(100 - zero, abs=0.02)
    assert bars[1]["x"] == "0.0%"
    assert float(bars[1]["width"].rstrip("%")) == pytest.approx(zero, abs=0.01)


EVIL = '<script>alert("1")</script>&\'"><img src=x onerror=alert(1)>{{ 7 * 7 }}'


def test_nothing_that_was_given_becomes_markup(tmp_path):
    data = recommendation()
    plain = written(tmp_path, data, ["a"], name="b")
    data = copy.deepcopy(data)
    data["recommendation"] |= {"model": EVIL, "settings": {EVIL: EVIL}}
    data["ranking"][0] |= {"model": EVIL, "settings": {EVIL: EVIL}}
    data["single_best"] |= {"model": EVIL}
    data["explanation"][0]["feature"] = EVIL
    data["evidence"] |= {"unusual": [EVIL, EVIL]}
    data["meta_model"] |= {"name": EVIL, "trained_on": {"seed": EVIL}}
    seen = written(tmp_path, data, [EVIL], name=EVIL)
    assert [tag for tag, _ in seen.tags] == [tag for tag, _ in plain.tags]
    # Names of models are told as words.
    assert " ".join(EVIL.split()) in seen.text and "{{ 7 * 7 }}" in seen.source
    rows = [row | {"method": EVIL, "table": EVIL} for row in ROWS]
    assert not quickstart(tmp_path, rows, name=EVIL).all("script")


def test_half_a_character_in_a_name_does_not_stop_the_page(tmp_path):
    assert "a?b" in written(tmp_path, recommendation(), ["a\ud800b"]).text


@pytest.mark.parametrize("kind", ["recommendation", "quickstart"])
def test_a_page_asks_nothing_of_the_network_and_can_be_read_aloud(tmp_path, kind):
    curve = tmp_path / "curve.png"
    report.learning_curve(metrics(tmp_path / "metrics.jsonl"), curve)
    if kind == "quickstart":
        seen = quickstart(tmp_path, curve=curve)
    else:
        seen = written(tmp_path, recommendation())
    for _, attrs in seen.tags:
        for name in ("src", "href", "srcset", "action", "poster", "xlink:href"):
            assert attrs.get(name, "data:").startswith("data:")
    assert "http://" not in seen.source and "https://" not in seen.source
    assert "url(" not in seen.source and "@import" not in seen.source
    assert not seen.all("script") and not seen.all("link")
    assert seen.all("html") == [{"lang": "en"}] and len(seen.all("h1")) == 1
    assert len(seen.all("caption")) == len(seen.all("table")) > 0
    assert all(image["alt"] for image in seen.all("img"))
    assert len(set(seen.ids)) == len(seen.ids)
    named = [a["aria-labelledby"] for _, a in seen.tags if "aria-labelledby" in a]
    assert set(named) <= set(seen.ids)


def test_the_quickstart_shows_scores_curve_choices_and_settings(tmp_path):
    curve = tmp_path / "curve.png"
    report.learning_curve(metrics(tmp_path / "metrics.jsonl"), curve)
    seen = quickstart(tmp_path, curve=curve)
    for part in (
        *("0.0712", "0.9953", "0.0911", "53.21", "0.5123", "1.250", "log loss", "RMSE"),
        *("Recommendation for cancer", "Recommendation for diabetes", "diabetes:"),
        *("plan.num_steps", "300", "jax 1.2.3", "2 models, averaged"),
    ):
        assert part in seen.text, part
    (image,) = seen.all("img")
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    assert data == curve.read_bytes()


def test_the_best_of_every_score_is_bold_and_time_is_no_score(tmp_path):
    rows = [row | {"seconds": 9.0 if row["method"] == "jmeta" else 1.0} for row in ROWS]
    rows[1] |= {"auc": 0.9999}
    source = quickstart(tmp_path, rows).source
    bold = [line for line in source.splitlines() if 'best">' in line]
    assert len(bold) == 2 and "0.0712" in bold[0] and "0.9999" in bold[1]


def test_a_quickstart_without_a_curve_says_so(tmp_path):
    seen = quickstart(tmp_path, curve=tmp_path / "missing.png")
    assert "There is no learning curve." in seen.text and not seen.all("img")


def full(*_):
    raise OSError("the disk is full")


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "runs" / "report.html"
    section = page.Section("a", (page.Text("b"),))
    report.write_report(path, title="first", sections=[section])
    before = path.read_bytes()
    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr("os.replace", full)
        report.write_report(path, title="second", sections=[section])
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    report.write_report(path, title="first", sections=[section])
    assert path.read_bytes() == before


def test_what_is_not_known_is_left_out(tmp_path):
    data = ensemble() | {"ranking": [], "explanation": [], "evidence": {}}
    data["recommendation"]["expected"] |= {"low": None, "high": None}
    text = written(tmp_path, data).text
    assert "0.1234 (lower is better)" in text and "interval" not in text
    assert "No candidates were ranked" in text and "No part of the" in text
    data = recommendation()
    data["ranking"][1] |= {"expected": None, "std": None}
    assert len(written(tmp_path, data).all("circle")) == 14


def test_numbers_of_a_column_share_their_decimals():
    assert page.numbers([0.5, 12.25, -3]) == ["0.50", "12.25", "-3.00"]
    assert page.numbers([1234567, 2]) == ["1,234,567", "2"]
    assert page.numbers([1.5, None, math.nan, -math.inf]) == ["1.500", *"–––"]
    assert page.numbers([np.float32(0.25), np.int64(1)]) == ["0.250", "1.000"]
    assert page.numbers([0.0, 3e-9, 1.0]) == ["0.000", "3e-09", "1.000"]
    assert page.numbers([2.5e12]) == ["2.5e+12"]
    assert page.numbers([]) == []


def test_numbers_stand_right_and_texts_left(tmp_path):
    table = page.Table("c", ("a", "b"), (("x", 1.0), ("y", None)))
    path = tmp_path / "page.html"
    section = page.Section("s", (table,))
    report.write_report(path, title="t", sections=[section])
    assert [c["class"] for c in Page(path).all("td")] == ["number", "number"]
    assert [c["class"] for c in Page(path).all("th")][:2] == ["text", "number"]


def test_a_picture_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"picture: a\.bmp must end in"):
        page.picture(tmp_path / "a.bmp", alt="a")


def test_drawing_loads_its_library_late_and_keeps_no_state(tmp_path):
    log = metrics(tmp_path / "metrics.jsonl")
    program = f"""if True:
        import sys
        import jmeta.curve, jmeta.page
        assert not {{"matplotlib", "jinja2"}} & set(sys.modules)
        jmeta.curve.learning_curve({str(log)!r}, {str(tmp_path / "curve.png")!r})
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
    assert min(pixels(tmp_path / "curve.png")) > 100


def test_both_kinds_are_drawn_below_each_other(tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    report.learning_curve(metrics(tmp_path / "a.jsonl", ("number",)), one)
    report.learning_curve(metrics(tmp_path / "b.jsonl"), two)
    assert pixels(two)[0] == pixels(one)[0] and pixels(two)[1] > 1.5 * pixels(one)[1]


def test_a_half_written_line_changes_no_picture(tmp_path):
    log, one, two = (
        metrics(tmp_path / "m.jsonl"),
        tmp_path / "1.png",
        tmp_path / "2.png",
    )
    report.learning_curve(log, one)
    with log.open("a") as file:
        file.write('{"kind": "classes", "stage": "learn candidates", "step": 200, "re')
    report.learning_curve(log, two)
    assert one.read_bytes() == two.read_bytes()
    with log.open("a") as file:
        file.write('gret": 0.5}\n')
    report.learning_curve(log, two)
    assert one.read_bytes() != two.read_bytes()


def test_steps_repeated_by_a_resumed_run_count_once(tmp_path):
    log, one, two = (
        metrics(tmp_path / "m.jsonl"),
        tmp_path / "1.png",
        tmp_path / "2.png",
    )
    report.learning_curve(log, one)
    log.write_text(log.read_text() + log.read_text())
    report.learning_curve(log, two)
    assert one.read_bytes() == two.read_bytes()


NULL = '{"kind": "number", "stage": "learn candidates", "step": 1, "regret": null}\n'


@pytest.mark.parametrize("content", [None, "", "nonsense\n", '{"step": 1}\n', NULL])
def test_a_run_that_learnt_nothing_yet_is_drawn_too(tmp_path, content):
    log = tmp_path / "metrics.jsonl"
    if content is not None:
        log.write_text(content)
    report.learning_curve(log, tmp_path / "curve.png")
    assert min(pixels(tmp_path / "curve.png")) > 100
