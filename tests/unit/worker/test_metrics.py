"""What the exporter makes of the fleet's figures, and that its documentation says the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from dingqueue_worker.dingtalk.answers import ROWS
from dingqueue_worker.metrics import ABOUT_THE_LOOK, EDGES_MS, FAMILIES, STATES, families
from dingqueue_worker.outcome import CloseCause
from dingqueue_worker.store import Figures, LaneView, Memory, Quota, SenderView
from support.ops import OPS, ROOT

NOW_MS = 1_800_000_000_000
SENDER = SenderView(name="robot.ops", used=3, limit=20, window_ms=60_000, closed_until_ms=None, why="", broken=False)
LANE = LaneView(
    destination="ops", waiting=7, out=1, oldest_ms=NOW_MS - 90_000, held_until_ms=None, held_why="", drain_s=12.5,
    senders=(SENDER,),
)  # fmt: skip
FIGURES = Figures(
    now_ms=NOW_MS, lanes=(LANE,), senders={"robot.ops": SENDER}, quotas={}, token_ends_ms={}, counts={}, scheduled=0, open_jobs=0, dead=0,
    dead_oldest_ms=None, alive={}, memory=Memory(used_bytes=1, limit_bytes=0),
)  # fmt: skip


def value(name: str, labels: Mapping[str, str] | None = None, **changes: Any) -> float | None:
    class Given(Collector):
        def collect(self) -> Any:
            return families(replace(FIGURES, **changes))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given())
    return registry.get_sample_value(name, dict(labels or {}))


def test_a_lane_without_waiting_jobs_is_not_late() -> None:
    empty = replace(LANE, waiting=0, oldest_ms=None, drain_s=0.0)

    assert value("dingqueue_lane_oldest_waiting_seconds", {"destination": "ops"}) == 90
    assert value("dingqueue_lane_oldest_waiting_seconds", {"destination": "ops"}, lanes=(empty,)) == 0


def test_a_first_dead_job_is_an_increase() -> None:
    counts = {"accepted:send:ops": 1}

    for state in STATES:
        labels = {"kind": "send", "destination": "ops", "state": state}
        assert value("dingqueue_jobs_ended_total", labels, counts=counts) == 0


def test_a_death_is_an_increase_even_as_the_first_that_a_lane_ever_saw() -> None:
    for kind in ("send", "assign", "share"):
        labels = {"kind": kind, "destination": "ops", "state": "dead"}
        assert value("dingqueue_jobs_ended_total", labels) == 0


def test_names_with_any_letters_are_labels() -> None:
    counts = {"accepted:send:运维.群-1": 3}

    assert value("dingqueue_jobs_accepted_total", {"kind": "send", "destination": "运维.群-1"}, counts=counts) == 3


def test_buckets_are_summed_up_and_in_seconds() -> None:
    counts = {"latency:ops:500": 5, "latency:ops:60000": 2, "latency:ops:inf": 1, "latency_ms:ops": 9_000_000}

    def bucket(edge: str) -> float | None:
        return value("dingqueue_delivery_seconds_bucket", {"destination": "ops", "le": edge}, counts=counts)

    assert [bucket("0.5"), bucket("30"), bucket("60"), bucket("7200"), bucket("+Inf")] == [5, 5, 7, 7, 8]
    assert value("dingqueue_delivery_seconds_count", {"destination": "ops"}, counts=counts) == 8
    assert value("dingqueue_delivery_seconds_sum", {"destination": "ops"}, counts=counts) == 9_000


def test_a_first_delivery_is_an_increase() -> None:
    labels = {"destination": "ops", "le": "+Inf"}

    assert value("dingqueue_delivery_seconds_bucket", labels, counts={"accepted:send:ops": 1}) == 0


def test_the_two_histograms_do_not_mix() -> None:
    counts = {"latency:ops:500": 5, "latency_ms:ops": 100, "own:ops:1000": 3, "own_ms:ops": 200}

    assert value("dingqueue_delivery_own_seconds_count", {"destination": "ops"}, counts=counts) == 3
    assert value("dingqueue_delivery_own_seconds_sum", {"destination": "ops"}, counts=counts) == 0.2


def test_a_closed_sender_says_why_and_until_when() -> None:
    closed = replace(SENDER, closed_until_ms=NOW_MS + 600_000, cause="cooldown")
    senders = {"robot.ops": closed}

    assert value("dingqueue_sender_closed", {"sender": "robot.ops", "cause": "cooldown"}, senders=senders) == 1
    until_s = value("dingqueue_sender_closed_until_timestamp_seconds", {"sender": "robot.ops"}, senders=senders)
    assert until_s == (NOW_MS + 600_000) / 1000
    assert value("dingqueue_sender_closed", {"sender": "robot.ops", "cause": "none"}) == 0


def test_a_silent_process_is_not_counted_but_remembered() -> None:
    alive = {"worker:a:1": NOW_MS - 1_000, "worker:b:2": NOW_MS - 31_000, "beat:a:3": NOW_MS - 40_000}

    assert value("dingqueue_processes", {"role": "worker"}, alive=alive) == 1
    assert value("dingqueue_processes", {"role": "beat"}, alive=alive) == 0
    beat_s = value("dingqueue_last_heartbeat_timestamp_seconds", {"role": "beat"}, alive=alive)
    assert beat_s == (NOW_MS - 40_000) / 1000


def test_a_lost_job_shows_in_the_books() -> None:
    counts = {"accepted:send:ops": 10, "ended:send:ops:delivered": 6, "ended:send:ops:dead": 2, "replayed": 1}

    assert value("dingqueue_books_difference_jobs", counts=counts, open_jobs=3) == 0
    assert value("dingqueue_books_difference_jobs", counts=counts, open_jobs=2) == 1


def test_a_quota_is_shown_where_there_is_one() -> None:
    quotas = {"robot.ops": Quota(used=4_000, limit=5_000)}

    assert value("dingqueue_quota_used", {"quota": "robot.ops"}, quotas=quotas) == 4_000
    assert value("dingqueue_quota_limit", {"quota": "robot.ops"}, quotas=quotas) == 5_000
    assert value("dingqueue_quota_used", {"quota": "robot.ops"}) is None


def test_a_quota_without_a_limit_is_only_counted() -> None:
    quotas = {"organisation.acme.api": Quota(used=7, limit=None)}

    assert value("dingqueue_quota_used", {"quota": "organisation.acme.api"}, quotas=quotas) == 7
    assert value("dingqueue_quota_limit", {"quota": "organisation.acme.api"}, quotas=quotas) is None


def test_an_apps_token_says_when_it_ends() -> None:
    ends = {"acme": NOW_MS + 7_200_000}

    assert value("dingqueue_token_ends_timestamp_seconds", {"app": "acme"}, token_ends_ms=ends) == 1_800_007_200


def test_every_metric_is_documented_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\| (.+) \|$", (OPS / "METRICS.md").read_text(), re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), said) for name, kind, labels, said in rows}

    expected = {family.name: (str(family.kind), family.labels, family.help) for family in FAMILIES}
    expected |= {
        name: ("gauge", ("version",) if name == "dingqueue_build_info" else (), said)
        for name, said in ABOUT_THE_LOOK.items()
    }
    assert documented == expected


def test_every_closed_set_is_documented() -> None:
    text = (OPS / "METRICS.md").read_text()

    for word in (*STATES, *CloseCause.__args__):  # type: ignore[attr-defined]  # a Literal's words
        assert f"`{word}`" in text


def causes_written() -> tuple[set[str], set[str]]:
    """Every cause of an attempt, and those of dead letters alone, as the sources spell them."""
    worker, outcomes = ROOT / "worker/dingqueue_worker", {"Snooze", "Retry", "Unknown", "Dead", "Row"}
    attempts = {row.cause for row in ROWS if row.verdict != "delivered"} | {"ok"}
    for file in worker.rglob("*.py"):
        if worker / "sandbox" in file.parents:
            continue
        for call in ast.walk(ast.parse(file.read_text())):
            if not isinstance(call, ast.Call) or ast.unparse(call.func) not in outcomes:
                continue
            for cause in (word.value for word in call.keywords if word.arg == "cause"):
                if isinstance(cause, ast.Constant):
                    attempts.add(str(cause.value))
                else:  # handed on as it was
                    assert ast.unparse(cause).split(".")[-1] == "cause", f"{file.name}:{call.lineno}"
    scripts = "\n".join(file.read_text() for file in (worker / "scripts").glob("*.lua"))
    attempts |= set(re.findall(r"count\('attempts:' \.\. destination \.\. ':\w+:(\w+)'", scripts))
    dead = set(re.findall(r"conclude\(id, record, 'dead', '(\w+)'", scripts))
    dead |= set(re.findall(r"'state', 'dead', 'cause', '(\w+)'", scripts))
    return attempts, dead - attempts


def test_every_cause_of_an_attempt_is_documented_and_no_other() -> None:
    section = (OPS / "METRICS.md").read_text().split("\n## Causes of an attempt\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.+?) \| ?(.*?) ?\|$", section, re.MULTILINE)
    told = [cause for causes, _, _ in rows for cause in re.findall(r"`(\w+)`", causes)]
    above = section.split("| cause |")[0]

    attempts, dead = causes_written()

    assert sorted(told) == sorted(attempts)
    assert {"bug", "worker_lost", "too_fast", "not_sent"} <= attempts
    assert dead == {"unknown", "poison"}
    assert all(f"`{cause}` (" in above for cause in dead)


def test_every_page_that_a_cause_leads_to_is_there() -> None:
    pages = set(re.findall(r"\b(Dingqueue[A-Z]\w+)", (OPS / "METRICS.md").read_text()))

    assert pages
    assert pages <= set(re.findall(r"^## (\w+)$", (OPS / "RUNBOOK.md").read_text(), re.MULTILINE))


def test_every_counter_of_the_scripts_is_exported() -> None:
    scripts = [*(ROOT / "producer/dingqueue").glob("*.lua"), *(ROOT / "worker/dingqueue_worker/scripts").glob("*.lua")]
    text = "\n".join(file.read_text() for file in scripts)
    written = set(re.findall(r"(?:count|bucket)\('(\w+)", text)) | set(
        re.findall(r"(?:ended|attempted) = '(\w+):", text)
    )
    sums = set(re.findall(r"'(\w+)_ms:' \.\. destination", text))

    # What counts nothing that anybody wants to know, only numbers that must not repeat.
    unseen = {"paces"}
    exported = {
        "accepted",
        "ended",
        "replayed",
        "dropped",
        "attempts",
        "lost_calls",
        "closed",
        "latency",
        "own",
        "tokens",
        "results",
    }
    assert written - unseen == exported
    assert sums == {"latency", "own"}


def test_the_edges_are_the_scripts_own() -> None:
    text = (ROOT / "producer/dingqueue/call.lua").read_text()
    found = re.search(r"^local BUCKETS = \{([\d, ]+)\}$", text, re.MULTILINE)

    assert found
    assert tuple(int(edge) for edge in found[1].split(", ")) == EDGES_MS


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_keep_to_prometheus_rules(family: Any) -> None:
    assert re.fullmatch(r"dingqueue_[a-z_]+", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert "_ms" not in family.name
    assert set(family.labels) <= {
        "kind",
        "destination",
        "state",
        "outcome",
        "cause",
        "sender",
        "role",
        "quota",
        "app",
        "what",
        "result",
    }
