"""Files on their way to DingTalk: read from a store or a URL, uploaded once for each app, on real servers."""

from __future__ import annotations

import email
import email.policy
import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest

from dingqueue import StoredFile, share_job
from dingqueue.contract import ShareJob
from dingqueue.files.limits import MAX_FILE_BYTES
from dingqueue.files.source import content_of
from dingqueue.files.store import FileStore, open_store
from dingqueue_worker.dingtalk.answers import Taken, read_older
from dingqueue_worker.dingtalk.api import Api, MediaFile
from dingqueue_worker.embedded import Server, free_port
from dingqueue_worker.files.fetch import Fetcher
from dingqueue_worker.files.media import Files, Media
from dingqueue_worker.outcome import Dead, Ended, Outcome, Retry, Snooze, Unknown
from dingqueue_worker.settings import App, Fleet, Secret
from dingqueue_worker.store import Leave
from support.raw_server import Close, RawRequest, RawServer, Reset, Say, reply
from support.state import State
from support.waiting import wait_for

ACME = App(name="acme", app_key="key-acme", app_secret=Secret("s"))
OTHER = App(name="other", app_key="key-other", app_secret=Secret("s"))
TOKEN = Secret("planted-token")
PDF = b"%PDF-1.7\n"
NAMES = ["季度报表(终稿).pdf", "ﬁnal①.pdf", "it's here.pdf", "a  b .pdf", "👨‍👩‍👧 family.pdf"]


def pdf(size_bytes: int) -> bytes:
    return PDF + os.urandom(size_bytes - len(PDF))


def media_answer(number: int = 1) -> Say:
    return reply({"errcode": 0, "errmsg": "ok", "type": "file", "media_id": f"@media-{number}", "created_at": 1})


def form_of(request: RawRequest) -> dict[str, tuple[str | None, bytes]]:
    """The fields of a form: the file name and the content of each."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    found: dict[str, tuple[str | None, bytes]] = {}
    for part in message.iter_parts():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found[str(name)] = (part.get_filename(), content)
    return found


def raw_name(request: RawRequest) -> bytes:
    """The file's name as its bytes stand in the form."""
    return request.body.split(b'filename="', 1)[1].split(b'"\r\n', 1)[0]


class Bench:
    """Files with everything real but DingTalk, which is a server that says what it is told."""

    def __init__(self, state: State, server: RawServer, store_url: str, **fleet: Any) -> None:
        self.state, self.server = state, server
        self.store: FileStore = open_store(store_url, prefix=state.prefix, timeout_s=2.0)
        self.fleet = Fleet(**fleet)
        self.api = Api(
            oapi_url=server.url, api_url=server.url, connect_timeout_s=2, read_timeout_s=5, total_timeout_s=5, pool_size=4
        )  # fmt: skip
        self.files = self.again()

    def again(self, **fleet: Any) -> Files:
        """Another worker's."""
        fetcher = Fetcher(
            open_hosts=["127.0.0.1"], timeout_s=self.fleet.fetch_timeout_s, connect_timeout_s=2, silence_s=5
        )  # fmt: skip
        return Files(store=self.state.store, files=self.store, fetcher=fetcher, fleet=replace(self.fleet, **fleet))

    def upload(self, file: MediaFile) -> Taken | Ended:
        read = read_older(self.api.media_upload(file, token=TOKEN, timeout_s=10), proof="media_id")
        return read if isinstance(read, Taken) else Ended(outcome=read)

    def stored(self, data: bytes, name: str = "a.pdf") -> ShareJob:
        with content_of(data, name=name) as content:
            place = self.store.keep(content, keep_s=60)
            file = StoredFile(
                store=self.store.kind, id=place, name=content.name, size_bytes=content.size_bytes,
                sha256=content.sha256, type=content.type,
            )  # fmt: skip
        return share_job("project", file)

    def ask(self, job: ShareJob, *, app: App = ACME, notes: Mapping[str, str] = {}, **more: Any) -> Media | Ended:
        return self.files.media(job, app=app, upload=more.pop("upload", self.upload), notes=notes, **more)

    def media(self, job: ShareJob, **more: Any) -> Media:
        found = self.ask(job, **more)
        assert isinstance(found, Media), found
        return found

    def outcome(self, job: ShareJob, **more: Any) -> Outcome:
        found = self.ask(job, **more)
        assert isinstance(found, Ended), found
        assert "planted" not in str(found)
        return found.outcome

    def uploads(self) -> int:
        return sum("/media/upload" in request.line for request in self.server.requests)


@pytest.fixture
def dingtalk() -> Iterator[RawServer]:
    with RawServer([media_answer(number) for number in range(1, 9)]) as server:
        yield server


@pytest.fixture
def bench(state: State, valkey: Server, dingtalk: RawServer) -> Iterator[Bench]:
    one = Bench(state, dingtalk, valkey.url)
    yield one
    one.store.close()
    one.api.close()


# The upload


@pytest.mark.parametrize("size_bytes", [20, 65_536, 3_000_000])
def test_a_stored_file_arrives_as_it_was_shared(bench: Bench, size_bytes: int) -> None:
    data = pdf(size_bytes)

    media = bench.media(bench.stored(data))

    assert (media.media_id, media.type, media.media_type, media.uploaded) == ("@media-1", "pdf", "file", True)
    [request] = bench.server.requests
    assert request.line.startswith("POST /media/upload?access_token=planted-token&type=file ")
    assert form_of(request) == {"type": (None, b"file"), "media": ("a.pdf", data)}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_in_the_form_as_utf8(bench: Bench, name: str) -> None:
    media = bench.media(bench.stored(pdf(20), name))

    assert media.name == name
    assert raw_name(bench.server.requests[0]) == name.encode()


def test_a_quote_in_a_name_does_not_end_it(bench: Bench) -> None:
    """In the form it is written as browsers do; the message carries the name itself."""
    media = bench.media(bench.stored(pdf(20), 'the "final".pdf'))

    assert media.name == 'the "final".pdf'
    assert raw_name(bench.server.requests[0]) == b"the %22final%22.pdf"


@pytest.mark.parametrize(
    ("name", "data", "uploaded_as", "media_type"),
    [
        ("photo.jpeg", b"\xff\xd8\xff\xe0" + bytes(40), "photo.jpeg.jpg", "image"),
        ("photo.PNG", b"\x89PNG\r\n\x1a\n" + bytes(40), "photo.PNG", "image"),
        ("note.mp3", b"ID3\x03" + bytes(60), "note.mp3", "voice"),
        ("clip.mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(40), "clip.mp4", "video"),
    ],
)
def test_the_form_says_what_kind_of_file_it_is(bench: Bench, name: str, data: bytes, uploaded_as: str, media_type: str) -> None:  # fmt: skip
    media = bench.media(bench.stored(data, name))

    [request] = bench.server.requests
    assert (media.name, media.media_type) == (name, media_type)
    assert f"&type={media_type} " in request.line
    assert form_of(request)["type"] == (None, media_type.encode())
    assert form_of(request)["media"][0] == uploaded_as


def test_a_file_is_looked_into_again_by_the_worker(bench: Bench) -> None:
    """An application may do without the library that does it."""
    job = bench.stored(b"<!DOCTYPE html><html>sign in", "page.xls")
    assert job.file is not None
    lied = replace(job, file=replace(job.file, name="page.pdf", type="pdf"))

    outcome = bench.outcome(lied)

    assert isinstance(outcome, Dead)
    assert "'page.pdf' is no pdf: it holds a web page" in outcome.why
    assert bench.server.requests == []


def test_a_routes_own_limit_is_kept(bench: Bench) -> None:
    outcome = bench.outcome(bench.stored(pdf(1_001)), most_bytes=1_000)

    assert isinstance(outcome, Dead)
    assert "at most 1,000" in outcome.why
    assert bench.server.requests == []


# Once


def test_the_same_file_is_uploaded_once_for_an_app(bench: Bench) -> None:
    job = bench.stored(pdf(100))

    first, second = bench.media(job), bench.media(job)
    other = bench.media(job, app=OTHER)

    assert (first.media_id, second.media_id, other.media_id) == ("@media-1", "@media-1", "@media-2")
    assert (first.uploaded, second.uploaded, other.uploaded) == (True, False, True)
    assert bench.uploads() == 2


def test_a_known_upload_needs_no_file_any_more(bench: Bench) -> None:
    job = bench.stored(pdf(100))
    bench.media(job)
    for key in bench.state.redis.scan_iter(match=bench.state.key("file:*")):
        bench.state.redis.delete(key)

    assert bench.media(job).media_id == "@media-1"


def test_another_name_is_another_upload(bench: Bench) -> None:
    """A work notification shows the name that was uploaded."""
    data = pdf(100)

    ids = [bench.media(bench.stored(data, name)).media_id for name in ("a.pdf", "b.pdf", "a.pdf")]

    assert ids == ["@media-1", "@media-2", "@media-1"]


def test_a_media_id_is_kept_for_less_than_three_days(bench: Bench) -> None:
    bench.media(bench.stored(pdf(100)))

    [key] = bench.state.redis.scan_iter(match=bench.state.key("media:*"))
    assert 59 * 3_600 < bench.state.redis.ttl(key) <= 60 * 3_600


def test_ten_groups_at_once_upload_once(bench: Bench) -> None:
    data = pdf(200_000)
    job = bench.stored(data)
    gate = threading.Barrier(10)
    found: list[Media | Ended] = []

    def group() -> None:
        gate.wait(10)
        while True:
            one = bench.again().media(job, app=ACME, upload=bench.upload, notes={})
            found.append(one)
            if isinstance(one, Media):
                return
            assert isinstance(one.outcome, Snooze), one
            assert not one.outcome.sent

    threads = [threading.Thread(target=group) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert {one.media_id for one in found if isinstance(one, Media)} == {"@media-1"}
    assert bench.uploads() == 1


def test_leave_to_upload_is_given_up_whatever_happens(bench: Bench) -> None:
    job = bench.stored(pdf(100))

    def broken(file: MediaFile) -> Taken | Ended:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.ask(job, upload=broken)

    assert bench.media(job).uploaded


def test_who_was_killed_while_uploading_holds_nobody_up_for_long(bench: Bench) -> None:
    job = bench.stored(pdf(100))
    bench.files = bench.again(fetch_timeout_s=0.1, upload_timeout_s=0.1, total_timeout_s=0.1)
    from dingqueue_worker.files.media import _claim

    assert isinstance(bench.state.store.media_claim(_claim(job, ACME), "dead worker", lease_ms=300), Leave)

    assert isinstance(bench.outcome(job), Snooze)
    wait_for(lambda: isinstance(bench.ask(job), Media), what="the dead worker's claim ends")
    assert bench.uploads() == 1


# Steps


def test_a_later_step_asks_nobody(bench: Bench) -> None:
    job = bench.stored(pdf(100))
    first = bench.media(job)

    later = bench.media(job, notes=first.notes)

    assert later == replace(first, uploaded=False)
    assert bench.uploads() == 1
    assert all(isinstance(value, str) for value in first.notes.values())


def test_an_upload_that_dingtalk_refuses_to_send_is_made_again_once(bench: Bench) -> None:
    job = bench.stored(pdf(100))
    first = bench.media(job)

    worth_it = bench.files.worth_another(first)
    second = bench.media(job, notes=first.notes)
    hopeless = not bench.files.worth_another(second)

    assert (worth_it, hopeless) == (True, True)
    assert (second.media_id, second.uploaded) == ("@media-2", True)


def test_a_refusal_of_an_old_upload_does_not_touch_the_new_one(bench: Bench) -> None:
    job = bench.stored(pdf(100))
    old = bench.media(job)
    bench.files.worth_another(old)
    new = bench.media(job)

    assert not bench.files.is_known(old)
    assert bench.files.worth_another(old)
    assert bench.files.is_known(new)


# By URL


def by_url(server: RawServer, path: str = "/report.pdf", **options: Any) -> ShareJob:
    return share_job("project", f"{server.url}{path}", **options)


def test_a_url_is_fetched_and_uploaded_under_the_best_name_there_is(bench: Bench) -> None:
    data = pdf(100_000)
    named = ["Content-Disposition: attachment; filename*=UTF-8''%E5%AD%A3%E5%BA%A6.pdf"]
    with RawServer([reply(data), reply(data), reply(data, headers=named), reply(data, headers=named)]) as files:
        plain = bench.media(by_url(files))
        no_type = bench.media(by_url(files, "/download?id=1&X-Signature=planted"))
        disposed = bench.media(by_url(files, "/download?id=2"))
        given = bench.media(by_url(files, "/download?id=3", name="Q3/Q4 report.pdf"))

    assert [one.name for one in (plain, no_type, disposed, given)] == [
        "report.pdf", "download.pdf", "季度.pdf", "Q3_Q4 report.pdf",
    ]  # fmt: skip
    assert {hashlib.sha256(form_of(request)["media"][1]).digest() for request in bench.server.requests} == {
        hashlib.sha256(data).digest()
    }


def test_a_url_with_the_same_content_is_uploaded_once(bench: Bench) -> None:
    with RawServer([reply(pdf(100))]) as files:
        first, second = bench.media(by_url(files)), bench.media(by_url(files))

    assert (first.media_id, second.media_id, bench.uploads(), len(files.requests)) == ("@media-1", "@media-1", 1, 2)


def test_a_url_is_not_fetched_again_for_a_later_step(bench: Bench) -> None:
    with RawServer([reply(pdf(100))]) as files:
        job = by_url(files)
        bench.media(job, notes=bench.media(job).notes)

        assert len(files.requests) == 1


@pytest.mark.parametrize("how", ["job", "fleet"])
def test_what_dingtalk_would_refuse_is_packed_where_that_is_wanted(bench: Bench, how: str) -> None:
    rows = b"day,count\n" * 1_000
    if how == "fleet":
        bench.files = bench.again(zip_files=True)
    with RawServer([reply(rows, content_type="text/csv")]) as files:
        media = bench.media(by_url(files, "/rows.csv", zip=how == "job"))

    assert (media.name, media.type) == ("rows.csv.zip", "zip")
    with zipfile.ZipFile(BytesIO(form_of(bench.server.requests[0])["media"][1])) as archive:
        assert archive.read("rows.csv") == rows


@pytest.mark.parametrize(
    ("answer", "path", "why"),
    [
        (reply(b"day,count\n"), "/rows.csv", "takes no .csv"),
        (reply(b"<html>login</html>"), "/report.pdf", "it holds a web page"),
        (reply(b""), "/report.pdf", "is empty"),
        (reply(b"x", status="404 Gone"), "/report.pdf", "answered HTTP 404"),
        (Say(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/planted\r\n\r\n"), "/report.pdf", "only https"),
        (Say(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"), "/report.pdf", "at most 20,971,520"),
    ],
)
def test_what_a_url_brings_that_cannot_be_shared_is_dead(bench: Bench, answer: Say, path: str, why: str) -> None:
    with RawServer([answer]) as files:
        outcome = bench.outcome(by_url(files, f"{path}?X-Signature=planted"))

    assert isinstance(outcome, Dead)
    assert not outcome.sent
    assert why in outcome.why
    assert bench.server.requests == []


def test_a_url_that_does_not_come_is_tried_again(bench: Bench) -> None:
    with RawServer([(Reset(),)]) as files:
        outcome = bench.outcome(by_url(files, "/report.pdf?X-Signature=planted"))

    assert isinstance(outcome, Retry)
    assert not outcome.sent
    assert bench.media(bench.stored(pdf(100))).uploaded


# What fails


def test_a_file_that_has_gone_is_looked_for_a_few_times(bench: Bench) -> None:
    job = bench.stored(pdf(100))
    for key in bench.state.redis.scan_iter(match=bench.state.key("file:*")):
        bench.state.redis.delete(key)

    outcome = bench.outcome(job)

    assert isinstance(outcome, Retry)
    assert (outcome.at_most, outcome.sent) == (3, False)
    assert "share it again" in outcome.why


def test_another_kind_of_file_store_is_a_matter_of_configuration(bench: Bench) -> None:
    job = bench.stored(pdf(100))
    assert job.file is not None

    outcome = bench.outcome(replace(job, file=replace(job.file, store="s3")))

    assert isinstance(outcome, Retry)
    assert outcome.cause == "configuration"
    assert "DINGQUEUE_FILES_URL" in outcome.why


def test_a_file_store_that_is_away_is_waited_for(state: State, dingtalk: RawServer) -> None:
    away = Bench(state, dingtalk, f"redis://:planted@127.0.0.1:{free_port()}/0")
    file = StoredFile(store="redis", id="0" * 64, name="a.pdf", size_bytes=9, sha256="0" * 64, type="pdf")

    outcome = away.outcome(share_job("project", file))

    assert isinstance(outcome, Retry)
    assert outcome.cause == "file_store"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((Close(),), Retry),
        (reply({"errcode": 40005, "errmsg": "bad type"}), Dead),
        (reply({"errcode": 45001, "errmsg": "too large"}), Dead),
        (reply({"errcode": 88, "sub_code": "40014", "sub_msg": "bad token"}), Retry),
        (reply({"errcode": 0, "errmsg": "ok"}), Unknown),
        (reply(b"<html>", status="302 Found", content_type="text/html"), Snooze),
    ],
)
def test_an_upload_that_fails_is_not_remembered(bench: Bench, answer: Any, expected: type[Outcome]) -> None:
    bench.server.answers = [answer, media_answer()]
    job = bench.stored(pdf(100))
    expected = Retry if expected is Unknown else expected  # an upload twice is nothing that anybody sees

    assert isinstance(bench.outcome(job), expected)
    assert bench.media(job).uploaded


def test_no_upload_reaches_a_server_that_is_away(bench: Bench) -> None:
    bench.api = Api(
        oapi_url=f"http://127.0.0.1:{free_port()}", api_url="http://127.0.0.1:1", connect_timeout_s=1,
        read_timeout_s=1, total_timeout_s=2, pool_size=1,
    )  # fmt: skip

    outcome = bench.outcome(bench.stored(pdf(100)))

    assert isinstance(outcome, Retry)
    assert not outcome.sent


def test_a_slow_upload_ends_with_its_own_time(bench: Bench) -> None:
    """A server that takes nothing: the whole request is bounded, and the token is in no text."""
    from dingqueue_worker.dingtalk.errors import Unanswered
    from support.raw_server import Hang

    with RawServer([(Hang(),)], first=(Hang(),)) as stuck:
        api = Api(
            oapi_url=stuck.url, api_url=stuck.url, connect_timeout_s=1, read_timeout_s=1, total_timeout_s=1, pool_size=1
        )  # fmt: skip
        part = MediaFile(name="a.pdf", media_type="file", content=BytesIO(pdf(20_000_000)), size_bytes=20_000_000)
        with pytest.raises(Unanswered) as caught:
            api.media_upload(part, token=TOKEN, timeout_s=0.5)

    assert "planted" not in str(caught.value)


# Memory


_PEAK = """
import json, sys
from pathlib import Path
from dingqueue.contract import StoredFile, from_wire
from dingqueue.files.store import open_store
from dingqueue_worker.dingtalk.answers import read_older
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.files.fetch import Fetcher
from dingqueue_worker.files.media import Files, Media
from dingqueue_worker.settings import App, Fleet, Secret
from dingqueue_worker.store import Store
redis_url, prefix, oapi_url, *wires = sys.argv[1:]
store = Store(redis_url, prefix=prefix)
api = Api(oapi_url=oapi_url, api_url=oapi_url, connect_timeout_s=3, read_timeout_s=9, total_timeout_s=9, pool_size=1)
fetcher = Fetcher(open_hosts=["127.0.0.1"], timeout_s=30, connect_timeout_s=3, silence_s=9)
files = Files(store=store, files=open_store(redis_url, prefix=prefix, timeout_s=5), fetcher=fetcher, fleet=Fleet())
app = App(name="acme", app_key="k", app_secret=Secret("s"))
def upload(file):
    return read_older(api.media_upload(file, token=Secret("t"), timeout_s=30), proof="media_id")
def peak_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
grew = []
for wire in wires:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_kib()
    media = files.media(from_wire(wire), app=app, upload=upload, notes={})
    assert isinstance(media, Media) and media.uploaded, media
    grew.append(peak_kib() - before)
print(json.dumps(grew))
"""


def test_memory_stays_flat_while_the_largest_file_is_fetched_and_uploaded(bench: Bench, valkey: Server) -> None:
    from dingqueue.contract import to_wire

    large = pdf(MAX_FILE_BYTES)
    with RawServer([reply(pdf(100)), reply(large)]) as files:
        jobs = [
            bench.stored(pdf(100)), by_url(files, "/small.pdf"), bench.stored(large), by_url(files, "/large.pdf"),
        ]  # fmt: skip
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _PEAK, valkey.url, bench.state.prefix, bench.server.url, *map(to_wire, jobs)],
            capture_output=True, text=True, check=False, timeout=110,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    *_, from_store, from_url = json.loads(done.stdout)
    assert from_store < 6_000  # KiB; the file has 20,480
    assert from_url < 6_000
    assert [len(form_of(request)["media"][1]) for request in bench.server.requests] == [100, 100, *[MAX_FILE_BYTES] * 2]
    for key in bench.state.redis.scan_iter(match=bench.state.key("file:*")):
        bench.state.redis.delete(key)
