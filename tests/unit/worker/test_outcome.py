"""Outcomes are values: frozen, comparable, and counted honestly."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from dingqueue_worker.outcome import Accepted, Close, Dead, Delivered, Ended, Outcome, Retry, Snooze, Unknown

EVERY: list[Outcome] = [
    Delivered(), Accepted(), Snooze(why="w", cause="c"), Retry(why="w", cause="c"), Unknown(why="w", cause="c"), Dead(why="w", cause="c"),
]  # fmt: skip


@pytest.mark.parametrize("outcome", EVERY, ids=lambda outcome: type(outcome).__name__)
def test_an_outcome_does_not_change(outcome: Outcome) -> None:
    name = fields(outcome)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(outcome, name, "other")


@pytest.mark.parametrize("outcome", EVERY, ids=lambda outcome: type(outcome).__name__)
def test_any_outcome_may_close_a_sender_and_does_not_unless_told(outcome: Outcome) -> None:
    assert outcome.close is None


def test_an_attempt_counts_as_sent_unless_proven_otherwise() -> None:
    """A permit that goes back by mistake is a 21st message."""
    assert Snooze(why="", cause="").sent
    assert Retry(why="", cause="").sent
    assert Dead(why="", cause="").sent
    assert not hasattr(Unknown(why="", cause=""), "sent")


def test_receipts_and_notes_that_nobody_gave_cannot_be_written_to() -> None:
    for empty in (Delivered().receipt, Accepted().receipt, Ended(outcome=Delivered()).notes):
        with pytest.raises(TypeError):
            empty["x"] = "y"  # type: ignore[index]  # that it is refused is the test


def test_a_close_means_the_attempts_own_sender_and_the_causes_own_time() -> None:
    close = Close(cause="cooldown", why="too fast")

    assert (close.sender, close.for_s) == (None, None)
