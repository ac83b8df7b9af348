"""A table in the making as a folder: begun, stopped, gone on with, found again after a restart, deleted.

A job's folder, in `batches` below the runs folder:

| file | content |
|---|---|
| `asked.json` | what was asked for: films, models, labels |
| `table.csv` | the rows so far; see `table` |
| `progress.json` | how far it is, replaced twice a second |
| `wanted` | `run`, `stop` or `end`: what viewers asked for last |
| `worker.lock` | held by the worker as long as it lives |
| `worker.log` | what the worker printed |

Films that were dropped are not among them: see `uploads`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cxrmodels.batch.table import Progress, counted
from cxrmodels.batch.uploads import Uploads
from cxrmodels.files import Lock, is_held, replace_file
from cxrmodels.lab.store import runs_folder
from cxrmodels.processes import launch

KEPT_DAYS = 30
"""Jobs that nobody touched for so long are deleted when another is begun."""

_ASKED, _TABLE, _PROGRESS, _WANTED, _LOCK, _LOG = (
    "asked.json",
    "table.csv",
    "progress.json",
    "wanted",
    "worker.lock",
    "worker.log",
)
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{16}")
_END_SECONDS = 10.0


class JobError(ValueError):
    """Something cannot be done with a job now; the message says why and what to do."""


class State(StrEnum):
    """How a job is. A worker belongs to the first two, and for a while to the third."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    FAILED = "failed"


class Wish(StrEnum):
    """What a viewer wants of a worker: to be at it, to hold on, to be gone."""

    RUN = "run"
    STOP = "stop"
    END = "end"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job is to do.

    Attributes:
        title: the films in words, for a reader.
        models: keys.
        folder: where the films are on this machine; empty for films that were dropped.
        archives: names of the archives that were dropped; see `Uploads`.
        labels: film -> its finding.
        folder_labels: whether films are labelled by their folders' names.
    """

    title: str
    models: tuple[str, ...]
    folder: str = ""
    archives: tuple[str, ...] = ()
    labels: dict[str, str] | None = None
    folder_labels: bool = False

    @property
    def labelled(self) -> bool:
        """Whether there are labels, so that the models can be measured."""
        return self.folder_labels or bool(self.labels)


@dataclass(frozen=True, slots=True)
class Status:
    """How a job was when its worker wrote it down last.

    Attributes:
        rate: films a second; 0 where that is not known yet.
        message: why it failed.
    """

    state: State
    progress: Progress
    rate: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A job, by its folder."""

    folder: Path

    @property
    def id(self) -> str:
        """Its folder's name: when it was begun, and what nobody can guess."""
        return self.folder.name

    @property
    def created(self) -> datetime:
        """When, in UTC."""
        return datetime.strptime(self.id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)

    @property
    def table(self) -> Path:
        """Its rows so far; there once a worker began."""
        return self.folder / _TABLE

    def asked(self) -> Asked:
        """What it is to do.

        Raises:
            JobError: it was deleted.
        """
        try:
            plain = json.loads((self.folder / _ASKED).read_bytes())
        except FileNotFoundError:
            raise JobError("This batch was deleted meanwhile.") from None
        return Asked(**{**plain, "models": tuple(plain["models"]), "archives": tuple(plain["archives"])})

    def alive(self) -> bool:
        """Whether a worker is at it, or holds its films."""
        return is_held(self.folder / _LOCK)

    def status(self) -> Status:
        """How it is; of a worker that was killed all rows count that it wrote whole."""
        # In this order: of a worker that ends in between, what it wrote is complete.
        alive = self.alive()
        try:
            plain = json.loads((self.folder / _PROGRESS).read_bytes())
            found = Status(State(plain["state"]), Progress(**plain["progress"]), plain["rate"], plain["message"])
        except FileNotFoundError:
            found = Status(State.QUEUED, Progress(0, 0, 0, 0))
        if alive or found.state not in (State.QUEUED, State.RUNNING):
            return found
        progress = found.progress
        if self.table.is_file():
            done, failed, length = counted(self.table)
            progress = Progress(done, progress.total, failed, length)
        return Status(State.INTERRUPTED, progress)

    def _ask(self, asked: Asked) -> None:
        replace_file(self.folder / _ASKED, json.dumps(asdict(asked)).encode())

    def note(self, status: Status) -> None:
        """The worker's side: write down how it is."""
        replace_file(self.folder / _PROGRESS, json.dumps(asdict(status)).encode())

    def want(self, wish: Wish) -> None:
        """Ask its worker for something."""
        replace_file(self.folder / _WANTED, wish.encode())

    def wanted(self) -> Wish:
        """What was asked for last."""
        return Wish((self.folder / _WANTED).read_text(encoding="ascii"))

    def start(self, uploads: Uploads | None = None) -> None:
        """Have a worker at it; returns at once. One that stopped and still holds the films goes on.

        Args:
            uploads: the films that were dropped, where no worker holds them. They stay open here.

        Raises:
            JobError: it is done, was deleted, or its films are gone and have to be dropped again.
        """
        asked = self.asked()
        if self.status().state is State.FINISHED:
            raise JobError("All films of this batch are read. Begin another one.")
        self.want(Wish.RUN)
        lock = Lock.take(self.folder / _LOCK)
        if lock is None:
            return
        with lock, (self.folder / _LOG).open("ab") as log:
            if not asked.folder and uploads is None:
                raise JobError("Its films were held in memory and are gone. Drop the same films again to go on.")
            self.note(Status(State.QUEUED, self.status().progress))
            if uploads:
                self._ask(replace(asked, archives=uploads.names))
            files = uploads.files if uploads else ()
            for file in files:
                file.flush()
            numbers = [lock.descriptor, *(file.fileno() for file in files)]
            worker = launch(
                "cxrmodels.batch.worker",
                [str(self.folder), *map(str, numbers)],
                keep=numbers,
                log=log.fileno(),
            )
        # Asked after when it ends, or it would stay behind as a zombie.
        threading.Thread(target=worker.wait, daemon=True).start()

    def delete(self) -> None:
        """Remove it with all it holds; films that its worker still holds are let go of.

        Raises:
            JobError: its worker does not end.
        """
        self.want(Wish.END)
        until = time.monotonic() + _END_SECONDS
        while (lock := Lock.take(self.folder / _LOCK)) is None:
            if time.monotonic() > until:
                raise JobError("Its worker has not ended yet. Try again in a moment.")
        with lock:
            # Out of sight at once, whatever happens while its files are removed.
            gone = self.folder.with_name(f".deleted-{self.id}")
            os.replace(self.folder, gone)
            shutil.rmtree(gone)


def home() -> Path:
    """Where jobs are. Made if need be."""
    folder = runs_folder() / "batches"
    folder.mkdir(exist_ok=True)
    return folder


def create(asked: Asked) -> Job:
    """Make a job's folder. `Job.start` then puts a worker to it."""
    _forget_old()
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    job = Job(home() / f"{now}-{secrets.token_hex(8)}")
    unfinished = Job(job.folder.with_name(f".new-{job.id}"))
    unfinished.folder.mkdir(mode=0o700)
    unfinished._ask(asked)
    unfinished.want(Wish.RUN)
    os.replace(unfinished.folder, job.folder)
    return job


def jobs() -> tuple[Job, ...]:
    """All jobs, in the order in which they were created."""
    return tuple(Job(path) for path in sorted(home().iterdir()) if _ID.fullmatch(path.name))


def find(job_id: str) -> Job:
    """The job with this id.

    Raises:
        JobError: there is none.
    """
    for job in jobs():
        if job.id == job_id:
            return job
    raise JobError("There is no such batch here; it may have been deleted.")


def _forget_old() -> None:
    for job in jobs():
        with suppress(OSError, JobError):
            touched = max(path.stat().st_mtime for path in job.folder.iterdir())
            if time.time() - touched > KEPT_DAYS * 86400 and not job.alive():
                job.delete()
