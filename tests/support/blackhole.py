"""Far sides that misbehave below HTTP and Redis: accept and never answer, or drip."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def black_hole(*, drip: bytes = b"") -> Iterator[int]:
    """A port that accepts connections and never answers; with `drip`, one byte of it again and again."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    stop, kept = threading.Event(), []

    def serve(connection: socket.socket) -> None:
        while drip and not stop.wait(0.2):
            try:
                connection.sendall(drip)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for connection in kept:
            connection.close()
