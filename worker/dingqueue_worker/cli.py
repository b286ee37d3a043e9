"""The ``dingqueue`` command. Data on stdout, words about it on stderr; every command takes ``--json``.

Exit codes: 0 done, 1 some failed, 2 wrong usage, 3 nothing matched, 4 Redis or DingTalk not reachable,
5 refused for good, 6 still waiting when ``--wait`` ran out, 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dingqueue.errors import EnqueueFailed, InvalidJob
from dingqueue_worker.console import (
    Commands,
    Exit,
    Instant,
    Seconds,
    Stop,
    config_option,
    connection,
    in_order,
    needs,
    say,
    show,
)
from dingqueue_worker.loading import loading
from dingqueue_worker.located import located

if TYPE_CHECKING:
    # The producer's half is loaded by the commands that hand over or ask: a worker would only start later for it.
    from dingqueue import Client, Status
    from dingqueue.contract import Job

#: Commands that need more than a producer's install, or live beside what they run.
_ELSEWHERE = {
    "demo": ("dingqueue_worker.demo:demo", "demo", "The whole way once, on this machine; nothing else is needed."),
    "lanes": ("dingqueue_worker.operations:lanes", "worker", "What waits where, how fast it goes, what is closed; pause, resume."),
    "dead": ("dingqueue_worker.operations:dead", "worker", "Read, replay, export or drop jobs that no attempt could deliver."),
    "tokens": ("dingqueue_worker.token_command:tokens", "worker", "How old each app's token is, and when it is fetched anew."),
    "sandbox": ("dingqueue_worker.sandbox.command:sandbox", "sandbox", "A local DingTalk that keeps DingTalk's rules, with an inbox page."),
    "doctor": ("dingqueue_worker.doctor:doctor", "worker", "What is wrong, and what to type."),
    "flower": ("dingqueue_worker.flower:flower", "monitor", "Watch attempts and workers in a browser: Celery's Flower."),
    "health": ("dingqueue_worker.health_command:health", "worker", "Do Redis, workers and beat give signs of life?"),
    "metrics": ("dingqueue_worker.metrics:metrics", "monitor", "Serve the fleet's figures to Prometheus."),
}  # fmt: skip
_SECTIONS = {
    "Hand over": ("send", "assign", "share"),
    "One job": ("status", "watch", "check", "cancel"),
    "On call": ("doctor", "lanes", "dead", "tokens", "health"),
    "Run": ("worker", "beat", "flower", "metrics"),
    "Try": ("demo", "sandbox"),
}


@click.group(
    cls=Commands,
    sections=_SECTIONS,
    elsewhere=_ELSEWHERE,
    needing={"worker": "worker", "beat": "worker"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="dingqueue", message="%(prog)s %(version)s")
def main() -> None:
    r"""Hand messages, tasks and files to DingTalk without waiting for it.

    \b
    DINGQUEUE_BROKER_URL  where jobs go; default redis://127.0.0.1:6379/0
    DINGQUEUE_CONFIG      what workers, doctor and tokens read; default dingqueue.toml

    Exit codes: 0 done, 1 some failed, 2 wrong usage, 3 nothing matched, 4 Redis or DingTalk not reachable, 5 refused
    for good, 6 still waiting when --wait ran out, 130 interrupted.
    """


_job_options = in_order(
    click.option("--urgent", is_flag=True, help="Goes before all that is not."),
    click.option("--at", type=Instant(), help="Not before: 2026-12-01T09:00+08:00."),
    click.option("--expires", "expires_s", type=Seconds(least=1), help="Not worth sending later than this: 90, 30m, 2h, 1d."),
    click.option("--key", help="The same destination and key are the same job."),
    click.option("--on-unknown", type=click.Choice(["resend", "hold"]), default="resend", show_default=True,
                 help="When nobody saw how an attempt ended: again, or a person decides."),
    click.option("--wait", "wait_s", type=Seconds(), help="Wait for the end, this long at most: 30, 5m."),
    click.option("--dry-run", is_flag=True, help="Show what DingTalk would get; send nothing."),
    connection,
)  # fmt: skip


@contextmanager
def _client(broker_url: str | None, state_url: str | None) -> Iterator[Client]:
    from dingqueue import Client

    given = located(broker_url, state_url).given
    # The client's own log lines would say again what the exit code and the message say.
    said = logging.getLogger("dingqueue")
    level = said.level
    said.setLevel(logging.ERROR)
    try:
        with Client(given[0], state_url=given[1]) as client:
            yield client
    except InvalidJob as error:
        raise Stop(Exit.REFUSED, str(error)) from error
    except EnqueueFailed as error:
        raise Stop(Exit.UNREACHABLE, str(error)) from error
    except ValueError as error:  # the file store's URL is none
        raise Stop(Exit.USAGE, str(error)) from error
    finally:
        said.setLevel(level)


@main.command()
@click.argument("destination")
@click.argument("text", required=False)
@click.option("--markdown", "-m", is_flag=True, help="TEXT is markdown.")
@click.option("--title", help="Of a markdown message.")
@click.option(
    "--content",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help='A JSON file, {"link": {…}}, {"card": {…}} or {"feed": {…}}; - is stdin.',
)
@click.option("--mention", multiple=True, metavar="WHO", help="A name, a mobile, user:ID or everyone; may be repeated.")
@click.option(
    "--too-long",
    type=click.Choice(["split", "shorten", "refuse"]),
    default="split",
    show_default=True,
    help="In numbered parts, cut with a note, or not at all.",
)
@click.option(
    "--tables",
    type=click.Choice(["lines", "keep"]),
    default="lines",
    show_default=True,
    help="In markdown: as lines of name and value, or as they are.",
)
@_job_options
def send(destination: str, text: str | None, markdown: bool, title: str | None, content: Any, mention: tuple[str, ...],
         too_long: Any, tables: Any, **options: Any) -> None:  # fmt: skip
    r"""Send TEXT (- reads it from stdin) to DESTINATION.

    \b
    dingqueue send ops "Deploy finished" --mention alice
    uptime | dingqueue send ops - --urgent --wait 30
    """
    if text is None and not content:
        raise Stop(Exit.USAGE, "text: nothing to send: give TEXT, or - to read it from stdin, or --content FILE")
    from dingqueue import send_job

    words = _piped() if text == "-" else text
    parts: dict[str, Any] = {"markdown": words, "title": title} if markdown else {"text": words}
    if content:
        try:
            parts = dict(json.load(content))
        except (ValueError, TypeError) as error:
            raise Stop(Exit.USAGE, f"--content: expected one JSON object, found something else: {error}") from error
    _enqueue(
        lambda terms: send_job(destination, **parts, mention=mention, too_long=too_long, tables=tables, **terms),
        **options,
    )


@main.command()
@click.argument("destination", required=False)
@click.argument("subject", required=False)
@click.option("--to", multiple=True, metavar="WHO", help="A name, a mobile, user:ID or union:ID; may be repeated.")
@click.option(
    "--due",
    type=Instant(),
    help="Until when: 2026-12-01T09:00+08:00.",
)
@click.option("--url", default="", help="Where the work is.")
@click.option("--description", default="", help="More about it, as markdown.")
@click.option(
    "--priority",
    type=click.Choice(["low", "normal", "high", "urgent"]),
    default="normal",
    show_default=True,
    help="As a todo shows it.",
)
@click.option("--done", metavar="JOB", help="Close the todo of an earlier assign instead.")
@click.option("--change", metavar="JOB", help="Change the todo of an earlier assign: --to, --due, --description.")
@_job_options
def assign(
    destination: str | None,
    subject: str | None,
    to: tuple[str, ...],
    due: datetime | None,
    url: str,
    description: str,
    priority: Any,
    done: str | None,
    change: str | None,
    **options: Any,
) -> None:
    r"""Give SUBJECT to people, in DESTINATION; or close, or change, what was given before.

    \b
    dingqueue assign project "Review the contract" --to alice --due 2026-12-01T09:00+08:00
    dingqueue assign --done 3f2a…
    dingqueue assign --change 3f2a… --to bob
    """
    if done or change:
        if destination or (done and change):
            raise Stop(Exit.USAGE, "--done and --change name the job and nothing else: no DESTINATION, no SUBJECT")
        given = {"to": to, "due": due, "description": description or None, "key": options["key"]}
        _hand_over(
            lambda client, _: client.complete(done) if done else client.reassign(change or "", **given), **options
        )
        return
    if destination is None or subject is None or not to:
        named = (("DESTINATION", destination), ("SUBJECT", subject), ("--to", to or None))
        missing = next(name for name, value in named if value is None)
        raise Stop(Exit.USAGE, f"missing {missing}: dingqueue assign DESTINATION SUBJECT --to WHO")
    from dingqueue import assign_job

    _enqueue(
        lambda terms: assign_job(
            destination, subject, to=to, due=due, url=url, description=description, priority=priority, **terms
        ),
        **options,
    )


@main.command()
@click.argument("destination")
@click.argument("file")
@click.option("--name", help="What people see; default is the file's own name, or the URL's last part.")
@click.option("--note", default="", help="A line about it.")
@click.option(
    "--zip",
    "zip_it",
    is_flag=True,
    help="Pack in a .zip what DingTalk would refuse (txt, csv, json, …), or may not show (pptx, …).",
)
@_job_options
def share(destination: str, file: str, name: str | None, note: str, zip_it: bool, **options: Any) -> None:
    r"""Share FILE (a path, a URL, or - for stdin) with DESTINATION.

    \b
    dingqueue share project ./report.pdf
    dingqueue share project https://example.com/report.pdf
    pg_dump shop | gzip | dingqueue share project - --name shop.sql.gz --zip

    A path goes to the file store (DINGQUEUE_FILES_URL; default the lanes' Redis), and needs a destination with an app.
    """
    source = file if "://" in file else sys.stdin.buffer if file == "-" else Path(file)
    _hand_over(
        lambda client, terms: client.share(destination, source, name=name, note=note, zip=zip_it, **terms), **options
    )


def _enqueue(build: Callable[[dict[str, Any]], Job], **options: Any) -> None:
    def built_and_enqueued(client: Client, terms: dict[str, Any]) -> str:
        try:
            job = build(terms)
        except TypeError as error:
            raise Stop(Exit.USAGE, f"--content: {str(error).split('() ', 1)[-1]}") from error
        return client.enqueue(job)

    _hand_over(built_and_enqueued, **options)


def _hand_over(call: Callable[[Client, dict[str, Any]], str], *, broker_url: str | None, state_url: str | None,
               as_json: bool, wait_s: float | None, dry_run: bool, **terms: Any) -> None:  # fmt: skip
    with _client(broker_url, state_url) as client:
        if dry_run:
            from dingqueue.outbox import Outbox, activated

            with activated(kept := Outbox()):
                call(client, terms)
            shown = client.preview(kept.jobs[0])
            show(asdict(shown) if as_json else str(shown))
            return
        job_id = call(client, terms)
        if wait_s is None:
            show({"job_id": job_id} if as_json else job_id)
            return
        try:
            status = client.wait(job_id, timeout_s=wait_s)
        except KeyboardInterrupt:
            show({"job_id": job_id} if as_json else job_id)
            raise Stop(Exit.INTERRUPTED, f"not waited for; the job goes on: dingqueue watch {job_id}") from None
    if status is None:
        raise Stop(Exit.NOTHING, f"{job_id}: {_NOBODY}")
    show(_status_data(status) if as_json else f"{job_id}  {status}")
    sys.exit(_end_code(status))


def _piped() -> str:
    if sys.stdin.isatty():
        say("Reading the text from the terminal; Ctrl-D ends it.")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise Stop(
            Exit.USAGE, f"text: expected UTF-8 on stdin, found bytes that are none (at {error.start})"
        ) from error


#: Said of an id that Redis has no record of.
_NOBODY = "nobody knows it (any more)"


def _end_code(status: Status) -> Exit:
    if not status.ended:
        return Exit.STILL_WAITING
    return {"delivered": Exit.DONE, "accepted": Exit.DONE, "dead": Exit.REFUSED}.get(status.state, Exit.SOME_FAILED)


@main.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB…")
@connection
def status(job_ids: Sequence[str], broker_url: str | None, state_url: str | None, as_json: bool) -> None:
    """Where jobs are, about when they go, how they ended."""
    with _client(broker_url, state_url) as client:
        found = {job_id: client.status(job_id) for job_id in job_ids}
    if as_json:
        show([_status_data(one) if one else {"job_id": job_id, "state": None} for job_id, one in found.items()])
    else:
        for job_id, one in found.items():
            show(f"{job_id}  {one or _NOBODY}")
    if None in found.values():
        sys.exit(Exit.NOTHING if not any(found.values()) else Exit.SOME_FAILED)


@main.command()
@click.argument("job_id", metavar="JOB")
@click.option("--for", "for_s", type=Seconds(), default="1d", show_default=True, help="Stop watching after this long.")
@connection
def watch(job_id: str, for_s: float, broker_url: str | None, state_url: str | None, as_json: bool) -> None:
    """Follow one job until it ends: a line at each change.

    With --json, JSON lines.
    """
    import threading
    import time

    pause, deadline_s, before = threading.Event(), time.monotonic() + for_s, ""
    with _client(broker_url, state_url) as client:
        while True:
            one = client.status(job_id)
            if one is None:
                raise Stop(Exit.NOTHING, f"{job_id}: {_NOBODY}")
            line = json.dumps(_status_data(one), ensure_ascii=False) if as_json else str(one)
            if line != before:
                show(line)
                before = line
            if one.ended:
                sys.exit(_end_code(one))
            if time.monotonic() >= deadline_s:
                sys.exit(Exit.STILL_WAITING)
            pause.wait(0.5)


@main.command()
@click.argument("job_id", metavar="JOB")
@click.option("--wait", "wait_s", type=Seconds(), default="15s", show_default=True, help="For DingTalk's answer.")
@connection
def check(job_id: str, wait_s: float, broker_url: str | None, state_url: str | None, as_json: bool) -> None:
    """Ask DingTalk who has read what an app sent for JOB, within 24 hours."""
    with _client(broker_url, state_url) as client:
        looked = client.wait(client.check(job_id), timeout_s=wait_s)
        status = client.status(job_id)
    if looked is None or status is None:
        raise Stop(Exit.NOTHING, f"{job_id}: {_NOBODY}")
    if looked.state != "delivered":
        raise Stop(_end_code(looked), f"{job_id}: {looked.reason or looked.state}")
    told = {name: looked.receipt.get(name, "") for name in ("read_by", "send_status", "checked_at")}
    show({"job_id": job_id, **told} if as_json else f"{job_id}  read by {told['read_by']}, as of {told['checked_at']}")


@main.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB…")
@connection
def cancel(job_ids: Sequence[str], broker_url: str | None, state_url: str | None, as_json: bool) -> None:
    """End jobs that are not at DingTalk yet; take back what an app left there."""
    with _client(broker_url, state_url) as client:
        ends = {job_id: client.cancel(job_id) for job_id in job_ids}
    words = {
        "cancelled": "cancelled",
        "gone": _NOBODY,
        "recalling": "is being taken back; its status says how that goes",
    }
    if as_json:
        show([{"job_id": job_id, "cancelled": end == "cancelled", "state": end} for job_id, end in ends.items()])
    else:
        for job_id, end in ends.items():
            show(f"{job_id}  {words.get(end) or f'too late: {end}'}")
    if any(end not in {"cancelled", "recalling"} for end in ends.values()):
        sys.exit(Exit.NOTHING if set(ends.values()) == {"gone"} else Exit.SOME_FAILED)


def _status_data(one: Status) -> dict[str, Any]:
    data = {name: getattr(one, name) for name in one.__dataclass_fields__}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in data.items()} | {
        "receipt": dict(one.receipt)
    }


@main.command(context_settings={"ignore_unknown_options": True})
@config_option
@click.option("--concurrency", "-c", type=click.IntRange(1), help="Requests at a time; default 32.")
@click.option("--loglevel", "-l", default="INFO", show_default=True)
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY'S OPTIONS]…")
def worker(config: Path | None, concurrency: int | None, loglevel: str, more: tuple[str, ...]) -> None:
    """Run a worker: Celery's own, with the defaults that fit.

    What is not named here goes to Celery as it is.
    """
    from celery.bin.worker import worker as command

    chosen = ["--concurrency", str(concurrency)] if concurrency else []
    _celery(command, config, "--without-gossip", "--without-mingle", "--loglevel", loglevel, *chosen, *more)


@main.command(context_settings={"ignore_unknown_options": True})
@config_option
@click.option(
    "--schedule",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    default=Path("celerybeat-schedule"),
    show_default=True,
    help="Where it notes what ran when.",
)
@click.option("--loglevel", "-l", default="INFO", show_default=True)
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY'S OPTIONS]…")
def beat(config: Path | None, schedule: Path, loglevel: str, more: tuple[str, ...]) -> None:
    """Run Celery's beat. Two of them are fine.

    Every tick is harmless when it comes twice. What is not named here goes to Celery as it is.
    """
    folder = schedule.absolute().parent
    if not os.access(schedule if schedule.exists() else folder, os.W_OK):
        problem = "may not be written by this user" if folder.is_dir() else "is in a folder that is not there"
        raise Stop(Exit.USAGE, f"--schedule: {schedule.absolute()} {problem}; name another file")
    from celery.bin.beat import beat as command

    _celery(command, config, "--schedule", str(schedule), "--loglevel", loglevel, *more)


def _celery(command: click.Command, config: Path | None, *words: str) -> None:
    """Run one of Celery's commands for the fleet's app, with its exit code: `app.start` would drop it.

    It is given alone, not as one of ``celery``'s: all of them together load a shell, Flower and whatever else is
    installed beside them, and read variables (``APP``, ``BROKER_URL``) that an application may have for itself.
    """
    from celery.bin.base import CLIContext

    # Quiet: Celery's banner says in twenty lines what "worker starts" says in one.
    context = CLIContext(app=_fleet(config), no_color=bool(os.environ.get("NO_COLOR")), workdir=None, quiet=True)
    name = f"dingqueue {command.name}"
    sys.exit(command.main(args=words, prog_name=name, standalone_mode=False, obj=context))


def _fleet(config: Path | None) -> Any:
    """The fleet's app, or the configuration's faults and exit code 2."""
    environ = {**os.environ, **({"DINGQUEUE_CONFIG": str(config)} if config else {})}
    try:
        with loading():
            from dingqueue_worker.app import create_app
            from dingqueue_worker.configuration import ConfigurationError, load

            try:
                return create_app(load(environ))
            except ConfigurationError as error:
                raise Stop(Exit.USAGE, str(error)) from error
    except ModuleNotFoundError as error:
        raise needs("worker", error) from error
