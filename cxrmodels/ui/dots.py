"""What several networks think of one question, on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.plots import COLOURS, percent
from cxrmodels.ui.components import asset, component

_SHAPES = {"covid19": "covid19", "other": "other", NOT_SURE: "unsure"}

# The role is said: where a list has no marks, some browsers take it for none.
_mount = component("dots", '<ul role="list"></ul>', asset("list.css"))


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
            "colour": COLOURS.get(call, ""),
        }
        for title, value, call in zip(titles, probabilities, calls, strict=True)
    ]
    _mount(key=key, data={"label": "Probability of COVID-19", "dots": dots})
