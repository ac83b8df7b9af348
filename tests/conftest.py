"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

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
