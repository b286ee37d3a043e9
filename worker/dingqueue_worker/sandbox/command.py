"""The command ``dingqueue sandbox``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click
from pydantic import ValidationError

from dingqueue_worker.console import port_words
from dingqueue_worker.sandbox import server
from dingqueue_worker.sandbox.model import App, Person, Robot, Rules, problem
from dingqueue_worker.sandbox.space import Conflict, Space

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, envvar="DINGQUEUE_SANDBOX_HOST", show_envvar=True)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8025, show_default=True, envvar="DINGQUEUE_SANDBOX_PORT",
    show_envvar=True, help="0 takes a free one.",
)  # fmt: skip
@click.option(
    "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="A dingqueue.toml: its robots, apps and people are known, and no others.",
)  # fmt: skip
@click.option(
    "--robot", "robots", multiple=True, metavar="NAME=TOKEN[,SECRET]",
    help="A robot more, and no others; may be repeated.",
)  # fmt: skip
@click.option(
    "--keep",
    type=click.IntRange(1, 1_000_000),
    default=20_000,
    show_default=True,
    metavar="COUNT",
    help="Messages kept.",
)
@click.option("--ready-file", type=click.Path(path_type=Path), hidden=True)
def sandbox(
    host: str, port: int, config: Path | None, robots: tuple[str, ...], keep: int, ready_file: Path | None
) -> None:
    """A local DingTalk that keeps DingTalk's rules, with an inbox page.

    Without --config and --robot, every token, app key and person is taken for a new one (on this machine's own address
    only).
    """
    configured, apps, people = _configured(config) if config else ([], [], [])
    known = [*configured, *map(_robot, robots)]
    any_token = not known and not config and host in _LOOPBACK
    rules = Rules(any_token=any_token, keep=keep)

    def prepare(space: Space) -> None:
        try:
            for robot in known:
                space.put_robot(robot)
            for app in apps:
                space.put_app(app)
            for person in people:
                space.organisation.put_person(person)
        except Conflict as error:
            raise click.UsageError(str(error)) from error

    def ready(url: str) -> None:
        if ready_file:
            partial = ready_file.with_suffix(".partial")
            partial.write_text(url)
            partial.replace(ready_file)
        whom = "any token is a robot" if any_token else f"{len(known)} robots: {', '.join(one.name for one in known)}"
        click.echo(f"The sandbox's inbox: {url}  ({whom})", err=True)
        click.echo(f"export DINGQUEUE_OAPI_URL={url} DINGQUEUE_API_URL={url}", err=True)

    with port_words(host, port), contextlib.suppress(KeyboardInterrupt):
        server.run(host=host, port=port, rules=rules, prepare=prepare, ready=ready)


def _robot(text: str) -> Robot:
    name, equals, rest = text.partition("=")
    token, _, secret = rest.partition(",")
    if not equals or not name or not token:
        raise click.UsageError("--robot: expected NAME=TOKEN or NAME=TOKEN,SECRET")
    return Robot(name=name, token=token, secret=secret or None)


def _configured(path: Path) -> tuple[list[Robot], list[App], list[Person]]:
    """What a fleet's configuration names: robots in the groups of the destinations that use them, apps, people."""
    from dingqueue_worker.configuration import ConfigurationError, load

    try:
        settings = load({**os.environ, "DINGQUEUE_CONFIG": str(path)})
    except ConfigurationError as error:
        raise click.UsageError(f"--config: {error}") from error
    groups = {robot: name for name, destination in settings.destinations.items() for robot in destination.robots}
    try:
        robots = [
            Robot(
                token=one.token.reveal(),
                name=one.name,
                group=groups.get(one.name, one.name),
                secret=one.secret.reveal() if one.secret else None,
                keywords=one.keywords,
                limit=one.limit,
                window_s=one.window_s,
                cooldown_s=one.cooldown_s,
            )
            for one in settings.robots.values()
        ]
        apps = [
            App(
                key=one.app_key,
                secret=one.app_secret.reveal(),
                name=one.name if one.name not in settings.robots else f"{one.name} (app)",
                agent_id=one.agent_id,
                robot_code=one.robot_code,
                per_second=one.calls_per_s,
            )
            for one in settings.apps.values()
        ]
        people = [
            Person(
                user_id=one.user_id or one.name,
                union_id=one.union_id or f"union-{one.user_id or one.name}",
                name=one.name,
                mobile=one.mobile,
            )
            for one in settings.people.values()
        ]
    except ValidationError as error:
        raise click.UsageError(f"--config: {problem(error)}") from error
    named = {person.user_id for person in people}
    users = {user for destination in settings.destinations.values() for user in destination.users}
    people += [
        Person(user_id=user, union_id=f"union-{user}", name=user) for user in users - named - set(settings.people)
    ]
    return robots, apps, people
