"""One training at a time, in the order in which the runs were created."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cxrmodels.lab._files import Lock
from cxrmodels.lab.store import Run, State, runs

_DEVICE_FILE = "device.lock"
_LOOK = 0.2


@dataclass(slots=True)
class Ending:
    """Why a worker is to end; None while it is not. Signal handlers and commands set it."""

    reason: str | None = None


class Device:
    """A run's turn on the device that trains.

    The device is a lock held by a worker: one that is killed frees it. Every worker waits for itself, nobody hands
    out turns; a paused run is off the device and, when it goes on, before all runs that were created after it.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._path = run, run.folder.parent / _DEVICE_FILE
        self._lock: Lock | None = None

    def enter(self, give_up: Callable[[], bool]) -> bool:
        """Wait for the device. False, and without it, once `give_up`, asked five times a second, says so."""
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

    def _others_first(self) -> bool:
        return any(run.state() is State.QUEUED for run in runs() if run.id < self._run.id)
