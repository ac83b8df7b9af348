"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

# Tests that import OpenVINO themselves would have it report to its maker, in a forked copy of this process each time:
# seconds, where the process has grown to gigabytes. The program bars that package, too.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
# Networks that somebody kept on this machine would stand on the pages beside the shipped ones.
os.environ["CXRMODELS_RUNS"] = tempfile.mkdtemp(prefix="cxrmodels-runs-")
# What networks were converted to is shared by the tests, and by the servers and commands that they start.
os.environ["CXRMODELS_CACHE"] = tempfile.mkdtemp(prefix="cxrmodels-cache-")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real radiographs that CXRMODELS_DATA names; tests that need it are skipped without."""
    folder = os.environ.get("CXRMODELS_DATA")
    if not folder:
        pytest.skip("CXRMODELS_DATA names no folder: real radiographs are needed here")
    return Path(folder)
