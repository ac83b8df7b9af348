"""How much the library adds to the bare networks: everything timed in one run, told as ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cxrmodels.engine import Engine
from cxrmodels.explain.saliency import saliency
from cxrmodels.inference import network_input, predict
from cxrmodels.phantom import phantom, phantoms
from cxrmodels.radiograph import Radiograph
from cxrmodels.zoo import load, shipped

ROUNDS = 15


def _bare(engine: Engine, radiograph: Radiograph) -> Callable[[], object]:
    """The network alone, compiled, its input a ready tensor."""
    network = engine.loaded.network
    compiled = tf.function(lambda batch: network(batch, training=False))
    batch = tf.constant(network_input(radiograph, engine.loaded.spec)[None])
    return lambda: compiled(batch).numpy()


def _with_map(engine: Engine, radiograph: Radiograph) -> Callable[[], object]:
    def run() -> object:
        prediction, output = predict(engine, radiograph)
        return saliency(engine, radiograph, output, prediction.findings[prediction.top], "grad_cam", (420, 420))

    return run


def _keras_predict(engine: Engine, radiograph: Radiograph) -> Callable[[], object]:
    network = engine.loaded.network
    return lambda: network.predict(network_input(radiograph, engine.loaded.spec)[None], verbose=0)


def _eager(engine: Engine, radiograph: Radiograph) -> Callable[[], object]:
    network = engine.loaded.network
    return lambda: np.asarray(network(network_input(radiograph, engine.loaded.spec)[None], training=False))


WAYS: dict[str, Callable[[Engine, Radiograph], Callable[[], object]]] = {
    "bare compiled forward passes": _bare,
    "probabilities (film to decision)": lambda engine, film: lambda: predict(engine, film),
    "probabilities and Grad-CAM of the top finding": _with_map,
    "`model.predict`": _keras_predict,
    "eager calls": _eager,
}


def phantoms_per_second(count: int = 60) -> float:
    """Synthetic films of 224 x 224 px drawn in a second of processor time, findings in turn."""
    started = time.process_time()
    for _ in phantoms(count, seed=1):
        pass
    return count / (time.process_time() - started)


def measure() -> list[tuple[str, float, float]]:
    """(way, milliseconds for all shipped models together, ratio to the bare passes).

    The ways take turns within each round, so that what else the machine does hits them alike; medians count.
    """
    film = phantom("covid19", seed=1, size=1024).radiograph()
    engines = [Engine(load(key)) for key in shipped()]
    jobs = {way: [make(engine, film) for engine in engines] for way, make in WAYS.items()}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(ROUNDS + 2):
        for way, runs in jobs.items():
            started = time.perf_counter()
            for run in runs:
                run()
            if number >= 2:
                times[way].append(1000 * (time.perf_counter() - started))
    medians = {way: statistics.median(taken) for way, taken in times.items()}
    bare = medians["bare compiled forward passes"]
    return [(way, taken, taken / bare) for way, taken in medians.items()]
