"""Where the numbers of a run go: a file of lines."""

import json
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["Metrics", "MetricsLog"]

Metrics: TypeAlias = dict[str, float | int]
"""Numbers by name; `step` is how many steps are done."""


class MetricsLog:
    """Append one JSON object a line to a file, as `log=` of `train`.

    Opening it touches nothing. A line that is not finished is no line.

    Args:
      path: of the file; several logs may share it.
      labels: written in every line, such as the stage of the run; a log with labels
        leaves the lines of the others alone.
    """

    def __init__(self, path: str | os.PathLike[str], **labels: str) -> None:
        self.path = Path(path)
        self.labels = labels

    def read(self) -> list[dict[str, Any]]:
        """The whole lines of the file; none where there is no file."""
        lines = []
        if self.path.exists():
            for line in self.path.read_text(errors="replace").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict) and "step" in row:
                    lines.append(row)
        return lines

    def truncate(self, step: int) -> None:
        """Drop lines of steps beyond `step`, and a half-written last line."""
        if not self.path.exists():
            return
        kept = [
            json.dumps(row) + "\n"
            for row in self.read()
            if row["step"] <= step or self.labels.items() - row.items()
        ]
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_text("".join(kept))
        os.replace(temporary, self.path)

    def __call__(self, metrics: Metrics) -> None:
        """Append one line; numbers that are not finite become null."""
        row = self.labels | {
            name: value if math.isfinite(value) else None
            for name, value in metrics.items()
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
