"""After the benchmarks: what they did per second, and the ratio to the peer.

`--rates FILE.csv` also writes them down.
"""

import csv
from collections.abc import Iterator
from typing import Any

UNITS = ("fits_per_s", "tasks_per_s")


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--rates", metavar="FILE.csv", help="write rates and ratios")


def _rates(benchmarks: Any) -> Iterator[dict[str, Any]]:
    for bench in benchmarks:
        about = bench.extra_info
        for unit in UNITS:
            if unit in about:
                rate, peer = about[unit], about.get(f"peer_{unit}")
                yield {
                    "benchmark": bench.name,
                    "device": about.get("device"),
                    "jax": about.get("jax"),
                    "unit": unit,
                    "rate": round(rate),
                    "peer": peer and round(peer),
                    "ratio": peer and round(rate / peer, 1),
                }


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    rows = list(_rates(getattr(session, "benchmarks", ())))
    for row in rows:
        peer = (
            f", the peer {row['peer']:,}, ratio {row['ratio']}" if row["peer"] else ""
        )
        told = f"{row['benchmark']}: {row['rate']:,} {row['unit']}{peer}"
        terminalreporter.write_line(told)
    if rows and (path := config.getoption("--rates")):
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
