"""The dashboard: whole, up to date, readable, and no panel of it empty over a real Prometheus that scrapes a real fleet.

Grafana itself was not to be had: that it draws these panels is not tested here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from dingqueue_worker.metrics import ABOUT_THE_LOOK, FAMILIES
from dingqueue_worker.sandbox.client import Sandbox, Space
from dingqueue_worker.store import Fetch
from support.fleet import Fleet
from support.ops import OPS, tool
from support.prometheus import Prometheus, exporter
from support.waiting import wait_for

BOARD = json.loads((OPS / "grafana/dashboards/dingqueue.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
KNOWN = {family.name for family in FAMILIES} | set(ABOUT_THE_LOOK)


def filled(expr: str, *, interval: str = "2m") -> str:
    """A query as Grafana sends it, with All chosen."""
    expr = expr.replace("$__rate_interval", interval).replace("$destination", ".*")
    assert "$" not in expr, expr
    return expr


def test_it_is_what_its_program_writes(tmp_path: Path) -> None:
    program = tmp_path / "make_dashboard.py"
    program.write_text((OPS / "grafana/make_dashboard.py").read_text())
    (tmp_path / "dashboards").mkdir()

    subprocess.run([sys.executable, program], check=True)  # noqa: S603 - our own program

    written = (tmp_path / "dashboards/dingqueue.json").read_text()
    assert written == (OPS / "grafana/dashboards/dingqueue.json").read_text(), "run ops/grafana/make_dashboard.py"


def test_nothing_lies_over_anything_else() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for one, two in itertools.combinations([panel["gridPos"] for panel in BOARD["panels"]], 2):
        apart_x = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert apart_x or apart_y, (one, two)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in BOARD["panels"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_to_make_of_it(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["targets"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    # A fleet without apps or quotas has nothing to show there, and that is no fault.
    assert panel["fieldConfig"]["defaults"]["noValue"]
    assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize(("title", "expr"), QUERIES)
def test_every_query_can_be_read_and_asks_for_metrics_that_exist(title: str, expr: str) -> None:
    promql_parser.parse(filled(expr))
    used = set(re.findall(r"\bdingqueue_\w+", re.sub(r"\{[^}]*\}", "", expr)))

    assert used, title
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in used} <= KNOWN


def test_compose_provisions_it() -> None:
    provider = yaml.safe_load((OPS / "grafana/provisioning/dashboards/dingqueue.yml").read_text())
    source = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yml").read_text())

    assert provider["providers"][0]["options"]["path"] == "/etc/grafana/dashboards"
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert source["datasources"][0]["type"] == BOARD["templating"]["list"][0]["query"]


# --- Over a fleet at work -------------------------------------------------------------------------------------------

TOKENS = {
    name: hashlib.sha256(name.encode()).hexdigest()
    for name in ("ops", "pool-a", "pool-b", "keyword", "muted", "gone", "lost")
}
CONFIG = (
    "[organisations.acme]\nwebhook_calls = 5000\n"
    + "".join(f'[robots.{name}]\ntoken = "{token}"\norganisation = "acme"\n' for name, token in TOKENS.items())
    + "".join(f'[destinations.{name}]\nrobots = ["{name}"]\n' for name in TOKENS if not name.startswith("pool"))
    + '[destinations.pool]\nrobots = ["pool-a", "pool-b"]\n'
)


def load(fleet: Fleet, space: Space) -> None:
    """A bit of everything: deliveries, a backlog, a mute, a robot that is gone, unknown ends, deaths, a pause."""
    for name, token in TOKENS.items():
        space.robot(
            token,
            name=name,
            keywords=["never"] if name == "keyword" else [],
            state="removed" if name == "gone" else "on",
        )
    space.fault("errcode", errcode=130101, errmsg="send too fast", sender="muted", times=1)
    space.fault("lost", sender="lost", times=2)
    fleet.workers(1)
    fleet.beat()
    for number in range(25):
        fleet.client.send("ops", f"message {number}")
        fleet.client.send("pool", f"message {number}")
    for name in ("keyword", "muted", "gone", "lost"):
        fleet.client.send(name, f"message to {name}")
    cancelled = fleet.client.send("ops", "never mind")
    assert fleet.client.cancel(cancelled) == "cancelled"
    leave = fleet.store.token_ask("acme", "m1", lease_ms=20_000, eager=False)
    assert isinstance(leave, Fetch)
    fleet.store.token_keep("acme", "m1", leave.lease, "t", refresh_ms=10**6, late_ms=10**6, usable_ms=7_200_000)
    fleet.store.hold("pool", for_s=600, why="drill")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    tool("prometheus")
    with Sandbox() as sandbox:
        space = sandbox.namespace()
        with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
            port = exporter(fleet)
            one = Prometheus(tmp_path_factory.mktemp("prometheus"), port)
            try:
                # The counters are seen at 0 first, as on any fleet that is not brand new.
                wait_for(lambda: one.ask("dingqueue_up == 1"), within_s=30, every_s=0.2, what="the first scrape")
                load(fleet, space)
                wait_for(lambda: one.ask('dingqueue_sender_broken{sender="robot.gone"} == 1'), within_s=40, every_s=0.5)
                wait_for(lambda: one.ask("dingqueue_dead_letters > 0"), within_s=40, every_s=0.5)
                yield one
            finally:
                one.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("title", "expr"), QUERIES)
def test_no_panel_is_empty(prometheus: Prometheus, title: str, expr: str) -> None:
    def numbers() -> list[float]:
        rows = prometheus.ask(filled(expr))
        return [value for row in rows if (value := float(row["value"][1])) == value]  # NaN is not itself

    assert wait_for(numbers, within_s=20, every_s=0.5, what=f"{title}: {expr}")
