"""What the page says of a batch's state, and in which orders its table can be shown."""

from __future__ import annotations

from typing import Literal

from cxrmodels.batch.jobs import State

STATES: dict[State, tuple[str, Literal["red", "orange", "blue", "green"], str]] = {
    State.QUEUED: ("waiting for its turn", "orange", ":material/hourglass:"),
    State.RUNNING: ("reading", "green", ":material/play_arrow:"),
    State.STOPPED: ("stopped", "orange", ":material/pause:"),
    State.INTERRUPTED: ("interrupted", "red", ":material/power_off:"),
    State.FINISHED: ("finished", "blue", ":material/check:"),
    State.FAILED: ("failed", "red", ":material/error:"),
}
"""State -> in words, colour of its badge, icon."""

ACTIVE = (State.QUEUED, State.RUNNING)


def time_left(seconds: float) -> str:
    """A stretch of time, roughly, in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
