"""What a model costs: size, arithmetic, and time on this machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrmodels.engine import Engine
from cxrmodels.zoo import check_weights, load

_BATCH = 32
_SINGLE_RUNS, _BATCH_RUNS = 15, 3


@dataclass(frozen=True, slots=True)
class Cost:
    """A model's cost. Times are of one machine, named in `machine`: compare them within one run only.

    Attributes:
        file_bytes: of the weights on disk.
        flops: floating-point operations for one film, a multiply-add counting two.
        load_s: seconds to read and compile the model, as at a start that is not the first on this machine.
        latency_ms: one film, from prepared pixels to logits, the median of several.
        films_per_s: the same in batches of 32.
        machine: processor architecture and number of cores.
    """

    file_bytes: int
    flops: int
    load_s: float
    latency_ms: float
    films_per_s: float
    machine: str


def _median_seconds(run: Callable[[], object], times: int) -> float:
    run()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def flops(engine: Engine) -> int:
    """Floating-point operations of one film through a model, as TensorFlow's profiler counts its graph."""
    import tensorflow as tf
    from tensorflow.python.profiler import model_analyzer, option_builder

    model = engine.loaded.spec
    film = tf.TensorSpec((1, model.input_size, model.input_size, model.channels), tf.float32)
    network = engine.loaded.network
    graph = tf.function(lambda batch: network(batch, training=False)).get_concrete_function(film).graph
    options: dict[str, Any] = option_builder.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return int(model_analyzer.profile(graph, options=options).total_float_ops)


def measure(key: str) -> Cost:
    """Measure a shipped model.

    Raises:
        ModelError: it cannot be had.
    """
    import tensorflow  # noqa: F401  (its import is nobody's cost in particular)

    _, path = check_weights(key)
    Engine(load(key))  # Converts the network where that was not done yet.
    started = time.perf_counter()
    engine = Engine(load(key))
    engine.warm_up()
    load_s = time.perf_counter() - started
    model = engine.loaded.spec
    films = np.random.default_rng(0).random((_BATCH, model.input_size, model.input_size, model.channels), np.float32)
    single = _median_seconds(lambda: engine.run(films[:1]), _SINGLE_RUNS)
    batch = _median_seconds(lambda: engine.run(films), _BATCH_RUNS)
    return Cost(
        file_bytes=path.stat().st_size,
        flops=flops(engine),
        load_s=round(load_s, 2),
        latency_ms=round(1000 * single, 2),
        films_per_s=round(_BATCH / batch, 1),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
    )
