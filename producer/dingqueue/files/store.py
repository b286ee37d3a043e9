"""Where the content of a shared file waits for the worker: the state Redis, a folder, or whatever ``fsspec`` reaches.

Files are kept by their content: the same report to ten groups is there once. All of them expire. Knows no job, no lane.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import redis

from dingqueue.connections import redis_client
from dingqueue.contract import StoredFile
from dingqueue.errors import DingqueueError
from dingqueue.files.places import FOLDER, REDIS, folder_of, kind_of
from dingqueue.files.source import Content
from dingqueue.routes import key_base
from dingqueue.scripts import Script, source

#: Large enough that a round trip costs little, small enough that nobody else waits for Redis meanwhile.
CHUNK_BYTES = 512 * 1024
#: What a writer that was killed leaves behind in Redis goes after this.
_UNFINISHED_MS = 600_000
#: Redis forgets chunks only between these tries to complete a file.
_TRIES = 3


class FileStoreUnavailable(DingqueueError):
    """The file store could not be reached, or refused; the text holds no URL and no password."""


class FileGone(DingqueueError):
    """The file is not in the store: it expired, or this is another store than the one it was put in."""


class FileStore(Protocol):
    """Where contents are kept. Safe to share between threads, not between processes that fork."""

    @property
    def kind(self) -> str:
        """``redis``, ``folder`` or an ``fsspec`` protocol: what a reference says about where its file is."""
        ...

    def keep(self, content: Content, *, keep_s: float) -> str:
        """Have the content in the store for at least so long; returns its id there.

        Raises:
            FileStoreUnavailable: It may be there or not; doing it again is safe.
            InvalidJob: The file changed while it was read.
        """
        ...

    def chunks(self, file: StoredFile) -> Iterator[bytes]:
        """The content, in pieces.

        Raises:
            FileGone: It is not there, or no longer what it was.
            FileStoreUnavailable: The store did not answer.
        """
        ...

    def look(self) -> None:
        """See that it is there and may be written; changes nothing.

        Raises:
            FileStoreUnavailable: What is wrong with it.
        """
        ...

    def prune(self) -> int:
        """Drop what has expired, where the store does not do that by itself; returns how many days' worth."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_store(url: str, *, prefix: str, timeout_s: float) -> FileStore:
    """The file store behind a URL; connects to nothing yet.

    Args:
        url: ``redis://…``, ``file:///folder``, or any URL of ``fsspec`` (extra ``files``).
        prefix: What the fleet's keys start with, in Redis.
        timeout_s: Longest silence of Redis.

    Raises:
        ValueError: What the URL should be; the text holds nothing of it.
    """
    kind = kind_of(url)
    if kind == REDIS:
        return RedisFiles(url, prefix=prefix, timeout_s=timeout_s)
    if kind == FOLDER:
        return DatedFiles(kind, lambda: _Folder(folder_of(url)))
    return DatedFiles(kind, lambda: _remote(url))


def verified(chunks: Iterator[bytes], file: StoredFile) -> Iterator[bytes]:
    """The same pieces, once it shows at the end that they are the file.

    Raises:
        FileGone: They are not.
    """
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size_bytes += len(chunk)
        yield chunk
    if size_bytes != file.size_bytes or digest.hexdigest() != file.sha256:
        raise FileGone("what the file store holds is not the file that was shared: share it again")


# --- In Redis -----------------------------------------------------------------------------------------------------


class RedisFiles:
    """In Redis, in chunks that expire by themselves."""

    kind = REDIS

    def __init__(self, url: str, *, prefix: str, timeout_s: float) -> None:
        self._client = redis_client(url, timeout_s=timeout_s, client_name="dingqueue-files")
        self._base = key_base(prefix)
        self._keep = Script(self._client, prefix, source(("dingqueue.files", "keep.lua")))

    def keep(self, content: Content, *, keep_s: float) -> str:
        """As ``FileStore`` says."""
        arguments = (content.sha256, content.size_bytes, CHUNK_BYTES, round(keep_s * 1000))
        with _redis_answers():
            for _ in range(_TRIES):
                if self._kept(arguments):
                    return content.sha256
                for number, chunk in enumerate(content.chunks(CHUNK_BYTES)):
                    # NX: another writer's chunk is the same, and may have to live longer.
                    self._client.set(self._key(content.sha256, number), chunk, nx=True, px=_UNFINISHED_MS)
            if self._kept(arguments):
                return content.sha256
        raise FileStoreUnavailable("Redis does not keep the file: its chunks are gone as soon as they are written")

    def _kept(self, arguments: tuple[str | int, ...]) -> bool:
        return bool(self._keep(*arguments)[0] == b"kept")

    def _key(self, sha256: str, number: int) -> str:
        return f"{self._base}file:{sha256}:{CHUNK_BYTES}:{number}"

    def chunks(self, file: StoredFile) -> Iterator[bytes]:
        """As ``FileStore`` says."""
        for number in range(-(-file.size_bytes // CHUNK_BYTES)):
            with _redis_answers():
                chunk: Any = self._client.get(self._key(file.id, number))
            if chunk is None:
                raise FileGone(
                    "the file is no longer in Redis: it expired before a worker could send it; share it again"
                )
            yield bytes(chunk)

    def look(self) -> None:
        """As ``FileStore`` says."""
        with _redis_answers():
            self._client.ping()

    def prune(self) -> int:
        """Nothing to do: Redis forgets by itself."""
        return 0

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


@contextmanager
def _redis_answers() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        # Never the URL: it may hold a password. Redis's own refusals name the reason.
        if isinstance(error, redis.exceptions.ResponseError):
            raise FileStoreUnavailable(f"Redis refused the file: {str(error)[:200]}") from None
        raise FileStoreUnavailable(f"the file store, Redis, could not be reached ({_name(error)})") from None


def _name(error: BaseException) -> str:
    return type(error).__name__


# --- In folders ---------------------------------------------------------------------------------------------------


class Tree(Protocol):
    """The few things that a folder must be able to do, here or far away. Paths are relative, with slashes."""

    def size_bytes(self, path: str) -> int | None:
        """None where there is no such file."""
        ...

    def write(self, path: str, chunks: Iterator[bytes]) -> None:
        """A whole file or none, whoever writes it at the same time."""
        ...

    def read(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open it; raises FileNotFoundError."""
        ...

    def ready(self) -> None:
        """Raise whatever tells that it is not there, or may not be written."""
        ...

    def folders(self) -> list[str]:
        """The names of the folders at the top."""
        ...

    def drop(self, folder: str) -> None:
        """Drop one of them with all that is in it."""
        ...


class DatedFiles:
    """In a folder for each day, named by the last day on which its files are needed.

    So a file's life is not written beside it, nothing has to be prolonged while somebody else prunes, and a rule of the
    object store's own may do the pruning. The same content with another last day is there twice.
    """

    def __init__(self, kind: str, tree: Callable[[], Tree], *, now: Callable[[], datetime] | None = None) -> None:
        self.kind = kind
        self._open_tree, self._opened = tree, None
        self._now = now or (lambda: datetime.now(UTC))

    _opened: Tree | None

    def _tree(self) -> Tree:
        # Not at once: what is behind fsspec may connect, and a process that forks afterwards would share it.
        if self._opened is None:
            self._opened = self._open_tree()
        return self._opened

    def keep(self, content: Content, *, keep_s: float) -> str:
        """As ``FileStore`` says."""
        last_day = (self._now() + timedelta(seconds=keep_s)).strftime("%Y%m%d")
        path = f"{last_day}/{content.sha256}"
        with _folder_answers():
            tree = self._tree()
            if tree.size_bytes(path) != content.size_bytes:
                tree.write(path, content.chunks(CHUNK_BYTES))
        return path

    def chunks(self, file: StoredFile) -> Iterator[bytes]:
        """As ``FileStore`` says."""
        if not re.fullmatch(r"[0-9]{8}/[0-9a-f]{64}", file.id):  # the lane's Redis is no reason to leave the folder
            raise FileGone("this is no file of this file store")
        with _folder_answers():
            try:
                opened = self._tree().read(file.id)
            except FileNotFoundError:
                raise FileGone(
                    "the file is not in the file store: it expired, or the application has another DINGQUEUE_FILES_URL"
                ) from None
            with opened as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk

    def look(self) -> None:
        """As ``FileStore`` says."""
        with _folder_answers():
            self._tree().ready()

    def prune(self) -> int:
        """Drop the days that have passed, one day late: clocks differ, and a worker may still be reading."""
        oldest = (self._now() - timedelta(days=1)).strftime("%Y%m%d")
        dropped = 0
        with _folder_answers():
            for folder in self._tree().folders():
                if re.fullmatch(r"[0-9]{8}", folder) and folder < oldest:
                    self._tree().drop(folder)
                    dropped += 1
        return dropped

    def close(self) -> None:
        """Nothing stays open."""


@contextmanager
def _folder_answers() -> Iterator[None]:
    try:
        yield
    except DingqueueError:
        raise
    except Exception as error:  # noqa: BLE001 - what is behind fsspec raises whatever its own library does
        said = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        raise FileStoreUnavailable(f"the file store could not be read or written ({_name(error)}{said})") from None


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def size_bytes(self, path: str) -> int | None:
        try:
            return (self._root / path).stat().st_size
        except FileNotFoundError:
            return None

    def write(self, path: str, chunks: Iterator[bytes]) -> None:
        self._require_root()
        target = self._root / path
        target.parent.mkdir(exist_ok=True)
        part = target.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with part.open("wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def read(self, path: str) -> AbstractContextManager[BinaryIO]:
        self._require_root()
        return (self._root / path).open("rb")

    def ready(self) -> None:
        self._require_root()
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise FileStoreUnavailable("the file store's folder may not be read and written by this user: chown it")

    def _require_root(self) -> None:
        # Never made by us: a share that is not mounted must not be mistaken for an empty one.
        if not self._root.is_dir():
            raise FileStoreUnavailable("the file store's folder does not exist: make it, or mount it")

    def folders(self) -> list[str]:
        self._require_root()
        return [entry.name for entry in self._root.iterdir() if entry.is_dir()]

    def drop(self, folder: str) -> None:
        shutil.rmtree(self._root / folder, ignore_errors=True)


# --- Wherever fsspec reaches --------------------------------------------------------------------------------------


def _remote(url: str) -> Tree:
    import fsspec

    # Without the cache of instances: one that was made before a fork does not work after it.
    system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    return _Remote(system, str(root).rstrip("/"))


class _Remote:
    def __init__(self, system: Any, root: str) -> None:
        self._system, self._root = system, root

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def size_bytes(self, path: str) -> int | None:
        self._system.invalidate_cache()
        try:
            return int(self._system.info(self._at(path))["size"])
        except FileNotFoundError:
            return None

    def write(self, path: str, chunks: Iterator[bytes]) -> None:
        # Closing commits what was written so far, also after an error: so under another name first.
        folder, _, name = path.partition("/")
        part = self._at(f"{folder}/{name}.{uuid.uuid4().hex}.part")
        self._system.makedirs(self._at(folder), exist_ok=True)
        try:
            with self._system.open(part, "wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
            self._system.mv(part, self._at(path))
        except BaseException:
            with suppress(Exception):
                self._system.rm(part)
            raise

    def read(self, path: str) -> AbstractContextManager[BinaryIO]:
        opened: AbstractContextManager[BinaryIO] = self._system.open(self._at(path), "rb")
        return opened

    def ready(self) -> None:
        self.folders()

    def folders(self) -> list[str]:
        self._system.invalidate_cache()
        try:
            found = self._system.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    def drop(self, folder: str) -> None:
        self._system.rm(self._at(folder), recursive=True)
