"""This program's own Streamlit components (v2, inline): constant text from `assets`, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

ASSETS = Path(__file__).parent / "assets"


def asset(name: str) -> str:
    """The text of a file in `assets`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def component(name: str, html: str, shared_css: str = "") -> Callable[..., Any]:
    """Register the component whose parts are `NAME.js` and `NAME.css`; returns what mounts it on a page.

    Args:
        html: its markup, before its script has run.
        shared_css: style that it has in common with others, before its own.
    """
    registered = st.components.v2.component(
        "cxr_" + name, html=html, css=shared_css + asset(name + ".css"), js=asset(name + ".js")
    )

    def mount(*, key: str, data: Mapping[str, Any], **options: Any) -> Any:
        # Tuples, not lists: Streamlit would import pandas (half a second) to see whether a list is a data frame.
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        return registered(key=key, data=plain, **options)

    return mount
