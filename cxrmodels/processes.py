"""Processes that outlive whoever launched them, and how much they count beside others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cxrmodels

_HOME = Path(cxrmodels.__file__).resolve().parent.parent
AWAY = 10
"""Niceness of what is done behind somebody's back: whoever clicks meanwhile is to be answered at once."""


def launch(module: str, arguments: Sequence[str], *, keep: Sequence[int], log: int) -> subprocess.Popen[bytes]:
    """Run a module of this program in a process of its own, which leads a session.

    Args:
        keep: open files that it gets under the same numbers.
        log: open file that takes what it prints, or `subprocess.DEVNULL`.
    """
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=keep,
        start_new_session=True,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """This process' own; a server may have been started in the program's folder without installing it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_HOME), os.environ.get("PYTHONPATH"))))}


def weigh(process: int, niceness: int) -> None:
    """Set the niceness of a process' session, which Linux weighs against others by a number of its own.

    Unlike that of a process, it can be taken back. Elsewhere there is no such thing, and nothing happens.

    Args:
        process: its number. It leads a session if it was launched here; nothing happens if it does not.
        niceness: 0 to 19.
    """
    with suppress(OSError):
        if os.getsid(process) == process:
            Path(f"/proc/{process}/autogroup").write_text(str(niceness), encoding="ascii")


def step_back() -> None:
    """Have the calling thread count for less beside the others, where threads can (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), AWAY)
