"""Browser tests need Debian's chromium and chromium-driver; where they are absent, those tests are not asked for."""

from __future__ import annotations

import shutil

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    away = [item for item in items if item.get_closest_marker("browser")]
    if away:
        config.hook.pytest_deselected(items=away)
        items[:] = [item for item in items if item not in away]
