"""One network's heat map of a film, put to the test while the viewer watches; and the shortcut lab for all networks."""

from __future__ import annotations

from concurrent.futures import wait
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from cxrmodels import NOTICE
from cxrmodels.engine import Engine
from cxrmodels.explain import faithfulness, trust
from cxrmodels.explain.changes import CHANGES, changed
from cxrmodels.explain.evidence import evidence
from cxrmodels.explain.faithfulness import SHARES, Curves, Shuffled, Stability
from cxrmodels.explain.methods import THOROUGH, WAYS, adding_up, draw
from cxrmodels.explain.saliency import SaliencyMap
from cxrmodels.explain.shortcuts import Trial, signs, trials
from cxrmodels.explain.steps import Steps
from cxrmodels.fair_line import LineFullError
from cxrmodels.findings import TITLES
from cxrmodels.lungs import Lungs
from cxrmodels.models import available, spec
from cxrmodels.plots import covering_curves, overlay, percent, shuffled_curve
from cxrmodels.radiograph import Radiograph, resize
from cxrmodels.service import Reading, settled
from cxrmodels.ui.desk import Desk, look_again
from cxrmodels.ui.films import ChosenFilm, ready_folder
from cxrmodels.ui.frame import ink, service
from cxrmodels.ui.pictures import film_photo, photo

_SHOWN_SIDE = 420
_OPACITY = 0.6
_PAGE = "trust"
_PATIENCE_SECONDS = 0.25
_STATIC = {"displayModeBar": False}
_BADGES = {
    trust.HOLDS_UP: ":green-badge[:material/verified: Holds up]",
    trust.WEAK: ":orange-badge[:material/help: Weak]",
    trust.DO_NOT_TRUST: ":red-badge[:material/block: Do not trust]",
}
_GRADES = {
    trust.GOOD: ":material/check: good",
    trust.DOUBTFUL: ":material/remove: doubtful",
    trust.BAD: ":material/close: bad",
}


def show_trust(film: ChosenFilm) -> None:
    """The controls, the map, its checks as they come in, the badge over them, and the shortcut lab."""
    look_again(_PAGE, _board, film)


def _board(film: ChosenFilm) -> bool:
    keys = available()
    if not keys:
        st.error("No network is shipped here. Restore the weights folder, or train one on the command line.")
        return False
    chosen, named, way = st.columns(3, vertical_alignment="bottom")
    key = chosen.selectbox("Network", keys, format_func=lambda one: spec(one).title, key="trust_network")
    radiograph = film.radiograph
    asked = service().read(radiograph, key)
    where = service().lungs(radiograph, ready_folder())
    reading: Reading | None = asked.result() if settled(asked) and not asked.exception() else None
    finding, method = _choose(key, reading, named, way)
    desk = Desk(_PAGE, (radiograph.sha256, key, finding, method))
    refused = [one.exception() for one in (asked, where) if settled(one) and isinstance(one.exception(), LineFullError)]
    if refused:
        desk.waiting = True
        st.caption(f"{refused[0]} This page does so by itself.")
    elif settled(asked) and asked.exception():
        st.error(str(asked.exception()), icon=":material/error:")
    elif reading is None or finding is None or not wait([where], _PATIENCE_SECONDS).done:
        desk.waiting = True
        st.caption("Waiting for the network")
        st.skeleton(height=320)
    else:
        control, badge = st.empty(), st.container()
        # Without them, whatever the reason, their checks and changes are left out.
        lungs = where.result() if settled(where) and not where.exception() else None
        checks = _examine(desk, radiograph, key, reading, finding, method, lungs)
        tried = _lab(desk, radiograph, finding, lungs.mask if lungs else None)
        if checks and key in tried:
            with badge:
                _badge(trust.judge([*checks, trust.check_shortcuts(signs(tried[key], finding))]))
        desk.control(control)
    return desk.waiting


def _choose(key: str, reading: Reading | None, named: Any, way: Any) -> tuple[str | None, str]:
    findings = spec(key).findings
    likeliest = reading.prediction.top if reading else 0
    # A new key where the likeliest is another one: the list then starts there.
    finding = named.selectbox(
        "Heat map of",
        findings,
        index=likeliest,
        format_func=lambda one: TITLES.get(one, one),
        key=f"trust_finding {key} {likeliest}",
        disabled=reading is None,
    )
    method = way.selectbox(
        "Method",
        list(WAYS),
        format_func=lambda one: WAYS[one].title + (" (slow)" if WAYS[one].slow else ""),
        key="trust_method",
        help="  \n".join(f"**{one.title}**: {one.assumes}" for one in WAYS.values()),
    )
    return (finding if reading else None), method


def _small(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape
    scale = _SHOWN_SIDE / max(height, width)
    return resize(pixels, max(1, round(width * scale)), max(1, round(height * scale)))


def _examine(
    desk: Desk,
    radiograph: Radiograph,
    key: str,
    reading: Reading,
    finding: str,
    method: str,
    lungs: Lungs | None,
) -> list[trust.Check]:
    """The map and its checks; none of them is returned before all have been made."""
    pixels, output = _small(radiograph.pixels), reading.output
    left, right = st.columns([2, 3], gap="medium")
    with left:
        found: SaliencyMap | None = desk.ask(
            "map",
            key,
            lambda engine: draw(engine, radiograph, output, finding, method, pixels.shape, gradients=THOROUGH),
            "Drawing the map",
        )
        if found is None:
            alt = f"Chest radiograph {radiograph.name}, without a heat map yet"
            st.image(film_photo(pixels), width="stretch", alt=alt)
            return []
        _picture(pixels, found, spec(key).title)
        st.caption(f"{WAYS[method].title}: {WAYS[method].assumes} {adding_up(found)}")
    if not found.raw_max:
        right.info("The map is empty: nothing speaks for this finding, so there is nothing to check.")
        return []
    heat = found.heat
    with right:
        covered: Curves | None = desk.ask(
            "cover", key, lambda engine: faithfulness.cover(engine, radiograph, finding, heat), "Covering"
        )
        if covered:
            st.markdown(f"**{covered.sentence()}**")
            _curves(covered)
        stable: tuple[Stability, ...] | None = desk.ask(
            "nudge",
            key,
            lambda engine: faithfulness.nudge(engine, radiograph, finding, method, heat),
            "Changing the film a little",
        )
        if stable:
            _stability(stable)
        shuffled: tuple[Shuffled, ...] | None = desk.ask(
            "shuffle",
            key,
            lambda engine: faithfulness.shuffle(engine, radiograph, finding, method, heat),
            "Shuffling weights",
        )
        if shuffled:
            _shuffled(shuffled, found, pixels)
    if not (covered and stable and shuffled):
        return []
    return [
        trust.check_covering(covered),
        trust.check_stability(stable),
        trust.check_shuffled(shuffled),
        *([trust.check_lungs(evidence(heat, lungs.mask))] if lungs else []),
    ]


def _picture(pixels: np.ndarray, found: SaliencyMap, title: str) -> None:
    name = f"{WAYS[found.method].title} for {TITLES.get(found.finding, found.finding)}, layer {found.layer}"
    st.image(photo(overlay(pixels, found.heat, _OPACITY)), width="stretch", alt=f"{name}, {title}")
    st.caption(f"{name}. {NOTICE}")


def _badge(found: trust.Badge) -> None:
    with st.container(border=True, key="trust_badge"):
        # Its word says it, the colour repeats it.
        st.markdown(_BADGES[found.word])
        for check in found.checks:
            st.markdown(f"**{check.title}**, {_GRADES[check.grade]}. {check.says}")
        if all(check.title != trust.LUNGS for check in found.checks):
            st.caption("Whether the evidence lies in the lungs was not checked: no lungs were found on this film.")
        st.caption(
            "Every check good: holds up. One bad: do not trust. Otherwise: weak. It is a badge for the map, not for "
            "the network's answer. The rules stand in docs/trust.md."
        )


def _curves(found: Curves) -> None:
    st.plotly_chart(
        covering_curves(
            SHARES.tolist(),
            (found.deletion.tolist(), found.random_deletion.mean(0).tolist()),
            (found.insertion.tolist(), found.random_insertion.mean(0).tolist()),
            ink(),
        ),
        config=_STATIC,
        key="trust_curves",
        alt=f"Score while the film is covered and uncovered. {found.sentence()}",
    )
    st.caption(
        "Covered: black from the hottest place on; the faster it falls, the better. Uncovered: a blurred film gets its "
        f"detail back; the faster it rises, the better. The map gains {found.gain:+.2f} over random ones."
    )


def _stability(found: tuple[Stability, ...]) -> None:
    with st.expander("Small changes to the film"):
        st.dataframe(
            [
                {
                    "The film": one.change,
                    "Score": percent(one.probability),
                    "Rank correlation": f"{one.likeness.rank:.2f}",
                    "SSIM": f"{one.likeness.ssim:.2f}",
                }
                for one in found
            ],
            hide_index=True,
            width="stretch",
            key="trust_stability",
        )


def _shuffled(found: tuple[Shuffled, ...], original: SaliencyMap, pixels: np.ndarray) -> None:
    st.markdown("##### Shuffle what it learnt")
    names = {0: "none", **{one.layers: f"{one.layers} of {one.of}, down to {one.last}" for one in found}}
    layers = st.select_slider(
        "Layers with shuffled weights, from the last one on",
        list(names),
        format_func=names.__getitem__,
        key="trust_layers",
    )
    chosen = next((one for one in found if one.layers == layers), None)
    shown, curve = st.columns([2, 3])
    heat = chosen.map if chosen else original
    height, width = pixels.shape
    shown.image(
        photo(overlay(pixels, resize(heat.heat, width, height), _OPACITY)),
        width="stretch",
        alt=f"Heat map with {layers} layers shuffled",
    )
    if chosen:
        shown.caption(
            f"Alike to {chosen.likeness.rank:.2f}; the network now says {percent(chosen.probability)}. A map that "
            "stays as it was is a picture of the film, not of what was learnt."
        )
    curve.plotly_chart(
        shuffled_curve(
            [0, *(one.layers for one in found)],
            [1.0, *(one.likeness.ssim for one in found)],
            [1.0, *(one.likeness.rank for one in found)],
            ink(),
        ),
        config=_STATIC,
        key="trust_shuffled",
        alt=f"Likeness of the map while weights are shuffled: {found[-1].likeness.rank:.2f} with all of them shuffled",
    )


def _lab(desk: Desk, radiograph: Radiograph, finding: str, lungs: np.ndarray | None) -> dict[str, tuple[Trial, ...]]:
    """What every network that answers the finding says of the changed films, by key as far as it is known."""
    st.subheader("Shortcut lab")
    st.markdown(
        f"What the networks say of **{TITLES.get(finding, finding)}** when the film is changed. A mark in a corner "
        "should move nothing; without lungs nothing should be left."
    )
    tried: dict[str, tuple[Trial, ...]] = {}
    for key in available():
        asked = service().read(radiograph, key)
        if finding not in spec(key).findings:
            continue
        if not settled(asked) or isinstance(asked.exception(), LineFullError):
            desk.waiting = True
            continue
        if asked.exception():
            continue
        begin = partial(_trials, radiograph, asked.result(), finding, lungs)
        found = desk.ask("trials", key, begin, f"Shortcuts of {spec(key).title}", radiograph.sha256, finding)
        if found is not None:
            tried[key] = found
    if not tried:
        return {}
    some = next(iter(tried.values()))
    rows: list[dict[str, str]] = [
        {"The film": "as it is", **{spec(key).title: percent(found[0].before) for key, found in tried.items()}}
    ]
    rows += [
        {
            "The film": CHANGES[trial.change].title,
            **{spec(key).title: percent(found[number].after) for key, found in tried.items()},
        }
        for number, trial in enumerate(some)
    ]
    st.dataframe(rows, hide_index=True, width="stretch", key="trust_lab")
    for key, found in tried.items():
        if said := signs(found, finding):
            st.markdown(f"**{spec(key).title}**: {' '.join(said)}")
    change = st.pills(
        "Look at a change",
        [trial.change for trial in some],
        format_func=lambda one: CHANGES[one].title,
        key="trust_change",
    )
    if change:
        st.image(
            film_photo(_small(changed(radiograph, change, lungs).pixels)),
            width=320,
            alt=f"The film: {CHANGES[change].title}",
        )
        st.caption(CHANGES[change].asks)
    return tried


def _trials(
    radiograph: Radiograph, reading: Reading, finding: str, lungs: np.ndarray | None, engine: Engine
) -> Steps[tuple[Trial, ...]]:
    return trials(engine, radiograph, reading.prediction, finding, lungs)
