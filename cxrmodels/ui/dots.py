"""What several networks think of one question, on one axis: a Streamlit component (v2, inline)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.plots import percent

_ASSETS = Path(__file__).parent / "assets"
_SHAPES = {"covid19": "covid19", "other": "other", NOT_SURE: "unsure"}

_mount = st.components.v2.component(
    "cxr_dots",
    html='<ul role="list"></ul>',
    css=(_ASSETS / "dots.css").read_text(encoding="utf-8"),
    js=(_ASSETS / "dots.js").read_text(encoding="utf-8"),
)


def agreement_dots(
    titles: Sequence[str], probabilities: Sequence[float | None], calls: Sequence[str], *, key: str
) -> None:
    """P(COVID-19) of every network on one axis; the shape repeats what each calls: COVID-19 (a filled circle),
    something else (a square), not sure (a diamond).

    Args:
        titles: network names.
        probabilities: 0-1; None where a network does not answer.
        calls: `covid19`, `other` or `not sure` each.
        key: identity on the page.
    """
    dots: list[dict[str, Any]] = [
        {
            "name": title,
            "value": None if value is None else round(float(value), 4),
            "said": "" if value is None else percent(float(value)),
            "call": _SHAPES[call],
        }
        for title, value, call in zip(titles, probabilities, calls, strict=True)
    ]
    _mount(key=key, data={"label": "Probability of COVID-19", "dots": dots})
