"""Where Redis is, as a command's options or the environment say it."""

from __future__ import annotations

import os

from dingqueue.servers import Servers, servers
from dingqueue_worker.console import Exit, Stop


def located(broker_url: str | None, state_url: str | None) -> Servers:
    """Where Redis is, as `connection`'s options say it; exit code 2 in words where they say nothing that can be read."""
    # click hands over a variable's value as if it were an option's: a mistake should be named after where it stands.
    given = (
        None if broker_url == os.environ.get("DINGQUEUE_BROKER_URL") else broker_url,
        None if state_url == os.environ.get("DINGQUEUE_STATE_URL") else state_url,
    )
    try:
        return servers(*given, names=("--broker-url", "--state-url"), state_beside=True)
    except ValueError as error:
        raise Stop(Exit.USAGE, str(error)) from error
