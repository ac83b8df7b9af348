"""The page as a viewer meets it: first paint, reruns, and what ten viewers cost in memory."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, Playwright, sync_playwright
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = 10
RERUNS = 15
READY_FILM = "Synthetic, ground glass"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_server(port: int, script: str = "app.py", *options: str) -> subprocess.Popen[bytes]:
    """A server on this port, without a data folder; it need not answer yet."""
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port), *options]
    environment = {key: value for key, value in os.environ.items() if key != "CXRMODELS_DATA"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=quiet, stdout=quiet, stderr=quiet)


@contextmanager
def served(port: int, script: str = "app.py", *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """As `start_server`; it ends with the block."""
    process = start_server(port, script, *options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def open_page(browser: Browser, port: int, shown: str = "I understand") -> Page:
    """A page in a browser of its own, once the last thing on it, text or button, is there."""
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    while True:
        try:
            page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
            break
        except Exception:
            time.sleep(0.05)
    page.get_by_text(shown, exact=True).first.wait_for(timeout=120_000)
    return page


@contextmanager
def browser_and_server(driver: Playwright) -> Iterator[tuple[Browser, str]]:
    """A browser, and the address of a server that answers."""
    browser, port = launch(driver), free_port()
    with served(port):
        open_page(browser, port).context.close()
        yield browser, f"http://127.0.0.1:{port}"
    browser.close()


def launch(driver: Playwright) -> Browser:
    """The browser of this machine."""
    return driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])


def _painted(browser: Browser, script: str, shown: str) -> float:
    """Seconds from the command to the whole page, the median of three starts."""
    taken = []
    for _ in range(3):
        port, started = free_port(), time.perf_counter()
        with served(port, script):
            page = open_page(browser, port, shown)
            taken.append(time.perf_counter() - started)
            page.context.close()
    return statistics.median(taken)


def _read_one(page: Page) -> None:
    page.get_by_role("button", name="I understand").click()
    page.get_by_role("button", name=READY_FILM).click()
    page.get_by_role("button", name="All heat maps (PNG)").wait_for(timeout=180_000)
    page.wait_for_timeout(1500)


def memory(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of the server and its children, MB."""
    parent = psutil.Process(process.pid)
    return sum(one.memory_info().rss for one in [parent, *parent.children(recursive=True)]) / 2**20


def settle(process: subprocess.Popen[bytes]) -> None:
    """Wait until the server has done what it does behind everybody's back after its networks are loaded: until it has
    been idle for three seconds."""
    server, idle = psutil.Process(process.pid), 0
    while idle < 3:
        idle = idle + 1 if server.cpu_percent(1.0) < 10 else 0


def measure_browser() -> list[tuple[str, str]]:
    """(what, figure): first paint after the command, memory with one and with ten viewers reading a film.

    The browser runs already, as a reader's does.
    """
    port = free_port()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = launch(playwright)
        bare = Path(folder) / "bare.py"
        bare.write_text("import streamlit as st\n\nst.header('Nothing else')\n")
        least = _painted(browser, str(bare), "Nothing else")
        painted = _painted(browser, "app.py", "I understand")
        with served(port) as process:
            first = open_page(browser, port)
            _read_one(first)
            alone = memory(process)
            pages = [open_page(browser, port) for _ in range(SESSIONS - 1)]
            for page in pages:
                _read_one(page)
            together = memory(process)
        browser.close()
    return [
        ("first page painted, to the last word, after `streamlit run app.py` (target 3 s)", f"{painted:.1f} s"),
        ("the same of a Streamlit page with one heading", f"{least:.1f} s ({painted / least:.2f} x)"),
        ("server memory, one viewer with a film read by all networks", f"{alone:.0f} MB"),
        (f"server memory, {SESSIONS} such viewers (target: at most 300 MB more)", f"+{together - alone:.0f} MB"),
    ]


def measure_rerun() -> list[tuple[str, str]]:
    """(what, figure): script time of a rerun of the page with a film read and all networks loaded."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    app.button(key="accept_notice").click().run()
    app.session_state["chosen_film"] = "phantom/covid19"
    app.run()
    for _ in range(200):
        if not app.get("skeleton") and len(app.get("download_button")) == 2:
            break
        time.sleep(0.2)
        app.run()
    for _ in range(5):
        app.run()
    times = []
    for _ in range(RERUNS):
        started = time.perf_counter()
        app.run()
        times.append(1000 * (time.perf_counter() - started))
    return [("rerun of the page, all networks loaded (target 100 ms)", f"{statistics.median(times):.0f} ms")]
