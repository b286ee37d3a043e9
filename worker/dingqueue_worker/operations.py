"""The commands of whoever is on call: lanes and dead letters. Reads the store, prints; decides nothing."""

from __future__ import annotations

import contextlib
import difflib
import getpass
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import IO, Any

import click
from rich.console import Group, RenderableType
from rich.live import Live

from dingqueue import broker
from dingqueue.lanes import Call
from dingqueue.routes import DEFAULT_PREFIX
from dingqueue.servers import Servers
from dingqueue.status import clock
from dingqueue_worker.console import Exit, Seconds, Stop, connection, count, in_order, say, show, span
from dingqueue_worker.located import located
from dingqueue_worker.store import DeadLetter, LaneView, SenderView, Store, StoreUnavailable, drain_s
from dingqueue_worker.tables import Row, console, draw, picture


class Desk:
    """The store and the broker for one command."""

    def __init__(self, at: Servers) -> None:
        prefix = os.environ.get("DINGQUEUE_PREFIX") or DEFAULT_PREFIX
        self.store = Store(at.state_url, prefix=prefix)
        self._publisher = broker.Publisher(at.broker_url, prefix=prefix, timeout_s=2.0)

    def publish(self, calls: Sequence[Call]) -> None:
        """Publish calls; when the broker is away, the pacer makes them again."""
        with contextlib.suppress(Exception):
            self._publisher.publish(calls)

    def close(self) -> None:
        """Let go of the connections."""
        self.store.close()
        self._publisher.close()


@contextlib.contextmanager
def _desk(broker_url: str | None, state_url: str | None) -> Iterator[Desk]:
    at = located(broker_url, state_url)
    desk = Desk(at)
    try:
        yield desk
    except StoreUnavailable as error:
        raise Stop(Exit.UNREACHABLE, at.failed(error.why)) from error
    finally:
        desk.close()


# --- lanes ------------------------------------------------------------------------------------------------------


class _Lanes(click.Group):
    """Takes what is not one of its commands for the name of a lane."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        return "show", _show, args


@click.group(cls=_Lanes, invoke_without_command=True, subcommand_metavar="[DESTINATION…] | COMMAND")
@click.option("--watch", is_flag=True, help="Live, until Ctrl-C.")
@connection
@click.pass_context
def lanes(ctx: click.Context, watch: bool, broker_url: str | None, state_url: str | None, as_json: bool) -> None:
    r"""What waits where, how fast it goes, and what is closed.

    \b
    dingqueue lanes ops build
    dingqueue lanes --watch
    dingqueue lanes pause ops --for 30m --why "moving house"
    """
    if ctx.invoked_subcommand is None:
        _overview((), broker_url, state_url, watch=watch, as_json=as_json)


@click.command("show", hidden=True)
@click.argument("destinations", nargs=-1, required=True, metavar="DESTINATION…")
@click.option("--watch", is_flag=True, help="Live, until Ctrl-C.")
@connection
@click.pass_context
def _show(
    ctx: click.Context, destinations: Sequence[str], watch: bool, broker_url: str | None, state_url: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Only these lanes."""
    above = ctx.parent.params if ctx.parent else {}  # options may stand before the names, too
    _overview(
        destinations, above.get("broker_url") or broker_url, above.get("state_url") or state_url,
        watch=watch or above.get("watch", False), as_json=as_json or above.get("as_json", False),
    )  # fmt: skip


def _overview(
    names: Sequence[str], broker_url: str | None, state_url: str | None, *, watch: bool, as_json: bool
) -> None:
    if watch and not as_json and not sys.stdout.isatty():
        raise Stop(Exit.USAGE, "--watch needs a terminal; with --json it writes a line a second")
    with _desk(broker_url, state_url) as desk:
        if watch:
            _watch(desk.store, names, as_json=as_json)
            return
        now_ms, views = desk.store.overview(names)
        if as_json:
            show([_lane_data(view, now_ms) for view in views])
        elif views:
            draw(_LANE_TITLES, _lane_rows(now_ms, views), numbers=_LANE_NUMBERS)
            for line in _what_to_do(views):
                show(f"\n{line}")
        elif not names:
            show(_NO_LANES)
        _require_lanes(names, {view.destination for view in views}, desk.store)


def _require_lanes(names: Sequence[str], there: Collection[str], store: Store) -> None:
    """Exit code 3 where none of the named lanes is there, 1 where some are."""
    missing = [name for name in names if name not in there]
    if not missing:
        return
    known = store.known()
    commands = [name for name in lanes.commands if name not in known]
    close = {name: difflib.get_close_matches(name, [*known, *commands], n=1) for name in missing}
    meant = [f"did you mean {found[0]}?" for found in close.values() if found]
    raise Stop(
        Exit.NOTHING if len(missing) == len({*names}) else Exit.SOME_FAILED,
        f"no lane is called {', '.join(missing)}; {meant[0] if meant else '`dingqueue lanes` lists them'}",
    )


@lanes.command()
@click.argument("destinations", nargs=-1, required=True, metavar="DESTINATION…")
@click.option(
    "--for", "for_s", type=Seconds(least=1), default="1d", show_default=True, help="It resumes by itself then."
)
@click.option("--why", default="", help="Shown beside the lane and in the status of its jobs.")
@connection
def pause(
    destinations: Sequence[str], for_s: float, why: str, broker_url: str | None, state_url: str | None, as_json: bool
) -> None:
    """Call nothing more to DESTINATION; jobs are still accepted and wait."""
    _hold(destinations, for_s, f"paused by {_who()}{f': {why}' if why else ''}", broker_url, state_url, as_json)


@lanes.command()
@click.argument("destinations", nargs=-1, required=True, metavar="DESTINATION…")
@connection
def resume(destinations: Sequence[str], broker_url: str | None, state_url: str | None, as_json: bool) -> None:
    """Let a paused DESTINATION go on, within its limits."""
    _hold(destinations, 0.0, "", broker_url, state_url, as_json)


def _hold(
    destinations: Sequence[str], for_s: float, why: str, broker_url: str | None, state_url: str | None, as_json: bool
) -> None:
    with _desk(broker_url, state_url) as desk:
        ends = {}
        for name in destinations:
            ends[name], calls = desk.store.hold(name, for_s=for_s, why=why)
            desk.publish(calls)
        if as_json:
            show([{"destination": name, "state": end} for name, end in ends.items()])
        else:
            for name, end in ends.items():
                if end != "unknown destination":
                    show(f"{name}  {end}{f' for {span(for_s)}' if end == 'paused' else ''}")
        there = {name for name, end in ends.items() if end != "unknown destination"}
        _require_lanes(destinations, there, desk.store)


_NO_LANES = "No lanes: no worker has published its destinations here, and nothing waits."
_LANE_TITLES = ("LANE", "WAITING", "OUT", "OLDEST", "DRAINS IN", "SENDERS", "STATE")
_LANE_NUMBERS = frozenset({"WAITING", "OUT", "OLDEST", "DRAINS IN"})


def _watch(store: Store, names: Sequence[str], *, as_json: bool) -> None:
    pause, screen = threading.Event(), console()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        live = None if as_json else stack.enter_context(Live(console=screen, auto_refresh=False, screen=False))
        while True:
            try:
                now_ms, views = store.overview(names)
                if live:
                    live.update(_watched(now_ms, views, width=screen.width), refresh=True)
                else:
                    rows = [_lane_data(view, now_ms) for view in views]
                    show(json.dumps(rows, ensure_ascii=False))
            except StoreUnavailable as error:
                if not live:
                    raise
                live.update(f"{error}; asking again every second", refresh=True)
            pause.wait(1.0)


def _watched(now_ms: int, views: Sequence[LaneView], *, width: int) -> RenderableType:
    if not views:
        return _NO_LANES
    # A terminal that is too short cuts off the end: what nobody need look at stands there.
    ordered = sorted(views, key=lambda view: (_lane_state(view, now_ms) == ["idle"], view.destination))
    drawn = picture(_LANE_TITLES, _lane_rows(now_ms, ordered), numbers=_LANE_NUMBERS, width=width)
    return Group(drawn, *(f"\n{line}" for line in _what_to_do(views)))


def _lane_rows(now_ms: int, views: Sequence[LaneView]) -> list[Row]:
    return [
        Row(
            cells=(
                view.destination,
                f"{view.waiting:,}",
                f"{view.out:,}",
                span((now_ms - view.oldest_ms) / 1000) if view.oldest_ms is not None else "-",
                span(view.drain_s) if view.drain_s and view.waiting else "-",
                [f"{one.name.removeprefix('robot.')} {one.used}/{one.limit} in {span(one.window_ms / 1000)}"
                 for one in view.senders] or "none",
            ),
            note=_lane_state(view, now_ms),
        )
        for view in views
    ]  # fmt: skip


def _lane_state(view: LaneView, now_ms: int) -> list[str]:
    words = []
    if view.held_until_ms and view.held_until_ms > now_ms:
        words.append(f"rests until {_at(view.held_until_ms)}: {view.held_why}")
    words += [_sender_state(one) for one in view.shut]
    if not view.senders:
        words.append("no worker has said how fast it may go: is one running, with this destination configured?")
    if words:
        return words
    if not view.waiting:
        return ["sending" if view.out else "idle"]
    return ["at its limit" if all(one.used >= one.limit for one in view.senders) else "sending"]


def _sender_state(one: SenderView) -> str:
    until = f" until {_at(one.closed_until_ms)}" if one.closed_until_ms else ""
    return (
        f"{(one.closed_as or one.name).removeprefix('robot.')} {'BROKEN' if one.broken else 'closed'}{until}: {one.why}"
    )


def _what_to_do(views: Iterable[LaneView]) -> list[str]:
    broken = sorted({one.closed_as or one.name for view in views for one in view.shut if one.broken})
    return [
        f"{name} is broken: correct its table in dingqueue.toml and restart the workers; its jobs wait and go by themselves."
        for name in broken
    ]


def _at(ms: int) -> str:
    return clock(datetime.fromtimestamp(ms / 1000, UTC))


def _data(view: LaneView | SenderView) -> dict[str, Any]:
    # Not `asdict`, which copies all that it finds: that took longer than asking.
    return {field.name: getattr(view, field.name) for field in fields(view)}


def _lane_data(view: LaneView, now_ms: int) -> dict[str, Any]:
    return _data(view) | {
        "senders": [_data(one) for one in view.senders],
        "beside": [_data(one) for one in view.beside],
        "oldest_s": None if view.oldest_ms is None else (now_ms - view.oldest_ms) / 1000,
        "state": "; ".join(_lane_state(view, now_ms)),
    }


# --- dead letters -----------------------------------------------------------------------------------------------


@click.group()
def dead() -> None:
    r"""Read, replay, export or drop jobs that no attempt could deliver.

    \b
    dingqueue dead list --destination ops --newer 1h
    dingqueue dead replay --all --reason keyword --dry-run
    """


_filters = in_order(
    click.option("--destination", "-d", metavar="NAME", help="Only those for this destination."),
    click.option("--reason", "-r", metavar="WORDS", help="Only those whose reason or cause holds these words."),
    click.option("--older", "older_s", type=Seconds(), help="Only those dead for longer."),
    click.option("--newer", "newer_s", type=Seconds(), help="Only those dead for less."),
    connection,
)


def _matching(
    store: Store,
    job_ids: Sequence[str] = (),
    *,
    destination: str | None,
    reason: str | None,
    older_s: float | None,
    newer_s: float | None,
) -> Iterator[DeadLetter]:
    now_ms = store.now_ms()  # deaths are told by Redis's clock
    if job_ids:
        found: Iterable[DeadLetter | None] = (store.dead_letter(job_id) for job_id in job_ids)
    else:
        found = store.dead(
            until_ms=None if older_s is None else now_ms - round(older_s * 1000),
            since_ms=None if newer_s is None else now_ms - round(newer_s * 1000),
        )
    for letter in found:
        if letter is None or (destination and letter.destination != destination):
            continue
        if reason and reason.lower() not in f"{letter.cause} {letter.reason}".lower():
            continue
        yield letter


@dead.command("list")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="Oldest first, this many at most."
)
@_filters
def list_(limit: int, broker_url: str | None, state_url: str | None, as_json: bool, **filters: Any) -> None:
    """List dead letters, oldest first, without their text."""
    with _desk(broker_url, state_url) as desk:
        letters = list(_matching(desk.store, **filters))
    if as_json:
        show([_letter_data(letter) for letter in letters[:limit]])
    elif letters:
        draw(("JOB", "KIND", "DESTINATION", "DIED", "ATTEMPTS", "REASON"), [
            Row(cells=(one.job_id, one.kind, one.destination, _at(one.died_ms), str(one.attempts)), note=[one.reason])
            for one in letters[:limit]
        ], numbers=frozenset({"ATTEMPTS"}))  # fmt: skip
        if len(letters) > limit:
            say(f"{len(letters) - limit:,} more; --limit shows them")
    if not letters:
        raise _nothing_dead(())


@dead.command("show")
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB…")
@connection
def show_(job_ids: Sequence[str], broker_url: str | None, state_url: str | None, as_json: bool) -> None:
    """Show dead letters whole: the message too."""
    with _desk(broker_url, state_url) as desk:
        letters = [letter for letter in map(desk.store.dead_letter, job_ids) if letter]
    if as_json:
        show([_letter_data(letter, whole=True) for letter in letters])
    else:
        for letter in letters:
            show(_letter_text(letter))
    _missing(job_ids, letters)


@dead.command()
@click.argument("job_ids", nargs=-1, metavar="[JOB…]")
@click.option("--output", "-o", type=click.File("w", encoding="utf-8"), default="-", help="A file; - is stdout.")
@_filters
def export(
    job_ids: Sequence[str],
    output: IO[str],
    broker_url: str | None,
    state_url: str | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Write dead letters whole, one JSON document a line."""
    exported = 0
    with _desk(broker_url, state_url) as desk:
        for letter in desk.store.whole(_matching(desk.store, job_ids, **filters)):
            output.write(json.dumps(_letter_data(letter, whole=True), ensure_ascii=False) + "\n")
            exported += 1
    say(f"{exported:,} exported")
    if not exported:
        raise _nothing_dead(job_ids)


@dead.command()
@click.argument("job_ids", nargs=-1, metavar="[JOB…]")
@click.option("--all", "everything", is_flag=True, help="All that the filters leave; needed when no JOB is named.")
@click.option(
    "--expires",
    "expires_s",
    type=Seconds(least=1),
    default="1d",
    show_default=True,
    help="Not worth sending later than this after now.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be replayed and how long it would take.")
@_filters
def replay(
    job_ids: Sequence[str], everything: bool, expires_s: float, dry_run: bool,
    broker_url: str | None, state_url: str | None, as_json: bool, **filters: Any,
) -> None:  # fmt: skip
    """Put dead jobs back at their old places, under their old ids.

    They go at their lanes' pace, within every limit.

    May be interrupted: what was not replayed is still dead, and the same command goes on with it.
    """
    with _desk(broker_url, state_url) as desk:
        letters = _chosen(desk.store, job_ids, everything, filters, as_json=as_json)
        # In a lane what was submitted first goes first, however late it died.
        letters.sort(key=lambda letter: (letter.place, letter.destination))
        estimate = _estimate(desk.store, letters)
        if dry_run:
            _tell_plan("replayed", letters, estimate, as_json)
            return
        say(f"{len(letters):,} to replay{estimate}")
        ends: dict[str, str] = {}
        try:
            with _progress(letters, "Replaying", quiet=as_json) as rows:
                for letter in rows:
                    ends[letter.job_id], calls = desk.store.replay(letter.job_id, expires_s=expires_s, by=_who())
                    desk.publish(calls)
        except KeyboardInterrupt:
            words = f"interrupted; {len(ends):,} of {len(letters):,} replayed: the same command goes on with the others"
            raise Stop(Exit.INTERRUPTED, words) from None
    _tell_ends(ends, "waiting", "replayed", as_json)
    _missing(job_ids, letters)


@dead.command()
@click.argument("job_ids", nargs=-1, metavar="[JOB…]")
@click.option("--all", "everything", is_flag=True, help="All that the filters leave; needed when no JOB is named.")
@click.option("--dry-run", is_flag=True, help="Show what would be dropped.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@_filters
def drop(
    job_ids: Sequence[str], everything: bool, dry_run: bool, yes: bool,
    broker_url: str | None, state_url: str | None, as_json: bool, **filters: Any,
) -> None:  # fmt: skip
    """Forget dead jobs for good (`dingqueue dead export` keeps a copy)."""
    with _desk(broker_url, state_url) as desk:
        letters = _chosen(desk.store, job_ids, everything, filters, as_json=as_json)
        if dry_run:
            _tell_plan("dropped", letters, "", as_json)
            return
        if not yes and not click.confirm(f"Drop {count(len(letters), 'dead job')} for good?", err=True):
            raise Stop(Exit.SOME_FAILED, "nothing was dropped")
        with _progress(letters, "Dropping", quiet=as_json) as rows:
            ends = {letter.job_id: desk.store.drop(letter.job_id) for letter in rows}
    _tell_ends(ends, "dropped", "dropped", as_json)
    _missing(job_ids, letters)


def _chosen(
    store: Store, job_ids: Sequence[str], everything: bool, filters: dict[str, Any], *, as_json: bool
) -> list[DeadLetter]:
    if not job_ids and not everything:
        raise Stop(
            Exit.USAGE,
            "name jobs, or say --all (with --destination, --reason, --older, --newer); --dry-run shows which",
        )
    letters = list(_matching(store, job_ids, **filters))
    if not letters:
        if as_json:
            show([])
        raise _nothing_dead(job_ids)
    return letters


def _nothing_dead(job_ids: Sequence[str]) -> Stop:
    return Stop(Exit.NOTHING, f"not among the dead: {', '.join(job_ids)}" if job_ids else "no dead letter matches")


def _estimate(store: Store, letters: Sequence[DeadLetter]) -> str:
    """How long the lanes need for these jobs, in words; empty when they go at once, or no lane can tell."""
    each = Counter(letter.destination for letter in letters)
    now_ms, views = store.overview(each)
    senders = {view.destination: view.senders for view in views}
    needed = (drain_s(count, senders.get(name, ()), now_ms) for name, count in each.items())
    slowest = max((one for one in needed if one is not None), default=None)
    return "" if not slowest else f", about {span(slowest)} at the lanes' pace"


@contextlib.contextmanager
def _progress(letters: Sequence[DeadLetter], label: str, *, quiet: bool) -> Iterator[Iterable[DeadLetter]]:
    if quiet or len(letters) < 100:
        yield letters
        return
    with click.progressbar(letters, label=label, show_pos=True, file=sys.stderr) as bar:
        yield bar


def _tell_plan(verb: str, letters: Sequence[DeadLetter], estimate: str, as_json: bool) -> None:
    if as_json:
        show([_letter_data(letter) for letter in letters])
        return
    for destination, number in sorted(Counter(letter.destination for letter in letters).items()):
        show(f"{destination}  {number:,} would be {verb}")
    say(f"{len(letters):,} would be {verb}{estimate}; nothing was changed")


def _tell_ends(ends: dict[str, str], good: str, verb: str, as_json: bool) -> None:
    if as_json:
        show([{"job_id": job_id, "state": end} for job_id, end in ends.items()])
    elif len(ends) <= 20:
        for job_id, end in ends.items():
            show(f"{job_id}  {verb if end == good else f'not {verb}: {end}'}")
    done = sum(end == good for end in ends.values())
    say(f"{done:,} {verb}")
    if done < len(ends):
        raise Stop(Exit.SOME_FAILED, f"{len(ends) - done} were not {verb}: they are not dead any more")


def _missing(job_ids: Sequence[str], letters: Sequence[DeadLetter]) -> None:
    missing = sorted({*job_ids} - {letter.job_id for letter in letters})
    if missing:
        raise Stop(Exit.SOME_FAILED if letters else Exit.NOTHING, f"not among the dead: {', '.join(missing)}")


def _letter_data(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    data = {
        "job_id": letter.job_id,
        "kind": letter.kind,
        "destination": letter.destination,
        "reason": letter.reason,
        "cause": letter.cause,
        "attempts": letter.attempts,
        "replays": letter.replays,
        "submitted_at": datetime.fromtimestamp(letter.submitted_ms / 1000, UTC).isoformat(),
        "died_at": datetime.fromtimestamp(letter.died_ms / 1000, UTC).isoformat(),
    }
    return data | ({"job": json.loads(letter.body) if letter.body else None} if whole else {})


def _letter_text(letter: DeadLetter) -> str:
    data = _letter_data(letter, whole=True)
    job = data.pop("job")
    width = max(map(len, data))
    lines = [f"{name:<{width}}  {value}" for name, value in data.items()]
    return "\n".join([*lines, "job", json.dumps(job, ensure_ascii=False, indent=2), ""])


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"
