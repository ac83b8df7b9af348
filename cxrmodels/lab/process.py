"""Workers: processes of their own, which outlive the page, the tab and the server that launched them.

One may be kept warm: it has imported Keras, which takes seconds, has films and network ready for the settings that
were named last, and waits on a socket for a run. The run's lock travels to it through the socket, as it does to a new
process by inheritance.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass

from cxrmodels.files import Lock
from cxrmodels.lab.config import RunConfig
from cxrmodels.lab.line import say_likely, say_run
from cxrmodels.lab.store import LOCK_FILE, LOG_FILE, Run, RunError, State
from cxrmodels.processes import AWAY, environment, launch, weigh

_WORKER = "cxrmodels.lab.worker"
WAIT = "--wait"
"""First argument of a worker that waits; the second is the number of its socket."""


def start(run: Run) -> int:
    """Launch a worker for a run that is new, interrupted or failed; returns its process number at once.

    The run's lock is taken here and handed over, so that there is no moment at which the run has no worker and no two
    callers launch one each.

    Raises:
        RunError: a worker is at it, it has ended, or it was deleted.
    """
    if not run.folder.is_dir():
        raise RunError(f"There is no run {run.id}; it may have been deleted.")
    lock = Lock.take(run.folder / LOCK_FILE)
    if lock is None:
        raise RunError(f"A worker is at run {run.id} already; it is {run.state()}.")
    with lock, (run.folder / LOG_FILE).open("ab") as log:
        if (state := run.state()) in (State.STOPPED, State.FINISHED):
            raise RunError(f"Run {run.id} is {state} and has its report. Start a new one with its configuration.")
        os.ftruncate(lock.descriptor, 0)
        worker = _give_to_waiting(run, lock, log.fileno())
        if worker is None:
            arguments = (str(run.folder), str(lock.descriptor))
            worker = launch(_WORKER, arguments, keep=(lock.descriptor,), log=log.fileno())
        # It writes this itself, too, but one that was waiting may be busy with its import for seconds yet.
        os.pwrite(lock.descriptor, str(worker.pid).encode(), 0)
    # Asked after when it ends, or it would stay behind as a zombie.
    threading.Thread(target=worker.wait, daemon=True).start()
    return worker.pid


@dataclass(slots=True)
class _Waiting:
    """`told`: the settings that were named last. `aside`: whether others go first."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    told: RunConfig | None = None
    aside: bool = False


_PATIENCE = 1.0
"""Seconds within which a worker that waits has room for another line: hundreds wait unread before it has none."""
_guard = threading.Lock()
_waiting: list[_Waiting] = []
"""At most one."""


def warm_up(likely: RunConfig | None = None, *, aside: bool = False) -> None:
    """Have a worker that waits for a run, if none does; returns at once. Unused, it ends after ten minutes, and with
    this process.

    Args:
        likely: settings that a run may be started with: a run with just these then has its first step at once. Those
            named last count.
        aside: a training is going on, so that nobody will start another one soon: a new worker then does not hurry.
    """
    with _guard:
        if not _waiting or _waiting[0].process.poll() is not None:
            _forget()
            _waiting.append(_launch_waiting())
            if aside:
                weigh(_waiting[0].process.pid, AWAY)
                _waiting[0].aside = True
        if not aside:
            _hurry(_waiting[0])
        if likely is None or likely == _waiting[0].told:
            return
        try:
            say_likely(_waiting[0].line, likely)
        except OSError:
            # It is gone, or stuck; a run then gets a new one.
            _forget()
        else:
            _waiting[0].told = likely


def _hurry(waiting: _Waiting) -> None:
    if waiting.aside:
        weigh(waiting.process.pid, 0)
        waiting.aside = False


def _launch_waiting() -> _Waiting:
    ours, theirs = socket.socketpair()
    ours.settimeout(_PATIENCE)
    with theirs:
        arguments = (WAIT, str(theirs.fileno()))
        process = launch(_WORKER, arguments, keep=(theirs.fileno(),), log=subprocess.DEVNULL)
    return _Waiting(process, ours)


def cool_down() -> None:
    """End the worker that waits, if there is one."""
    with _guard:
        _forget()


def _forget() -> None:
    while _waiting:
        gone = _waiting.pop()
        gone.line.close()
        # It would notice, but not before its import is done.
        gone.process.kill()
        gone.process.wait()


def _give_to_waiting(run: Run, lock: Lock, log: int) -> subprocess.Popen[bytes] | None:
    """Hand a run to the worker that waits; None when there is none."""
    with _guard:
        if not _waiting:
            return None
        taken = _waiting.pop()
    _hurry(taken)
    with taken.line:
        try:
            # What the environment says now counts, as it would for a new process.
            say_run(taken.line, run.folder, environment(), lock.descriptor, log)
        except OSError:
            taken.process.kill()
            taken.process.wait()
            return None
    return taken.process


def worker_of(run: Run) -> int | None:
    """Process number of the worker that is at a run, None when there is none.

    The number stands in the lock file, and counts only while the lock is held: a number that another process got since
    is never taken for the worker's.
    """
    if not run.alive():
        return None
    written = (run.folder / LOCK_FILE).read_text(encoding="ascii")
    # Empty for the moment of the launch.
    return int(written) if written else None


def terminate(run: Run) -> bool:
    """Ask a run's worker to end as if it had been told to stop: it writes the report. False when there is none."""
    worker = worker_of(run)
    if worker is None:
        return False
    try:
        os.kill(worker, signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True
