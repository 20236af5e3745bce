"""The learning curve of a meta-training run, drawn from its `metrics.jsonl`."""

import io
import os
import pathlib
from typing import Any

from jmeta.logs import MetricsLog
from jmeta.publish import write_whole

__all__ = ["draw", "figure_of", "finish", "learning_curve", "write_figure"]

_KINDS = {"classes": "Targets with classes", "number": "Numeric targets"}
_REGRET_UNITS = {
    "classes": "regret in log loss (nats)",
    "number": "regret in RMSE (target's std)",
}
_LOSS_UNITS = {
    "classes": "query log loss (nats)",
    "number": "query squared error (target's variance)",
}
_CHOICE, _FLOOR, _HELD_OUT, _OPTIMIZER = "#0b6187", "#7b8794", "#b4531a", "#5b4b9a"

Curve = list[tuple[float, float]]


def _curves(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], Curve]:
    """Points `(step, value)` by kind, stage and name; of a repeated step the last."""
    points: dict[tuple[str, str, str], dict[float, float]] = {}
    for row in rows:
        for name in ("loss", "regret", "single_best_regret", "held_out_regret"):
            value, step = row.get(name), row["step"]
            if isinstance(value, int | float) and isinstance(step, int | float):
                place = (str(row.get("kind")), str(row.get("stage")), name)
                points.setdefault(place, {})[float(step)] = float(value)
    return {place: sorted(curve.items()) for place, curve in points.items()}


def draw(axes: Any, curve: Curve, label: str, color: str, style: str = "-") -> None:
    """Draw one curve; few points, or the style "o-", are marked."""
    marker = "o" if style == "o-" or len(curve) < 12 else ""
    steps, values = zip(*curve)
    style = "-" if style == "o-" else style
    axes.plot(
        steps, values, linestyle=style, marker=marker, ms=4, color=color, label=label
    )


def finish(axes: Any, title: str, label: str) -> None:
    """Give a panel its title, its axes and its legend; say so if it is empty."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("meta-training step")
    axes.set_ylabel(label)
    axes.grid(axis="y", color="#e3e7ec", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if axes.lines:
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize=9)
        return
    axes.set(xticks=[], yticks=[])
    axes.text(
        *(0.5, 0.5, "no steps of this stage"),
        transform=axes.transAxes,
        ha="center",
        va="center",
        color="#5a6575",
    )


def _panels(axes: Any, curves: dict[tuple[str, str, str], Curve], kind: str) -> None:
    """One kind's two panels: the choice of a candidate, and the settings."""
    choice, settings = axes
    lines = (
        ("single_best_regret", "single best candidate", _FLOOR, "--"),
        ("regret", "meta-classifier", _CHOICE, "-"),
        ("held_out_regret", "meta-classifier, held-out tasks", _HELD_OUT, "o-"),
    )
    for name, label, color, style in lines:
        curve = curves.get((kind, "learn candidates", name))
        if curve:
            draw(choice, curve, label, color, style)
    if choice.lines:
        choice.set_ylim(bottom=min(0.0, choice.get_ylim()[0]))
    named = _KINDS.get(kind, kind)
    finish(choice, f"{named}: choosing a candidate", _REGRET_UNITS.get(kind, "regret"))
    curve = curves.get((kind, "learn through training", "loss"))
    if curve:
        draw(settings, curve, "meta-optimizer, through training", _OPTIMIZER)
    finish(settings, f"{named}: proposing settings", _LOSS_UNITS.get(kind, "loss"))


def figure_of(rows: int, columns: int) -> tuple[Any, Any]:
    """An empty figure, and its panels as an array `(rows, columns)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * columns, 0.6 + 3.9 * rows), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.12)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def write_figure(figure: Any, path: str | os.PathLike[str], title: str) -> None:
    """Write a figure as one PNG that is there whole or not at all."""
    figure.suptitle(title, x=0.015, ha="left", fontweight="bold")
    buffer = io.BytesIO()
    # Without the version of the drawing library the same run gives the same file.
    figure.canvas.print_png(buffer, metadata={"Software": None})
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())


def learning_curve(
    metrics_path: str | os.PathLike[str], png_path: str | os.PathLike[str]
) -> None:
    """Draw how a run learnt, as one PNG that is there whole or not at all.

    One row a kind of target. Left, how much worse than the best candidate the
    meta-classifier's choice is, beside the single best candidate's; right, the loss
    of the meta-optimizer that is learnt through training. Stages that did not run
    are said to be missing, and half-written lines are no lines.

    Args:
      metrics_path: the run's `metrics.jsonl`; it need not exist.
      png_path: of the picture; folders above it are made.
    """
    curves = _curves(MetricsLog(metrics_path).read())
    found = {kind for kind, stage, _ in curves if stage.startswith("learn")}
    kinds = [kind for kind in _KINDS if kind in found] or ["classes"]
    figure, grid = figure_of(len(kinds), 2)
    for axes, kind in zip(grid, kinds):
        _panels(axes, curves, kind)
    write_figure(figure, png_path, "Meta-training")
