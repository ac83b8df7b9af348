"""How much the library adds to the bare networks: everything timed in one run, told as ratios."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import tensorflow as tf

from cxrmodels.engine import Engine
from cxrmodels.explain.faithfulness import MAP_SIZE, RANDOM_MAPS, cover
from cxrmodels.explain.methods import draw
from cxrmodels.explain.steps import finish
from cxrmodels.inference import network_input, predict
from cxrmodels.phantom import phantom, phantoms
from cxrmodels.radiograph import Radiograph
from cxrmodels.runtime import ENGINE_VARIABLE, ENGINES, store
from cxrmodels.runtime.conversion import convert
from cxrmodels.service import Service
from cxrmodels.zoo import LUNGS, load, shipped

ROUNDS = 15
BARE = "bare OpenVINO, compiled"
Pass = Callable[[Radiograph], object]


def _bare_openvino(engine: Engine) -> Pass:
    """The network alone, compiled in single precision like ours, its input a ready tensor."""
    network, _ = store.read(engine.loaded) or convert(engine.loaded.network, engine.loaded.spec)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(network, "CPU", settings).create_infer_request()
    batch = openvino.Tensor(_ready_input(engine))
    return lambda film: request.infer([batch])


def _bare_tensorflow(engine: Engine) -> Pass:
    """The network alone, compiled, its input a ready tensor."""
    network = engine.loaded.network
    compiled = tf.function(lambda batch: network(batch, training=False))
    batch = tf.constant(_ready_input(engine))
    return lambda film: compiled(batch).numpy()


def _ready_input(engine: Engine) -> np.ndarray:
    spec = engine.loaded.spec
    return np.random.default_rng(0).random((1, spec.input_size, spec.input_size, spec.channels), np.float32)


def _keras_predict(engine: Engine) -> Pass:
    network = engine.loaded.network
    return lambda film: network.predict(network_input(film, engine.loaded.spec)[None], verbose=0)


def _eager(engine: Engine) -> Pass:
    network = engine.loaded.network
    return lambda film: np.asarray(network(network_input(film, engine.loaded.spec)[None], training=False))


def _each(make: Callable[[Engine], Pass], engines: list[Engine]) -> Pass:
    """All networks, one after the other."""
    passes = [make(engine) for engine in engines]
    return lambda film: [run(film) for run in passes]


def _asked(service: Service, maps: bool) -> Pass:
    """All that a page asks of the service, until the last answer is there; then it is forgotten."""

    def run(film: Radiograph) -> object:
        readings = {key: service.read(film, key) for key in shipped()}
        predictions = {key: reading.result().prediction for key, reading in readings.items()}
        if maps:
            drawn = [
                service.heat(film, key, one.findings[one.top], "grad_cam", (420, 420))
                for key, one in predictions.items()
            ]
            for heat in drawn:
                heat.result()
        service.forget("", film)
        return predictions

    return run


def _ways(service: Service) -> dict[str, Pass]:
    engines = [service.engine(key).result() for key in shipped()]
    # The lungs' outline is a network too, which a film goes through on its way into `lung_aware`.
    every = [*engines, Engine(load(LUNGS.key))]
    return {
        BARE: _each(_bare_openvino, every),
        "probabilities (film to decision)": _asked(service, False),
        "probabilities and Grad-CAM of the top finding": _asked(service, True),
        "bare compiled TensorFlow": _each(_bare_tensorflow, every),
        "TensorFlow, `model.predict`": _each(_keras_predict, engines),
        "TensorFlow, eager calls": _each(_eager, engines),
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


SMALL = ("two_conv_cnn", "multi_lung_cnn", "lung_aware")
"""Models whose slow checks are to be done while somebody watches."""


def slow_checks() -> list[tuple[str, str]]:
    """(what, seconds) of deletion and insertion by a map in 24 steps, and of occlusion, on the small models."""
    film, rows = phantom("covid19", seed=1, size=1024).radiograph(), []
    for key in SMALL:
        engine = Engine(load(key))
        prediction, output = predict(engine, film)
        finding = prediction.findings[prediction.top]
        heat = finish(draw(engine, film, output, finding, "grad_cam", MAP_SIZE)).heat
        finish(cover(engine, film, finding, heat))
        started = time.perf_counter()
        finish(cover(engine, film, finding, heat))
        covered = time.perf_counter() - started
        # The map's own two curves, of the eight that are drawn: those of random maps cost as much each.
        alone = covered / (1 + RANDOM_MAPS)
        rows.append((f"{key}: deletion and insertion, 24 steps (target 1 s)", f"{alone:.2f} s"))
        rows.append((f"{key}: the same with {RANDOM_MAPS} random maps to compare", f"{covered:.2f} s"))
        started = time.perf_counter()
        finish(draw(engine, film, output, finding, "occlusion", MAP_SIZE))
        rows.append((f"{key}: occlusion (target 3 s)", f"{time.perf_counter() - started:.2f} s"))
    return rows


def phantoms_per_second(count: int = 60) -> float:
    """Synthetic films of 224 x 224 px drawn in a second of one thread's processor time, findings in turn."""
    started = time.thread_time()
    for _ in phantoms(count, seed=1):
        pass
    return count / (time.thread_time() - started)


def _new_film(number: int) -> Radiograph:
    """A film of 1024 x 1024 px that nothing was kept of: every round gets its own."""
    film = phantom("covid19", seed=1, size=1024).radiograph()
    pixels = film.pixels.copy()
    pixels[0, 0] = number / 1000
    pixels.flags.writeable = False
    return replace(film, sha256=hashlib.sha256(pixels.tobytes()).hexdigest(), pixels=pixels)


def measure(rounds: int = ROUNDS, only: Collection[str] = ()) -> list[tuple[str, float, float]]:
    """(way, milliseconds for all shipped models together, ratio to the bare passes).

    The ways take turns within each round, so that what else the machine does hits them alike; medians count.

    Args:
        only: ways to measure beside the bare passes; all of them unless given.
    """
    service = Service()
    ways = {way: run for way, run in _ways(service).items() if not only or way == BARE or way in only}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 2):
        for at, (way, run) in enumerate(ways.items()):
            film = _new_film(len(ways) * number + at)
            started = time.perf_counter()
            run(film)
            if number >= 2:
                times[way].append(1000 * (time.perf_counter() - started))
    service.close()
    bare = times[BARE]
    # The median of each round's ratio: what else the machine does then hits both sides of it.
    return [
        (way, statistics.median(taken), statistics.median(one / other for one, other in zip(taken, bare, strict=True)))
        for way, taken in times.items()
    ]


def main() -> None:
    """`python -m tests.benchmarks.inference`: these figures alone."""
    for way, taken, ratio in measure():
        print(f"{way}: {taken:.1f} ms, {ratio:.2f} x")
    for what, figure in [*slow_checks(), *first_answers()]:
        print(f"{what}: {figure}")


if __name__ == "__main__":
    main()
