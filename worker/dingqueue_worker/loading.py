"""How a program of ours is loaded. Knows nothing of what is."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Look for no garbage while code is loaded, nor ever again in what was.

    Code stays as long as its process. To look through all of it again and again while it grows takes a tenth of a
    worker's start; afterwards, each full look would go through it once more.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
