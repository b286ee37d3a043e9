"""What `import dingqueue` brings into an application's process."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import dingqueue


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh process has after running the code."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_a_producer_loads_neither_requests_nor_the_fleet() -> None:
    loaded = loaded_by("import dingqueue\ndingqueue.Client().close()\ndingqueue.send_job('ops', 'x')")

    assert "celery" in loaded
    roots = {name.split(".")[0] for name in loaded}
    assert not roots & {"requests", "dingqueue_worker", "pydantic", "flower", "starlette", "rich"}


def test_jobs_can_be_built_without_celery_and_redis() -> None:
    roots = {
        name.split(".")[0] for name in loaded_by("import dingqueue\ndingqueue.send_job('ops', 'x')\ndingqueue.Status")
    }

    assert not roots & {"celery", "kombu", "redis"}


def test_every_public_name_is_there() -> None:
    for name in dingqueue.__all__:
        assert getattr(dingqueue, name) is not None
        assert name in dir(dingqueue)


def test_public_names_are_the_same_objects_as_in_their_modules() -> None:
    for module in ("arguments", "client", "contract", "errors", "jobs", "lanes"):
        home = importlib.import_module(f"dingqueue.{module}")
        for name in dingqueue.__all__:
            if hasattr(home, name):
                assert getattr(home, name) is getattr(dingqueue, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'sned_job'"):
        dingqueue.sned_job  # type: ignore[attr-defined]  # noqa: B018 - the mistake that is meant
