"""Runs a fleet's Lua scripts: one script, one decision, one round trip. Knows Redis and no rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

from dingqueue.routes import key_base

if TYPE_CHECKING:
    import redis

#: A script's answer: strings, integers and lists of them.
Reply: TypeAlias = list[Any]
Argument: TypeAlias = str | int | float
#: Milliseconds since 1970; None stands for the server's own clock.
ClockMs: TypeAlias = Callable[[], int] | None


def source(*files: tuple[str, str]) -> str:
    """The text of one script out of several files, each given as (package, file name), in order."""
    return "\n".join(resources.files(package).joinpath(name).read_text("utf-8") for package, name in files)


class Script:
    """One decision. Redis is sent the text again when it has forgotten it."""

    def __init__(self, client: redis.Redis, prefix: str, text: str, clock_ms: ClockMs = None) -> None:
        self._run = client.register_script(text)
        self._base = key_base(prefix)
        self._clock_ms = clock_ms

    def _arguments(self, arguments: Sequence[Argument]) -> list[Argument]:
        now: Argument = self._clock_ms() if self._clock_ms else ""
        return [self._base, now, *arguments]

    def __call__(self, *arguments: Argument, client: redis.Redis | None = None) -> Reply:
        """Run it, over another client if one is given; raises what redis-py raises."""
        reply: Reply = self._run(keys=[f"{self._base}pace"], args=self._arguments(arguments), client=client)
        return reply

    def many(self, client: redis.Redis, rows: Iterable[Sequence[Argument]]) -> list[Reply | Exception]:
        """Run it once for each row, in one pipeline, in order; what failed is in its place as the exception."""
        with client.pipeline(transaction=False) as pipe:
            for arguments in rows:
                self._run(keys=[f"{self._base}pace"], args=self._arguments(arguments), client=pipe)
            replies: list[Reply | Exception] = pipe.execute(raise_on_error=False)
        return replies


def prelude() -> tuple[str, str]:
    """The rule `call`, which is put before every script."""
    return "dingqueue", "call.lua"
