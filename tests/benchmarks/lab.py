"""The training lab: what watching costs, how soon there is something to watch, and how fast it learns.

Alone: `python -m tests.benchmarks.lab`.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from playwright.sync_api import Page, expect, sync_playwright

from cxrmodels.datasets.manifest import DATA_VARIABLE
from cxrmodels.lab.config import ManifestData, PhantomData, RunConfig
from cxrmodels.lab.control import Mailbox
from cxrmodels.lab.data import load
from cxrmodels.lab.events import EpochEnd, EventWriter
from cxrmodels.lab.process import cool_down, start, terminate
from cxrmodels.lab.store import RUNS_VARIABLE, Run, State, create, runs
from cxrmodels.lab.turns import Device, Ending
from tests.benchmarks.page import browser_and_server

ROUNDS, EPOCHS = 4, 4
ENOUGH = 0.9
WARM_SECONDS = 20
CURVE = "[class*='st-key-chart-learning-loss']"


@contextmanager
def _own_runs() -> Iterator[None]:
    before = os.environ.get(RUNS_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[RUNS_VARIABLE] = folder
        try:
            yield
        finally:
            cool_down()
            for run in runs():
                terminate(run)
                while run.alive():
                    time.sleep(0.1)
            os.environ.pop(RUNS_VARIABLE)
            if before is not None:
                os.environ[RUNS_VARIABLE] = before


def _streaming() -> list[tuple[str, str]]:
    """Epochs of the lab's loop and of a bare `fit`, in turn, on the same arrays, network and batch."""
    os.environ["TF_DETERMINISTIC_OPS"] = "1"
    import keras

    from cxrmodels.lab.loop import Training, make_ready
    from cxrmodels.lab.network import as_batch, build_network

    config = RunConfig(data=PhantomData(films=500), epochs=EPOCHS, augmentation=0.0)
    data = load(config)
    training = ~data.validation
    films, labels = as_batch(data.films[training]), data.labels[training]
    count = len(labels) // config.batch_size * config.batch_size
    keras.utils.set_random_seed(0)
    bare = build_network(config)
    bare.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])

    def fit() -> list[float]:
        stamps: list[float] = []
        note = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: stamps.append(time.perf_counter()))
        bare.fit(
            films[:count], labels[:count], batch_size=config.batch_size, epochs=EPOCHS, verbose=0, callbacks=[note]
        )
        stamps.append(time.perf_counter())
        return [after - before for before, after in pairwise(stamps)][1:]

    def lab() -> tuple[list[float], list[float]]:
        run = create(config)
        ready = make_ready(config, data)
        whole = Training(run, ready, EventWriter(run.events), Mailbox(run.folder, 0), [], Device(run), Ending())
        stamps: list[tuple[float, float]] = []
        end_epoch = whole._end_epoch

        def stamped() -> None:
            began = time.perf_counter()
            end_epoch()
            stamps.append((began, time.perf_counter()))

        whole._end_epoch = stamped  # type: ignore[method-assign]
        whole.run()
        pairs = list(pairwise(stamps))
        return [after[0] - before[1] for before, after in pairs], [after[1] - before[1] for before, after in pairs]

    fit()
    plain, streamed, with_pictures = [], [], []
    for _ in range(ROUNDS):
        plain += fit()
        steps, epochs = lab()
        streamed += steps
        with_pictures += epochs
    usual = statistics.median(plain)
    cost = 100 * (statistics.median(streamed) / usual - 1)
    all_of_it = statistics.median(with_pictures) / usual
    return [
        ("streaming, beside a bare `keras.Model.fit` of the same work (target: at most 10 % more)", f"{cost:+.1f} %"),
        (
            f"the same with validation on {int(data.validation.sum())} films, heat maps, filters and checkpoint after "
            f"each epoch of {count} films",
            f"{all_of_it:.1f} x",
        ),
    ]


def _learning() -> list[tuple[str, str]]:
    config = RunConfig(data=PhantomData(films=2000))
    run = create(config)
    began = time.perf_counter()
    start(run)
    best = 0.0
    reached: float | None = None
    for ended, seconds in _epochs(run, began):
        best = max(best, ended.validation_accuracy)
        if reached is None and best >= ENOUGH:
            reached = seconds
    words = f"{reached:.0f} s" if reached is not None else f"not reached, {best:.1%} at most"
    found = [("90 % of validation films, 4 classes, 2,000 synthetic films, from the click (target 60 s)", words)]
    if os.environ.get(DATA_VARIABLE):
        run = create(RunConfig(data=ManifestData(), input_size=128, epochs=2))
        start(run)
        taken = [ended.seconds for ended, _ in _epochs(run, began)]
        found.append(("one epoch on all real films to learn from, 128 px (target 20 s)", f"{min(taken):.0f} s"))
    return found


def _epochs(run: Run, began: float) -> Iterator[tuple[EpochEnd, float]]:
    """Each epoch's end, and how long after `began` it was told."""
    reader = run.follow()
    while True:
        over = not run.alive()
        for logged in reader.read():
            if isinstance(logged.event, EpochEnd):
                yield logged.event, time.perf_counter() - began
        if over:
            assert run.state() is State.FINISHED, run.state()
            return
        time.sleep(0.05)


def _start(page: Page) -> float:
    """Seconds from the click to the first point on the curve."""
    button = page.get_by_role("button", name="Start training")
    expect(button).to_be_visible(timeout=60_000)
    # The curve of the run before stays until the page is complete.
    page.locator(CURVE).wait_for(state="detached", timeout=60_000)
    began = time.perf_counter()
    button.click()
    page.wait_for_function(
        f"() => [...document.querySelectorAll(\"{CURVE} .js-line\")].some(line => line.getAttribute('d'))",
        timeout=120_000,
    )
    return time.perf_counter() - began


def _stop(page: Page) -> None:
    page.get_by_test_id("stMain").get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Report (JSON)").wait_for(timeout=120_000)
    page.get_by_role("button", name="All runs, or a new one").click()


def _watching() -> list[tuple[str, str]]:
    long = RunConfig(data=PhantomData(films=400), epochs=500)
    with sync_playwright() as driver, browser_and_server(driver) as (browser, address):
        page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        page.goto(f"{address}/train_a_cnn?config={long.to_query()}")
        page.get_by_role("button", name="I understand").click(timeout=60_000)
        page.get_by_role("dialog").wait_for(state="detached")
        page.wait_for_timeout(1000 * WARM_SECONDS)
        warm = _start(page)
        answered = []
        page.get_by_text("Follow the newest epoch").wait_for(timeout=120_000)
        for _ in range(5):
            began = time.perf_counter()
            page.get_by_text("Follow the newest epoch").click()
            page.get_by_role("slider", name="Epoch").wait_for(timeout=60_000)
            answered.append(time.perf_counter() - began)
            page.get_by_text("Follow the newest epoch").click()
            page.get_by_role("slider", name="Epoch").wait_for(state="detached", timeout=60_000)
        _stop(page)
        cold = _start(page)
        _stop(page)
    return [
        ("first point on the curve after the click, at once after another run (target 6 s)", f"{cold:.1f} s"),
        (f"the same, {WARM_SECONDS} s after the page was opened: a worker is warm (target 2 s)", f"{warm:.1f} s"),
        ("the page answers a click while training (target 0.5 s)", f"{statistics.median(answered):.2f} s"),
    ]


def measure_lab() -> list[tuple[str, str]]:
    """(what, figure) of the training lab."""
    with _own_runs():
        return [*_watching(), *_streaming(), *_learning()]


if __name__ == "__main__":
    for what, figure in measure_lab():
        print(f"{what}: {figure}")
