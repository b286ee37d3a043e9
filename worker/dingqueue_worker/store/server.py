"""What kind of server it is, and whether jobs may be entrusted to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dingqueue_worker.store.door import Door, ask


class UnfitServer(Exception):
    """This Redis would lose jobs or cannot run the scripts; the text says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What matters about the server: ``name`` is Redis or Valkey, ``policy`` its ``maxmemory-policy``."""

    name: str
    version: str
    policy: str
    append_only: bool
    #: A replica takes no jobs, and it may be promoted at any time.
    replica: bool = False
    #: A Sentinel keeps nothing.
    sentinel: bool = False
    used_bytes: int = 0
    #: 0 is without a limit.
    most_bytes: int = 0

    def outdated(self) -> str:
        """Why it cannot run the scripts; empty when it can."""
        oldest = (7, 2) if self.name == "Valkey" else (6, 2)
        if tuple(int(part) for part in self.version.split(".")[:2]) < oldest:
            return f"{self.name} {self.version} is too old: {self.name} {oldest[0]}.{oldest[1]} or newer is needed"
        return ""

    def problem(self) -> str:
        """Why no job may be entrusted to it; empty when it is fit."""
        if self.sentinel:
            return "this is a Sentinel, which keeps no jobs: its address is sentinel://host:26379/name/0"
        if outdated := self.outdated():
            return outdated
        if self.policy != "noeviction":
            return (
                f"{self.name} may evict jobs (maxmemory-policy {self.policy}): "
                "set maxmemory-policy noeviction, or give dingqueue a server of its own"
            )
        return ""


class Server(Door):
    """The server itself."""

    def server_facts(self) -> ServerFacts:
        """What the server says about itself (``INFO``, which managed servers allow too)."""
        facts: Mapping[str, Any] = ask(lambda: [self._client.info()])[0]
        return ServerFacts(
            name="Valkey" if "valkey_version" in facts else "Redis",
            version=str(facts.get("valkey_version") or facts["redis_version"]),
            policy=str(facts.get("maxmemory_policy", "noeviction")),
            append_only=bool(facts.get("aof_enabled")),
            replica=facts.get("role") == "slave",
            sentinel="sentinel" in (facts.get("redis_mode"), facts.get("server_mode")),
            used_bytes=int(facts.get("used_memory", 0)),
            most_bytes=int(facts.get("maxmemory", 0)),
        )

    def require_fit_server(self) -> ServerFacts:
        """The server's facts.

        Raises:
            UnfitServer: It would lose jobs, or cannot run the scripts.
            StoreUnavailable: It did not answer.
        """
        facts = self.server_facts()
        if problem := facts.problem():
            raise UnfitServer(problem)
        return facts
