"""How the fleet stands, for people and for metrics. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias

from dingqueue_worker.outcome import EVERY_SENDER
from dingqueue_worker.store.door import Door, ask

#: Scores of jobs that are not urgent begin here, as in call.lua.
_NORMAL = 4_000_000_000_000_000
#: DingTalk bills by Beijing's calendar.
_BILLED_IN = timezone(timedelta(hours=8))


#: Lanes or senders of which one question asks whether there is anything to ask.
_TOGETHER = 32

_Paces: TypeAlias = Mapping[str, Mapping[str, Any]]
#: How many wait in a lane, how many are out, and the first that waits, with its score.
_Row: TypeAlias = tuple[int, int, Sequence[tuple[str, float]]]
_IDLE: _Row = (0, 0, ())
_NO_PACE: Mapping[str, Any] = {"senders": ()}
#: Of a sender that nothing closed: until, why, broken, cause.
_OPEN: Sequence[str | None] = (None, None, None, None)


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

    def overview(self, destinations: Collection[str] = ()) -> tuple[int, list[LaneView]]:
        """Now (ms since 1970, the server's) and every lane that the fleet knows or that has something waiting.

        Args:
            destinations: Only these, where they are among them; empty is all.
        """
        now_ms, lanes, _, _ = self._looked(destinations)
        return now_ms, lanes

    def known(self) -> list[str]:
        """Every lane that `overview` shows, by its destination's name."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hkeys(f"{self._base}pace")
            pipe.zrange(f"{self._base}due", 0, -1)
            told, due = ask(pipe.execute)
        return sorted({*told, *due})

    def _looked(self, only: Collection[str]) -> tuple[int, list[LaneView], dict[str, SenderView], _Paces]:
        """What `overview` shows, each sender as it stands, and the senders' paces."""
        now_ms, paces, due = self._told(only)
        sender_paces = self._sender_paces(paces.values() if only else None)
        every = self._closed([EVERY_SENDER])[EVERY_SENDER]
        senders = self._senders(sender_paces, every, now_ms)
        names = sorted({*paces, *due})
        # Most lanes are idle: a few questions about many at once find those that are not.
        idle = [name for name in names if name not in due]
        active = sorted({*due, *self._perhaps(idle, "lane:{}", "busy:{}")})
        rows = dict(zip(active, self._in(active), strict=True))
        oldest = self._oldest_ms(rows)
        held = self._held(self._perhaps(names, "hold:{}"))
        lanes = []
        for name in names:
            waiting, out, _ = rows.get(name, _IDLE)
            held_ms, held_why = held.get(name, (0, ""))
            pace = paces.get(name, _NO_PACE)
            main = pace["routes"][pace["first"]["send"]]["senders"] if "routes" in pace else pace["senders"]
            own = tuple(senders[sender] for sender in main if sender in senders)
            lanes.append(
                LaneView(
                    destination=name,
                    waiting=waiting,
                    out=out,
                    oldest_ms=oldest.get(name),
                    held_until_ms=held_ms or None,
                    held_why=held_why,
                    drain_s=drain_s(waiting, own, now_ms),
                    senders=own,
                    beside=tuple(
                        senders[sender] for sender in pace["senders"] if sender in senders and sender not in main
                    ),
                )
            )
        return now_ms, lanes, senders, sender_paces

    def _told(self, only: Collection[str]) -> tuple[int, _Paces, set[str]]:
        """Now, what the fleet says of its lanes, and those where something is due."""
        chosen = sorted({*only})
        with self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            if chosen:
                pipe.hmget(f"{self._base}pace", chosen)
                for name in chosen:
                    pipe.zscore(f"{self._base}due", name)
                (seconds, micros), texts, *scores = ask(pipe.execute)
                told = {name: text for name, text in zip(chosen, texts, strict=True) if text}
                due = {name for name, score in zip(chosen, scores, strict=True) if score is not None}
            else:
                pipe.hgetall(f"{self._base}pace")
                pipe.zrange(f"{self._base}due", 0, -1)
                (seconds, micros), told, found = ask(pipe.execute)
                due = set(found)
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        return now_ms, {name: json.loads(text) for name, text in told.items()}, due

    def _sender_paces(self, lanes: Iterable[Mapping[str, Any]] | None) -> _Paces:
        """The paces of these lanes' senders; None is of all."""
        key = f"{self._base}senders"
        if lanes is None:
            told: Any = ask(lambda: [self._client.hgetall(key)])[0]
        else:
            names = sorted({sender for pace in lanes for sender in pace["senders"]})
            texts: Any = ask(lambda: self._client.hmget(key, names)) if names else []
            told = {name: text for name, text in zip(names, texts, strict=True) if text}
        return {name: json.loads(text) for name, text in told.items()}

    def _perhaps(self, names: Sequence[str], *keys: str) -> list[str]:
        """Without those of which surely none of these keys is there. Asked for many at once: a command for each costs more."""
        with self._client.pipeline(transaction=False) as pipe:
            for at in range(0, len(names), _TOGETHER):
                pipe.exists(*(self._base + key.format(name) for name in names[at : at + _TOGETHER] for key in keys))
            found = ask(pipe.execute)
        return [
            name
            for place, there in enumerate(found)
            if there
            for name in names[place * _TOGETHER : (place + 1) * _TOGETHER]
        ]

    def _in(self, names: Sequence[str]) -> list[_Row]:
        """How many wait in each lane, how many are out, and what stands first."""
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(f"{self._base}lane:{name}")
                pipe.zcard(f"{self._base}busy:{name}")
                pipe.zrange(f"{self._base}lane:{name}", 0, 0, withscores=True)
            flat = ask(pipe.execute)
        return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))

    def _oldest_ms(self, rows: Mapping[str, _Row]) -> dict[str, int]:
        """When the job was submitted that has waited longest in each lane."""
        first = {name: [str(row[2][0][0])] for name, row in rows.items() if row[2]}
        # Urgent jobs, and those in mid-steps, stand before older ones.
        passed = [name for name, row in rows.items() if row[2] and row[2][0][1] < _NORMAL]
        with self._client.pipeline(transaction=False) as pipe:
            for name in passed:
                pipe.zrange(f"{self._base}lane:{name}", _NORMAL, "+inf", byscore=True, offset=0, num=1)
            for name, normal in zip(passed, ask(pipe.execute), strict=True):
                first[name] += normal
        submitted = self._submitted_ms([job_id for ids in first.values() for job_id in ids])
        times = {name: [submitted[one] for one in ids if one in submitted] for name, ids in first.items()}
        return {name: min(found) for name, found in times.items() if found}

    def _held(self, names: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Until when each lane rests by itself, and why; 0 where it does not."""
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(f"{self._base}hold:{name}", "until", "why", "rests", "rests_why")
            rows = ask(pipe.execute)
        return {
            name: max((int(paused or 0), paused_why or ""), (int(rests or 0), rests_why or ""))
            for name, (paused, paused_why, rests, rests_why) in zip(names, rows, strict=True)
        }

    def figures(self) -> Figures:
        """The whole fleet in numbers: a few round trips, O(lanes and senders), and nothing is written.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        now_ms, lanes, senders, paces = self._looked(())
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

    def _closed(self, names: Sequence[str]) -> dict[str, Sequence[str | None]]:
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(f"{self._base}sender:{name}:closed", "until", "why", "broken", "cause")
            return dict(zip(names, ask(pipe.execute), strict=True))

    def _senders(self, paces: _Paces, every: Sequence[str | None], now_ms: int) -> dict[str, SenderView]:
        closed = self._closed(self._perhaps(sorted({*paces, *self._apps(paces)}), "sender:{}:closed"))
        # An app's own entry has no window: it only says what closes all of its interfaces.
        names = [name for name in paces if paces[name]["windows"]]
        slowest = {name: min(paces[name]["windows"], key=lambda window: window[0] / window[1]) for name in names}
        used = self._used({name: f"{name}:{window_ms}" for name, (_, window_ms) in slowest.items()}, now_ms)
        views = {}
        for name in names:
            app = paces[name].get("of", "")
            ways = {name: closed.get(name, _OPEN), EVERY_SENDER: every} | ({app: closed.get(app, _OPEN)} if app else {})
            closed_as = max(ways, key=lambda way: int(ways[way][0] or 0))
            until, why, broken, cause = ways[closed_as]
            limit, window_ms = slowest[name]
            shut = until is not None and int(until) > now_ms
            views[name] = SenderView(
                name=name,
                used=used.get(name, 0),
                limit=limit,
                window_ms=window_ms,
                closed_until_ms=int(until) if until is not None and shut else None,
                why=(why or "") if shut or broken == "1" else "",
                broken=broken == "1",
                cause=(cause or "") if shut else "",
                closed_as=closed_as if shut or broken == "1" else "",
            )
        return views

    @staticmethod
    def _apps(paces: _Paces) -> set[str]:
        return {pace["of"] for pace in paces.values() if pace.get("of")}

    def _used(self, windows: Mapping[str, str], now_ms: int) -> dict[str, int]:
        """How many permits count now, by the sender's name; without those that have none."""
        asked = {*self._perhaps(list(windows.values()), "sender:{}")}
        names = [name for name, window in windows.items() if window in asked]
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcount(f"{self._base}sender:{windows[name]}", f"({now_ms}", "+inf")
            return dict(zip(names, ask(pipe.execute), strict=True))

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
