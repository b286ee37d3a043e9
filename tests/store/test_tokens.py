"""App tokens on a real server and real sockets: one call for the whole fleet, never an old token over a newer one."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from freezegun import freeze_time

from dingqueue_worker.dingtalk.answers import Answer
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.dingtalk.errors import NotSent
from dingqueue_worker.outcome import EVERY_SENDER
from dingqueue_worker.pace import app_mark
from dingqueue_worker.settings import App, Secret
from dingqueue_worker.store import Fetch, Held, Store, Wait
from dingqueue_worker.tokens import NoToken, Token, Tokens
from support.answering import Answering, Asked, Handler, answering
from support.state import State
from support.waiting import wait_for

ACME = App(name="acme", app_key="key-1", app_secret=Secret("planted-secret"))
MARK = app_mark(ACME)
LEASE_S = 20.0
NEWER = "/v1.0/oauth2/accessToken"


def giving(**fields: Any) -> Handler:
    """Gives token-1, token-2 and so on."""
    lock, numbers = threading.Lock(), iter(range(1, 1_000))

    def answer(asked: Asked) -> tuple[int, Any]:
        with lock:
            number = next(numbers)
        if asked.path == "/gettoken":
            return 200, {"errcode": 0, "access_token": f"token-{number}", "expires_in": 7200} | fields
        return 200, {"accessToken": f"token-{number}", "expireIn": 7200} | fields

    return answer


@contextmanager
def tokens_at(state: State, handler: Handler, *, jitter: float = 0.0) -> Iterator[tuple[Tokens, Answering]]:
    with answering(handler) as far, api_to(far.url) as api:
        yield Tokens(store=state.store, api=api, lease_s=LEASE_S, jitter=lambda: jitter), far


def api_to(url: str) -> Api:
    return Api(
        oapi_url=url, api_url=url, connect_timeout_s=3, read_timeout_s=8, total_timeout_s=12, pool_size=60
    )  # fmt: skip


def token(got: Token | NoToken) -> str:
    assert isinstance(got, Token), got
    return got.value.reveal()


def none(got: Token | NoToken) -> NoToken:
    assert isinstance(got, NoToken), got
    return got


# --- Lifetime, margin, refresh --------------------------------------------------------------------------------------


def test_a_token_is_fetched_once_and_used_until_it_is_time(state: State) -> None:
    with tokens_at(state, giving()) as (tokens, far):
        first = [token(tokens.of(ACME)) for _ in range(5)]
        state.clock.pass_ms(7_200_000 * 79 // 100)

        assert {*first, token(tokens.of(ACME))} == {"token-1"}
        assert len(far.asked) == 1
        assert far.asked[0].body == {"appKey": "key-1", "appSecret": "planted-secret"}


def test_beat_fetches_the_next_one_well_before_the_end_and_not_sooner(state: State) -> None:
    with tokens_at(state, giving(), jitter=0.5) as (tokens, _):
        tokens.refresh(ACME)
        state.clock.pass_ms(7_200_000 * 70 // 100 - 1)
        assert token(tokens.refresh(ACME)) == "token-1"

        state.clock.pass_ms(1)

        assert token(tokens.refresh(ACME)) == "token-2"


def test_the_jitter_spreads_the_refresh_over_a_tenth_of_the_lifetime(state: State) -> None:
    soonest, latest = (
        dataclasses.replace(ACME, name=name, app_key=name) for name in ("soonest", "latest")
    )  # fmt: skip
    for app, jitter in ((soonest, 0.0), (latest, 1.0)):
        with tokens_at(state, giving(), jitter=jitter) as (tokens, _):
            tokens.of(app)

    due = [state.store.token_view(app.name, app_mark(app))[1] for app in (soonest, latest)]

    assert [(view.refresh_ms - view.got_ms) / 7_200_000 for view in due if view] == [0.65, 0.75]


def test_whoever_needs_one_fetches_it_when_beat_is_away(state: State) -> None:
    with tokens_at(state, giving()) as (tokens, _):
        tokens.of(ACME)
        state.clock.pass_ms(7_200_000 * 80 // 100)

        assert token(tokens.of(ACME)) == "token-2"


@pytest.mark.parametrize(
    ("lifetime", "usable_s"),
    [
        (600, 540), ("7200", 7_140), (7_200.0, 7_140), (0, 54), (-1, 54), (59, 54), (10**12, 86_340),
        (None, 7_140), ("soon", 7_140), (True, 7_140), ([], 7_140), ("nan", 7_140), ("inf", 86_340),
    ],
)  # fmt: skip
def test_the_lifetime_is_what_dingtalk_says_within_reason(state: State, lifetime: object, usable_s: int) -> None:
    with tokens_at(state, giving(expireIn=lifetime)) as (tokens, _):
        tokens.of(ACME)

    _, view = state.store.token_view("acme", MARK)
    assert view is not None
    assert (view.usable_ms - view.got_ms) / 1000 == usable_s


def test_a_lifetime_that_is_missing_is_the_usual_one(state: State) -> None:
    with tokens_at(state, lambda _: (200, {"accessToken": "token-1"})) as (tokens, _):
        tokens.of(ACME)

    _, view = state.store.token_view("acme", MARK)
    assert view is not None
    assert view.usable_ms - view.got_ms == 7_140_000


def test_nonsense_lifetimes_do_not_make_a_loop(state: State) -> None:
    with tokens_at(state, giving(expireIn=0)) as (tokens, far):
        for _ in range(60):
            tokens.of(ACME)
            tokens.refresh(ACME)
            state.clock.pass_ms(1_000)

        assert len(far.asked) <= 2


def test_a_token_is_not_used_in_its_last_minute(state: State) -> None:
    with tokens_at(state, giving()) as (tokens, far):
        tokens.of(ACME)
        state.clock.pass_ms(7_200_000 - 60_000)
        far_away = Tokens(store=state.store, api=_Silent(), lease_s=LEASE_S)

        assert none(far_away.of(ACME)).outcome.cause == "token"
        assert len(far.asked) == 1


class _Silent:
    def app_token(self, app: App) -> Answer:
        raise NotSent("ConnectionRefusedError", "nothing was sent: connection refused")


@pytest.mark.parametrize(
    ("by", "path", "query"),
    [
        ("gettoken", "/gettoken", {"appkey": "key-1", "appsecret": "planted-secret"}),
        ("corpid", "/gettoken", {"corpid": "key-1", "corpsecret": "planted-secret"}),
        ("oauth2", NEWER, {}),
    ],
)
def test_each_call_that_gives_tokens_is_asked_in_its_own_way(
    state: State, by: Any, path: str, query: dict[str, str]
) -> None:
    with tokens_at(state, giving()) as (tokens, far):
        assert token(tokens.of(dataclasses.replace(ACME, token_by=by))) == "token-1"

        assert (far.asked[0].path, far.asked[0].query) == (path, query)


# --- One for the whole fleet ----------------------------------------------------------------------------------------


def at_once(count: int, ask: Callable[[], Token | NoToken]) -> list[Token | NoToken]:
    start = threading.Barrier(count)

    def one(_: int) -> Token | NoToken:
        start.wait(10)
        return ask()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def slowly(handler: Handler, *, after: threading.Event) -> Handler:
    def answer(asked: Asked) -> Any:
        assert after.wait(10)
        return handler(asked)

    return answer


def test_fifty_at_the_edge_with_a_slow_endpoint_make_one_call_and_nobody_fails(state: State) -> None:
    open_now = threading.Event()
    with tokens_at(state, slowly(giving(), after=open_now)) as (tokens, far), ThreadPoolExecutor(1) as pool:
        all_of_them = pool.submit(at_once, 50, lambda: tokens.of(ACME))
        wait_for(lambda: far.asked)
        open_now.set()
        got = all_of_them.result(20)

        waiting = [one for one in got if isinstance(one, NoToken)]
        assert [token(one) for one in got if isinstance(one, Token)] == ["token-1"] * (50 - len(waiting))
        assert {(one.outcome.cause, one.outcome.sent) for one in waiting} <= {("token", False)}
        assert {token(tokens.of(ACME)) for _ in waiting} <= {"token-1"}
        assert len(far.asked) == 1


def test_fifty_that_find_a_late_token_go_on_with_it_while_one_fetches(state: State) -> None:
    open_now = threading.Event()
    open_now.set()
    with tokens_at(state, slowly(giving(), after=open_now)) as (tokens, far), ThreadPoolExecutor(1) as pool:
        tokens.of(ACME)
        state.clock.pass_ms(7_200_000 * 85 // 100)
        open_now.clear()
        came: list[Token | NoToken] = []

        def ask() -> Token | NoToken:
            came.append(tokens.of(ACME))
            return came[-1]

        all_of_them = pool.submit(at_once, 50, ask)
        # All but the one who fetches have what they came for, while DingTalk still thinks.
        wait_for(lambda: len(came) == 49)
        open_now.set()
        got = [token(one) for one in all_of_them.result(20)]

    assert sorted(got) == ["token-1"] * 49 + ["token-2"]
    assert len(far.asked) == 2


def test_two_processes_share_one_token(state: State) -> None:
    with tokens_at(state, giving()) as (tokens, far), api_to(far.url) as api:
        store = Store(state.url, prefix=state.prefix, clock_ms=state.clock)
        other = Tokens(store=store, api=api, lease_s=LEASE_S)

        assert token(tokens.of(ACME)) == token(other.of(ACME)) == "token-1"
        assert len(far.asked) == 1
        store.close()


def test_when_the_one_who_fetches_dies_another_does(state: State) -> None:
    assert isinstance(ask(state), Fetch)
    assert isinstance(ask(state), Wait)

    state.clock.pass_ms(round(LEASE_S * 1000))

    assert isinstance(ask(state), Fetch)


def ask(state: State, *, eager: bool = False) -> Held | Fetch | Wait:
    return state.store.token_ask("acme", MARK, lease_ms=round(LEASE_S * 1000), eager=eager)


def keep(state: State, lease: int, value: str) -> Held | Wait:
    return state.store.token_keep(
        "acme", MARK, lease, value, refresh_ms=5_000_000, late_ms=6_000_000, usable_ms=7_000_000
    )


def test_a_late_answer_never_overwrites_a_newer_token(state: State) -> None:
    slow = ask(state)
    state.clock.pass_ms(round(LEASE_S * 1000))
    quick = ask(state)
    assert isinstance(slow, Fetch)
    assert isinstance(quick, Fetch)

    keep(state, quick.lease, "newer")

    assert keep(state, slow.lease, "older") == Held(token="newer", number=quick.lease)
    assert ask(state) == Held(token="newer", number=quick.lease)


def test_a_late_failure_takes_nothing_from_who_fetches_now(state: State) -> None:
    slow = ask(state)
    state.clock.pass_ms(round(LEASE_S * 1000))
    quick = ask(state)
    assert isinstance(slow, Fetch)
    assert isinstance(quick, Fetch)

    state.store.token_fail("acme", MARK, slow.lease, why="no answer", bad=True, rest_ms=None, jitter=0)
    waits = ask(state)

    assert isinstance(waits, Wait)
    assert not waits.resting, "the second one still fetches"
    assert keep(state, quick.lease, "good") == Held(token="good", number=quick.lease)


def test_other_credentials_have_another_token(state: State) -> None:
    with tokens_at(state, giving()) as (tokens, _):
        tokens.of(ACME)

        assert token(tokens.of(dataclasses.replace(ACME, app_secret=Secret("new")))) == "token-2"
        assert token(tokens.of(ACME)) == "token-1"


# --- Tokens that DingTalk does not take -----------------------------------------------------------------------------


def test_a_refused_token_is_dropped_and_the_next_one_is_fetched(state: State) -> None:
    with tokens_at(state, giving()) as (tokens, _):
        first = tokens.of(ACME)
        assert isinstance(first, Token)

        tokens.refused(ACME, first)

        assert token(tokens.of(ACME)) == "token-2"


def test_only_the_very_token_that_was_refused_is_dropped(state: State) -> None:
    with tokens_at(state, giving()) as (tokens, far):
        first = tokens.of(ACME)
        assert isinstance(first, Token)
        tokens.refused(ACME, first)
        tokens.of(ACME)

        for _ in range(5):  # others, whose requests went out with the first one
            tokens.refused(ACME, first)

        assert token(tokens.of(ACME)) == "token-2"
        assert len(far.asked) == 2


def test_tokens_that_are_refused_as_soon_as_they_come_are_not_fetched_in_a_loop(state: State) -> None:
    with tokens_at(state, giving()) as (tokens, far):
        for _ in range(60):
            got = tokens.of(ACME)
            if isinstance(got, Token):
                tokens.refused(ACME, got)
            state.clock.pass_ms(1_000)

        assert len(far.asked) <= 8


# --- No token -------------------------------------------------------------------------------------------------------

WRONG = [
    ("oauth2", (400, {"code": "invalidClientIdOrSecret", "message": "无效的clientId或者clientSecret", "requestid": "1"})),
    ("gettoken", (200, {"errcode": 40096, "errmsg": "不合法的appKey或appSecret"})),
    ("corpid", (200, {"errcode": 40089, "errmsg": "不合法的corpid或corpsecret"})),
    ("oauth2", (400, {"code": "invalid.client", "message": "x"})),
    ("oauth2", (401, {"code": "unauthorized.client", "message": "x"})),
]  # fmt: skip


@pytest.mark.parametrize(("by", "answer"), WRONG)
def test_wrong_credentials_are_proved_twice_and_then_asked_every_ten_minutes(
    state: State, by: Any, answer: tuple[int, Any]
) -> None:
    app = dataclasses.replace(ACME, token_by=by)
    with tokens_at(state, lambda _: answer) as (tokens, far):
        proof = none(tokens.of(app)).outcome
        for _ in range(1_200):
            tokens.of(app)
            tokens.refresh(app)
            state.clock.pass_ms(1_000)

        assert proof.close is not None
        assert (proof.close.cause, proof.close.sender, proof.sent) == ("fault", "app.acme", False)
        assert len(far.asked) == 3, "at once, a second later, ten minutes later"


def test_what_beat_found_out_is_a_proof_for_whoever_needs_a_token(state: State) -> None:
    with tokens_at(state, lambda _: (400, {"code": "invalidClientIdOrSecret"})) as (tokens, far):
        tokens.refresh(ACME)
        state.clock.pass_ms(1_000)
        tokens.refresh(ACME)
        state.clock.pass_ms(60_000)

        outcome = none(tokens.of(ACME)).outcome

        assert outcome.close is not None
        assert (outcome.close.cause, outcome.close.sender) == ("fault", "app.acme")
        assert len(far.asked) == 2


def test_an_endpoint_that_is_away_is_asked_ever_less_often(state: State) -> None:
    with tokens_at(state, lambda _: (500, {"code": "server.error", "message": "x"}), jitter=1.0) as (tokens, far):
        for _ in range(600):
            assert none(tokens.of(ACME)).outcome.cause == "token"
            state.clock.pass_ms(1_000)

        assert 10 <= len(far.asked) <= 20


def test_who_waits_keeps_its_place_and_spends_nothing(state: State) -> None:
    with tokens_at(state, lambda _: None) as (tokens, _):
        outcome = none(tokens.of(ACME)).outcome

    assert outcome.close is not None
    assert (outcome.sent, outcome.close.cause, outcome.close.sender) == (False, "busy", "app.acme")


def test_a_good_token_is_used_while_the_endpoint_is_away(state: State) -> None:
    down = threading.Event()
    good = giving()
    with tokens_at(state, lambda asked: (503, {}) if down.is_set() else good(asked)) as (tokens, _):
        tokens.of(ACME)
        down.set()
        state.clock.pass_ms(7_200_000 * 85 // 100)

        assert token(tokens.of(ACME)) == token(tokens.refresh(ACME)) == "token-1"


def test_a_block_of_our_address_closes_every_sender(state: State) -> None:
    page = b"<html><body>blocked</body></html>"
    with tokens_at(state, lambda _: (200, page)) as (tokens, far):
        outcome = none(tokens.of(ACME)).outcome
        tokens.of(ACME)

        assert outcome.close is not None
        assert (outcome.close.sender, outcome.close.for_s) == (EVERY_SENDER, 300)
        assert len(far.asked) == 1


@pytest.mark.parametrize("yes", [{}, {"accessToken": ""}, {"accessToken": None}, {"errcode": 404, "errmsg": "x"}])
def test_a_yes_without_a_token_is_no_token(state: State, yes: dict[str, Any]) -> None:
    with tokens_at(state, lambda _: (200, yes)) as (tokens, _):
        assert isinstance(tokens.of(ACME), NoToken)


# --- Clocks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def frozen(state: State) -> Iterator[tuple[Any, Store]]:
    """This machine's clock stands; the store reads it instead of the server's."""
    store = Store(state.url, prefix=state.prefix, clock_ms=lambda: round(time.time() * 1000))
    with freeze_time("2026-11-25 09:00:00") as clock:
        yield clock, store
    store.close()


@pytest.mark.parametrize(
    ("jump", "expected"),
    [
        (timedelta(minutes=90), "token-1"),
        (timedelta(minutes=100), "token-2"),
        (timedelta(hours=2), "token-2"),
        (timedelta(days=2), "token-2"),
        (timedelta(seconds=-30), "token-1"),
        (timedelta(hours=-3), "token-2"),
        (timedelta(days=-400), "token-2"),
    ],
)
def test_whatever_the_clock_does_the_token_is_neither_old_nor_fetched_twice(
    frozen: tuple[Any, Store], jump: timedelta, expected: str
) -> None:
    clock, store = frozen
    with answering(giving()) as far, api_to(far.url) as api:
        tokens = Tokens(store=store, api=api, lease_s=LEASE_S)
        tokens.of(ACME)

        clock.tick(jump)

        assert {token(tokens.of(ACME)) for _ in range(3)} == {expected}
        assert len(far.asked) == int(expected[-1])


def test_no_token_and_no_secret_show_in_a_repr(state: State) -> None:
    with tokens_at(state, giving(accessToken="planted-token")) as (tokens, _):
        got = tokens.of(ACME)

    assert "planted" not in repr((got, ask(state), ACME, state.store.token_view("acme", MARK)))
