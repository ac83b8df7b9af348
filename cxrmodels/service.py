"""One place where models are loaded and run for everybody: in the background, in turn, each answer kept."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cxrmodels.engine import Engine, Output
from cxrmodels.explain.saliency import SaliencyMap, saliency
from cxrmodels.inference import Prediction, predict
from cxrmodels.radiograph import Radiograph
from cxrmodels.zoo import ModelError, load

FAILURE_SECONDS = 5.0
"""How long a failure is the answer before the work is tried anew, so that a page which looks again can show it."""

_ATTEMPTS = 5

KEPT_BYTES = 128 * 2**20
"""Answers kept, in bytes of their features and heat maps; the least recently used go first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A model's prediction for a film, and the network's output that heat maps start from."""

    prediction: Prediction
    output: Output


def _weight(answer: object) -> int:
    if isinstance(answer, Reading):
        return int(answer.output.features.nbytes)
    return int(answer.heat.nbytes) if isinstance(answer, SaliencyMap) else 0


class Service:
    """Models and their answers, shared by all viewers of a server.

    Work runs on one thread, in the order asked: TensorFlow uses all cores for one film already, and a second
    network beside it would only make both wait. Nothing here blocks a caller; each call gives a `Future` whose
    exception, if any, is a `ModelError`.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._engines: dict[str, Engine] = {}
        self._answers: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._failures: dict[Hashable, float] = {}
        self._kept_bytes = kept_bytes
        self._guard = threading.Lock()

    def warm_up(self, keys: tuple[str, ...]) -> None:
        """Import TensorFlow, then load models and compile them, while nobody is waiting yet."""
        self._worker.submit(_import_tensorflow)
        for key in keys:
            self._worker.submit(self._engine, key)

    def read(self, radiograph: Radiograph, key: str) -> Future[Reading]:
        """What a model says of a film. Asked again, the same answer at once."""

        def work() -> Reading:
            return Reading(*predict(self._engine(key), radiograph))

        return self._once((radiograph.sha256, key), work)

    def heat(
        self, radiograph: Radiograph, key: str, finding: str, method: str, size: tuple[int, int]
    ) -> Future[SaliencyMap]:
        """A heat map of (height, width) `size`; see `explain.saliency`."""
        reading = self.read(radiograph, key)

        def work() -> SaliencyMap:
            # The worker is one thread: what was asked before this has run, or failed, by now.
            return saliency(self._engine(key), radiograph, reading.result().output, finding, method, size)

        return self._once((radiograph.sha256, key, finding, method, size), work)

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
    """Load and compile a model.

    Streamlit clears Keras' global state after every script run, in all threads. A network that is being built or
    traced at that moment can lose the scope it stands in and fails with whatever it trips over; built again, it
    is well. Once compiled, it no longer passes through Keras.

    Raises:
        ModelError: it cannot be had; trying again would not help.
    """
    for attempt in range(_ATTEMPTS):
        try:
            engine = Engine(load(key))
            engine.warm_up()
            return engine
        except ModelError:
            raise
        except Exception:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _import_tensorflow() -> None:
    import tensorflow  # noqa: F401
