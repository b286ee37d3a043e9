"""``dingqueue demo``: the whole way once, on this machine, with nothing to install by hand and nothing left behind."""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

import click
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from dingqueue import Client, InvalidJob, Status
from dingqueue.status import ENDED, clock
from dingqueue_worker import children
from dingqueue_worker.console import Exit, Stop, span
from dingqueue_worker.embedded import NoServer, Server, free_port
from dingqueue_worker.sandbox.client import Sandbox, SandboxFailed

#: DingTalk's window is 60 s and a mute lasts 600 s; nobody watches a demo for that long.
WINDOW_S = 10.0
LIMIT = 20
_READY_WITHIN_S = 30.0
_END_WITHIN_S = 90.0

_CONFIG = f"""\
# The demo's robots. Real ones keep the defaults: 20 messages in 60 s, a mute of 600 s.
[robots.ops]
token = "demo-ops"
secret = "SECdemo000000000000000000000000000000000000000000000000000000000"
window_s = {WINDOW_S:g}
[robots.build]
token = "demo-build"
keyword = "build"
window_s = {WINDOW_S:g}
[robots.finance]
token = "demo-finance"
window_s = {WINDOW_S:g}
[robots.alarms]
token = "demo-alarms"
window_s = {WINDOW_S:g}

[apps.acme]
app_key = "demo-key"
app_secret = "demo-app-secret"
agent_id = 1001
robot_code = "demo-robot"

[destinations.ops]
robots = ["ops"]
[destinations.project]
app = "acme"
conversation = "cidDemoProject"
robots = ["ops"]
[destinations.staff]
app = "acme"
users = ["alice", "bob"]
via = "notice"
[destinations.build]
robots = ["build"]
[destinations.finance]
robots = ["finance"]
[destinations.alarms]
robots = ["alarms"]

[people.alice]
user_id = "manager123"
mobile = "13800000001"
[people.bob]
user_id = "bob456"
mobile = "13800000002"
"""


@click.command()
@click.option("--keep", is_flag=True, help="Leave it all running, with Flower beside it, until Ctrl-C.")
def demo(keep: bool) -> None:
    """The whole way once, on this machine; nothing else is needed.

    Real jobs of every kind go through a real server and a real worker to a local DingTalk.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends in order, like Ctrl-C
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    stopped = False
    try:
        with _running(console, watched=keep) as stage:
            try:
                _play(console, stage)
                (_keep if keep else _read)(console, stage)
            except KeyboardInterrupt:
                stopped = not keep
                console.print("\nStopping …")
    except (NoServer, SandboxFailed) as error:
        raise Stop(Exit.USAGE, str(error)) from error
    except KeyboardInterrupt:  # before there was a stage, or once more while it was taken down
        stopped = True
    console.print("Nothing is left running.")
    if stopped:
        sys.exit(Exit.INTERRUPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What runs: where to reach it, and the processes with their logs."""

    client: Client
    sandbox: Sandbox
    env: Mapping[str, str]
    folder: Path
    processes: Mapping[str, Popen[bytes]]
    ports: Mapping[str, int]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


@contextmanager
def _running(console: Console, *, watched: bool) -> Iterator[_Stage]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dingqueue-demo-")))
        began_s = time.monotonic()
        server = stack.enter_context(Server(durable=True))
        _started(console, "Valkey, the server that holds the jobs", server.url)
        sandbox = stack.enter_context(Sandbox())
        space = sandbox.root
        space.robot("demo-ops", name="Ops Bot", group="Operations", window_s=WINDOW_S,
                    secret="SECdemo000000000000000000000000000000000000000000000000000000000")  # fmt: skip  # noqa: S106
        space.robot("demo-build", name="Build Bot", group="Builds", keywords=("build",), window_s=WINDOW_S)
        # DingTalk wants a word here that the fleet has not been told of.
        space.robot("demo-finance", name="Finance Bot", group="Finance", keywords=("invoice",), window_s=WINDOW_S)
        space.robot("demo-alarms", name="Alarm Bot", group="Alarms", window_s=WINDOW_S)
        space.app("demo-key", "demo-app-secret", name="Acme", agent_id=1001, robot_code="demo-robot")
        space.person("manager123", mobile="13800000001", name="alice")
        space.person("bob456", mobile="13800000002", name="bob")
        _started(console, "A local DingTalk that keeps DingTalk's rules", sandbox.url)
        config = folder / "dingqueue.toml"
        config.write_text(_CONFIG, encoding="utf-8")
        env = {
            "DINGQUEUE_CONFIG": str(config),
            "DINGQUEUE_BROKER_URL": server.url,
            "DINGQUEUE_STATE_URL": server.url,
            "DINGQUEUE_OAPI_URL": space.oapi_url,
            "DINGQUEUE_API_URL": space.api_url,
            "NO_PROXY": "127.0.0.1",
        }
        # Before the worker: Flower shows only what it sees happen.
        ports = {"flower": free_port(), "metrics": free_port()} if watched else {}
        ours = [sys.executable, "-m", "dingqueue_worker"]
        celery = [sys.executable, "-m", "celery", "-A", "dingqueue_worker.main"]
        processes = {
            name: _process(stack, folder, name, command, env)
            for name, command in {
                **{name: [*ours, name, "--port", str(port)] for name, port in ports.items()},
                "worker": [*celery, "worker", "-n", "demo@%h", "--without-gossip", "--without-mingle", "-l", "INFO"],
                "beat": [*celery, "beat", "-s", str(folder / "schedule"), "-l", "INFO"],
            }.items()
        }
        client = Client(server.url)
        stack.callback(client.close)
        stage = _Stage(client=client, sandbox=sandbox, env=env, folder=folder, processes=processes, ports=ports)
        _wait_until_ready(stage)
        _started(
            console, "A Celery worker with 32 threads, and beat", f"ready after {span(time.monotonic() - began_s)}"
        )
        yield stage


def _process(stack: ExitStack, folder: Path, name: str, command: Sequence[str], env: Mapping[str, str]) -> Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        child = children.start(command, env=env, cwd=folder, output=log)
    stack.callback(children.stop, child, grace_s=15.0 if name == "worker" else 5.0)
    return child


def _wait_until_ready(stage: _Stage) -> None:
    pause, deadline_s = threading.Event(), time.monotonic() + _READY_WITHIN_S
    while not _ready(stage):
        _require_alive(stage)
        if time.monotonic() > deadline_s:
            raise Stop(
                Exit.SOME_FAILED, f"not ready after {span(_READY_WITHIN_S)}; the worker says:\n{_last(stage, 'worker')}"
            )
        pause.wait(0.05)


def _ready(stage: _Stage) -> bool:
    return " ready." in stage.log("worker") and all(map(_listens, stage.ports.values()))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _require_alive(stage: _Stage) -> None:
    for name, child in stage.processes.items():
        if child.poll() is not None:
            raise Stop(Exit.SOME_FAILED, f"the {name} ended; its last words:\n{_last(stage, name)}")


def _last(stage: _Stage, name: str) -> str:
    return stage.log(name)[-2000:]


def _started(console: Console, what: str, where: str) -> None:
    console.print(f"  [green]✓[/] {what:<46} [dim]{where}[/]")


# --- The play ---------------------------------------------------------------------------------------------------


def _play(console: Console, stage: _Stage) -> None:
    console.print(
        f"\nAn application hands over jobs and goes on. [dim](Windows are {WINDOW_S:g} s here; DingTalk's are 60 s.)[/]\n"
    )
    report = stage.folder / "报告 2026-11.pdf"
    report.write_bytes(b"%PDF-1.4\n" + b"% a report of November\n" * 2_000)
    began_s = time.monotonic()
    jobs = dict(_enqueue(stage.client, report))
    took_ms = (time.monotonic() - began_s) * 1000
    try:
        stage.client.send("ops", "")
        raise AssertionError("an empty message was taken")
    except InvalidJob as error:
        refused = str(error)
    console.print(
        f"  {len(jobs)} jobs accepted in {took_ms:.0f} ms; one call refused at once: [yellow]{escape(refused)}[/]\n"
    )
    _expire_tokens(stage, jobs)
    again = "the same file to the same group: known by its content, and the app's token has just expired"
    jobs[stage.client.share("project", report, note="once more")] = again
    halfway = _follow(console, stage, jobs)
    if halfway:
        console.print("  Meanwhile, over the limit nothing was refused and nothing lost. It waited:")
        for line in halfway:
            console.print(f"    [dim]{escape(line)}[/]")
        console.print()
    _summary(console, stage, jobs, time.monotonic() - began_s)


def _expire_tokens(stage: _Stage, jobs: Mapping[str, str]) -> None:
    """End every token at DingTalk, once the app has used one."""
    shared = next(job_id for job_id, what in jobs.items() if "uploaded by the app" in what)
    stage.client.wait(shared, timeout_s=_END_WITHIN_S)
    stage.sandbox.root.expire_tokens()


def _enqueue(client: Client, report: Path) -> Iterator[tuple[str, str]]:
    """Job id -> what it is, in words."""
    yield (
        client.send("ops", "部署完成 🚀 v2.4.1 已上线，请大家留意监控 👀", mention=["alice"]),
        "a text that rings alice",
    )
    yield (
        client.send(
            "build", markdown="### Nightly 🌙\n- 1,204 passed\n- **3 failed**\n\n[report](https://example.com/r/88)"
        ),
        "a markdown (its robot's keyword is added)",
    )
    yield (
        client.send(
            "ops",
            card={
                "title": "Roll back?",
                "text": "### Error rate 7.2 %\nSince **14:03**, service `checkout`.",
                "buttons": [
                    {"title": "Roll back", "url": "https://example.com/rollback"},
                    {"title": "Look first", "url": "https://example.com/graph"},
                ],
            },
        ),
        "a card with two buttons",
    )
    yield client.send("ops", markdown=_long_report(), title="Weekly report"), "40 kB of markdown, split"
    yield (
        client.assign("ops", "Review the contract", to=["alice", "bob"], due=datetime.now(UTC) + timedelta(days=2),
                      url="https://example.com/contract"),
        "work for alice and bob",
    )  # fmt: skip
    yield client.share("build", "https://example.com/reports/2026-11-report.pdf", note="Numbers of November"), "a file"
    yield client.share("project", report), "a file from this disk, uploaded by the app"
    yield (
        client.assign("project", "Sign the order", to=["alice", "bob"], due=datetime.now(UTC) + timedelta(days=1),
                      url="https://example.com/order"),
        "a todo for two, and a message that rings them",
    )  # fmt: skip
    yield client.send("staff", "The office closes at 17:00 today"), "a work notification"
    yield client.send("finance", "Month closed"), "a message that DingTalk refuses"
    storm = [
        {"destination": "alarms", "text": f"disk {number:02d} is 9{number % 10} % full"} for number in range(1, 26)
    ]
    for job_id in client.send_many(storm):
        yield job_id, "one of 25 alarms at once"
    yield client.send("alarms", "🔥 database is down", urgent=True), "an urgent alarm, which passes them"


def _long_report() -> str:
    rows = (
        f"- **服务 {number:03d}** · 请求 {number * 1337:,} · 错误率 0.{number % 97:02d} % · 状态良好 ✅"
        for number in range(1, 560)
    )
    return "## 周报 Weekly report\n\n" + "\n".join(rows)


def _follow(console: Console, stage: _Stage, jobs: Mapping[str, str]) -> list[str]:
    """Show progress until all have ended; returns what waited, as it was said when little else was left."""
    ended: dict[str, Status] = {}
    halfway: list[str] = []
    pause, deadline_s = threading.Event(), time.monotonic() + _END_WITHIN_S
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while len(ended) < len(jobs):
            _require_alive(stage)
            if time.monotonic() > deadline_s:
                raise Stop(Exit.STILL_WAITING, f"jobs are still open; the worker says:\n{_last(stage, 'worker')}")
            open_jobs = [status for job_id in jobs if job_id not in ended if (status := stage.client.status(job_id))]
            ended |= {status.job_id: status for status in open_jobs if status.state in ENDED}
            waiting = [status for status in open_jobs if status.state == "waiting"]
            if waiting and not halfway and len(waiting) == len(open_jobs) and len(ended) > len(jobs) / 2:
                halfway = [
                    f"{one.destination}: place {(one.place or 0) + 1}, about {clock(one.expected_at)}, {one.reason}"
                    if one.expected_at
                    else f"{one.destination}: {one.reason}"
                    for one in waiting[:3]
                ] + ([f"and {len(waiting) - 3} more behind them"] if len(waiting) > 3 else [])
            bar = "█" * round(30 * len(ended) / len(jobs))
            nearest = f" · next about {clock(waiting[0].expected_at)}" if waiting and waiting[0].expected_at else ""
            live.update(
                f"  [cyan]{bar:<30}[/] {len(ended)} of {len(jobs)} ended, {len(jobs) - len(ended)} to go{nearest}"
            )
            pause.wait(0.1)
    return halfway


def _summary(console: Console, stage: _Stage, jobs: Mapping[str, str], took_s: float) -> None:
    statuses = {job_id: status for job_id in jobs if (status := stage.client.status(job_id))}
    counts = Counter((jobs[job_id], status.destination, status.state) for job_id, status in statuses.items())
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("WHAT", "TO", "HOW IT ENDED"):
        table.add_column(title, overflow="fold")
    for (what, destination, state), count in counts.items():
        first = next(status for job_id, status in statuses.items() if jobs[job_id] == what and status.state == state)
        parts = f" in {first.steps} {'parts' if first.kind == 'send' else 'steps'}" if first.steps > 1 else ""
        why = f": {escape(first.reason)}" if state == "dead" else ""
        colour = "red" if state == "dead" else "green"
        table.add_row(
            f"{count} × {what}" if count > 1 else what, destination, f"[{colour}]{state}[/]{parts}{why}"
        )  # fmt: skip
    console.print(table)
    stats = stage.sandbox.root.stats()
    console.print(f"\nWhat DingTalk counted in {span(took_s)}:")
    for name, robot in stats["robots"].items():
        refused = f", [red]{robot['refused']} refused[/]" if robot["refused"] else ""
        console.print(
            f"  {name:<12} {robot['accepted']:>3} accepted{refused}"
            f", never more than {robot['max_in_window']} in {WINDOW_S:g} s [dim](the limit is {LIMIT})[/]"
        )
    root = stage.sandbox.root
    files, todos = root.files(), root.todos()
    tokens = root.calls(path="/v1.0/oauth2/accessToken", state="accepted")
    console.print(
        f"  {'Acme':<12} {len(files):>3} upload for two shares, {len(todos)} todo for two people, "
        f"{len(tokens)} tokens [dim](one expired)[/]"
    )
    arrived = [message.uuid for message in stage.sandbox.root.messages(robot="Alarm Bot")]
    urgent = next((job_id for job_id in jobs if "urgent" in jobs[job_id]), None)
    if urgent in arrived:
        console.print(
            f"  [dim]The urgent alarm was submitted last and arrived as number {arrived.index(urgent) + 1}.[/]"
        )


def _read(console: Console, stage: _Stage) -> None:
    """Leave the inbox open for whoever sits at a terminal."""
    if sys.stdin.isatty():
        console.print(f"\nRead them as people see them: [bold]{stage.sandbox.url}[/]", soft_wrap=True)
        with suppress(EOFError):
            console.input("[dim]Enter ends the demo; with --keep it goes on, with Flower beside it.[/] ")
    else:
        console.print(
            f"\nThe inbox was at {stage.sandbox.url} and ends with this demo; "
            "[bold]make demo ARGS=--keep[/] leaves it all running, with Flower beside it.",
            soft_wrap=True,
        )


def _keep(console: Console, stage: _Stage) -> None:
    console.print(f"\nThe inbox, as people see it:  [bold]{stage.sandbox.url}[/]", soft_wrap=True)
    console.print(f"Flower, Celery's window:      [bold]http://127.0.0.1:{stage.ports['flower']}[/]")
    console.print(f"The figures for Prometheus:   [bold]http://127.0.0.1:{stage.ports['metrics']}/metrics[/]")
    console.print("\nIn another terminal:")
    # The commands of a virtual environment that is not active are found nowhere.
    ours = Path(sys.executable).parent
    if (found := shutil.which("dingqueue")) is None or Path(found).parent != ours:
        console.print(f"  export PATH={shlex.quote(str(ours))}:$PATH", soft_wrap=True)
    for name in ("DINGQUEUE_BROKER_URL", "DINGQUEUE_CONFIG", "DINGQUEUE_OAPI_URL", "DINGQUEUE_API_URL"):
        console.print(f"  export {name}={shlex.quote(stage.env[name])}", soft_wrap=True)
    console.print(
        '  dingqueue send ops "Hello" --mention alice --wait 10\n  dingqueue lanes --watch\n  dingqueue doctor\n'
    )
    console.print("Everything runs until Ctrl-C.")
    pause = threading.Event()
    while True:
        _require_alive(stage)
        pause.wait(1.0)
