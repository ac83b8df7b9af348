"""A network's probabilities as bars: a Streamlit component (v2, inline) that is there at once, charts or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from cxrmodels.findings import TITLES
from cxrmodels.plots import COLOURS, OTHER_COLOUR, percent

_ASSETS = Path(__file__).parent / "assets"

_mount = st.components.v2.component(
    "cxr_bars",
    # The role is said: where a list has no marks, some browsers take it for none.
    html='<ul role="list"></ul>',
    css=(_ASSETS / "bars.css").read_text(encoding="utf-8"),
    js=(_ASSETS / "bars.js").read_text(encoding="utf-8"),
)


def probability_bars(title: str, findings: Sequence[str], probabilities: Sequence[float], *, key: str) -> None:
    """One horizontal bar a finding, with its name and its per cent.

    Args:
        title: whose probabilities they are.
        probabilities: 0-1 each.
        key: identity on the page.
    """
    bars: list[dict[str, Any]] = [
        {
            "name": TITLES[finding],
            "value": round(float(value), 4),
            "said": percent(float(value)),
            "colour": COLOURS.get(finding, OTHER_COLOUR),
        }
        for finding, value in zip(findings, probabilities, strict=True)
    ]
    _mount(key=key, data={"label": f"{title}: probability of each finding", "bars": bars})
