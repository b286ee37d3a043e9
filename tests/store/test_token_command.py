"""``dingqueue tokens`` against a real server: age and next fetch of each app's token, and never the token."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dingqueue_worker.cli import main
from dingqueue_worker.pace import app_mark
from dingqueue_worker.settings import App, Secret
from dingqueue_worker.store import Fetch
from support.state import State

ACME = App(name="acme", app_key="key-1", app_secret=Secret("planted-secret"))
CONFIG = """
[robots.ops]
token = "t1"
[destinations.ops]
robots = ["ops"]
"""
APP = '[apps.acme]\napp_key = "key-1"\napp_secret = "planted-secret"\n'


@pytest.fixture
def tokens(state: State, tmp_path: Path) -> State:
    state.clock.now_ms = int(state.redis.time()[0]) * 1000
    return state


def typed(state: State, folder: Path, *words: str, config: str = CONFIG + APP) -> Result:
    file = folder / "dingqueue.toml"
    file.write_text(config)
    env = {"DINGQUEUE_BROKER_URL": state.url, "DINGQUEUE_PREFIX": state.prefix, "DINGQUEUE_CONFIG": str(file)}
    return CliRunner().invoke(main, ["tokens", *words], env=env, catch_exceptions=False)


def fetch(state: State) -> int:
    asked = state.store.token_ask("acme", app_mark(ACME), lease_ms=20_000, eager=False)
    assert isinstance(asked, Fetch)
    return asked.lease


def test_a_good_token_shows_its_age_and_its_next_fetch_and_not_itself(tokens: State, tmp_path: Path) -> None:
    lease = fetch(tokens)
    tokens.clock.now_ms -= 600_000
    tokens.store.token_keep(
        "acme", app_mark(ACME), lease, "planted-token", refresh_ms=5_000_000, late_ms=6_000_000, usable_ms=7_000_000
    )

    text, data = typed(tokens, tmp_path), typed(tokens, tmp_path, "--json")

    assert re.fullmatch(r"acme: good, 10\S* min old, next in 73\S* min, good for 10[67] min\n", text.stdout)
    assert json.loads(data.stdout)[0]["state"] == "good"
    assert (text.exit_code, data.exit_code) == (0, 0)
    assert "planted" not in text.output + data.output


def test_refused_credentials_say_what_to_change(tokens: State, tmp_path: Path) -> None:
    why = "the app's key or secret is wrong (code 40096)"
    lease = fetch(tokens)
    tokens.store.token_fail("acme", app_mark(ACME), lease, why=why, bad=True, rest_ms=600_000, jitter=0)

    result = typed(tokens, tmp_path)

    assert re.match(r"acme: refused, next in (9\.9\d*|10) min", result.stdout)
    assert why in result.stdout
    assert "check app_key and app_secret of acme" in result.stderr
    assert result.exit_code == 1


def test_an_app_that_nobody_has_used_yet_is_named_so(tokens: State, tmp_path: Path) -> None:
    assert typed(tokens, tmp_path).stdout == "acme: not asked for yet\n"


def test_a_fleet_without_apps_needs_no_tokens(tokens: State, tmp_path: Path) -> None:
    result = typed(tokens, tmp_path, config=CONFIG)

    assert result.exit_code == 3
    assert "no [apps.NAME]" in result.stderr


def test_a_wrong_configuration_is_wrong_usage(tokens: State, tmp_path: Path) -> None:
    assert typed(tokens, tmp_path, config="[robots").exit_code == 2


def test_redis_away_is_not_reachable(tokens: State, tmp_path: Path) -> None:
    file = tmp_path / "dingqueue.toml"
    file.write_text(CONFIG + APP)
    env = {"DINGQUEUE_BROKER_URL": "redis://127.0.0.1:1/0", "DINGQUEUE_CONFIG": str(file)}

    assert CliRunner().invoke(main, ["tokens"], env=env).exit_code == 4
