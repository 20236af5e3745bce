import io

from rich.console import Console

from jmeta.screen import Bars


def shown(*, terminal: bool) -> str:
    file = io.StringIO()
    with Bars(Console(file=file, force_terminal=terminal, width=120)) as bars:
        listen = bars.stage("training", 20)
        listen({"step": 0})
        listen({"step": 20, "loss": 0.25, "tasks_per_s": 432.0})
    return file.getvalue()


def test_the_bar_shows_steps_rates_and_the_loss():
    text = shown(terminal=True)
    for part in ("training", "20/20", "loss 0.25", "432 tasks/s"):
        assert part in text


def test_without_a_terminal_a_finished_stage_is_one_line():
    assert shown(terminal=False) == "training: 20 done 432 tasks/s  loss 0.25\n"
