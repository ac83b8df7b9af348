"""What docs/privacy.md promises, watched during a whole session: what is written, and whom the program talks to.

The server listens on all addresses and below a path, as behind a proxy.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from platformdirs import user_cache_path
from playwright.sync_api import Browser, Page, expect

from cxrmodels.lab.config import ConfigurableCnn, PhantomData, RunConfig
from cxrmodels.lab.process import terminate
from cxrmodels.lab.store import Run, State
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import to_png
from cxrmodels.zoo import LUNGS, weights_folder
from tests.broken_inputs import PATIENT, dicom
from tests.browser.conftest import PATIENCE, ROOT, Visit, served, viewer_of
from tests.browser.test_read_a_film import open_film, read, to_models, upload, viewer
from tests.browser.test_train_a_cnn import begin, says

WATCHED = Path(__file__).parent / "watched"
LESSON = RunConfig(
    name="A short lesson",
    data=PhantomData(films=60),
    network=ConfigurableCnn(blocks=1, filters=4, dense=8),
    input_size=32,
    epochs=2,
)
SECRET = "secretname"
"""In the name of an uploaded file, and as the patient's in a DICOM file: stands in no file that is written."""

LIBRARIES = (
    r"/proc/\d+/autogroup"  # a worker's priority
    r"|{home}/\.(config|cache)(/matplotlib)?|{home}/\.keras(/keras\.json)?"
    # TensorFlow writes the code that it makes of ours and what it converts; Python tries a folder before it uses it.
    r"|{temporary}(/__autograph_generated_file\w+\.py|/tmp\w{{8}}(/assets)?|/[a-z0-9_]{{8}})?"
)
"""What libraries write by themselves, beyond caches and runs."""

Said = list[tuple[str, str]]


def watching(log: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(WATCHED), "CXRMODELS_WATCHED": str(log)}


def noted(log: Path) -> Said:
    """What was written (event, path), or who was talked to (event, address)."""
    return [(event, what) for event, what in map(json.loads, log.read_text(encoding="utf-8").splitlines())]


def test_the_watch_sees(tmp_path: Path) -> None:
    """Or the test below could not fail."""
    code = (
        "import socket, os, tempfile, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'a')!r}).write_text('x')\n"
        f"os.mkdir({str(tmp_path / 'b')!r})\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
        "try: socket.create_connection(('192.0.2.1', 9), timeout=0.01)\n"
        "except OSError: pass\n"
        "open(__import__('json').__file__).read()\n"
    )
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **watching(log)}, check=True, timeout=60)
    said = noted(log)
    assert ("open", str(tmp_path / "a")) in said
    assert ("os.mkdir", str(tmp_path / "b")) in said
    assert said.count(("socket.connect", "('192.0.2.1', 9)")) == 2
    assert not any(what.endswith(".py") for _, what in said)


@contextmanager
def strangers(server: int) -> Iterator[set[str]]:
    """Addresses beyond this machine that the server's processes, native code included, are connected to meanwhile."""
    found, over = set[str](), threading.Event()

    def look() -> None:
        root = psutil.Process(server)
        while not over.wait(0.3):
            for process in (root, *root.children(recursive=True)):
                try:
                    ends = [one.raddr.ip for one in process.net_connections("inet") if one.raddr]
                except psutil.Error:  # ended meanwhile
                    continue
                found.update(ip for ip in ends if ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def tree(*folders: Path) -> set[Path]:
    """Every file below: what native code writes shows here."""
    return {
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def inside(what: str, *folders: Path) -> bool:
    return any(Path(what).is_relative_to(folder) for folder in folders)


def session(visit: Visit) -> None:
    """Everything that a viewer does: own films, heat maps, downloads, trust, comparison, a training, the models."""
    page = visit.enter()
    # Of more than a megabyte, beyond which web servers like to put an upload into a file.
    film = np.rint(phantom("normal", seed=4, size=900).pixels * 4095).astype(np.uint16)
    upload(page, (f"{SECRET}.dcm", dicom(film, BitsStored=12, PatientID=f"{SECRET}^id")))
    # TensorFlow is imported and the networks are converted first.
    expect(page.locator(".st-key-csv")).to_be_visible(timeout=8 * PATIENCE)
    read(page)
    upload(page, (f"{SECRET} <b>.png", to_png(phantom("covid19", seed=4, size=128).pixels)))
    expect(viewer(page)).to_have_attribute("aria-label", f"Chest radiograph {SECRET} <b>.png")
    read(page)
    with page.expect_download():
        page.locator(".st-key-csv button").click()
    open_film(page, "viral_pneumonia")
    _follow(page, "Trust a heat map")
    expect(page.locator(".st-key-trust_badge")).to_be_visible(timeout=4 * PATIENCE)
    _follow(page, "Compare models")
    expect(page.get_by_role("combobox", name="Question")).to_be_visible()
    page = begin(visit, LESSON)
    says(page, State.FINISHED, 6 * PATIENCE)
    to_models(page)
    expect(page.get_by_role("heading", name="Two-layer CNN", exact=False).first).to_be_visible()


def _follow(page: Page, title: str) -> None:
    page.get_by_role("link", name=title, exact=True).click()


def test_nothing_is_written_but_caches_and_runs_and_nobody_is_talked_to(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, temporary, runs, cache = (tmp_path / name for name in ("home", "temporary", "runs", "cache"))
    for folder in (home, temporary, runs, cache):
        folder.mkdir()
    log = tmp_path / "watched"
    fonts = Path(os.environ.get("MPLCONFIGDIR") or user_cache_path("matplotlib"))
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    # Two networks are enough, and are converted anew, since the cache is empty.
    weights = tmp_path / "weights"
    weights.mkdir()
    for key in ("two_conv_cnn", "multi_lung_cnn", LUNGS.key):
        (weights / key).symlink_to(weights_folder() / key)
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(weights))
    environment = {
        **watching(log),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "CXRMODELS_RUNS": str(runs),
        "CXRMODELS_CACHE": str(cache),
        # Python's own, of its modules, and Matplotlib's, of the machine's fonts, which takes it long to list.
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLCONFIGDIR": str(fonts),
    }
    before = tree(ROOT, home, temporary)
    options = {"server.address": "0.0.0.0", "server.baseUrlPath": "cxr"}
    try:
        with (
            served(tmp_path / "log.txt", options, environment) as (address, server),
            viewer_of(chromium, address) as visit,
            strangers(server) as found,
        ):
            session(visit)
    finally:
        for folder in runs.glob("[0-9]*"):
            terminate(Run(folder))

    said = noted(log)
    written = {what for event, what in said if not event.startswith("socket")}
    assert len(written) > 10
    allowed = re.compile(LIBRARIES.format(home=re.escape(str(home)), temporary=re.escape(str(temporary))))
    assert {
        path
        for path in written
        if not inside(path, runs, cache, fonts) and path != "/dev/null" and not allowed.fullmatch(path)
    } == set()
    assert {what for event, what in said if event in ("socket.connect", "socket.sendto")} == set()
    assert {what for event, what in said if event.startswith("socket.get")} <= {"0.0.0.0", "127.0.0.1", "localhost"}
    assert found == set()
    # Killed, TensorFlow leaves the code it made of ours.
    left = {str(path) for path in (*(tree(ROOT, home, temporary) - before), *temporary.iterdir())}
    assert {path for path in left if not allowed.fullmatch(path)} == set()
    # What was kept holds nothing of a film that was uploaded.
    for path in (*runs.rglob("*"), *cache.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content
            assert PATIENT.split("^", maxsplit=1)[0].encode() not in content
