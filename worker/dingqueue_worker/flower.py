"""``dingqueue flower``: Flower with defaults that are safe. Knows no DingTalk, no lane and no configuration file."""

from __future__ import annotations

import ipaddress
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from celery import Celery
from flower import command as flower_command
from flower.app import Flower
from flower.events import Events
from flower.options import options as flower_options
from flower.urls import settings as flower_settings
from tornado.ioloop import IOLoop

from dingqueue import broker
from dingqueue.addresses import is_redis
from dingqueue.connections import celery_broker
from dingqueue.environment import resolved
from dingqueue.routes import DEFAULT_PREFIX
from dingqueue.transport import Amqp
from dingqueue_worker import logs
from dingqueue_worker.console import Exit, Stop, broker_option, port_words, say
from dingqueue_worker.located import located
from dingqueue_worker.telemetry import Form, form_of

#: Flower's own default keeps 100,000, which is hundreds of megabytes of rows that nobody scrolls to.
_MOST_TASKS = 10_000
#: A killed Flower forgets at most this much.
_SAVE_EVERY_MS = 60_000
_OURS = "dingqueue."


class Masked(Events):  # type: ignore[misc]  # Flower has no types
    """Flower's events, less the arguments of tasks that are not ours: those may hold anything.

    Ours are a job id, a grant number and a destination's name. Masked where they come in, so that neither a page nor the
    API nor the state file has ever had them.
    """

    def on_event(self, event: dict[str, Any]) -> None:
        """Note an event."""
        super().on_event(masked(event))


def masked(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event as it may be kept.

    Only the first events of a task carry its name; where there is none there are no arguments either.
    """
    if not ("args" in event or "kwargs" in event) or str(event.get("name", "")).startswith(_OURS):
        return dict(event)
    return {**event, "args": "(…)", "kwargs": "{…}"}


@click.command(context_settings={"ignore_unknown_options": True})
@broker_option
@click.option("--address", default="127.0.0.1", show_default=True, help="Any other than loopback needs --users.")
@click.option("--port", type=click.IntRange(0, 65535), default=5555, show_default=True)
@click.option(
    "--users",
    envvar="DINGQUEUE_FLOWER_USERS",
    show_envvar=True,
    help="file:PATH of a file with NAME:PASSWORD, a line each. Who may look.",
)
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), help="Keep what was seen over a restart, here.")
@click.option("--allow-control", is_flag=True, help="Let people shut down and change workers from its pages.")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[FLOWER'S OPTIONS]…")
def flower(
    broker_url: str | None,
    address: str,
    port: int,
    users: str | None,
    db: Path | None,
    allow_control: bool,
    more: Sequence[str],
) -> None:
    r"""Watch Celery's tasks and workers in a browser: Flower.

    What is not named here goes to it as it is (--url_prefix, --auth, …). What waits, and why, is in `dingqueue lanes` and in the metrics: Flower sees only the attempts.

    \b
    dingqueue flower                                             on this machine, for everyone on it
    dingqueue flower --address 0.0.0.0 --users file:/run/secrets/flower_users
    """
    try:
        form = form_of(os.environ.get("DINGQUEUE_LOG"))
    except ValueError as error:
        raise Stop(Exit.USAGE, f"DINGQUEUE_LOG: {error}") from error
    try:
        who = names_and_passwords(users, from_environment=os.environ.get("DINGQUEUE_FLOWER_USERS") == users)
    except ValueError as error:
        raise Stop(Exit.USAGE, str(error)) from error
    broker_at = located(broker_url, "redis://unused").broker_url  # only the lanes need Redis
    # What Flower writes is a pickle, and it reads it again: nobody else may write it.
    os.umask(0o077)
    if db:
        db.parent.mkdir(parents=True, exist_ok=True)
    flower_options.basic_auth = list(who)
    flower_options.db = str(db or "")
    flower_command.apply_env_options()
    flower_command.apply_options(
        "dingqueue flower",
        [
            f"--address={address}", f"--port={port}", f"--persistent={bool(db)}", f"--read_only={not allow_control}",
            f"--state_save_interval={_SAVE_EVERY_MS if db else 0}", f"--max_tasks={_MOST_TASKS}",
            "--purge_offline_workers=300", *more,
        ],
    )  # fmt: skip
    if not guarded(address=flower_options.address, unix_socket=flower_options.unix_socket, logins=bool(
        flower_options.basic_auth or flower_options.auth
    )):  # fmt: skip
        raise Stop(
            Exit.USAGE,
            f"--address {flower_options.address or '(all)'}: whoever reaches it would see every task; "
            "give --users file:PATH (or Flower's --auth), or bind it to 127.0.0.1",
        )
    _serve(app(broker_at, prefix=os.environ.get("DINGQUEUE_PREFIX") or DEFAULT_PREFIX), form)


def guarded(*, address: str, unix_socket: str, logins: bool) -> bool:
    """Is what Flower shows kept from strangers? Loopback, a socket's file mode, or a login."""
    if logins or unix_socket:
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def names_and_passwords(users: str | None, *, from_environment: bool) -> tuple[str, ...]:
    """``name:password`` for each who may look.

    Args:
        users: ``file:PATH``, or the lines themselves.
        from_environment: The lines themselves are taken only from there: everyone can read a command line.

    Raises:
        ValueError: What is wrong with them, without a password.
    """
    if not users:
        return ()
    if not from_environment and not users.startswith("file:"):
        raise ValueError("--users: everyone on this machine can read a command line; give file:PATH")
    lines = [line.strip() for line in resolved(users).splitlines() if line.strip() and not line.startswith("#")]
    for number, line in enumerate(lines, 1):
        name, _, password = line.partition(":")
        if not name or not password:
            raise ValueError(f"--users: expected NAME:PASSWORD in line {number}, found something else")
    if not lines:
        raise ValueError("--users: expected NAME:PASSWORD, a line each, found nothing")
    return tuple(lines)


def app(broker_url: str, *, prefix: str) -> Celery:
    """An app that watches: it knows the broker and no task."""
    watching = Celery("dingqueue-flower", amqp=Amqp, set_as_current=False, fixups=[])
    options = {
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "client_name": "dingqueue-flower",
    }
    watching.conf.update(
        broker.configuration(prefix),
        **celery_broker(broker_url, options=options if is_redis(broker_url) else {}),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    return watching


def _serve(watching: Celery, form: Form) -> None:
    flower_command.extract_settings()
    flower_command.setup_logging()
    if form == "json":
        logs.configure(form)
    loop = IOLoop.current()
    shown = Flower(
        capp=watching, options=flower_options, events=_events(watching, loop), io_loop=loop, **flower_settings
    )
    with port_words(flower_options.address, flower_options.port):
        port = shown.start_http_server()
    if flower_options.unix_socket:
        say(f"Flower is at {flower_options.unix_socket}")
    else:
        scheme = "https" if "ssl_options" in flower_settings else "http"
        prefix = f"/{flower_options.url_prefix.strip('/')}" if flower_options.url_prefix else ""
        say(f"Flower is at {scheme}://{flower_options.address}:{port}{prefix}/")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.add_callback_from_signal(loop.stop))
    try:
        shown.start()
    finally:
        # Saves what was seen, where it is to be kept.
        shown.stop()


def _events(watching: Celery, loop: IOLoop) -> Masked:
    return Masked(
        watching,
        loop,
        db=flower_options.db,
        persistent=flower_options.persistent,
        enable_events=flower_options.enable_events,
        state_save_interval=flower_options.state_save_interval,
        max_workers_in_memory=flower_options.max_workers,
        max_tasks_in_memory=flower_options.max_tasks,
    )
