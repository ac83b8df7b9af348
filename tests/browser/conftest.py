"""A real server and a real browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 60_000
"""Milliseconds after which something counts as stuck: generous, since other work may keep this machine busy."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as refused:
        refused.close()
    except OSError:
        pass
    return False


@contextmanager
def served(
    log: Path, options: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """Address and process number of a program started the way a user starts it.

    Args:
        log: where its output goes; a traceback in it fails the test.
        options: Streamlit's, beyond those of every test.
        environment: variables on top of this process's.
    """
    port = _free_port()
    chosen = {
        "server.port": str(port),
        "server.headless": "true",
        "server.address": "127.0.0.1",
        # Somebody may edit a file while the tests run: that must not rerun the page under them.
        "server.fileWatcherType": "none",
        # Seconds, not two minutes, until a session whose page was closed is over.
        "server.disconnectedSessionTTL": "2",
        **(options or {}),
    }
    address = "/".join(filter(None, (f"http://127.0.0.1:{port}", chosen.get("server.baseUrlPath"))))
    arguments = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            for _ in range(PATIENCE // 200):
                if process.poll() is not None or _answers(address):
                    break
                time.sleep(0.2)
            if process.poll() is not None or not _answers(address):
                pytest.fail(f"The server did not start:\n{log.read_text(errors='replace')[-3000:]}")
            yield address, process.pid
            if "Traceback" in (said := log.read_text(errors="replace")):
                pytest.fail(f"The server's log holds a traceback:\n{said[-3000:]}")
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a program that the module's tests share."""
    with served(tmp_path_factory.mktemp("server") / "log.txt") as (address, _):
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("No chromium on this machine: the browser tests have to run where CI is set.")
        pytest.skip("No chromium on this machine: the pages can be tested in a browser only with one.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


_KNOWN = re.compile(
    # Opened at a page's own address, Streamlit's client asks for the server's health there first: the browser notes it.
    r"404 \(Not Found\) \(http://127\.0\.0\.1:\d+(/\w+)+/_stcore/[a-z-]+\)$"
    # A picture, or what a download button offers, that the page replaced by a newer one before the browser had fetched
    # it: the client asks for every file as soon as its button is there.
    r"|404 \(Not Found\) \(http://127\.0\.0\.1:\d+(/\w+)*/media/\w+\.\w+\)$|Image source error - http://127\.0\.0\.1:\d+(/\w+)*/media/"
    r"|Download Button source error - 404 "
)


class Watch:
    """Notes whatever must not happen on any page: requests to other hosts, errors in the console."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.host = urlsplit(address).netloc
        self.strangers: list[str] = []
        self.errors: list[str] = []
        context.on("request", self._requested)
        context.on("console", self._said)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def _requested(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != self.host:
            self.strangers.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location['url']})")

    def check(self) -> None:
        assert self.strangers == []
        assert [error for error in self.errors if not _KNOWN.search(error)] == []


class Visit:
    """One viewer with a page of their own."""

    def __init__(self, page: Page, address: str, watch: Watch) -> None:
        self.page, self.address, self.watch = page, address, watch

    def enter(self, path: str = "") -> Page:
        """Open a page and accept the notice."""
        self.page.goto(f"{self.address}/{path}")
        accept = self.page.get_by_role("button", name="I understand")
        accept.wait_for()
        accept.click()
        self.page.get_by_role("dialog").wait_for(state="detached")
        return self.page


@contextmanager
def viewer_of(chromium: Browser, address: str, options: Mapping[str, Any] | None = None) -> Iterator[Visit]:
    """A fresh viewer of a server, with options of `Browser.new_context`."""
    context = chromium.new_context(**{"viewport": {"width": 1400, "height": 1000}, **(options or {})})
    context.set_default_timeout(PATIENCE)
    watch = Watch(context, address)
    yield Visit(context.new_page(), address, watch)
    try:
        context.close()
    except Error as closed:  # the browser itself has gone: the test has failed already
        pytest.fail(str(closed))
    watch.check()


@pytest.fixture
def visit(chromium: Browser, server: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A fresh viewer. Parametrise indirectly with options of `Browser.new_context`."""
    with viewer_of(chromium, server, getattr(request, "param", {})) as one:
        yield one
