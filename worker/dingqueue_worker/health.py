"""A page that says whether its process makes progress, and the question to it. Standard library only, so asking is quick.

    python -m dingqueue_worker.health http://127.0.0.1:9809/livez        # exit code 0, or 1 and why not

Containers ask like this; Kubernetes asks the page itself; systemd is told by `notify`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

#: A probe waits a few seconds at most; so do we.
_ASK_S = 4.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What a path answers."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


def verdict(problems: Iterable[str]) -> Shown:
    """``200 ok``, or ``503`` and what is wrong, a line each."""
    lines = list(problems)
    return Shown(503, "\n".join(lines) + "\n") if lines else Shown(200, "ok\n")


def host_and_port(text: str) -> tuple[str, int]:
    """``127.0.0.1:9809``, ``[::]:9809`` or ``:9809`` (loopback) in parts.

    Raises:
        ValueError: It is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("expected HOST:PORT, like 127.0.0.1:9809")
    return host.strip("[]") or "127.0.0.1", int(port)


class Page:
    """Serves a few paths from a thread of its own. What a path says is asked for at each request.

    Args:
        address: Host and port; port 0 takes a free one.
        paths: Path -> what it answers; what raises is a 500, and no words of it.
    """

    def __init__(self, address: tuple[str, int], paths: Mapping[str, Callable[[], Shown]]) -> None:
        # Whoever asks, or reads an address, has no use for a server.
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            # One that connects and says nothing holds a thread no longer than this.
            timeout = 10
            server_version, sys_version = "dingqueue", ""

            def do_GET(self) -> None:
                say = paths.get(self.path.partition("?")[0])
                try:
                    shown = say() if say else Shown(404, "there is " + ", ".join(paths) + "\n")
                except Exception as error:  # noqa: BLE001 - a page that fails must say so, and the process go on
                    shown = Shown(500, f"{type(error).__name__}\n")
                body = shown.body.encode()
                self.send_response(shown.status)
                self.send_header("Content-Type", shown.content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 - as http.server wants it

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server has it
                """Nobody wants a line for each probe."""

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            daemon_threads = True

        self._server = Server(address, Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="dingqueue-health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def run(self) -> None:
        """Answer, until `stop` is called from another thread."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)


def awaited() -> bool:
    """Whether systemd started us and waits to be told."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(words: str) -> None:
    """Tell systemd (``READY=1``, ``WATCHDOG=1``); nothing where it did not start us. See sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(words.encode(), "\0" + path[1:] if path.startswith("@") else path)


def ask(url: str, *, within_s: float = _ASK_S) -> tuple[bool, str]:
    """Is the page's answer 200? And its words, or why there was none. No proxy is used."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return False, "expected a URL like http://127.0.0.1:9809/livez"
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=within_s)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        words = answer.read(10_000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {parts.netloc}: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    # A page made for people is not worth a line in a probe's log.
    return answer.status == http.client.OK, words[:1000] if "<" not in words else f"status {answer.status}"


if __name__ == "__main__":
    well, said = ask(sys.argv[1] if len(sys.argv) == 2 else "")
    print(said)  # noqa: T201 - this is a command
    sys.exit(0 if well else 1)
