"""Processes that take turns at something."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cxrmodels.files import Lock

_LOOK = 0.2


class Turn:
    """A process' turn at something that one does at a time.

    It is a lock held by whoever is at it: one that is killed frees it. Everybody waits for themselves, nobody hands out
    turns.
    """

    def __init__(self, path: Path, others_first: Callable[[], bool]) -> None:
        """`path`: the lock's file. `others_first`: whether somebody else who waits goes before."""
        self._path, self._others_first = path, others_first
        self._lock: Lock | None = None

    def enter(self, give_up: Callable[[], bool]) -> bool:
        """Wait for it. False, and without it, once `give_up`, asked five times a second, says so."""
        while not give_up():
            if not self._others_first():
                self._lock = Lock.take(self._path)
                if self._lock is not None:
                    return True
            time.sleep(_LOOK)
        return False

    def leave(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
