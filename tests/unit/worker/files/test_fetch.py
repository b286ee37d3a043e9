"""What a shared URL may reach, on real sockets: where it may lead, how much it may send, how long it may take."""

from __future__ import annotations

import base64
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence

import pytest

from dingqueue_worker.embedded import free_port
from dingqueue_worker.files.fetch import MAX_REDIRECTS, Fetched, Fetcher, FetchFailed, FetchRefused, Resolve
from support.raw_server import CERTIFICATE, Close, Drip, Hang, Moves, RawServer, Reset, Say, Tunnel, reply

FILE = reply(b"%PDF-1.7 hello", content_type="application/pdf")
PLANTED = "X-Signature=planted-signature"


def a_fetcher(*open_hosts: str, resolve: Resolve | None = None, timeout_s: float = 10.0, silence_s: float = 5.0) -> Fetcher:  # fmt: skip
    return Fetcher(
        open_hosts=open_hosts, timeout_s=timeout_s, connect_timeout_s=2.0, silence_s=silence_s, resolve=resolve
    )


def opening(server: RawServer) -> Fetcher:
    return a_fetcher(f"127.0.0.1:{server.port}")


def got(fetcher: Fetcher, url: str, *, most_bytes: int = 1_000_000) -> tuple[bytes, str]:
    with fetcher.fetch(url, most_bytes=most_bytes) as fetched:
        data = fetched.content.read()
        assert len(data) == fetched.size_bytes
        return data, fetched.name


def refused(fetcher: Fetcher, url: str, *, most_bytes: int = 1_000_000) -> str:
    with pytest.raises(FetchRefused) as caught:
        got(fetcher, url, most_bytes=most_bytes)
    return safe(caught.value)


def failed(fetcher: Fetcher, url: str, *, most_bytes: int = 1_000_000) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        got(fetcher, url, most_bytes=most_bytes)
    safe(caught.value)
    return caught.value


def safe(error: Exception) -> str:
    assert "planted" not in str(error)
    assert error.__cause__ is None
    return str(error)


def redirect(location: str, status: str = "302 Found") -> Say:
    return Say(f"HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())


def resolver(names: Mapping[str, Sequence[str]]) -> Resolve:
    def resolve(host: str, port: int) -> Sequence[str]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return names[host]

    return resolve


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.endswith("CA_BUNDLE")]:
        monkeypatch.delenv(name)


# What comes


def test_a_file_comes_with_the_name_that_the_server_gives_it() -> None:
    named = reply(b"x", headers=["Content-Disposition: attachment; filename*=UTF-8''%E5%AD%A3%E5%BA%A6%20%22Q3%22.pdf"])
    raw = Say(
        'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Disposition: attachment; filename="季度.pdf"\r\n\r\nx'.encode()
    )
    with RawServer([FILE, named, raw]) as server:
        fetcher = opening(server)
        assert got(fetcher, f"{server.url}/a.pdf") == (b"%PDF-1.7 hello", "")
        assert got(fetcher, f"{server.url}/download?id=1") == (b"x", '季度 "Q3".pdf')
        assert got(fetcher, f"{server.url}/download?id=2") == (b"x", "季度.pdf")

    assert [request.target for request in server.requests] == ["/a.pdf", "/download?id=1", "/download?id=2"]
    headers = server.requests[0].headers
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["accept-encoding"] == "identity"
    assert not headers.keys() & {"authorization", "cookie", "referer"}


def test_a_path_in_any_script_is_asked_for_as_browsers_do() -> None:
    with RawServer([FILE]) as server:
        got(opening(server), f"{server.url}/季度 报表.pdf?名=值#part")

    assert server.requests[0].target == "/%E5%AD%A3%E5%BA%A6%20%E6%8A%A5%E8%A1%A8.pdf?%E5%90%8D=%E5%80%BC"


def test_a_large_file_lies_on_disk_and_goes_with_its_with() -> None:
    data = os.urandom(3_000_000)
    with RawServer([reply(data)]) as server, opening(server).fetch(server.url, most_bytes=3_000_000) as fetched:
        assert fetched.content.read() == data
        content = fetched.content

    assert content.closed


def test_a_body_of_no_told_length_is_read_to_its_end() -> None:
    chunked = Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    closed = Say(b"HTTP/1.0 200 OK\r\n\r\nhello")
    with RawServer([chunked, (closed, Close())]) as server:
        assert got(opening(server), server.url)[0] == b"hello"
        assert got(opening(server), server.url)[0] == b"hello"


# Where it may lead


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/{}",
        "https://localhost/{}",
        "https://[::1]/{}",
        "https://[::ffff:127.0.0.1]/{}",
        "https://[::ffff:7f00:1]/{}",
        "https://[64:ff9b::7f00:1]/{}",
        "https://169.254.169.254/latest/meta-data/{}",
        "https://10.0.0.1/{}",
        "https://0.0.0.0/{}",
        "https://0/{}",
        "https://2130706433/{}",
        "https://0x7f.1/{}",
        "https://127.1/{}",
        "https://224.0.0.1/{}",
        "https://user:planted@127.0.0.1/{}",
    ],
)
def test_what_is_inside_is_not_fetched(url: str) -> None:
    assert "is not fetched: it has a" in refused(a_fetcher(), url.format(f"x?{PLANTED}"))


@pytest.mark.parametrize("url", ["http://example.com/{}", "http://93.184.216.34/{}"])
def test_plain_http_is_not_fetched(url: str) -> None:
    assert "only https is" in refused(a_fetcher(), url.format(f"x?{PLANTED}"))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://e.com/planted",
        "file:///planted",
        "//e.com/planted",
        "https:///planted",
        "https://e.com:planted/",
        "https://[planted]/",
        "gopher://planted",
    ],
)
def test_what_is_no_web_address_is_not_fetched(url: str) -> None:
    assert "URL" in refused(a_fetcher(), url)


@pytest.mark.parametrize(
    "addresses",
    [
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
        ["2606:4700::1", "::ffff:10.0.0.1"],
        ["fe80::1%lo"],
    ],
)
def test_a_name_with_one_address_inside_is_not_fetched(addresses: list[str]) -> None:
    fetcher = a_fetcher(resolve=resolver({"evil.example": addresses}))

    assert refused(fetcher, f"https://evil.example/{PLANTED}").startswith(
        "https://evil.example is not fetched: it has a"
    )


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{other}/{planted}",
        "https://127.0.0.1:{other}/{planted}",
        "//127.0.0.1:{other}/{planted}",
        "https://169.254.169.254/latest/{planted}",
        "https://[::ffff:127.0.0.1]:{other}/{planted}",
        "https://localhost:{other}/{planted}",
        "https://rebound.example:{other}/{planted}",
        "file:///etc/{planted}",
        "http://93.184.216.34/{planted}",
    ],
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_to_what_is_inside_is_not_followed(location: str, status: str) -> None:
    with RawServer([FILE]) as other:
        place = location.format(other=other.port, planted=f"x?{PLANTED}")
        names = {"127.0.0.1": ["127.0.0.1"], "localhost": ["127.0.0.1"], "rebound.example": ["127.0.0.1"]}
        names |= {host: [host] for host in ("169.254.169.254", "::ffff:127.0.0.1", "93.184.216.34")}
        with RawServer([redirect(place, status)]) as server:
            refused(a_fetcher(f"127.0.0.1:{server.port}", resolve=resolver(names)), f"{server.url}/a.pdf?{PLANTED}")

    assert (len(server.requests), other.connections) == (1, 0)


def test_a_redirect_is_followed_where_it_may_lead() -> None:
    with RawServer([redirect("/next/file.pdf?x=1#y"), redirect("../b.pdf"), FILE]) as server:
        assert got(opening(server), f"{server.url}/a/b/c")[0] == b"%PDF-1.7 hello"

    assert [request.target for request in server.requests] == ["/a/b/c", "/next/file.pdf?x=1", "/b.pdf"]


def test_a_redirect_without_an_end_is_given_up() -> None:
    with RawServer([redirect("/again")]) as server:
        assert f"after {MAX_REDIRECTS} redirects" in refused(opening(server), server.url)

    assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "answer",
    [
        Say(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
        redirect("https://[planted"),
        redirect("http://a:planted/"),
    ],
)
def test_a_redirect_to_nowhere_is_refused(answer: Say) -> None:
    with RawServer([answer]) as server:
        refused(opening(server), server.url)


def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    """Whatever the name resolves to a moment later: it is asked once a host."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["203.0.113.7"]

    with RawServer([FILE]) as server:
        fetcher = a_fetcher("files.example", resolve=rebinding)
        assert got(fetcher, f"http://files.example:{server.port}/a")[0]

    assert asked == ["files.example"]
    assert server.requests[0].headers["host"] == f"files.example:{server.port}"


def test_the_next_address_is_tried_where_one_does_not_connect() -> None:
    with RawServer([redirect("/b"), FILE]) as server:
        fetcher = a_fetcher("files.example", resolve=resolver({"files.example": ["127.0.0.2", "127.0.0.1"]}))
        assert got(fetcher, f"http://files.example:{server.port}/a")[0]

    assert len(server.requests) == 2


# Credentials


def test_a_password_in_the_url_goes_to_its_host_alone() -> None:
    with RawServer([FILE]) as other, RawServer([redirect("/same"), redirect(f"{other.url}/x")]) as server:
        got(a_fetcher("127.0.0.1"), f"http://us%65r:p%40ss@127.0.0.1:{server.port}/a")

    expected = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert [request.headers.get("authorization") for request in server.requests] == [expected, expected]
    assert "authorization" not in other.requests[0].headers
    assert "referer" not in other.requests[0].headers


def test_a_password_that_a_redirect_names_is_not_used() -> None:
    with RawServer([redirect("http://u:p@127.0.0.1:{}/b"), FILE]) as server:
        server.answers = [redirect(f"http://u:p@127.0.0.1:{server.port}/b"), FILE]
        got(opening(server), f"{server.url}/a")

    assert "authorization" not in server.requests[1].headers


def test_cookies_are_not_kept() -> None:
    with RawServer(
        [Say(b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"), FILE]
    ) as server:
        got(opening(server), f"{server.url}/a")

    assert "cookie" not in server.requests[1].headers


# TLS


def test_a_certificate_is_checked_for_the_name_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    names = resolver({"localhost": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    with RawServer([FILE], tls=True) as server:
        fetcher = a_fetcher("localhost", "other.example", resolve=names)
        assert got(fetcher, f"https://localhost:{server.port}/a")[0] == b"%PDF-1.7 hello"
        error = failed(fetcher, f"https://other.example:{server.port}/a?{PLANTED}")

    assert "certificate was not accepted" in str(error)
    assert error.at_most is not None
    assert len(server.requests) == 1


def test_a_certificate_that_nobody_vouches_for_is_not_accepted() -> None:
    with RawServer([FILE], tls=True) as server:
        error = failed(
            a_fetcher("localhost", resolve=resolver({"localhost": ["127.0.0.1"]})), f"https://localhost:{server.port}/a"
        )

    assert "certificate was not accepted" in str(error)
    assert server.requests == []


# How much


@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_is_kept_to_the_byte(extra: int) -> None:
    with RawServer([reply(bytes(1_000 + extra))]) as server:
        if extra:
            assert "the file has 1,001 bytes; at most 1,000" in refused(opening(server), server.url, most_bytes=1_000)
        else:
            assert len(got(opening(server), server.url, most_bytes=1_000)[0]) == 1_000


def test_a_length_that_is_told_is_refused_before_it_is_read() -> None:
    head = Say(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n")
    with RawServer([(head, Hang())]) as server:
        began_s = time.monotonic()
        assert "at most" in refused(opening(server), server.url)
        assert time.monotonic() - began_s < 4


class Endless:
    """A server that never stops sending."""

    def __enter__(self) -> Endless:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(65_536)
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    connection.sendall(bytes(65_536))
                    self.sent += 65_536
            except OSError:
                return

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(10)


def test_a_body_without_end_is_cut_at_the_limit() -> None:
    with Endless() as server:
        why = refused(a_fetcher(f"127.0.0.1:{server.port}"), f"http://127.0.0.1:{server.port}/", most_bytes=2_000_000)

    assert "is larger than the 2,000,000 bytes" in why
    assert server.sent < 20_000_000


def test_a_length_that_lies_is_not_believed() -> None:
    short = Say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
    long = Say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and much more")
    chunks = Say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
    with RawServer(
        [(short, Close()), long, (chunks, *[Say(b"1000\r\n" + bytes(0x1000) + b"\r\n")] * 300, Close())]
    ) as server:
        assert "cut short" in str(failed(opening(server), server.url))
        assert got(opening(server), server.url)[0] == b"hello"
        assert "is larger than" in refused(opening(server), server.url)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate"])
def test_what_is_compressed_is_never_unpacked(encoding: str) -> None:
    """A decompression bomb stays what it is: small."""
    import gzip

    with RawServer([reply(gzip.compress(bytes(10_000_000)), headers=[f"Content-Encoding: {encoding}"])]) as server:
        assert "compressed" in refused(opening(server), server.url, most_bytes=20_000_000)


# How long


@pytest.mark.parametrize(
    "drip",
    [
        Drip(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 1_000, 0.05),
        Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1_000, 0.02),
        Drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 300, 0.02),
    ],
)
def test_what_drips_in_is_given_up_in_time(drip: Drip) -> None:
    with RawServer([(drip,)]) as server:
        began_s = time.monotonic()
        error = failed(a_fetcher(f"127.0.0.1:{server.port}", timeout_s=0.6), f"{server.url}/?{PLANTED}")
        took_s = time.monotonic() - began_s

    assert str(error) == f"http://127.0.0.1:{server.port}: it did not come in time"
    assert took_s < 3


def test_redirects_share_one_deadline() -> None:
    slow = (Drip(b"HTTP/1.1 302 Found\r\n", 0.02), Say(b"Location: /again\r\nContent-Length: 0\r\n\r\n"))
    with RawServer([slow]) as server:
        error = failed(a_fetcher(f"127.0.0.1:{server.port}", timeout_s=1.0), server.url)

    assert "did not come in time" in str(error)


def test_silence_is_given_up() -> None:
    with RawServer([(Hang(),)]) as server:
        assert "no answer in time" in str(failed(a_fetcher(f"127.0.0.1:{server.port}", silence_s=0.3), server.url))


# What fails


@pytest.mark.parametrize(
    ("moves", "words"),
    [
        ((Reset(),), "reset before an answer"),
        ((Say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), Reset()), ""),
        ((Say(b"SSH-2.0-x\r\n"),), "not HTTP"),
    ],
)
def test_a_connection_that_breaks_may_work_later(moves: Moves, words: str) -> None:
    with RawServer([moves]) as server:
        error = failed(opening(server), f"{server.url}/?{PLANTED}")

    assert words in str(error)
    assert error.at_most is None


def test_nobody_there_may_change() -> None:
    port = free_port()

    assert "connection refused" in str(failed(a_fetcher("127.0.0.1"), f"http://127.0.0.1:{port}/{PLANTED}"))


def test_a_name_that_is_not_known_is_soon_hopeless() -> None:
    error = failed(a_fetcher(resolve=resolver({})), f"https://nowhere.example/{PLANTED}")

    assert str(error) == "https://nowhere.example: the host's name was not found"
    assert error.at_most is not None
    assert "no name of a host" in refused(a_fetcher(), f"https://{'a' * 70}.example/")


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad", "503 Busy", "429 Slow down", "408 Timeout", "425 Early"])
def test_a_status_that_may_change(status: str) -> None:
    with RawServer([reply(b"planted", status=status)]) as server:
        assert f"answered HTTP {status[:3]}" in str(failed(opening(server), f"{server.url}/?{PLANTED}"))


@pytest.mark.parametrize(
    "status", ["401 No", "403 Expired", "404 Gone", "410 Gone", "204 Empty", "206 Part", "304 Same", "300 Many"]
)
def test_a_status_that_will_not_change(status: str) -> None:
    with RawServer([reply(b"", status=status)]) as server:
        assert "is the link right, still valid" in refused(opening(server), f"{server.url}/?{PLANTED}")


# Proxies


def test_a_proxy_connects_for_us_and_the_far_certificate_is_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with RawServer([FILE], tls=True) as far, RawServer([(Tunnel(far.port),)]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:planted@127.0.0.1:{proxy.port}")
        fetcher = a_fetcher("localhost", resolve=resolver({}))
        assert got(fetcher, f"https://localhost:{far.port}/a")[0] == b"%PDF-1.7 hello"

    assert proxy.requests[0].line.startswith(f"CONNECT localhost:{far.port} ")
    assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
    assert "proxy-authorization" not in far.requests[0].headers


@pytest.mark.parametrize("url", ["https://127.0.0.1/x", "https://inside.example/x"])
def test_a_proxy_is_not_asked_for_what_is_inside(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = resolver({"127.0.0.1": ["127.0.0.1"], "inside.example": ["10.0.0.1"]})
    with RawServer([FILE]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        refused(a_fetcher(resolve=names), url)

    assert proxy.connections == 0


def test_a_host_without_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with RawServer([FILE]) as server:
        assert got(opening(server), server.url)[0]


def test_a_proxy_that_is_none_of_http_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://u:planted@127.0.0.1:1")

    assert "is no http:// or https:// one" in str(failed(a_fetcher(resolve=resolver({})), "https://files.example/"))


# Secrets


def test_no_log_holds_a_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RawServer([redirect(f"/b?{PLANTED}"), FILE]) as server:
        got(opening(server), f"{server.url}/a?{PLANTED}")

    assert "planted" not in caplog.text


def test_nothing_is_left_open_when_the_caller_fails() -> None:
    seen: list[Fetched] = []

    def use(server: RawServer) -> None:
        with opening(server).fetch(server.url, most_bytes=100) as fetched:
            seen.append(fetched)
            raise KeyError

    with RawServer([FILE]) as server, pytest.raises(KeyError):
        use(server)

    assert seen[0].content.closed
