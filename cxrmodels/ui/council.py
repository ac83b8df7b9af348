"""What the networks' heat maps of a film have in common, and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import streamlit as st

from cxrmodels import charts
from cxrmodels.explain.consensus import CHANCE, Consensus, consensus
from cxrmodels.explain.evidence import Evidence, in_words
from cxrmodels.explain.saliency import METHODS, SaliencyMap
from cxrmodels.findings import TITLES
from cxrmodels.inference import Prediction
from cxrmodels.lungs import Lungs
from cxrmodels.models import spec
from cxrmodels.plots import heat_legend_png, outlined, overlay, percent
from cxrmodels.ui.frame import ink
from cxrmodels.ui.lungs import evidence_of, outline, whose
from cxrmodels.ui.pictures import address, photo

_SIDES = {"right": "right lung", "left": "left lung", "both": "both lungs", "neither": "outside the lungs"}
_WHERE = {
    "right": "mostly in the right lung",
    "left": "mostly in the left lung",
    "both": "in both lungs",
    "neither": "outside the lungs",
}


# Few: each has two whole maps, and of every viewer.
@st.cache_data(scope="session", max_entries=8, show_spinner=False)
def _consensus(
    film: str, finding: str, method: str, models: tuple[str, ...], _maps: Sequence[SaliencyMap]
) -> Consensus:
    return consensus(_maps)


@st.cache_data(scope="session", max_entries=64, show_spinner=False)
def _picture(
    named: tuple[str, ...],
    opacity: float,
    outlines: bool,
    _pixels: np.ndarray,
    _heat: np.ndarray,
    _lines: tuple[np.ndarray, ...],
) -> str:
    return photo(outlined(overlay(_pixels, _heat, opacity), _lines))


def show_council(
    maps: Sequence[SaliencyMap],
    predictions: dict[str, Prediction],
    pixels: np.ndarray,
    lungs: Lungs | None,
    opacity: float,
    outlines: bool,
) -> None:
    """The consensus and the disagreement of several networks' maps, in pictures, words and figures.

    Args:
        maps: of one film, finding and method, one a network, at the size of `pixels`.
        predictions: of those networks at least, by key.
        pixels: the film as it is shown, float32 (h, w), 0-1.
        outlines: whether lungs are outlined in the pictures.
    """
    film, finding, method = maps[0].film_sha256, maps[0].finding, maps[0].method
    keys = tuple(one.model for one in maps)
    found = _consensus(film, finding, method, keys, maps)
    st.subheader("Where they look")
    st.markdown(_said(found, finding, method, sum(not one.raw_max for one in maps)))
    places = {
        one.model: evidence_of(film, (one.model, finding, method), one.heat, lungs)
        for one in maps
        if lungs and one.raw_max
    }
    if lungs and places:
        st.markdown(f"{_votes(list(places.values()))} Lungs {whose(lungs)}.")
    lines = outline(film, lungs) if outlines else ()
    columns = st.columns(2, gap="medium")
    for column, (name, heat, words) in zip(columns, _pictures(found), strict=True):
        with column:
            st.markdown(f"**{name}**")
            st.image(
                _picture((film, finding, method, name, *keys), opacity, bool(lines), pixels, heat, lines),
                width="stretch",
                alt=f"{name} of {len(keys)} networks' heat maps for {TITLES[finding]}",
            )
            st.caption(words)
    if lungs and found.agreed.any():
        place = evidence_of(film, (finding, method, *keys), found.agreed, lungs)
        columns[0].caption(f"Of the consensus {in_words(place, finding)}")
    st.image(address(heat_legend_png(opacity)), width=240, alt="Colour scale of both maps, from none to all")
    st.caption("From none to all, the same scale in both: a pale map of consensus means that there is little of it.")
    # Filled when it is opened: a table and a chart are most of what a browser would have to load for this page.
    details = st.expander("Network by network", key="council_details", on_change="rerun")
    if not details.open:
        return
    with details:
        st.dataframe(
            [_row(one, predictions[one.model], places.get(one.model)) for one in maps],
            hide_index=True,
            width="stretch",
            key="council_table",
        )
        titles = [spec(key).title for key in keys]
        st.plotly_chart(
            charts.agreement(titles, found.overlap, ink(), low=0.0, words="of their hottest fifths in common"),
            config={"displayModeBar": False},
            key="council_overlap",
            alt=f"What the hottest fifths of two heat maps have in common: {_percent(found.mean_overlap)} on average",
        )
        st.caption(f"What the hottest fifths of two maps have in common; by chance it would be {_percent(CHANCE)}.")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _said(found: Consensus, finding: str, method: str, empty: int) -> str:
    nothing = f" {empty} of them are empty: nothing speaks for it there." if empty else ""
    return (
        f"{METHODS[method].title} of {len(found.models)} networks for **{TITLES[finding]}**.{nothing} The hottest "
        f"fifths of two of their maps have on average **{_percent(found.mean_overlap)}** in common; of maps that know "
        f"nothing it would be {_percent(CHANCE)}."
    )


def _votes(found: Sequence[Evidence]) -> str:
    counts = Counter(one.side for one in found)
    said = [f"{count} {'network' if count == 1 else 'networks'} {_WHERE[side]}" for side, count in counts.most_common()]
    return f"Their evidence lies: {', '.join(said)}."


def _pictures(found: Consensus) -> tuple[tuple[str, np.ndarray, str], tuple[str, np.ndarray, str]]:
    agreed = "At least half of the networks have this much evidence there: the median of their maps."
    if not found.agreed.any():
        agreed = "Empty: there is no place where half of the networks have evidence."
    return (
        ("Consensus", found.agreed, agreed),
        (
            "Disagreement",
            found.disputed,
            "Some networks have their evidence there, others none: the standard deviation of their maps.",
        ),
    )


def _row(one: SaliencyMap, prediction: Prediction, place: Evidence | None) -> dict[str, str]:
    row = {
        "Network": spec(one.model).title,
        "Probability": percent(prediction.probability(one.finding) or 0.0),
    }
    if place is None:
        return row
    return row | {
        "Evidence": _SIDES[place.side],
        "Inside the lungs": _percent(place.inside),
        "Right lung": _percent(place.right),
        "Left lung": _percent(place.left),
        "Strong in the right": _percent(place.affected_right),
        "Strong in the left": _percent(place.affected_left),
    }
