"""Workers that train: told of, steered, killed and resumed, all over real processes on tiny networks."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from cxrmodels.evaluation.predictions import read_predictions
from cxrmodels.lab import process, worker
from cxrmodels.lab.config import ConfigurableCnn, FolderData, ManifestData, PhantomData, RunConfig
from cxrmodels.lab.control import send
from cxrmodels.lab.data import LabData
from cxrmodels.lab.events import (
    DISK_FULL,
    Batch,
    Changed,
    Checkpoint,
    Event,
    EventReader,
    Failed,
    Finished,
    Obeyed,
    Paused,
    Stopped,
)
from cxrmodels.lab.history import History
from cxrmodels.lab.line import Listener, say_likely, say_run
from cxrmodels.lab.pictures import read_arrays, read_filters, read_heat, read_held_out
from cxrmodels.lab.process import start, terminate, worker_of
from cxrmodels.lab.store import RUNS_VARIABLE, Run, State, create, runs

ROOT = Path(__file__).resolve().parent.parent
CONFIG = RunConfig(
    name="tiny",
    data=PhantomData(films=60, difficulty=0.1, noise=0.1, findings=("normal", "covid19", "viral_pneumonia")),
    network=ConfigurableCnn(blocks=2, filters=4, dropout=0.4, batch_norm=True, dense=8),
    input_size=32,
    batch_size=4,
    epochs=6,
    schedule="cosine",
    augmentation=0.3,
    class_weights=True,
    label_noise=0.1,
)
STEPS_AN_EPOCH = 12  # 48 training films


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUNS_VARIABLE, str(folder))
        yield folder
        for run in runs():
            number = worker_of(run)
            if number is not None:  # a test failed
                os.kill(number, signal.SIGKILL)


class Viewer:
    """Looks at a run as a page does."""

    def __init__(self, run: Run) -> None:
        self.run, self.history, self.events = run, History(), list[Event]()
        self._reader = run.follow()

    def look(self) -> None:
        new = self._reader.read()
        self.events += [one.event for one in new]
        self.history.add(new)

    def until(self, holds: Callable[[], bool], seconds: float = 90.0) -> float:
        began = time.monotonic()
        while True:
            self.look()
            if holds():
                return time.monotonic() - began
            assert time.monotonic() - began < seconds, f"it did not come; {self.run.state()}: {self.events[-3:]}"
            failed = self.run.state() is State.FAILED
            assert not failed, (self.run.folder / "worker.log").read_text()[-3000:]
            time.sleep(0.005)

    def obeyed(self, command: int) -> None:
        self.until(lambda: self.history.obeyed >= command)

    def paused(self, step: int) -> None:
        """Wait until it is paused after `step`, and sure to stay so."""
        self.until(lambda: any(isinstance(event, Paused) and event.step == step for event in self.events))
        self.until(lambda: self.run.state() is State.PAUSED)
        assert max(self.history.steps) == step

    def ended(self) -> None:
        self.until(lambda: self.run.state() in (State.FINISHED, State.STOPPED))
        self.until(lambda: not self.run.alive())


def steer(viewer: Viewer) -> None:
    """One epoch; then another learning rate, and one step; all through `control.json`."""
    send(viewer.run.folder, "one_epoch")
    start(viewer.run)
    viewer.paused(STEPS_AN_EPOCH)
    viewer.run.send("learning_rate", 3e-3)
    viewer.obeyed(viewer.run.send("one_step"))
    viewer.paused(STEPS_AN_EPOCH + 1)


@pytest.fixture(scope="module")
def straight(home: Path) -> Viewer:
    """A run that is steered and never killed."""
    viewer = Viewer(create(CONFIG))
    steer(viewer)
    viewer.run.send("resume")
    viewer.ended()
    return viewer


def test_run_is_told_from_start_to_end(straight: Viewer) -> None:
    history, run = straight.history, straight.run
    assert run.state() is State.FINISHED
    assert history.outcome == Finished(6, 6 * STEPS_AN_EPOCH)
    assert list(history.steps) == list(range(1, 6 * STEPS_AN_EPOCH + 1))
    assert list(history.epochs) == list(history.pinned) == list(history.filters) == list(history.mistakes)
    assert list(history.epochs) == [1, 2, 3, 4, 5, 6]
    assert history.prepared is not None
    assert (history.prepared.training_films, history.prepared.validation_films) == (48, 12)
    for epoch, ended in history.epochs.items():
        own = [step for step in history.steps.values() if step.epoch == epoch]
        assert ended.training_loss == pytest.approx(np.mean([step.loss for step in own]), rel=1e-12)
        matrix = np.array(ended.confusion)
        assert matrix.sum() == 12
        assert ended.validation_accuracy == pytest.approx(np.trace(matrix) / 12)
        assert ended.sensitivity == pytest.approx(np.diag(matrix) / matrix.sum(1))
        wrong = history.mistakes[epoch]
        assert len(wrong.film_ids) == 12 - np.trace(matrix)
        assert list(wrong.probabilities) == sorted(wrong.probabilities, reverse=True)
        for true, called in zip(wrong.true, wrong.called, strict=True):
            assert matrix[true, called] > 0


def test_learning_rate_follows_schedule_and_command(straight: Viewer) -> None:
    rates = {step: one.learning_rate for step, one in straight.history.steps.items()}
    steps, at = 6 * STEPS_AN_EPOCH, STEPS_AN_EPOCH

    def cosine(step: int) -> float:
        return 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / steps))

    assert straight.history.changes == [Changed("learning_rate", 3e-3, at)]
    assert rates[1] == pytest.approx(1e-3)
    # A line of several steps tells the rate of its last one; at the pauses a line ends.
    assert rates[at] == pytest.approx(1e-3 * cosine(at - 1))
    assert rates[at + 1] == pytest.approx(3e-3)
    assert rates[steps] == pytest.approx(3e-3 * cosine(steps - 1) / cosine(at))


def test_every_command_is_answered(straight: Viewer) -> None:
    answers = [event for event in straight.events if isinstance(event, Obeyed)]
    assert [(one.command, one.action) for one in answers] == [
        (1, "one_epoch"),
        (2, "learning_rate"),
        (3, "one_step"),
        (4, "resume"),
    ]


def test_two_viewers_see_the_same(straight: Viewer) -> None:
    assert [one.event for one in EventReader(straight.run.events).read()] == straight.events


def test_pictures_of_every_epoch(straight: Viewer) -> None:
    folder = straight.run.folder
    held_out = read_held_out(folder)
    assert held_out.films.shape == (12, 32, 32)
    assert straight.history.prepared is not None
    pinned = straight.history.prepared.pinned
    assert sorted(held_out.labels[held_out.position(film)] for film in pinned) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(KeyError):
        held_out.position("nobody")
    maps = []
    for event in straight.history.pinned.values():
        assert np.array(event.probabilities).sum(1) == pytest.approx(1, abs=1e-3)
        heat = read_heat(folder, event.file, 64)
        assert heat.shape == (6, 64, 64)
        assert 0 <= heat.min() <= heat.max() <= 1
        maps.append(heat)
    assert np.abs(maps[0] - maps[-1]).max() > 0.05, "they change while it learns"
    kernels = [read_filters(folder, event.file) for event in straight.history.filters.values()]
    assert kernels[0].shape == (4, 3, 3)
    assert np.abs(kernels[0] - kernels[-1]).max() > 1e-4


def test_model_and_report_agree(straight: Viewer) -> None:
    import keras

    folder = straight.run.folder
    network = keras.models.load_model(folder / "model.keras", compile=False)
    held_out = read_held_out(folder)
    logits = np.asarray(network.predict_on_batch(held_out.films[..., None] / np.float32(255)))
    stored = read_predictions(folder / "predictions.csv.gz")
    np.testing.assert_allclose(stored.logits, logits, atol=1e-3)
    last = straight.history.epochs[6]
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "finished"
    assert report["validation"]["confusion"] == [list(row) for row in last.confusion]
    accuracy = report["validation"]["estimates"]["accuracy"]
    assert accuracy["value"] == pytest.approx(last.validation_accuracy, abs=1e-4)
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert report["config"] == json.loads(CONFIG.to_json())
    assert [epoch["epoch"] for epoch in report["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert report["changes"] == [{"what": "learning_rate", "value": 0.003, "step": 12}]
    assert sum(report["films"]["training"].values()) == 48
    assert "diagnos" in report["notice"].lower()


def test_killed_at_any_step_it_ends_the_same(straight: Viewer) -> None:
    """Killed while paused within an epoch, then at random steps: same weights, same curve, nothing lost on the way."""
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    viewer = Viewer(create(CONFIG))
    steer(viewer)
    seen = kill(viewer)
    first = chance.randint(STEPS_AN_EPOCH + 2, 3 * STEPS_AN_EPOCH)
    for step in (first, chance.randint(first + 1, 4 * STEPS_AN_EPOCH)):
        before = len(viewer.events)
        start(viewer.run)
        # It may have got further than this before the last kill: what counts is what this worker does.
        viewer.until(lambda before=before, at=step: last_step(viewer.events[before:]) >= at)  # type: ignore[misc]
        seen |= kill(viewer)
    start(viewer.run)
    viewer.ended()
    assert seen.keys() <= viewer.history.steps.keys()
    for name, array in read_arrays(viewer.run.folder / "checkpoint.npz").items():
        expected = read_arrays(straight.run.folder / "checkpoint.npz")[name]
        if name != "state":  # it holds seconds
            np.testing.assert_array_equal(array, expected, err_msg=f"{name}, seed {seed}")
    curve, expected_curve = (
        [(step, one.epoch, one.loss, one.accuracy) for step, one in sorted(each.history.steps.items())]
        for each in (viewer, straight)
    )
    assert curve == expected_curve, f"seed {seed}"
    assert seen.items() <= {step: loss for step, _, loss, _ in expected_curve}.items(), "what was on screen was true"
    for epoch, ended in straight.history.epochs.items():
        other = viewer.history.epochs[epoch]
        alike = replace(other, films_per_s=ended.films_per_s, seconds=ended.seconds, memory_mb=ended.memory_mb)
        assert alike == ended, f"seed {seed}"
        assert viewer.history.pinned[epoch].probabilities == straight.history.pinned[epoch].probabilities
    assert viewer.history.changes == straight.history.changes
    assert viewer.history.generations == 4


def last_step(events: list[Event]) -> int:
    return max((one.first + len(one.losses) - 1 for one in events if isinstance(one, Batch)), default=0)


def kill(viewer: Viewer) -> dict[int, float]:
    """SIGKILL; the losses that were on screen just then."""
    number = worker_of(viewer.run)
    assert number is not None
    os.kill(number, signal.SIGKILL)
    viewer.look()
    seen = {step: one.loss for step, one in viewer.history.steps.items()}
    assert viewer.until(lambda: viewer.run.state() is State.INTERRUPTED) < 5
    return seen


def test_pause_stop_and_a_report_for_what_was_learnt(home: Path) -> None:
    viewer = Viewer(create(replace(CONFIG, name="long", epochs=500, mixed_precision=True, schedule="step")))
    start(viewer.run)
    viewer.until(lambda: len(viewer.history.steps) > 3)
    began = time.monotonic()
    viewer.obeyed(viewer.run.send("pause"))
    assert time.monotonic() - began < 5
    viewer.until(lambda: viewer.run.state() is State.PAUSED)
    viewer.look()
    step = max(viewer.history.steps)
    time.sleep(0.3)
    viewer.look()
    assert max(viewer.history.steps) == step, "it stands still"
    checkpoints = [event for event in viewer.events if isinstance(event, Checkpoint)]
    assert checkpoints[-1].step == step
    viewer.run.send("resume")
    viewer.until(lambda: max(viewer.history.steps) > step)
    viewer.run.send("stop")
    viewer.ended()
    assert viewer.run.state() is State.STOPPED
    outcome = viewer.history.outcome
    assert isinstance(outcome, Stopped)
    assert outcome.step == max(viewer.history.steps) < 500 * STEPS_AN_EPOCH
    report = json.loads((viewer.run.folder / "report.json").read_text())
    assert report["outcome"] == outcome.reason == "stopped by a viewer"
    assert report["steps"] == outcome.step
    assert (viewer.run.folder / "model.keras").is_file()
    viewer.run.delete()
    assert not viewer.run.folder.exists()


def test_terminated_worker_writes_its_report_and_changed_films_are_told(
    home: Path,
) -> None:
    two = replace(CONFIG, data=PhantomData(films=40, findings=("normal", "covid19")), network="two_conv_cnn")
    viewer = Viewer(create(replace(two, name="told to end", epochs=500)))
    start(viewer.run)
    viewer.until(lambda: len(viewer.history.epochs) > 0)
    assert terminate(viewer.run)
    viewer.ended()
    assert viewer.history.outcome is not None
    assert "told to end" in str(viewer.history.outcome)
    assert json.loads((viewer.run.folder / "report.json").read_text())["steps"] == max(viewer.history.steps)
    # The same run with other films: it may not go on as if they were the same.
    other = create(replace(two, seed=1))
    (other.folder / "checkpoint.npz").write_bytes((viewer.run.folder / "checkpoint.npz").read_bytes())
    start(other)
    message = failure(other)
    assert "no longer those that this run began with" in message


def test_failure_is_told_in_one_line(home: Path) -> None:
    run = create(replace(CONFIG, data=FolderData("gone", ("a", "b"))))
    start(run)
    assert "no import 'gone'" in failure(run)
    assert "Traceback" in (run.folder / "worker.log").read_text()


def test_on_a_full_disk_it_says_so_and_goes_on_when_there_is_room(home: Path) -> None:
    viewer = Viewer(create(replace(CONFIG, name="no room", epochs=2)))
    # No file grows beyond some kilobytes: events fit, a checkpoint does not.
    code = "from tests.bad_days import full_disk\nfrom cxrmodels.lab.worker import main\nimport sys\n"
    code += f"with full_disk(4000): sys.exit(main([{str(viewer.run.folder)!r}]))"
    log = (viewer.run.folder / "worker.log").open("wb")
    with log:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=log, stderr=log, check=False, timeout=300)
    assert done.returncode == 1
    assert failure(viewer.run) == DISK_FULL
    start(viewer.run)
    deadline = time.monotonic() + 90
    while viewer.run.state() is State.FAILED:  # until the new worker has said something
        assert time.monotonic() < deadline
        time.sleep(0.02)
    viewer.ended()
    assert viewer.run.state() is State.FINISHED
    assert sorted(viewer.history.steps) == list(range(1, 2 * STEPS_AN_EPOCH + 1))


def failure(run: Run) -> str:
    viewer = Viewer(run)
    deadline = time.monotonic() + 60
    while run.alive() or not viewer.events:
        assert time.monotonic() < deadline
        viewer.look()
        time.sleep(0.02)
    viewer.look()
    assert run.state() is State.FAILED
    outcome = viewer.history.outcome
    assert isinstance(outcome, Failed)
    assert "\n" not in outcome.message
    return outcome.message


# ------------------------------------------------------------------------------------------------ kept warm
@pytest.fixture
def waiting() -> Iterator[int]:
    """The number of a worker that waits for a run."""
    process.warm_up()
    process.warm_up()
    (one,) = process._waiting
    yield one.process.pid
    process.cool_down()


def curve(run: Run) -> list[tuple[float, float]]:
    viewer = Viewer(run)
    viewer.ended()
    assert run.state() is State.FINISHED
    return [(batch.loss, batch.accuracy) for batch in viewer.history.steps.values()]


def test_a_worker_that_waited_trains_as_a_new_one_does(waiting: int, home: Path) -> None:
    warm, cold = (create(replace(CONFIG, epochs=1)) for _ in range(2))
    assert start(warm) == waiting
    assert warm.alive(), "there is no moment without a worker"
    assert start(cold) != waiting
    assert curve(warm) == curve(cold)


def test_a_waiting_worker_that_was_killed_is_replaced(waiting: int) -> None:
    os.kill(waiting, signal.SIGKILL)
    # On a busy machine its end of the line stays open for a moment yet.
    process._waiting[0].process.wait(60)
    run = create(replace(CONFIG, epochs=1))
    number = start(run)
    assert number != waiting
    assert curve(run)


def test_a_worker_that_waits_ends_with_its_server() -> None:
    code = "from cxrmodels.lab import process\nprocess.warm_up()\nprint(process._waiting[0].process.pid, flush=True)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    worker = psutil.Process(int(done.stdout))
    assert not psutil.wait_procs([worker], timeout=60)[1]


AHEAD = """
import sys
from pathlib import Path
from cxrmodels.lab import worker
from cxrmodels.lab.config import RunConfig
from cxrmodels.lab.data import load
from cxrmodels.lab.store import Run
from cxrmodels.lab.turns import Ending

if __name__ == "__main__":
    run = Run(Path(sys.argv[1]))
    loop = worker._import_loop()
    loop.set_up()
    other = RunConfig(data=run.config().data, optimizer="sgd", mixed_precision=True, seed=5)
    loop.rehearse(loop.make_ready(other, load(other)))
    loop.forget()
    ready = loop.make_ready(run.config(), load(run.config()))
    loop.rehearse(ready)
    sys.exit(worker._work(run, ready, Ending()))
"""


def test_what_was_made_ready_ahead_learns_the_same_bit_for_bit(home: Path) -> None:
    """Even after other settings had been made ready before it."""
    cold, ahead = (create(replace(CONFIG, epochs=2)) for _ in range(2))
    start(cold)
    subprocess.run([sys.executable, "-c", AHEAD, str(ahead.folder)], check=True, timeout=300)
    assert curve(ahead) == curve(cold)
    stored, expected = (read_arrays(run.folder / "checkpoint.npz") for run in (ahead, cold))
    for name in expected.keys() - {"state"}:
        np.testing.assert_array_equal(stored[name], expected[name], err_msg=name)


class FakeLoop:
    """Notes what is made ready, without Keras. `meanwhile` is called when a network is asked for."""

    def __init__(self) -> None:
        self.rehearsed: list[RunConfig] = []
        self.forgotten = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def make_ready(self, config: RunConfig, data: LabData) -> tuple[RunConfig, LabData]:
        self.meanwhile()
        return config, data

    def rehearse(self, ready: tuple[RunConfig, LabData]) -> None:
        self.rehearsed.append(ready[0])

    def forget(self) -> None:
        self.forgotten += 1


@dataclass
class Talk:
    """A server's end of the line, and what the worker's end makes of it."""

    server: socket.socket
    line: Listener
    loop: FakeLoop
    found: object = None

    def likely(self, config: RunConfig) -> None:
        say_likely(self.server, config)

    def hand_over(self, config: RunConfig) -> Run:
        run = create(config)
        with (run.folder / "log").open("ab") as log, (run.folder / "lock").open("ab") as lock:
            say_run(self.server, run.folder, {"A": "b"}, lock.fileno(), log.fileno())
        return run

    def until_order(self) -> None:
        self.found = worker._until_order(self.line, self.loop)  # type: ignore[arg-type]


@pytest.fixture
def talk(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    monkeypatch.setattr(worker, "weigh", lambda number, niceness: None)
    monkeypatch.setattr(worker, "_SETTLED", 0.01)
    server, own = socket.socketpair()
    with server, Listener(own.detach()) as line:
        yield Talk(server, line, FakeLoop())
        for number in (line.order.lock, line.order.log) if line.order else ():
            os.close(number)


def test_settings_that_were_named_are_ready_when_a_run_with_them_comes(talk: Talk) -> None:
    talk.likely(CONFIG)
    talk.loop.meanwhile = lambda: talk.hand_over(CONFIG)
    talk.until_order()
    assert talk.loop.rehearsed == [CONFIG]
    assert isinstance(talk.found, tuple)
    assert talk.found[0] == CONFIG
    assert talk.line.order is not None
    assert talk.line.order.environment == {"A": "b"}
    assert os.fstat(talk.line.order.log)


def test_newer_settings_count(talk: Talk) -> None:
    newer = replace(CONFIG, seed=1)
    talk.likely(CONFIG)

    def change() -> None:
        talk.loop.meanwhile = talk.server.close
        talk.likely(newer)

    talk.loop.meanwhile = change
    talk.until_order()
    assert talk.loop.rehearsed == [CONFIG, newer]
    assert talk.loop.forgotten == 1


@pytest.mark.parametrize("same", [True, False], ids=["these", "others"])
def test_a_run_that_comes_while_films_are_made(same: bool, talk: Talk) -> None:
    """With these settings it gets what is being made; with others it waits for nothing."""
    talk.likely(CONFIG)
    config = CONFIG if same else replace(CONFIG, seed=1)
    looks = talk.line.look

    def handed_over_when_films_are_made(patience: float) -> bool:
        if patience == 0 and talk.server.fileno() >= 0:
            talk.hand_over(config)
            talk.server.close()
        return looks(patience)

    talk.line.look = handed_over_when_films_are_made  # type: ignore[method-assign]
    talk.until_order()
    assert talk.line.order is not None
    assert talk.line.wanted == config
    assert (talk.found is not None) == same
    assert talk.loop.rehearsed == [CONFIG] * same


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(data=ManifestData()),
        RunConfig(data=PhantomData(films=20_000), input_size=256),
        RunConfig(data=PhantomData(films=4)),
    ],
    ids=["real films", "too much memory", "not possible"],
)
def test_what_is_not_made_ahead(config: RunConfig, talk: Talk) -> None:
    talk.likely(config)
    talk.server.shutdown(socket.SHUT_WR)
    talk.until_order()
    assert talk.line.wanted == config
    assert talk.line.over
    assert talk.found is None
    assert talk.loop.rehearsed == []


def test_a_worker_that_nobody_speaks_to_ends(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_PATIENCE", 0.05)
    talk.until_order()
    assert talk.line.order is None
