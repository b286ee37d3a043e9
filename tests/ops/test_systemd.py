"""ops/systemd: verified and scored by systemd itself, without a running one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from support.ops import OPS, refused, run

UNITS = sorted((OPS / "systemd").glob("*.service"))
#: systemd's own scale: 0 is safe, 10 is not; a bare service has 9.6.
WORST_SCORE = 1.5


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is there."""
    for unit in OPS.joinpath("systemd").iterdir():
        text = unit.read_text().replace("/opt/dingqueue/bin/dingqueue", str(Path(sys.executable).parent / "dingqueue"))
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_every_unit_is_understood(units: Path) -> None:
    said = run("systemd-analyze", "verify", "--man=no", *sorted(units.iterdir()))

    # It exits with 0 on keys that it ignores.
    assert [line for line in said.splitlines() if str(units) in line or "dingqueue" in line] == []


def test_a_misspelt_key_would_be_seen(units: Path) -> None:
    wrong = units / "dingqueue-metrics.service"
    wrong.write_text(wrong.read_text().replace("TimeoutStopSec", "TimeoutStopsSec"))

    assert "TimeoutStopsSec" in run("systemd-analyze", "verify", "--man=no", wrong)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_service_is_hardened(unit: Path) -> None:
    run("systemd-analyze", "security", "--offline=true", f"--threshold={WORST_SCORE * 10:.0f}", unit)


def test_a_service_that_is_not_would_be_seen(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")

    assert "UNSAFE" in refused(
        "systemd-analyze", "security", "--offline=true", f"--threshold={WORST_SCORE * 10:.0f}", bare
    )


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_service_comes_back_and_shows_no_secret(unit: Path) -> None:
    text = unit.read_text()

    assert "Restart=always" in text
    assert "StartLimitIntervalSec=0" in text
    assert re.search(r"^Environment=DINGQUEUE_BROKER_URL=file:%d/redis$", text, re.MULTILINE)


def test_the_target_wants_units_that_exist() -> None:
    wanted = re.findall(r"dingqueue-[\w@.]+\.service", (OPS / "systemd/dingqueue.target").read_text())

    assert wanted
    assert {re.sub(r"@\d+", "@", name) for name in wanted} <= {unit.name for unit in UNITS}
