"""What DingTalk takes as a file, and what an application may hand over as one."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest

from dingqueue import InvalidJob, StoredFile, share_job
from dingqueue.files.limits import MAX_FILE_BYTES, MAX_VOICE_BYTES, check, checked_name, media_type_of
from dingqueue.files.places import kind_of
from dingqueue.files.source import Content, content_of
from dingqueue.preview import preview
from dingqueue.testing import outbox

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
JPG = b"\xff\xd8\xff\xe0" + bytes(40)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
MP3 = b"ID3\x03" + bytes(60)
RAR = b"Rar!\x1a\x07\x01\x00" + bytes(40)
MP4 = b"\x00\x00\x00\x20ftypavc1" + bytes(40)
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(40)
HTML = b"\n<!DOCTYPE html><html><title>Sign in</title>"
NAMES = [
    "季度报表(终稿).pdf",
    "ﬁnal①.pdf",
    'a "quoted" name.pdf',
    "it's here.pdf",
    "  two  spaces .pdf",
    "👨‍👩‍👧 family.pdf",
    "ümlaut é.pdf",
]


def office(*members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in members or ("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"):
            archive.writestr(member, "x" * 50)
    return file.getvalue()


def read(content: Content) -> bytes:
    return b"".join(content.chunks(1000))


def refusal(file: Any, **options: Any) -> InvalidJob:
    with pytest.raises(InvalidJob) as caught, content_of(file, **options):
        pass
    return caught.value


# Types


@pytest.mark.parametrize(
    ("name", "head", "type_", "media_type"),
    [
        ("a.pdf", PDF, "pdf", "file"),
        ("a.PDF", b"\xef\xbb\xbf" + PDF, "pdf", "file"),
        ("a.pdf", b"junk before\n" + PDF, "pdf", "file"),
        ("a.png", PNG, "png", "image"),
        ("photo.JPEG", JPG, "jpg", "image"),
        ("photo.png", JPG, "jpg", "image"),
        ("a.doc", OLE, "doc", "file"),
        ("locked.docx", OLE, "docx", "file"),
        ("a.xls", HTML, "xls", "file"),
        ("a.doc", b"{\\rtf1 hello}", "doc", "file"),
        ("a.xlsx", office(), "xlsx", "file"),
        ("a.docx", office("word/document.xml"), "docx", "file"),
        ("a.zip", office("a.txt"), "zip", "file"),
        ("a.rar", RAR, "rar", "file"),
        ("a.mp3", MP3, "mp3", "voice"),
        ("a.amr", b"#!AMR\n" + bytes(20), "amr", "voice"),
        ("a.mp4", MP4, "mp4", "video"),
    ],
)
def test_a_type_that_dingtalk_takes(name: str, head: bytes, type_: str, media_type: str) -> None:
    taken = check(name, head, 100)

    assert (taken.name, taken.type, taken.media_type) == (name, type_, media_type)
    assert media_type_of(type_) == media_type


@pytest.mark.parametrize(("name", "shown"), [("report", "report.pdf"), ("v1.2", "v1.2.pdf"), (".pdf", ".pdf.pdf")])
def test_a_name_without_a_type_gets_the_one_of_its_content(name: str, shown: str) -> None:
    assert check(name, PDF, 100).name == shown


@pytest.mark.parametrize(
    ("name", "head", "problem"),
    [
        ("a.txt", b"hello", "takes no .txt"),
        ("a.csv", b"a,b\n", "takes no .csv"),
        ("a.json", b"{}", "takes no .json"),
        ("README.md", b"# hi", "takes no .md"),
        ("notes", b"hello", "no file without one of its extensions"),
        ("app.apk", office("classes.dex"), "takes no .apk"),
        ("a.pdf", HTML, "is no pdf: it holds a web page (of a login, or of an error?)"),
        ("a.pdf", b"hello", "is no pdf: it holds something else"),
        ("a.pdf", PNG, "is no pdf: it holds a png"),
        ("a.zip", HTML, "is no zip: it holds a web page"),
        ("a.xlsx", PDF, "is no xlsx: it holds a pdf"),
        ("a.jpg", WEBP, "is no jpg: it holds a webp"),
        ("a.pdf", OLE, "is no pdf: it holds an older Office file"),
    ],
)
def test_a_type_that_dingtalk_refuses_is_named_with_the_way_out(name: str, head: bytes, problem: str) -> None:
    with pytest.raises(InvalidJob, match=r"zip=True \(--zip\) packs it in a \.zip") as caught:
        check(name, head, 100)

    assert caught.value.field == "file"
    assert problem in caught.value.problem


def test_without_the_library_the_name_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "filetype", None)

    assert check("a.png", b"whatever", 100).type == "png"
    with pytest.raises(InvalidJob, match=r"takes no \.csv"):
        check("a.csv", b"a,b\n", 100)


# Sizes


@pytest.mark.parametrize(
    ("name", "head", "size_bytes", "fits"),
    [
        ("a.pdf", PDF, MAX_FILE_BYTES, True),
        ("a.pdf", PDF, MAX_FILE_BYTES + 1, False),
        ("a.mp3", MP3, MAX_VOICE_BYTES, True),
        ("a.mp3", MP3, MAX_VOICE_BYTES + 1, False),
    ],
)
def test_the_largest_file_is_taken_and_one_byte_more_is_not(
    name: str, head: bytes, size_bytes: int, fits: bool
) -> None:
    if fits:
        check(name, head, size_bytes)
    else:
        with pytest.raises(InvalidJob, match=f"has {size_bytes:,} bytes; at most {size_bytes - 1:,}"):
            check(name, head, size_bytes)


def test_a_destination_may_take_less() -> None:
    assert "at most 10,485,760 (10 MB)" in refusal(PDF * 1_000_000, name="a.pdf", most_bytes=10 * 2**20).problem


def test_an_empty_file_is_refused_even_packed() -> None:
    for zip_it in (False, True):
        assert refusal(b"", name="a.pdf", zip_it=zip_it).problem == "'a.pdf' is empty"


# Names


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_as_they_are(name: str) -> None:
    with content_of(PDF, name=name) as content:
        assert content.name == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "blank"),
        (" ", "blank"),
        ("..", "blank"),
        ("/etc/passwd", "folder"),
        ("a\\b.pdf", "folder"),
        ("a\nb.pdf", "control"),
        ("a\x00.pdf", "control"),
        ("a\u2028.pdf", "control"),
        ("\ud800.pdf", "control"),
        ("invoice\u202efdp.exe", "direction"),
        ("字" * 86, "258 bytes; at most 255"),
    ],
)
def test_names_that_are_none(name: str, problem: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        checked_name(name)

    assert caught.value.field == "name"
    assert problem in caught.value.problem


@pytest.mark.parametrize(("file", "field"), [(PDF, "name"), (io.BytesIO(PDF), "name")])
def test_what_has_no_name_needs_one(file: Any, field: str) -> None:
    error = refusal(file)

    assert error.field == field
    assert "give name='report.pdf'" in error.problem


# Sources


def test_every_source_gives_the_same_content(tmp_path: Path) -> None:
    data = PDF + os.urandom(200_000)
    path = tmp_path / "report.pdf"
    path.write_bytes(data)
    ahead = io.BytesIO(b"other" + data)
    ahead.seek(5)
    receiver, writer = os.pipe()
    thread = threading.Thread(target=_write, args=(writer, data))
    thread.start()
    found = []
    with path.open("rb") as opened, os.fdopen(receiver, "rb") as pipe, path.open("rb", buffering=0) as raw:
        for file in (path, data, bytearray(data), memoryview(data), opened, raw, ahead, pipe):
            with content_of(cast("Any", file), name="report.pdf") as content:
                found.append((content.size_bytes, content.sha256, content.type))
                assert read(content) == data
                assert read(content) == data
    thread.join()

    assert set(found) == {(len(data), hashlib.sha256(data).hexdigest(), "pdf")}


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as end:
        end.write(data)


def test_a_path_and_an_open_file_bring_their_names(tmp_path: Path) -> None:
    path = tmp_path / "季度 报表.pdf"
    path.write_bytes(PDF)

    with path.open("rb") as opened, content_of(opened) as content:
        assert content.name == path.name
    with content_of(path) as content:
        assert content.name == path.name


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (Path("/nowhere/report.pdf"), "'report.pdf' cannot be read: No such file or directory"),
        (Path("/etc"), "'etc' is a folder: pack it, and share the archive"),
        (io.StringIO("text"), "is open as text: open it in binary mode"),
        (17, "expected an http(s) URL, a Path, bytes or an open binary file, got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_file(file: Any, problem: str) -> None:
    assert problem in refusal(file, name="a.pdf").problem


def test_a_file_too_large_is_refused_by_its_size_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pdf"
    with path.open("wb") as opened:
        opened.write(PDF)
        opened.truncate(10**12)

    assert "has 1,000,000,000,000 bytes" in refusal(path).problem


def test_a_stream_without_end_is_refused_at_the_limit() -> None:
    with Path("/dev/zero").open("rb") as endless:
        assert "is too large; at most 20,971,520" in refusal(Endless(endless), name="a.pdf").problem


class Endless(io.RawIOBase):
    def __init__(self, source: Any) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return cast("int", self._source.readinto(buffer))


def test_a_file_that_changes_while_it_is_read_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "log.pdf"
    for change in (b"%PDF-1.7 more and more", b"%PDF-", PDF.replace(b"7", b"6")):
        path.write_bytes(PDF)
        with content_of(path) as content:
            path.write_bytes(change)

            with pytest.raises(InvalidJob, match="changed while it was read"):
                read(content)


# Packing


def test_what_dingtalk_refuses_is_packed_on_request(tmp_path: Path) -> None:
    path = tmp_path / "季度报表.csv"
    path.write_bytes("日期,数\n".encode() * 10_000)

    with content_of(path, zip_it=True) as content:
        data = read(content)

    assert (content.name, content.type) == ("季度报表.csv.zip", "zip")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["季度报表.csv"]
        assert archive.read("季度报表.csv") == path.read_bytes()
    with content_of(path, zip_it=True) as again:
        assert again.sha256 == content.sha256


def test_what_dingtalk_takes_is_not_packed() -> None:
    with content_of(PDF, name="a.pdf", zip_it=True) as content:
        assert (content.name, read(content)) == ("a.pdf", PDF)


def test_a_file_too_large_may_fit_when_packed() -> None:
    with content_of(bytes(3 * MAX_FILE_BYTES), name="zeros.txt", zip_it=True) as content:
        assert content.size_bytes < 100_000
    noise = io.BytesIO(os.urandom(1_100_000))

    assert "larger even when packed" in refusal(noise, name="noise.txt", zip_it=True, most_bytes=2**20).problem


# The client, while a test keeps its jobs


def test_an_outbox_takes_files_without_storing_them(tmp_path: Path) -> None:
    from dingqueue import Client

    path = tmp_path / "report.pdf"
    path.write_bytes(PDF)
    with outbox() as sent:
        Client("redis://127.0.0.1:1/0").share("project", path, note="For the board", key="q3")

    job = sent.assert_enqueued(kind="share", destination="project", text_contains="report.pdf", key="q3")
    assert job == share_job(
        "project",
        StoredFile(
            store="", id=hashlib.sha256(PDF).hexdigest(), name="report.pdf", size_bytes=len(PDF),
            sha256=hashlib.sha256(PDF).hexdigest(), type="pdf",
        ),
        note="For the board",
        key="q3",
    )  # fmt: skip


def test_the_call_is_checked_before_the_file_is_opened() -> None:
    from dingqueue import Client

    with pytest.raises(InvalidJob) as caught:
        Client("redis://127.0.0.1:1/0").share("no such name", Path("/nowhere"))

    assert caught.value.field == "destination"


# References


def stored(**changes: Any) -> StoredFile:
    fields: dict[str, Any] = {
        "store": "redis", "id": "x", "name": "a.pdf", "size_bytes": 1, "sha256": "0" * 64, "type": "pdf",
    }  # fmt: skip
    return StoredFile(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sha256": "../../etc/passwd"}, "file.sha256"),
        ({"size_bytes": 0}, "file.size_bytes"),
        ({"size_bytes": MAX_FILE_BYTES + 1}, "file.size_bytes"),
        ({"size_bytes": "1"}, "file.size_bytes"),
        ({"type": "p/f"}, "file.type"),
        ({"name": "a/b.pdf"}, "name"),
    ],
)
def test_a_reference_that_is_none(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        share_job("project", stored(**changes))

    assert caught.value.field == field


def test_a_reference_may_have_another_name_but_no_other_type() -> None:
    job = share_job("project", stored(), name="b.pdf")
    assert job.file is not None
    assert job.name == job.file.name == "b.pdf"
    with pytest.raises(InvalidJob, match="ends like that under every name"):
        share_job("project", stored(), name="b.exe")


def test_a_preview_shows_the_file() -> None:
    shown = str(preview(share_job("project", stored(size_bytes=1_234_567), note="For the board")))

    assert "message 1 of 1: file, 1,234,567 bytes" in shown
    assert "a.pdf (pdf)" in shown
    assert "For the board" in shown
    assert "warning: needs a destination with an app" in shown


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://:secret@host:6379/3", "redis"),
        ("rediss://host", "redis"),
        ("unix:///run/redis.sock", "redis"),
        ("sentinel://a,b/main/0", "redis"),
        ("file:///srv/files", "folder"),
        ("s3://bucket/folder", "s3"),
        ("memory://files", "memory"),
    ],
)
def test_the_places_where_files_may_wait(url: str, kind: str) -> None:
    assert kind_of(url) == kind


@pytest.mark.parametrize(
    "url",
    [
        "planted",
        "/srv/planted",
        "file://srv/planted",
        "file:///srv?planted",
        "nosuch://planted",
        "redis://h:planted/0",
        "redis://h:1/planted",
        "S3://planted",
    ],
)
def test_no_place_for_files_and_nothing_of_it_in_the_words(url: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        kind_of(url)

    assert "planted" not in str(caught.value)


def test_without_fsspec_its_urls_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)

    with pytest.raises(ValueError, match=r"pip install 'dingqueue\[files\]'"):
        kind_of("s3://bucket")
