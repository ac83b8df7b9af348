"""Fixtures that several test modules share."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Tests that import OpenVINO themselves would have it report to its maker, in a forked copy of this process each time:
# seconds, where the process has grown to gigabytes. The program bars that package, too.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
# Networks that somebody kept on this machine would stand on the pages beside the shipped ones.
os.environ["CXRMODELS_RUNS"] = tempfile.mkdtemp(prefix="cxrmodels-runs-")
# What networks were converted to is shared by the tests, and by the servers and commands that they start: by all
# processes that pytest runs tests in, too, of which the first has made the folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["CXRMODELS_CACHE"] = tempfile.mkdtemp(prefix="cxrmodels-cache-")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which process of pytest-xdist runs what: a module's tests share what they have made ready and stay together; so
    do all that need a browser, which would make each other wait."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "browser" if nodeid.startswith("tests/browser/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(autouse=True, scope="module")
def _out_of_sight() -> Iterator[None]:
    """Streamlit collects garbage after every run of a page. What was there before this module, such as the 350,000
    objects that TensorFlow's import leaves behind, is not looked through each time; the program does the same."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real radiographs that CXRMODELS_DATA names; tests that need it are skipped without."""
    folder = os.environ.get("CXRMODELS_DATA")
    if not folder:
        pytest.skip("CXRMODELS_DATA names no folder: real radiographs are needed here")
    return Path(folder)
