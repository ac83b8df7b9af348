"""The line in front of the models: bounded, and fair between those who stand in it.

Everybody has a row of their own; the rows take turns. A turn is all that waits for one film, since a film is of use
only when every network has answered, or one piece of long work. What is asked for as soon as those answers are there,
such as the heat maps, belongs to the same turn: films that take turns by halves are all done late. Whoever asks for two
hundred films at once is served between the others, and not before them. The program's own work waits for everybody.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from cxrmodels.zoo import ModelError

_FOLLOWS_SECONDS = 0.5
"""What is asked of a film so soon after its turn is still part of that: a page asks by itself, nobody has clicked."""
_TURN_SECONDS = 1.0
"""A turn that has taken so long gets nothing more, or one viewer could keep it for good."""
_SMOOTHING = 0.2
"""How much the latest turn counts in the expected length of one."""


class LineFullError(ModelError):
    """As many films wait as may wait. `retry_after`: whole seconds after which there should be room."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        wait = "a second" if retry_after == 1 else f"{retry_after} seconds"
        super().__init__(
            f"The program is busy: {waiting} films wait for the networks already, and no more are taken. "
            f"Try again in about {wait}."
        )
        self.retry_after = retry_after


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else last}"


@dataclass(frozen=True, slots=True)
class Task:
    """A call to make when its turn has come, and what its caller waits on."""

    work: Callable[[], Any]
    answer: Future[Any] = field(default_factory=Future)

    def run(self) -> None:
        """Make the call, unless it was cancelled meanwhile."""
        if not self.answer.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as problem:  # Whatever it is, it belongs to whoever asked; the line goes on.
            self.answer.set_exception(problem)
        else:
            self.answer.set_result(result)


@dataclass(slots=True)
class _Turn:
    viewer: str | None
    about: Hashable
    counts: bool
    tasks: deque[Task] = field(default_factory=deque)
    seconds: float = 0.0


class FairLine:
    """Tasks in the order in which they are to be done. Safe to use from several threads.

    Args:
        most: turns that may wait at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: OrderedDict[str | None, deque[_Turn]] = OrderedDict()  # Whose turn is next comes first.
        self._now: _Turn | None = None
        # For a moment after a film's turn: when it ended, and how long it was.
        self._ended: dict[tuple[str | None, Hashable], tuple[float, float]] = {}
        self._began, self._seconds, self._served = 0.0, 0.1, -math.inf
        self._guard = threading.Lock()

    def put(self, viewer: str | None, about: Hashable, task: Task, *, counts: bool = True) -> None:
        """Add a task to the turn of its film, which is a new one where none waits yet.

        Args:
            viewer: whose row it goes to; None: it is the program's own and comes when nobody else waits.
            about: the film, or whatever tasks belong together.
            counts: False for the program's own work, and for what was let in before: it is never refused, and nobody's
                place counts it.

        Raises:
            LineFullError: it would be a new turn, and as many wait as may wait.
        """
        with self._guard:
            turn = self._waiting(viewer, about, counts)
            if turn is None:
                turn = _Turn(viewer, about, counts)
                ended, seconds = self._ended.get((viewer, about), (-math.inf, 0.0))
                if counts and time.monotonic() - ended < _FOLLOWS_SECONDS and seconds < _TURN_SECONDS:
                    turn.seconds = seconds
                    self._interrupt()
                    self._put_first(turn)
                else:
                    waiting = self._length()
                    if counts and waiting >= self._most:
                        raise LineFullError(waiting, max(1, math.ceil(waiting * self._seconds)))
                    self._rows.setdefault(viewer, deque()).append(turn)
            turn.tasks.append(task)

    def _waiting(self, viewer: str | None, about: Hashable, counts: bool) -> _Turn | None:
        """The turn that a task belongs to. A piece of long work is never part of the turn that is being worked on:
        others come before the next piece."""
        now = self._now
        if (
            now is not None
            and counts
            and (now.viewer, now.about) == (viewer, about)
            and self._taken(now) < _TURN_SECONDS
        ):
            return now
        return next((one for one in self._rows.get(viewer, ()) if one.about == about), None)

    def _interrupt(self) -> None:
        """Put off what is left of the turn that is being worked on."""
        if self._now is not None and self._now.tasks:
            self._now.seconds = self._taken(self._now)
            self._put_first(self._now)
            self._now = None

    def _taken(self, turn: _Turn) -> float:
        """Seconds of work that the turn which is being worked on has taken."""
        return turn.seconds + time.monotonic() - self._began

    def _put_first(self, turn: _Turn) -> None:
        self._rows.setdefault(turn.viewer, deque()).appendleft(turn)
        self._rows.move_to_end(turn.viewer, last=False)

    def take(self) -> Task | None:
        """The next task; None when nothing waits. Until the next call its turn counts as being worked on."""
        with self._guard:
            if self._now is not None and self._now.tasks:
                return self._now.tasks.popleft()
            self._end()
            if not self._rows:
                return None
            viewer = next((one for one in self._rows if one is not None), None)
            row = self._rows.pop(viewer)
            self._now, self._began = row.popleft(), time.monotonic()
            if row:
                self._rows[viewer] = row  # At the end: everybody else comes first.
            return self._now.tasks.popleft()

    def rest(self) -> None:
        """Note that nothing is being worked on any more, where nothing waits."""
        with self._guard:
            if self._now is not None and not self._now.tasks and not self._rows:
                self._end()

    def idle_seconds(self) -> float:
        """How long ago the last turn of a viewer was over; infinite before the first."""
        return time.monotonic() - self._served

    def _end(self) -> None:
        """Note that a turn is over."""
        if self._now is None:
            return
        now, taken = time.monotonic(), self._taken(self._now)
        self._seconds += _SMOOTHING * (taken - self._seconds)
        if self._now.viewer is not None:
            self._served = now
        if self._now.counts:
            self._ended = {name: end for name, end in self._ended.items() if now - end[0] < _FOLLOWS_SECONDS}
            self._ended[self._now.viewer, self._now.about] = now, taken
        self._now = None

    def place(self, about: Hashable) -> int | None:
        """How far a film is from its turn: 1 when it is being worked on or next, 2 when one film comes before it, and
        so on; None when nothing waits for it."""
        with self._guard:
            if self._now is not None and self._now.about == about:
                return 1
            before = 1 if self._now is not None and self._now.counts else 0
            rows = [list(row) for row in self._rows.values()]
            for number in range(max(map(len, rows), default=0)):
                for row in rows:
                    if number < len(row):
                        if row[number].about == about:
                            return before + 1
                        before += row[number].counts
            return None

    def prune(self) -> None:
        """Drop turns of which every task was cancelled: they take no place any more."""
        with self._guard:
            for viewer, row in list(self._rows.items()):
                left = deque(turn for turn in row if not all(task.answer.cancelled() for task in turn.tasks))
                if left:
                    self._rows[viewer] = left
                else:
                    del self._rows[viewer]

    def __len__(self) -> int:
        """How many turns wait that count."""
        with self._guard:
            return self._length()

    def _length(self) -> int:
        return sum(turn.counts for row in self._rows.values() for turn in row)
