"""The file store, and `Client.share` on a real server: what is stored, for how long, and what never travels."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from dingqueue import Client, EnqueueFailed, InvalidJob, StoredFile
from dingqueue.contract import ShareJob, from_wire
from dingqueue.files.limits import MAX_FILE_BYTES
from dingqueue.files.source import content_of
from dingqueue.files.store import (
    CHUNK_BYTES,
    DatedFiles,
    FileGone,
    FileStore,
    FileStoreUnavailable,
    RedisFiles,
    open_store,
    verified,
)
from dingqueue_worker.embedded import Server, free_port
from support.state import State, lane, sender
from support.waiting import wait_for

PDF = b"%PDF-1.7\n"
DAY_S = 86_400.0


def pdf(size_bytes: int) -> bytes:
    return PDF + os.urandom(size_bytes - len(PDF))


def keep(store: FileStore, data: bytes, *, name: str = "a.pdf", keep_s: float = 60.0) -> StoredFile:
    with content_of(data, name=name) as content:
        place = store.keep(content, keep_s=keep_s)
    return StoredFile(
        store=store.kind, id=place, name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), type="pdf"
    )


def read(store: FileStore, file: StoredFile) -> bytes:
    return b"".join(verified(store.chunks(file), file))


# Every store


@pytest.fixture(params=["redis", "folder", "fsspec"])
def store(request: pytest.FixtureRequest, valkey: Server, state: State, tmp_path: Path) -> Iterator[FileStore]:
    urls = {"redis": valkey.url, "folder": f"file://{tmp_path}", "fsspec": f"local://{tmp_path}"}
    opened = open_store(urls[request.param], prefix=state.prefix, timeout_s=2.0)
    yield opened
    opened.close()


@pytest.mark.parametrize("size_bytes", [10, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES])
def test_what_is_kept_is_read_back(store: FileStore, size_bytes: int) -> None:
    data = pdf(size_bytes)

    file = keep(store, data)

    assert read(store, file) == data


def test_the_same_content_is_kept_once_under_any_name(store: FileStore) -> None:
    data = pdf(100_000)

    assert keep(store, data).id == keep(store, data, name="b.pdf").id
    assert keep(store, data).id != keep(store, data[:-1]).id


def test_producers_that_store_the_same_file_at_once_do_not_disturb_each_other(store: FileStore) -> None:
    data = pdf(3 * CHUNK_BYTES)
    start = threading.Barrier(4)
    files: list[StoredFile] = []

    def produce() -> None:
        start.wait(10)
        for _ in range(5):
            files.append(keep(store, data))
            assert read(store, files[-1]) == data

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(files) == 20
    assert len({file.id for file in files}) == 1


def test_a_file_that_is_not_there_is_gone(store: FileStore) -> None:
    file = keep(store, pdf(100))

    for place in ("20261203/" + "0" * 64, "0" * 64, "../../etc/passwd", ""):
        other = StoredFile(**{**_fields(file), "id": place})
        with pytest.raises(FileGone):
            read(store, other)


def test_content_that_is_not_what_was_shared_is_gone(store: FileStore) -> None:
    file = keep(store, pdf(100))

    for changes in ({"sha256": "0" * 64}, {"size_bytes": 99}):
        other = StoredFile(**{**_fields(file), **changes})
        with pytest.raises(FileGone):
            read(store, other)


def test_a_file_that_changes_while_it_is_stored_leaves_nothing(store: FileStore, tmp_path: Path) -> None:
    path = tmp_path / "growing.pdf"
    path.write_bytes(PDF + b"v1")
    with content_of(path) as content:
        path.write_bytes(PDF + b"v2")

        with pytest.raises(InvalidJob, match="changed while it was read"):
            store.keep(content, keep_s=60)

        file = StoredFile(store="", id=content.sha256, name="", size_bytes=content.size_bytes, sha256=content.sha256, type="pdf")  # fmt: skip
        with pytest.raises(FileGone):
            read(store, file)


def _fields(file: StoredFile) -> dict[str, Any]:
    return {name: getattr(file, name) for name in file.__dataclass_fields__}


# In Redis


@pytest.fixture
def in_redis(valkey: Server, state: State) -> Iterator[RedisFiles]:
    files = RedisFiles(valkey.url, prefix=state.prefix, timeout_s=2.0)
    yield files
    files.close()


def chunk_keys(state: State) -> list[str]:
    return sorted(state.redis.scan_iter(match=f"{state.key('file:')}*"))


def test_chunks_live_as_long_as_the_longest_job_that_needs_them(in_redis: RedisFiles, state: State) -> None:
    data = pdf(CHUNK_BYTES + 1)

    for keep_s, least_ms in ((3_600, 3_590_000), (7_200, 7_190_000), (60, 7_190_000)):
        keep(in_redis, data, keep_s=keep_s)
        assert [state.redis.pttl(key) >= least_ms for key in chunk_keys(state)] == [True, True]

    assert state.redis.pttl(chunk_keys(state)[0]) <= 7_200_000


def test_a_file_in_redis_expires(in_redis: RedisFiles, state: State) -> None:
    file = keep(in_redis, pdf(CHUNK_BYTES + 1), keep_s=3_600)
    for key in chunk_keys(state):
        assert state.redis.pttl(key) > 0
        state.redis.pexpire(key, 1)

    wait_for(lambda: not chunk_keys(state), what="expiry")

    with pytest.raises(FileGone, match="share it again"):
        read(in_redis, file)


def test_a_chunk_that_went_is_written_again(in_redis: RedisFiles, state: State) -> None:
    data = pdf(3 * CHUNK_BYTES)
    file = keep(in_redis, data, keep_s=7_200)
    state.redis.delete(chunk_keys(state)[1])

    assert keep(in_redis, data, keep_s=60) == file
    assert read(in_redis, file) == data
    first, _, last = (state.redis.ttl(key) for key in chunk_keys(state))
    assert min(first, last) > 7_000


def test_a_writer_that_was_killed_leaves_only_what_expires_soon(
    in_redis: RedisFiles, state: State, tmp_path: Path
) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf(3 * CHUNK_BYTES))
    with content_of(path) as content:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(InvalidJob):
            in_redis.keep(content, keep_s=DAY_S)

    assert chunk_keys(state)
    assert all(0 < state.redis.pttl(key) <= 600_000 for key in chunk_keys(state))


def test_a_redis_that_is_away_or_full_says_so_without_its_url() -> None:
    away = RedisFiles(f"redis://:planted@127.0.0.1:{free_port()}/0", prefix="dq:", timeout_s=1.0)
    with pytest.raises(FileStoreUnavailable) as caught:
        keep(away, pdf(100))
    assert "planted" not in str(caught.value)

    with Server(durable=False, options={"maxmemory": "3mb", "maxmemory-policy": "noeviction"}) as small:
        full = RedisFiles(small.url, prefix="dq:", timeout_s=2.0)
        with pytest.raises(FileStoreUnavailable, match=r"Redis refused the file: .*maxmemory"):
            keep(full, pdf(10 * CHUNK_BYTES))
        full.close()


# In folders


def dated(tmp_path: Path, now: datetime) -> DatedFiles:
    from dingqueue.files.store import _Folder

    return DatedFiles("folder", lambda: _Folder(tmp_path), now=lambda: now)


def test_a_file_lies_in_the_folder_of_its_last_day_and_goes_with_it(tmp_path: Path) -> None:
    noon = datetime(2026, 11, 25, 12, tzinfo=UTC)
    data = pdf(100)
    (tmp_path / "not ours").mkdir()

    short, long = (keep(dated(tmp_path, noon), data, keep_s=days * DAY_S) for days in (1, 3))

    assert [file.id.partition("/")[0] for file in (short, long)] == ["20261126", "20261128"]
    for days, dropped, left in (
        (0, 0, {short, long}),
        (2, 0, {short, long}),
        (3, 1, {long}),
        (9, 1, set[StoredFile]()),
    ):
        later = dated(tmp_path, noon + timedelta(days=days))
        assert later.prune() == dropped
        assert {file for file in (short, long) if (tmp_path / file.id).exists()} == left
    assert (tmp_path / "not ours").exists()


def test_a_folder_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/not-mounted", prefix="dq:", timeout_s=1)

    with pytest.raises(FileStoreUnavailable, match="make it, or mount it"):
        keep(store, pdf(100))

    assert not (tmp_path / "not-mounted").exists()


def test_a_folder_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "files").write_bytes(b"")
    store = open_store(f"file://{tmp_path}/files", prefix="dq:", timeout_s=1)

    with pytest.raises(FileStoreUnavailable):
        keep(store, pdf(100))


def test_fsspec_files_are_pruned_too() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    store = open_store(url, prefix="dq:", timeout_s=1)
    assert isinstance(store, DatedFiles)
    file = keep(store, pdf(100))
    late = DatedFiles("memory", store._open_tree, now=lambda: datetime.now(UTC) + timedelta(days=9))

    assert (store.prune(), late.prune()) == (0, 1)
    with pytest.raises(FileGone):
        read(store, file)


# The client


@pytest.fixture
def client(valkey: Server, state: State) -> Iterator[Client]:
    handle = Client(valkey.url, prefix=state.prefix)
    yield handle
    handle.close()


def project(*, files: int | None = MAX_FILE_BYTES, **more: Any) -> dict[str, Any]:
    return {"project": lane("robot.ops") | ({} if files is None else {"files": files}) | more}


def body(state: State, job_id: str) -> str:
    return str(state.redis.get(state.key(f"body:{job_id}")))


def shared(state: State, job_id: str) -> StoredFile:
    job = from_wire(body(state, job_id))
    assert isinstance(job, ShareJob)
    assert job.file is not None
    return job.file


def test_a_path_is_stored_and_only_its_reference_travels(
    client: Client, state: State, valkey: Server, tmp_path: Path
) -> None:
    state.pace(project(), {"robot.ops": sender()})
    path = tmp_path / "季度报表(终稿).pdf"
    path.write_bytes(pdf(2 * CHUNK_BYTES))

    job_id = client.share("project", path, note="For the board")

    assert len(body(state, job_id)) < 700
    file = shared(state, job_id)
    assert (file.store, file.name, file.size_bytes) == ("redis", "季度报表(终稿).pdf", 2 * CHUNK_BYTES)
    assert read(RedisFiles(valkey.url, prefix=state.prefix, timeout_s=2), file) == path.read_bytes()


def test_the_same_report_to_ten_groups_is_stored_once(client: Client, state: State) -> None:
    state.pace({f"g{n}": lane("robot.ops") for n in range(10)}, {"robot.ops": sender()})
    data = pdf(2 * CHUNK_BYTES)

    ids = [client.share(f"g{n}", data, name=f"report-{n}.pdf") for n in range(10)]

    assert len(chunk_keys(state)) == 2
    assert [shared(state, job_id).name for job_id in ids] == [f"report-{n}.pdf" for n in range(10)]


def test_the_file_outlives_its_job(client: Client, state: State) -> None:
    state.pace(project(expires_ms=7 * 86_400_000), {"robot.ops": sender()})
    at = datetime.now(UTC) + timedelta(days=3)

    for options, waits_s in (
        ({}, 7 * DAY_S), ({"expires_s": 60}, 60.0), ({"expires_s": 60, "at": at}, 3 * DAY_S), ({"at": at}, 10 * DAY_S),
    ):  # fmt: skip
        job_id = client.share("project", pdf(100), name="a.pdf", **options)
        [key] = [key for key in chunk_keys(state) if shared(state, job_id).id in key]
        assert waits_s < state.redis.pttl(key) / 1000 < waits_s + 1.1 * DAY_S


def test_a_webhook_robot_cannot_carry_a_file_and_nothing_is_stored(client: Client, state: State) -> None:
    state.pace(project(files=0), {"robot.ops": sender()})

    with pytest.raises(InvalidJob) as caught:
        client.share("project", PDF, name="a.pdf")

    assert caught.value.field == "destination"
    assert "share its URL, or give the destination an app" in caught.value.problem
    assert chunk_keys(state) == []
    assert client.share("project", "https://example.com/a.pdf")


def test_a_destinations_own_limit_is_kept_at_the_door(client: Client, state: State) -> None:
    state.pace(project(files=1_000), {"robot.ops": sender()})

    with pytest.raises(InvalidJob, match="at most 1,000"):
        client.share("project", pdf(1_001), name="a.pdf")


def test_the_fleets_setting_packs_what_dingtalk_refuses(client: Client, state: State) -> None:
    state.pace(project(zip=True), {"robot.ops": sender()})

    assert shared(state, client.share("project", b"a,b\n", name="a.csv")).name == "a.csv.zip"


def test_before_any_worker_has_started_files_are_taken(client: Client, state: State) -> None:
    assert shared(state, client.share("project", PDF, name="a.pdf")).store == "redis"


def test_a_fleet_that_says_nothing_of_files_gets_them(client: Client, state: State) -> None:
    state.pace(project(files=None), {"robot.ops": sender()})

    assert client.share("project", PDF, name="a.pdf")


def test_a_misspelt_destination_is_named_before_the_file_is_stored(client: Client, state: State) -> None:
    state.pace(project(), {"robot.ops": sender()})

    with pytest.raises(InvalidJob, match="did you mean 'project'"):
        client.share("projct", PDF, name="a.pdf")

    assert chunk_keys(state) == []


def test_a_key_makes_a_file_the_same_job(client: Client, state: State) -> None:
    state.pace(project(), {"robot.ops": sender()})

    assert len({client.share("project", PDF, name="a.pdf", key="q3") for _ in range(3)}) == 1
    assert state.store.counts()["accepted:share:project"] == 1


def test_an_event_loop_shares_files_too(client: Client, state: State) -> None:
    state.pace(project(), {"robot.ops": sender()})

    job_id = asyncio.run(client.ashare("project", PDF, name="a.pdf", zip=True))

    assert shared(state, job_id).name == "a.pdf"


def test_a_folder_is_named_by_the_environment(
    valkey: Server, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with space").mkdir()
    monkeypatch.setenv("DINGQUEUE_FILES_URL", f"file://{tmp_path}/with%20space")
    handle = Client(valkey.url, prefix=state.prefix)

    file = shared(state, handle.share("project", PDF, name="a.pdf"))

    handle.close()
    assert file.store == "folder"
    assert (tmp_path / "with space" / file.id).read_bytes() == PDF
    assert chunk_keys(state) == []


def test_a_files_url_may_stand_in_a_mounted_secret(valkey: Server, state: State, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"file://{tmp_path}\n")
    handle = Client(valkey.url, prefix=state.prefix, files_url=f"file://{tmp_path}/url")

    assert shared(state, handle.share("project", PDF, name="a.pdf")).store == "folder"
    handle.close()


def test_a_wrong_files_url_is_refused_at_once_and_not_shown() -> None:
    with pytest.raises(ValueError, match="files_url: expected redis") as caught:
        Client("redis://127.0.0.1:1/0", files_url="nosuch://planted")

    assert "planted" not in str(caught.value)


def test_an_application_with_the_acl_of_ops_can_share(tmp_path: Path) -> None:
    template = (Path(__file__).parents[2] / "ops" / "redis.acl.template").read_text()
    rules = template.split("user producer on #PRODUCER ", 1)[1].split("\nuser ", 1)[0].replace("PREFIX", "dq:{dq}:")
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf(2 * CHUNK_BYTES))
    with Server(durable=False) as server:
        admin = redis.Redis.from_url(server.url, decode_responses=True)
        admin.execute_command("ACL", "SETUSER", "producer", "on", ">secret", *rules.split())  # type: ignore[no-untyped-call]  # redis-py's
        with Client(server.url.replace("redis://", "redis://producer:secret@")) as client:
            client.share("project", path)
            client.share("project", path)

        assert admin.acl_log() == []
        admin.close()


def test_a_file_store_that_is_away_fails_within_its_bound(valkey: Server, state: State) -> None:
    handle = Client(valkey.url, prefix=state.prefix, files_url=f"redis://127.0.0.1:{free_port()}/0")

    with pytest.raises(EnqueueFailed, match="file store"):
        handle.share("project", PDF, name="a.pdf")

    handle.close()
    assert not list(state.redis.scan_iter(match=f"{state.prefix}*body:*"))


_PEAK = """
import sys
from pathlib import Path
from dingqueue import Client
url, prefix, how, path = sys.argv[1:]
client = Client(url, prefix=prefix)
client.share("project", b"%PDF-", name="warm.pdf")
data = Path(path).read_bytes() if how == "bytes" else None
def peak_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = peak_kib()
client.share("project", Path(path) if data is None else data, name="a.pdf")
print(peak_kib() - before)
"""


@pytest.mark.parametrize("how", ["path", "bytes"])
def test_memory_stays_flat_while_the_largest_file_is_stored(
    valkey: Server, state: State, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "large.pdf"
    path.write_bytes(pdf(MAX_FILE_BYTES))

    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _PEAK, valkey.url, state.prefix, how, str(path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert int(done.stdout) < 6_000  # KiB; the file has 20,480
    for key in chunk_keys(state):
        state.redis.delete(key)


def test_a_thin_producer_needs_no_library_for_files(tmp_path: Path) -> None:
    code = "import sys; sys.modules['filetype'] = sys.modules['fsspec'] = None; import dingqueue.client, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own interpreter

    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"requests", "requests_toolbelt", "dingqueue_worker"}


# The command


def command(url: str, prefix: str, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "dingqueue_worker", "share", *words],
        env={**os.environ, "DINGQUEUE_BROKER_URL": url, "DINGQUEUE_PREFIX": prefix},
        input=stdin, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_shares_paths_and_stdin(state: State, valkey: Server, tmp_path: Path) -> None:
    state.pace(project(), {"robot.ops": sender()})
    path = tmp_path / "季度 报表.pdf"
    path.write_bytes(PDF)

    by_path = command(valkey.url, state.prefix, "project", str(path))
    by_stdin = command(valkey.url, state.prefix, "project", "-", "--name", "rows.csv", "--zip", stdin=b"a,b\n")

    assert shared(state, by_path.stdout.decode().strip()).name == "季度 报表.pdf", by_path.stderr
    assert shared(state, by_stdin.stdout.decode().strip()).name == "rows.csv.zip", by_stdin.stderr


def test_the_command_says_what_is_wrong_with_a_file(state: State, valkey: Server) -> None:
    state.pace(project(), {"robot.ops": sender()})

    nameless = command(valkey.url, state.prefix, "project", "-", stdin=PDF)
    missing = command(valkey.url, state.prefix, "project", "./nowhere.pdf")
    refused = command(valkey.url, state.prefix, "project", "-", "--name", "a.csv", stdin=b"a,b\n")

    assert (nameless.returncode, missing.returncode, refused.returncode) == (5, 5, 5)
    assert "give name='report.pdf'" in nameless.stderr.decode()
    assert "'nowhere.pdf' cannot be read: No such file or directory" in missing.stderr.decode()
    assert "takes no .csv" in refused.stderr.decode()


def test_a_dry_run_stores_nothing(state: State, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(PDF)

    done = command(f"redis://127.0.0.1:{free_port()}/0", state.prefix, "project", str(path), "--dry-run")

    assert done.returncode == 0, done.stderr
    assert "report.pdf (pdf)" in done.stdout.decode()
