"""Child processes that never outlive us. Knows nothing of what they run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1

#: Where the kernel has no death signal: a watchdog that holds our pipe, and ends the child when the pipe does.
_WATCHDOG = """
import os, signal, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda n, _: child.send_signal(n))
def watch():
    sys.stdin.buffer.read()
    child.kill()
threading.Thread(target=watch, daemon=True).start()
sys.exit(child.wait())
"""


def start(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: IO[Any] | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command whose life ends with ours, even when we are killed with -9.

    Args:
        command: Program and arguments.
        env: Variables beside, or instead of, our own.
        cwd: Where it runs.
        output: File for stdout and stderr together; None inherits ours.
    """
    words = [str(word) for word in command]
    options: dict[str, Any] = {
        "env": {**os.environ, **env} if env else None,
        "cwd": cwd,
        "stdout": output,
        "stderr": subprocess.STDOUT if output is not None else None,
        # A terminal's Ctrl-C goes to us alone; we end our children in order.
        "start_new_session": True,
    }
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        parent = os.getpid()

        def die_with_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

        return subprocess.Popen(words, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, **options)  # noqa: S603
    return subprocess.Popen([sys.executable, "-c", _WATCHDOG, *words], stdin=subprocess.PIPE, **options)  # noqa: S603


def stop(child: subprocess.Popen[bytes], *, grace_s: float = 10.0) -> int:
    """End a child: SIGTERM, then SIGKILL after `grace_s`. Returns its exit code."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGCONT)
            child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    code = child.wait()
    if child.stdin:
        child.stdin.close()
    return code
