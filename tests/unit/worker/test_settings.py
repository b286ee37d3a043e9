"""A secret shows itself only when asked."""

from __future__ import annotations

import logging

import pytest

from dingqueue_worker.settings import Secret, Settings


def test_a_secret_is_hidden_however_it_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret("planted")
    logging.getLogger("test").warning("%s %r", secret, {"secret": secret})

    shown = (str(secret), repr(secret), f"{secret}", f"{secret!r}", "%s" % secret, caplog.text)  # noqa: UP031 - the old way leaks too, if anything does

    assert "planted" not in "".join(shown)
    assert secret.reveal() == "planted"


def test_secrets_compare_by_value_and_stay_hidden_in_what_holds_them() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert "pass" not in repr(Settings(broker_url="redis://:pass@h/0", state_url="redis://:pass@h/0"))
