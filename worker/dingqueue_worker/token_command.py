"""The command ``dingqueue tokens``: how old each app's token is and when the next one is fetched; never the token."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dingqueue.servers import place
from dingqueue_worker.configuration import ConfigurationError, load
from dingqueue_worker.console import Exit, Stop, as_json, config_option, say, show, span
from dingqueue_worker.pace import app_mark
from dingqueue_worker.settings import App
from dingqueue_worker.store import Store, StoreUnavailable, TokenView


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    app: str
    state: str
    age_s: float | None
    refresh_in_s: float | None
    ends_in_s: float | None
    why: str

    def line(self) -> str:
        words = [f"{self.app}: {self.state}"]
        if self.age_s is not None:
            words.append(f"{span(self.age_s)} old")
        if self.refresh_in_s is not None:
            words.append(f"next in {span(self.refresh_in_s)}" if self.refresh_in_s > 0 else "next one is due")
        if self.ends_in_s is not None and self.ends_in_s > 0:
            words.append(f"good for {span(self.ends_in_s)}")
        if self.why:
            words.append(self.why)
        return ", ".join(words)


@click.command()
@config_option
@as_json
def tokens(config: Path | None, as_json: bool) -> None:
    """How old each app's token is, and when it is fetched anew.

    Shows no token.
    """
    environ = {**os.environ, **({"DINGQUEUE_CONFIG": str(config)} if config else {})}
    try:
        settings = load(environ)
    except ConfigurationError as error:
        raise Stop(Exit.USAGE, str(error)) from error
    if not settings.apps:
        raise Stop(Exit.NOTHING, "the configuration has no [apps.NAME]: webhook robots need no app token")
    store = Store(settings.state_url, prefix=settings.prefix)
    try:
        rows = [_row(app, *store.token_view(app.name, app_mark(app))) for app in settings.apps.values()]
    except StoreUnavailable as error:
        raise Stop(
            Exit.UNREACHABLE, f"Redis at {place(settings.state_url)} {error.why.said}; dingqueue doctor looks closer"
        ) from error
    finally:
        store.close()
    if as_json:
        show([_data(row) for row in rows])
    else:
        for row in rows:
            show(row.line())
    if wrong := [row.app for row in rows if row.state == "refused"]:
        say(f"check app_key and app_secret of {', '.join(wrong)} in the configuration, then restart the workers")
    if any(row.state in {"refused", "failing"} for row in rows):
        sys.exit(Exit.SOME_FAILED)


def _row(app: App, now_ms: int, view: TokenView | None) -> _Row:
    if view is None:
        return _Row(app=app.name, state="not asked for yet", age_s=None, refresh_in_s=None, ends_in_s=None, why="")
    usable = view.usable_ms > now_ms
    state = "good" if usable else "refused" if view.bad else "failing" if view.fails else "none"
    resting_ms = max(view.again_ms - now_ms, 0)
    refresh_ms = max(view.refresh_ms - now_ms, resting_ms) if usable else resting_ms
    return _Row(
        app=app.name,
        state=state,
        age_s=(now_ms - view.got_ms) / 1000 if view.got_ms and usable else None,
        refresh_in_s=refresh_ms / 1000,
        ends_in_s=(view.usable_ms - now_ms) / 1000 if usable else None,
        why=view.why,
    )


def _data(row: _Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
