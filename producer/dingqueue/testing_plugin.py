"""The pytest plugin: the fixture ``ding_outbox``. Loading it switches nothing and imports nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dingqueue.testing import Outbox


@pytest.fixture
def ding_outbox() -> Iterator[Outbox]:
    """The jobs that the application enqueues during this test; none leaves the process."""
    # Here, not above: pytest loads plugins in every run of whoever has dingqueue installed.
    from dingqueue.testing import outbox

    with outbox() as box:
        yield box
