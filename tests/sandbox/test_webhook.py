"""``POST /robot/send`` against the rules that DingTalk enforces, over real HTTP."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest
import requests

from dingqueue_worker.sandbox.client import Space
from support.sandbox import answer, markdown, post, send, signed, text

LINK = {"title": "t", "text": "x", "messageUrl": "https://example.com"}
CARD = {"title": "t", "text": "x", "singleTitle": "Open", "singleURL": "https://example.com"}
BUTTONS = {"title": "t", "text": "x", "btns": [{"title": "Yes", "actionURL": "https://example.com"}]}
FEED = {"links": [{"title": "t", "messageURL": "https://example.com", "picURL": "https://example.com/a.png"}]}


def of(msgtype: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"msgtype": msgtype, msgtype: content, **more}


def without(content: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != field}


@pytest.mark.parametrize(
    "body",
    [
        text(),
        markdown("# x"),
        of("link", LINK),
        of("actionCard", CARD),
        of("actionCard", BUTTONS),
        of("feedCard", FEED),
    ],
    ids=["text", "markdown", "link", "card", "card with buttons", "feed"],
)
def test_every_documented_type_is_taken(space: Space, body: dict[str, Any]) -> None:
    assert send(space, space.robot(name="ops"), body) == 0

    (message,) = space.messages(count=1)
    assert (message.kind, message.body, message.robot, message.state) == (body["msgtype"], body, "ops", "accepted")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, 40035),
        ({"msgtype": 1}, 40035),
        ([], 40035),
        (of("image", {"picURL": "https://example.com/a.png"}), 400105),
        (of("file", {"mediaId": "@x"}), 400105),
        ({"msgtype": "empty"}, 400105),
        ({"msgtype": "text"}, 400201),
        (of("text", "hello"), 400201),
        (text(""), 400201),
        (text(" \n "), 400201),
        (of("text", {"content": 5}), 400201),
        (of("markdown", None), 400401),
        (markdown("x", title=""), 400402),
        (markdown("x", title="   "), 400402),
        (of("markdown", {"text": "x"}), 400402),
        (markdown(""), 400403),
        (of("link", without(LINK, "title")), 400302),
        (of("link", without(LINK, "text")), 400303),
        (of("link", without(LINK, "messageUrl") | {"messageURL": "https://example.com"}), 400304),
        (of("link", LINK | {"picUrl": 1}), 400305),
        (of("actionCard", without(CARD, "title")), 400502),
        (of("actionCard", without(CARD, "singleURL")), 400504),
        (of("actionCard", without(BUTTONS, "btns")), 400504),
        (of("actionCard", BUTTONS | {"btns": []}), 400504),
        (of("actionCard", BUTTONS | {"btns": [{"title": "Yes"}]}), 400504),
        (of("actionCard", BUTTONS | {"btnOrientation": 1}), 400505),
        (of("feedCard", {}), 400602),
        (of("feedCard", {"links": []}), 400602),
        (of("feedCard", {"links": [without(FEED["links"][0], "picURL")]}), 400603),
        (text(at=[]), 40035),
        (text(at={"atMobiles": "13800000000"}), 40035),
        (text(at={"atUserIds": [7]}), 40035),
        (text(at={"isAtAll": "true"}), 40035),
        (text(at={"atMobiles": [f"138{number:08}" for number in range(51)]}), 40035),
        (text(msgUuid=""), 40035),
        (text(msgUuid=5), 40035),
    ],
)
def test_a_malformed_message_is_refused_with_its_code(space: Space, body: Any, errcode: int) -> None:
    robot = space.robot()

    assert send(space, robot, body) == errcode

    (message,) = space.messages(count=1, state="refused")
    assert message.reason
    assert space.messages() == []


@pytest.mark.parametrize(
    ("data", "headers", "errcode"),
    [
        (b"", {"Content-Type": "application/json"}, 40035),
        (b"{", {"Content-Type": "application/json"}, 40035),
        (b'{"msgtype": NaN}', {"Content-Type": "application/json"}, 40035),
        ('{"msgtype":"text","text":{"content":"é"}}'.encode("latin-1"), {"Content-Type": "application/json"}, 40035),
        (b'{"msgtype":"text","text":{"content":"\\ud83d"}}', {"Content-Type": "application/json"}, 40035),
        (b"[" * 10_000, {"Content-Type": "application/json"}, 40035),
        (b'{"msgtype":"text","text":{"content":"x"}}', {"Content-Type": "text/plain"}, 43004),
        (b'{"msgtype":"text","text":{"content":"x"}}', {}, 43004),
        (b"msgtype=text", {"Content-Type": "application/x-www-form-urlencoded"}, 43004),
        (b'{"msgtype":"text","text":{"content":"x"}}', {"Content-Type": "application/json; charset=gbk"}, 43004),
    ],
)
def test_a_body_that_is_no_json_is_refused(space: Space, data: bytes, headers: dict[str, str], errcode: int) -> None:
    assert answer(post(space, space.robot(), data=data, headers=headers))[0] == errcode


def test_the_size_counts_bytes_as_sent(space: Space) -> None:
    robot = space.robot()
    room = 20_000 - len(json.dumps(text(""), ensure_ascii=False).encode())
    headers = {"Content-Type": "application/json; charset=utf-8"}
    fits = json.dumps(text("x" * room)).encode()
    chinese = json.dumps(text("监" * (room // 3 + 1)), ensure_ascii=False).encode()

    assert len(fits) == 20_000
    assert answer(post(space, robot, data=fits, headers=headers))[0] == 0
    assert answer(post(space, robot, data=fits + b" ", headers=headers))[0] == 460101
    assert answer(post(space, robot, data=chinese, headers=headers))[0] == 460101


def test_emoji_arrive_whole(space: Space) -> None:
    words = "😱 ① ㎡ 𠮷 👨‍👩‍👧 🇨🇳"

    send(space, space.robot(), text(words))

    assert space.messages(count=1)[0].text == words


def test_the_token_must_be_known_and_there(space: Space) -> None:
    assert answer(post(space, "nobody")) == (300005, "token is not exist")
    assert answer(post(space, "")) == (40035, "missing parameter: access_token")
    assert answer(requests.get(f"{space.oapi_url}/robot/send", timeout=10))[0] == 43002
    space.rules(no_robot_errcode=300001)
    assert answer(post(space, "nobody"))[0] == 300001


@pytest.mark.parametrize(("state", "errcode"), [("disabled", 400102), ("removed", 400106), ("group gone", 400013)])
def test_a_robot_that_was_taken_away_says_so(space: Space, state: str, errcode: int) -> None:
    robot = space.robot("one-token", name="ops")
    assert send(space, robot) == 0

    space.robot("one-token", name="ops", state=state)

    assert send(space, robot) == errcode


class TestSignature:
    SECRET = "SECdemo0000000000000000000000000000000000000000000000000000000000"  # nobody's

    def test_a_fresh_one_is_taken(self, space: Space) -> None:
        assert send(space, space.robot(secret=self.SECRET)) == 0

    def test_one_with_plus_and_slash_is_taken_when_encoded_once(self, space: Space) -> None:
        space.set_clock(1_767_225_601_279)
        robot = space.robot(secret=self.SECRET)
        query = signed(self.SECRET, 1_767_225_601_279)
        assert query["sign"] == "+ae+VKCU71dBBlblk/7JX/2ELBytDXqiV3WeS74f2ec="

        assert send(space, robot, query=query) == 0

    @pytest.mark.parametrize(
        ("query", "words", "reason"),
        [
            ({}, "invalid timestamp", "no timestamp"),
            ({"timestamp": "1700000000000"}, "sign not match", "no sign"),
            ({"timestamp": "soon", "sign": "x"}, "invalid timestamp", "not a number"),
            ({"timestamp": "1700000000000", "sign": "wrong"}, "sign not match", "does not fit"),
            (signed("another", 1_700_000_000_000), "sign not match", "does not fit"),
            (signed(SECRET, 1_700_000_000_000 - 3_600_001), "invalid timestamp", "minutes old"),
            (signed(SECRET, 1_700_000_000_000 + 3_600_001), "invalid timestamp", "ahead"),
            (signed(SECRET, 1_700_000_000), "invalid timestamp", "seconds"),
        ],
    )
    def test_a_wrong_one_is_refused_in_dingtalks_words(
        self, space: Space, query: dict[str, str], words: str, reason: str
    ) -> None:
        space.set_clock(1_700_000_000_000, stands=True)
        robot = space.robot(secret=self.SECRET)

        assert answer(post(space, robot, query=query)) == (310000, words)

        (message,) = space.messages(count=1, state="refused")
        assert reason in message.reason

    def test_at_its_edge_it_still_holds(self, space: Space) -> None:
        space.set_clock(1_700_000_000_000, stands=True)
        robot = space.robot(secret=self.SECRET)

        assert send(space, robot, query=signed(self.SECRET, 1_700_000_000_000 - 3_600_000)) == 0

    def test_encoded_twice_or_not_at_all_is_named(self, space: Space) -> None:
        space.set_clock(1_767_225_601_279)
        robot = space.robot("signing", secret=self.SECRET)
        sign = signed(self.SECRET, 1_767_225_601_279)["sign"]
        base = f"{space.oapi_url}/robot/send?access_token=signing&timestamp=1767225601279&sign="

        for wrong in (sign, quote(quote(sign, safe=""), safe="")):
            assert answer(requests.post(base + wrong, json=text(), timeout=10)) == (310000, "sign not match")

        once, twice = space.messages(count=2, state="refused")
        assert "space" in once.reason
        assert "twice" in twice.reason
        assert send(space, robot, query=signed(self.SECRET, 1_767_225_601_279)) == 0

    def test_a_url_that_was_signed_again_and_again_is_refused(self, space: Space) -> None:
        robot = space.robot("growing", secret=self.SECRET)
        fields = signed(self.SECRET, time.time_ns() // 1_000_000)
        query = [("access_token", robot.token), *fields.items(), *fields.items()]

        response = requests.post(f"{space.oapi_url}/robot/send", params=query, json=text(), timeout=10)

        assert answer(response)[0] == 310000

    def test_the_words_can_be_chinese(self, space: Space) -> None:
        space.rules(wording="zh")
        robot = space.robot(secret=self.SECRET)

        assert "签名过期" in answer(post(space, robot, query={}))[1]
        assert (
            "签名不匹配"
            in answer(
                post(
                    space,
                    robot,
                    query={"timestamp": "1", "sign": "x"} | {"timestamp": str(time.time_ns() // 1_000_000)},
                )
            )[1]
        )
        assert "关键词不匹配" in answer(post(space, space.robot(keywords=["监控"])))[1]


class TestKeywords:
    def test_one_of_them_must_stand_in_the_text(self, space: Space) -> None:
        robot = space.robot(keywords=["监控", "disk"])

        assert send(space, robot, text("disk full")) == 0
        assert answer(post(space, robot, text("full"))) == (310000, "keywords not in content")
        assert answer(post(space, robot, text("监 控")))[0] == 310000

    def test_the_title_does_not_count(self, space: Space) -> None:
        robot = space.robot(keywords=["disk"])

        assert send(space, robot, markdown("full", title="disk")) == 310000
        assert send(space, robot, markdown("the disk is full")) == 0
        assert send(space, robot, of("feedCard", {"links": [FEED["links"][0] | {"title": "disk"}]})) == 0


class TestLimit:
    def test_the_twenty_first_in_a_minute_mutes_for_ten(self, space: Space) -> None:
        robot = space.robot(name="ops")
        space.set_clock(1_700_000_000_000, stands=True)

        assert [send(space, robot) for _ in range(20)] == [0] * 20
        assert answer(post(space, robot)) == (660026, "sending too many messages per minute")
        space.advance(599.9)
        assert send(space, robot) == 660026
        space.advance(0.1)
        assert send(space, robot) == 0

        numbers = space.stats()["robots"]["ops"]
        assert (numbers["accepted"], numbers["refused"], numbers["max_in_window"]) == (21, 2, 21)
        assert numbers["errcodes"] == {"660026": 2}

    def test_a_place_is_free_after_exactly_one_window(self, space: Space) -> None:
        robot = space.robot()
        space.set_clock(1_700_000_000_000, stands=True)
        for _ in range(20):
            assert send(space, robot) == 0
            space.advance(1)

        space.advance(39.999)
        assert space.stats()["robots"][robot.name]["in_window"] == 20
        space.advance(0.001)
        assert send(space, robot) == 0
        assert send(space, robot) == 660026

    def test_refused_messages_count_unless_told_otherwise(self, space: Space) -> None:
        strict, lax = space.robot(limit=2, keywords=["x"]), None
        assert [send(space, strict, text("no")) for _ in range(3)] == [310000, 310000, 660026]

        space.rules(counts="accepted")
        lax = space.robot(limit=2, keywords=["x"])
        assert [send(space, lax, text("no")) for _ in range(3)] == [310000] * 3

    def test_a_mute_may_be_made_longer_by_knocking(self, space: Space) -> None:
        space.rules(mute_extends=True, too_fast_errcode=130101)
        space.set_clock(1_700_000_000_000, stands=True)
        robot = space.robot(limit=1, cooldown_s=10)
        assert [send(space, robot), send(space, robot)] == [0, 130101]
        space.advance(9)
        assert send(space, robot) == 130101
        space.advance(9)
        assert send(space, robot) == 130101

    def test_robots_have_windows_of_their_own(self, space: Space) -> None:
        one, two = space.robot(limit=1), space.robot(limit=1)

        assert [send(space, one), send(space, two), send(space, one)] == [0, 0, 660026]

    def test_the_month_has_a_quota(self, space: Space) -> None:
        # 23:59:59 on the last of November in Beijing.
        space.set_clock(1_796_054_399_000, stands=True)
        robot = space.robot(month=1)

        assert [send(space, robot), send(space, robot)] == [0, 90030]
        space.advance(1)
        assert send(space, robot) == 0


class TestDoubles:
    def test_the_same_uuid_is_taken_and_not_shown_again(self, space: Space) -> None:
        robot, other = space.robot(name="ops"), space.robot(name="other")
        sent = [send(space, one, text(msgUuid="job-1")) for one in (robot, robot, other)]

        assert sent == [0, 0, 0]
        first, elsewhere = space.messages(count=2)
        (double,) = space.messages(count=1, state="double")
        assert (first.robot, elsewhere.robot, double.double_of) == ("ops", "other", first.number)

    def test_the_other_truth_shows_it_twice(self, space: Space) -> None:
        space.rules(doubles="show")
        robot = space.robot()

        assert [send(space, robot, text(msgUuid="job-1")) for _ in range(2)] == [0, 0]
        assert len(space.messages(count=2)) == 2

    def test_a_refused_message_leaves_its_uuid_free(self, space: Space) -> None:
        robot = space.robot(keywords=["x"])
        assert send(space, robot, text("no", msgUuid="job-1")) == 310000
        assert send(space, robot, text("x", msgUuid="job-1")) == 0

        assert len(space.messages(count=1)) == 1


def test_only_listed_addresses_may_send(space: Space) -> None:
    assert send(space, space.robot(allow_ips=["127.0.0.0/8"])) == 0
    assert answer(post(space, space.robot(allow_ips=["10.0.0.1"]))) == (310000, "ip 127.0.0.1 not in whitelist")


def test_the_errcode_may_be_a_string(space: Space) -> None:
    space.rules(errcode_as="string")

    assert post(space, space.robot()).json() == {"errcode": "0", "errmsg": "ok"}


def test_escapes_may_be_refused(space: Space) -> None:
    robot = space.robot()
    body, headers = json.dumps(text("监控")).encode(), {"Content-Type": "application/json"}
    assert answer(post(space, robot, data=body, headers=headers))[0] == 0

    space.rules(refuse_escapes=True)

    assert answer(post(space, robot, data=body, headers=headers))[0] == 40033
    assert send(space, robot, text("a \\ u4e2d backslash")) == 0


@pytest.mark.parametrize(
    ("body", "rings", "warning"),
    [
        (text("@13800000000 hi", at={"atMobiles": ["13800000000"]}), ["13800000000"], None),
        (text("hi", at={"atMobiles": ["13800000000"]}), [], "will not ring 13800000000"),
        (text("@138000000001 hi", at={"atMobiles": ["13800000000"]}), [], "will not ring"),
        (text("@bob hi", at={"atUserIds": ["bob"]}), ["bob"], None),
        (text("hi", at={"isAtAll": True}), ["everyone"], "only its admins"),
        (text("@13800000000 hi"), [], "only shown"),
        (text("@+85291234567", at={"atMobiles": ["+85291234567"]}), ["+85291234567"], "may not ring"),
        (of("link", LINK, at={"atMobiles": ["13800000000"]}), [], "ignores `at`"),
        (of("feedCard", FEED, at={"isAtAll": True}), [], "ignores `at`"),
        (of("actionCard", CARD | {"text": "@bob"}, at={"atUserIds": ["bob"]}), ["bob"], None),
        (of("actionCard", CARD | {"text": "@13800000000"}, at={"atMobiles": ["13800000000"]}), [], "user id only"),
    ],
)
def test_who_rings_and_who_does_not(space: Space, body: dict[str, Any], rings: list[str], warning: str | None) -> None:
    send(space, space.robot(), body | {"msgUuid": "u"})

    (message,) = space.messages(count=1)
    assert list(message.rings) == rings
    assert any(warning in one for one in message.warnings) if warning else message.warnings == ()


def test_a_robot_among_other_organisations_rings_nobody(space: Space) -> None:
    send(space, space.robot(external=True), text("@bob", at={"atUserIds": ["bob"]}))

    (message,) = space.messages(count=1)
    assert message.rings == ()
    assert "other organisations" in message.warnings[0]


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        ("CPU 91%\nMEM 80%", "line break"),
        ("CPU 91%  \n  MEM 80%", None),
        ("CPU 91%\n\nMEM 80%", None),
        ("- a\n- b", None),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "table"),
        ("```\na\nb\n```", "code block"),
        ("<font color=red>x</font>", None),
        ("<script>x</script>", "HTML is not drawn: <script>"),
        ("[here](http://localhost:8080/x)", "opens on no other machine"),
    ],
)
def test_markdown_that_will_not_look_as_meant_is_named(space: Space, words: str, warning: str | None) -> None:
    send(space, space.robot(), markdown(words, msgUuid="u"))

    found = space.messages(count=1)[0].warnings
    assert any(warning in one for one in found) if warning else found == ()
