"""What a test measured, shown when all tests are over, whichever process ran it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Figure: TypeAlias = Callable[[str], None]
NAME = "figure"
