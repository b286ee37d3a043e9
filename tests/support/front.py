"""A door before a server: forwards connections, by TLS where told, and may be led to another server meanwhile."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

_PACKET = 65536


class Authority:
    """An authority of the test's own, with a server's and a client's certificate."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.certificate, self.client = folder / "ca.pem", folder / "client.pem"
        self.server, self.stranger = folder / "server.pem", folder / "stranger.pem"
        self._ca.cert_pem.write_to_path(str(self.certificate))
        self._ca.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(self.server))
        self._ca.issue_cert("application@dingqueue").private_key_and_cert_chain_pem.write_to_path(str(self.client))
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(self.stranger))

    def server_context(self, *, clients: bool = False) -> ssl.SSLContext:
        """For a server; with `clients` it wants a certificate of theirs."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.certificate)
        return context


class Front:
    """Listens on a loopback port, and forwards to a port of this machine."""

    def __init__(self, to_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.to_port, self._tls = to_port, tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                came, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(came,), daemon=True).start()

    def _serve(self, came: socket.socket) -> None:
        with contextlib.suppress(OSError), came:
            came.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            near = self._tls.wrap_socket(came, server_side=True) if self._tls else came
            with near, socket.create_connection(("127.0.0.1", self.to_port)) as far:
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open |= {near, far}
                back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
                back.start()
                self._pump(near, far)
                back.join()
                self._open -= {near, far}

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while packet := source.recv(_PACKET):
                sink.sendall(packet)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
