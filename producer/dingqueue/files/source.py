"""What an application hands over as a file, as one stream that can be read twice. Knows no store and no Redis."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from dingqueue.errors import InvalidJob
from dingqueue.files.limits import (
    HEAD_BYTES,
    MAX_FILE_BYTES,
    MAX_UNPACKED_BYTES,
    Refused,
    Taken,
    check,
    checked_name,
    too_large,
)

#: A file by its content: a path, bytes (with a name), or an open binary file.
Source: TypeAlias = "os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"

CHUNK_BYTES = 64 * 1024
#: What is spooled stays in memory up to here, and lies in a temporary file beyond.
SPOOL_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file that was read once and can be read again. Valid inside the ``with`` that gave it.

    Attributes:
        name: What people see.
        type: One of DingTalk's extensions.
        size_bytes: What the first reading found.
        sha256: In hex, of the same.
    """

    name: str
    type: str
    size_bytes: int
    sha256: str
    _stream: BinaryIO
    _start: int

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """The content again, in pieces of exactly this size but for the last.

        Raises:
            InvalidJob: It is not what was read first: somebody writes to the file.
        """
        with _readable(self.name):
            self._stream.seek(self._start)
        digest, left = hashlib.sha256(), self.size_bytes
        while left and (chunk := self._read(min(chunk_bytes, left))):
            digest.update(chunk)
            left -= len(chunk)
            yield chunk
        if left or self._read(1) or digest.hexdigest() != self.sha256:
            raise InvalidJob("file", f"{self.name!r} changed while it was read: share it when it is finished")

    def _read(self, size_bytes: int) -> bytes:
        with _readable(self.name):
            return _read(self._stream, size_bytes)


@contextmanager
def content_of(
    file: Source, *, name: str | None = None, zip_it: bool = False, most_bytes: int = MAX_FILE_BYTES
) -> Iterator[Content]:
    """What was handed over, checked, measured and hashed.

    Args:
        file: A path, bytes, or a binary file, read from where it stands.
        name: What people see; None is the file's own name, which bytes do not have.
        zip_it: Pack what DingTalk would refuse as it is.
        most_bytes: The destination's limit.

    Raises:
        InvalidJob: DingTalk or the destination would not take it, or it cannot be read; ``field`` names the argument.
    """
    with ExitStack() as stack:
        own_name, stream = _opened(file, stack, most_bytes=MAX_UNPACKED_BYTES if zip_it else most_bytes)
        if name is not None and not isinstance(name, str):
            raise InvalidJob("name", f"expected text, got {type(name).__name__}")
        chosen = own_name if name is None else name
        if chosen is None:
            raise InvalidJob("name", "what is shared has no name of its own: give name='report.pdf'")
        shown = checked_name(chosen)
        with _readable(shown):
            content = _content(shown, stream, stack, zip_it=zip_it, most_bytes=most_bytes)
        yield content


def _content(name: str, stream: BinaryIO, stack: ExitStack, *, zip_it: bool, most_bytes: int) -> Content:
    start = stream.tell()
    head = _read(stream, HEAD_BYTES)
    size_bytes = stream.seek(0, os.SEEK_END) - start
    taken = checked_unless_packed(name, head, size_bytes, zip_it=zip_it, most_bytes=most_bytes)
    if taken is None:
        stream.seek(start)
        stream, start = packed(name, stream, most_bytes=most_bytes, into=stack), 0
        taken = check(f"{name}.zip", b"PK\x03\x04", stream.seek(0, os.SEEK_END), most_bytes=most_bytes)
    stream.seek(start)
    return _measured(taken, stream, start, most_bytes)


def _measured(taken: Taken, stream: BinaryIO, start: int, most_bytes: int) -> Content:
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := _read(stream, CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
        if size_bytes > most_bytes:  # it grew since it was measured
            raise InvalidJob("file", too_large(taken.name, most_bytes))
    return Content(
        name=taken.name, type=taken.type, size_bytes=size_bytes, sha256=digest.hexdigest(), _stream=stream, _start=start
    )


def checked_unless_packed(name: str, head: bytes, size_bytes: int, *, zip_it: bool, most_bytes: int) -> Taken | None:
    """How DingTalk takes a file as it is; None where it is to be packed.

    Raises:
        InvalidJob: It is refused, packed or not.
    """
    try:
        taken = check(name, head, size_bytes, most_bytes=most_bytes)
    except Refused:
        if not zip_it:
            raise
        return None
    return taken if taken.surely or not zip_it else None


def packed(name: str, stream: BinaryIO, *, most_bytes: int, into: ExitStack) -> BinaryIO:
    """A .zip with one file in it; the same content gives the same bytes, whenever it is packed.

    Raises:
        InvalidJob: It is too large even so.
    """
    spool = into.enter_context(spooled())
    entry = zipfile.ZipInfo(name)  # dated 1980, so that the archive does not say when it was packed
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    size_bytes = 0
    with zipfile.ZipFile(spool, "w") as archive, archive.open(entry, "w") as member:
        while chunk := _read(stream, CHUNK_BYTES):
            size_bytes += len(chunk)
            if size_bytes > MAX_UNPACKED_BYTES:
                raise InvalidJob("file", too_large(name, MAX_UNPACKED_BYTES))
            member.write(chunk)
            if spool.tell() > most_bytes:
                raise InvalidJob("file", f"{too_large(name, most_bytes)}, and it is larger even when packed")
    spool.seek(0)
    return spool


def spooled() -> BinaryIO:
    """A temporary file that stays in memory while it is small and goes with its ``with``."""
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))


def _opened(file: object, stack: ExitStack, *, most_bytes: int) -> tuple[str | None, BinaryIO]:
    """The file's own name, if it has one, and a stream that can be read again from where it stands."""
    if isinstance(file, bytes | bytearray | memoryview):
        return None, cast("BinaryIO", _View(memoryview(file).cast("B")))
    if isinstance(file, os.PathLike):
        path = Path(os.fspath(file))
        with _readable(path.name):
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise InvalidJob("file", f"{path.name!r} is a folder: pack it, and share the archive")
            stream = stack.enter_context(path.open("rb"))
        return path.name, stream if stat.S_ISREG(mode) else _spool(stream, path.name, stack, most_bytes)
    if not callable(getattr(file, "read", None)):
        raise InvalidJob(
            "file", f"expected an http(s) URL, a Path, bytes or an open binary file, got {type(file).__name__}"
        )
    opened = cast("BinaryIO", file)
    own_name = _name_of(opened)
    with _readable(own_name or "the file"):
        if isinstance(opened.read(0), str):
            raise InvalidJob("file", "is open as text: open it in binary mode, open(…, 'rb')")
        seekable = callable(getattr(opened, "seekable", None)) and opened.seekable()
        return own_name, opened if seekable else _spool(opened, own_name or "the file", stack, most_bytes)


def _name_of(opened: BinaryIO) -> str | None:
    name = getattr(opened, "name", None)  # a number for what was opened by its descriptor
    own = Path(os.fsdecode(name)).name if isinstance(name, str | bytes) else ""
    return None if own.startswith("<") else own or None


def _spool(stream: BinaryIO, name: str, stack: ExitStack, most_bytes: int) -> BinaryIO:
    spool = stack.enter_context(spooled())
    size_bytes = 0
    while chunk := _read(stream, CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > most_bytes:
            raise InvalidJob("file", too_large(name, most_bytes))
        spool.write(chunk)
    spool.seek(0)
    return spool


def _read(stream: BinaryIO, size_bytes: int) -> bytes:
    """As many bytes as asked for, unless the file ends: raw streams may give fewer."""
    data = stream.read(size_bytes) or b""
    if 0 < len(data) < size_bytes:
        parts = [data]
        while (missing := size_bytes - sum(map(len, parts))) and (more := stream.read(missing)):
            parts.append(more)
        data = b"".join(parts)
    return data


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidJob("file", f"{name!r} cannot be read: {error.strerror or type(error).__name__}") from error


class _View(io.RawIOBase):
    """Bytes as a stream, without a copy of them."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # what RawIOBase.read gives
        piece = self._view[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
