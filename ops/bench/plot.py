"""The delivery row as a picture: processor time and rate of each contender."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

_OURS, _OTHERS = "#1677ff", "#9aa4b2"


def draw(results: dict[str, Any], to: Path) -> None:
    """Write the picture; nothing where the delivery row was not run."""
    row = results["rows"].get("delivery")
    if row is None:
        return
    figures = sorted(row["figures"].items(), key=lambda one: -one[1]["cpu_ms_per_job"]["median"])
    names = [name for name, _ in figures]
    colours = [_OURS if name.startswith("dingqueue") else _OTHERS for name in names]
    mpl.rcParams.update({"svg.hashsalt": "bench", "font.size": 9})
    picture, sides = plt.subplots(1, 2, figsize=(10, 0.34 * len(names) + 1.2), sharey=True)
    for axis, figure, title in (
        (sides[0], "cpu_ms_per_job", "worker CPU, ms a job (less is better)"),
        (sides[1], "jobs_per_s", "jobs a second (more is better)"),
    ):
        middles = [one[figure]["median"] for _, one in figures]
        spread = [
            [middle - one[figure]["min"] for middle, (_, one) in zip(middles, figures, strict=True)],
            [one[figure]["max"] - middle for middle, (_, one) in zip(middles, figures, strict=True)],
        ]
        axis.barh(names, middles, xerr=spread, color=colours, ecolor="#555555", error_kw={"linewidth": 0.8})
        axis.set_title(title, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    picture.suptitle(f"{row['says']}; {row['on']}, {results['machine']['cores']} cores", fontsize=10)
    picture.tight_layout()
    picture.savefig(to, metadata={"Date": None})
    plt.close(picture)
