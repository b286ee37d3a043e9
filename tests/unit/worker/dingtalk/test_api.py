"""One request on real sockets: what left, what was seen of the end, how long it may take, and that no secret escapes."""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from dingqueue_worker import watched
from dingqueue_worker.dingtalk.answers import classify
from dingqueue_worker.dingtalk.api import MAX_ANSWER_BYTES, Api
from dingqueue_worker.dingtalk.errors import NoAnswer, NotSent, Unanswered
from dingqueue_worker.embedded import free_port
from dingqueue_worker.outcome import Unknown
from dingqueue_worker.settings import Robot, Secret
from support.raw_server import (
    CERTIFICATE,
    Close,
    Drip,
    Hang,
    Move,
    Moves,
    RawServer,
    Reset,
    Say,
    Take,
    Tunnel,
    reply,
)
from support.waiting import wait_for

ROBOT = Robot(name="ops", token=Secret("PLANTED-TOKEN-1"), secret=Secret("SECplanted0000000000000000secret"))
NOW_MS = 1_767_225_601_279
BODY = '{"msgtype":"text","text":{"content":"salary 123 😱 ① ㎡ 𠮷 👨‍👩‍👧 🇨🇳"}}'.encode()
OK = reply()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextmanager
def an_api(url: str, **more: Any) -> Iterator[Api]:
    options = {"connect_timeout_s": 2.0, "read_timeout_s": 2.0, "total_timeout_s": 4.0, "pool_size": 4} | more
    with Api(oapi_url=url, api_url=url, **options) as api:
        yield api


def post(api: Api, body: bytes = BODY, robot: Robot = ROBOT) -> Any:
    return api.robot_send(robot, body, timestamp_ms=NOW_MS)


def no_answer(url: str, **more: Any) -> NoAnswer:
    with an_api(url, **more) as api, pytest.raises(NoAnswer) as caught:
        post(api)
    return caught.value


# --- What is sent -------------------------------------------------------------------------------------------------


def test_a_message_leaves_in_one_packet() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        an_api(f"http://127.0.0.1:{server.getsockname()[1]}") as api,
        ThreadPoolExecutor(1) as thread,
    ):
        posted = thread.submit(post, api)
        connection, _ = server.accept()
        with connection:
            packet = connection.recv(65_536)
            connection.sendall(OK.data)
            posted.result(10)

    assert packet.startswith(b"POST /robot/send?")
    assert packet.endswith(BODY)


def test_a_body_of_any_size_arrives_whole() -> None:
    for size_bytes in (watched.MAX_GATHERED_BYTES - 1, watched.MAX_GATHERED_BYTES, 3 * watched.MAX_GATHERED_BYTES):
        with RawServer(OK) as server, an_api(server.url) as api:
            post(api, b"x" * size_bytes)

        assert server.requests[0].body == b"x" * size_bytes


def test_the_request_is_dingtalks_own() -> None:
    with RawServer(OK) as server, an_api(server.url) as api:
        answer = post(api)

    (request,) = server.requests
    assert request.line.startswith("POST /robot/send?access_token=PLANTED-TOKEN-1&timestamp=1767225601279&sign=")
    assert request.line.endswith(" HTTP/1.1")
    assert request.body == BODY
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.headers["content-length"] == str(len(BODY))
    assert request.headers["user-agent"] == "dingqueue"
    assert (answer.status, answer.content_type, answer.body) == (200, "application/json", '{"errcode":0,"errmsg":"ok"}')


def test_the_signature_arrives_encoded_once() -> None:
    """Case B25."""
    robot = Robot(name="ops", token=Secret("T1"), secret=Secret("SECdemo" + "0" * 58))
    with RawServer(OK) as server, an_api(server.url) as api:
        post(api, robot=robot)

    target = server.requests[0].target
    assert "sign=%2Bae%2BVKCU71dBBlblk%2F7JX%2F2ELBytDXqiV3WeS74f2ec%3D" in target
    assert parse_qs(urlsplit(target).query)["sign"] == ["+ae+VKCU71dBBlblk/7JX/2ELBytDXqiV3WeS74f2ec="]


def test_a_robot_without_a_secret_is_not_signed() -> None:
    with RawServer(OK) as server, an_api(server.url) as api:
        post(api, robot=Robot(name="ops", token=Secret("T1")))

    assert server.requests[0].target == "/robot/send?access_token=T1"


def test_a_base_url_with_a_path_is_kept() -> None:
    with RawServer(OK) as server, an_api(f"{server.url}/dingtalk") as api:
        post(api)

    assert server.requests[0].target.startswith("/dingtalk/robot/send?access_token=")


def test_one_connection_serves_many_requests() -> None:
    with RawServer(OK) as server, an_api(server.url) as api:
        for _ in range(5):
            post(api)

    assert (len(server.requests), server.connections) == (5, 1)


def test_cookies_are_not_kept() -> None:
    with RawServer(reply(headers=["Set-Cookie: a=b; Path=/"])) as server, an_api(server.url) as api:
        post(api)
        post(api)

    assert "cookie" not in server.requests[1].headers


def test_a_netrc_file_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login planted password planted\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with RawServer(OK) as server, an_api(server.url) as api:
        post(api)

    assert "authorization" not in server.requests[0].headers


# --- What comes back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "429 Too Many Requests", "500 Oops", "503 Away"])
def test_any_status_is_an_answer(status: str) -> None:
    with RawServer(reply('{"errcode":1}', status=status)) as server, an_api(server.url) as api:
        answer = post(api)

    assert f"{answer.status}" == status.split()[0]
    assert answer.body == '{"errcode":1}'
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["http://127.0.0.1:1/elsewhere", "/robot/send", "http://[", "", "\x80\xff"])
def test_a_redirect_is_an_answer_and_is_not_followed(location: str) -> None:
    answer_302 = reply("moved", status="302 Found", headers=[f"Location: {location}"])
    with RawServer(answer_302) as server, an_api(server.url) as api:
        answer = post(api)

    assert (answer.status, answer.body) == (302, "moved")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("\ufeff{}".encode(), "{}"),
        ("消息".encode(), "消息"),
        ("消息".encode("gbk"), "��Ϣ"),
        (b"", ""),
        (b"\x00\xff", "\x00�"),
    ],
)
def test_a_body_is_read_as_utf_8_whatever_it_is(body: bytes, text: str) -> None:
    with RawServer(reply(body, content_type="text/html; charset=gbk")) as server, an_api(server.url) as api:
        assert post(api).body == text


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{\"a\":1}",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
        b"HTTP/1.1 200 OK\r\nX-Odd-Header without colon\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
    ],
    ids=["chunked", "until the end", "after a continue", "odd header"],
)  # fmt: skip
def test_http_in_its_other_forms_is_read(raw: bytes) -> None:
    with RawServer([(Say(raw), Close())]) as server, an_api(server.url) as api:
        assert post(api).body.startswith('{"a":1}')


@pytest.mark.parametrize("status", ["200 OK", "302 Found"])
def test_a_huge_answer_is_read_only_at_its_head(status: str) -> None:
    endless = f"HTTP/1.1 {status}\r\nLocation: /\r\nContent-Length: 1000000000\r\n\r\n".encode() + b"x" * 2_000_000
    with RawServer([(Say(endless), Hang()), OK]) as server, an_api(server.url) as api:
        began_s = time.monotonic()
        answer = post(api)

        assert len(answer.body) == MAX_ANSWER_BYTES
        assert time.monotonic() - began_s < 2
        assert post(api).status == 200
        assert server.connections == 2, "a connection with the rest of an answer in it is not used again"


def test_a_compressed_bomb_does_not_swell() -> None:
    import gzip

    bomb = gzip.compress(b"0" * 50_000_000)
    with RawServer(reply(bomb, headers=["Content-Encoding: gzip"])) as server, an_api(server.url) as api:
        assert len(post(api).body) == MAX_ANSWER_BYTES
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_the_far_sides_clock_comes_with_the_answer() -> None:
    with RawServer(reply(headers=["Date: Wed, 25 Nov 2026 08:00:00 GMT"])) as server, an_api(server.url) as api:
        assert post(api).date == "Wed, 25 Nov 2026 08:00:00 GMT"


# --- Nothing left -------------------------------------------------------------------------------------------------


def test_a_refused_connection_sent_nothing() -> None:
    error = no_answer(f"http://127.0.0.1:{free_port()}")

    assert isinstance(error, NotSent)
    assert str(error) == "nothing was sent: connection refused (ConnectionRefusedError)"


def test_a_name_that_nobody_knows_sent_nothing() -> None:
    error = no_answer("http://nobody.invalid")

    assert isinstance(error, NotSent)
    assert str(error).startswith("nothing was sent: the host's name was not found (")


def test_a_connection_that_does_not_come_about_in_time_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        taken = [socket.socket() for _ in range(2)]
        for one in taken:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        began_s = time.monotonic()
        error = no_answer(f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout_s=0.4)
        took_s = time.monotonic() - began_s
        for one in taken:
            one.close()

    assert isinstance(error, NotSent)
    assert error.phrase == "nothing was sent: no connection in time"
    assert took_s < 2


def test_the_total_time_bounds_the_connection_too() -> None:
    with RawServer(first=(Hang(),), tls=True) as server:
        began_s = time.monotonic()
        error = no_answer(server.url, connect_timeout_s=30.0, total_timeout_s=0.4)

        assert time.monotonic() - began_s < 2
    assert isinstance(error, NotSent)


def test_a_request_does_not_leave_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server took all of it."""
    real = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        threading.Event().wait(0.5)
        return real(*args, **kwargs)

    with RawServer(OK) as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        error = no_answer(server.url, total_timeout_s=0.3)

    assert isinstance(error, NotSent)
    assert server.requests == []


# --- It left, and nobody saw the end ------------------------------------------------------------------------------

UNSEEN: list[tuple[str, Moves, Moves | Move, str]] = [
    ("closed before a byte was read", (Close(),), OK, ""),
    ("reset after the first byte", (Take(1), Reset()), OK, "the connection "),
    ("reset after the request", (), Reset(), "the connection was reset before an answer"),
    ("closed after the request", (), Close(), "the connection ended before an answer"),
    ("no answer", (), Hang(), "no answer in time"),
    ("half a status line", (), (Say(b"HTTP/1.1 20"), Close()), ""),
    ("no HTTP", (), (Say(b"SSH-2.0-OpenSSH_9.9\r\n"), Close()), "what came back was not HTTP"),
    ("a cut body", (), (Say(b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"errcode":0'), Close()), "the answer was cut short"),
    ("a cut chunk", (), (Say(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1b\r\n{"errcode":0'), Close()), ""),
    ("a chunk of no size", (), (Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"), Close()), "the answer was cut short"),
    ("a body that hangs", (), (Say(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"), Hang()), "no answer in time"),
    ("a body reset", (), (Say(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"), Reset()), ""),
    ("false gzip", (), reply("{}", headers=["Content-Encoding: gzip"]), ""),
    ("two lengths", (), reply("{}", headers=["Content-Length: 3"]), ""),
    ("a header of a megabyte", (), (Say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n"), Close()), ""),
    ("ten thousand headers", (), (Say(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n"), Close()), ""),
]  # fmt: skip


@pytest.mark.parametrize(("first", "answer", "phrase"), [row[1:] for row in UNSEEN], ids=[row[0] for row in UNSEEN])
def test_an_end_that_nobody_saw_is_told_from_a_request_that_never_left(
    first: Moves, answer: Moves | Move, phrase: str
) -> None:
    with RawServer([answer], first=first) as server:
        error = no_answer(server.url, read_timeout_s=0.4)

        assert isinstance(error, Unanswered)
        assert str(error).startswith(f"sent, and nobody saw the end: {phrase}")
        assert server.connections == 1, "a POST is never repeated behind our back"
        assert len(server.requests) <= 1


def test_a_connection_that_is_reset_at_once_is_told_by_whether_a_byte_had_left() -> None:
    """The reset races with our first byte, so either is true; each says so of itself."""
    with RawServer([OK], first=(Reset(),)) as server:
        error = no_answer(server.url)

    assert isinstance(error, NotSent | Unanswered)
    assert error.phrase.startswith("nothing was sent:" if isinstance(error, NotSent) else "sent, and nobody saw")
    assert server.requests == []


def test_an_answer_cut_in_its_headers_says_neither_yes_nor_no() -> None:
    """http.client takes the end of the connection for the end of the headers."""
    with RawServer([(Say(b"HTTP/1.1 200 OK\r\nContent-Le"), Close())]) as server, an_api(server.url) as api:
        outcome = classify(post(api))

    assert isinstance(outcome, Unknown)
    assert outcome.cause == "unreadable"


def test_a_slow_drip_ends_with_the_total_time() -> None:
    """Each byte comes in time; the answer does not."""
    slow = (Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n" + b"x" * 27, 0.1), Hang())
    with RawServer([slow]) as server:
        began_s = time.monotonic()
        error = no_answer(server.url, read_timeout_s=0.5, total_timeout_s=1.0)
        took_s = time.monotonic() - began_s

    assert isinstance(error, Unanswered)
    assert "no answer in time" in str(error)
    assert 0.8 < took_s < 2.5


def test_a_slow_drip_of_the_body_ends_with_the_total_time() -> None:
    slow = (Say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"), Drip(b"x" * 100, 0.1))
    with RawServer([slow]) as server:
        began_s = time.monotonic()
        error = no_answer(server.url, read_timeout_s=0.5, total_timeout_s=1.0)
        took_s = time.monotonic() - began_s

    assert isinstance(error, Unanswered)
    assert took_s < 2.5


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
def test_a_silence_ends_with_the_total_time_however_long_a_silence_may_be(said: bytes) -> None:
    with RawServer([(Say(said), Hang())]) as server:
        began_s = time.monotonic()
        error = no_answer(server.url, read_timeout_s=30.0, total_timeout_s=0.6)
        took_s = time.monotonic() - began_s

    assert isinstance(error, Unanswered)
    assert took_s < 2.5


def test_a_far_side_that_reads_nothing_ends_with_the_total_time() -> None:
    with RawServer(first=(Hang(),)) as server, an_api(server.url, connect_timeout_s=0.2, total_timeout_s=0.8) as api:
        began_s = time.monotonic()
        with pytest.raises(Unanswered):
            post(api, body=b"x" * 30_000_000)

        assert 0.6 < time.monotonic() - began_s < 2.5


def test_the_next_request_has_all_of_its_own_time() -> None:
    """What the last answer left of its time is not what the next request gets."""
    almost = (Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 0.02),)
    later = (Drip(b" ", 0.6), OK)
    with RawServer([almost, later]) as server, an_api(server.url, total_timeout_s=1.2, read_timeout_s=1.0) as api:
        assert post(api).body == "{}"
        assert post(api).status == 200
    assert server.connections == 1


# --- Connections that were kept -----------------------------------------------------------------------------------


def test_a_kept_connection_that_the_far_side_closed_is_not_used() -> None:
    with RawServer([(OK, Close()), OK]) as server, an_api(server.url) as api:
        post(api)
        wait_for(lambda: server.ended == 1)
        assert post(api).status == 200

    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_kept_connection_that_the_far_side_reset_is_not_used() -> None:
    with RawServer([(OK, Reset()), OK]) as server, an_api(server.url) as api:
        post(api)
        wait_for(lambda: server.ended == 1)
        assert post(api).status == 200

    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_connection_that_idled_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something in between may have forgotten it, and then nobody could say whether a request was taken."""
    monkeypatch.setattr(watched, "MAX_IDLE_S", 0.0)
    with RawServer(OK) as server, an_api(server.url) as api:
        post(api)
        post(api)

    assert server.connections == 2


def test_a_kept_connection_that_dies_under_the_request_is_unanswered_and_not_repeated() -> None:
    with RawServer([OK, Reset(), OK]) as server, an_api(server.url) as api:
        post(api)
        with pytest.raises(Unanswered):
            post(api)

        assert (server.connections, len(server.requests)) == (1, 2)


def test_many_threads_share_the_pool() -> None:
    with RawServer(OK) as server, an_api(server.url, pool_size=3) as api:
        failures: list[Exception] = []

        def work() -> None:
            try:
                for _ in range(20):
                    assert post(api).status == 200
            except Exception as error:  # noqa: BLE001 - it is asserted on below
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert failures == []
    assert len(server.requests) == 120


# --- TLS ----------------------------------------------------------------------------------------------------------


def test_tls_with_a_certificate_that_the_environment_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with RawServer(OK, tls=True) as server, an_api(server.url) as api:
        post(api)
        assert post(api).status == 200

    assert (server.connections, len(server.requests)) == (1, 2)


def test_tls_with_a_certificate_that_nobody_trusts_sends_nothing() -> None:
    with RawServer(OK, tls=True) as server:
        error = no_answer(server.url)

    assert isinstance(error, NotSent)
    assert str(error) == "nothing was sent: the server's certificate was not accepted (SSLCertVerificationError)"
    assert server.requests == []


def test_tls_to_a_server_that_speaks_none_sends_nothing() -> None:
    with RawServer(OK, first=(Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close())) as server:
        error = no_answer(server.url.replace("http:", "https:"))

    assert isinstance(error, NotSent)
    assert server.requests == []


def test_tls_that_ends_in_the_answer_is_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with RawServer([(Say(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"), Close())], tls=True) as server:
        assert isinstance(no_answer(server.url), Unanswered)


# --- Proxies ------------------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(OK) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with an_api("http://dingtalk.example") as api:
            assert post(api).status == 200

    assert proxy.requests[0].target.startswith("http://dingtalk.example/robot/send?access_token=")


def test_a_proxy_hears_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(OK) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//user:word@"))
        with an_api("http://dingtalk.example") as api:
            post(api)

    assert proxy.requests[0].headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"


def test_tls_goes_through_a_proxys_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with RawServer(OK, tls=True) as server, RawServer([(Tunnel(server.port),)]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with an_api(server.url) as api:
            post(api)
            assert post(api).status == 200

    (consent,) = proxy.requests
    assert consent.line.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.")
    assert len(server.requests) == 2
    assert "PLANTED" not in f"{consent}"


def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with RawServer(OK) as server, an_api(server.url) as api:
        assert post(api).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        reply("", status="407 Proxy Authentication Required"),
        reply("", status="502 Bad Gateway"),
        Close(),
        Reset(),
        Hang(),
    ],
    ids=["wants a password", "cannot reach it", "closes", "resets", "hangs"],
)
def test_a_proxy_that_does_not_connect_us_sent_nothing(monkeypatch: pytest.MonkeyPatch, answer: Move) -> None:
    with RawServer([answer]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        began_s = time.monotonic()
        error = no_answer("https://dingtalk.example", connect_timeout_s=0.5, total_timeout_s=1.5)

        assert time.monotonic() - began_s < 3
        assert isinstance(error, NotSent)
        assert len(proxy.requests) == 1


def test_a_proxy_that_drips_its_consent_ends_with_the_total_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer([Drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 50, 0.1)]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        began_s = time.monotonic()
        error = no_answer("https://dingtalk.example", total_timeout_s=1.0)

        assert time.monotonic() - began_s < 3
    assert isinstance(error, NotSent)


def test_a_proxy_that_is_away_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")

    assert isinstance(no_answer("https://dingtalk.example"), NotSent)


def test_a_socks_proxy_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")

    with pytest.raises(ValueError, match="SOCKS proxies are not supported"):
        Api(
            oapi_url="https://oapi.example",
            api_url="https://api.example",
            connect_timeout_s=1,
            read_timeout_s=1,
            total_timeout_s=1,
            pool_size=1,
        )


# --- No secret escapes (case B59) ---------------------------------------------------------------------------------

FAILURES: dict[str, Callable[[], RawServer]] = {
    "reset": lambda: RawServer([Reset()]),
    "closed": lambda: RawServer([Close()]),
    "cut": lambda: RawServer([(Say(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"), Close())]),
    "not http": lambda: RawServer([(Say(b"nonsense\r\n"), Close())]),
    "silence": lambda: RawServer([Hang()]),
    "odd headers": lambda: RawServer([(Say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nno colon\r\n\r\n{"), Close())]),
    "certificate": lambda: RawServer(OK, tls=True),
}


def everything(error: BaseException) -> str:
    """All that a logger, a crash report or a debugger's default view would print of an exception."""
    seen = traceback.format_exception(error)
    chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
    return "".join([*seen, *(f"{one!r} {one} {vars(one) if one else ''}" for one in chain)])


@pytest.mark.parametrize("failure", FAILURES)
def test_an_exception_shows_no_secret(failure: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with FAILURES[failure]() as server:
        error = no_answer(server.url, read_timeout_s=0.3)

    shown = everything(error) + caplog.text + repr([vars(record) for record in caplog.records])
    for secret in ("PLANTED", "SECplanted", "sign=", "salary"):
        assert secret not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


def test_a_refused_connection_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    error = no_answer("http://127.0.0.1:9")

    assert "PLANTED" not in everything(error) + caplog.text


def test_the_frames_of_an_exception_hold_no_secret() -> None:
    """Crash reporters send local variables along."""
    error = no_answer("http://127.0.0.1:9")

    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.f_code.co_filename.endswith("api.py")]
    assert ours
    assert "PLANTED" not in "".join(repr(frame.f_locals) for frame in ours)


def test_the_libraries_own_debug_log_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RawServer(OK) as server, an_api(server.url) as api:
        post(api)

    assert "Starting new HTTP connection" in caplog.text
    assert "PLANTED" not in caplog.text
    assert "sign=" not in caplog.text


def test_the_body_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RawServer(OK) as server, an_api(server.url) as api:
        post(api)

    assert "salary" not in caplog.text


def test_requests_itself_would_have_shown_the_token() -> None:
    """Why all this: the library's own exception has the URL in it."""
    with pytest.raises(requests.ConnectionError, match="PLANTED"):
        requests.post("http://127.0.0.1:9/robot/send?access_token=PLANTED", data=b"", timeout=2)


def test_a_token_that_is_no_header_is_not_sent_and_is_in_no_words() -> None:
    token = Secret("PLANTED\nTOKEN")
    with RawServer(reply()) as server, an_api(server.url) as api:
        with pytest.raises(NotSent) as caught:
            api.newer("GET", "/v1.0/x", token=token)
        assert server.requests == []
    said = "".join(traceback.format_exception(caught.value))
    assert "PLANTED" not in said
    assert "the token holds what no HTTP header may" in str(caught.value)
