"""The process at a job: `python -m cxrmodels.batch.worker JOB LOCK [FILE ...]`.

JOB is the job's folder, LOCK the number of its open lock, and each FILE that of an archive of films in memory. It runs
behind whatever viewers wait for.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from cxrmodels.batch.films import BatchError, Source, folder_sources
from cxrmodels.batch.jobs import Job, State, Status, Wish, jobs
from cxrmodels.batch.labels import folder_label, label_finder
from cxrmodels.batch.table import Progress, run
from cxrmodels.batch.uploads import Uploads, inherited
from cxrmodels.files import Lock
from cxrmodels.models import load
from cxrmodels.processes import AWAY, weigh
from cxrmodels.turns import Turn
from cxrmodels.zoo import LoadedModel, ModelError

HELD_SECONDS, KEPT_SECONDS = 3600.0, 60.0
"""How long a stopped worker holds films that were dropped, which are gone with it; and how long it stays where the
films are in a folder, so that going on is at once."""

_LOOK, _TOLD = 0.3, 0.5
_TURN_FILE = "reading.lock"


def main(arguments: list[str] | None = None) -> int:
    """Read a job's films until all are done, or nobody wants it any more.

    Returns:
        0 when it ended as it was told to, 1 when it failed.
    """
    folder, descriptor, *numbers = sys.argv[1:] if arguments is None else arguments
    job, lock = Job(Path(folder)), Lock(int(descriptor))
    os.set_inheritable(lock.descriptor, False)
    # A viewer's single film comes first: Linux gives a session that stands back what the others leave.
    os.nice(AWAY)
    weigh(os.getpid(), AWAY)
    with lock:
        asked = job.asked()
        with inherited(asked.archives, list(map(int, numbers))) as uploads:
            return _work(job, uploads)


def _work(job: Job, uploads: Uploads) -> int:
    try:
        asked = job.asked()
        films = folder_sources(Path(asked.folder)) if asked.folder else uploads.films()
        models = {key: load(key) for key in asked.models}
        while True:
            if _read(job, films, models):
                return 0
            if not _wait(job, HELD_SECONDS if uploads.files else KEPT_SECONDS):
                return 0
    except Exception as error:
        traceback.print_exc()
        foreseen = isinstance(error, BatchError | ModelError)
        message = str(error) if foreseen else f"{type(error).__name__}: {error}"[:500]
        job.note(Status(State.FAILED, job.status().progress, message=message))
        return 1


def _read(job: Job, films: list[Source], models: dict[str, LoadedModel]) -> bool:
    """Read films until all are done, or somebody wants it to stop. Returns whether all are."""
    asked, clock = job.asked(), _Clock(job)
    label_of = label_finder(asked.labels) if asked.labels else folder_label if asked.folder_labels else _unlabelled
    turn = Turn(job.folder.parent / _TURN_FILE, lambda: _others_first(job))
    try:
        if not turn.enter(clock.stopped):
            clock.tell(State.STOPPED, job.status().progress)
            return False
        done = run(films, models, job.table, label_of=label_of, report=clock.report, stopped=clock.stopped)
    finally:
        turn.leave()
    finished = done.done == done.total
    clock.tell(State.FINISHED if finished else State.STOPPED, done)
    return finished


def _unlabelled(file: str) -> str:
    return ""


def _others_first(job: Job) -> bool:
    return any(
        one.alive() and one.status().state is State.QUEUED and one.wanted() is Wish.RUN
        for one in jobs()
        if one.id < job.id
    )


def _wait(job: Job, seconds: float) -> bool:
    """Hold on, for so long at most. Returns whether somebody wants to go on."""
    until = time.monotonic() + seconds
    while (wish := job.wanted()) is Wish.STOP and time.monotonic() < until:
        time.sleep(_LOOK)
    return wish is Wish.RUN


class _Clock:
    """Tells how far a job is, twice a second, and looks as often whether it is to stop."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._begun, self._at_start, self._told = time.monotonic(), -1, 0.0
        self._looked, self._wish = 0.0, Wish.RUN

    def report(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._at_start < 0:
            self._begun, self._at_start = now, progress.done
        elif now - self._told < _TOLD:
            return
        self._told = now
        self.tell(State.RUNNING, progress)

    def stopped(self) -> bool:
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._looked, self._wish = now, self._job.wanted()
        return self._wish is not Wish.RUN

    def tell(self, state: State, progress: Progress) -> None:
        seconds = time.monotonic() - self._begun
        rate = (progress.done - self._at_start) / seconds if 0 <= self._at_start < progress.done else 0.0
        self._job.note(Status(state, progress, rate))


if __name__ == "__main__":
    sys.exit(main())
