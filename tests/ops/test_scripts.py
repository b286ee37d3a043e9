"""Shell scripts in ops/, and the secrets that one of them writes."""

from __future__ import annotations

import re
import stat
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


USERS = ["admin", "worker", "beat", "producer", "flower", "metrics"]


def test_producers_may_touch_every_key_that_their_scripts_touch() -> None:
    template = (OPS / "redis.acl.template").read_text()
    line = " ".join(template.split("user producer ")[1].split("\nuser ")[0].split())
    allowed = set(re.findall(r"~PREFIX([a-z_]+:?)", line))
    scripts = "\n".join(file.read_text() for file in (OPS.parent / "producer/dingqueue").glob("*.lua"))

    touched = set(re.findall(r"base \.\. '([a-z_]+:?)", scripts))

    # Only the fleet's scripts let a job die or give a sign of life, though the lines stand in the shared file.
    assert touched - {"dead", "alive"} <= allowed
