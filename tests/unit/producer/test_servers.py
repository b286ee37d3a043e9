"""What is said when the Sentinels name no primary: whose fault it is, and what to change."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from dingqueue.connections import Sentinels
from dingqueue.servers import NoPrimary, refusal, servers

NAME = "mymaster"


class Said:
    """A Sentinel that says always the same."""

    def __init__(self, said: dict[str, dict[str, Any]] | Exception) -> None:
        self._said = said

    def sentinel_masters(self) -> dict[str, dict[str, Any]]:
        if isinstance(self._said, Exception):
            raise self._said
        return self._said


def primary(*, port: int = 6379, down: bool = False) -> dict[str, Any]:
    return {
        "ip": "10.0.0.1", "port": port, "is_master": True, "is_sdown": down, "is_odown": down, "num-other-sentinels": 2,
    }  # fmt: skip


def after(cause: BaseException, error: Exception) -> Exception:
    """As redis-py raises it while it handles another."""
    error.__context__ = cause
    return error


def asked(*said: dict[str, dict[str, Any]] | Exception, tls: bool = False) -> Sentinels:
    manager = Sentinels([], sentinel_kwargs={"ssl": tls})
    manager.sentinels = [Said(one) for one in said]
    return manager


NOBODY = after(ConnectionRefusedError(111, "Connection refused"), redis.ConnectionError("Error 111 connecting to h"))
RESET = after(ConnectionResetError(104, "Connection reset by peer"), redis.ConnectionError("Error while reading"))
WRONG_PASSWORD = redis.AuthenticationError("WRONGPASS invalid username-password pair planted")
NOT_ALLOWED = NoPermissionError("User app has no permissions to run the 'sentinel|masters' command")
NO_SENTINEL = redis.ResponseError("unknown command 'SENTINEL', with args beginning with: 'planted'")


def stranger() -> Exception:
    cause = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    cause.verify_message = "IP address mismatch, certificate is not valid for '10.0.0.1'."
    return after(cause, redis.ConnectionError("Error 1 connecting to h"))


CASES: list[tuple[list[dict[str, dict[str, Any]] | Exception], bool, str, bool]] = [
    ([{"other": primary(), "another": primary()}], False, "was not found: its Sentinels know no mymaster, they know only another, other; the name stands after the hosts", True),
    ([{}], False, "its Sentinels know no mymaster, they watch no server yet (SENTINEL MONITOR)", True),
    ([NOBODY, {"other": primary()}], False, "they know only other", True),
    ([{NAME: primary(down=True)}], False, "has no primary now, say its Sentinels: try again in a moment", True),
    ([NOBODY, {"other": primary()}, {NAME: primary(down=True)}], False, "has no primary now", True),
    ([WRONG_PASSWORD], False, "its Sentinels refused the user or password; theirs go after the ?, as sentinel_username=…&sentinel_password=…, and those before the @ are the servers'", True),
    ([NOBODY, WRONG_PASSWORD], False, "its Sentinels refused the user or password", True),
    ([NOT_ALLOWED], False, "its Sentinels' user may not ask them; ops/REDIS.md", True),
    ([NO_SENTINEL], False, "the hosts are no Sentinels; name those", True),
    ([redis.ResponseError("BUSY with something")], False, "its Sentinels refused (BUSY with something)", True),
    ([NOBODY, RESET], False, "none of its Sentinels could be reached (connection refused)", False),
    ([RESET], False, "(connection reset by peer; with TLS they are sentinels://)", False),
    ([redis.ConnectionError("Connection closed by server.")], False, "with TLS they are sentinels://", False),
    ([RESET], True, "(connection reset by peer)", False),
    ([redis.TimeoutError("Timeout connecting")], True, "(no answer in time; without TLS they are sentinel://)", False),
    ([redis.TimeoutError("Timeout connecting")], False, "(no answer in time)", False),
    ([stranger()], True, "(TLS failed (IP address mismatch, certificate is not valid for '10.0.0.1'))", False),
]  # fmt: skip


@pytest.mark.parametrize(("said", "tls", "why", "answered"), CASES)
def test_where_no_primary_is_named_it_is_said_why_and_what_to_change(
    said: Sequence[dict[str, dict[str, Any]] | Exception], tls: bool, why: str, answered: bool
) -> None:
    with pytest.raises(NoPrimary) as told:
        asked(*said, tls=tls).discover_master(NAME)

    meant = refusal(told.value)
    assert why in meant.said
    assert meant.answered is answered
    assert str(told.value) == f"Redis {meant.said}"
    assert "planted" not in str(told.value)


def test_an_application_hears_where_the_sentinels_are_and_no_password() -> None:
    at = servers("sentinel://:planted@a,b/mymastr?sentinel_password=planted")

    with pytest.raises(NoPrimary) as told:
        asked({NAME: primary()}).discover_master("mymastr")
    said = at.failed(refusal(told.value))

    assert said == (
        "Redis at mymastr by a:26379, b:26379 was not found: its Sentinels know no mymastr, they know only mymaster; "
        "the name stands after the hosts, sentinel://host:26379/name/0"
    )


@pytest.mark.parametrize("error", [NOBODY, WRONG_PASSWORD, NOT_ALLOWED, NO_SENTINEL, redis.TimeoutError("late")])
def test_a_sentinel_that_is_of_no_use_keeps_nobody_from_asking_the_next(error: Exception) -> None:
    manager = asked(error, {"other": primary()}, {NAME: primary(down=True)}, {NAME: primary(port=7000)})
    last = manager.sentinels[-1]

    found = manager.discover_master(NAME)

    assert found == ("10.0.0.1", 7000)
    assert manager.sentinels[0] is last, "who asks next does not wait for the others"
    assert len(manager.sentinels) == 4


def test_an_unknown_command_is_named_without_its_arguments() -> None:
    said = refusal(redis.ResponseError("unknown command 'EVALSHA', with args beginning with: 'planted' "))

    assert said.said == (
        "refused (unknown command 'EVALSHA'): it has no such command; "
        "if it is a Sentinel, its address is sentinel://host:26379/name/0"
    )


@pytest.mark.parametrize(
    ("said", "for_good"),
    [("unknown command 'EXEC'", True), ("Only HELLO messages are accepted by Sentinel instances.", True),
     ("OOM command not allowed", False), ("WRONGTYPE Operation against a key", False), ("BUSY", False)],
)  # fmt: skip
def test_only_what_no_waiting_mends_is_for_good(said: str, for_good: bool) -> None:
    why = refusal(redis.ResponseError(said))

    assert why.for_good is for_good
    assert ("sentinel://host:26379/name/0" in why.said) is for_good


@pytest.mark.parametrize("error", [redis.ResponseError, NoPermissionError])
@pytest.mark.parametrize("script", ["", "5e" * 20 + ", "])
def test_of_a_refusal_in_a_script_the_script_is_cut_off_and_nothing_else(error: type[Exception], script: str) -> None:
    where = f"script: {script}on @user_script:7."

    said = refusal(error(f"ACL failure in script: User app has no permissions to run the 'hset' command {where}"))

    assert said.said.startswith(
        "refused (ACL failure in script: User app has no permissions to run the 'hset' command): its user may not do that;"
    )
    assert refusal(redis.ResponseError(f"boom {where}")).said == "refused: boom"


def test_the_page_about_redis_has_the_words_that_are_said() -> None:
    said = [str(refusal(redis.ResponseError("unknown command 'EVALSHA'")))]
    for answers, tls, *_ in CASES:
        with pytest.raises(NoPrimary) as told:
            asked(*answers, tls=tls).discover_master(NAME)
        said.append(str(told.value))
    page = (Path(__file__).parents[3] / "ops" / "REDIS.md").read_text()
    (table,) = re.findall(r"\| the error has \|.*\n\|---\|---\|\n((?:\|.*\n)+)", page)

    for row in table.splitlines():
        words = row.split("|")[1].strip().partition("…")[0]
        assert any(words in one for one in said), words
