"""``dingqueue health``: does the fleet work, asked from outside. Reads signs of life in Redis; asks no process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from dingqueue.routes import DEFAULT_PREFIX
from dingqueue_worker.console import Exit, Seconds, Stop, connection, show
from dingqueue_worker.located import located
from dingqueue_worker.store import Figures, Store, StoreUnavailable

#: Workers give a sign every 2 s, beats every 5 s; a machine that is busy may be late.
WITHIN_S = 15.0
_PARTS = ("redis", "worker", "beat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the fleet: is it well, and in words."""

    name: str
    ok: bool
    said: str


@click.command()
@click.argument("part", type=click.Choice([*_PARTS, "all"]), default="all")
@click.option("--within", "within_s", type=Seconds(least=1), default=f"{WITHIN_S:g}s", show_default=True,
              help="How fresh a sign of life must be.")  # fmt: skip
@connection
def health(part: str, within_s: float, broker_url: str | None, state_url: str | None, as_json: bool) -> None:
    r"""Do Redis, workers and beat give signs of life?

    Exit code 0: they do; 1: some do not; 4: Redis does not answer.

    It asks Redis, once, and no worker: `celery inspect ping` costs a worker more than a second of processor time, and one
    that takes nothing any more may still answer it. A process's own page (DINGQUEUE_HEALTH) knows more about that process.

    \b
    dingqueue health || page-somebody
    """
    at = located(broker_url, state_url)
    store = Store(at.state_url, prefix=os.environ.get("DINGQUEUE_PREFIX") or DEFAULT_PREFIX)
    began_s = time.monotonic()
    try:
        figures = store.figures()
    except StoreUnavailable as error:
        raise Stop(Exit.UNREACHABLE, at.failed(error.why)) from error
    finally:
        store.close()
    found = [one for one in parts(figures, within_s=within_s, took_s=time.monotonic() - began_s)
             if part in {"all", one.name}]  # fmt: skip
    if as_json:
        show([asdict(one) for one in found])
    else:
        for one in found:
            show(f"{'OK  ' if one.ok else 'FAIL'}  {one.name}: {one.said}")
    if not all(one.ok for one in found):
        raise SystemExit(Exit.SOME_FAILED)


def parts(figures: Figures, *, within_s: float, took_s: float) -> Iterator[Part]:
    """Each part, as the figures show it."""
    yield Part(name="redis", ok=True, said=f"answers; all figures in {took_s * 1000:.0f} ms")
    for role in _PARTS[1:]:
        ages_s = [(figures.now_ms - at_ms) / 1000 for who, at_ms in figures.alive.items() if who.startswith(f"{role}:")]
        fresh = [age_s for age_s in ages_s if age_s <= within_s]
        if fresh:
            said = f"{len(fresh)} alive, the last sign {max(min(fresh), 0):.0f} s ago"
        elif ages_s:
            said = f"silent: the last sign was {min(ages_s):.0f} s ago; start one: dingqueue {role}"
        else:
            said = f"none was here in the last day; start one: dingqueue {role}"
        yield Part(name=role, ok=bool(fresh), said=said)
