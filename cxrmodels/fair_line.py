"""The line in front of the models: bounded, and fair between those who stand in it.

Everybody has a row of their own; the rows take turns. A turn is all that waits for one film, since a film is of use
only when every network has answered, or one piece of long work. Whoever asks for two hundred films at once is served
between the others, and not before them.
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
    about: Hashable
    tasks: deque[Task]
    counts: bool


class FairLine:
    """Tasks in the order in which they are to be done. Safe to use from several threads.

    Args:
        most: turns that may wait at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: OrderedDict[str, deque[_Turn]] = OrderedDict()  # Whose turn is next comes first.
        self._now: _Turn | None = None
        self._began, self._seconds = 0.0, 0.1
        self._guard = threading.Lock()

    def put(self, viewer: str, about: Hashable, task: Task, *, counts: bool = True) -> None:
        """Add a task to the turn of its film, which is a new one where none waits yet.

        Args:
            viewer: whose row it goes to.
            about: the film, or whatever tasks belong together.
            counts: False for the program's own work and for what was let in before: it is never refused, and nobody's
                place counts it.

        Raises:
            LineFullError: it would be a new turn, and as many wait as may wait.
        """
        with self._guard:
            row = self._rows.get(viewer, deque())
            turn = next((one for one in row if one.about == about), None)
            if turn is None:
                waiting = self._length()
                if counts and waiting >= self._most:
                    raise LineFullError(waiting, max(1, math.ceil(waiting * self._seconds)))
                turn = _Turn(about, deque(), counts)
                self._rows.setdefault(viewer, deque()).append(turn)
            turn.tasks.append(task)

    def take(self) -> Task | None:
        """The next task; None when nothing waits. Until the next call its turn counts as being worked on."""
        with self._guard:
            if self._now is not None and self._now.tasks:
                return self._now.tasks.popleft()
            if self._now is not None:
                self._seconds += _SMOOTHING * (time.monotonic() - self._began - self._seconds)
            self._now = None
            if not self._rows:
                return None
            viewer, row = self._rows.popitem(last=False)
            self._now, self._began = row.popleft(), time.monotonic()
            if row:
                self._rows[viewer] = row  # At the end: everybody else comes first.
            return self._now.tasks.popleft()

    def rest(self) -> None:
        """Note that nothing is being worked on any more, where nothing waits."""
        with self._guard:
            if self._now is not None and not self._now.tasks and not self._rows:
                self._seconds += _SMOOTHING * (time.monotonic() - self._began - self._seconds)
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
