"""How the fleet's Celery app is put together."""

from __future__ import annotations

import pytest

from dingqueue_worker.app import create_app
from dingqueue_worker.settings import Settings


def test_another_applications_broker_in_the_environment_does_not_divert_the_fleet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://theirs:6379/5")
    app = create_app(Settings(broker_url="redis://ours:6379/0", state_url="redis://ours:6379/0"))

    assert app.connection_for_read().hostname == "ours"
    assert app.connection_for_write().hostname == "ours"
