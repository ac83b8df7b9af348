"""What the gate costs the X-ray page: the first and the last answer on films never seen before, with it and without."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import Future
from typing import Any

from cxrmodels import lungs
from cxrmodels.gate import judge
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import Radiograph, read_radiograph, to_png
from cxrmodels.service import Service
from cxrmodels.zoo import shipped

ROUNDS = 15


def _film(seed: int) -> Radiograph:
    """A film that nothing marks as synthetic, so that it is judged."""
    return read_radiograph(to_png(phantom("normal", seed=seed, size=1024).pixels))


def _answers(service: Service, film: Radiograph, *, gate: bool) -> tuple[float, float]:
    """Milliseconds to the first network's answer, and to everything, asked for in the page's order."""
    first, *others = shipped()
    started = time.perf_counter()
    asked: list[Future[Any]] = [service.read(film, first)]
    if gate:
        asked.append(service.gate(film))
    asked += [service.read(film, key) for key in others]
    asked[0].result()
    soonest = time.perf_counter()
    for one in asked:
        one.result()
    return 1000 * (soonest - started), 1000 * (time.perf_counter() - started)


def measure_gate() -> list[tuple[str, str]]:
    """(what, figure), all in one run, warm, with and without the gate in turn."""
    service = Service()
    for warming in range(2):
        _answers(service, _film(warming), gate=True)
    taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    alone: list[float] = []
    known: list[float] = []
    for seed in range(2, 2 + ROUNDS):
        for gate, so_far in taken.items():
            so_far.append(_answers(service, _film(10 * seed + gate), gate=gate))
        film = _film(10 * seed + 5)
        for times, before in ((alone, False), (known, True)):
            if before:
                lungs.outline(film)
            started = time.perf_counter()
            judge(film)
            times.append(1000 * (time.perf_counter() - started))
    without, with_gate = ([statistics.median(part) for part in zip(*taken[gate], strict=True)] for gate in taken)
    return [
        (
            "first answer of the networks on a new film of 1024 px, without the gate; with it",
            f"{without[0]:.0f} ms; {with_gate[0]:.0f} ms",
        ),
        ("all answers, without the gate; with its verdict", f"{without[1]:.0f} ms; {with_gate[1]:.0f} ms"),
        (
            "the gate alone, with the lungs' outline; where that is known (target 30 ms)",
            f"{statistics.median(alone):.0f} ms; {statistics.median(known):.0f} ms",
        ),
    ]


if __name__ == "__main__":
    for what, figure in measure_gate():
        print(f"{what}: {figure}")
