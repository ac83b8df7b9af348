"""Twenty trainings in a browser, in each of which worker, server or browser is killed at a random moment.

Nothing that was on screen may be lost, and each training must end with the weights of one that was left alone.
`python -m tests.benchmarks.kills` writes `docs/kills.md`.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import tempfile
import time

import numpy as np
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from cxrmodels.lab.config import ConfigurableCnn, PhantomData, RunConfig
from cxrmodels.lab.history import History
from cxrmodels.lab.pictures import read_arrays
from cxrmodels.lab.process import start, worker_of
from cxrmodels.lab.store import CHECKPOINT_FILE, RUNS_VARIABLE, Run, State, create, runs
from cxrmodels.ui.lab.words import STATES
from tests.benchmarks.page import ROOT, free_port, launch, start_server

RUNS = 20
PATIENCE = 90_000
_WHOLE_RUN = 4 * PATIENCE
"""Milliseconds: until something is on screen; until a run is through, on a machine that has other work too."""
CONFIG = RunConfig(
    name="To be killed",
    data=PhantomData(films=160, findings=("normal", "covid19")),
    network=ConfigurableCnn(blocks=2, filters=8, dense=16, batch_norm=True),
    input_size=48,
    batch_size=8,
    epochs=100,
)
VICTIMS = ("worker", "server", "browser")


class _Stage:
    """A server and a browser, either of which may be killed and started again."""

    def __init__(self, driver: Playwright) -> None:
        self._driver, self._port = driver, free_port()
        self.server = start_server(self._port)
        self.open_browser()

    def open_browser(self) -> None:
        self.browser: Browser = launch(self._driver)

    def visit(self, path: str) -> Page:
        page = self.browser.new_page()
        for _ in range(300):
            try:
                page.goto(f"http://127.0.0.1:{self._port}/{path}", wait_until="commit")
                break
            except Exception:
                time.sleep(0.1)
        page.get_by_role("button", name="I understand").click(timeout=PATIENCE)
        page.get_by_role("dialog").wait_for(state="detached")
        return page

    def kill_server(self) -> None:
        self.server.kill()
        self.server.wait()
        self.server = start_server(self._port)

    def kill_browser(self) -> None:
        # The whole of it, as by the system: pages get no chance to say good-bye.
        for process in _children(os.getpid(), "chrom"):
            os.kill(process, signal.SIGKILL)
        self.open_browser()

    def close(self) -> None:
        self.browser.close()
        self.server.kill()
        self.server.wait()


def _children(parent: int, name: str) -> list[int]:
    import psutil

    return [one.pid for one in psutil.Process(parent).children(recursive=True) if name in one.name().lower()]


def _says(page: Page, state: State, patience: int = PATIENCE) -> None:
    words = re.compile(f"{re.escape(STATES[state][0])}$")
    expect(page.locator(".stMarkdownBadge").filter(has_text=words).first).to_be_visible(timeout=patience)


def _steps_on_screen(page: Page) -> int:
    """The step that the page has reached, 0 before the first."""
    text = page.locator("[data-testid=stProgress]").first
    found = re.search(r"Step ([\d,]+) of", text.inner_text(timeout=PATIENCE)) if text.count() else None
    return int(found[1].replace(",", "")) if found else 0


def _weights(run: Run) -> str:
    """sha256 of all that the last checkpoint holds but its clock."""
    digest = hashlib.sha256()
    for name, array in sorted(read_arrays(run.folder / CHECKPOINT_FILE).items()):
        if name != "state":
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _history(run: Run) -> History:
    history = History()
    history.add(run.follow().read())
    return history


def _one(stage: _Stage, victim: str, wait: float, reference: tuple[str, dict[int, float]]) -> dict[str, str]:
    """One training, one kill."""
    page = stage.visit(f"train_a_cnn?config={CONFIG.to_query()}")
    page.get_by_role("button", name="Start training").click(timeout=PATIENCE)
    expect(page.get_by_role("heading", name=CONFIG.name)).to_be_visible(timeout=PATIENCE)
    run = runs()[-1]
    address = f"train_a_cnn?run={run.id}"
    time.sleep(wait)
    seen = _steps_on_screen(page)
    shown = {step: one.loss for step, one in _history(run).steps.items() if step <= seen}
    told = ""
    if victim == "worker":
        number = worker_of(run)
        assert number is not None, "it trains for longer than the longest wait"
        os.kill(number, signal.SIGKILL)
        began = time.perf_counter()
        _says(page, State.INTERRUPTED)
        told = f"{time.perf_counter() - began:.1f} s"
        page.get_by_role("button", name="Go on from the last checkpoint").click(timeout=PATIENCE)
    elif victim == "server":
        stage.kill_server()
        page.close()
        page = stage.visit(address)
    elif victim == "browser":
        stage.kill_browser()
        page = stage.visit(address)
    _says(page, State.FINISHED, _WHOLE_RUN)
    history = _history(run)
    weights, losses = reference
    lost = [step for step, loss in shown.items() if (now := history.steps.get(step)) is None or now.loss != loss]
    same = _weights(run) == weights and {step: one.loss for step, one in history.steps.items()} == losses
    page.close()
    return {
        "killed": victim,
        "after": f"{wait:.1f} s",
        "steps on screen": str(seen),
        "seen to be interrupted after": told or "-",
        "lost": str(len(lost)),
        "same curve and weights": "yes" if same else "NO",
    }


def main() -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ[RUNS_VARIABLE] = folder
        alone = create(CONFIG)
        began = time.perf_counter()
        start(alone)
        while alone.alive():
            time.sleep(0.2)
        # Followed in a browser it is no quicker, but for a worker that waits ready: it is still learning then.
        longest = 0.8 * (time.perf_counter() - began)
        reference = _weights(alone), {step: one.loss for step, one in _history(alone).steps.items()}
        with sync_playwright() as driver:
            stage = _Stage(driver)
            try:
                for number in range(RUNS):
                    row = _one(stage, VICTIMS[number % len(VICTIMS)], chance.uniform(1, longest), reference)
                    rows.append(row)
                    print(number + 1, row, flush=True)
            finally:
                stage.close()
    head = list(rows[0])
    lines = [
        "# Killed at random moments",
        "",
        f"Written by `python -m tests.benchmarks.kills`, seed {seed}: {RUNS} trainings of {CONFIG.epochs} epochs,",
        "followed in a browser; worker, server or browser gets SIGKILL. Curve and weights are compared, bit for bit,",
        "with those of a run left alone. Steps on screen that a later look does not show, or not so, count as lost.",
        "",
        f"| | {' | '.join(head)} |",
        f"|---|{'---|' * len(head)}",
        *(f"| {number} | {' | '.join(row.values())} |" for number, row in enumerate(rows, start=1)),
        "",
    ]
    (ROOT / "docs" / "kills.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
