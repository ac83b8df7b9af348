"""How far long work on the command line is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


class Rate:
    """Tells how far work is, how fast it goes and how long it will take: on a terminal four times a second, else twice
    a minute."""

    def __init__(self, what: str, say: Callable[[str], object]) -> None:
        """Of so many things, named by `what`; `say` writes a line where there is no terminal."""
        self._what, self._say = what, say
        self._started, self._at_start, self._told = time.monotonic(), -1, 0.0
        self._screen = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._at_start < 0:
            self._started, self._at_start, self._told = now, done, now
            if done:
                self._say(f"{done:,} of {total:,} {self._what} were there already.")
            return
        if now - self._told < (0.25 if self._screen else 30) and done < total:
            return
        self._told = now
        rate = (done - self._at_start) / max(now - self._started, 1e-9)
        left = (total - done) / rate
        text = f"{done:,} of {total:,} {self._what}, {rate:.1f} a second, {left / 60:.1f} min left"
        if self._screen:
            print(f"\r{text}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)
        else:
            self._say(text)
