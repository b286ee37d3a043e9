"""Log lines: one event each, a constant message with fields. No secret and no message text is ever a field."""

from __future__ import annotations

import logging
from typing import Any

LOGGER = logging.getLogger("dingqueue.worker")


def event(message: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event: the message, then its fields as ``name=value``; also as ``extra`` for structured handlers."""
    if LOGGER.isEnabledFor(level):
        said = " ".join(f"{name}={_shown(value)}" for name, value in fields.items() if value not in (None, ""))
        LOGGER.log(level, "%s%s", message, f"  {said}" if said else "", extra={"event": message, **fields})


def _shown(value: Any) -> str:
    text = str(value)
    return f'"{text}"' if " " in text else text
