"""Uploads of the largest file, one way for each process: how fast, and how far memory grows.

``python uploads.py sink`` takes uploads and answers as DingTalk does; ``python uploads.py WAY URL RUNS [REDIS]`` makes
them and prints JSON.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

SIZE_BYTES = 20 * 1024 * 1024
_ANSWER = b'{"errcode":0,"errmsg":"ok","type":"file","media_id":"@bench"}'


def sink() -> None:
    """Say on which port, and take whatever comes."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_take, args=(connection,), daemon=True).start()


def _take(connection: socket.socket) -> None:
    room = memoryview(bytearray(1024 * 1024))
    with connection:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := connection.recv(65_536)):
                    return
                head += data
            head, _, body = head.partition(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            left = int(length.partition(b":")[2]) - len(body)
            while left > 0 and (got := connection.recv_into(room[: min(left, len(room))])):
                left -= got
            said = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(_ANSWER)}\r\n\r\n"
            connection.sendall(said.encode() + _ANSWER)


def _api(url: str) -> Any:
    from dingqueue_worker.dingtalk.api import Api

    return Api(oapi_url=url, api_url=url, connect_timeout_s=3, read_timeout_s=9, total_timeout_s=12, pool_size=1)


def ours(file: IO[bytes], url: str, redis_url: str) -> Callable[[], object]:
    """The call alone: the form, the deadline, the token."""
    from dingqueue_worker.dingtalk.api import MediaFile
    from dingqueue_worker.settings import Secret

    api = _api(url)
    part = MediaFile(name="bench.pdf", media_type="file", content=file, size_bytes=SIZE_BYTES)  # type: ignore[arg-type]  # a file is a file
    return lambda: api.media_upload(part, token=Secret("token"), timeout_s=60)


def whole(file: IO[bytes], url: str, redis_url: str) -> Callable[[], object]:
    """The worker's whole step: out of the file store in Redis, checked, hashed, uploaded, remembered."""
    from dingqueue import StoredFile, share_job
    from dingqueue.files.source import content_of
    from dingqueue.files.store import open_store
    from dingqueue_worker.dingtalk.answers import read_older
    from dingqueue_worker.files.fetch import Fetcher
    from dingqueue_worker.files.media import Files, Media
    from dingqueue_worker.settings import App, Fleet, Secret
    from dingqueue_worker.store import Store

    api, kept = _api(url), open_store(redis_url, prefix="bench:", timeout_s=9)
    fetcher = Fetcher(open_hosts=(), timeout_s=9, connect_timeout_s=3, silence_s=9)
    files = Files(store=Store(redis_url, prefix="bench:"), files=kept, fetcher=fetcher, fleet=Fleet())
    with content_of(file, name="bench.pdf") as content:  # type: ignore[arg-type]  # a file is a file
        place = kept.keep(content, keep_s=600)
        stored = StoredFile(
            store=kept.kind, id=place, name=content.name, size_bytes=SIZE_BYTES, sha256=content.sha256, type="pdf"
        )
    numbers = iter(range(1_000_000))

    def run() -> None:
        # Each for another app, or it would not be uploaded again.
        app = App(name="bench", app_key=f"key-{next(numbers)}", app_secret=Secret("secret"))
        media = files.media(
            share_job("bench", stored),
            app=app,
            upload=lambda part: read_older(
                api.media_upload(part, token=Secret("token"), timeout_s=60), proof="media_id"
            ),  # type: ignore[arg-type, return-value]  # the sink says yes
            notes={},
        )
        if not isinstance(media, Media):
            raise TypeError(media)

    return run


def streaming(file: IO[bytes], url: str, redis_url: str) -> Callable[[], object]:
    """What a careful user writes: the file itself as the body, without a form."""
    import requests

    session = requests.Session()

    def run() -> None:
        file.seek(0)
        session.post(f"{url}/media/upload", data=file, timeout=60).raise_for_status()

    return run


def in_memory(file: IO[bytes], url: str, redis_url: str) -> Callable[[], object]:
    """What everybody writes: ``files=``."""
    import requests

    session = requests.Session()

    def run() -> None:
        file.seek(0)
        session.post(f"{url}/media/upload", files={"media": ("bench.pdf", file)}, timeout=60).raise_for_status()

    return run


WAYS = {"ours": ours, "whole": whole, "streaming": streaming, "files": in_memory}


def peak_mb() -> float:
    """The most that was resident since `fresh_peak`."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def fresh_peak() -> float:
    """Let the peak begin anew; what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def main() -> None:
    """See the module's first lines."""
    if sys.argv[1] == "sink":
        sink()
        return
    way, url, runs, redis_url = sys.argv[1], sys.argv[2], int(sys.argv[3]), (sys.argv[4:] or [""])[0]
    with tempfile.TemporaryFile() as file:
        file.write(b"%PDF-1.7\n")
        while (left := SIZE_BYTES - file.tell()) > 0:
            file.write(os.urandom(min(left, 1024 * 1024)))
        file.flush()
        file.seek(0)
        run = WAYS[way](file, url, redis_url)
        before_mb = fresh_peak()
        run()  # connections, buffers, imports: all that a first upload needs
        grew_mb, took_s = peak_mb() - before_mb, []
        for _ in range(runs):
            began_s = time.perf_counter()
            run()
            took_s.append(time.perf_counter() - began_s)
    print(json.dumps({"mb_per_s": SIZE_BYTES / 1e6 / statistics.median(took_s), "grew_mb": max(grew_mb, 0.1)}))


if __name__ == "__main__":
    main()
