"""The ``dingqueue`` command, also as ``python -m dingqueue_worker``."""

from __future__ import annotations

import sys

from dingqueue_worker.loading import loading


def run() -> None:
    """Run it. Loading takes a third of a second, in which a Ctrl-C should not show a traceback either."""
    try:
        with loading():
            from dingqueue_worker.cli import main
    except KeyboardInterrupt:
        sys.exit(130)
    main(prog_name="dingqueue")


if __name__ == "__main__":
    run()
