"""Files that several processes share: replaced as a whole, and locks that a killed process lets go of."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Self

_TRIES, _PAUSE = 20, 0.005


def replace_file(path: Path, content: bytes) -> None:
    """Write a file such that a reader, and a machine that loses power, has the old content or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError:  # The disk is full: what was half written is in nobody's way, but takes room.
        partial.unlink(missing_ok=True)
        raise


class Lock:
    """An exclusive `flock` on a file, held until `release` or the death of the last process that has it open.

    The kernel keeps it, so there is no stale lock: neither a kill nor another process that gets the same number can
    leave one behind. Whoever asks `is_held` holds it shared for a moment, hence the few tries when taking it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> Self | None:
        """The lock, or None when another process has it. With `wait`, only for what is held for moments."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        tries = _TRIES
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                return cls(descriptor)
            except BlockingIOError:
                tries -= 1
                if not tries:
                    os.close(descriptor)
                    return None
                time.sleep(_PAUSE)

    def release(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_held(path: Path) -> bool:
    """Whether a process has the lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
