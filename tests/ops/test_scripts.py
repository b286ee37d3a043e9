"""Shell scripts in ops/, and the secrets that one of them writes."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from support.ops import OPS, make_secrets, run

SCRIPTS = [file for file in OPS.rglob("*") if file.is_file() and file.read_bytes().startswith(b"#!/bin/sh")]


def test_shellcheck_finds_nothing() -> None:
    assert SCRIPTS
    run("shellcheck", *SCRIPTS)


def test_each_user_gets_a_password_of_its_own(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")

    urls = {user: urlsplit((folder / f"redis_{user}").read_text().strip()) for user in USERS}

    assert len({url.password for url in urls.values()}) == len(USERS)
    assert all(url.username == user and len(url.password or "") == 48 for user, url in urls.items())
    assert urls["worker"].hostname == "redis"
    assert urls["producer"].hostname == "127.0.0.1"


def test_no_password_stands_in_the_acl_file(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")

    acl = (folder / "redis.acl").read_text()

    for user in USERS:
        password = urlsplit((folder / f"redis_{user}").read_text().strip()).password
        assert password
        assert password not in acl
    assert "#" + "ADMIN" not in acl
    assert all(line.startswith("user ") for line in acl.splitlines())


def test_what_is_there_stays_and_what_was_removed_is_new(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")
    before = {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}
    (folder / "redis_beat").unlink()

    make_secrets(folder)

    after = {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}
    assert {name for name in after if after[name] != before[name]} == {"redis_beat", "redis.acl"}


def test_the_folder_keeps_others_out(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # The containers' users are others: a file's own mode must let them in.
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o444 for file in folder.iterdir() if file.is_file())


def test_a_person_on_a_host_has_what_the_workers_unit_has(tmp_path: Path) -> None:
    (tmp_path / "secrets/dingtalk").mkdir(parents=True)
    (tmp_path / "secrets/redis_worker").write_text("redis://worker:PLANTED@127.0.0.1:1/0\n")
    (tmp_path / "secrets/dingtalk/ops_token").write_text("0123456789abcdef" * 4)
    (tmp_path / "environment").write_text('# no more\nDINGQUEUE_PREFIX=crm:\nWORDS="two words"\n')
    (tmp_path / "dingqueue.toml").write_text(
        '[robots.ops]\ntoken = "file:${CREDENTIALS_DIRECTORY}/dingtalk_ops_token"\n[destinations.ops]\nrobots = ["ops"]\n'
    )
    program = str(Path(sys.executable).parent / "dingqueue")
    left = {**os.environ, "DINGQUEUE_ETC": str(tmp_path), "DINGQUEUE_PROGRAM": program, "TMPDIR": str(tmp_path)}
    for name in ("DINGQUEUE_BROKER_URL", "DINGQUEUE_CONFIG", "DINGQUEUE_OAPI_URL"):
        left.pop(name, None)

    said = subprocess.run(  # noqa: S603  # our own
        ["/bin/sh", str(OPS / "dingqueue"), "doctor", "--timeout", "1"],
        env=left, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert f"OK    configuration: {tmp_path}/dingqueue.toml: 1 robot, 1 destination" in said.stdout, said
    assert said.returncode == 4, "Redis is not there"
    assert "PLANTED" not in said.stdout + said.stderr
    assert not list(tmp_path.glob("tmp.*")), "the folder of links is gone"


def test_a_person_who_may_not_read_the_secrets_is_told_what_to_type(tmp_path: Path) -> None:
    said = subprocess.run(  # noqa: S603  # our own
        ["/bin/sh", str(OPS / "dingqueue"), "doctor"],
        env={**os.environ, "DINGQUEUE_ETC": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert said.returncode == 2
    assert "sudo dingqueue doctor" in said.stderr


USERS = ["admin", "worker", "beat", "producer", "flower", "metrics"]


def test_producers_may_touch_every_key_that_their_scripts_touch() -> None:
    template = (OPS / "redis.acl.template").read_text()
    line = " ".join(template.split("user producer ")[1].split("\nuser ")[0].split())
    allowed = set(re.findall(r"~PREFIX([a-z_]+:?)", line))
    scripts = "\n".join(file.read_text() for file in (OPS.parent / "producer/dingqueue").glob("*.lua"))

    touched = set(re.findall(r"base \.\. '([a-z_]+:?)", scripts))

    # Only the fleet's scripts let a job die or give a sign of life, though the lines stand in the shared file.
    assert touched - {"dead", "alive"} <= allowed
