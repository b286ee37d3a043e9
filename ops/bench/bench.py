"""Runs the rows and writes the table, the figures and the plot: ``make bench``, ``make bench ARGS=--quick``."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import plot
import report
import rows
from measure import HERE, server_facts

_PACKAGES = (
    "dingqueue",
    "celery",
    "kombu",
    "redis",
    "hiredis",
    "requests",
    "urllib3",
    "dramatiq",
    "huey",
    "taskiq",
    "rq",
    "aiohttp",
    "uvloop",
)


def machine() -> dict[str, Any]:
    """What the figures were made on, without its name."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": cpus[0].split(":", 1)[1].strip() if cpus else platform.processor(),
        "cores": len(cpus),
        "memory_gb": round(int(Path("/proc/meminfo").read_text().split()[1]) / 1e6),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "server": server_facts(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }


def main() -> None:
    """Read the command line, run, write."""
    say = argparse.ArgumentParser(description=__doc__)
    say.add_argument("rows", nargs="*", metavar="ROW", help=f"which: {', '.join(row.name for row in rows.ROWS)}")
    say.add_argument(
        "--quick", action="store_true", help="one small run of each, in three minutes; its results are not kept"
    )
    say.add_argument("--runs", type=int, default=5, help="of each contender, interleaved (5)")
    say.add_argument("--jobs", type=int, default=6000, help="in each run of a delivery row (6000)")
    say.add_argument("--results", type=Path, default=HERE / "results")
    said = say.parse_args()
    unknown = set(said.rows) - {row.name for row in rows.ROWS}
    if unknown:
        say.error(f"no row is called {', '.join(sorted(unknown))}")
    size = rows.Size(runs=1, jobs=800, quick=True) if said.quick else rows.Size(runs=said.runs, jobs=said.jobs)
    chosen = [row for row in rows.ROWS if (row.name in said.rows if said.rows else row.quick or not said.quick)]
    results = run(chosen, size)
    if said.quick:
        print("\n" + report.text(results))
        return
    said.results.mkdir(exist_ok=True)
    kept = said.results / "bench.json"
    if kept.exists():
        results["rows"] = {**json.loads(kept.read_text())["rows"], **results["rows"]}
    kept.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (said.results / "bench.md").write_text(report.text(results))
    plot.draw(results, said.results / "bench.svg")
    print(f"written: {said.results}")


def run(chosen: Sequence[rows.Row], size: rows.Size) -> dict[str, Any]:
    """The rows' figures and how their goals were met."""
    found: dict[str, Any] = {}
    for row in chosen:
        print(f"{row.name}: {row.says}", flush=True)
        began_s = time.monotonic()
        runs = row.run(size)
        goals = []
        for goal in row.goals:
            ratio = goal.ratio(runs)
            if ratio is not None:
                wanted = f"≥ {goal.at_least:g}" if goal.at_least is not None else f"≤ {goal.at_most:g}"
                goals.append({"says": goal.says, "ratio": ratio, "goal": wanted, "met": goal.met(ratio)})
                print(f"  {'met   ' if goal.met(ratio) else 'missed'} {goal.says}: {ratio:.3g} ({wanted})", flush=True)
        found[row.name] = {
            "says": row.says,
            "on": datetime.date.today().isoformat(),  # noqa: DTZ011 - a day is enough
            "runs": size.runs,
            "took_s": round(time.monotonic() - began_s),
            "figures": rows.of(runs),
            "goals": goals,
        }
    return {"machine": machine(), "rows": found}


if __name__ == "__main__":
    main()
