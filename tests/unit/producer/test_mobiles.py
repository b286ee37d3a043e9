"""Mobile numbers in the one spelling that rings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingqueue.messages import documented_mobile, looks_like_mobile


@pytest.mark.parametrize(
    ("written", "documented"),
    [
        ("13800000000", "13800000000"),
        (" 13800000000 ", "13800000000"),
        ("138 0000 0000", "13800000000"),
        ("138-0000-0000", "13800000000"),
        ("１３８００００００００", "13800000000"),
        ("+8613800000000", "13800000000"),
        ("+86-13800000000", "13800000000"),
        ("+86 138 0000 0000", "13800000000"),
        ("+852-91234567", "+852-91234567"),
        ("+85291234567", "+852-91234567"),
        ("+852 9123 4567", "+852-91234567"),
        ("+1 (212) 555-0100", "+1-2125550100"),
        ("+7-9161234567", "+7-9161234567"),
        ("+44 7911 123456", "+44-7911123456"),
        ("+886912345678", "+886-912345678"),
        ("+35312345678", "+353-12345678"),
    ],
)
def test_numbers_that_can_only_be_read_one_way(written: str, documented: str) -> None:
    assert looks_like_mobile(written)
    assert documented_mobile(written) == documented
    assert documented_mobile(documented) == documented


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("91234567", r"write \+<country>-<number>, like \+852-91234567; for a user id write user:91234567"),
        ("12800000000", "no mainland mobile"),
        ("138000000001", "no mainland mobile"),
        ("8613800000000", "no mainland mobile"),
        ("+86-12345678", "write its 11 digits"),
        ("+852", "too short"),
        ("+852-123", "too short"),
        ("+0-12345678", "no country code that exists"),
        ("+8529123456789012", "too many digits"),
        ("+", "no mobile number"),
        ("", "no mobile number"),
        ("alice", "no mobile number"),
        ("13800000000x", "no mobile number"),
        ("+852+91234567", "no mobile number"),
    ],
)
def test_numbers_that_are_none_or_could_be_several(written: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        documented_mobile(written)


@pytest.mark.parametrize("text", ["alice", "user:1", "1a", "", "+", "@13800000000", "everyone", "1.3"])
def test_names_do_not_look_like_numbers(text: str) -> None:
    assert not looks_like_mobile(text)


@given(st.text("0123456789+- ()", max_size=20))
def test_what_comes_out_is_documented_and_stays(text: str) -> None:
    try:
        documented = documented_mobile(text)
    except ValueError:
        return
    assert looks_like_mobile(text)
    assert documented_mobile(documented) == documented
    assert [*filter(str.isdigit, documented)] == [*filter(str.isdigit, text)][-sum(map(str.isdigit, documented)) :]
