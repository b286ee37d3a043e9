"""Debian's Prometheus over one exporter, for tests that ask it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import requests

from dingqueue_worker import children
from dingqueue_worker.embedded import free_port
from support.fleet import Fleet, Process
from support.ops import tool


class Prometheus:
    """Debian's Prometheus over one exporter."""

    def __init__(self, folder: Path, exporter_port: int, *, rules: str = "") -> None:
        self.port = free_port()
        (folder / "rules.yml").write_text(rules or "groups: []\n")
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{folder}/rules.yml]\n"
            f"scrape_configs:\n- job_name: dingqueue\n  static_configs: [{{targets: ['127.0.0.1:{exporter_port}']}}]\n"
        )
        with (folder / "prometheus.log").open("wb") as log:
            self.child = children.start(
                [
                    tool("prometheus"),
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                output=log,
            )

    def ask(self, query: str) -> list[dict[str, Any]]:
        try:
            answer = requests.get(
                f"http://127.0.0.1:{self.port}/api/v1/query", params={"query": query}, timeout=10
            ).json()
        except requests.ConnectionError:
            return []
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def firing(self) -> set[str]:
        return {row["metric"]["alertname"] for row in self.ask('ALERTS{alertstate="firing"}')}

    def stop(self) -> None:
        children.stop(self.child)


def exporter(fleet: Fleet) -> int:
    port = free_port()
    one = Process(
        [sys.executable, "-m", "dingqueue_worker", "metrics", "--port", str(port)],
        env=fleet.env,
        log=fleet.folder / "metrics.log",
    )
    fleet.processes.append(one)
    one.wait_until_says("metrics at")
    return port
