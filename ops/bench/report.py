"""The results as a page of Markdown."""

from __future__ import annotations

from typing import Any

import rows

_WORDS = {
    "jobs_per_s": "jobs/s", "cpu_ms_per_job": "worker CPU, ms a job", "redis_cpu_ms_per_job": "Redis CPU, ms a job",
    "stub_cpu_ms_per_job": "stub CPU, ms a job", "rss_mb": "peak memory, MB", "median_ms": "median, ms",
    "p99_ms": "99th percentile, ms", "of_what_the_rule_allows": "of what the rule allows", "took_s": "took, s",
    "lawful_s": "the rule allows, s", "refused": "refused", "submit_us": "submit, µs", "start_us": "start, µs",
    "settle_us": "settle, µs", "release_us": "release, µs", "bytes_per_waiting_job": "bytes a waiting job",
    "first_delivery_s": "first delivery, s", "cpu_s": "CPU till then, s", "import_s": "import, s",
    "mb_per_s": "MB/s", "grew_mb": "memory grew by, MB",
    "answers_per_s": "answers/s", "stub_cpu_ms": "CPU, ms an answer",
}  # fmt: skip


def text(results: dict[str, Any]) -> str:
    """The whole page."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# Results",
        "",
        "Written by `make bench`; how each figure comes about, and what it does not say, is in [the method](../README.md).",
        "Every cell is the median of the runs, with the least and the most beside it; a ratio is the median of the ratios run by run.",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, Linux {machine['kernel']}, "
        f"Python {machine['python']}, {machine['server']}; {versions}.",
        "",
    ]
    for row in rows.ROWS:
        if found := results["rows"].get(row.name):
            lines += _row(row.name, found)
    return "\n".join(lines)


def _row(name: str, found: dict[str, Any]) -> list[str]:
    lines = [f"## {name}: {found['says']}", "", f"{found['on']}, {found['runs']} runs of each, interleaved.", ""]
    figures = found["figures"]
    columns = list(dict.fromkeys(column for one in figures.values() for column in one))
    lines += [
        "| | " + " | ".join(_WORDS.get(column, column) for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for who, one in figures.items():
        lines.append(f"| {who} | " + " | ".join(_cell(one.get(column)) for column in columns) + " |")
    if found["goals"]:
        lines += ["", "| ours against the reference | ratio | goal | |", "|---|---|---|---|"]
        for goal in found["goals"]:
            lines.append(
                f"| {goal['says']} | {goal['ratio']:.3g} | {goal['goal']} | {'met' if goal['met'] else '**missed**'} |"
            )
    return [*lines, ""]


def _cell(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    middle, least, most = (_number(figure[key]) for key in ("median", "min", "max"))
    return middle if least == most else f"{middle} ({least} … {most})"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
