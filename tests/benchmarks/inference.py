"""How much the library adds to the bare networks: everything timed in one run, told as ratios."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import tensorflow as tf

from cxrmodels.engine import Engine
from cxrmodels.explain.saliency import saliency
from cxrmodels.inference import network_input, predict
from cxrmodels.phantom import phantom, phantoms
from cxrmodels.radiograph import Radiograph
from cxrmodels.runtime import ENGINE_VARIABLE, ENGINES, store
from cxrmodels.runtime.conversion import convert
from cxrmodels.zoo import load, shipped

ROUNDS = 15
BARE = "bare OpenVINO, compiled"


def _bare_openvino(engine: Engine, radiograph: Radiograph) -> Callable[[], object]:
    """The network alone, compiled in single precision like ours, its input a ready tensor."""
    network, _ = store.read(engine.loaded) or convert(engine.loaded.network, engine.loaded.spec)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(network, "CPU", settings).create_infer_request()
    batch = openvino.Tensor(network_input(radiograph, engine.loaded.spec)[None])
    return lambda: request.infer([batch])


def _bare_tensorflow(engine: Engine, radiograph: Radiograph) -> Callable[[], object]:
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
    BARE: _bare_openvino,
    "probabilities (film to decision)": lambda engine, film: lambda: predict(engine, film),
    "probabilities and Grad-CAM of the top finding": _with_map,
    "bare compiled TensorFlow": _bare_tensorflow,
    "TensorFlow, `model.predict`": _keras_predict,
    "TensorFlow, eager calls": _eager,
}


_FIRST = """
import time
started = time.perf_counter()
from cxrmodels.phantom import phantom
from cxrmodels.service import Service
from cxrmodels.zoo import shipped
film = phantom("covid19", seed=1, size=1024).radiograph()
service = Service()
service.warm_up(shipped(), lambda: None)
asked = [service.read(film, key) for key in shipped()]
asked[0].result()
first = time.perf_counter() - started
[one.result() for one in asked]
print(first, time.perf_counter() - started)
"""


def first_answers() -> list[tuple[str, str]]:
    """(what, seconds): a process is started and has all shipped models read a film; networks converted before."""
    rows = []
    for engine in ENGINES:
        done = subprocess.run(
            [sys.executable, "-c", _FIRST],
            cwd=Path(__file__).resolve().parents[2],
            env=os.environ | {ENGINE_VARIABLE: engine},
            capture_output=True,
            text=True,
            check=True,
        )
        first, last = map(float, done.stdout.split())
        rows.append((f"first answer of a fresh process on {engine}; the last", f"{first:.1f} s; {last:.1f} s"))
    return rows


def phantoms_per_second(count: int = 60) -> float:
    """Synthetic films of 224 x 224 px drawn in a second of one thread's processor time, findings in turn."""
    started = time.thread_time()
    for _ in phantoms(count, seed=1):
        pass
    return count / (time.thread_time() - started)


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
    bare = medians[BARE]
    return [(way, taken, taken / bare) for way, taken in medians.items()]


def main() -> None:
    """`python -m tests.benchmarks.inference`: these figures alone."""
    for way, taken, ratio in measure():
        print(f"{way}: {taken:.1f} ms, {ratio:.2f} x")
    for what, figure in first_answers():
        print(f"{what}: {figure}")


if __name__ == "__main__":
    main()
