"""Ids of people that were looked up before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from dingqueue_worker.store.door import Door, ask


class People(Door):
    """Who is who, as DingTalk said."""

    def known_ids(self, app: str, asked: Sequence[tuple[str, str, str]]) -> list[str | None]:
        """Ids of people that were looked up before: for each (what is wanted, by what kind of id, its value)."""
        if not asked:
            return []
        keys = [self._id_key(app, *one) for one in asked]
        found: Any = ask(lambda: self._client.mget(keys))
        return list(found)

    def keep_id(self, app: str, wanted: str, kind: str, value: str, found: str, *, keep_s: float) -> None:
        """Keep what a person was found to be."""
        key = self._id_key(app, wanted, kind, value)
        ask(lambda: self._client.set(key, found, px=round(keep_s * 1000)))

    def forget_ids(self, app: str, asked: Sequence[tuple[str, str, str]]) -> None:
        """Look these up again when they are needed."""
        keys = [self._id_key(app, *one) for one in asked]
        if keys:
            ask(lambda: self._client.delete(*keys))

    def _id_key(self, app: str, wanted: str, kind: str, value: str) -> str:
        # A mobile is nobody's business who looks at the keys.
        digest = hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()[:32]
        return f"{self._base}person:{app}:{wanted}:{digest}"
