"""Where shared files may wait: the forms of ``DINGQUEUE_FILES_URL``. Pure; connects to nothing."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dingqueue.addresses import REDIS_SCHEMES, redis_address

REDIS = "redis"
FOLDER = "folder"
_FORMS = "expected redis://…, file:///folder, or a URL of fsspec (s3://bucket/folder)"


def kind_of(url: str) -> str:
    """``redis``, ``folder``, or the ``fsspec`` protocol of a file store's URL.

    Raises:
        ValueError: What the URL should be; the text holds nothing of it, for it may carry a password.
    """
    scheme, found, _ = url.partition("://")
    if not found or not re.fullmatch(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*", scheme):
        raise ValueError(f"{_FORMS}, found another form")
    if scheme in REDIS_SCHEMES:
        redis_address(url)
        return REDIS
    if scheme == "file":
        folder_of(url)
        return FOLDER
    try:
        import fsspec
    except ModuleNotFoundError:
        problem = "expected redis:// or file:///folder; others need more: pip install 'dingqueue[files]'"
        raise ValueError(problem) from None
    if scheme.partition("::")[0] not in fsspec.available_protocols():
        raise ValueError(f"{_FORMS}, found a protocol that fsspec does not know")
    return scheme


def folder_of(url: str) -> Path:
    """The folder of a ``file:///`` URL.

    Raises:
        ValueError: It names none.
    """
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise ValueError("expected a whole path with three slashes, file:///srv/dingqueue-files, found another form")
    return Path(unquote(parts.path))
