"""The doctor at real servers, a real worker and a scripted DingTalk: every line, no secret, bounded time."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from dingqueue_worker.cli import main
from dingqueue_worker.doctor import Finding, examine
from dingqueue_worker.embedded import Server, free_port
from dingqueue_worker.outcome import Close, Dead, Ended, Snooze
from dingqueue_worker.pace import app_mark
from dingqueue_worker.sandbox.client import Sandbox
from dingqueue_worker.settings import App, Secret
from dingqueue_worker.store import Fetch
from support.blackhole import black_hole
from support.fleet import Fleet
from support.front import Authority
from support.raw_server import Hang, RawServer, Say, reply
from support.sentinels import lone_sentinel
from support.state import State, lane, sender

CONFIG = """
[robots.ops]
token = "PLANTED-TOKEN"
secret = "SECPLANTED"
[destinations.ops]
robots = ["ops"]
"""


def refusal(ahead_s: int = 0) -> Say:
    """What DingTalk says to a question without credentials."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
    return reply({"errcode": 43002, "errmsg": "require POST"}, headers=[f"Date: {date}"])


@pytest.fixture
def dingtalk() -> Iterator[RawServer]:
    with RawServer(refusal()) as server:
        yield server


@pytest.fixture
def environ(tmp_path: Path, valkey: Server, dingtalk: RawServer, state: State) -> dict[str, str]:
    file = tmp_path / "dingqueue.toml"
    file.write_text(CONFIG)
    return {
        "DINGQUEUE_CONFIG": str(file),
        "DINGQUEUE_BROKER_URL": valkey.url,
        "DINGQUEUE_PREFIX": state.prefix,
        "DINGQUEUE_OAPI_URL": dingtalk.url,
        "DINGQUEUE_API_URL": dingtalk.url,
    }


def found(environ: Mapping[str, str], *, timeout_s: float = 1.0) -> dict[str, Finding]:
    findings = list(examine(environ, timeout_s=timeout_s))
    assert "PLANTED" not in repr(findings)
    return {finding.check: finding for finding in findings}


def typed(environ: Mapping[str, str], *words: str) -> Result:
    result = CliRunner().invoke(main, ["doctor", "--timeout", "1", *words], env=environ, catch_exceptions=False)
    assert "PLANTED" not in result.output
    return result


def test_a_whole_fleet_is_well(dingtalk: RawServer) -> None:
    with Fleet(CONFIG, oapi_url=dingtalk.url) as fleet:
        fleet.workers(1)
        result = fleet.command("doctor")
        as_json = json.loads(fleet.command("doctor", "--json").stdout)
        stranger = typed({**fleet.env, "DINGQUEUE_PREFIX": "other:"})

    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(line.startswith("OK    ") for line in lines), result.stdout
    assert [line[6:].split(":")[0] for line in lines] == [
        "configuration", "redis", "eviction", "persistence", "clock of redis", "broker", "workers", "dingtalk",
        "clock of dingtalk", "senders", "lanes", "dead letters",
    ]  # fmt: skip
    assert "w0@" in result.stdout
    assert as_json["exit_code"] == 0
    assert [check["state"] for check in as_json["checks"]] == ["ok"] * len(lines)
    assert "PLANTED" not in result.stdout + result.stderr
    # A worker of another fleet on the same broker is none of ours.
    assert "FAIL  workers: none answers on the queue dingqueue.other" in stranger.stdout


def test_the_question_to_dingtalk_sends_nothing_and_names_nobody(environ: dict[str, str], dingtalk: RawServer) -> None:
    found(environ)

    assert [request.line for request in dingtalk.requests] == ["GET /robot/send HTTP/1.1"]
    assert dingtalk.requests[0].body == b""


def test_the_newer_host_is_asked_where_there_is_an_app(environ: dict[str, str], dingtalk: RawServer) -> None:
    with Path(environ["DINGQUEUE_CONFIG"]).open("a") as file:
        file.write('[apps.acme]\napp_key = "PLANTED"\napp_secret = "PLANTED"\n')

    assert found(environ)["dingtalk (newer host)"].state == "ok"
    assert [request.target for request in dingtalk.requests] == ["/robot/send", "/v1.0/oauth2/accessToken"]


def test_the_sandbox_answers_as_dingtalk_does(environ: dict[str, str]) -> None:
    with Sandbox() as sandbox:
        space = sandbox.namespace()
        environ["DINGQUEUE_OAPI_URL"], environ["DINGQUEUE_API_URL"] = space.oapi_url, space.api_url
        with Path(environ["DINGQUEUE_CONFIG"]).open("a") as file:
            file.write('[apps.acme]\napp_key = "k"\napp_secret = "s"\n')
        checks = found(environ)

        assert space.messages() == []
    assert checks["dingtalk"].state == "ok"
    assert checks["dingtalk (newer host)"].state == "ok"


def test_an_app_whose_credentials_were_refused_fails(environ: dict[str, str], state: State) -> None:
    with Path(environ["DINGQUEUE_CONFIG"]).open("a") as file:
        file.write('[apps.acme]\napp_key = "PLANTED"\napp_secret = "PLANTED"\n')
    assert found(environ)["app token"].words == "acme: not asked for yet"
    mark = app_mark(App(name="acme", app_key="PLANTED", app_secret=Secret("PLANTED")))
    asked = state.store.token_ask("acme", mark, lease_ms=1_000, eager=False)
    assert isinstance(asked, Fetch)
    state.store.token_fail(
        "acme", mark, asked.lease, why="the app's key or secret is wrong", bad=True, rest_ms=None, jitter=0.0
    )

    finding = found(environ)["app token"]

    assert finding.state == "fail"
    assert finding.words == "acme: DingTalk refuses the credentials: the app's key or secret is wrong"
    assert "[apps.acme] in dingqueue.toml" in finding.fix


def test_no_worker_fails_with_what_to_type(environ: dict[str, str]) -> None:
    result = typed(environ)

    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if "workers" in line and line.startswith("FAIL")]
    assert line.endswith("→ dingqueue worker")


def test_a_wrong_configuration_ends_it_with_every_problem(environ: dict[str, str]) -> None:
    Path(environ["DINGQUEUE_CONFIG"]).write_text(CONFIG.replace("token", "tokn").replace('["ops"]', '["opps"]'))

    result = typed(environ)

    assert result.exit_code == 2
    file = f"{environ['DINGQUEUE_CONFIG']}: "
    assert [line.split(" → ")[0].replace(file, "", 1) for line in result.stdout.splitlines()] == [
        "FAIL  configuration: robots.ops.token: expected the robot's access_token, or its whole webhook URL, found nothing",
        "FAIL  configuration: robots.ops.tokn: no such setting; did you mean token?",
        'FAIL  configuration: destinations.ops.robots[0]: there is no "opps" in [robots]; did you mean ops?',
    ]  # fmt: skip


def test_the_option_names_another_file(environ: dict[str, str], tmp_path: Path) -> None:
    result = typed(environ, "--config", str(tmp_path / "missing.toml"))

    assert result.exit_code == 2
    assert "missing.toml: no such file" in result.stdout


def test_redis_away_has_its_own_exit_code_and_dingtalk_is_still_asked(environ: dict[str, str]) -> None:
    environ["DINGQUEUE_BROKER_URL"] = f"redis://:PLANTED@127.0.0.1:{free_port()}/0"

    result = typed(environ)

    assert result.exit_code == 4
    lines = {line[6:].split(":")[0]: line for line in result.stdout.splitlines()}
    assert lines["redis"].startswith("FAIL")
    assert "PING" in lines["redis"]
    assert lines["broker"].startswith("FAIL")
    assert lines["dingtalk"].startswith("OK")
    assert "lanes" not in lines
    assert "workers" not in lines


def test_a_wrong_password_is_said_without_it(environ: dict[str, str]) -> None:
    with Server(durable=False) as server:
        with redis.Redis(port=server.port) as admin:
            admin.config_set("requirepass", "right")
        environ["DINGQUEUE_BROKER_URL"] = f"redis://:PLANTED@127.0.0.1:{server.port}/0"

        checks = found(environ)

    assert checks["redis"].state == checks["broker"].state == "fail"
    assert "refused the user or password" in checks["redis"].words


def test_what_to_type_shows_the_certificates_that_the_server_wants(environ: dict[str, str], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shown = f"ssl_ca_certs={authority.certificate}&ssl_certfile={authority.client}&ssl_keyfile={authority.client}"
    environ["DINGQUEUE_BROKER_URL"] = f"sentinels://:PLANTED@127.0.0.1:{free_port()}/main?{shown}"

    checks = found(environ)

    flags = f"--tls --cacert {authority.certificate} --cert {authority.client} --key {authority.client}"
    assert checks["redis"].fix.count(flags) == 2, "for the Sentinels and for the server that they name"
    assert "none of its Sentinels could be reached (connection refused)" in checks["redis"].words


@pytest.mark.parametrize("drip", [b"", b"+"])
def test_a_redis_that_accepts_and_never_answers_is_told_in_time(environ: dict[str, str], drip: bytes) -> None:
    with black_hole(drip=drip) as port:
        environ["DINGQUEUE_BROKER_URL"] = f"redis://127.0.0.1:{port}/0"
        began_s = time.monotonic()
        checks = found(environ)

        assert time.monotonic() - began_s < 10
    assert checks["redis"].unreachable
    assert checks["broker"].unreachable


def test_a_sentinel_that_is_of_no_use_as_broker_is_told_as_everywhere_and_not_asked_twice(
    environ: dict[str, str], valkey: Server
) -> None:
    environ["DINGQUEUE_STATE_URL"] = valkey.url
    with lone_sentinel() as port:
        for url, words in (
            (f"redis://nobody:PLANTED@127.0.0.1:{valkey.port}/0", "refused the user or password"),
            (f"redis://127.0.0.1:{port}/0", "if it is a Sentinel, its address is sentinel://host:26379/name/0"),
            (f"sentinel://:PLANTED@127.0.0.1:{port}/main/0", "its Sentinels know no main, they watch no server yet"),
            (f"sentinel://:PLANTED@127.0.0.1:{valkey.port}/main/0", "the hosts are no Sentinels"),
            (f"sentinel://127.0.0.1:{free_port()}/main/0", "none of its Sentinels could be reached (connection refused)"),
        ):  # fmt: skip
            checks = found({**environ, "DINGQUEUE_BROKER_URL": url})

            assert checks["broker"].unreachable, url
            assert words in checks["broker"].words
            assert checks["redis"].state == "ok"
            assert "workers" not in checks


def test_each_question_has_its_time_and_no_more(environ: dict[str, str], valkey: Server) -> None:
    took_s: dict[str, float] = {}
    with RawServer(Hang()) as dingtalk, black_hole() as port:
        for broker_url in (valkey.url, f"redis://127.0.0.1:{port}/0"):
            environ |= {"DINGQUEUE_BROKER_URL": broker_url, "DINGQUEUE_STATE_URL": valkey.url}
            environ |= {"DINGQUEUE_OAPI_URL": dingtalk.url, "DINGQUEUE_API_URL": dingtalk.url}
            began_s = time.monotonic()
            for finding in examine(environ, timeout_s=2.0):
                now_s = time.monotonic()
                took_s[finding.check] = max(now_s - began_s, took_s.get(finding.check, 0.0))
                began_s = now_s

    waited = {check for check, seconds in took_s.items() if seconds > 1.0}
    assert waited == {"broker", "workers", "dingtalk"}
    assert max(took_s.values()) < 2.9, took_s


def test_a_broker_that_is_not_redis_is_checked_by_itself(environ: dict[str, str], valkey: Server) -> None:
    environ |= {"DINGQUEUE_BROKER_URL": f"amqp://u:PLANTED@127.0.0.1:{free_port()}//", "DINGQUEUE_STATE_URL": valkey.url}  # fmt: skip

    checks = found(environ)

    assert checks["redis"].state == "ok"
    assert checks["broker"].unreachable
    assert checks["broker"].words.startswith("amqp at 127.0.0.1:")


def test_a_server_that_may_evict_or_forget_is_told(environ: dict[str, str]) -> None:
    with Server(durable=False, options={"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}) as server:
        environ["DINGQUEUE_BROKER_URL"] = server.url
        checks = found(environ)

    assert checks["eviction"].state == "fail"
    assert f"redis-cli -h 127.0.0.1 -p {server.port} CONFIG SET maxmemory-policy noeviction" in checks["eviction"].fix
    assert checks["persistence"].state == "warn"


def test_a_redis_whose_clock_is_off_would_be_told_and_this_one_is_not(environ: dict[str, str]) -> None:
    assert found(environ)["clock of redis"].state == "ok"


@pytest.mark.parametrize(("ahead_s", "judged"), [(0, "ok"), (600, "warn"), (7_200, "fail"), (-7_200, "fail")])
def test_a_clock_that_would_make_dingtalk_refuse_signatures_is_told(
    environ: dict[str, str], ahead_s: int, judged: str
) -> None:
    with RawServer(refusal(ahead_s)) as dingtalk:
        environ["DINGQUEUE_OAPI_URL"] = dingtalk.url

        assert found(environ)["clock of dingtalk"].state == judged


def test_dingtalk_away_has_its_own_exit_code(environ: dict[str, str]) -> None:
    environ["DINGQUEUE_OAPI_URL"] = f"http://127.0.0.1:{free_port()}"

    result = typed(environ)

    assert result.exit_code == 4
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("FAIL  dingtalk")]
    assert "connection refused" in line
    assert f"curl -sS {environ['DINGQUEUE_OAPI_URL']}" in line


def test_a_dingtalk_that_hangs_is_told_in_time(environ: dict[str, str]) -> None:
    with RawServer(Hang()) as dingtalk:
        environ["DINGQUEUE_OAPI_URL"] = dingtalk.url
        began_s = time.monotonic()
        checks = found(environ, timeout_s=0.5)

        assert time.monotonic() - began_s < 8
    assert checks["dingtalk"].unreachable


def test_a_name_server_that_hangs_holds_nothing_up(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    done = threading.Event()
    real = socket.getaddrinfo

    def slow(host: object, *args: object, **more: object) -> object:
        if host == "slow.example":
            done.wait(30)
        return real(host, *args, **more)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    environ["DINGQUEUE_OAPI_URL"] = "http://slow.example"
    began_s = time.monotonic()
    checks = found(environ, timeout_s=0.5)
    took_s = time.monotonic() - began_s
    done.set()

    assert took_s < 8
    assert checks["dingtalk"].unreachable


def test_a_socks_proxy_is_named(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://u:PLANTED@127.0.0.1:1080")
    monkeypatch.setenv("NO_PROXY", "")

    assert "SOCKS" in found(environ)["dingtalk"].words


def test_what_the_fleet_says_of_itself_is_told(environ: dict[str, str], state: State) -> None:
    state.clock.now_ms = int(state.redis.time()[0]) * 1000
    state.pace({"ops": lane("robot.ops"), "dev": lane("robot.dev")}, {"robot.ops": sender(), "robot.dev": sender()})
    _, (call,) = state.submit("ops")
    state.start(call)
    close = Close(cause="cooldown", why="the robot sent more than 20 messages in a minute (code 130101)")
    state.settle(call, Ended(outcome=Snooze(why=close.why, cause="too_fast", close=close)))
    _, (call,) = state.submit("dev")
    state.start(call)
    state.settle(call, Ended(outcome=Dead(why="content refused", cause="content")))
    state.store.hold("dev", for_s=600, why="paused by ann")

    lines = typed(environ).stdout.splitlines()

    assert any(line.startswith("WARN  sender: robot.ops is closed until ") and "code 130101" in line for line in lines)
    assert any(line.startswith("WARN  lane: dev rests until ") and "paused by ann" in line for line in lines)
    assert "WARN  dead letters: 1 job not delivered, kept for a person to decide → dingqueue dead list" in lines
    assert "OK    lanes: 2 known, 1 job waiting, 0 out" in lines


def test_a_broken_sender_fails(environ: dict[str, str], state: State) -> None:
    state.clock.now_ms = int(state.redis.time()[0]) * 1000
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})
    close = Close(cause="fault", why="there is no robot with this token (code 300005)")
    _, calls = state.submit("ops")
    for _ in range(2):
        state.start(calls[0])
        state.settle(calls[0], Ended(outcome=Snooze(why=close.why, cause="robot", close=close)))
        state.clock.pass_ms(3_000)
        calls = state.release()

    finding = found(environ)["sender"]

    assert finding.state == "fail"
    assert "code 300005" in finding.words
    assert "[robots.ops] in dingqueue.toml" in finding.fix


# The file store


@pytest.mark.parametrize(
    ("url", "judged", "words"),
    [
        ("", None, ""),
        ("file://{folder}", "ok", "folder: shared files wait there"),
        ("file://{folder}/not-mounted", "fail", "make it, or mount it"),
        ("redis://:planted@127.0.0.1:1/0", "fail", "could not be reached"),
        ("local://{folder}", "ok", "local: shared files wait there"),
    ],
)
def test_a_file_store_of_its_own_is_looked_at(environ: dict[str, str], tmp_path: Path, url: str, judged: str | None, words: str) -> None:  # fmt: skip
    found_now = found({**environ, "DINGQUEUE_FILES_URL": url.format(folder=tmp_path)})

    if judged is None:
        assert "file store" not in found_now
        return
    finding = found_now["file store"]
    assert finding.state == judged
    assert words in finding.words
    assert "planted" not in finding.words
