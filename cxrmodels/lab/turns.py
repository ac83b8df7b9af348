"""One training at a time, in the order in which the runs were created."""

from __future__ import annotations

from dataclasses import dataclass

from cxrmodels.lab.store import Run, State, runs
from cxrmodels.turns import Turn

_DEVICE_FILE = "device.lock"


@dataclass(slots=True)
class Ending:
    """Why a worker is to end; None while it is not. Signal handlers and commands set it."""

    reason: str | None = None


class Device(Turn):
    """A run's turn on the device that trains. A paused run is off the device and, when it goes on, before all runs
    that were created after it."""

    def __init__(self, run: Run) -> None:
        def others_first() -> bool:
            return any(one.state() is State.QUEUED for one in runs() if one.id < run.id)

        super().__init__(run.folder.parent / _DEVICE_FILE, others_first)
