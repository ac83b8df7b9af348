"""Memory: what is free within the process given back to the system, and how much something holds."""

from __future__ import annotations

import ctypes
import gc
import threading
import urllib.parse
from dataclasses import fields, is_dataclass

import numpy as np

_SOON = 5.0
"""Seconds after a viewer has left until all that was theirs is let go of."""


def give_back() -> None:
    """Have the C library return freed memory. glibc keeps what each thread has freed for that thread, which after ten
    viewers is more than all else that they leave behind. Other libraries have no such call: nothing happens there."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def weight(answer: object) -> int:
    """Bytes of the arrays in an answer, wherever they stand in it."""
    if isinstance(answer, np.ndarray):
        return int(answer.nbytes)
    if isinstance(answer, dict):
        return sum(map(weight, answer.values()))
    if isinstance(answer, list | tuple | set | frozenset):
        return sum(map(weight, answer))
    if is_dataclass(answer) and not isinstance(answer, type):
        return sum(weight(getattr(answer, one.name)) for one in fields(answer))
    return 0


class Tidier:
    """Gives memory back a moment after viewers have left, once for all who leave until then.

    What a viewer had is let go of piece by piece, and some of it only when garbage is collected, which nothing else
    does after a session.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: threading.Timer | None = None

    def soon(self) -> None:
        """A viewer has left."""
        with self._guard:
            if self._waiting is None:
                self._waiting = threading.Timer(_SOON, self._tidy)
                self._waiting.daemon = True
                self._waiting.start()

    def _tidy(self) -> None:
        with self._guard:
            self._waiting = None
        # It keeps the last hundred addresses that it has split, and pages have their pictures in addresses.
        urllib.parse.clear_cache()  # type: ignore[attr-defined]
        gc.collect()
        give_back()
