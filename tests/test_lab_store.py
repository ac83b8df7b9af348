"""Runs as folders, their states, commands, locks and the order of the queue; no network is trained here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cxrmodels.files import Lock, is_held, replace_file
from cxrmodels.lab import store
from cxrmodels.lab.config import ConfigError, RunConfig
from cxrmodels.lab.control import Mailbox, read_commands, send
from cxrmodels.lab.events import (
    Batch,
    Changed,
    Checkpoint,
    Event,
    EventWriter,
    Failed,
    Finished,
    Logged,
    Obeyed,
    Paused,
    Queued,
    Resumed,
    Started,
    Stopped,
)
from cxrmodels.lab.process import start, terminate, worker_of
from cxrmodels.lab.store import LOCK_FILE, RUNS_VARIABLE, Run, RunError, State, create, find, runs, runs_folder
from cxrmodels.lab.turns import Device


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def run() -> Run:
    return create(RunConfig(name="one"))


def until(holds: Callable[[], bool], seconds: float = 20.0) -> float:
    """Wait until something holds; how long that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "it did not come"
        time.sleep(0.01)
    return time.monotonic() - began


def write(run: Run, *events: Event) -> None:
    writer = EventWriter(run.events)
    for event in events:
        writer.write(event)
    writer.close()


@pytest.fixture
def holder(run: Run) -> Iterator[subprocess.Popen[str]]:
    """A process that has the run's lock, as a worker would."""
    code = "import sys, time, pathlib; from cxrmodels.files import Lock; "
    code += "lock = Lock.take(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder / LOCK_FILE)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


# ------------------------------------------------------------------------------------------------------ folders
def test_run_is_a_folder_in_the_runs_folder(home: Path, run: Run) -> None:
    assert run.folder.parent == home == runs_folder()
    assert run.config() == RunConfig(name="one")
    assert runs() == (run,)
    assert find(run.id) == run
    assert abs(run.created.timestamp() - time.time()) < 60


def test_default_is_the_users_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(RUNS_VARIABLE)
    monkeypatch.setattr(store, "user_data_path", lambda name: tmp_path / name)
    assert runs_folder() == tmp_path / "cxrmodels" / "runs"


def test_runs_come_in_order_of_creation_also_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: create(RunConfig(name=str(number))), range(40)))
    assert len({run.id for run in made}) == 40
    one_by_one = [create(RunConfig(name=name)).id for name in "abc"]
    assert [run.id for run in runs()][-3:] == one_by_one


def test_what_is_no_run_is_not_listed(home: Path, run: Run) -> None:
    (home / "imports").mkdir()
    (home / "20250101-000000-000000").mkdir()
    (home / ".new-20250101-000000-000001").mkdir()
    assert runs() == (run,)
    with pytest.raises(RunError, match="no run"):
        find("../runs")


def test_delete(home: Path, run: Run) -> None:
    run.delete()
    assert runs() == ()
    assert [path for path in home.iterdir() if path.is_dir()] == []


def test_run_with_a_worker_is_not_deleted(run: Run, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunError, match=r"queued.*Stop it"):
        run.delete()
    assert runs() == (run,)


# ------------------------------------------------------------------------------------------------------- states
BATCH = Batch(1, 1, (1.0,), (0.5,), 0.1, 1e-3)
STATES: dict[str, tuple[tuple[Event, ...], State, State]] = {
    # What was written; how the run is with a worker, and how without one.
    "nothing yet": ((), State.QUEUED, State.INTERRUPTED),
    "waiting": ((Queued(),), State.QUEUED, State.INTERRUPTED),
    "starting": ((Queued(), Started()), State.RUNNING, State.INTERRUPTED),
    "learning": ((Queued(), Started(), BATCH), State.RUNNING, State.INTERRUPTED),
    "paused": ((BATCH, Checkpoint(1, 1), Paused(1, 1)), State.PAUSED, State.INTERRUPTED),
    "paused and told something": (
        (BATCH, Paused(1, 1), Changed("learning_rate", 0.1, 1), Obeyed(1, "learning_rate", 1)),
        State.PAUSED,
        State.INTERRUPTED,
    ),
    "waiting again": ((Paused(1, 1), Obeyed(1, "resume", 1), Queued()), State.QUEUED, State.INTERRUPTED),
    "gone on": ((Paused(1, 1), Queued(), Resumed(1, 1)), State.RUNNING, State.INTERRUPTED),
    "just saved": ((Resumed(1, 1), BATCH, Checkpoint(1, 1)), State.RUNNING, State.INTERRUPTED),
    "finished": ((BATCH, Finished(1, 1)), State.FINISHED, State.FINISHED),
    "stopped": ((BATCH, Stopped("why", 1, 1)), State.STOPPED, State.STOPPED),
    "failed": ((Started(), Failed("why")), State.FAILED, State.FAILED),
    "failed and begun again": ((Failed("why"), Queued()), State.QUEUED, State.INTERRUPTED),
}


@pytest.mark.parametrize("name", STATES)
def test_state(name: str, run: Run) -> None:
    events, with_worker, without = STATES[name]
    write(run, *events)
    assert run.state() is without
    lock = Lock.take(run.folder / LOCK_FILE)
    assert lock is not None
    with lock:
        assert run.state() is with_worker
    assert run.state() is without


def test_killed_worker_is_seen_within_five_seconds(run: Run, holder: subprocess.Popen[str]) -> None:
    write(run, Queued(), Started(), BATCH)
    assert run.state() is State.RUNNING
    holder.send_signal(signal.SIGKILL)
    assert until(lambda: run.state() is State.INTERRUPTED) < 5


def test_number_of_another_process_is_not_taken_for_the_worker(run: Run) -> None:
    """The killed worker's number has been given to another process: this one, which is alive."""
    write(run, Queued(), Started(), BATCH)
    (run.folder / LOCK_FILE).write_text(str(os.getpid()))
    assert run.state() is State.INTERRUPTED
    assert worker_of(run) is None
    assert not terminate(run)


def test_silence(run: Run) -> None:
    assert run.silence() is None
    (run.folder / "heartbeat").touch()
    os.utime(run.folder / "heartbeat", (time.time() - 30, time.time() - 30))
    assert run.silence() == pytest.approx(30, abs=5)


def test_asking_for_the_state_never_hinders_taking_the_lock(run: Run) -> None:
    path = run.folder / LOCK_FILE
    path.touch()
    code = "import sys, pathlib\nfrom cxrmodels.files import is_held\nprint('go', flush=True)\n"
    code += "while True: is_held(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        asking.stdout.readline()
        try:
            for _ in range(30):
                lock = Lock.take(path)
                assert lock is not None
                assert is_held(path)
                lock.release()
        finally:
            asking.kill()


# ----------------------------------------------------------------------------------------------------- commands
def test_commands_are_numbered_whoever_sends_them(run: Run) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: send(run.folder, "pause"), range(30)))
    assert sorted(numbers) == list(range(1, 31))
    assert [command.number for command in read_commands(run.folder)] == list(range(1, 31))


def test_mailbox_gives_each_command_once(run: Run) -> None:
    mailbox = Mailbox(run.folder, 0)
    assert mailbox.take() == ()
    send(run.folder, "pause")
    send(run.folder, "learning_rate", 1e-4)
    assert [command.action for command in mailbox.peek()] == ["pause", "learning_rate"]
    assert [(one.number, one.action, one.value) for one in mailbox.take()] == [
        (1, "pause", None),
        (2, "learning_rate", 1e-4),
    ]
    assert mailbox.take() == mailbox.peek() == ()
    send(run.folder, "stop")
    assert [command.number for command in mailbox.take()] == [3]
    assert [command.number for command in Mailbox(run.folder, 1).take()] == [2, 3], "a new worker goes on behind"


@pytest.mark.parametrize(
    ("action", "value"), [("explode", None), ("learning_rate", None), ("learning_rate", -1.0), ("pause", 1.0)]
)
def test_impossible_command_is_refused(run: Run, action: str, value: float | None) -> None:
    with pytest.raises(ConfigError):
        send(run.folder, action, value)
    assert read_commands(run.folder) == ()


def test_command_without_a_worker_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="interrupted"):
        run.send("pause")
    assert read_commands(run.folder) == ()


def test_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.glob(".file*")) == []


# ------------------------------------------------------------------------------------------- workers and queue
def log_of(run: Run) -> list[Logged]:
    return run.follow().read()


def test_workers_wait_in_order_of_creation_and_can_be_stopped_there() -> None:
    first, second, third = (create(RunConfig(name=name)) for name in ("1", "2", "3"))
    device = Device(first)
    assert device.enter(lambda: False)
    # Launched the other way round.
    for run in (third, second):
        start(run)
        assert run.state() is State.QUEUED, "there is no moment without a worker"
        with pytest.raises(RunError, match="already"):
            start(run)
    until(lambda: all(log_of(run) for run in (second, third)))
    until(lambda: worker_of(second) is not None and (second.folder / "heartbeat").exists())
    # A turn for the third would come only after the second's.
    later, sooner = Device(third), Device(second)
    device.leave()
    third.send("stop")
    until(lambda: third.state() is State.STOPPED)
    assert [type(one.event) for one in log_of(third)][-2:] == [Obeyed, Stopped]
    until(lambda: any(isinstance(one.event, Started) for one in log_of(second)))
    assert not any(isinstance(one.event, Started) for one in log_of(third))
    number = worker_of(second)
    assert number is not None
    worker = psutil.Process(number)
    until(lambda: len(worker.children(recursive=True)) > 1)
    helpers = worker.children(recursive=True)
    os.kill(number, signal.SIGKILL)
    assert until(lambda: second.state() is State.INTERRUPTED) < 5
    until(lambda: not any(helper.is_running() for helper in helpers))
    assert sooner.enter(lambda: False), "a killed worker has freed the device"
    sooner.leave()
    assert later.enter(lambda: False)
    later.leave()
    with pytest.raises(RunError, match="stopped"):
        start(third)


def test_a_run_lets_those_before_it_go_first(run: Run) -> None:
    other = create(RunConfig(name="other"))
    lock = Lock.take(run.folder / LOCK_FILE)
    assert lock is not None
    looks = iter([False, False, True])
    assert not Device(other).enter(lambda: next(looks)), "the first waits, so the second does too"
    lock.release()
    looks = iter([False, True])
    device = Device(other)
    assert device.enter(lambda: next(looks)), "the first has no worker any more"
    device.leave()


def test_waiting_worker_ends_kindly(run: Run) -> None:
    device = Device(create(RunConfig()))
    lock = Lock.take(device._path)
    assert lock is not None
    with lock:
        start(run)
        until(lambda: bool(log_of(run)))
        assert terminate(run)
        until(lambda: run.state() is State.STOPPED)
    assert log_of(run)[-1].event == Stopped("the worker was told to end", 0, 0)


def test_run_that_was_deleted_is_not_started(run: Run) -> None:
    run.delete()
    with pytest.raises(RunError, match="no run"):
        start(run)


def test_worker_by_hand_leaves_a_run_that_has_one_alone(run: Run, holder: subprocess.Popen[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cxrmodels.training.worker", str(run.folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "already" in done.stderr
    assert json.loads((run.folder / "config.json").read_text())["name"] == "one"
    assert not run.events.exists()
