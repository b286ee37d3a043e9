"""ops/prometheus: read and tried by promtool; every alert has a test, a page in the runbook and metrics that exist."""

from __future__ import annotations

import re
import shlex
from typing import Any

import promql_parser
import pytest
import yaml
from click import Context, Group

from dingqueue_worker.cli import main
from dingqueue_worker.metrics import ABOUT_THE_LOOK, FAMILIES
from support.ops import OPS, ROOT, refused, run, tool

RULES = yaml.safe_load((OPS / "prometheus/alerts.yml").read_text())
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
RUNBOOK = (OPS / "RUNBOOK.md").read_text()
KNOWN = {family.name for family in FAMILIES} | set(ABOUT_THE_LOOK) | {"up"}


def test_promtool_reads_the_rules_and_the_configuration() -> None:
    run("promtool", "check", "rules", "ops/prometheus/alerts.yml")
    run("promtool", "check", "config", "ops/prometheus/prometheus.yml")


def test_every_alert_fires_when_it_must_and_no_sooner() -> None:
    tool("promtool")
    run("promtool", "test", "rules", "alerts.test.yml", cwd=OPS / "prometheus")


def test_promtool_would_see_an_alert_that_is_wrong(tmp_path: Any) -> None:
    text = (OPS / "prometheus/alerts.yml").read_text().replace("== 0\n        for: 1m", "== 1\n        for: 1m", 1)
    (tmp_path / "alerts.yml").write_text(text)
    (tmp_path / "alerts.test.yml").write_text((OPS / "prometheus/alerts.test.yml").read_text())

    assert "DingqueueRedisAway" in refused("promtool", "test", "rules", tmp_path / "alerts.test.yml")


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_tested(name: str) -> None:
    assert f'alertname="{name}"' in (OPS / "prometheus/alerts.test.yml").read_text()


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_its_page(name: str) -> None:
    rule = ALERTS[name]
    link = rule["annotations"]["runbook_url"]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    # A forge makes anchors of headings in small letters.
    assert link.endswith(f"ops/RUNBOOK.md{{{{ end }}}}#{name.lower()}")
    page = RUNBOOK.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert "**You see**" in page
    assert "**It means**" in page
    assert "**Type**" in page
    assert "```sh" in page


def test_no_page_is_without_its_alert() -> None:
    assert re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_metric_of_an_alert_exists(name: str) -> None:
    expr = ALERTS[name]["expr"]

    promql_parser.parse(expr)
    used = set(re.findall(r"\b(?:dingqueue_\w+|up)\b", re.sub(r"\{[^}]*\}", "", expr)))

    assert used
    assert {re.sub(r"_(bucket|count|sum)$", "", one) for one in used} <= KNOWN


def test_every_command_of_the_runbook_exists() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL)
    commands = [
        line.split("#")[0].split("|")[0].split(">")[0].strip()
        for block in blocks
        for line in block.splitlines()
        if line.startswith("dingqueue ")
    ]

    assert len(commands) > 20
    for command in commands:
        words = shlex.split(command)[1:]
        group: Any = main
        context = Context(group)
        while isinstance(group, Group) and words and (found := group.get_command(context, words[0])):
            group, words = found, words[1:]
        assert group is not main, command
        options = {option for parameter in group.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, command


def test_the_runbook_is_found_from_the_readme() -> None:
    assert "RUNBOOK.md" in (ROOT / "ops/README.md").read_text()
