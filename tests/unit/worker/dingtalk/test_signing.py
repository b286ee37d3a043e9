"""Signatures against vectors computed elsewhere, and the query that carries them."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from dingqueue_worker.dingtalk.signing import robot_query, sign

VECTORS = [
    (1577262236757, "this is secret", "hmPWwU+7lVdm3ZZz0r9tSfx0L4Q26jWOZr9+Gs6EZQM=",
     "hmPWwU%2B7lVdm3ZZz0r9tSfx0L4Q26jWOZr9%2BGs6EZQM%3D"),
    (1577262236757, "this is a secret", "DJrE6qdyVGCQz9z5r2MDuNcNAhwYnuAkyj13cx169CA=",
     "DJrE6qdyVGCQz9z5r2MDuNcNAhwYnuAkyj13cx169CA%3D"),
    (1700000000000, "SEC000000000000000000000000000000000000000000000000000000000abc0011",
     "K8Gn/IQo9qUyQ2pGE+bYCStE5kWeay2KD+qhCLAlPDs=", "K8Gn%2FIQo9qUyQ2pGE%2BbYCStE5kWeay2KD%2BqhCLAlPDs%3D"),
    (1700000000000, "SECdemo-密钥-only-for-tests", "A1TNLcjGZgqUBzWN1ZY8Hwg6LGmeP2kXJnKWSmeEFow=",
     "A1TNLcjGZgqUBzWN1ZY8Hwg6LGmeP2kXJnKWSmeEFow%3D"),
    # Case B25: every character that must be encoded.
    (1767225601279, "SECdemo0000000000000000000000000000000000000000000000000000000000",
     "+ae+VKCU71dBBlblk/7JX/2ELBytDXqiV3WeS74f2ec=",
     "%2Bae%2BVKCU71dBBlblk%2F7JX%2F2ELBytDXqiV3WeS74f2ec%3D"),
]  # fmt: skip


@pytest.mark.parametrize(("timestamp_ms", "secret", "plain", "encoded"), VECTORS)
def test_a_signature_is_the_one_that_dingtalk_computes(
    timestamp_ms: int, secret: str, plain: str, encoded: str
) -> None:
    assert sign(secret, timestamp_ms) == plain
    assert robot_query("T1", secret, timestamp_ms) == f"access_token=T1&timestamp={timestamp_ms}&sign={encoded}"
    assert parse_qs(robot_query("T1", secret, timestamp_ms), strict_parsing=True)["sign"] == [plain]


@pytest.mark.parametrize(
    "wrong",
    [
        "wYPTWs4B9p4Pnmp433gyWQov/LFrgNCvPc7nVR6tx8o=",  # the time in seconds
        "JMYVLpfEENFJYT63SkswcUalxgomMbip2hcQoKdzQtA=",  # a backslash and an n
        "nHh3Cp6duMZBlaspftrhkkDSIlJ0Lkj6vL71ujaX6pE=",  # another product's way
    ],
)
def test_the_usual_mistakes_are_not_made(wrong: str) -> None:
    assert sign("this is secret", 1577262236757) != wrong


def test_a_robot_that_does_not_sign_sends_its_token_only() -> None:
    assert robot_query("T1", None, 1577262236757) == "access_token=T1"


def test_a_token_with_strange_characters_arrives_as_it_is() -> None:
    assert parse_qs(robot_query("a&b=c+d 1", None, 0)) == {"access_token": ["a&b=c+d 1"]}


def test_the_query_does_not_grow_with_the_hours() -> None:
    """Case B27: one send an hour for 200 hours."""
    hours = [robot_query("T1", "SECx", 1_767_225_601_279 + hour * 3_600_000) for hour in range(200)]

    fields = [parse_qs(query, strict_parsing=True) for query in hours]
    assert all(field.keys() == {"access_token", "timestamp", "sign"} for field in fields)
    assert all(len(values) == 1 for field in fields for values in field.values())
    assert {len(field["sign"][0]) for field in fields} == {44}
    assert len({field["sign"][0] for field in fields}) == 200
