"""The files in ops/ and the tools that read them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"

#: Tools that no Python package brings, and who brings them.
_ELSEWHERE = {
    "kubectl": "Kubernetes' client",
    "systemd-analyze": "Debian's package systemd",
    "promtool": "Debian's package prometheus",
    "prometheus": "Debian's package prometheus",
    "redis-server": "Debian's package redis-server",
}


def tool(name: str) -> Path:
    """A program; the test is skipped where it cannot be had from PyPI, and fails where it can."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found:
        return Path(found)
    if name in _ELSEWHERE:
        pytest.skip(f"{name} is not installed; it comes with {_ELSEWHERE[name]}")
    raise AssertionError(f"{name} is not installed: pip install --group ops")


def run(name: str, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """What a tool says, stdout and stderr; an assertion error with it when the exit code is not 0."""
    done = subprocess.run(  # noqa: S603 - a tool and our own files
        [tool(name), *words], env={**os.environ, **(env or {})}, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name} {' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def refused(name: str, *words: str | Path) -> str:
    """What a tool says against a file that is wrong."""
    done = subprocess.run([tool(name), *words], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - as above
    assert done.returncode != 0, f"{name} {' '.join(map(str, words))} found nothing wrong\n{done.stdout}"
    return done.stdout + done.stderr


def compose(*, env_file: Path | None = None, root: Path = ROOT) -> dict[str, Any]:
    """docker-compose.yml as Compose itself reads it: merged, interpolated, checked."""
    words = ["--env-file", str(env_file)] if env_file else []
    done = subprocess.run(  # noqa: S603 - as above
        [tool("docker-compose"), *words, "config", "--format", "json"],
        cwd=root, capture_output=True, text=True, check=False,
        # Interpolation sees the caller's environment: only what a bare machine has.
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make_secrets(folder: Path, **environment: str) -> Path:
    """The secrets as ops/make-secrets writes them."""
    run("sh", OPS / "make-secrets", folder, env=environment)
    return folder
