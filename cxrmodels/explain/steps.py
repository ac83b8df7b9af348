"""Long work in pieces: whoever runs it may say how far it is, do other things between two pieces, or stop it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

Answer = TypeVar("Answer")

Steps = Generator[float, None, Answer]
"""Work that yields the share that is done, 0-1, after each piece of some tenths of a second, and returns its answer."""


class StoppedError(RuntimeError):
    """Work was stopped before it was done, because somebody asked for that."""


def finish(steps: Steps[Answer], report: Callable[[float], object] = lambda share: None) -> Answer:
    """Do all of the work.

    Args:
        steps: the work.
        report: called with the share that is done after each piece; when it returns False the work stops.

    Raises:
        StoppedError: `report` returned False.
    """
    while True:
        try:
            share = next(steps)
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        if report(share) is False:
            steps.close()
            raise StoppedError(f"Stopped with {100 * share:.0f} % done, as asked.")


def part(steps: Steps[Answer], begin: float, end: float) -> Steps[Answer]:
    """The same work as one part of a longer one, whose share runs from `begin` to `end`."""
    while True:
        try:
            share = next(steps)
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        yield begin + (end - begin) * share
