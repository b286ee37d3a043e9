"""Asks the stub as fast as a loop in C can: to show that the stub is not what limits the others."""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl

import uvloop

_AT_ONCE = 32


def request(*, keep: bool) -> bytes:
    """One message to a robot, of the usual size."""
    body = json.dumps({"msgtype": "text", "text": {"content": "x" * 100}}).encode()
    return (
        b"POST /robot/send?access_token=t HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + (b"" if keep else b"Connection: close\r\n")
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


class Ask(asyncio.Protocol):
    """One connection: asks again when it is answered."""

    def __init__(self, done: asyncio.Future[None], times: int, what: bytes) -> None:
        self._done, self._times, self._what = done, times, what

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = transport
        transport.write(self._what)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Ask again."""
        self._times -= data.count(b"HTTP/1.1")
        if self._times > 0:
            self._transport.write(self._what)  # type: ignore[attr-defined]
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Over."""
        if not self._done.done():
            self._done.set_result(None)


async def run(port: int, count: int, *, tls: bool, keep: bool) -> None:
    """Ask `count` times and a tenth more, 32 at a time."""
    loop = asyncio.get_running_loop()
    trust = ssl._create_unverified_context() if tls else None
    each = count // _AT_ONCE * 11 // 10 + 1

    async def one() -> None:
        for _ in range(1 if keep else each):
            done: asyncio.Future[None] = loop.create_future()
            await loop.create_connection(
                lambda done=done: Ask(done, each if keep else 1, request(keep=keep)), "127.0.0.1", port, ssl=trust
            )
            await done

    await asyncio.gather(*(one() for _ in range(_AT_ONCE)))


if __name__ == "__main__":
    say = argparse.ArgumentParser(description=__doc__)
    say.add_argument("port", type=int)
    say.add_argument("count", type=int)
    say.add_argument("--tls", action="store_true")
    say.add_argument("--keep", action="store_true")
    said = say.parse_args()
    uvloop.run(run(said.port, said.count, tls=said.tls, keep=said.keep))
