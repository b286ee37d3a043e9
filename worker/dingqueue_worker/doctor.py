"""``dingqueue doctor``: looks at everything the fleet needs and says what is wrong and what to type. Changes nothing."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args
from urllib.parse import urlsplit

import click
from celery import Celery

from dingqueue import broker
from dingqueue.addresses import is_redis, redis_address, scheme_of
from dingqueue.files.store import FileStoreUnavailable, open_store
from dingqueue.routes import queue_name
from dingqueue.servers import Refusal, place, refusal
from dingqueue.status import clock
from dingqueue_worker.configuration import DEFAULT_CONFIG, ConfigurationError, load
from dingqueue_worker.console import Exit, Seconds, as_json, config_option, count, show, span
from dingqueue_worker.dingtalk.answers import Answer, Taken, read_older
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.dingtalk.errors import NoAnswer
from dingqueue_worker.outcome import Accepted, Delivered, Snooze, Unknown
from dingqueue_worker.pace import app_mark
from dingqueue_worker.routing import RESULT, Route
from dingqueue_worker.settings import Destination, Settings
from dingqueue_worker.store import LaneView, SenderView, ServerFacts, Store, StoreUnavailable, TokenView

State: TypeAlias = Literal["ok", "warn", "fail"]

#: DingTalk takes a signature for an hour. https://open.dingtalk.com/document/dingstart/customize-robot-security-settings
_SKEW_FAIL_S = 1800.0
_SKEW_WARN_S = 60.0
_MEMORY_WARN = 0.8
_SET_CLOCK = "timedatectl set-ntp true"
#: Of the time for a question, DingTalk's share: what a request's end says is more than that there was none in time.
_SHARE = 0.9

_LATE = Refusal(said="did not answer in time")
#: Redis, or who should have said where it is, has told what to change.
_AS_IT_SAYS = "as it says; ops/REDIS.md has the forms of {}"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        check: Its name, stable for scripts.
        state: ``ok``; ``warn`` is worth a look; ``fail`` loses, stops or delays messages.
        words: What was found; holds no secret.
        fix: What to type or change, "" where nothing is to be done.
        unreachable: True where Redis, the broker or DingTalk did not answer.
    """

    check: str
    state: State
    words: str
    fix: str = ""
    unreachable: bool = False


def ok(check: str, words: str) -> Finding:
    """Nothing to do."""
    return Finding(check=check, state="ok", words=words)


def warn(check: str, words: str, fix: str) -> Finding:
    """Worth a look."""
    return Finding(check=check, state="warn", words=words, fix=fix)


def fail(check: str, words: str, fix: str, *, unreachable: bool = False) -> Finding:
    """Loses, stops or delays messages."""
    return Finding(check=check, state="fail", words=words, fix=fix, unreachable=unreachable)


@click.command()
@config_option
@click.option(
    "--timeout", "timeout_s", type=Seconds(least=0.1), default="5s", show_default=True, help="For each question."
)
@as_json
def doctor(config: Path | None, timeout_s: float, as_json: bool) -> None:
    """Say what is wrong, and what to type.

    Looks at the configuration, Redis, the broker, workers, clocks, DingTalk and what the fleet says of itself. Nothing is sent and nothing is changed. Exit code 0: nothing fails; 1: something does; 2: the configuration is
    wrong; 4: Redis, the broker or DingTalk cannot be reached.
    """
    environ = {**os.environ, **({"DINGQUEUE_CONFIG": str(config)} if config else {})}
    findings = []
    for finding in examine(environ, timeout_s=timeout_s):
        findings.append(finding)
        if not as_json:
            show(_line(finding))
    code = _exit_code(findings)
    if as_json:
        show({"exit_code": int(code), "checks": [_data(finding) for finding in findings]})
    sys.exit(code)


def examine(environ: Mapping[str, str], *, timeout_s: float) -> Iterator[Finding]:
    """Every check in turn. Only the configuration's failure ends them early.

    Args:
        environ: As ``configuration.load`` reads it.
        timeout_s: The longest that one question may take.
    """
    try:
        settings = load(environ)
    except ConfigurationError as error:
        for problem in error.lines:
            yield fail("configuration", problem, "correct it and run dingqueue doctor again")
        return
    yield ok("configuration", _counted(settings, environ))
    store = Store(settings.state_url, prefix=settings.prefix, patience_s=1.0)
    app = broker.producer_app(settings.broker_url, prefix=settings.prefix, timeout_s=min(timeout_s, 2.0))
    try:
        answered = False
        for finding in _redis(store, settings, timeout_s):
            answered = not finding.unreachable
            yield finding
        if settings.files_url:
            yield _file_store(settings, timeout_s)
        workers: Sequence[str] = ()
        yield (reached := _broker(app, settings, timeout_s))
        if not reached.unreachable:
            workers = _workers(app, settings, timeout_s)
            yield _workers_finding(workers, settings)
        yield from _dingtalk(settings, timeout_s)
        if answered:
            yield from _fleet(store, settings, timeout_s, any_worker=bool(workers))
    finally:
        store.close()
        app.close()


# --- Redis --------------------------------------------------------------------------------------------------------


def _redis(store: Store, settings: Settings, timeout_s: float) -> Iterator[Finding]:
    where = place(settings.state_url)
    began_s = time.monotonic()
    try:
        facts = _within(timeout_s, store.server_facts)
        took_s = time.monotonic() - began_s
        before_ms = _now_ms()
        redis_ms = _within(timeout_s, store.now_ms)
        after_ms = _now_ms()
    except (StoreUnavailable, TimeoutError) as error:
        why = error.why if isinstance(error, StoreUnavailable) else _LATE
        fix = (
            _AS_IT_SAYS.format("DINGQUEUE_STATE_URL (or DINGQUEUE_BROKER_URL)")
            if why.answered
            else f"{_redis_cli(settings)} PING; is DINGQUEUE_STATE_URL (or DINGQUEUE_BROKER_URL) right, and the password?"
        )
        yield fail("redis", f"{where} {why.said}", fix, unreachable=True)
        return
    yield from server_findings(facts, where=where, took_s=took_s, redis_cli=_redis_cli(settings))
    # What the question took is not skew: only a clock outside of both readings is off.
    off_ms = redis_ms - before_ms if redis_ms < before_ms else max(redis_ms - after_ms, 0)
    yield redis_clock_finding(off_ms / 1000)


def _file_store(settings: Settings, timeout_s: float) -> Finding:
    check, url = "file store", settings.files_url or settings.state_url
    try:
        files = open_store(url, prefix=settings.prefix, timeout_s=timeout_s)
        _within(timeout_s, files.look)
    except (FileStoreUnavailable, TimeoutError) as error:
        said = str(error) or "no answer in time"
        fix = "is DINGQUEUE_FILES_URL right, and the same for applications and workers?"
        return fail(check, said, fix, unreachable=True)
    return ok(check, f"{files.kind}: shared files wait there")


def server_findings(facts: ServerFacts, *, where: str, took_s: float, redis_cli: str) -> Iterator[Finding]:
    """What a server says of itself, judged."""
    named = f"{facts.name} {facts.version} at {where}"
    if problem := facts.outdated():
        yield fail("redis", f"{named}: {problem}", "upgrade the server")
    elif facts.replica:
        yield fail("redis", f"{named} is a replica: it takes no jobs", "name the primary in DINGQUEUE_STATE_URL")
    else:
        yield ok("redis", f"{named} answers in {took_s * 1000:.0f} ms")
    if facts.policy == "noeviction":
        yield ok("eviction", "noeviction: a full server refuses jobs aloud, and loses none")
    else:
        yield fail(
            "eviction",
            f"waiting jobs may be evicted (maxmemory-policy {facts.policy}), and workers refuse to start",
            f"{redis_cli} CONFIG SET maxmemory-policy noeviction, and the same in the server's configuration",
        )
    if facts.append_only:
        yield ok("persistence", "the append-only file is on")
    else:
        yield warn(
            "persistence",
            "the append-only file is off: a restart of the server loses what waits",
            f"{redis_cli} CONFIG SET appendonly yes, and the same in the server's configuration",
        )
    if facts.most_bytes and facts.used_bytes > _MEMORY_WARN * facts.most_bytes:
        yield warn(
            "memory",
            f"{facts.used_bytes / facts.most_bytes:.0%} of maxmemory is used; when it is full, no job is accepted",
            f"{redis_cli} CONFIG SET maxmemory {2 * facts.most_bytes}, or dingqueue lanes to see what waits",
        )


def redis_clock_finding(off_s: float) -> Finding:
    """This machine's clock against Redis's, which times every limit and every ``at``."""
    if abs(off_s) < _SKEW_WARN_S:
        return ok("clock of redis", f"within {max(abs(off_s), 1):.0f} s of this machine's")
    words = f"Redis's is {span(abs(off_s))} {'ahead of' if off_s > 0 else 'behind'} this machine's"
    return warn("clock of redis", f"{words}: jobs with a time go by Redis's", f"{_SET_CLOCK}, on both machines")


# --- The broker and the workers -----------------------------------------------------------------------------------


def _broker(app: Celery, settings: Settings, timeout_s: float) -> Finding:
    named = f"{scheme_of(settings.broker_url)} at {place(settings.broker_url)}"

    def connect() -> None:
        with app.connection_for_write() as connection:
            # Once: what kombu does by itself is to ask again after two seconds, and the first answer is what counts.
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            channel: Any = connection.channel()
            if is_redis(settings.broker_url):
                # A Sentinel takes connections, and knows no queues.
                channel.client.llen(queue_name(settings.prefix))

    try:
        _within(timeout_s, connect)
    except Exception as error:  # noqa: BLE001 - every transport has its own, and its text may hold the URL
        why = _LATE if isinstance(error, TimeoutError) else refusal(error)
        fix = (
            _AS_IT_SAYS.format("DINGQUEUE_BROKER_URL")
            if why.answered
            else "is it running, and are DINGQUEUE_BROKER_URL and its password right?"
        )
        return fail("broker", f"{named} {why.said}", fix, unreachable=True)
    return ok("broker", f"{named} takes connections")


def _workers(app: Celery, settings: Settings, timeout_s: float) -> Sequence[str]:
    """The names of the workers that listen for this fleet's jobs."""
    queue = queue_name(settings.prefix)
    deadline_s = time.monotonic() + timeout_s
    # Most answer at once, but everybody has to be waited for; a busy one gets a second, longer chance.
    for patience_s in (1.0, timeout_s):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            break
        # One by one, so that who has answered is known also where the question is not over in time.
        answers: list[Mapping[str, Any]] = []
        inspect = app.control.inspect(timeout=min(patience_s, left_s), callback=answers.append)
        with contextlib.suppress(Exception):  # a broker that went away meanwhile is a broker without workers
            _within(left_s, inspect.active_queues)
        found = [
            name
            for answer in answers
            for name, queues in answer.items()
            if isinstance(queues, list)  # else it could not say
            and any(one.get("name") == queue for one in queues)
        ]
        if found:
            return sorted(found)
    return ()


def _workers_finding(workers: Sequence[str], settings: Settings) -> Finding:
    queue = queue_name(settings.prefix)
    if not workers:
        return fail("workers", f"none answers on the queue {queue}: jobs are accepted and wait", "dingqueue worker")
    shown = ", ".join(workers[:5]) + (f" and {len(workers) - 5} more" if len(workers) > 5 else "")
    return ok("workers", f"{len(workers)} on the queue {queue}: {shown}")


# --- DingTalk -----------------------------------------------------------------------------------------------------


def _dingtalk(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    try:
        api = Api(
            oapi_url=settings.oapi_url,
            api_url=settings.api_url,
            connect_timeout_s=timeout_s,
            read_timeout_s=timeout_s,
            total_timeout_s=timeout_s * _SHARE,
            pool_size=1,
        )
    except ValueError as error:
        yield fail("dingtalk", str(error), "export HTTPS_PROXY=http://…", unreachable=True)
        return
    with api:
        questions = [("dingtalk", settings.oapi_url, api.knock)]
        if settings.apps:
            questions.append(("dingtalk (newer host)", settings.api_url, api.knock_newer))
        for check, url, knock in questions:
            host = urlsplit(url).hostname or ""
            try:
                began_s = time.monotonic()
                answer = _within(timeout_s, knock)
                took_s = time.monotonic() - began_s
            except (NoAnswer, TimeoutError) as error:
                said = str(error) or "no answer in time"
                fix = f"curl -sS {shlex.quote(url)}; behind a proxy: export HTTPS_PROXY=http://…"
                yield fail(check, f"{host} cannot be reached: {said}", fix, unreachable=True)
                continue
            yield dingtalk_finding(check, host, answer, took_s=took_s)
            if check == "dingtalk":
                yield dingtalk_clock_finding(answer.date, now=datetime.now(UTC))


def dingtalk_finding(check: str, host: str, answer: Answer, *, took_s: float) -> Finding:
    """What an answer to a call without credentials says: any refusal in DingTalk's own words is a good sign."""
    meant = read_older(answer)
    match meant:
        case Taken() | Delivered() | Accepted():
            pass
        case Snooze(close=close, why=why) if close is not None and close.cause == "ban":
            fix = "wait ten minutes and send less from this address; is a proxy or a sign-in page in between?"
            return fail(check, f"{host} refuses this address: {why}", fix, unreachable=True)
        case Unknown(why=why):
            return warn(
                check, f"{host} answers strangely: {why}", f"is this DingTalk? curl -sSi https://{host}/robot/send"
            )
        case _ if answer.status >= 500:
            return warn(check, f"{host} is in trouble: {meant.why}", "try again in a minute")
        case _ if answer.status in {404, 407}:
            return fail(check, f"{host}: {meant.why}", "check DINGQUEUE_OAPI_URL, DINGQUEUE_API_URL and HTTPS_PROXY")
        case _:
            pass
    return ok(check, f"{host} answers in {took_s * 1000:.0f} ms")


def dingtalk_clock_finding(date: str | None, *, now: datetime) -> Finding:
    """This machine's clock against DingTalk's, which judges signatures."""
    check = "clock of dingtalk"
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return warn(check, "the answer names no time: the clock was not compared", "date -u, and compare by hand")
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    off_s = (now - theirs).total_seconds()
    if abs(off_s) < _SKEW_WARN_S:
        return ok(check, f"within {max(abs(off_s), 1):.0f} s of this machine's")
    words = f"this machine's is {span(abs(off_s))} {'ahead' if off_s > 0 else 'behind'}"
    if abs(off_s) < _SKEW_FAIL_S:
        return warn(check, f"{words}; signatures are refused from an hour on", _SET_CLOCK)
    return fail(check, f"{words}: signed robots refuse, or soon will", _SET_CLOCK)


# --- What the fleet says of itself --------------------------------------------------------------------------------


def _fleet(store: Store, settings: Settings, timeout_s: float, *, any_worker: bool) -> Iterator[Finding]:
    try:
        now_ms, lanes = _within(timeout_s, store.overview)
        dead = _within(timeout_s, store.dead_count)
        tokens = {
            app.name: _within(timeout_s, partial(store.token_view, app.name, app_mark(app)))
            for app in settings.apps.values()
        }
    except (StoreUnavailable, TimeoutError) as error:
        yield fail(
            "lanes", str(error) or "Redis did not answer in time", f"{_redis_cli(settings)} PING", unreachable=True
        )
        return
    yield from (token_finding(name, token_ms, view) for name, (token_ms, view) in tokens.items())
    yield from sender_findings(lanes)
    yield from lane_findings(lanes, settings.destinations, now_ms=now_ms, any_worker=any_worker)
    if dead:
        yield warn(
            "dead letters", f"{count(dead, 'job')} not delivered, kept for a person to decide", "dingqueue dead list"
        )
    else:
        yield ok("dead letters", "none")


def token_finding(app: str, now_ms: int, view: TokenView | None) -> Finding:
    """An app's token, as the fleet holds it."""
    if view is None:
        return ok("app token", f"{app}: not asked for yet")
    if view.usable_ms > now_ms:
        return ok("app token", f"{app}: good for {span((view.usable_ms - now_ms) / 1000)}")
    if view.bad:
        fix = f"correct app_key and app_secret of [apps.{app}] in dingqueue.toml and restart the workers"
        return fail("app token", f"{app}: DingTalk refuses the credentials: {view.why}", fix)
    if view.fails:
        return fail("app token", f"{app}: none, and {view.fails} questions failed: {view.why}", "dingqueue tokens")
    return ok("app token", f"{app}: run out; it is fetched when it is needed")


def sender_findings(lanes: Sequence[LaneView]) -> Iterator[Finding]:
    """Closed and broken senders; one line that all are open otherwise."""
    senders: dict[str, SenderView] = {one.name: one for lane in lanes for one in (*lane.senders, *lane.beside)}
    shut = {one.closed_as or one.name: one for lane in lanes for one in lane.shut}
    for name, one in shut.items():
        until = f" until {_at(one.closed_until_ms)}" if one.closed_until_ms else ""
        if one.broken:
            fix = (
                f"correct {_table(name)} in dingqueue.toml and restart the workers; its jobs wait, and go by themselves"
            )
            yield fail("sender", f"{name} is broken: {one.why}", fix)
        else:
            yield warn("sender", f"{name} is closed{until}: {one.why}", "nothing: it opens by itself (dingqueue lanes)")
    if not shut:
        yield ok("senders", f"{len(senders)} open" if senders else "none yet: no worker has published its pace")


def lane_findings(
    lanes: Sequence[LaneView], destinations: Mapping[str, Destination], *, now_ms: int, any_worker: bool
) -> Iterator[Finding]:
    """Lanes that cannot keep up, rest, or are not what this configuration says."""
    known = {lane.destination for lane in lanes if lane.senders}
    missing = sorted(destinations.keys() - known)
    if any_worker and missing:
        words = f"the workers do not know {', '.join(missing)}: they read another file, or this one before it changed"
        yield fail("destinations", words, "restart the workers (dingqueue worker) with this configuration")
    for lane in lanes:
        if lane.waiting and not lane.senders:
            words = f"{lane.destination} has {count(lane.waiting, 'job')} waiting and nobody to send them"
            if lane.destination not in destinations:
                fix = f"add [destinations.{lane.destination}] to dingqueue.toml and restart the workers"
            else:
                fix = "restart the workers with this configuration" if any_worker else "dingqueue worker"
            yield fail("lane", words, fix)
        elif lane.held_until_ms and lane.held_until_ms > now_ms:
            words = f"{lane.destination} rests until {_at(lane.held_until_ms)}: {lane.held_why}"
            yield warn("lane", words, f"dingqueue lanes resume {lane.destination}, when it was paused by hand")
        elif lane.drain_s and (told := destinations.get(lane.destination)) and lane.drain_s > told.expires_s:
            words = f"{lane.destination} needs {span(lane.drain_s)} for {count(lane.waiting, 'waiting job')}; they are given {span(told.expires_s)}"  # fmt: skip
            fix = f'add a robot to destinations.{lane.destination}, or set overflow = "digest"'
            yield warn("lane", words, fix)
    waiting = sum(lane.waiting for lane in lanes)
    yield ok("lanes", f"{len(lanes)} known, {count(waiting, 'job')} waiting, {sum(lane.out for lane in lanes):,} out")


# --- Words --------------------------------------------------------------------------------------------------------


def _counted(settings: Settings, environ: Mapping[str, str]) -> str:
    parts = (
        (len(settings.robots), "robot", "robots"),
        (len(settings.apps), "app", "apps"),
        (len(settings.destinations), "destination", "destinations"),
        (len(settings.people), "person", "people"),
    )
    said = ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in parts if count)
    return f"{environ.get('DINGQUEUE_CONFIG') or DEFAULT_CONFIG}: {said}"


def _table(sender: str) -> str:
    kind, _, name = sender.partition(".")
    if kind != "app":
        return f"[robots.{name}]"
    app, _, interface = name.rpartition(".")
    # A name may hold dots too: only what is an interface is cut off.
    return f"[apps.{app if interface in (*get_args(Route), RESULT) and app else name}]"


def _redis_cli(settings: Settings) -> str:
    at = redis_address(settings.state_url)
    if at.kind == "socket":
        return f"redis-cli -s {shlex.quote(at.path)}"
    tls = " --tls" if at.tls else ""
    for option, name in (("cacert", "ssl_ca_certs"), ("cert", "ssl_certfile"), ("key", "ssl_keyfile")):
        if at.tls and (path := at.tls.get(name)):
            tls += f" --{option} {shlex.quote(path)}"
    host, port = at.hosts[0]
    there = f"redis-cli -h {shlex.quote(host)} -p {port}{tls}"
    if at.kind == "server":
        return there
    # What the Sentinels say are a host and a port, a line each.
    asked = f"{there} SENTINEL GET-MASTER-ADDR-BY-NAME {at.name} | xargs printf -- '-h %s -p %s'"
    return f"redis-cli{tls} $({asked})"


def _at(ms: int) -> str:
    return clock(datetime.fromtimestamp(ms / 1000, UTC))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _line(finding: Finding) -> str:
    fix = f" → {finding.fix}" if finding.fix else ""
    return f"{finding.state.upper():<4}  {finding.check}: {finding.words}{fix}"


def _data(finding: Finding) -> dict[str, str]:
    return {"check": finding.check, "state": finding.state, "words": finding.words, "fix": finding.fix}


def _exit_code(findings: Sequence[Finding]) -> Exit:
    failed = [finding for finding in findings if finding.state == "fail"]
    if any(finding.check == "configuration" for finding in failed):
        return Exit.USAGE
    if any(finding.unreachable for finding in failed):
        return Exit.UNREACHABLE
    return Exit.SOME_FAILED if failed else Exit.DONE


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """The answer, or ``TimeoutError``: a name server or a frozen server may hold a library longer than its own limits."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError
    return answers[0]
