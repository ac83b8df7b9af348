"""Pages that share one service in a module's tests, with nothing else in the background."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import streamlit as st

from cxrmodels.service import Service


def shared_service() -> Iterator[Service]:
    """For a fixture of a module: loaded networks are kept from test to test."""
    service = Service()
    yield service
    service.close()


def fresh_pages(monkeypatch: pytest.MonkeyPatch, warm: Service) -> Iterator[None]:
    """For a fixture of each test: no data folder, no caches, nothing computed ahead."""
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    monkeypatch.setattr("cxrmodels.ui.frame._look_ahead", lambda: None)
    monkeypatch.setattr("cxrmodels.service.Service", lambda: warm)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()
