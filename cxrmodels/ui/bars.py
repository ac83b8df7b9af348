"""A network's probabilities as bars, which are there before any chart library is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cxrmodels.findings import TITLES
from cxrmodels.plots import COLOURS, OTHER_COLOUR, percent
from cxrmodels.ui.components import asset, component

# The role is said: where a list has no marks, some browsers take it for none.
_mount = component("bars", '<ul role="list"></ul>', asset("list.css"))


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
