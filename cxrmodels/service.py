"""One place where models are loaded and run for everybody: in the background, in turn, each answer kept."""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrmodels import lungs
from cxrmodels.engine import Engine, Output
from cxrmodels.explain.saliency import SaliencyMap, saliency
from cxrmodels.explain.steps import Steps
from cxrmodels.fair_line import FairLine, LineFullError, Task
from cxrmodels.gate import Gate, judge
from cxrmodels.inference import Prediction, network_input, predict
from cxrmodels.lungs import Lungs, find
from cxrmodels.memory import Tidier, weight
from cxrmodels.models import load, spec
from cxrmodels.preprocessing import NEEDS_LUNGS
from cxrmodels.radiograph import Radiograph
from cxrmodels.runtime import import_tensorflow, needs_tensorflow
from cxrmodels.zoo import ModelError

FAILURE_SECONDS = 5.0
"""How long a failure is the answer before the work is tried anew, so that a page which looks again can show it."""

_ATTEMPTS = 5
# Importing TensorFlow keeps Python busy for seconds: the page that asked for it is to reach the browser first.
_BREATH_SECONDS = 1.5
# A page looks for one answer and then asks for what follows from it: the next model is not loaded in between.
_LULL_SECONDS = 1.0
_LOOK_SECONDS = 0.05

UNWATCHED_SECONDS = 120.0
"""Work in pieces that nobody has asked about for so long is given up: whoever wanted it has left the page."""

_KEPT_JOBS = 128

KEPT_BYTES = 128 * 2**20
"""Answers kept, in bytes of their arrays, and as much again for long work; the least recently used go first."""

MOST_WAITING = 32
"""Films that may wait for the models, of all viewers together. Each is some tenths of a second of work."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A model's prediction for a film, and the network's output that heat maps start from."""

    prediction: Prediction
    output: Output


class Job:
    """Long work that is done in pieces between other work.

    Attributes:
        share: how much of it is done, 0-1.
        answer: its result, once it is there; cancelled when it was stopped, or nobody watched any more.
    """

    def __init__(self, make: Callable[[], Steps[Any]]) -> None:
        self.share, self.answer = 0.0, Future[Any]()
        self.watched = time.monotonic()
        # Both hold the film, and are let go of when there is nothing left to do.
        self._make: Callable[[], Steps[Any]] | None = make
        self._steps: Steps[Any] | None = None
        self._attempts = 0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End it before its next piece."""
        self._stopped.set()
        self.answer.cancel()

    def advance(self) -> bool:
        """Do one piece. Returns whether there is more to do."""
        more = self._advance()
        if not more:
            self._make = self._steps = None
        return more

    def _advance(self) -> bool:
        if self._stopped.is_set() or time.monotonic() - self.watched > UNWATCHED_SECONDS:
            self.answer.cancel()
            return False
        assert self._make is not None, "work that is done is not advanced"
        try:
            if self._steps is None:
                self._steps = self._make()
            self.share = next(self._steps)
        except StopIteration as done:
            self.share, result = 1.0, done.value
            self._settle(lambda: self.answer.set_result(result))
            return False
        except Exception as problem:
            # What is traced while Streamlit clears Keras' state fails, and is well when it is begun anew; see below.
            self._attempts, self._steps = self._attempts + 1, None
            if isinstance(problem, ModelError | ValueError) or self._attempts == _ATTEMPTS:
                failure = problem
                self._settle(lambda: self.answer.set_exception(failure))
                return False
        return True

    def _settle(self, settle: Callable[[], None]) -> None:
        # Stopped between the last piece and now, it is cancelled already.
        with contextlib.suppress(InvalidStateError):
            settle()


class Service:
    """Models and their answers, shared by all viewers of a server.

    Work runs on one thread: a network uses all cores for one film already, and a second network beside it would only
    make both wait. Viewers take turns, see `fair_line`. Nothing here blocks a caller; each call gives a `Future` whose
    exception, if any, is a `ModelError`: a `LineFullError` where too many films wait.

    Args:
        kept_bytes: see `KEPT_BYTES`.
        most_waiting: see `MOST_WAITING`.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES, most_waiting: int = MOST_WAITING) -> None:
        # One place in its queue for every task; which task it is, is settled when its turn comes.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._preparer = ThreadPoolExecutor(2, thread_name_prefix="preparing")
        self._line = FairLine(most_waiting)
        self._engines: dict[str, Engine] = {}
        self._answers: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        # Of what is finished, weighed once: all of it anew at each answer was a third of the worker's time.
        self._weights: dict[Hashable, int] = {}
        self._job_weights: dict[Hashable, int] = {}
        self._askers: dict[Hashable, set[str]] = {}
        self._failures: dict[Hashable, float] = {}
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._prepared: tuple[str, dict[str, Future[np.ndarray]]] = ("", {})
        self._kept_bytes = kept_bytes
        self.tidier = Tidier()
        self._guard = threading.Lock()

    def close(self) -> None:
        """End the threads and let go of the networks; what waits is not done any more."""
        self._worker.shutdown(cancel_futures=True)
        self._preparer.shutdown(cancel_futures=True)
        self._engines.clear()
        # They were put out of the collector's sight and would stay, a gigabyte for all of them.
        gc.unfreeze()
        _out_of_sight()

    def warm_up(self, keys: tuple[str, ...], then: Callable[[], object]) -> None:
        """Load models and compile them, while nobody is waiting yet; `then` is called last.

        What is asked for meanwhile comes before the models that are not loaded yet, and so does what a page goes on to
        ask for when it has that.
        """
        if not keys:
            self._ask(None, "then", then, counts=False)
            return

        def step() -> None:
            if self._line.idle_seconds() < _LULL_SECONDS:
                time.sleep(_LOOK_SECONDS)
                self.warm_up(keys, then)
                return
            try:
                self._engine(keys[0])
            finally:  # A model that fails stops no other; whoever asks for it is told why.
                self.warm_up(keys[1:], then)

        self._ask(None, keys, step, counts=False)

    def read(self, radiograph: Radiograph, key: str, viewer: str = "") -> Future[Reading]:
        """What a model says of a film. Asked again, the same answer at once."""

        def work() -> Reading:
            return Reading(*predict(self._engine(key), radiograph, self._input(radiograph, key)))

        return self._once((radiograph.sha256, key), radiograph, viewer, work)

    def heat(
        self, radiograph: Radiograph, key: str, finding: str, method: str, size: tuple[int, int], viewer: str = ""
    ) -> Future[SaliencyMap]:
        """A heat map of (height, width) `size`; see `explain.saliency`."""
        reading = self.read(radiograph, key, viewer)

        def work() -> SaliencyMap:
            # The worker is one thread: what was asked before this has run, or failed, by now.
            return saliency(self._engine(key), radiograph, reading.result().output, finding, method, size)

        return self._once((radiograph.sha256, key, finding, method, size), radiograph, viewer, work)

    def lungs(self, radiograph: Radiograph, folder: Path | None, viewer: str = "") -> Future[Lungs | None]:
        """Where the lungs of a film are; see `lungs.find`."""
        return self._once((radiograph.sha256, "lungs", folder), radiograph, viewer, lambda: find(radiograph, folder))

    def gate(self, radiograph: Radiograph, viewer: str = "") -> Future[Gate]:
        """Whether the film is one that the models can judge; see `gate.judge`."""
        return self._once(("gate", radiograph.sha256), radiograph, viewer, lambda: judge(radiograph))

    def place(self, radiograph: Radiograph) -> int | None:
        """A film's place in line: 1 when it is being worked on or next; None when nothing waits for it."""
        return self._line.place(radiograph.sha256)

    @property
    def waiting(self) -> int:
        """Films, and pieces of long work, that wait for the models."""
        return len(self._line)

    @property
    def kept_bytes(self) -> int:
        """Bytes of all answers that are kept."""
        with self._guard:
            return sum(self._weights.values()) + sum(self._job_weights.values())

    def forget(self, viewer: str, radiograph: Radiograph | None = None) -> None:
        """Drop what was asked by this viewer, who has left, and by nobody else: answers, and what waits or is at work.

        Args:
            viewer: as given to `read` and the others.
            radiograph: only what is about this film.
        """
        dropped: list[Future[Any]] = []
        with self._guard:
            for name, askers in list(self._askers.items()):
                if radiograph is not None and not (isinstance(name, tuple) and radiograph.sha256 in name):
                    continue
                askers.discard(viewer)
                if askers:
                    continue
                self._failures.pop(name, None)
                self._drop_job(name)
                if future := self._drop_answer(name):
                    dropped.append(future)
            if radiograph is None or self._prepared[0] == radiograph.sha256:
                self._prepared = ("", {})
        for future in dropped:  # Not under the guard, which what follows from it takes.
            future.cancel()
        self._line.prune()

    def work(self, name: Hashable, key: str, make: Callable[[Engine], Steps[Any]], viewer: str = "") -> Job:
        """Long work with a model, in pieces: what others ask for meanwhile waits for one piece at most.

        Args:
            name: what the work is; asked again under the same name, the same job, unless it was stopped.
            key: the model's.
            make: begins the work, given the model's engine.
            viewer: whose row its pieces stand in.
        """
        with self._guard:
            job = self._jobs.get(name)
            begun = job is None or job.answer.cancelled()
            if job is None or begun:
                job = self._jobs[name] = Job(lambda: make(self._engine(key)))
            job.watched = time.monotonic()
            self._jobs.move_to_end(name)
            self._askers.setdefault(name, set()).add(viewer)
            while len(self._jobs) > _KEPT_JOBS:
                self._drop_job(next(iter(self._jobs)))
        if begun:
            try:
                self._ask(viewer, job, lambda: self._advance(name, job, viewer))
            except LineFullError as full:
                job.answer.set_exception(full)
                with self._guard:
                    self._drop_job(name)
        return job

    def known(self, name: Hashable) -> Job | None:
        """A job that was asked for before; nothing is begun."""
        return self._jobs.get(name)

    def _drop_job(self, name: Hashable) -> None:
        if job := self._jobs.pop(name, None):
            job.stop()
        self._job_weights.pop(name, None)
        self._askers.pop(name, None)

    def _drop_answer(self, name: Hashable) -> Future[Any] | None:
        self._weights.pop(name, None)
        self._askers.pop(name, None)
        return self._answers.pop(name, None)

    def _advance(self, name: Hashable, job: Job, viewer: str) -> None:
        if job.advance():
            # In a new turn: whatever others asked for meanwhile comes first.
            self._ask(viewer, job, lambda: self._advance(name, job, viewer), counts=False)
            return
        with self._guard:
            if self._jobs.get(name) is job and succeeded(job.answer):
                self._job_weights[name] = weight(job.answer.result())
            self._make_room(self._jobs, self._job_weights, self._drop_job)

    def engine(self, key: str, viewer: str = "") -> Future[Engine]:
        """A model's engine, loaded in turn with the other work."""
        try:
            return self._ask(viewer, ("engine", key), lambda: self._engine(key))
        except LineFullError as full:
            return _failed(full)

    def ready(self, key: str) -> bool:
        """Whether a model has been loaded."""
        return key in self._engines

    def _engine(self, key: str) -> Engine:
        if key not in self._engines:
            engine = _ready_engine(key)
            if engine.loaded.spec.preprocessing in NEEDS_LUNGS:
                with contextlib.suppress(ModelError):  # Whoever has a film read is told.
                    lungs.load_network()
            self._engines[key] = engine
            _out_of_sight()
        return self._engines[key]

    def _ask(self, viewer: str | None, about: Hashable, work: Callable[[], Any], *, counts: bool = True) -> Future[Any]:
        """Put work in line.

        Raises:
            LineFullError: too much waits.
        """
        task = Task(work)
        self._line.put(viewer, about, task, counts=counts)
        self._worker.submit(self._next)
        return task.answer

    def _next(self) -> None:
        if task := self._line.take():
            task.run()
        self._line.rest()

    def _input(self, radiograph: Radiograph, key: str) -> np.ndarray:
        """A film as a model takes it. Those of all models that wait for the same film are made at once, by two threads,
        while the first network runs: together they take a third of the networks' own time."""
        with self._guard:
            if self._prepared[0] != radiograph.sha256:
                self._prepared = (radiograph.sha256, {})
            made = self._prepared[1]
            # Not those that are still to be loaded: Keras is no good at two things at a time.
            waiting = [
                other
                for other in self._engines
                if (answer := self._answers.get((radiograph.sha256, other))) and not answer.done()
            ]
            for other in {key, *waiting}:
                if other not in made:
                    made[other] = self._preparer.submit(_prepare, radiograph, other)
            mine = made.pop(key)
        return mine.result()

    def _once(self, name: Hashable, radiograph: Radiograph, viewer: str, work: Callable[[], Any]) -> Future[Any]:
        with self._guard:
            expired = time.monotonic() - self._failures.get(name, math.inf) > FAILURE_SECONDS
            if name in self._answers and not expired:
                self._answers.move_to_end(name)
                self._askers[name].add(viewer)
                return self._answers[name]
            try:
                future = self._ask(viewer, radiograph.sha256, work)
            except LineFullError as full:
                return _failed(full)  # Not kept: the next time there may be room.
            self._failures.pop(name, None)
            self._answers[name] = future
            self._askers.setdefault(name, set()).add(viewer)
        future.add_done_callback(lambda done: self._settle(name, done))
        return future

    def _settle(self, name: Hashable, done: Future[Any]) -> None:
        """Note when work failed, so that it is tried anew in a while; forget old answers beyond the limit."""
        with self._guard:
            if self._answers.get(name) is not done:
                return  # Everybody who wanted it has left.
            if done.cancelled():
                self._drop_answer(name)
            elif done.exception() is not None:
                self._failures[name] = time.monotonic()
            else:
                self._weights[name] = weight(done.result())
                self._make_room(self._answers, self._weights, self._drop_answer)

    def _make_room(
        self, kept: OrderedDict[Hashable, Any], weights: dict[Hashable, int], drop: Callable[[Hashable], object]
    ) -> None:
        """Drop the least recently used of what is finished, until the rest is light enough."""
        total = sum(weights.values())
        for name in list(kept):
            if total <= self._kept_bytes:
                return
            if name in weights:
                total -= weights[name]
                drop(name)


class Viewer:
    """The service as one viewer has it: what they ask for stands in their own row of the line, see `fair_line`."""

    def __init__(self, service: Service, name: str) -> None:
        self._service, self._name = service, name
        self.place, self.known, self.ready = service.place, service.known, service.ready

    def read(self, radiograph: Radiograph, key: str) -> Future[Reading]:
        """See `Service.read`; the others likewise."""
        return self._service.read(radiograph, key, self._name)

    def heat(
        self, radiograph: Radiograph, key: str, finding: str, method: str, size: tuple[int, int]
    ) -> Future[SaliencyMap]:
        return self._service.heat(radiograph, key, finding, method, size, self._name)

    def gate(self, radiograph: Radiograph) -> Future[Gate]:
        return self._service.gate(radiograph, self._name)

    def lungs(self, radiograph: Radiograph, folder: Path | None) -> Future[Lungs | None]:
        return self._service.lungs(radiograph, folder, self._name)

    def work(self, name: Hashable, key: str, make: Callable[[Engine], Steps[Any]]) -> Job:
        return self._service.work(name, key, make, self._name)

    def engine(self, key: str) -> Future[Engine]:
        return self._service.engine(key, self._name)

    def leave(self) -> None:
        """Forget what was asked by this viewer alone."""
        self._service.forget(self._name)
        self._service.tidier.soon()


def _prepare(radiograph: Radiograph, key: str) -> np.ndarray:
    return network_input(radiograph, spec(key))


def _out_of_sight() -> None:
    """Streamlit collects garbage after every script run; what a network consists of stays alive anyway, and taking it
    out of the collector's sight makes each run some 0.4 s shorter."""
    gc.collect()
    gc.freeze()


def settled(future: Future[Any]) -> bool:
    """Whether a future has come to an answer or a failure. A cancelled one never does: whoever asked has left."""
    return future.done() and not future.cancelled()


def succeeded(future: Future[Any]) -> bool:
    """Whether a future has come to an answer."""
    return settled(future) and future.exception() is None


def _failed(problem: ModelError) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(problem)
    return future


def _ready_engine(key: str) -> Engine:
    """Load and compile a model, importing TensorFlow only where it is needed for that.

    Streamlit clears Keras' global state after every script run, in all threads. A network that is being built or
    traced at that moment can lose the scope it stands in and fails with whatever it trips over; built again, it
    is well. Once compiled, it no longer passes through Keras.

    Raises:
        ModelError: it cannot be had; trying again would not help.
    """
    for attempt in range(_ATTEMPTS):
        try:
            loaded = load(key)
            if needs_tensorflow(loaded) and "tensorflow" not in sys.modules:
                time.sleep(_BREATH_SECONDS)
                import_tensorflow()
            engine = Engine(loaded)
            engine.warm_up()
            return engine
        except ModelError:
            raise
        except Exception:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
