"""An organisation with an app, a robot and people: as the fleet's configuration tells it, and the same in a sandbox."""

from __future__ import annotations

from typing import Any

from dingqueue_worker.sandbox.client import App, Space

SECRET = "planted-secret-of-acme"
#: A robot's messages a minute, more than any test sends: what holds is the app's own limit.
LIMIT = 10_000
#: Its last table is ``[fleet]``: a test adds lines of its own.
CONFIG = f"""
[robots.ops]
token = "token-ops"
limit = {LIMIT}
[apps.acme]
app_key = "key-acme"
app_secret = "{SECRET}"
agent_id = 7
robot_code = "code-acme"
todo_url = "https://example.com/works"
[apps.wrong]
app_key = "key-wrong"
app_secret = "planted-but-wrong"
robot_code = "code-wrong"
[destinations.team]
app = "acme"
conversation = "cidTeam"
[destinations.project]
app = "acme"
conversation = "cidProject"
robots = ["ops"]
[destinations.staff]
app = "acme"
users = ["alice", "bob"]
[destinations.notices]
app = "acme"
users = ["alice", "bob", "carol"]
via = "notice"
[destinations.shut]
app = "wrong"
conversation = "cidShut"
[destinations.ops]
robots = ["ops"]
[people.alice]
user_id = "u-alice"
[people.bob]
mobile = "13800000002"
[people.carol]
user_id = "u-carol"
[fleet]
backoff_base_s = 0.2
backoff_cap_s = 2
on_dead = "ops"
"""


def furnish(space: Space, **app: Any) -> App:
    """Put it into a sandbox; `app` are limits of the app's own."""
    space.robot("token-ops", name="ops", limit=LIMIT)
    space.person("u-alice", union_id="union-alice")
    space.person("u-bob", union_id="union-bob", mobile="13800000002")
    space.person("u-carol", union_id="union-carol")
    return space.app("key-acme", SECRET, name="acme", agent_id=7, robot_code="code-acme", **app)
