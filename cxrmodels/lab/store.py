"""Runs as folders: made, listed, told how they are, deleted.

A run's folder, in the runs folder:

| file | content |
|---|---|
| `config.json` | the configuration |
| `events.jsonl` | all that happened; see `events` |
| `control.json` | what viewers asked for; see `control` |
| `worker.lock` | held by the worker as long as it lives; its number inside |
| `heartbeat` | touched by the worker every second |
| `checkpoint.npz` | weights, optimiser, seeds, place in the epoch |
| `validation.npz` | the validation films as the network sees them |
| `pinned-N.npz`, `filters-N.npz` | heat maps and first kernels after epoch N |
| `model.keras`, `report.json`, `predictions.csv.gz` | the result |
| `worker.log` | what the worker printed |
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from platformdirs import user_data_path

from cxrmodels.files import Lock, is_held, replace_file
from cxrmodels.lab.config import RunConfig, from_json
from cxrmodels.lab.control import send
from cxrmodels.lab.events import (
    EVENTS_FILE,
    Changed,
    Checkpoint,
    EventReader,
    Failed,
    Finished,
    Obeyed,
    Paused,
    Queued,
    Stopped,
    read_backwards,
)

RUNS_VARIABLE = "CXRMODELS_RUNS"
CONFIG_FILE, LOCK_FILE, HEARTBEAT_FILE, LOG_FILE = "config.json", "worker.lock", "heartbeat", "worker.log"
MODEL_FILE, REPORT_FILE, CHECKPOINT_FILE = "model.keras", "report.json", "checkpoint.npz"


class RunError(ValueError):
    """Something cannot be done with a run now; the message says why and what to do."""


class State(StrEnum):
    """How a run is. A worker belongs to the first three; `interrupted` and `failed` can be resumed."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"


_ENDED: dict[type, State] = {Stopped: State.STOPPED, Finished: State.FINISHED, Failed: State.FAILED}
_ALIVE: dict[type, State] = {Queued: State.QUEUED, Paused: State.PAUSED}


def _place() -> Path:
    value = os.environ.get(RUNS_VARIABLE, "").strip()
    return Path(value).expanduser().absolute() if value else user_data_path("cxrmodels") / "runs"


def runs_folder() -> Path:
    """Where runs and imports are: what `CXRMODELS_RUNS` names, else in the user's data directory. Made if need be."""
    folder = _place()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True, slots=True)
class Run:
    """A run, by its folder."""

    folder: Path

    @property
    def id(self) -> str:
        """Its folder's name. In order of the ids runs are in the order in which they were created."""
        return self.folder.name

    @property
    def created(self) -> datetime:
        """When, in UTC."""
        return datetime.strptime(self.id, _ID).replace(tzinfo=UTC)

    @property
    def events(self) -> Path:
        """Its events file; there once a worker was launched."""
        return self.folder / EVENTS_FILE

    def config(self) -> RunConfig:
        """Its configuration.

        Raises:
            ConfigError: the file was changed, or written by another version.
            FileNotFoundError: the run was deleted.
        """
        return from_json((self.folder / CONFIG_FILE).read_text(encoding="utf-8"))

    def follow(self) -> EventReader:
        """A reader of its events, from the first one on."""
        return EventReader(self.events)

    def alive(self) -> bool:
        """Whether a worker is at it. A kill is seen at once: the kernel lets go of the worker's lock."""
        return is_held(self.folder / LOCK_FILE)

    def state(self) -> State:
        """How it is.

        Raises:
            EventsError: its events file was changed.
        """
        # In this order: of a worker that ends in between, the events are complete.
        alive = self.alive()
        last = next(
            (
                logged.event
                for logged in read_backwards(self.events)
                # These are written in any state and change none.
                if not isinstance(logged.event, Obeyed | Changed | Checkpoint)
            ),
            None,
        )
        if type(last) in _ENDED:
            return _ENDED[type(last)]
        if not alive:
            return State.INTERRUPTED
        return State.QUEUED if last is None else _ALIVE.get(type(last), State.RUNNING)

    def silence(self) -> float | None:
        """Seconds since the worker's last sign of life, given every second; None before the first one.

        A worker that is alive and silent for long is held up: a machine that slept, or is short of memory.
        """
        try:
            return max(0.0, time.time() - (self.folder / HEARTBEAT_FILE).stat().st_mtime)
        except FileNotFoundError:
            return None

    def send(self, action: str, value: float | None = None) -> int:
        """Ask its worker for something; see `control.send`.

        Raises:
            RunError: there is no worker to carry it out.
            ConfigError: as in `control.send`.
        """
        if not self.alive():
            raise RunError(f"No worker is at run {self.id}: it is {self.state()}. Resume it first, if it can be.")
        return send(self.folder, action, value)

    def delete(self) -> None:
        """Remove it with all it holds.

        Raises:
            RunError: a worker is at it.
        """
        lock = Lock.take(self.folder / LOCK_FILE)
        if lock is None:
            raise RunError(f"Run {self.id} is {self.state()}. Stop it before deleting it.")
        with lock:
            # Out of sight at once, whatever happens while its files are removed.
            gone = self.folder.with_name(f".deleted-{self.id}")
            os.replace(self.folder, gone)
            shutil.rmtree(gone)


_ID = "%Y%m%d-%H%M%S-%f"


def create(config: RunConfig) -> Run:
    """Make a run's folder. `process.start` then puts a worker to it.

    Raises:
        OSError: the folder cannot be written, or its disk is full; there is no run then.
    """
    home = runs_folder()
    while True:
        run = Run(home / datetime.now(UTC).strftime(_ID))
        unfinished = home / f".new-{run.id}"
        with suppress(FileExistsError):
            unfinished.mkdir()
            try:
                replace_file(unfinished / CONFIG_FILE, config.to_json().encode())
                os.rename(unfinished, run.folder)
            except OSError as error:
                shutil.rmtree(unfinished, ignore_errors=True)
                # A clock that was put back may come to the moment of an earlier run.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            else:
                return run


def runs() -> tuple[Run, ...]:
    """All runs, in the order in which they were created. Looking makes no folder: every page does."""
    return tuple(Run(path.parent) for path in sorted(_place().glob(f"[0-9]*/{CONFIG_FILE}")))


def find(run_id: str) -> Run:
    """The run with this id.

    Raises:
        RunError: there is none.
    """
    for run in runs():
        if run.id == run_id:
            return run
    raise RunError(f"There is no run {run_id[:40]!r}; it may have been deleted. Choose one from the list.")
