"""What models say of many films: each film on a core of its own, from its bytes to the decisions."""

from __future__ import annotations

import itertools
import os
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cxrmodels.batch.films import Source
from cxrmodels.engine import Engine
from cxrmodels.gate import judge
from cxrmodels.inference import Prediction, inputs_of, interpret
from cxrmodels.lungs import network_film, outline, outline_batch
from cxrmodels.preprocessing import NEEDS_LUNGS
from cxrmodels.radiograph import Radiograph, RadiographError, read_radiograph
from cxrmodels.zoo import LUNGS, LoadedModel, ModelError, load

NOT_ASKED = "not judged: not asked for"
"""What a row says of the gate where the films were to be read without it."""

_AHEAD = 4
"""Films a thread whose rows may wait for an earlier film's: one large film then holds nobody up."""


@dataclass(frozen=True, slots=True)
class FilmRow:
    """What the models and the gate say of a film; or, with no predictions, why it could not be read."""

    file: str
    predictions: tuple[Prediction, ...]
    error: str = ""
    gate: str = ""

    @property
    def doubt(self) -> float | None:
        """How far from certain the models are, 0-1: 1 - p of the likeliest finding, as a part of what it is when all
        findings are equally likely; the mean over the models."""
        if not self.predictions:
            return None
        return float(np.mean([(1 - p.probabilities.max()) / (1 - 1 / len(p.findings)) for p in self.predictions]))

    @property
    def disagreement(self) -> float | None:
        """Greatest difference between two models' probability of COVID-19, 0-1; None with fewer than two."""
        asked = [p for one in self.predictions if (p := one.probability("covid19")) is not None]
        return max(asked) - min(asked) if len(asked) > 1 else None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_films(
    films: Iterable[Source], models: Mapping[str, LoadedModel], *, workers: int | None = None, gated: bool = True
) -> Generator[FilmRow, None, None]:
    """What models say of films, in their order. A few films are in memory at a time, however many there are.

    A thread takes a film from its file to the last model's answer, on one core. While one decodes, another's networks
    run; and networks that share no core wait for nothing.

    Args:
        models: model key -> model, in the order of the predictions.
        workers: threads; as many as there are cores where None.
        gated: whether the gate judges each film, too. It outlines the lungs, which costs more than a small model.

    Raises:
        ModelError: a model cannot be run here.
    """
    workers = workers or cores()
    engines = [Engine(loaded, workers) for loaded in models.values()]
    specs = [engine.loaded.spec for engine in engines]
    cropped = any(spec.preprocessing in NEEDS_LUNGS for spec in specs)
    outlines = _Outlines(workers) if gated or cropped else None
    if outlines and cropped:
        outlines.require()

    def read(source: Source) -> FilmRow:
        try:
            radiograph = read_radiograph(_bytes(source), source.name)
        except RadiographError as error:
            return FilmRow(source.name, (), str(error))
        outlined = outlines.of_one_film() if outlines else outline
        inputs = inputs_of(radiograph, specs, outlined)
        return FilmRow(
            source.name,
            tuple(
                interpret(engine, radiograph, engine.run(one[None]).logits[0])
                for engine, one in zip(engines, inputs, strict=True)
            ),
            gate=judge(radiograph, quality=False, outlined=outlined).cell if gated else NOT_ASKED,
        )

    waiting: deque[Future[FilmRow]] = deque()
    remaining = iter(films)
    with ThreadPoolExecutor(workers, thread_name_prefix="films") as pool:
        try:
            while True:
                for source in itertools.islice(remaining, _AHEAD * workers - len(waiting)):
                    waiting.append(pool.submit(read, source))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Outlines:
    """The lung network, on a core for each thread as the models are. Gate and models ask for the lungs of a film; they
    are outlined once.

    Args:
        workers: threads that ask.
    """

    def __init__(self, workers: int) -> None:
        self._engine: Engine | ModelError
        try:
            self._engine = Engine(load(LUNGS.key), workers)
        except ModelError as error:
            self._engine = error

    def require(self) -> Engine:
        """The engine.

        Raises:
            ModelError: the lung network is missing or altered.
        """
        if isinstance(self._engine, ModelError):
            raise self._engine
        return self._engine

    def of_one_film(self) -> Callable[..., np.ndarray]:
        """What `lungs.outline` is, for one film and from one thread."""
        found: list[np.ndarray] = []

        def outlined(radiograph: Radiograph, film: np.ndarray | None = None) -> np.ndarray:
            if not found:
                prepared = network_film(radiograph.pixels) if film is None else film
                found.append(outline_batch(prepared[None], self.require())[0])
            return found[0]

        return outlined


def _bytes(source: Source) -> bytes:
    try:
        return source.read()
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error) or type(error).__name__
    raise RadiographError(f"The file cannot be opened ({reason}). Check its name and that you may read it.")
