"""The commands on few-shot tasks: what they print, refuse and leave on the disk."""

import json
import lzma

import jax
import numpy as np
import pandas as pd
import pytest
from tiny_fewshot import write_tasks
from tiny_molecules import write_fsmol

from jmeta.cli import main
from jmeta.fewshot import training
from jmeta.publish import load_model
from jmeta.screen import Bars

TRAIN = (
    *("train", "fewshot", "--algorithm", "prototypical", "--shots", "8", "--query", 8),
    *("--steps", 4, "--checkpoint-every", 2, "--batch", 2, "--holdout", 0.25),
)


@pytest.fixture(scope="module", autouse=True)
def few_episodes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_EACH", 8)
        patch.setattr(training, "_CHOOSING", 8)
        yield


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Tasks of molecules, and a support and a query of another."""
    folder = write_tasks(tmp_path_factory.mktemp("tasks"))
    write_fsmol(folder, "support", sizes=(12,))
    write_fsmol(folder, "query", sizes=(30,))
    return folder


@pytest.fixture(scope="module")
def trained(tasks, tmp_path_factory):
    """A run's folder."""
    out = tmp_path_factory.mktemp("runs") / "run"
    main([str(arg) for arg in (*TRAIN, "--data", tasks, "--out", out)])
    return out


def test_training_writes_a_run(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "checkpoints",
        "config.json",
        "learning_curve.png",
        "metrics.jsonl",
        "model.safetensors",
    }
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [2, 4] and "held_out_loss" in rows[0]
    config = json.loads((trained / "config.json").read_text())
    assert config["algorithm"] == "prototypical" and config["shots"] == [8]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    run, tasks, trained, tmp_path, monkeypatch
):
    def stop(bars, stage, done, total, numbers):
        if done == 2:
            raise KeyboardInterrupt

    args = (*TRAIN, "--data", tasks, "--out", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Bars, "__call__", stop)
        code, _, err = run(*args)
    assert code == 130 and "--resume goes on" in err
    assert not (tmp_path / "run" / "model.safetensors").exists()
    code, _, err = run(*args, "--resume", "--seed", 5)
    assert code == 2 and "seed was 0" in err
    code, _, err = run(*args, "--resume")
    assert code == 0, err
    whole, resumed = (
        load_model(folder / "model.safetensors") for folder in (trained, args[-1])
    )
    jax.tree.map(np.testing.assert_array_equal, whole[0], resumed[0])
    assert whole[1] == resumed[1]


def test_an_evaluation_prints_tables_json_and_a_page(run, tasks, trained, tmp_path):
    page = tmp_path / "page.html"
    args = ("evaluate", "fewshot", trained, "--data", tasks, "--draws", 2)
    args = (*args, "--no-floors", "--shots")
    code, out, _ = run(*args, "8,16", "--report", page)
    assert code == 0 and "dAUPRC" in out and "supports shuffled" in out
    assert "Abstention" in page.read_text()
    code, out, _ = run(*args, "8,16", "--json")
    assert code == 0 and set(json.loads(out)["shots"]) == {"8", "16"}
    assert run(*args, "8", "16", "--json")[:2] == (0, out)


def test_adapting_writes_a_line_for_each_query(run, tasks, trained, tmp_path):
    out = tmp_path / "said.csv"
    support, query = tasks / "support_core.npz", tasks / "query_core.npz"
    args = ("--support", support, "--query", query, "--coverage", 0.8)
    code, said, err = run("adapt", trained, *args, "--out", out)
    assert (code, said) == (0, "") and "30 predictions written" in err
    made = pd.read_csv(out)
    assert list(made.columns) == [
        "molecule",
        "prediction",
        "p(inactive)",
        "p(active)",
        "uncertainty",
        "abstain",
    ]
    assert len(made) == 30 and set(made["abstain"]) <= {"yes", "no"}
    np.testing.assert_allclose(made["p(active)"] + made["p(inactive)"], 1, atol=1e-5)


def test_molecules_are_described_in_training_and_afterwards(run, tmp_path, monkeypatch):
    pytest.importorskip("rdkit", reason="reading SMILES needs rdkit")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = write_tasks(tmp_path)
    every = ["C" * (1 + n % 30) + "O" * (n % 7) + "N" for n in range(12 * 40)]
    for name, count in (("train", 12 * 40), ("valid", 3 * 40)):
        text = "\n".join(every[:count]).encode()
        (data / f"{name}_smiles.txt.xz").write_bytes(lzma.compress(text))
    out = tmp_path / "run"
    code, _, err = run(*TRAIN, "--data", data, "--out", out, "--descriptors")
    assert code == 0, err
    assert len(list((tmp_path / "cache/jmeta/descriptors").iterdir())) == 1
    assert "described" in load_model(out / "model.safetensors")[0]["params"]["network"]
    args = ("evaluate", "fewshot", out, "--data", data, "--draws", 2, "--shots", 8)
    code, told, err = run(*args, "--json")
    assert code == 0 and set(json.loads(told)["shots"]["8"]["methods"]) > {"tanimoto"}
    rows = [f"{smiles},{n % 2}" for n, smiles in enumerate(every[:20])]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["smiles,active", *rows]))
    args = ("--support", table, "--query", table, "--out", tmp_path / "said.csv")
    code, _, err = run("adapt", out, *args)
    assert code == 0 and len(pd.read_csv(tmp_path / "said.csv")) == 20
    with lzma.open(data / "valid_smiles.txt.xz", "wt") as file:
        file.write("C\n" * 7)
    args = ("evaluate", "fewshot", out, "--data", data, "--draws", 2, "--shots", 8)
    code, _, err = run(*args)
    assert code == 2 and "holds 7 SMILES" in err


def test_inputs_are_never_overwritten(run, trained, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("smiles,active\nC,1\n")
    args = ("--support", table, "--query", table, "--out", table)
    code, _, err = run("adapt", trained, *args)
    assert code == 2 and "is the support itself" in err
    assert table.read_text() == "smiles,active\nC,1\n"


@pytest.mark.parametrize(
    "args, told",
    [
        (("--shots", "8,x"), "--shots must be whole numbers"),
        (("--algorithm", "magic"), "no algorithm is called 'magic'"),
        (("--ways", "5"), "--ways is for tasks of many classes"),
        (("--holdout", "1.5"), "--holdout must be above 0 and below 1"),
        (("--inner-steps", "0"), "--inner-steps must be at least 1"),
        (("--lr", "0"), "--lr must be above 0"),
        (("--shots", "900"), "choose smaller --shots"),
        (("--kind", "number"), "prototypical does not predict numbers"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(run, tasks, tmp_path, args, told):
    out = tmp_path / "run"
    code, _, err = run(*TRAIN, "--data", tasks, "--out", out, *args)
    assert code == 2 and err.startswith("jmeta: ") and told in err
    assert not out.exists()


def test_help_leads_from_the_old_commands_to_the_new(run):
    for name in ("train", "evaluate"):
        code, out, _ = run(name, "--help")
        assert code == 0 and f"jmeta {name} fewshot --help" in out
        code, out, _ = run(name, "fewshot", "--help")
        assert code == 0 and f"usage: jmeta {name} fewshot" in out
