"""Memory goes back to the system."""

import ctypes
import threading
import weakref

import psutil
import pytest

from cxrmodels import memory
from cxrmodels.memory import Tidier, give_back

MB = 2**20


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="This C library has no malloc_trim.")
def test_what_was_freed_is_given_back() -> None:
    # Small pieces with some kept between them: the C library keeps what lies between for itself.
    pieces = [bytes(60_000) for _ in range(4_000)]
    kept = pieces[::100]
    pieces.clear()
    before = resident()
    give_back()
    assert before - resident() > 50 * MB
    assert len(kept) == 40


def test_a_library_without_it_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    give_back()


def test_what_many_viewers_leave_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Left:
        """What only the collector can free."""

        def __init__(self) -> None:
            self.itself = self

    given, back = list[bool](), threading.Event()
    kept = weakref.ref(Left())

    def note() -> None:
        given.append(kept() is None)
        back.set()

    monkeypatch.setattr(memory, "_SOON", 0.05)
    monkeypatch.setattr(memory, "give_back", note)
    tidier = Tidier()
    for _ in range(10):
        tidier.soon()
    assert back.wait(10)
    assert given == [True]
    back.clear()
    tidier.soon()
    assert back.wait(10)
