"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real radiographs that CXRMODELS_DATA names; tests that need it are skipped without."""
    folder = os.environ.get("CXRMODELS_DATA")
    if not folder:
        pytest.skip("CXRMODELS_DATA names no folder: real radiographs are needed here")
    return Path(folder)
