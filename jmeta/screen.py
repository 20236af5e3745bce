"""What is drawn on a terminal, by way of rich."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "Bars",
    "console",
    "show_advice",
    "show_comparison",
    "show_description",
    "show_evaluation",
    "show_importance",
    "show_recommendation",
    "show_table",
]


def console(stderr: bool = False) -> Any:
    """A rich console on stdout or stderr."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=False, highlight=False)


class Bars:
    """One progress bar a stage, on stderr; plain lines where there is no terminal.

    `with Bars() as bars: train(..., progress=bars.stage("training", num_steps))`

    Args:
      on: a rich console; None for one on stderr.
    """

    def __init__(self, on: Any = None) -> None:
        from rich import progress

        self._console = on or console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[told]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._stages: dict[str, Any] = {}

    def __enter__(self) -> "Bars":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage(self, name: str, total: int) -> Callable[[Mapping[str, Any]], None]:
        """A listener for `progress=` of `jmeta.train.train`."""
        return lambda numbers: self(name, int(numbers["step"]), total, numbers)

    def __call__(
        self, stage: str, done: int, total: int, numbers: Mapping[str, Any]
    ) -> None:
        """Draw how far a stage is: `tasks_per_s` and `loss`, if `numbers` has them."""
        told = ""
        if "tasks_per_s" in numbers:
            told = f"{numbers['tasks_per_s']:.3g} tasks/s"
        if "loss" in numbers:
            told += f"  loss {numbers['loss']:.3g}"
        if stage not in self._stages:
            self._stages[stage] = self._bar.add_task(stage, total=total, told=told)
        self._bar.update(self._stages[stage], completed=done, total=total, told=told)
        if not self._console.is_terminal and done >= total:
            self._console.print(f"{stage}: {done} done {told}".rstrip(), markup=False)


def _settings(settings: Mapping[str, Any]) -> str:
    if "members" in settings:
        return ", ".join(f"{m['weight']:.2f} {m['model']}" for m in settings["members"])
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in settings.items()
    )


def show_recommendation(plain: Mapping[str, Any], notes: Sequence[str]) -> None:
    """Print a recommendation (as `Recommendation.to_json` gives it) in words."""
    from rich.markup import escape
    from rich.table import Table

    out = console()
    task, chosen = plain["task"], plain["recommendation"]
    expected = chosen["expected"]
    classes = f", {task['classes']} classes" if task["classes"] else ""
    out.print(f"{task['rows']} rows, {task['features']} encoded features{classes}")
    settings = _settings(chosen["settings"])
    out.print(
        f"[bold]Use {escape(chosen['model'])}[/bold]"
        + (f" ({escape(settings)})" if settings else "")
    )
    out.print(
        f"Expected {expected['metric']} {expected['value']:.4g} "
        f"(90 % interval {expected['low']:.4g} to {expected['high']:.4g})"
    )
    if plain["abstained"]:
        out.print(
            "No candidate is surely better than the single best, so it is the choice."
        )
    shown = Table("rank", "model", "settings", f"expected {expected['metric']}", "std")
    for place, row in enumerate(plain["ranking"][:8]):
        shown.add_row(
            str(place + 1),
            escape(row["model"]),
            escape(_settings(row["settings"])),
            f"{row['expected']:.4g}",
            f"{row['std']:.2g}",
        )
    out.print(shown)
    reasons = ", ".join(
        f"{row['feature']} ({row['effect']:+.3g})" for row in plain["explanation"][:5]
    )
    out.print(f"What moved the choice: {reasons}", markup=False)
    for note in notes:
        out.print(f"Note: {note}", markup=False)


def show_description(
    groups: Mapping[str, Sequence[str]], named: Mapping[str, float]
) -> None:
    """Print a description, group by group; missing values as a dash."""
    from rich.table import Table

    shown = Table("group", "feature", "value")
    for group, members in groups.items():
        for place, name in enumerate(members):
            value = f"{named[name]:.4g}" if math.isfinite(named[name]) else "–"
            shown.add_row("" if place else group, name, value)
    console().print(shown)


def show_comparison(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the quickstart's scores, a row a table and method."""
    from rich import box
    from rich.table import Table

    title = "Held-out rows of two real clinical tables"
    shown = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [*(name for name in names if name != "seconds"), "seconds"]
    for name in columns:
        side = "left" if name in ("table", "method") else "right"
        shown.add_column(name, justify=side, no_wrap=True)
    for row in rows:
        values = (row.get(name, "") for name in columns)
        shown.add_row(*(v if isinstance(v, str) else f"{v:.3f}" for v in values))
    console().print(shown)


def show_evaluation(made: Mapping[str, Any]) -> None:
    """Print the scores of every method on one meta-dataset."""
    from rich import box
    from rich.table import Table

    from jmeta.evaluation_report import metrics_of, notes_of, rows_of, seeds_of

    size = f"{made['tasks']} tasks, {made['candidates']} candidates"
    console().print(f"{made['name']}: {size}; {seeds_of(made)}", markup=False)
    shown = Table(box=box.SIMPLE_HEAD)
    for name in ("method", *metrics_of(made), "seconds", "tasks/s"):
        shown.add_column(name, justify="left" if name == "method" else "right")
    for row in rows_of(made):
        shown.add_row(*row)
    console().print(shown)
    for note in notes_of(made):
        console().print(note, markup=False)


def show_advice(made: Mapping[str, Any]) -> None:
    """Print what `jmeta.selection.explain.advise` says of new tasks, in words."""
    from rich.markup import escape

    from jmeta import advice_report as words

    out = console()
    for told in words.about(made):
        out.print(told, markup=False)
    for one in made["tasks"]:
        settings = f" ({escape(_settings(one['settings']))})" if one["settings"] else ""
        task, choice = escape(one["task"]), escape(one["choice"])
        out.print(f"\n[bold]{task}: use {choice}[/bold]{settings}")
        if len(one["set"]) > 1:
            out.print(f"Or try {', '.join(one['set'])}.", markup=False)
        out.print(" ".join(words.sureness(made, one)), markup=False)
        if why := words.reasons(one, 5):
            out.print(f"Why, and not {one['compared_with']}: {why}.", markup=False)
        for told in words.warnings(made, one):
            out.print(f"Note: {told}", markup=False)
        show_table(words.neighbours(made, one))


def show_importance(made: Mapping[str, Any]) -> None:
    """Print which descriptions matter, as `jmeta.selection.importance` measured."""
    from jmeta import importance_report as words

    for told in words.about(made):
        console().print(told, markup=False)
    show_table(words.importances(made))


def show_table(content: Any) -> None:
    """Print a table of a page (`jmeta.page.Table`)."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from jmeta.page import cells

    shown = Table(box=box.SIMPLE_HEAD)
    columns = [cells(column) for column in zip(*content.rows)]
    for name, (_, style) in zip(content.columns, columns):
        shown.add_column(escape(name), justify="right" if style == "number" else "left")
    for row in zip(*(texts for texts, _ in columns)):
        shown.add_row(*map(escape, row))
    console().print(shown)
