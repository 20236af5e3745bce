"""The learning curve of a few-shot run, drawn from its `metrics.jsonl`."""

import os

from jmeta.curve import draw, figure_of, finish, write_figure
from jmeta.logs import MetricsLog

__all__ = ["fewshot_curve"]

_TRAINING, _HELD_OUT = "#0b6187", "#b4531a"


def fewshot_curve(
    metrics_path: str | os.PathLike[str], png_path: str | os.PathLike[str]
) -> None:
    """Draw the loss on the episodes of training, and on those of held-out tasks.

    Args:
      metrics_path: the run's `metrics.jsonl`; it need not exist.
      png_path: of the picture.
    """
    rows = MetricsLog(metrics_path).read()
    figure, axes = figure_of(1, 1)
    lines = (
        ("loss", "training episodes", _TRAINING, "-"),
        ("held_out_loss", "held-out tasks, calibrated", _HELD_OUT, "o-"),
    )
    for name, label, color, style in lines:
        points = {
            float(row["step"]): float(row[name])
            for row in rows
            if row.get(name) is not None
        }
        if points:
            draw(axes[0][0], sorted(points.items()), label, color, style)
    finish(axes[0][0], "Queries of few-shot episodes", "loss per query")
    write_figure(figure, png_path, "Meta-training")
