"""After the benchmarks: what they measured per second, and the ratio to the peer."""

from typing import Any

RATES = ("fits_per_s", "tasks_per_s")


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    for bench in getattr(session, "benchmarks", ()):
        about = bench.extra_info
        for unit in RATES:
            if unit not in about:
                continue
            line = f"{bench.name}: {about[unit]:,.0f} {unit.removesuffix('_per_s')}/s"
            if f"peer_{unit}" in about:
                peer = about[f"peer_{unit}"]
                line += f", the peer {peer:,.0f}, ratio {about[unit] / peer:.1f}"
            terminalreporter.write_line(line)
