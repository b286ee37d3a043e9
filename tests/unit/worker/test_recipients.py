"""How far a message to many has come: nobody is forgotten, nobody is asked twice for nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dingqueue_worker.delivery.recipients import MAX_ROUNDS, Progress, progress_of

EVERYBODY = tuple(f"p{at}" for at in range(1, 46))


def test_at_its_beginning_everybody_is_left() -> None:
    assert progress_of({}, EVERYBODY) == Progress(left=EVERYBODY)


def test_the_notes_give_the_progress_back() -> None:
    progress = Progress(part=1, left=("p1",), again=("p2",), lost={"p3": "gone"}, rounds=2)

    assert progress_of(progress.to_notes(), EVERYBODY) == progress


def test_who_was_taken_out_of_the_configuration_gets_nothing_more() -> None:
    progress = Progress(left=("p1", "p2"), again=("p3",))

    assert progress_of(progress.to_notes(), ("p2",)).left == ("p2",)


def test_the_calls_left_count_parts_and_twenties() -> None:
    progress = Progress(left=EVERYBODY)

    assert progress.calls_left(2, everybody=45, per_call=20) == 6
    after = progress.sent(EVERYBODY[:20], everybody=EVERYBODY, lost={"p1": "x"}, throttled=["p2"])
    assert after.calls_left(2, everybody=45, per_call=20) == 2 + 1 + 3


def test_many_who_were_missed_are_named_in_part() -> None:
    progress = Progress(left=(), lost={f"p{at}": "gone" for at in range(13)})

    assert progress.why().endswith("p9 (gone) and 3 more")
    assert progress.why().count("(gone)") == 10


@given(
    st.integers(1, 60),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_whatever_dingtalk_answers_everybody_is_reached_or_named_and_it_ends(
    people: int, parts: int, chance: object
) -> None:
    everybody = tuple(f"p{at}" for at in range(people))
    rng = chance
    progress, calls = Progress(left=everybody), 0
    got: dict[int, set[str]] = {part: set() for part in range(parts)}
    while progress.part < parts and progress.left:
        chunk = progress.left[:20]
        throttled = [one for one in chunk if rng.random() < 0.3]  # type: ignore[attr-defined]  # a Random
        lost = {one: "gone" for one in chunk if one not in throttled and rng.random() < 0.1}  # type: ignore[attr-defined]  # a Random
        for one in chunk:
            if one not in throttled and one not in lost:
                assert one not in got[progress.part], "sent twice"
                got[progress.part].add(one)
        progress = progress.sent(chunk, everybody=everybody, lost=lost, throttled=throttled)
        calls += 1
        assert calls <= parts * (MAX_ROUNDS + 1) * 4

    for sent in got.values():
        assert sent | set(progress.lost) == set(everybody)
