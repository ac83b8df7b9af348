"""Batches as folders with a worker: stopped, killed, gone on with; films that were dropped stay off the disk."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cxrmodels.batch.films import BatchError, folder_sources
from cxrmodels.batch.jobs import KEPT_DAYS, Asked, Job, JobError, State, Wish, create, find, home, jobs
from cxrmodels.batch.labels import folder_label
from cxrmodels.batch.table import read_csv, run
from cxrmodels.batch.uploads import Uploads, hold, inherited
from cxrmodels.phantom import phantom
from cxrmodels.processes import AWAY
from cxrmodels.radiograph import read_radiograph
from cxrmodels.service import Service
from cxrmodels.zoo import load

MODEL = "two_conv_cnn"
SLOW = "mobilenet_v3"
"""For batches that are to be caught at work."""
PATIENCE = 300.0
"""Seconds after which something counts as stuck: generous, since other work may keep this machine busy."""


@dataclass
class File:
    """A file as a page gets it."""

    name: str
    content: bytes

    def getbuffer(self) -> memoryview:
        return memoryview(self.content)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A runs folder of the test's own. No worker outlives it."""
    monkeypatch.setenv("CXRMODELS_RUNS", str(tmp_path / "runs"))
    yield
    for job in jobs():
        job.delete()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "stuck"
        time.sleep(0.05)


def worker_of(job: Job) -> psutil.Process:
    (found,) = [one for one in psutil.Process().children() if str(job.folder) in one.cmdline()]
    return found


def film(seed: int, size: int = 64) -> bytes:
    return phantom("covid19" if seed % 2 else "normal", seed=seed, size=size).png()


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(f"{name}.png", content)
    return stream.getvalue()


def test_what_is_dropped_is_held_in_memory_without_a_name(tmp_path: Path) -> None:
    one, two = film(1), film(2)
    with hold([File("a.png", one), File("a.png", two), File("list.txt", b"x"), File("ward/b.dcm", two)]) as held:
        assert [(source.name, source.read()) for source in held.films()] == [
            ("a (2).png", two),
            ("a.png", one),
            ("ward/b.dcm", two),
        ]
        if hasattr(os, "memfd_create"):
            assert os.readlink(f"/proc/self/fd/{held.files[0].fileno()}").startswith("/memfd:")
    with hold([File("one.zip", zipped(a=one))]) as held:
        assert [source.name for source in held.films()] == ["a.png"]
    with hold([File("one.zip", zipped(a=one)), File("one.zip", zipped(a=two)), File("c.png", one)]) as held:
        assert [source.name for source in held.films()] == ["one.zip/a.png", "one (2).zip/a.png", "c.png"]
    with pytest.raises(BatchError, match="No film is among"):
        hold([File("list.txt", b"x")])
    with hold([File("bad.zip", b"PK no")]) as held, pytest.raises(BatchError, match="cannot be opened"):
        held.films()
    with hold([File("a.png", one)]) as held:
        there = inherited(held.names, [os.dup(file.fileno()) for file in held.files])
        held.close()
        assert there.films()[0].read() == one, "whoever has it open has it"
        there.close()


def test_a_batch_is_stopped_killed_and_gone_on_with(tmp_path: Path) -> None:
    """Films that were dropped; the table at the end is the one of a run that was never disturbed."""
    count = 500
    folder = tmp_path / "films"
    for number in range(count):
        place = folder / ("COVID-19" if number % 2 else "normal")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:03}.png").write_bytes(film(number % 10) if number != 7 else b"\x89PNG\r\n\x1a\nbroken")
    dropped = [
        File(source.name, source.read()) for source in sorted(folder_sources(folder), key=lambda source: source.name)
    ]
    plain = tmp_path / "plain.csv"
    run(folder_sources(folder), {SLOW: load(SLOW)}, plain, label_of=folder_label)

    def begin(job: Job, uploads: Uploads | None) -> None:
        before = job.status().progress.done
        job.start(uploads)
        until(lambda: job.status().state is State.RUNNING and job.status().progress.done > before)

    with hold(dropped) as uploads:
        job = create(Asked("films", (SLOW,), archives=uploads.names, folder_labels=True))
        begin(job, uploads)
    assert worker_of(job).nice() == AWAY, "whoever waits for a single film goes first"
    job.want(Wish.STOP)
    until(lambda: job.status().state is State.STOPPED)
    stopped = job.status().progress
    assert 0 < stopped.done < count
    assert job.alive(), "it holds the films"
    begin(job, None)
    worker = worker_of(job)
    job.start()
    assert worker_of(job) == worker, "it has a worker already"
    worker.kill()
    until(lambda: not job.alive())
    killed = job.status()
    assert killed.state is State.INTERRUPTED
    assert stopped.done < killed.progress.done < count
    assert read_csv(job.table, killed.progress.length).num_rows == killed.progress.done
    with pytest.raises(JobError, match="Drop the same films again"):
        job.start()
    # Nothing of a film is on the disk: the table and what the job is, no more.
    assert sorted(path.name for path in job.folder.iterdir()) == sorted(
        ["asked.json", "progress.json", "table.csv", "wanted", "worker.lock", "worker.log"]
    )
    assert sum(path.stat().st_size for path in job.folder.iterdir()) < sum(len(one.content) for one in dropped) / 2
    with hold(dropped) as uploads:
        job.start(uploads)
    until(lambda: job.status().state is State.FINISHED)
    assert job.table.read_bytes() == plain.read_bytes()
    done = job.status().progress
    assert (done.done, done.total, done.failed, done.length) == (count, count, 1, plain.stat().st_size)
    until(lambda: not job.alive())
    with pytest.raises(JobError, match="All films of this batch are read"):
        job.start()


def test_single_films_are_answered_while_a_batch_runs_and_batches_take_turns(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    content = film(1, 256)
    for number in range(3000):
        (folder / f"{number}.png").write_bytes(content)
    first, second = (create(Asked("films", (SLOW,), str(folder))) for _ in range(2))
    service = Service()
    first.start()
    until(lambda: first.status().progress.done > 0)
    second.start()
    for seed in range(3):
        alone = read_radiograph(film(20 + seed, 128), "one.png")
        assert service.read(alone, MODEL).result(PATIENCE).prediction.model == MODEL
    assert first.status().state is State.RUNNING, "nobody waited for the batch"
    assert second.status().state is State.QUEUED
    first.delete()
    assert not first.folder.exists()
    until(lambda: second.status().progress.done > 0)
    assert find(second.id) == second
    with pytest.raises(JobError, match="no such batch"):
        find(first.id)


def test_what_cannot_be_read_at_all_is_told(tmp_path: Path) -> None:
    job = create(Asked("films", (MODEL,), str(tmp_path / "missing")))
    job.start()
    until(lambda: job.status().state is State.FAILED)
    assert "There is no folder" in job.status().message
    # Once it is there, the batch goes on.
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "a.png").write_bytes(film(1))
    until(lambda: not job.alive())
    job.start()
    until(lambda: job.status().state is State.FINISHED)


def test_jobs_that_nobody_touches_are_forgotten() -> None:
    old = create(Asked("films", (MODEL,), "/films"))
    assert old.folder.stat().st_mode & 0o777 == 0o700, "file names may tell who was examined"
    long_ago = time.time() - (KEPT_DAYS + 1) * 86400
    for path in old.folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    new = create(Asked("films", (MODEL,), "/films"))
    assert jobs() == (new,)
    assert [path.name for path in home().iterdir()] == [new.id]
    new.folder.joinpath("asked.json").unlink()
    with pytest.raises(JobError, match="deleted"):
        new.asked()
