"""How the fleet stands, for people and for metrics. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from dingqueue_worker.outcome import EVERY_SENDER
from dingqueue_worker.store.door import Door, ask

#: Scores of jobs that are not urgent begin here, as in call.lua.
_NORMAL = 4_000_000_000_000_000
#: DingTalk bills by Beijing's calendar.
_BILLED_IN = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderView:
    """A sender as it stands: permits used of its slowest window, and what closed it. Milliseconds since 1970.

    ``closed_as`` is what was closed: the sender, the app that it is an interface of, or all (``*``).
    """

    name: str
    used: int
    limit: int
    window_ms: int
    closed_until_ms: int | None
    why: str
    broken: bool
    cause: str = ""
    closed_as: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneView:
    """A lane as it stands. ``drain_s`` is how long what waits needs at the lawful pace; None when that is unknown.

    ``senders`` carry its plain messages; ``beside`` are those of its other routes, where it has an app.
    """

    destination: str
    waiting: int
    out: int
    oldest_ms: int | None
    held_until_ms: int | None
    held_why: str
    drain_s: float | None
    senders: tuple[SenderView, ...]
    beside: tuple[SenderView, ...] = ()

    @property
    def shut(self) -> tuple[SenderView, ...]:
        """What is closed or broken, each once, whatever closed it."""
        found = [one for one in (*self.senders, *self.beside) if one.closed_until_ms or one.broken]
        return tuple({one.closed_as or one.name: one for one in reversed(found)}.values())[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Calls of this calendar month, Beijing's. ``limit`` is None where the configuration names none."""

    used: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the server says of its memory. ``limit_bytes`` is 0 where it may take all there is."""

    used_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The fleet in numbers, as one look at Redis gives them. Milliseconds since 1970, the server's clock.

    Attributes:
        now_ms: When it was looked.
        lanes: As in `overview`.
        senders: Every sender the fleet knows, by name.
        quotas: By name: a sender's own, or one that an organisation's senders share.
        token_ends_ms: When each app's token ends; 0 after DingTalk refused it.
        counts: The counters that the scripts write; see ops/METRICS.md.
        scheduled: Jobs that must not run before a time: send-at, back-off.
        open_jobs: Jobs that wait, are scheduled or are out; read together with `counts`, so that the books balance.
        dead: Dead letters that are kept.
        dead_oldest_ms: When the oldest of them died; None without one.
        alive: ``<role>:<host>:<process>`` and its last sign of life.
        memory: The server's.
    """

    now_ms: int
    lanes: tuple[LaneView, ...]
    senders: Mapping[str, SenderView]
    quotas: Mapping[str, Quota]
    token_ends_ms: Mapping[str, int]
    counts: Mapping[str, int]
    scheduled: int
    open_jobs: int
    dead: int
    dead_oldest_ms: int | None
    alive: Mapping[str, int]
    memory: Memory


class Views(Door):
    """The fleet in pictures and numbers."""

    def overview(self) -> tuple[int, list[LaneView]]:
        """Now (ms since 1970, the server's) and every lane that the fleet knows or that has something waiting."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(f"{self._base}pace")
            pipe.hgetall(f"{self._base}senders")
            pipe.zrange(f"{self._base}due", 0, -1)
            (seconds, micros), paces, sender_paces, due = ask(pipe.execute)
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        every = self._closed([EVERY_SENDER])[EVERY_SENDER]
        senders = self._senders({name: json.loads(text) for name, text in sender_paces.items()}, every, now_ms)
        names = sorted({*paces, *due})
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(f"{self._base}lane:{name}")
                pipe.zcard(f"{self._base}busy:{name}")
                pipe.zrange(f"{self._base}lane:{name}", 0, 0)
                pipe.zrange(f"{self._base}lane:{name}", _NORMAL, "+inf", byscore=True, offset=0, num=1)
                pipe.hmget(f"{self._base}hold:{name}", "until", "why", "rests", "rests_why")
            flat = ask(pipe.execute)
        rows = [flat[at : at + 5] for at in range(0, len(flat), 5)]
        # Urgent jobs stand before older ones.
        oldest = self._submitted_ms([job_id for row in rows for job_id in {*row[2], *row[3]}])
        lanes = []
        for name, (waiting, out, first, normal, (paused, paused_why, rests, rests_why)) in zip(
            names, rows, strict=True
        ):
            held_ms, held_why = max((int(paused or 0), paused_why or ""), (int(rests or 0), rests_why or ""))
            pace = json.loads(paces.get(name, '{"senders": []}'))
            main = pace["routes"][pace["first"]["send"]]["senders"] if "routes" in pace else pace["senders"]
            own = tuple(senders[sender] for sender in main if sender in senders)
            lanes.append(
                LaneView(
                    destination=name,
                    waiting=waiting,
                    out=out,
                    oldest_ms=min((oldest[one] for one in {*first, *normal} if one in oldest), default=None),
                    held_until_ms=held_ms or None,
                    held_why=held_why,
                    drain_s=drain_s(waiting, own, now_ms),
                    senders=own,
                    beside=tuple(
                        senders[sender] for sender in pace["senders"] if sender in senders and sender not in main
                    ),
                )
            )
        return now_ms, lanes

    def figures(self) -> Figures:
        """The whole fleet in numbers: a few round trips, O(lanes and senders), and nothing is written.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        now_ms, lanes = self.overview()
        texts: Any = ask(lambda: [self._client.hgetall(f"{self._base}senders")])[0]
        paces: Mapping[str, Mapping[str, Any]] = {name: json.loads(text) for name, text in texts.items()}
        senders = self._senders(paces, self._closed([EVERY_SENDER])[EVERY_SENDER], now_ms)
        known = self.counts()
        names = {lane.destination for lane in lanes} | {
            field.split(":")[2] for field in known if field.startswith("accepted:")
        }
        monthly = {
            str(pace.get("quota") or name): pace.get("month")
            for name, pace in paces.items()
            if pace.get("month") or pace.get("quota")
        }
        month = datetime.fromtimestamp(now_ms / 1000, _BILLED_IN).strftime("%Y%m")
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(f"{self._base}counts")
            pipe.zcard(f"{self._base}later")
            pipe.zcard(f"{self._base}leases")
            pipe.zcard(f"{self._base}dead")
            pipe.zrange(f"{self._base}dead", 0, 0, withscores=True)
            pipe.zrange(f"{self._base}alive", 0, -1, withscores=True)
            pipe.hgetall(f"{self._base}token_ends")
            pipe.info("memory")
            for name in monthly:
                pipe.get(f"{self._base}sender:{name}:{month}")
            for name in names:
                pipe.zcard(f"{self._base}lane:{name}")
            counts, later, out, dead, oldest, alive, tokens, memory, *rest = ask(pipe.execute)
        used, waiting = rest[: len(monthly)], rest[len(monthly) :]
        return Figures(
            now_ms=now_ms,
            lanes=tuple(lanes),
            senders=senders,
            quotas={
                name: Quota(used=int(used_now or 0), limit=int(most) if most else None)
                for (name, most), used_now in zip(monthly.items(), used, strict=True)
            },
            token_ends_ms={app: int(ends_ms) for app, ends_ms in tokens.items()},
            counts={field: int(value) for field, value in counts.items()},
            scheduled=later,
            open_jobs=later + out + sum(waiting),
            dead=dead,
            dead_oldest_ms=int(oldest[0][1]) if oldest else None,
            alive={who: int(at_ms) for who, at_ms in alive},
            memory=Memory(used_bytes=int(memory["used_memory"]), limit_bytes=int(memory["maxmemory"])),
        )

    def queue_length(self, queue: str) -> int:
        """Calls that stand in Celery's queue, where the broker is this Redis: published, and no worker has taken them."""
        # kombu keeps a list for each priority.
        names = [queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))]
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(name)
            return sum(ask(pipe.execute))

    def counts(self) -> dict[str, int]:
        """The counters that the scripts write."""
        flat: Any = ask(lambda: self._client.hgetall(f"{self._base}counts"))
        return {field: int(value) for field, value in flat.items()}

    def _closed(self, names: Sequence[str]) -> dict[str, list[str | None]]:
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(f"{self._base}sender:{name}:closed", "until", "why", "broken", "cause")
            return dict(zip(names, ask(pipe.execute), strict=True))

    def _senders(
        self, paces: Mapping[str, Mapping[str, Any]], every: Sequence[str | None], now_ms: int
    ) -> dict[str, SenderView]:
        names = list(paces)
        closed = self._closed(names)
        # An app's own entry has no window: it only says what closes all of its interfaces.
        names = [name for name in names if paces[name]["windows"]]
        slowest = {name: min(paces[name]["windows"], key=lambda window: window[0] / window[1]) for name in names}
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcount(f"{self._base}sender:{name}:{slowest[name][1]}", f"({now_ms}", "+inf")
            used = ask(pipe.execute)
        views = {}
        for name, permits in zip(names, used, strict=True):
            app = paces[name].get("of", "")
            ways = {name: closed[name], EVERY_SENDER: every} | ({app: closed[app]} if app in closed else {})
            closed_as = max(ways, key=lambda way: int(ways[way][0] or 0))
            until, why, broken, cause = ways[closed_as]
            limit, window_ms = slowest[name]
            shut = until is not None and int(until) > now_ms
            views[name] = SenderView(
                name=name,
                used=permits,
                limit=limit,
                window_ms=window_ms,
                closed_until_ms=int(until) if until is not None and shut else None,
                why=(why or "") if shut or broken == "1" else "",
                broken=broken == "1",
                cause=(cause or "") if shut else "",
                closed_as=closed_as if shut or broken == "1" else "",
            )
        return views

    def _submitted_ms(self, job_ids: Sequence[str]) -> dict[str, int]:
        with self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(f"{self._base}job:{job_id}", "submitted_ms")
            times = ask(pipe.execute)
        return {job_id: int(ms) for job_id, ms in zip(job_ids, times, strict=True) if ms}


def drain_s(waiting: int, senders: Sequence[SenderView], now_ms: int) -> float | None:
    """Seconds until the last of what waits may go, if nothing more comes and every answer is quick."""
    if not waiting:
        return 0.0
    if not senders:
        return None
    opens_s = min(max((sender.closed_until_ms or 0) - now_ms, 0) / 1000 for sender in senders)
    per_s = sum(sender.limit * 1000 / sender.window_ms for sender in senders)
    free = sum(max(sender.limit - sender.used, 0) for sender in senders)
    return opens_s + max(waiting - free, 0) / per_s
