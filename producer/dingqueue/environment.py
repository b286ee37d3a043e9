"""Reads what both sides take from the environment. Standard library only."""

from __future__ import annotations

from pathlib import Path

_MOST_BYTES = 64 * 1024


def resolved(text: str) -> str:
    """The text itself; or what stands in the file, when it says ``file:PATH`` (a mounted secret).

    Raises:
        ValueError: The file cannot be read; the text names it and holds nothing of its content.
    """
    if not text.startswith("file:"):
        return text
    path = Path(text.removeprefix("file:").removeprefix("//"))
    try:
        with path.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"expected a short text in {path}, found more than {_MOST_BYTES} bytes")
        return content.decode("utf-8-sig").strip()
    except OSError as error:
        raise ValueError(f"expected a readable file {path}, found: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"expected a text in {path}, found bytes that are no UTF-8") from None


def resolved_files_url(text: str) -> str:
    """As ``resolved``, where ``file:///…`` may also be a folder: only what is a file is read.

    Raises:
        ValueError: As ``resolved``.
    """
    return resolved(text) if not text.startswith("file:///") or Path(text.removeprefix("file://")).is_file() else text
