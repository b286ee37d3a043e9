"""Brings a shared file to DingTalk, once for each app, and remembers what DingTalk calls it there.

A delivery asks ``Files.media`` for what a message is to carry; where the upload is known it costs no request. When
DingTalk refuses to send what was uploaded, ``Files.worth_another`` forgets it, so that it is uploaded again, once.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol, TypeAlias

from dingqueue.contract import ShareJob, StoredFile
from dingqueue.errors import InvalidJob
from dingqueue.files.limits import (
    HEAD_BYTES,
    MAX_FILE_BYTES,
    MAX_UNPACKED_BYTES,
    MediaType,
    Taken,
    check,
    extension_of,
    fitting_name,
    media_type_of,
)
from dingqueue.files.source import CHUNK_BYTES, checked_unless_packed, packed, spooled
from dingqueue.files.store import FileGone, FileStore, FileStoreUnavailable, verified
from dingqueue.jobs import file_name
from dingqueue_worker.dingtalk.answers import Taken as Yes
from dingqueue_worker.dingtalk.api import MediaFile
from dingqueue_worker.dingtalk.errors import NotSent, Unanswered
from dingqueue_worker.files.fetch import Fetched, FetchFailed, FetchRefused
from dingqueue_worker.outcome import Dead, Ended, Outcome, Retry, Snooze, Unknown
from dingqueue_worker.settings import App, Fleet
from dingqueue_worker.store import Busy, Kept, Leave, StoreUnavailable

#: DingTalk's page says that a media id has no end; older ones say three days. Kept a little less than those.
#: https://open.dingtalk.com/document/development/upload-media-files
KEEP_S = 60 * 3_600.0
#: A second upload that is refused to be sent within this time is hopeless.
REFUSALS_COUNT_S = 3_600.0
#: A file that is not in the store yet may be on its way there: shared folders are seen late by other machines.
_GONE_AT_MOST = 3
#: While somebody else uploads the same, a job looks again so soon.
_LOOK_AGAIN_S = 1.0

#: Names of the notes that later steps of a job find.
_KEY, _MEDIA_ID, _NAME, _TYPE, _SIZE = "media_key", "media_id", "media_name", "media_file_type", "media_size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A file as DingTalk has it.

    Attributes:
        media_id: Exactly as DingTalk gave it, with its first ``@`` or ``$``.
        name: What people see.
        type: What ``sampleFile`` calls ``fileType`` (``pdf``).
        size_bytes: All of it.
        key: Under which the media id is remembered.
        uploaded: This call uploaded it: a request was made.
    """

    media_id: str
    name: str
    type: str
    size_bytes: int
    key: str
    uploaded: bool = False

    @classmethod
    def of(cls, notes: Mapping[str, str]) -> Media | None:
        """What an earlier step noted."""
        if not notes.get(_KEY):
            return None
        return cls(
            media_id=notes[_MEDIA_ID],
            name=notes[_NAME],
            type=notes[_TYPE],
            size_bytes=int(notes[_SIZE]),
            key=notes[_KEY],
        )

    @property
    def media_type(self) -> MediaType:
        """``image``, ``voice``, ``video`` or ``file``."""
        return media_type_of(self.type)

    @property
    def notes(self) -> Mapping[str, str]:
        """For the job's later steps; ``Files.media`` reads them."""
        return {
            _KEY: self.key, _MEDIA_ID: self.media_id, _NAME: self.name, _TYPE: self.type, _SIZE: str(self.size_bytes),
        }  # fmt: skip


#: Uploads with a token of the app (a fresh one, if DingTalk refuses the first) and reads the answer: the yes holds a
#: ``media_id``. May raise ``NotSent`` or ``Unanswered``: an upload that nobody saw the end of does no harm.
Upload: TypeAlias = Callable[[MediaFile], Yes | Ended]


class MediaStore(Protocol):
    """What files need of the store."""

    def media_claim(self, key: str, holder: str, *, lease_ms: int) -> Kept | Leave | Busy: ...
    def media_id(self, key: str) -> str | None: ...
    def media_end(self, claim: str, holder: str, *, key: str, media_id: str, keep_ms: int) -> None: ...
    def media_refuse(self, key: str, media_id: str, *, count_ms: int) -> int: ...


class Fetch(Protocol):
    """What files need of the fetcher."""

    def fetch(self, url: str, *, most_bytes: int) -> AbstractContextManager[Fetched]: ...


class Files:
    """Uploads files and remembers them. Safe in many threads at once.

    Args:
        store: Remembers media ids, and lets one worker upload while others wait.
        files: The file store, opened at the first file that is in it.
        fetcher: For files that are shared by URL.
        fleet: How long fetching and uploading may take; whether what DingTalk would refuse is packed unasked.
        monotonic_s: A clock.
    """

    def __init__(
        self,
        *,
        store: MediaStore,
        files: FileStore,
        fetcher: Fetch,
        fleet: Fleet,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._files, self._fetcher = store, files, fetcher
        self._fleet, self._monotonic_s = fleet, monotonic_s

    def media(
        self,
        job: ShareJob,
        *,
        app: App,
        upload: Upload,
        notes: Mapping[str, str],
        most_bytes: int = MAX_FILE_BYTES,
    ) -> Media | Ended:
        """What DingTalk calls the job's file; uploads it where that is not known (any more).

        Args:
            job: Whose file it is.
            app: Who sends it: an upload is one app's own.
            upload: Makes the request.
            notes: What ``Media.notes`` of an earlier step left.
            most_bytes: The route's own limit.

        Returns:
            The media, or how the attempt ends: nothing was sent to the destination.
        """
        try:
            return self._media(job, app, upload, notes, most_bytes)
        except StoreUnavailable as error:
            return Ended(outcome=Retry(why=f"the uploads are not known: {error}", cause="state", sent=False))

    def worth_another(self, media: Media) -> bool:
        """DingTalk would not send what was uploaded: forget it. Whether another upload is worth it; the second is not.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        return self._store.media_refuse(media.key, media.media_id, count_ms=round(REFUSALS_COUNT_S * 1000)) <= 1

    def is_known(self, media: Media) -> bool:
        """Whether this very upload is still the one to send.

        Raises:
            StoreUnavailable: Redis did not answer.
        """
        return self._store.media_id(media.key) == media.media_id

    def _media(
        self, job: ShareJob, app: App, upload: Upload, notes: Mapping[str, str], most_bytes: int
    ) -> Media | Ended:
        if found := self._known(job, app, notes):
            return found
        claim = _claim(job, app)
        holder = uuid.uuid4().hex
        lease_s = self._fleet.fetch_timeout_s + self._fleet.upload_timeout_s + 2 * self._fleet.total_timeout_s
        if not isinstance(self._store.media_claim(claim, holder, lease_ms=round(lease_s * 1000)), Leave):
            why = "the same file is being uploaded for another job"
            return Ended(outcome=Snooze(why=why, cause="upload", for_s=_LOOK_AGAIN_S, sent=False))
        media_id, key = "", claim
        try:
            with self._opened(job, most_bytes) as file:
                key = _key(app, file.sha256, file.type, file.name)
                if known := self._store.media_id(key):
                    return file.media(known, key, uploaded=False)
                answer = self._uploaded(upload, file)
                if not isinstance(answer, Yes):
                    return answer
                media_id = answer.text("media_id")
                return file.media(media_id, key, uploaded=True)
        except _NoFile as error:
            return Ended(outcome=error.outcome)
        finally:
            self._store.media_end(claim, holder, key=key, media_id=media_id, keep_ms=round(KEEP_S * 1000))

    def _known(self, job: ShareJob, app: App, notes: Mapping[str, str]) -> Media | None:
        """The upload of an earlier step, of another job, or for another group: without reading the file."""
        if (media := Media.of(notes)) and self.is_known(media):
            return media
        if file := job.file:
            key = _key(app, file.sha256, file.type, file.name)
            if media_id := self._store.media_id(key):
                return Media(media_id=media_id, name=file.name, type=file.type, size_bytes=file.size_bytes, key=key)
        return None

    def _uploaded(self, upload: Upload, file: _File) -> Yes | Ended:
        part = MediaFile(
            name=_upload_name(file.name, file.type),
            media_type=media_type_of(file.type),
            content=file.content,
            size_bytes=file.size_bytes,
        )
        try:
            answer = upload(part)
        except NotSent as error:
            return Ended(outcome=Retry(why=f"the upload did not reach DingTalk: {error}", cause="not_sent", sent=False))
        except Unanswered as error:
            return Ended(outcome=Retry(why=f"the upload was not answered: {error}", cause="unanswered"))
        if isinstance(answer, Ended) and isinstance(answer.outcome, Unknown):
            # Nobody sees an upload twice: there is nothing to hold, and nothing that could be doubled.
            return replace(answer, outcome=Retry(why=answer.outcome.why, cause=answer.outcome.cause))
        return answer

    # --- The content ----------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, job: ShareJob, most_bytes: int) -> Iterator[_File]:
        """The job's file, checked.

        Raises:
            _NoFile: With how the attempt ends.
        """
        latest_s = self._monotonic_s() + self._fleet.fetch_timeout_s + self._fleet.total_timeout_s
        with ExitStack() as stack:
            try:
                file = self._stored(job.file, most_bytes, stack) if job.file else self._fetched(job, most_bytes, stack)
            except FetchRefused as error:
                raise _NoFile(Dead(why=str(error), cause="fetch", sent=False)) from None
            except FetchFailed as error:
                raise _NoFile(Retry(why=str(error), cause="fetch", at_most=error.at_most, sent=False)) from None
            except FileGone as error:
                raise _NoFile(Retry(why=str(error), cause="file_gone", at_most=_GONE_AT_MOST, sent=False)) from None
            except FileStoreUnavailable as error:
                raise _NoFile(Retry(why=str(error), cause="file_store", sent=False)) from None
            except InvalidJob as error:
                raise _NoFile(Dead(why=str(error), cause="content", sent=False)) from None
            except OSError as error:
                why = f"no room for the file on this worker's disk: {error.strerror or type(error).__name__}"
                raise _NoFile(Retry(why=why, cause="disk", sent=False)) from None
            if self._monotonic_s() > latest_s:
                # The job's lease was made for less: somebody else may have it soon.
                raise _NoFile(Retry(why="fetching the file took too long", cause="fetch", sent=False))
            yield file

    def _stored(self, file: StoredFile, most_bytes: int, stack: ExitStack) -> _File:
        if file.store != self._files.kind:
            why = (
                f"the application put the file in a {file.store!r} file store, and this worker reads {self._files.kind!r}: "
                "give both the same DINGQUEUE_FILES_URL"
            )
            raise _NoFile(Retry(why=why, cause="configuration", sent=False))
        spool = stack.enter_context(spooled())
        for chunk in verified(self._files.chunks(file), file):
            spool.write(chunk)
        spool.seek(0)
        # Once more: an application may do without the library that looks into files.
        taken = check(file.name, spool.read(HEAD_BYTES), file.size_bytes, most_bytes=most_bytes)
        return _File(name=file.name, type=taken.type, size_bytes=file.size_bytes, sha256=file.sha256, content=spool)

    def _fetched(self, job: ShareJob, most_bytes: int, stack: ExitStack) -> _File:
        zip_it = job.zip or self._fleet.zip_files
        most_fetched = MAX_UNPACKED_BYTES if zip_it else most_bytes
        fetched = stack.enter_context(self._fetcher.fetch(job.url, most_bytes=most_fetched))
        # A name that was only the URL's last part gives way to what the server calls the file.
        given = job.name != file_name(job.url)
        name = fitting_name(job.name if given or not fetched.name else fetched.name)
        content, size_bytes = fetched.content, fetched.size_bytes
        taken = checked_unless_packed(
            name, content.read(HEAD_BYTES), size_bytes, zip_it=zip_it, most_bytes=most_bytes
        )  # fmt: skip
        if taken is None:
            content.seek(0)
            content = packed(name, content, most_bytes=most_bytes, into=stack)
            taken = Taken(name=fitting_name(f"{name}.zip"), type="zip", media_type="file")
        content.seek(0)
        digest, size_bytes = hashlib.sha256(), 0
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
        return _File(
            name=taken.name, type=taken.type, size_bytes=size_bytes, sha256=digest.hexdigest(), content=content
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    name: str
    type: str
    size_bytes: int
    sha256: str
    content: BinaryIO

    def media(self, media_id: str, key: str, *, uploaded: bool) -> Media:
        return Media(
            media_id=media_id, name=self.name, type=self.type, size_bytes=self.size_bytes, key=key, uploaded=uploaded
        )  # fmt: skip


class _NoFile(Exception):
    """Carries an outcome out of a ``with``."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def _key(app: App, sha256: str, type_: str, name: str) -> str:
    """Of an upload. The name is part of it: a work notification shows the one that was uploaded."""
    return _digest(app.app_key, sha256, type_, name)


def _claim(job: ShareJob, app: App) -> str:
    """Of the leave to upload. What a URL holds is known only when it was fetched, so its claim is the URL's."""
    if file := job.file:
        return _key(app, file.sha256, file.type, file.name)
    return _digest(app.app_key, "url", job.url)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _upload_name(name: str, type_: str) -> str:
    """The name with the extension that DingTalk knows: it takes jpg, and does not say so of jpeg."""
    return name if name.lower().endswith(f".{type_}") or extension_of(name) != type_ else f"{name}.{type_}"
