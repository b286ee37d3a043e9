"""A DingTalk that costs next to nothing: answers every POST at once, or after a fixed delay, and counts them.

It must never be what limits a run, so it reads no more of HTTP than where a request ends, on libuv's loop, and tells
its counts through a shared file instead of over a socket. `ceiling.py` shows how fast it is.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import ssl
import struct
import time
from collections import defaultdict, deque
from pathlib import Path

import uvloop

#: Requests answered, requests refused for their limit, connections; each 8 bytes.
HEAD = struct.Struct("<QQQ")
#: After the head: when each of the first arrivals came, CLOCK_MONOTONIC in ns.
STAMPS = 200_000
STAMP = struct.Struct("<Q")
SIZE_BYTES = HEAD.size + STAMPS * STAMP.size


def _answer(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: stub\r\nContent-Length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )


YES = _answer(b'{"errcode":0,"errmsg":"ok"}')
TOO_FAST = _answer(b'{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}')


class Ledger:
    """The counts, in a file that the bench maps too."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE_BYTES)
        self.answered = self.refused = self.connections = 0

    def arrived(self) -> None:
        """Note a request that was answered with yes."""
        if self.answered < STAMPS:
            STAMP.pack_into(self._map, HEAD.size + self.answered * STAMP.size, time.monotonic_ns())
        self.answered += 1
        self.write()

    def write(self) -> None:
        """Show the counts."""
        HEAD.pack_into(self._map, 0, self.answered, self.refused, self.connections)


class Limits:
    """At most `limit` requests of one robot in any `window_s`, counted when they arrive; 0 is no limit."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._seen: defaultdict[bytes, deque[float]] = defaultdict(deque)

    def allow(self, head: bytes) -> bool:
        """Does the robot that this request line names have room? Notes it if so."""
        if not self._limit:
            return True
        at = head.find(b"access_token=") + 13
        token = head[at : at + 64].split(b"&")[0].split(b" ")[0]
        seen, now_s = self._seen[token], time.monotonic()
        while seen and seen[0] <= now_s - self._window_s:
            seen.popleft()
        if len(seen) >= self._limit:
            return False
        seen.append(now_s)
        return True


class Talk(asyncio.Protocol):
    """One connection: finds where each request ends, and answers it."""

    ledger: Ledger
    limits: Limits
    delay_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._buffer = b""
        self.ledger.connections += 1
        self.ledger.write()

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        buffer = self._buffer + data if self._buffer else data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end]
            lower = head.lower()
            at = lower.find(b"content-length:")
            length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(buffer) < end + 4 + length:
                break
            buffer = buffer[end + 4 + length :]
            self._request(head, closes=b"connection: close" in lower)
        self._buffer = buffer

    def _request(self, head: bytes, *, closes: bool) -> None:
        if self.limits.allow(head):
            self.ledger.arrived()
            answer = YES
        else:
            self.ledger.refused += 1
            self.ledger.write()
            answer = TOO_FAST
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self._say, answer, closes)
        else:
            self._say(answer, closes)

    def _say(self, answer: bytes, closes: bool) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)  # type: ignore[attr-defined]
            if closes:
                self._transport.close()


async def serve(port: int, tls: ssl.SSLContext | None) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Talk, "127.0.0.1", port, ssl=tls, backlog=4096)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    say = argparse.ArgumentParser(description=__doc__)
    say.add_argument("--port", type=int, required=True)
    say.add_argument("--ledger", type=Path, required=True)
    say.add_argument("--delay-ms", type=float, default=0)
    say.add_argument("--limit", type=int, default=0)
    say.add_argument("--window-s", type=float, default=60)
    say.add_argument("--tls-cert", type=Path)
    said = say.parse_args()
    tls = None
    if said.tls_cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(said.tls_cert)
    Talk.ledger, Talk.limits = Ledger(said.ledger), Limits(said.limit, said.window_s)
    Talk.delay_s = said.delay_ms / 1000
    uvloop.run(serve(said.port, tls))


if __name__ == "__main__":
    main()
