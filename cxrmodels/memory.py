"""Memory that is free within the process, given back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Have the C library return freed memory. glibc keeps what each thread has freed for that thread, which after ten
    viewers is more than all else that they leave behind. Other libraries have no such call: nothing happens there."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
