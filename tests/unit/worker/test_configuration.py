"""The configuration: what it takes, what it refuses, and that no refusal holds a secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dingqueue_worker import configuration
from dingqueue_worker.configuration import ConfigurationError, load
from dingqueue_worker.settings import App, Destination, Fleet, Organisation, Person, Robot, Secret, Settings

#: Planted wherever a secret may be misplaced; none of its forms may come back.
PLANTED = "PlantedSecret0123456789"
SECRET = "SEC" + "ab12" * 16

MINIMAL = """
[robots.ops]
token = "t1"
[destinations.ops]
robots = ["ops"]
"""

Load = Callable[..., Settings]
Refused = Callable[..., tuple[str, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    def read(toml: str, environ: Mapping[str, str] | None = None) -> Settings:
        file = tmp_path / "dingqueue.toml"
        file.write_text(toml, encoding="utf-8")
        return load({"DINGQUEUE_CONFIG": str(file), **(environ or {})})

    return read


@pytest.fixture
def refused(read: Load) -> Refused:
    def refused(toml: str, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
        with pytest.raises(ConfigurationError) as caught:
            read(toml, environ)
        assert all(
            problem in line and ("dingqueue.toml: " in line) != line.startswith("DINGQUEUE_")
            for problem, line in zip(caught.value.problems, str(caught.value).splitlines(), strict=True)
        ), "each says which file"
        assert PLANTED not in repr(caught.value)
        assert PLANTED not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        return caught.value.problems

    return refused


# --- What it takes ------------------------------------------------------------------------------------------------


def test_the_file_of_the_design_is_read(read: Load) -> None:
    settings = read(
        """
        [robots.ops]
        token = "${OPS_TOKEN}"
        secret = "${OPS_SECRET}"
        keyword = "ops"
        limit = 20
        window_s = 60
        cooldown_s = 600
        urgent_reserve = 2

        [apps.acme]
        app_key = "${ACME_KEY}"
        app_secret = "${ACME_SECRET}"
        agent_id = 123456
        robot_code = "dingabc"

        [destinations.ops]
        robots = ["ops"]
        overflow = "digest"
        expires_s = 3600
        max_waiting = 5000
        [destinations.project]
        app = "acme"
        conversation = "cidXXXX="
        robots = ["ops"]
        [destinations.finance]
        app = "acme"
        users = ["alice"]
        via = "notice"

        [people.alice]
        user_id = "manager123"
        mobile = "13800000000"

        [fleet]
        max_attempts = 3
        on_dead = "ops"
        on_dead_hook = "acme.alarms:page"
        """,
        {"OPS_TOKEN": "t1", "OPS_SECRET": SECRET, "ACME_KEY": "key", "ACME_SECRET": "app-secret"},
    )

    assert settings == Settings(
        broker_url="redis://127.0.0.1:6379/0",
        state_url="redis://127.0.0.1:6379/0",
        robots={
            "ops": Robot(name="ops", token=Secret("t1"), secret=Secret(SECRET), keywords=("ops",), urgent_reserve=2)
        },
        apps={
            "acme": App(
                name="acme", app_key="key", app_secret=Secret("app-secret"), agent_id=123456, robot_code="dingabc"
            )
        },
        destinations={
            "ops": Destination(name="ops", robots=("ops",), overflow="digest", expires_s=3600, max_waiting=5000),
            "project": Destination(name="project", app="acme", conversation="cidXXXX=", robots=("ops",)),
            "finance": Destination(name="finance", app="acme", users=("alice",), via="notice"),
        },
        people={"alice": Person(name="alice", user_id="manager123", mobile="13800000000")},
        fleet=Fleet(max_attempts=3, on_dead="ops", on_dead_hook="acme.alarms:page"),
    )


def test_what_the_file_leaves_out_is_the_settings_own_default(read: Load) -> None:
    settings = read(MINIMAL)

    assert settings.robots["ops"] == Robot(name="ops", token=Secret("t1"))
    assert settings.destinations["ops"] == Destination(name="ops", robots=("ops",))
    assert settings.fleet == Fleet()
    assert (settings.oapi_url, settings.api_url) == ("https://oapi.dingtalk.com", "https://api.dingtalk.com")
    assert settings.prefix == "dq:"


@pytest.mark.parametrize(
    ("model", "of"),
    [
        (configuration._Robot, Robot), (configuration._App, App), (configuration._Destination, Destination),
        (configuration._Person, Person), (configuration._Fleet, Fleet), (configuration._Organisation, Organisation),
    ],
)  # fmt: skip
def test_every_setting_can_be_written_in_the_file_and_shows_its_real_default(
    model: type[configuration._Table], of: type
) -> None:
    defaults = {one.name: one.default for one in dataclasses.fields(of) if one.name != "name"}
    if of is Robot:
        defaults["keyword"] = defaults.pop("keywords")

    assert model.model_fields.keys() == defaults.keys()
    for name, found in model.model_fields.items():
        assert found.description
        if not found.is_required():
            assert found.default == defaults[name]


def test_the_settings_show_no_secret(read: Load) -> None:
    settings = read(
        f'[robots.ops]\ntoken = "{PLANTED}"\nsecret = "SEC{PLANTED}"\n[destinations.ops]\nrobots = ["ops"]\n'
        f'[apps.a]\napp_key = "k"\napp_secret = "{PLANTED}"\n',
        {"DINGQUEUE_BROKER_URL": f"redis://:{PLANTED}@127.0.0.1:6379/0"},
    )

    assert PLANTED not in repr(settings)


@pytest.mark.parametrize(
    ("written", "token", "secret"),
    [
        ("https://oapi.dingtalk.com/robot/send?access_token=T1", "T1", None),
        (" https://oapi.dingtalk.com/robot/send?access_token=T1 ", "T1", None),
        ("http://127.0.0.1:8089/robot/send?access_token=T1", "T1", None),
        ("access_token=T1", "T1", None),
        ("?access_token=T1", "T1", None),
        # The secret glued on (case B29), plain and as it looks inside another URL's parameter.
        ("https://oapi.dingtalk.com/robot/send?access_token=T1&secret=SECx", "T1", "SECx"),
        ("https://oapi.dingtalk.com/robot/send?access_token=T1%26secret=SECx", "T1", "SECx"),
        ("https://oapi.dingtalk.com/robot/send?access_token=T1%26secret%3DSECx", "T1", "SECx"),
        ("T1&secret=SECx", "T1", "SECx"),
        ("T1%26secret=SECx", "T1", "SECx"),
        ("https://oapi.dingtalk.com/robot/send?access_token=T1&secret=SECx&timestamp=17&sign=abc", "T1", "SECx"),
    ],
)
def test_a_whole_webhook_url_is_taken_apart(read: Load, written: str, token: str, secret: str | None) -> None:
    settings = read(MINIMAL.replace("t1", written), {"DINGQUEUE_OAPI_URL": "http://127.0.0.1:8089/"})

    robot = settings.robots["ops"]
    assert robot.token == Secret(token)
    assert robot.secret == (Secret(secret) if secret else None)
    assert settings.oapi_url == "http://127.0.0.1:8089"


@pytest.mark.parametrize(
    "written",
    [
        f"https://oapi.dingtalk.com/robot/send?token={PLANTED}",
        f"https://oapi.dingtalk.com/robot/send?access_token=&secret=SEC{PLANTED}",
        f"https://oapi.dingtalk.com/robot/sendBySession?session={PLANTED}",
        f"https://open.feishu.cn/open-apis/bot/v2/hook/{PLANTED}",
        f"https://example.com/robot/send?access_token={PLANTED}",
        f"https://oapi.dingtalk.com/robot/send?access_token={PLANTED}&timestamp=17&sign=abc",
        f"https://oapi.dingtalk.com/robot/send?access_token={PLANTED}&at=all",
        f"{PLANTED} {PLANTED}",
        f"{PLANTED}/x",
        "https://[oapi.dingtalk.com/robot/send",
    ],
)
def test_what_is_no_token_and_no_webhook_url_is_refused_unseen(refused: Refused, written: str) -> None:
    (problem,) = refused(MINIMAL.replace("t1", written))

    assert problem.startswith("robots.ops.token: expected ")


def test_a_secret_that_contradicts_the_one_in_the_url_is_refused(refused: Refused) -> None:
    url = f"https://oapi.dingtalk.com/robot/send?access_token=T1&secret=SEC{PLANTED}"

    (problem,) = refused(MINIMAL.replace('"t1"', f'"{url}"\nsecret = "SECother"'))

    assert problem == "robots.ops.secret: expected the secret that stands in the webhook URL, found another"


def test_two_names_for_one_robot_are_refused(refused: Refused) -> None:
    (problem,) = refused(f'{MINIMAL}[robots.other]\ntoken = "https://oapi.dingtalk.com/robot/send?access_token=t1"\n')

    assert problem == "robots.other.token: the same as robots.ops.token: one robot has one clock, so it has one name"


@pytest.mark.parametrize(
    ("written", "keywords"),
    [('"ops"', ("ops",)), ('["ops", "监控"]', ("ops", "监控")), ("[]", ()), (str([f"k{n}" for n in range(10)]), tuple(f"k{n}" for n in range(10)))],
)  # fmt: skip
def test_keywords_are_one_or_a_list(read: Load, written: str, keywords: tuple[str, ...]) -> None:
    settings = read(MINIMAL.replace('"t1"', f'"t1"\nkeyword = {written}'))

    assert settings.robots["ops"].keywords == keywords


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (str([f"k{n}" for n in range(11)]), "robots.ops.keyword: expected a keyword, or a list of up to 10, found a list of 11"),
        (f'"{"监" * 67}"', "robots.ops.keyword[0]: expected a keyword of up to 200 bytes, found one of 201"),
        ('["ops", "ops"]', "robots.ops.keyword: expected each only once, found one twice"),
        ('["ops", ""]', "robots.ops.keyword[1]: expected a keyword, or a list of up to 10, found an empty text"),
        ('["ops", 3]', "robots.ops.keyword[1]: expected a keyword, or a list of up to 10, found 3"),
        ('""', "robots.ops.keyword[0]: expected a keyword, or a list of up to 10, found an empty text"),
        ("true", "robots.ops.keyword: expected a keyword, or a list of up to 10, found true"),
    ],
)  # fmt: skip
def test_keywords_that_dingtalk_would_not_take_are_refused(refused: Refused, written: str, problem: str) -> None:
    assert refused(MINIMAL.replace('"t1"', f'"t1"\nkeyword = {written}')) == (problem,)


@pytest.mark.parametrize(
    ("written", "mobile"),
    [
        ('"13800000000"', "13800000000"), ("13800000000", "13800000000"), ('"138 0000 0000"', "13800000000"),
        ('"+86-13800000000"', "13800000000"), ('"+852-91234567"', "+852-91234567"), ('"+852 9123 4567"', "+852-91234567"),
        ('"１３８００００００００"', "13800000000"),
    ],
)  # fmt: skip
def test_mobiles_are_kept_as_dingtalk_documents_them(read: Load, written: str, mobile: str) -> None:
    settings = read(f"{MINIMAL}[people.alice]\nmobile = {written}\n")

    assert settings.people["alice"].mobile == mobile


@pytest.mark.parametrize("written", ['"91234567"', '"+0-1234567"', '"alice"', "true", '""'])
def test_a_mobile_that_rings_nobody_is_refused(refused: Refused, written: str) -> None:
    (problem,) = refused(f"{MINIMAL}[people.alice]\nmobile = {written}\n")

    assert problem.startswith("people.alice.mobile: expected a mobile like 13800000000 or +852-91234567, found ")
    assert "1234567" not in problem.removeprefix(
        "people.alice.mobile: expected a mobile like 13800000000 or +852-91234567"
    )


def test_a_user_id_is_short(read: Load, refused: Refused) -> None:
    people = "[people.alice]\nuser_id = "

    assert read(f"{MINIMAL}{people}'{'1' * 64}'\n").people["alice"].user_id == "1" * 64
    (problem,) = refused(f"{MINIMAL}{people}'{'1' * 65}'\n")
    assert problem.startswith("people.alice.user_id: expected a DingTalk userId, of up to 64 characters")
    assert "111" not in problem


def test_a_user_id_of_digits_needs_no_quotes(read: Load) -> None:
    assert read(f"{MINIMAL}[people.alice]\nuser_id = 4711\n").people["alice"].user_id == "4711"


# --- References ---------------------------------------------------------------------------------------------------


def test_a_reference_may_stand_anywhere(read: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t-from-file\n")
    (tmp_path / "broker").write_text("redis://:pass@127.0.0.1:6380/2\n")

    settings = read(
        """
        [robots.ops]
        token = "file:token"
        limit = "${LIMIT}"
        window_s = "${WINDOW}"
        keyword = ["${KEYWORD}", "a ${KEYWORD} b", "$${KEYWORD}"]
        [destinations.ops]
        robots = ["${ROBOT}"]
        """,
        {
            "LIMIT": "15", "WINDOW": "30.5", "KEYWORD": "ops", "ROBOT": "ops",
            "DINGQUEUE_BROKER_URL": f"file:{tmp_path}/broker", "DINGQUEUE_API_URL": "${OTHER}", "OTHER": "https://api.example",
        },
    )  # fmt: skip

    robot = settings.robots["ops"]
    assert robot.token == Secret("t-from-file")
    assert (robot.limit, robot.window_s) == (15, 30.5)
    assert robot.keywords == ("ops", "a ops b", "${KEYWORD}")
    assert settings.destinations["ops"].robots == ("ops",)
    assert settings.broker_url == "redis://:pass@127.0.0.1:6380/2"
    assert settings.api_url == "https://api.example"


def test_a_variable_may_hold_the_name_of_a_file(read: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t-from-file")

    settings = read(MINIMAL.replace("t1", "${TOKEN}"), {"TOKEN": f"file:{tmp_path}/token"})

    assert settings.robots["ops"].token == Secret("t-from-file")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("${OPS_TOKN}", "expected an environment variable OPS_TOKN, found none; did you mean OPS_TOKEN?"),
        ("${EMPTY}", "expected an environment variable EMPTY, found an empty one"),
        ("${OPS_TOKEN", "expected ${NAME} with the name of an environment variable ($${ is a plain ${), found another form"),
        ("${OPS_TOKEN:-x}", "expected ${NAME} with the name of an environment variable ($${ is a plain ${), found another form"),
    ],
)  # fmt: skip
def test_a_reference_to_nothing_is_named(refused: Refused, written: str, problem: str) -> None:
    assert refused(MINIMAL.replace("t1", written), {"OPS_TOKEN": PLANTED, "EMPTY": ""}) == (
        f"robots.ops.token: {problem}",
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"\xff\xfe\x00", "bytes that are no UTF-8"), (b"x" * 70_000, "more than 65536 bytes"),
     (b" \n", "expected the robot's access_token")],
)  # fmt: skip
def test_a_secret_file_that_holds_no_secret_is_named(
    refused: Refused, tmp_path: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)

    (problem,) = refused(MINIMAL.replace("t1", "file:token"))

    assert problem.startswith("robots.ops.token: ")
    assert says in problem


def test_a_value_from_a_file_is_not_shown_whatever_it_is(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("shorttoken")

    assert refused(MINIMAL.replace('"t1"', '"t1"\nlimit = "file:limit"')) == (
        "robots.ops.limit: expected a whole number of messages from 1 to 100000, "
        "found the file's content, which is something else",
    )


def test_a_value_from_the_environment_is_not_shown_whatever_it_is(refused: Refused) -> None:
    problems = refused(
        """
        [robots.ops]
        token = "t1"
        limit = "${OPS_TOKEN}"
        [destinations.ops]
        robots = ["${OPS_TOKEN}"]
        overflow = "${OPS_TOKEN}"
        """,
        {"OPS_TOKEN": "shorttoken"},
    )

    assert problems == (
        "robots.ops.limit: expected a whole number of messages from 1 to 100000, found the value of ${OPS_TOKEN}, which is something else",
        'destinations.ops.overflow: expected "wait" or "digest", found the value of ${OPS_TOKEN}, which is something else',
    )  # fmt: skip
    assert "shorttoken" not in str(problems)


# --- What it refuses ----------------------------------------------------------------------------------------------

WRONG: list[tuple[str, str]] = [
    # Misspelt tables and keys; the value under them is never shown.
    (f'{MINIMAL}[robotz.x]\ntoken = "{PLANTED}"', "robotz: no such table; did you mean robots?"),
    (f'{MINIMAL}[zzz]\na = "{PLANTED}"', "zzz: no such table; there is apps, destinations, fleet, organisations, people, robots"),
    (MINIMAL.replace('"t1"', f'"t1"\nsecrt = "{PLANTED}"'), "robots.ops.secrt: no such setting; did you mean secret?"),
    (
        f"{MINIMAL}[people.alice]\nqqq = 1",
        "people.alice.qqq: no such setting; there is mobile, union_id, user_id",
    ),
    # Secrets of the wrong type or place.
    (MINIMAL.replace('"t1"', "123456"), "robots.ops.token: expected the robot's access_token, or its whole webhook URL, found a number"),
    (MINIMAL.replace('"t1"', '["t1"]'), "robots.ops.token: expected the robot's access_token, or its whole webhook URL, found a list of 1"),
    (MINIMAL.replace('"t1"', '" "'), "robots.ops.token: expected the robot's access_token, or its whole webhook URL, found an empty text"),
    (MINIMAL.replace('"t1"', '"t\\n1"'), "robots.ops.token: expected the robot's access_token, or its whole webhook URL, found a text of 3 characters"),
    (MINIMAL.replace('token = "t1"', "limit = 3"), "robots.ops.token: expected the robot's access_token, or its whole webhook URL, found nothing"),
    (MINIMAL.replace('"t1"', '"t1"\nsecret = ""'), "robots.ops.secret: expected the robot's SEC… text; leave the key out where it does not sign, found an empty text"),
    (MINIMAL.replace('"t1"', '"t1"\nsecret = 2026-01-01'), "robots.ops.secret: expected the robot's SEC… text; leave the key out where it does not sign, found a date or time"),
    (f'[robots]\nops = "{PLANTED}"\n[destinations.ops]\nrobots = ["ops"]', f"robots.ops: expected a table [robots.ops], found a text of {len(PLANTED)} characters"),
    (f'robots = "{PLANTED}"\n[destinations.ops]\nrobots = ["ops"]', f"robots: expected tables, [robots.NAME] each, found a text of {len(PLANTED)} characters"),
    (MINIMAL.replace('["ops"]', f'["ops", "{PLANTED}"]'), f"destinations.ops.robots[1]: there is no a text of {len(PLANTED)} characters in [robots]; there is ops"),
    (f'{MINIMAL}app = "{PLANTED}"', f"destinations.ops.app: there is no a text of {len(PLANTED)} characters in [apps]; there is none"),
    (MINIMAL.replace('"t1"', f'"t1"\nlimit = "{PLANTED}"'), f"robots.ops.limit: expected a whole number of messages from 1 to 100000, found a text of {len(PLANTED)} characters"),
    # Numbers.
    (MINIMAL.replace('"t1"', '"t1"\nlimit = 0'), "robots.ops.limit: expected a whole number of messages from 1 to 100000, found 0"),
    (MINIMAL.replace('"t1"', '"t1"\nlimit = 2.5'), "robots.ops.limit: expected a whole number of messages from 1 to 100000, found 2.5"),
    (MINIMAL.replace('"t1"', '"t1"\nlimit = true'), "robots.ops.limit: expected a whole number of messages from 1 to 100000, found true"),
    (MINIMAL.replace('"t1"', '"t1"\nwindow_s = 0'), "robots.ops.window_s: expected a number of seconds above 0, found 0"),
    (MINIMAL.replace('"t1"', '"t1"\nwindow_s = inf'), "robots.ops.window_s: expected a number of seconds above 0, found a number"),
    (MINIMAL.replace('"t1"', '"t1"\nwindow_s = nan'), "robots.ops.window_s: expected a number of seconds above 0, found nan"),
    (MINIMAL.replace('"t1"', '"t1"\nwindow_s = "soon"'), 'robots.ops.window_s: expected a number of seconds above 0, found "soon"'),
    (MINIMAL.replace('"t1"', '"t1"\nurgent_reserve = 20'), "robots.ops.urgent_reserve: expected less than limit (20), found 20"),
    (MINIMAL.replace('"t1"', '"t1"\nlimit = {}'), "robots.ops.limit: expected a whole number of messages from 1 to 100000, found a table"),
    (MINIMAL.replace('"t1"', '"t1"\nlimit = 09:30:00'), "robots.ops.limit: expected a whole number of messages from 1 to 100000, found a date or time"),
    (f"{MINIMAL}max_waiting = 0", "destinations.ops.max_waiting: expected a whole number of jobs, at least 1, found 0"),
    # Choices and names.
    (f'{MINIMAL}overflow = "digests"', 'destinations.ops.overflow: expected "wait" or "digest", found "digests"; did you mean digest?'),
    (MINIMAL.replace('["ops"]', '["opps"]'), 'destinations.ops.robots[0]: there is no "opps" in [robots]; did you mean ops?'),
    (MINIMAL.replace('["ops"]', '["ops", "ops"]'), "destinations.ops.robots: expected each only once, found one twice"),
    (MINIMAL.replace('["ops"]', '"ops"'), 'destinations.ops.robots: expected a list of names of [robots], found "ops"'),
    (MINIMAL.replace("[destinations.ops]", '[destinations."o p"]'), "destinations.o p: a name is 1 to 64 letters, digits, dots, dashes and underscores"),
    # Destinations that could not speak.
    ('[robots.ops]\ntoken = "t1"', "destinations: expected at least one [destinations.NAME], found none"),
    ("[destinations.ops]", "destinations.ops: expected robots, or an app, found neither: nothing could speak there"),
    (f'{MINIMAL}conversation = "cid="', "destinations.ops.conversation: expected an app beside it: a webhook robot speaks in its own group only"),
    (f'{MINIMAL}via = "notice"', "destinations.ops.via: expected an app beside it: a webhook robot speaks in its own group only"),
    # The fleet.
    (f"{MINIMAL}[fleet]\nmax_attempt = 1", "fleet.max_attempt: no such setting; did you mean max_attempts?"),
    (f"{MINIMAL}[fleet]\nmax_attempts = 0", "fleet.max_attempts: expected a whole number, at least 1, found 0"),
    (f"{MINIMAL}[fleet]\nread_timeout_s = 13", "fleet.read_timeout_s: expected at most total_timeout_s (12), found 13"),
    (f"{MINIMAL}[fleet]\nbackoff_cap_s = 1", "fleet.backoff_base_s: expected at most backoff_cap_s (1), found 2"),
    (f'{MINIMAL}[fleet]\non_dead = "opps"', 'fleet.on_dead: there is no "opps" in [destinations]; did you mean ops?'),
    (f'{MINIMAL}[fleet]\non_dead_hook = "page"', 'fleet.on_dead_hook: expected a function, as "package.module:function", found "page"'),
    (f"fleet = 3\n{MINIMAL}", "fleet: expected a table [fleet], found a number"),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "problem"), WRONG)
def test_a_mistake_is_named_with_path_expectation_and_finding(refused: Refused, toml: str, problem: str) -> None:
    assert refused(toml)[0] == problem


APP = """
[apps.acme]
app_key = "k"
app_secret = "s"
{app}
[people.alice]
user_id = "u1"
[destinations.team]
app = "acme"
{destination}
"""


@pytest.mark.parametrize(
    ("app", "destination", "problem"),
    [
        ("", 'conversation = "cid="', "destinations.team.conversation: the app's robot needs apps.acme.robot_code, which is not given"),
        ("", 'users = ["alice"]', "destinations.team.users: the app's robot needs apps.acme.robot_code, which is not given"),
        ('robot_code = "r"', 'users = ["alice"]\nvia = "notice"', "destinations.team.via: a work notification needs apps.acme.agent_id, which is not given"),
        ("agent_id = 1", 'conversation = "cid="\nvia = "notice"', "destinations.team.via: expected users beside it: a work notification goes to people, not to a group"),
        ('robot_code = "r"', 'conversation = "cid="\nusers = ["alice"]', "destinations.team: expected conversation or users, found both: make them two destinations"),
        ('robot_code = "r"', "", "destinations.team: expected conversation, users or robots beside the app, found none: nobody would see a message"),
        ('robot_code = "r"', 'users = ["alicia"]', 'destinations.team.users[0]: there is no "alicia" in [people]; did you mean alice?'),
        ('robot_code = "r"', 'users = ["alice"]\ndepartments = [1]', 'destinations.team.departments: expected via = "notice" beside it: only work notifications have that'),
        ('robot_code = "r"', 'users = ["alice"]\nunique = true', 'destinations.team.unique: expected via = "notice" beside it: only work notifications have that'),
        ("agent_id = 1", 'departments = [0]\nvia = "notice"', "destinations.team.departments[0]: expected a list of department ids, whole numbers, found 0"),
        ('robot_code = "r"', 'users = ["alice", "zoe"]\n[people.zoe]', "destinations.team.users[1]: expected a user_id, mobile or union_id in people.zoe, found none"),
        ('robot_code = "r"\ntodo_creator = "zoe"', 'users = ["alice"]\n[people.zoe]', "apps.acme.todo_creator: expected a user_id, mobile or union_id in people.zoe, found none"),
        ('robot_code = "r"\ntodo_creator = "bob"', 'users = ["alice"]', 'apps.acme.todo_creator: there is no "bob" in [people]; there is alice'),
        ('robot_code = "r"\ntodo_url = "ftp://x"', 'users = ["alice"]', "apps.acme.todo_url: expected an address that begins with https://, http:// or dingtalk://, of at most 1024 bytes, found a text of 7 characters"),
        ('robot_code = "r"\ntoken_by = "getoken"', 'users = ["alice"]', 'apps.acme.token_by: expected "oauth2", "gettoken" or "corpid" (key and secret are then a corpid and a corpsecret), found "getoken"; did you mean gettoken?'),
        ('robot_code = "r"\norganisation = "x"', 'users = ["alice"]', 'apps.acme.organisation: there is no "x" in [organisations]; there is none'),
        ('robot_code = "r"', 'users = ["alice"]\n[organisations.acme]\napi_calls = 10\nurgent_reserve = 10', "organisations.acme.urgent_reserve: expected less than api_calls (10), found 10"),
        ("agent_id = 0", 'users = ["alice"]\nvia = "notice"', "apps.acme.agent_id: expected the app's AgentId, a whole number, found 0"),
    ],
)  # fmt: skip
def test_an_app_destination_has_what_its_way_needs(refused: Refused, app: str, destination: str, problem: str) -> None:
    assert refused(APP.format(app=app, destination=destination)) == (problem,)


@pytest.mark.parametrize(
    ("app", "destination"),
    [
        ('robot_code = "r"', 'conversation = "cid="'), ('robot_code = "r"', 'users = ["alice"]'),
        ('agent_id = "7"', 'users = ["alice"]\nvia = "notice"\nunique = true'), ("agent_id = 7", 'departments = [1]\nvia = "notice"'), ("", 'robots = ["ops"]\n[robots.ops]\ntoken = "t"'),
    ],
)  # fmt: skip
def test_an_app_destination_with_what_its_way_needs_is_taken(read: Load, app: str, destination: str) -> None:
    assert read(APP.format(app=app, destination=destination)).destinations["team"].app == "acme"


def test_the_only_organisation_is_everybodys(read: Load) -> None:
    one = MINIMAL + '[organisations.acme]\napi_calls = 5000\n[apps.a]\napp_key = "k"\napp_secret = "s"\n'

    settings = read(one)
    of_two = read(one + "[organisations.other]\n")

    assert (settings.robots["ops"].organisation, settings.apps["a"].organisation) == ("acme", "acme")
    assert (of_two.robots["ops"].organisation, of_two.apps["a"].organisation) == (None, None)


def test_every_problem_is_told_at_once(refused: Refused) -> None:
    problems = refused(
        """
        [robots.ops]
        token = 1
        [robots.dev]
        token = "${MISSING}"
        [destinations.ops]
        robots = ["ops", "devs"]
        [destinations.none]
        [fleet]
        max_attempts = -1
        """,
        {"DINGQUEUE_OAPI_URL": "ftp://x", "DINGQUEUE_BROKER_URL": "amqp://127.0.0.1"},
    )

    assert [problem.split(":")[0] for problem in problems] == [
        "DINGQUEUE_OAPI_URL", "DINGQUEUE_STATE_URL", "robots.dev.token", "robots.ops.token",
        "destinations.ops.robots[1]", "destinations.none", "fleet.max_attempts",
    ]  # fmt: skip


# --- The file and the environment ---------------------------------------------------------------------------------


def test_a_missing_file_is_named_and_how_to_name_another(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.toml"

    with pytest.raises(ConfigurationError) as caught:
        load({"DINGQUEUE_CONFIG": str(missing)})

    (problem,) = caught.value.problems
    assert problem.startswith(f"{missing}: no such file")
    assert "set DINGQUEUE_CONFIG=/path/to/dingqueue.toml" in problem


def test_without_a_name_the_file_is_the_folders_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^dingqueue\.toml: no such file \(looked for /"):
        load({})
    (tmp_path / "dingqueue.toml").write_text(MINIMAL)

    assert load({}).robots["ops"].token == Secret("t1")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[robots.ops]\ntoken = " + PLANTED.encode(), "expected TOML, found a mistake in it: Invalid value (at line 2, column 9)"),
        (b"\xff\xfe[\x00", "expected TOML in UTF-8, found another encoding"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_toml_is_named_with_the_place(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        load({"DINGQUEUE_CONFIG": str(file)})

    assert caught.value.problems == (f"{file}: {says}",)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Is a directory; DINGQUEUE_CONFIG says which file to read"):
        load({"DINGQUEUE_CONFIG": str(tmp_path)})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())

    assert load({"DINGQUEUE_CONFIG": str(file)}).robots


@pytest.mark.parametrize(
    ("environ", "broker", "state"),
    [
        ({}, "redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ({"DINGQUEUE_BROKER_URL": "", "DINGQUEUE_STATE_URL": ""}, "redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ({"DINGQUEUE_BROKER_URL": "rediss://:p%23@r:6380/3"}, "rediss://:p%23@r:6380/3", "rediss://:p%23@r:6380/3"),
        ({"DINGQUEUE_BROKER_URL": "redis://r/1", "DINGQUEUE_STATE_URL": "redis://s/2"}, "redis://r/1", "redis://s/2"),
        ({"DINGQUEUE_BROKER_URL": "sentinel://a,b/main/1"}, "sentinel://a,b/main/1", "sentinel://a,b/main/1"),
        ({"DINGQUEUE_BROKER_URL": "amqp://u:p@mq//", "DINGQUEUE_STATE_URL": "unix:///run/redis.sock?db=1"}, "amqp://u:p@mq//", "unix:///run/redis.sock?db=1"),
    ],
)  # fmt: skip
def test_the_state_is_with_the_broker_where_that_is_redis(
    read: Load, environ: Mapping[str, str], broker: str, state: str
) -> None:
    settings = read(MINIMAL, environ)

    assert (settings.broker_url, settings.state_url) == (broker, state)


def test_the_prefix_comes_from_the_environment(read: Load) -> None:
    assert read(MINIMAL, {"DINGQUEUE_PREFIX": "second:"}).prefix == "second:"


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"DINGQUEUE_PREFIX": "a{b}:"}, "DINGQUEUE_PREFIX: expected a word like dq:, found a text of 5 characters"),
        ({"DINGQUEUE_PREFIX": "two words"}, 'DINGQUEUE_PREFIX: expected a word like dq:, found "two words"'),
        ({"DINGQUEUE_BROKER_URL": f"amqp://u:{PLANTED}@mq"}, "DINGQUEUE_STATE_URL: expected redis://…, since the lanes stand in Redis and the broker is amqp; found nothing"),
        ({"DINGQUEUE_BROKER_URL": f"rediss+x://{PLANTED}"}, "DINGQUEUE_BROKER_URL: expected redis://, rediss://, unix://, sentinel:// or amqp://, found a rediss+x:// URL"),
        ({"DINGQUEUE_BROKER_URL": f"reddis://:{PLANTED}@r"}, "DINGQUEUE_BROKER_URL: expected redis://, rediss://, unix://, sentinel:// or amqp://, found a reddis:// URL"),
        ({"DINGQUEUE_BROKER_URL": f"redis://:p/{PLANTED}@r"}, "DINGQUEUE_BROKER_URL: expected a /, ? or # of the password as %2F, %3F or %23, found it bare"),
        ({"DINGQUEUE_BROKER_URL": f"redis://u{PLANTED}#x:y@r"}, "DINGQUEUE_BROKER_URL: expected a /, ? or # of the password as %2F, %3F or %23, found it bare"),
        ({"DINGQUEUE_BROKER_URL": f"redis://u{PLANTED}?x:y@r"}, "DINGQUEUE_BROKER_URL: expected a /, ? or # of the password as %2F, %3F or %23, found it bare"),
        ({"DINGQUEUE_BROKER_URL": PLANTED}, "DINGQUEUE_BROKER_URL: expected redis://, rediss://, unix://, sentinel:// or amqp://, found no URL (is a / ? or # of a password written as %2F %3F or %23?)"),
        ({"DINGQUEUE_BROKER_URL": "redis://r/one"}, "DINGQUEUE_BROKER_URL: expected a database number after the host, found something else"),
        ({"DINGQUEUE_BROKER_URL": "${NOTHING}"}, "DINGQUEUE_BROKER_URL: expected an environment variable NOTHING, found none"),
        ({"DINGQUEUE_STATE_URL": f"memory://{PLANTED}"}, "DINGQUEUE_STATE_URL: expected redis://, rediss://, unix:// or sentinel://, found a memory:// URL"),
        ({"DINGQUEUE_STATE_URL": "redis://"}, "DINGQUEUE_STATE_URL: expected redis://host:6379/…, found another form (is a / ? or # of a password written as %2F %3F or %23?)"),
        ({"DINGQUEUE_BROKER_URL": f"redis+cluster://:{PLANTED}@r"}, "DINGQUEUE_BROKER_URL: expected redis://, rediss://, unix://, sentinel:// or amqp://, found a redis+cluster:// URL: Celery cannot use a Redis Cluster; take one server, or Sentinel"),
        ({"DINGQUEUE_OAPI_URL": "${NOTHING}"}, "DINGQUEUE_OAPI_URL: expected an environment variable NOTHING, found none"),
        ({"DINGQUEUE_STATE_URL": "${NOTHING}"}, "DINGQUEUE_STATE_URL: expected an environment variable NOTHING, found none"),
        ({"DINGQUEUE_OAPI_URL": "oapi.dingtalk.com"}, "DINGQUEUE_OAPI_URL: expected a URL like https://oapi.dingtalk.com, found no URL (is a / ? or # of a password written as %2F %3F or %23?)"),
        ({"DINGQUEUE_OAPI_URL": "https://"}, "DINGQUEUE_OAPI_URL: expected a URL like https://oapi.dingtalk.com, found a https:// URL"),
        ({"DINGQUEUE_API_URL": f"https://u:{PLANTED}@api"}, "DINGQUEUE_API_URL: expected a URL like https://api.dingtalk.com, found one with a user, a query or a fragment"),
        ({"DINGQUEUE_API_URL": f"https://api/?token={PLANTED}"}, "DINGQUEUE_API_URL: expected a URL like https://api.dingtalk.com, found one with a user, a query or a fragment"),
        ({"DINGQUEUE_API_URL": "https://api:port"}, "DINGQUEUE_API_URL: expected a URL like https://api.dingtalk.com, found no URL (is a / ? or # of a password written as %2F %3F or %23?)"),
    ],
)  # fmt: skip
def test_an_environment_that_leads_nowhere_is_refused_without_its_password(
    refused: Refused, environ: Mapping[str, str], problem: str
) -> None:
    assert refused(MINIMAL, environ) == (problem,)


# --- Files --------------------------------------------------------------------------------------------------------


def test_the_file_store_is_the_states_redis_where_nothing_else_is_said(read: Load) -> None:
    assert read(MINIMAL).files_url is None
    assert read(MINIMAL, {"DINGQUEUE_FILES_URL": ""}).files_url is None


def test_the_file_store_comes_from_the_environment(read: Load, tmp_path: Path) -> None:
    secret = tmp_path / "files-url"
    secret.write_text("redis://:p@files/1\n")

    for written, url in (
        ("redis://files/1", "redis://files/1"),
        ("file:///srv/files", "file:///srv/files"),
        (f"file:{secret}", "redis://:p@files/1"),
        (f"file://{secret}", "redis://:p@files/1"),
        ("s3://${BUCKET}/x", "s3://reports/x"),
    ):
        assert read(MINIMAL, {"DINGQUEUE_FILES_URL": written, "BUCKET": "reports"}).files_url == url


@pytest.mark.parametrize("url", [f"ftps://{PLANTED}", f"redis://h:{PLANTED}/0", f"/srv/{PLANTED}"])
def test_a_wrong_file_store_is_named_and_not_shown(refused: Refused, url: str) -> None:
    [problem] = refused(MINIMAL, {"DINGQUEUE_FILES_URL": url})

    assert problem.startswith("DINGQUEUE_FILES_URL: expected ")


def test_hosts_that_urls_may_name_are_opened_as_they_are_compared(read: Load) -> None:
    settings = read(
        MINIMAL + '[fleet]\nfetch_hosts = ["Files.Corp.Example.", "10.0.0.5:8080", "[fd00::5]:443"]\nzip_files = true\n'
    )

    assert settings.fleet.fetch_hosts == ("files.corp.example", "10.0.0.5:8080", "[fd00::5]:443")
    assert settings.fleet.zip_files is True


@pytest.mark.parametrize(
    "host", ["https://files.example", "*.example", "a b", "files.example:0", "files.example:x", "10.0.0.0/8", ""]
)
def test_what_is_no_host_is_not_opened(refused: Refused, host: str) -> None:
    [problem] = refused(MINIMAL + f'[fleet]\nfetch_hosts = ["{host}"]\n')

    assert problem.startswith(
        'fleet.fetch_hosts[0]: expected a list of hosts, "files.corp.example" or "10.0.0.5:8080", found'
    )
