"""What happens in a run, appended to its `events.jsonl`: one line an event, never changed once it is written.

A line is `{"event": "batch", "generation": 0, "time": 1700000000.0, ...}`, the event's fields behind. JSON as Python
writes it: a loss that is no number stands there as NaN or Infinity.

**After a kill.** Each launch of a worker is a generation: 0, 1, ... A worker that goes on from a checkpoint does the
steps after it again and writes them again, with its own generation. Nothing is taken away: of two events about the same
step or epoch the later line counts, and as a training repeats itself bit for bit the later one says the same. So the
curve after a kill is that of a run that was never killed, and no point that was on screen ever leaves it. `history`
reads events this way. The only bytes ever removed are those of a last line without its end, which no reader has taken.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

EVENTS_FILE = "events.jsonl"
DISK_FULL = "The disk with the runs is full. Make room, then resume the run."

_BLOCK = 65_536
_INTERVAL = 0.05
"""Seconds between two lines of batches: twenty a second, which is more than any page draws."""


class EventsError(ValueError):
    """A line of an events file is not one; the message says which."""


@dataclass(frozen=True, slots=True)
class Queued:
    """The worker lives and waits for the device."""


@dataclass(frozen=True, slots=True)
class Started:
    """The worker has the device and makes films and network."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Films and network are there. `device` is what Keras runs on, `pinned` the ids of the films followed."""

    device: str
    backend: str
    parameters: int
    training_films: int
    validation_films: int
    steps_per_epoch: int
    steps: int
    feature_layer: str
    pinned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Steps `first`, `first + 1`, ... (from 1), one value each: several of them when steps are fast.

    `losses` are cross-entropies in nats, `accuracies` 0-1, both of the batch as it was learnt from (augmented, with
    dropout). `seconds` all these steps took; `learning_rate` of the last one.
    """

    first: int
    epoch: int
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    seconds: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """Epoch `epoch` (from 1) ended with step `step`.

    Training figures are means over its batches, validation figures over the validation films. `confusion` counts films
    by class (rows) and answer (columns); `sensitivity` and `specificity` are each class's, against the rest, NaN where
    the films do not allow it. `films_per_s` while learning, `seconds` with the validation; `memory_mb` the most the
    worker ever had.
    """

    epoch: int
    step: int
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    sensitivity: tuple[float, ...]
    specificity: tuple[float, ...]
    films_per_s: float
    seconds: float
    memory_mb: float


@dataclass(frozen=True, slots=True)
class PinnedFilms:
    """Probabilities (a row a pinned film) after an epoch; `file` has their heat maps."""

    epoch: int
    probabilities: tuple[tuple[float, ...], ...]
    file: str


@dataclass(frozen=True, slots=True)
class Filters:
    """`file` has the kernels of the first convolution after an epoch."""

    epoch: int
    file: str


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Validation films called wrongly after an epoch, the surest first, at most 20 a cell of the matrix.

    `true` and `called` are class positions, `probabilities` those of the class called.
    """

    epoch: int
    film_ids: tuple[str, ...]
    true: tuple[int, ...]
    called: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Obeyed:
    """Command `command` of `control.json` was carried out before step `step` + 1."""

    command: int
    action: str
    step: int


@dataclass(frozen=True, slots=True)
class Changed:
    """From step `step` + 1 on, `what` (`learning_rate`) is `value`, which the schedule goes on from."""

    what: str
    value: float
    step: int


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing is learnt until a command; the state after `step` is kept."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """Learning goes on after `step`: after a pause, or in a later generation from a checkpoint."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `step` is on disk: a kill from here on costs no more than what comes after it."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Ended before its time, with a report unless it had not begun to learn. `reason` in words."""

    reason: str
    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Finished:
    """All epochs are done and the report is written."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Ended by an error: `message` in one line, all of it in the run's log."""

    message: str


Event = (
    Queued
    | Started
    | Prepared
    | Batch
    | EpochEnd
    | PinnedFilms
    | Filters
    | Mistakes
    | Obeyed
    | Changed
    | Paused
    | Resumed
    | Checkpoint
    | Stopped
    | Finished
    | Failed
)


def _word(kind: type[Event]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


_KINDS: dict[str, type[Event]] = {_word(kind): kind for kind in Event.__args__}


@dataclass(frozen=True, slots=True)
class Logged:
    """An event, the worker's launch that wrote it (0, 1, ...) and when, in seconds since 1970."""

    event: Event
    generation: int
    time: float


def _encode(logged: Logged) -> bytes:
    head = {"event": _word(type(logged.event)), "generation": logged.generation, "time": round(logged.time, 3)}
    return json.dumps({**head, **asdict(logged.event)}, separators=(",", ":")).encode() + b"\n"


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _decode(line: bytes) -> Logged:
    try:
        plain = json.loads(line)
        kind = _KINDS[plain["event"]]
        event = kind(**{one.name: _frozen(plain[one.name]) for one in fields(kind)})
        return Logged(event, plain["generation"], plain["time"])
    except (ValueError, KeyError, TypeError) as error:
        raise EventsError(
            f"An events file has the line {line[:80]!r}, which is no event ({type(error).__name__}). It was changed, "
            "or written by another version of this program; delete the run."
        ) from error


class EventReader:
    """Reads an events file as it grows. Any number of readers may read the same file."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read(self) -> list[Logged]:
        """The events that were added since the last call; none while there is no file.

        Raises:
            EventsError: a line that is whole is no event.
        """
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                added = stream.read()
        except FileNotFoundError:
            return []
        # What comes after the last line end is being written, or was when the worker was killed.
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [_decode(line) for line in whole.splitlines()]


def read_backwards(path: Path) -> Iterator[Logged]:
    """The events from the last one on, read from the end of the file only as far as they are asked for.

    Raises:
        EventsError: as in `EventReader.read`.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    with stream:
        at = stream.seek(0, os.SEEK_END)
        rest = b""
        ended = False
        while at:
            size = min(_BLOCK, at)
            at -= size
            stream.seek(at)
            lines = (stream.read(size) + rest).split(b"\n")
            rest = lines.pop(0)
            if not ended and lines:
                # Behind the last line end: nothing, or a line that was never finished.
                lines.pop()
                ended = True
            for line in reversed(lines):
                yield _decode(line)
        if ended:
            yield _decode(rest)


class EventWriter:
    """Appends events, one `write` a line, so that no reader sees half of one and a kill tears at most the last.

    For the one worker that holds the run's lock. A last line without end is cut off.

    Attributes:
        generation: one more than that of the last event.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        written = path.read_bytes()
        os.ftruncate(self._file, written.rfind(b"\n") + 1)
        self.generation = next((logged.generation + 1 for logged in read_backwards(path)), 0)
        self._pending: list[tuple[float, float]] = []
        self._first, self._epoch, self._seconds, self._rate = 0, 0, 0.0, 0.0
        self._flushed = -1.0

    def write(self, event: Event) -> None:
        """Append an event, after the batches that wait.

        Raises:
            OSError: the disk is full or gone. The file is left without half a line.
        """
        self.flush()
        self._append(event)

    def batch(self, step: int, epoch: int, loss: float, accuracy: float, seconds: float, rate: float) -> None:
        """Tell of a step. Steps that are faster than twenty a second share lines; none is left out."""
        if not self._pending:
            self._first, self._seconds = step, 0.0
        self._pending.append((loss, accuracy))
        self._epoch, self._rate = epoch, rate
        self._seconds += seconds
        # The next step will take as long as this one: whoever waits for it would be late.
        if self._clock() + seconds - self._flushed >= _INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Write the batches that wait."""
        if self._pending:
            losses, accuracies = zip(*self._pending, strict=True)
            self._pending = []
            self._flushed = self._clock()
            self._append(
                Batch(self._first, self._epoch, losses, accuracies, round(self._seconds, 4), self._rate),
            )

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        self.flush()
        os.fsync(self._file)

    def close(self) -> None:
        self.flush()
        os.close(self._file)

    def _append(self, event: Event) -> None:
        line = _encode(Logged(event, self.generation, time.time()))
        written = os.write(self._file, line)
        if written < len(line):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, DISK_FULL)
