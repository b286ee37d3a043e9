"""Writes dashboards/dingqueue.json: one board to look at, not to read. Standard library only.

Run it after a change here (``python ops/grafana/make_dashboard.py``); a test holds the two together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
LANE = '{destination=~"$destination"}'
DONE = '{destination=~"$destination",state=~"delivered|accepted"}'
GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"
#: One colour a meaning, wherever it comes up.
OUTCOMES = {
    "delivered": GREEN,
    "accepted": "light-green",
    "snooze": BLUE,
    "retry": YELLOW,
    "unknown": ORANGE,
    "dead": RED,
}

Query = tuple[str, str]


class Board:
    """Panels from left to right and from top to bottom, on Grafana's 24 columns."""

    def __init__(self) -> None:
        self.panels: list[dict[str, Any]] = []
        self._x = self._y = self._row_h = 0

    def row(self, title: str) -> None:
        """A heading over what follows."""
        self._add({"type": "row", "title": title, "collapsed": False, "panels": []}, 24, 1)

    def add(self, kind: str, title: str, says: str, queries: list[Query], *, w: int, h: int, unit: str = "short",
            steps: list[tuple[str, float | None]] | None = None, defaults: dict[str, Any] | None = None,
            options: dict[str, Any] | None = None, overrides: list[dict[str, Any]] | None = None,
            form: str = "time_series") -> None:  # fmt: skip
        """A panel.

        Args:
            kind: Grafana's panel type.
            title: In a few words.
            says: What to make of it, shown on hover.
            queries: PromQL and legend.
            w: Columns.
            h: Grid rows.
            unit: Grafana's unit id.
            steps: Colours from which value on; the first from None.
            defaults: More of ``fieldConfig.defaults``.
            options: The panel type's.
            overrides: By field.
            form: The format of the answers.
        """
        field: dict[str, Any] = {
            "unit": unit,
            "noValue": "none",
            "thresholds": {
                "mode": "absolute",
                "steps": [{"color": colour, "value": value} for colour, value in steps or [(GREEN, None)]],
            },
            "color": {"mode": "thresholds" if steps else "palette-classic"},
        }
        self._add(
            {
                "type": kind,
                "title": title,
                "description": says,
                "datasource": DATASOURCE,
                "targets": [
                    {"refId": chr(65 + number), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend,
                     "format": form, "instant": False, "range": True}
                    for number, (expr, legend) in enumerate(queries)
                ],
                "fieldConfig": {"defaults": field | (defaults or {}), "overrides": overrides or []},
                "options": options or {},
            },
            w, h,
        )  # fmt: skip

    def _add(self, panel: dict[str, Any], w: int, h: int) -> None:
        if self._x + w > 24:
            self._x, self._y = 0, self._y + self._row_h
        place = {"x": self._x, "y": self._y, "w": w, "h": h}
        self.panels.append({"id": len(self.panels) + 1, "gridPos": place, **panel})
        self._x, self._row_h = self._x + w, h


def stat(board: Board, title: str, says: str, queries: list[Query], **more: Any) -> None:
    """One number, with its last hours behind it."""
    board.add(
        "stat", title, says, queries, w=4, h=5,
        options={"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "background_solid",
                 "justifyMode": "center", "textMode": "auto"},
        **more,
    )  # fmt: skip


def lines(board: Board, title: str, says: str, queries: list[Query], *, w: int, h: int = 8, stacked: bool = False,
          **more: Any) -> None:  # fmt: skip
    """Curves over time."""
    custom = {"lineWidth": 1, "fillOpacity": 35 if stacked else 8, "showPoints": "never", "spanNulls": True,
              "stacking": {"mode": "normal" if stacked else "none"}}  # fmt: skip
    board.add(
        "timeseries", title, says, queries, w=w, h=h, defaults={"custom": custom, "min": 0} | more.pop("defaults", {}),
        options={"legend": {"displayMode": "list", "placement": "bottom"},
                 "tooltip": {"mode": "multi", "sort": "desc"}},
        **more,
    )  # fmt: skip


def bars(board: Board, title: str, says: str, queries: list[Query], *, w: int, h: int = 8, **more: Any) -> None:
    """A bar for each, longest first."""
    board.add(
        "bargauge", title, says, queries, w=w, h=h,
        options={"orientation": "horizontal", "displayMode": "gradient", "showUnfilled": True,
                 "reduceOptions": {"calcs": ["lastNotNull"]}},
        defaults={"min": 0} | more.pop("defaults", {}), **more,
    )  # fmt: skip


def states(board: Board, title: str, says: str, queries: list[Query], *, w: int, words: dict[int, tuple[str, str]],
           h: int = 8) -> None:  # fmt: skip
    """A ribbon for each, coloured by its state."""
    board.add(
        "state-timeline", title, says, queries, w=w, h=h,
        steps=[(colour, None if value == 0 else value) for value, (_, colour) in words.items()],
        defaults={"mappings": [{"type": "value", "options": {
            str(value): {"text": text, "color": colour} for value, (text, colour) in words.items()}}],
            "custom": {"fillOpacity": 80, "lineWidth": 0}},
        options={"mergeValues": True, "showValue": "never", "rowHeight": 0.85, "legend": {"showLegend": True}},
    )  # fmt: skip


def coloured(words: dict[str, str]) -> list[dict[str, Any]]:
    """A fixed colour for each series of that name."""
    return [
        {"matcher": {"id": "byName", "options": name},
         "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}
        for name, colour in words.items()
    ]  # fmt: skip


def quantile(share: float, histogram: str) -> str:
    """PromQL for a share of a histogram, over all lanes shown."""
    return f"histogram_quantile({share}, sum by (le) (rate({histogram}_bucket{LANE}[$__rate_interval])))"


def panels() -> list[dict[str, Any]]:
    """The whole board."""
    board = Board()
    glance(board)
    board.row("Lanes: what waits, and how long still")
    lanes(board)
    board.row("How late")
    late(board)
    board.row("Limits: who is near, who is closed")
    limits(board)
    board.row("What goes wrong")
    wrong(board)
    board.row("The fleet")
    fleet(board)
    return board.panels


def glance(board: Board) -> None:
    """Six numbers and two pictures: do messages flow, and what holds them up?"""
    stat(
        board,
        "Delivered a minute",
        "Messages that DingTalk took, over all lanes shown.",
        [(f"sum(rate(dingqueue_jobs_ended_total{DONE}[$__rate_interval])) * 60", "a minute")],
        defaults={"decimals": 1, "color": {"mode": "fixed", "fixedColor": BLUE}},
    )
    stat(
        board,
        "Waiting",
        "Jobs that wait for their turn. Not bad in itself: a robot may say twenty a minute.",
        [(f"sum(dingqueue_lane_jobs_waiting{LANE})", "jobs")],
        defaults={"color": {"mode": "fixed", "fixedColor": BLUE}},
    )
    stat(
        board,
        "Oldest waiting",
        "How long the oldest of them has waited.",
        [(f"max(dingqueue_lane_oldest_waiting_seconds{LANE})", "oldest")],
        unit="s",
        steps=[(GREEN, None), (YELLOW, 300), (ORANGE, 1800), (RED, 7200)],
    )
    stat(
        board,
        "Empty in",
        "When the slowest lane is empty, at the lawful pace and if nothing more comes.",
        [(f"max(dingqueue_lane_drain_seconds{LANE})", "empty in")],
        unit="s",
        steps=[(GREEN, None), (YELLOW, 300), (ORANGE, 1800), (RED, 7200)],
    )
    stat(
        board,
        "Dead letters",
        "Jobs that wait for a person: dingqueue dead list.",
        [("dingqueue_dead_letters", "dead")],
        steps=[(GREEN, None), (ORANGE, 1), (RED, 100)],
    )
    stat(
        board,
        "Workers and beats",
        "Those that gave a sign of life in the last half minute.",
        [("dingqueue_processes", "{{role}}")],
        steps=[(RED, None), (GREEN, 1)],
    )
    lines(
        board,
        "Are messages flowing?",
        "Delivered, by lane, in colour; the line is what applications handed over. When it is above the colours for "
        "long, a lane grows.",
        [
            (
                f"sum by (destination) (rate(dingqueue_jobs_ended_total{DONE}[$__rate_interval])) * 60",
                "{{destination}}",
            ),
            (f"sum(rate(dingqueue_jobs_accepted_total{LANE}[$__rate_interval])) * 60", "handed over"),
        ],
        w=14,
        h=9,
        stacked=True,
        unit="opm",
        overrides=[
            {
                "matcher": {"id": "byName", "options": "handed over"},
                "properties": [
                    {"id": "custom.stacking", "value": {"mode": "none"}},
                    {"id": "custom.fillOpacity", "value": 0},
                    {"id": "custom.lineWidth", "value": 2},
                    {"id": "color", "value": {"mode": "fixed", "fixedColor": "text"}},
                ],
            }
        ],
    )
    states(board, "What is stuck, and why",
           "A robot or app: open, closed (muted, banned, out of quota), or broken (its configuration was refused twice). "
           "dingqueue lanes has DingTalk's own words.",
           [("max by (sender) (dingqueue_sender_closed) + max by (sender) (dingqueue_sender_broken)", "{{sender}}"),
            (f"3 * max by (destination) (dingqueue_lane_paused{LANE})", "lane {{destination}}")],
           w=10, h=9, words={0: ("open", GREEN), 1: ("closed", ORANGE), 2: ("broken", RED), 3: ("paused", BLUE)})  # fmt: skip


def lanes(board: Board) -> None:
    """By lane."""
    bars(
        board,
        "Empty in",
        "At the lawful pace, if nothing more comes.",
        [(f"dingqueue_lane_drain_seconds{LANE}", "{{destination}}")],
        w=8,
        unit="s",
        steps=[(GREEN, None), (YELLOW, 300), (ORANGE, 1800), (RED, 7200)],
    )
    lines(
        board,
        "Waiting",
        "Jobs in each lane; a digest lane falls in steps.",
        [
            (f"dingqueue_lane_jobs_waiting{LANE}", "{{destination}}"),
            ("dingqueue_jobs_scheduled", "scheduled or backing off"),
        ],
        w=8,
    )
    lines(board, "Oldest waiting", "The age of each lane's oldest job. It grows by a second a second while nothing moves.",
          [(f"dingqueue_lane_oldest_waiting_seconds{LANE}", "{{destination}}")], w=8, unit="s")  # fmt: skip


def late(board: Board) -> None:
    """With and without the waiting for limits."""
    lines(
        board,
        "From handed over to delivered",
        "Everything is in it: limits, cool-downs, back-off. The dashed half leaves lawful waiting out: the fleet's and "
        "DingTalk's own time.",
        [
            (quantile(0.5, "dingqueue_delivery_seconds"), "half of all"),
            (quantile(0.99, "dingqueue_delivery_seconds"), "99 of 100"),
            (quantile(0.5, "dingqueue_delivery_own_seconds"), "own time, half of all"),
            (quantile(0.99, "dingqueue_delivery_own_seconds"), "own time, 99 of 100"),
        ],
        w=12,
        unit="s",
        defaults={
            "custom": {
                "scaleDistribution": {"type": "log", "log": 10},
                "lineWidth": 1,
                "fillOpacity": 0,
                "showPoints": "never",
                "spanNulls": True,
            }
        },
        overrides=[
            {
                "matcher": {"id": "byRegexp", "options": "own.*"},
                "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}],
            }
        ],
    )
    board.add("heatmap", "How many took how long", "Each column a moment, each cell a length of time: dark is many.",
              [(f"sum by (le) (increase(dingqueue_delivery_seconds_bucket{LANE}[$__rate_interval]))", "{{le}}")],
              w=12, h=8, unit="s", form="heatmap",
              options={"calculate": False, "yAxis": {"unit": "s"}, "color": {"scheme": "Oranges", "steps": 64},
                       "cellGap": 1, "legend": {"show": True}})  # fmt: skip


def limits(board: Board) -> None:
    """By sender."""
    bars(
        board,
        "Window used now",
        "Messages of the last minute that count against the limit. Full is lawful.",
        [("dingqueue_sender_permits_used / dingqueue_sender_permits_limit", "{{sender}}")],
        w=8,
        unit="percentunit",
        steps=[(GREEN, None), (YELLOW, 0.7), (ORANGE, 0.95)],
        defaults={"min": 0, "max": 1},
    )
    lines(
        board,
        "Closed, and why",
        "How often senders were closed in the last hour. A cooldown means that somebody else uses the robot too.",
        [("sum by (cause) (increase(dingqueue_sender_closures_total[1h]))", "{{cause}}")],
        w=8,
    )
    bars(
        board,
        "Month used",
        "Calls of this calendar month, Beijing's, where the configuration names a quota.",
        [("dingqueue_quota_used / dingqueue_quota_limit", "{{quota}}")],
        w=4,
        unit="percentunit",
        steps=[(GREEN, None), (YELLOW, 0.6), (RED, 0.8)],
        defaults={"min": 0, "max": 1},
    )
    bars(board, "Tokens end in", "Of each app. Fetched anew in the last third of its life.",
         [("clamp_min(dingqueue_token_ends_timestamp_seconds - time(), 0)", "{{app}}")], w=4, unit="s",
         steps=[(RED, None), (YELLOW, 600), (GREEN, 1200)], defaults={"min": 0, "max": 7200})  # fmt: skip


def wrong(board: Board) -> None:
    """By outcome and cause."""
    lines(
        board,
        "Attempts by outcome",
        "A snooze is no failure: not now. Unknown means that nobody saw the end.",
        [(f"sum by (outcome) (rate(dingqueue_attempts_total{LANE}[$__rate_interval])) * 60", "{{outcome}}")],
        w=8,
        stacked=True,
        unit="opm",
        overrides=coloured(OUTCOMES),
    )
    lines(
        board,
        "Why attempts did not deliver",
        "The slugs of the outcome table; METRICS.md says what they mean.",
        [
            (
                'sum by (cause) (rate(dingqueue_attempts_total{destination=~"$destination",cause!="ok"}'
                "[$__rate_interval])) * 60",
                "{{cause}}",
            )
        ],
        w=8,
        stacked=True,
        unit="opm",
    )
    lines(board, "Died, expired, cancelled, folded", "Jobs that ended otherwise than delivered, in the last hour.",
          [('sum by (state) (increase(dingqueue_jobs_ended_total{destination=~"$destination",'
            'state!~"delivered|accepted"}[1h]))', "{{state}}")], w=8)  # fmt: skip


def fleet(board: Board) -> None:
    """Processes and Redis."""
    lines(
        board,
        "Jobs out, and hands",
        "Jobs that may go now; a worker has 32 hands. Scale on this, never on what waits.",
        [("sum(dingqueue_lane_jobs_out)", "out"), ('32 * dingqueue_processes{role="worker"}', "hands")],
        w=6,
    )
    lines(
        board,
        "Calls not taken",
        "The queue should be empty: a call is made only for a job that may go now.",
        [
            ("dingqueue_queue_length", "in the queue"),
            ("sum(increase(dingqueue_calls_lost_total[$__rate_interval])) or vector(0)", "lost, and made again"),
        ],
        w=6,
    )
    lines(
        board,
        "Redis",
        "Its memory, and how long reading every figure took.",
        [
            ("dingqueue_redis_memory_used_bytes", "used"),
            ("dingqueue_redis_memory_limit_bytes", "may use"),
            ("dingqueue_read_seconds", "read time"),
        ],
        w=6,
        unit="bytes",
        overrides=[
            {
                "matcher": {"id": "byName", "options": "read time"},
                "properties": [{"id": "unit", "value": "s"}, {"id": "custom.axisPlacement", "value": "right"}],
            }
        ],
    )
    lines(
        board,
        "Last sign of life",
        "Workers give one every two seconds, beats every five.",
        [("time() - dingqueue_last_heartbeat_timestamp_seconds", "{{role}}")],
        w=4,
        unit="s",
    )
    board.add("stat", "Books", "Accepted + replayed - ended - open. Anything but 0 is a lost or made-up job.",
              [("dingqueue_books_difference_jobs", "difference")], w=2, h=8,
              steps=[(RED, None), (GREEN, 0), (RED, 1)],
              options={"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "none",
                       "colorMode": "background_solid", "justifyMode": "center"})  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The document that Grafana provisions."""
    return {
        "uid": "dingqueue",
        "title": "dingqueue",
        "description": "Are messages flowing, how late, what is stuck and why, which robots are near their limit.",
        "tags": ["dingqueue"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data", "type": "datasource", "query": "prometheus", "current": {}},
                {"name": "destination", "label": "Lane", "type": "query", "datasource": DATASOURCE,
                 "query": {"query": "label_values(dingqueue_lane_jobs_waiting, destination)", "refId": "lanes"},
                 "definition": "label_values(dingqueue_lane_jobs_waiting, destination)",
                 "multi": True, "includeAll": True, "allValue": ".*", "refresh": 2, "sort": 1,
                 "current": {"text": "All", "value": "$__all"}},
            ]
        },
        "annotations": {
            "list": [
                {"name": "Alerts", "datasource": DATASOURCE, "enable": True, "iconColor": RED,
                 "expr": 'ALERTS{alertname=~"Dingqueue.*",alertstate="firing"}', "titleFormat": "{{alertname}}",
                 "textFormat": "{{destination}}{{sender}}"},
            ]
        },
        "panels": panels(),
    }  # fmt: skip


if __name__ == "__main__":
    target = Path(__file__).parent / "dashboards" / "dingqueue.json"
    target.write_text(json.dumps(dashboard(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
