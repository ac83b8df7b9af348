"""Full disks, read-only folders and clocks that jump: said in a sentence, and nothing that was there is lost.

What belongs to one part alone is with that part: damaged and missing weights in `test_every_model.py`, killed workers
in `test_lab_worker.py`, the cache of converted networks in `test_runtime.py`, tables of many films in `test_batch.py`.
"""

from __future__ import annotations

import ast
import csv
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from cxrmodels import cli
from cxrmodels.engine import Engine
from cxrmodels.lab import store
from cxrmodels.lab.config import PhantomData, RunConfig
from cxrmodels.lab.control import read_commands, send
from cxrmodels.lab.events import Batch, Checkpoint, EventWriter, Finished, Started
from cxrmodels.lab.history import History
from cxrmodels.lab.imports import import_archive, imports
from cxrmodels.lab.store import RUNS_VARIABLE, Run, State, create, runs
from cxrmodels.phantom import phantom
from cxrmodels.runtime.store import CACHE_VARIABLE
from cxrmodels.zoo import load
from tests.bad_days import full_disk, obey_permissions

ROOT = Path(__file__).resolve().parent.parent
SMALL = "two_conv_cnn"
CONFIG = RunConfig(name="A run", data=PhantomData(films=40))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    monkeypatch.setenv(RUNS_VARIABLE, str(folder))
    return folder


def film_files(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    names = []
    for number in range(count):
        path = folder / f"{number}.png"
        path.write_bytes(phantom("normal", seed=number, size=96).png())
        names.append(str(path))
    return names


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_predictions_that_cannot_be_written_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (film,) = film_files(tmp_path / "films", 1)
    assert cli.main(["predict", film, "--models", SMALL, "--output", "/dev/full"]) == 1
    said = capsys.readouterr()
    assert "No space left on device" in said.err
    assert len(said.err.splitlines()) == 1


def test_a_run_that_finds_no_room_is_not_there(home: Path) -> None:
    home.mkdir()
    with full_disk(), pytest.raises(OSError, match="too large"):
        create(CONFIG)
    assert list(home.iterdir()) == []
    create(CONFIG)
    assert len(runs()) == 1


def test_a_command_that_finds_no_room_leaves_the_earlier_ones(home: Path) -> None:
    run = create(CONFIG)
    send(run.folder, "pause")
    before = set(run.folder.iterdir())
    with full_disk(), pytest.raises(OSError, match="too large"):
        send(run.folder, "stop")
    assert [one.action for one in read_commands(run.folder)] == ["pause"]
    assert set(run.folder.iterdir()) == before


def test_films_that_find_no_room_are_not_half_there(home: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for finding, number in itertools.product(("covid19", "normal"), range(3)):
            packed.writestr(f"{finding}/{number}.png", phantom(finding, seed=number, size=96).png())
    with full_disk(2000), pytest.raises(OSError, match="too large"):
        import_archive(archive.getvalue())
    assert imports() == ()
    assert list((home / "imports").iterdir()) == []
    assert len(import_archive(archive.getvalue()).films) == 6


def test_events_on_a_full_disk_are_whole_lines(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.write(Started())
    size = (tmp_path / "events.jsonl").stat().st_size
    for room in (size, size + 10):  # none at all, and for the beginning of a line
        with full_disk(room), pytest.raises(OSError, match=r"full|too large"):
            writer.write(Checkpoint(1, 12))
        assert (tmp_path / "events.jsonl").stat().st_size == size
    writer.write(Finished(1, 12))
    writer.close()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["started", "finished"]


# --- folders that cannot be written -----------------------------------------------------------------------------------


def test_everything_that_only_reads_works_where_nothing_can_be_written(tmp_path: Path) -> None:
    """The command line in a folder, a home, a cache and a folder of runs that are all read-only."""
    (film,) = film_files(tmp_path / "films", 1)
    Engine(load(SMALL))  # so that it is in the cache
    shutil.copytree(os.environ[CACHE_VARIABLE], tmp_path / "cache")
    for name in ("home", "runs", "here"):
        (tmp_path / name).mkdir()
    before = set(tmp_path.rglob("*"))
    for place in ("home", "cache", "runs", "here"):
        (tmp_path / place).chmod(0o555)
    arguments = ["predict", film, "--models", SMALL]
    code = (
        "from cxrmodels import cli\n"
        f"print(cli.main({arguments!r}))\n"
        f"print(cli.main({[*arguments, '--output', 'out.csv']!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "here",
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
            "HOME": str(tmp_path / "home"),
            CACHE_VARIABLE: str(tmp_path / "cache"),
            RUNS_VARIABLE: str(tmp_path / "runs"),
            "PYTHONPATH": str(ROOT),
        },
        preexec_fn=obey_permissions,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    *table, read, refused = done.stdout.splitlines()
    assert [row["error"] for row in csv.DictReader(table)] == ["", ""]
    assert (read, refused) == ("0", "1")
    assert done.stderr.splitlines()[-1] == "[Errno 13] Permission denied: 'out.csv'"
    assert set(tmp_path.rglob("*")) == before


def test_a_run_in_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "file" / "runs"))
    assert runs() == ()
    with pytest.raises(OSError, match="Not a directory"):
        create(CONFIG)


# --- clocks that jump -------------------------------------------------------------------------------------------------

HOUR = 3600.0
WALL_CLOCK = {
    "cxrmodels/batch/jobs.py": "a batch's id, half of it chance, and how long nobody touched it: test_batch_jobs.py",
    "cxrmodels/runtime/store.py": "how long nobody used a converted network: test_runtime.py",
    "cxrmodels/lab/store.py": "a run's id, and how long its worker is silent: below",
    "cxrmodels/lab/events.py": "the time of an event, for a reader: below",
    "cxrmodels/ui/lab/live.py": "how long ago a run was made: below",
}
"""Modules that look at the clock on the wall, what for, and where that is tested. All others count seconds."""


def test_seconds_are_not_counted_by_the_clock_on_the_wall() -> None:
    using = set()
    for path in sorted((ROOT / "cxrmodels").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and re.fullmatch(
                r"time\.(time|time_ns|localtime|gmtime|ctime)|(datetime|date)\.(now|utcnow|today)", ast.unparse(node)
            ):
                using.add(path.relative_to(ROOT).as_posix())
    assert using == set(WALL_CLOCK)


class _Jumping(datetime):
    """Stands at one moment for a while, then goes on."""

    moments: Iterator[datetime]

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return next(cls.moments)


def test_a_clock_that_was_put_back_makes_a_run_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 10, 25, 2, 30, tzinfo=UTC)
    _Jumping.moments = iter([moment, moment, moment, moment + timedelta(microseconds=1)])
    monkeypatch.setattr(store, "datetime", _Jumping)
    first, second = create(CONFIG), create(CONFIG)
    assert first.id != second.id
    monkeypatch.undo()
    monkeypatch.setenv(RUNS_VARIABLE, str(home))
    assert {run.id for run in runs()} == {first.id, second.id}
    assert len(list(home.iterdir())) == 2


@pytest.mark.parametrize("jump", [-10 * HOUR, 10 * HOUR], ids=["back", "forth"])
def test_a_run_is_the_same_whatever_the_clock_says(home: Path, jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    jumps = itertools.cycle([0.0, jump])
    monkeypatch.setattr("cxrmodels.lab.events.time.time", lambda: now + next(jumps))
    run = create(CONFIG)
    writer = EventWriter(run.events)
    writer.write(Started())
    for step in range(1, 7):
        writer.batch(step, 1, 1 / step, 0.5, 0.1, 1e-3)
    writer.write(Finished(1, 6))
    writer.close()
    history = History()
    history.add(run.follow().read())
    assert {step: one.loss for step, one in history.steps.items()} == {step: 1 / step for step in range(1, 7)}
    assert run.state() is State.FINISHED
    assert any(isinstance(one.event, Batch) for one in run.follow().read())


@pytest.mark.parametrize("jump", [-10 * HOUR, 10 * HOUR], ids=["back", "forth"])
def test_a_worker_is_called_silent_for_a_second_at_most_after_a_jump(home: Path, jump: float) -> None:
    run = create(CONFIG)
    beat = run.folder / store.HEARTBEAT_FILE
    beat.touch()
    then = time.time() - jump
    os.utime(beat, (then, then))  # the last beat before the clock was put on by `jump`
    silence = run.silence()
    assert silence is not None
    assert silence == pytest.approx(max(0.0, jump), abs=60)
    beat.touch()  # the next one, a second later
    assert run.silence() == pytest.approx(0, abs=60)


def test_a_run_of_the_future_is_not_minus_an_hour_old(home: Path) -> None:
    from cxrmodels.ui.lab.live import age

    future = Run(home / (datetime.now(UTC) + timedelta(hours=1)).strftime(store._ID))
    assert age(future) == "0 s ago"
