"""Strings that both sides must spell alike: task, queue and key names. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from dingqueue.contract import ChangeJob, Feed, Job, Kind, SendJob

DEFAULT_BROKER_URL = "redis://127.0.0.1:6379/0"
DEFAULT_PREFIX = "dq:"
#: What an app's interfaces cannot do, for who asks them to.
RINGS_NOBODY = (
    "an app's robot rings nobody in a group; give the destination a webhook robot (robots = [...]) that speaks there "
    "for such messages"
)
ROBOT_HAS_NO_FEEDS = "an app's robot has no feed cards: send a link, or give the destination a webhook robot"
NOTICES_HAVE_NO_FEEDS = "work notifications have no feed cards: send a link or a card"
_NO_FEEDS = MappingProxyType(
    {
        "group": ("feed", ROBOT_HAS_NO_FEEDS),
        "people": ("feed", ROBOT_HAS_NO_FEEDS),
        "notice": ("feed", NOTICES_HAVE_NO_FEEDS),
    }
)
_RINGS = MappingProxyType({"group": ("mention", RINGS_NOBODY)})
_PREFIX = re.compile(r"[\w.-]{1,64}:?")


def task_name(kind: Kind) -> str:
    """The Celery task that carries out jobs of a kind: ``dingqueue.send``."""
    return f"dingqueue.{kind}"


def queue_name(prefix: str = DEFAULT_PREFIX) -> str:
    """The Celery queue of the fleet that uses this key prefix; two fleets on one broker do not share one."""
    return "dingqueue" if prefix == DEFAULT_PREFIX else f"dingqueue.{prefix.strip(':')}"


def fit_prefix(prefix: str) -> bool:
    """Whether a fleet may use this key prefix: what has braces of its own would scatter the keys of a cluster."""
    return _PREFIX.fullmatch(prefix) is not None


def key_base(prefix: str = DEFAULT_PREFIX) -> str:
    """What every key of the fleet starts with. The ``{hash tag}`` keeps them in one cluster slot."""
    return f"{prefix}{{{prefix.strip(':') or 'dq'}}}:"


def robot_sender(name: str) -> str:
    """The sender behind a webhook robot of the configuration."""
    return f"robot.{name}"


def app_sender(name: str, interface: str) -> str:
    """The sender behind one interface of an app of the configuration: DingTalk counts each by itself."""
    return f"{app_closing(name)}.{interface}"


def app_closing(name: str) -> str:
    """What closes all interfaces of an app at once."""
    return f"app.{name}"


def need_of(job: Job) -> str:
    """What the job's first step takes, so that its lane calls it by the right route at once.

    ``ring`` is a message that only a webhook robot can carry: an app's robot rings nobody, and has no feeds.
    """
    if isinstance(job, SendJob):
        return "ring" if job.mention or isinstance(job.content, Feed) else "send"
    if isinstance(job, ChangeJob):
        return "recall" if job.action in {"recall", "check"} else "todo"
    return job.kind


def barred(job: Job) -> Mapping[str, tuple[str, str]]:
    """Routes by which no attempt could deliver the job: the argument at fault, and why.

    Whom a message to people rings is the fleet's to check: only it knows who gets it.
    """
    if not isinstance(job, SendJob):
        return {}
    if isinstance(job.content, Feed):
        return _NO_FEEDS
    return _RINGS if job.mention else {}
