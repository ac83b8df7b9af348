"""Many films: how fast beside the bare network, and in how much memory. Films are drawn, copied and read from disk."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import psutil
from PIL import Image

from cxrmodels.batch.films import sources
from cxrmodels.batch.reading import cores
from cxrmodels.batch.table import run
from cxrmodels.inference import network_input
from cxrmodels.phantom import PATTERNS, phantom
from cxrmodels.radiograph import read_radiograph
from cxrmodels.runtime import store
from cxrmodels.runtime.conversion import convert
from cxrmodels.zoo import LoadedModel, load, shipped

ROOT = Path(__file__).resolve().parents[2]
MODEL = "mobilenet_v3"
FILMS, DRAWN, ROUNDS, BY_KERAS = 1500, 20, 3, 60
MANY = 10_000
SMALL, LARGE = 320, 1024
"""Side of the films in pixels: as small as the public collections' (JPEG), and as they come from an archive (PNG)."""

Work = Callable[[], object]


def _write(folder: Path, count: int, size: int, kind: str) -> None:
    """So many films, of which `DRAWN` differ."""
    contents = []
    for seed in range(DRAWN):
        stream = io.BytesIO()
        pixels = phantom(tuple(PATTERNS)[seed % len(PATTERNS)], seed=seed, size=size).pixels
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(stream, kind, quality=90)
        contents.append(stream.getvalue())
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}.{kind.lower()}").write_bytes(contents[number % DRAWN])


def _bare(loaded: LoadedModel, inputs: list[np.ndarray], settings: dict[str, Any], threads: int) -> Work:
    """The network alone on films that are decoded, resized and in memory."""
    network, _ = store.read(loaded) or convert(loaded.network, loaded.spec)
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **settings})
    requests = [compiled.create_infer_request() for _ in range(threads)]

    def part(number: int) -> None:
        for one in inputs[number::threads]:
            requests[number].infer([one], share_inputs=True)

    def work() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, range(threads)))

    return work


def _keras(loaded: LoadedModel, files: list[Path]) -> Work:
    def work() -> None:
        for file in files:
            film = network_input(read_radiograph(file.read_bytes(), file.name), loaded.spec)
            loaded.network.predict(film[None], verbose=0)

    return work


def throughput(size: int, kind: str) -> list[tuple[str, float]]:
    """(way, milliseconds a film), in turns, so that what else the machine does hits all alike; medians."""
    loaded = load(MODEL)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "films"
        _write(folder, FILMS, size, kind)
        files = sorted(folder.iterdir())
        films = sources([folder])
        inputs = [
            network_input(read_radiograph(file.read_bytes(), file.name), loaded.spec)[None] for file in files[:DRAWN]
        ] * (FILMS // DRAWN)
        output = Path(place) / "out.csv"

        def batch(gated: bool) -> Work:
            def work() -> None:
                run(films, {MODEL: loaded}, output, gated=gated)
                output.unlink()

            return work

        beside = {"NUM_STREAMS": cores(), "INFERENCE_NUM_THREADS": cores()}
        ways: dict[str, tuple[Work, int]] = {
            "bare OpenVINO, one decoded film after the other": (
                _bare(loaded, inputs, {"PERFORMANCE_HINT": "LATENCY"}, 1),
                FILMS,
            ),
            "bare OpenVINO, a decoded film on each core": (_bare(loaded, inputs, beside, cores()), FILMS),
            "the batch, from files to the table": (batch(True), FILMS),
            "the batch with `--no-gate`": (batch(False), FILMS),
            "a loop of `keras.Model.predict` over the files": (_keras(loaded, files[:BY_KERAS]), BY_KERAS),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(ROUNDS + 1):
            for way, (work, count) in ways.items():
                started = time.perf_counter()
                work()
                if number:
                    taken[way].append(1000 * (time.perf_counter() - started) / count)
    return [(way, statistics.median(times)) for way, times in taken.items()]


def memory(count: int, keys: tuple[str, ...]) -> tuple[float, float]:
    """MB that the command takes once a tenth of the films is read, and at most."""
    with tempfile.TemporaryDirectory() as place:
        folder, output = Path(place) / "films", Path(place) / "out.csv"
        _write(folder, count, SMALL, "JPEG")
        command = [sys.executable, "-m", "cxrmodels", "batch", str(folder), "--output", str(output)]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            [*command, "--models", ",".join(keys)], cwd=ROOT, stdout=quiet, stderr=quiet, stdin=quiet
        )
        early, most = 0.0, 0.0
        while process.poll() is None:
            try:
                held = psutil.Process(process.pid).memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                break
            most = max(most, held)
            if not early and output.is_file() and output.read_bytes().count(b"\n") > count / 10:
                early = held
            time.sleep(0.5)
        if process.wait():
            raise RuntimeError(f"the command ended with {process.returncode}")
    return early, most


def measure_batch() -> list[tuple[str, str]]:
    """(what, figure) of throughput and memory."""
    rows = []
    for size, kind in ((SMALL, "JPEG"), (LARGE, "PNG")):
        found = throughput(size, kind)
        (_, one), (_, beside), *batches, (_, keras) = found
        what = f"`{MODEL}`, {kind} films of {size} px"
        rows += [(f"{what}: {way}", f"{taken:.1f} ms a film") for way, taken in found]
        target = " (target: at most 1.25)" if size == SMALL else ""
        for name, (_, batch) in zip(("the batch", "the batch with `--no-gate`"), batches, strict=True):
            rows.append(
                (
                    f"{what}: {name} beside bare OpenVINO, one after the other; a film on each core{target}",
                    f"{batch / one:.2f} x; {batch / beside:.2f} x",
                )
            )
            rows.append((f"{what}: the loop of `predict` beside {name} (target: at least 5)", f"{keras / batch:.1f} x"))
    early, most = memory(MANY, (MODEL,))
    rows.append(
        (
            f"memory of {MANY:,} films, `{MODEL}`: after a tenth; at most (target 1,500 MB)",
            f"{early:.0f}; {most:.0f} MB",
        )
    )
    early, most = memory(MANY // 10, shipped())
    rows.append(
        (
            f"memory of {MANY // 10:,} films, all shipped models: after a tenth; at most (target 1,500 MB)",
            f"{early:.0f}; {most:.0f} MB",
        )
    )
    return rows


def main() -> None:
    """`python -m tests.benchmarks.batch`: these figures alone."""
    for what, figure in measure_batch():
        print(f"{what}: {figure}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
