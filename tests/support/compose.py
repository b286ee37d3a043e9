"""Runs docker-compose.yml without Docker: each service's own command, environment and health check, as plain processes.

What containers give, paths, names and ports of their own, is put in its place by rewriting them; all else is as Compose
itself reads the file. A service whose program is no Python package of ours and not on this machine is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dingqueue_worker import children
from dingqueue_worker.embedded import free_port, program
from support.ops import ROOT, compose, make_secrets

#: What no test here can run.
NEVER = {"grafana"}
_HEALTHY_WITHIN_S = 60.0
_CLI = """#!{python}
import sys, redis
host_port = {port}
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with redis.Redis(port=host_port, username=words.get("--user"), password=words.get("--pass"), protocol=2, lib_name=None, lib_version=None) as client:
    print("PONG" if client.execute_command(sys.argv[-1]) else "")
"""


class Service:
    """One replica of one service."""

    def __init__(self, name: str, spec: Mapping[str, Any], *, folder: Path, paths: Mapping[str, Path]) -> None:
        self.name, self.spec, self.folder = name, spec, folder
        folder.mkdir(parents=True)
        self.paths = {**paths, **{entry.split(":")[0]: folder / "tmpfs" for entry in spec.get("tmpfs", ())}}
        (folder / "tmpfs").mkdir()
        self.child: subprocess.Popen[bytes] | None = None
        said = json.dumps(
            [spec.get("command"), spec.get("environment"), spec.get("ports"), spec["healthcheck"]["test"]]
        )
        numbers = {int(number) for number in re.findall(r"(?<=[:\" ])(\d{4,5})\b", said)}
        self.ports = {number: free_port() for number in numbers}

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def grace_s(self) -> float:
        return float(str(self.spec.get("stop_grace_period", "10s")).removesuffix("m0s").removesuffix("s")) * (
            60 if str(self.spec.get("stop_grace_period", "")).endswith("m0s") else 1
        )


class ComposeAsProcesses:
    """The system of docker-compose.yml; ends with the test.

    Args:
        folder: An empty one: stands for the project's and for every volume.
        env_file: Of the project, as given to ``docker compose --env-file``.
    """

    def __init__(self, folder: Path, *, env_file: str) -> None:
        self._folder = folder
        project = folder / "project"
        shutil.copytree(ROOT / "ops", project / "ops", ignore=shutil.ignore_patterns("secrets"))
        shutil.copy(ROOT / "docker-compose.yml", project)
        self._redis_port = free_port()
        at = f"127.0.0.1:{self._redis_port}"
        self.secrets = make_secrets(project / "ops/secrets", REDIS_AT=at, REDIS_FROM_OUTSIDE=at)
        self._spec = compose(env_file=project / env_file, root=project)
        self._entrypoint = json.loads(
            re.findall(r"^ENTRYPOINT (\[.*\])$", (ROOT / "ops/Dockerfile").read_text(), re.MULTILINE)[-1]
        )
        self.services: list[Service] = []
        for name, spec in self._spec["services"].items():
            replicas = spec.get("deploy", {}).get("replicas", 1)
            if name in NEVER or (name == "prometheus" and not shutil.which("prometheus")):
                continue
            for number in range(replicas):
                self.services.append(self._service(name, spec, f"{name}-{number + 1}"))
        (redis,) = self.of("redis")
        redis.ports[6379] = self._redis_port
        self._bin = folder / "bin"
        self._bin.mkdir()
        cli = self._bin / "valkey-cli"
        cli.write_text(_CLI.format(python=sys.executable, port=self._redis_port))
        cli.chmod(0o755)

    def of(self, name: str) -> list[Service]:
        """The replicas of a service."""
        return [one for one in self.services if one.name == name]

    def _service(self, name: str, spec: Mapping[str, Any], label: str) -> Service:
        paths: dict[str, Path] = {}
        for kind in ("secrets", "configs"):
            for entry in spec.get(kind, ()):
                target = entry.get("target") or entry["source"]
                target = target if target.startswith("/") else f"/run/secrets/{target}"
                paths[target] = Path(self._spec[kind][entry["source"]]["file"])
        for volume in spec.get("volumes", ()):
            if volume["type"] == "bind":
                paths[volume["target"]] = Path(volume["source"])
            else:
                paths[volume["target"]] = self._folder / "volumes" / volume["source"]
                paths[volume["target"]].mkdir(parents=True, exist_ok=True)
        return Service(name, spec, folder=self._folder / "services" / label, paths=paths)

    def translate(self, text: str, service: Service) -> str:
        """A container's paths, names and ports as this machine's."""
        # In one pass: what was put in is not looked at again.
        longest_first = "|".join(map(re.escape, sorted(service.paths, key=len, reverse=True)))
        if longest_first:
            text = re.sub(rf"(?<![\w/.])({longest_first})(?![\w-])", lambda found: str(service.paths[found[1]]), text)
        for other in self.services:
            for port, free in other.ports.items():
                text = re.sub(rf"(?<![\w.-]){other.name}:{port}\b", f"127.0.0.1:{free}", text)
        for port, free in service.ports.items():
            text = re.sub(rf"(?<=[: ]){port}\b|^{port}$", str(free), text)
        return text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - to be rid of it

    def _files(self, service: Service) -> None:
        """The service's own copies of what it is configured by."""
        for path, here in list(service.paths.items()):
            if here.is_file() and here.suffix in {".conf", ".toml", ".yml", ".acl"}:
                copy = service.folder / here.name
                copy.write_text(self.translate(here.read_text(), service))
                service.paths[path] = copy
            elif here.is_dir() and any(here.glob("*.yml")):
                copy = service.folder / here.name
                shutil.copytree(here, copy)
                for file in copy.glob("*.yml"):
                    file.write_text(self.translate(file.read_text(), service))
                service.paths[path] = copy

    def _command(self, service: Service) -> list[str]:
        words = list(service.spec["command"])
        if service.spec["image"].startswith("dingqueue:"):
            words = [*self._entrypoint, *words]
        elif service.name == "prometheus":
            words = ["prometheus", *words]
        return self._programs([self.translate(word, service) for word in words])

    @staticmethod
    def _programs(words: Sequence[str]) -> list[str]:
        beside = Path(sys.executable).parent
        known = {"python": sys.executable, "dingqueue": str(beside / "dingqueue"), "valkey-server": program()}
        return [known.get(words[0], words[0]), *words[1:]]

    def environment(self, service: Service) -> dict[str, str]:
        """What the container would see, and nothing of ours but the way to the programs."""
        given = {name: self.translate(value, service) for name, value in service.spec.get("environment", {}).items()}
        return {"PATH": f"{self._bin}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1", "HOME": "/nonexistent", **given}

    def start(self) -> Self:
        """Start everything, each when what it waits for is healthy; the first that does not get healthy is an error."""
        left = list(self.services)
        while left:
            now = [one for one in left if not {*one.spec.get("depends_on", ())} & {other.name for other in left}]
            assert now, f"they wait for each other: {[one.name for one in left]}"
            for service in now:
                self._files(service)
                with (service.folder / "log").open("wb") as log:
                    # `env -i`: children.start adds to our environment, and a container has its own alone.
                    variables = [f"{name}={value}" for name, value in self.environment(service).items()]
                    service.child = children.start(
                        ["env", "-i", *variables, *self._command(service)], output=log, cwd=service.folder
                    )
            for service in now:
                self.wait_until_healthy(service)
                left.remove(service)
        return self

    def wait_until_healthy(self, service: Service, *, within_s: float = _HEALTHY_WITHIN_S) -> None:
        """Ask the service's own health check until it says yes."""
        pause, deadline_s, said = threading.Event(), time.monotonic() + within_s, ""
        while True:
            assert service.child, service.name
            assert service.child.poll() is None, f"{service.name} ended:\n{service.log()[-3000:]}"
            done = self.check(service)
            said = done.stdout + done.stderr
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline_s, f"{service.name} is not healthy: {said}\n{service.log()[-3000:]}"
            pause.wait(0.2)

    def check(self, service: Service) -> subprocess.CompletedProcess[str]:
        """The service's health check, once."""
        kind, *words = service.spec["healthcheck"]["test"]
        words = [self.translate(word, service).replace("$$", "$") for word in words]
        command = ["sh", "-c", words[0]] if kind == "CMD-SHELL" else self._programs(words)
        if command[0] == "wget":  # busybox's, in their images
            command = [sys.executable, "-m", "dingqueue_worker.health", command[-1]]
        return self._run(command, service)

    def exec(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """``docker compose exec <name> <words>``."""
        return self._run(self._programs(words), self.of(name)[0])

    def _run(self, command: Sequence[str], service: Service) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - the file's own commands
            command, env=self.environment(service), capture_output=True, text=True, timeout=60, check=False,
            cwd=service.folder,
        )  # fmt: skip

    def stop(self) -> dict[str, int]:
        """SIGTERM for all, those that others wait for last; exit code by service. -9 is one that would not end."""
        codes: dict[str, int] = {}
        order = sorted(self.services, key=lambda one: one.name in {"redis", "sandbox"})
        for service in order:
            if service.child:
                code = children.stop(service.child, grace_s=service.grace_s)
                codes[service.name] = max(codes.get(service.name, code), code, key=abs)
        return codes

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
