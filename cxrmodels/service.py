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

from cxrmodels.engine import Engine, Output
from cxrmodels.explain.saliency import SaliencyMap, saliency
from cxrmodels.explain.steps import Steps
from cxrmodels.gate import Gate, judge
from cxrmodels.inference import Prediction, predict
from cxrmodels.lungs import Lungs, find
from cxrmodels.models import load
from cxrmodels.radiograph import Radiograph
from cxrmodels.runtime import import_tensorflow, needs_tensorflow
from cxrmodels.zoo import ModelError

FAILURE_SECONDS = 5.0
"""How long a failure is the answer before the work is tried anew, so that a page which looks again can show it."""

_ATTEMPTS = 5
# Importing TensorFlow keeps Python busy for seconds: the page that asked for it is to reach the browser first.
_BREATH_SECONDS = 1.5

UNWATCHED_SECONDS = 120.0
"""Work in pieces that nobody has asked about for so long is given up: whoever wanted it has left the page."""

_KEPT_JOBS = 128

KEPT_BYTES = 128 * 2**20
"""Answers kept, in bytes of their features and heat maps; the least recently used go first."""


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
        self._make, self._attempts = make, 0
        self._steps: Steps[Any] | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End it before its next piece."""
        self._stopped.set()
        self.answer.cancel()

    def advance(self) -> bool:
        """Do one piece. Returns whether there is more to do."""
        if self._stopped.is_set() or time.monotonic() - self.watched > UNWATCHED_SECONDS:
            self.answer.cancel()
            return False
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


def _weight(answer: object) -> int:
    if isinstance(answer, Reading):
        return int(answer.output.features.nbytes)
    if isinstance(answer, Lungs):
        return int(answer.mask.nbytes)
    return int(answer.heat.nbytes) if isinstance(answer, SaliencyMap) else 0


class Service:
    """Models and their answers, shared by all viewers of a server.

    Work runs on one thread, in the order asked: a network uses all cores for one film already, and a second
    network beside it would only make both wait. Nothing here blocks a caller; each call gives a `Future` whose
    exception, if any, is a `ModelError`.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._engines: dict[str, Engine] = {}
        self._answers: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._failures: dict[Hashable, float] = {}
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._kept_bytes = kept_bytes
        self._guard = threading.Lock()

    def warm_up(self, keys: tuple[str, ...], then: Callable[[], object]) -> None:
        """Load models and compile them, while nobody is waiting yet; `then` is called last.

        What is asked for meanwhile comes before the models that are not loaded yet.
        """
        if not keys:
            self._worker.submit(then)
            return

        def step() -> None:
            try:
                self._engine(keys[0])
            finally:  # A model that fails stops no other; whoever asks for it is told why.
                self.warm_up(keys[1:], then)

        self._worker.submit(step)

    def read(self, radiograph: Radiograph, key: str) -> Future[Reading]:
        """What a model says of a film. Asked again, the same answer at once."""

        def work() -> Reading:
            return Reading(*predict(self._engine(key), radiograph))

        return self._once((radiograph.sha256, key), work)

    def gate(self, radiograph: Radiograph) -> Future[Gate]:
        """Whether the film is one that the models can judge; see `gate.judge`."""
        return self._once(("gate", radiograph.sha256), lambda: judge(radiograph))

    def heat(
        self, radiograph: Radiograph, key: str, finding: str, method: str, size: tuple[int, int]
    ) -> Future[SaliencyMap]:
        """A heat map of (height, width) `size`; see `explain.saliency`."""
        reading = self.read(radiograph, key)

        def work() -> SaliencyMap:
            # The worker is one thread: what was asked before this has run, or failed, by now.
            return saliency(self._engine(key), radiograph, reading.result().output, finding, method, size)

        return self._once((radiograph.sha256, key, finding, method, size), work)

    def lungs(self, radiograph: Radiograph, folder: Path | None) -> Future[Lungs | None]:
        """Where the lungs of a film are; see `lungs.find`."""
        return self._once((radiograph.sha256, "lungs", folder), lambda: find(radiograph, folder))

    def work(self, name: Hashable, key: str, make: Callable[[Engine], Steps[Any]]) -> Job:
        """Long work with a model, in pieces: what others ask for meanwhile waits for one piece at most.

        Args:
            name: what the work is; asked again under the same name, the same job, unless it was stopped.
            key: the model's.
            make: begins the work, given the model's engine.
        """
        with self._guard:
            job = self._jobs.get(name)
            if job is None or job.answer.cancelled():
                job = self._jobs[name] = Job(lambda: make(self._engine(key)))
                self._worker.submit(self._advance, job)
            job.watched = time.monotonic()
            self._jobs.move_to_end(name)
            while len(self._jobs) > _KEPT_JOBS:
                self._jobs.popitem(last=False)[1].stop()
        return job

    def known(self, name: Hashable) -> Job | None:
        """A job that was asked for before; nothing is begun."""
        return self._jobs.get(name)

    def _advance(self, job: Job) -> None:
        if job.advance():
            # At the end of the queue: whatever was asked for meanwhile comes first.
            self._worker.submit(self._advance, job)

    def engine(self, key: str) -> Future[Engine]:
        """A model's engine, loaded in turn with the other work."""
        return self._worker.submit(self._engine, key)

    def ready(self, key: str) -> bool:
        """Whether a model has been loaded."""
        return key in self._engines

    def _engine(self, key: str) -> Engine:
        if key not in self._engines:
            self._engines[key] = _ready_engine(key)
            # Streamlit collects garbage after every script run; what a network consists of stays alive anyway,
            # and taking it out of the collector's sight makes each run some 0.4 s shorter.
            gc.collect()
            gc.freeze()
        return self._engines[key]

    def _once(self, name: Hashable, work: Callable[[], Any]) -> Future[Any]:
        with self._guard:
            expired = time.monotonic() - self._failures.get(name, math.inf) > FAILURE_SECONDS
            if name in self._answers and not expired:
                self._answers.move_to_end(name)
                return self._answers[name]
            self._failures.pop(name, None)
            future = self._worker.submit(work)
            self._answers[name] = future
        future.add_done_callback(lambda done: self._settle(name, done))
        return future

    def _settle(self, name: Hashable, done: Future[Any]) -> None:
        """Note when work failed, so that it is tried anew in a while; forget old answers beyond the limit."""
        with self._guard:
            if done.cancelled():
                self._answers.pop(name, None)
                return
            if done.exception() is not None:
                self._failures[name] = time.monotonic()
                return
            finished = [
                (key, future)
                for key, future in self._answers.items()
                if future.done() and not future.cancelled() and future.exception() is None
            ]
            total = sum(_weight(future.result()) for _, future in finished)
            for key, future in finished:
                if total <= self._kept_bytes:
                    break
                total -= _weight(future.result())
                del self._answers[key]


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
