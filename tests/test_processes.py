"""How much a thread counts beside others."""

import os
import sys
import threading

import pytest

from cxrmodels.processes import AWAY, step_back


@pytest.mark.skipif(sys.platform != "linux", reason="Threads have a niceness of their own on Linux alone.")
def test_a_thread_that_steps_back_takes_no_other_with_it() -> None:
    before, inside = os.getpriority(os.PRIO_PROCESS, 0), []

    def behind() -> None:
        step_back()
        inside.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=behind)
    thread.start()
    thread.join()
    assert inside == [max(before, AWAY)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
