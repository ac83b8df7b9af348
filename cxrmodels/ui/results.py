"""What the networks say of the chosen film: one card each, appearing as they finish, and where they agree."""

from __future__ import annotations

from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import streamlit as st

from cxrmodels import NOTICE
from cxrmodels.council import agreement, call, common_finding, judge
from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.evaluation.metrics import SEEN, UNSEEN
from cxrmodels.explain.evidence import in_words
from cxrmodels.explain.saliency import METHODS, SaliencyMap
from cxrmodels.export import predictions_csv, seen
from cxrmodels.fair_line import LineFullError, ordinal
from cxrmodels.findings import TITLES, index_of
from cxrmodels.gate import KEY as GATE
from cxrmodels.gate import UNAVAILABLE, Gate
from cxrmodels.inference import Prediction, network_input
from cxrmodels.lab.kept import is_own
from cxrmodels.lungs import Lungs
from cxrmodels.markdown import plain
from cxrmodels.models import available, card, spec
from cxrmodels.plots import (
    agreement_dots,
    contact_sheet_png,
    heat_legend_png,
    outlined,
    overlay,
    percent,
    png,
    probability_bars,
)
from cxrmodels.preprocessing import WORDS
from cxrmodels.radiograph import Radiograph, resize, to_png
from cxrmodels.service import Reading, settled
from cxrmodels.ui.council import show_council
from cxrmodels.ui.films import ChosenFilm, ready_folder
from cxrmodels.ui.frame import ink, service
from cxrmodels.ui.gate import heading, show_gate
from cxrmodels.ui.lungs import evidence_of, outline, whose
from cxrmodels.ui.viewer import radiograph_viewer
from cxrmodels.zoo import ModelError

_SHOWN_SIDE = 420
_LIKELIEST = "likeliest"
_POLLING, _OUTLINED, _COMPARED = "polling_for", "outlined_film", "compared_maps"
_POLL_SECONDS = 0.4
# Warm networks answer within this; a page that waits so long shows everything at once instead of in two steps.
_PATIENCE_SECONDS = 0.25
_AUC = (
    "Area under the ROC curve: how often the network gives a COVID-19 film a higher score than a normal one. 0.5 is "
    "guessing, 1 is always. In brackets the 95 % interval. Seen sources are collections it learnt from (other "
    "patients), unseen ones hospitals that had no part in it."
)
_TOGETHER = {
    "covid19": "Together they say: COVID-19",
    "other": "Together they say: not COVID-19",
    NOT_SURE: "Together they are not sure",
}
_RULE = (
    "The networks together give an answer where at least half of them are sure of it and none is sure of the opposite. "
    "Otherwise, and of a film that is none they can judge, they are not sure."
)
_STATIC = {"displayModeBar": False}


@dataclass(frozen=True, slots=True)
class _Choice:
    """What the viewer wants to see of the heat maps. `finding` None: each network's likeliest."""

    finding: str | None
    method: str
    opacity: float
    outlines: bool


# What shows a film is of the session, so that it is forgotten with it.
@st.cache_data(scope="session", max_entries=32, show_spinner=False)
def _shown_pixels(sha256: str, _pixels: np.ndarray) -> np.ndarray:
    height, width = _pixels.shape
    scale = _SHOWN_SIDE / max(height, width)
    return resize(_pixels, max(1, round(width * scale)), max(1, round(height * scale)))


@st.cache_data(scope="session", max_entries=128, show_spinner=False)
def _overlay_png(
    film: str,
    model: str,
    finding: str,
    method: str,
    opacity: float,
    outlines: bool,
    _pixels: np.ndarray,
    _heat: np.ndarray,
    _lines: tuple[np.ndarray, ...],
) -> bytes:
    return png(outlined(overlay(_pixels, _heat, opacity), _lines))


@st.cache_data(scope="session", max_entries=64, show_spinner=False)
def _network_input(film: str, model: str, _radiograph: Radiograph) -> bytes:
    return png(np.rint(255 * network_input(_radiograph, spec(model))[..., 0]).astype(np.uint8))


# Figures are only read once made, and making one costs more than all else of a card.
_bars = lru_cache(maxsize=256)(probability_bars)
_dots = lru_cache(maxsize=64)(agreement_dots)


@st.cache_data(max_entries=32, show_spinner=False)
def _legend(opacity: float) -> bytes:
    return heat_legend_png(opacity)


@st.cache_data(max_entries=256, show_spinner=False)
def _track_record(model: str, weights_sha256: str, source: str | None) -> str:
    """How far the model can be trusted, from its card: AUC with its interval, seen and unseen sources apart, and
    how often it was right on films of this film's source, where that is known."""
    parts, here = [], ""
    for summary in card(model).metrics:
        figure = summary["metrics"]["auc_covid19_normal"]
        if summary["name"] in (SEEN, UNSEEN) and figure:
            where = "seen" if summary["seen"] else "**unseen**"
            parts.append(f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f}) on {where} sources")
        right = summary["metrics"]["accuracy"]
        if summary["name"] == source and right:
            here = (
                f" On films of {source}: {percent(right['value'])} right "
                f"({percent(right['low'])} to {percent(right['high'])})."
            )
    if is_own(model):
        return "Trained by you, in the training lab: it has no track record but what the comparison page shows."
    return (f"Track record (AUC): {', '.join(parts)}." if parts else "No record for COVID-19 against normal.") + here


@dataclass(frozen=True, slots=True)
class _State:
    """What is known so far of one film: answers, errors, and the heat maps that were asked for; what the gate says;
    then where the lungs are, and the maps that can be compared with each other. While it waits: its place in line, or
    why it was not taken."""

    readings: dict[str, Reading]
    errors: dict[str, str]
    heat_errors: dict[str, str]
    heats: dict[str, SaliencyMap]
    waiting: tuple[str, ...]
    gate: Gate | None = None
    lungs: Lungs | None = None
    compared: tuple[SaliencyMap, ...] = ()
    place: int | None = None
    refused: str = ""


def _finding_of(prediction: Prediction, choice: _Choice) -> str | None:
    """The finding whose heat map to show; None when the network does not answer it."""
    if choice.finding is None:
        return prediction.findings[prediction.top]
    return choice.finding if choice.finding in prediction.findings else None


def _gather(radiograph: Radiograph, size: tuple[int, int], choice: _Choice) -> _State:
    """Ask for everything; take what is there, or comes within a moment."""
    shared, all_keys = service(), available()
    # Behind the first network, which answers no later for it, and before the others.
    asked = {key: shared.read(radiograph, key) for key in all_keys[:1]}
    gate = shared.gate(radiograph)
    asked |= {key: shared.read(radiograph, key) for key in all_keys[1:]}
    _give_a_moment(gate, *asked.values())
    if not settled(gate) or _was_refused(gate):
        # No answer is shown before it is known whether the film is one that can be answered.
        full = str(gate.exception()) if settled(gate) else ""
        return _State({}, {}, {}, {}, (GATE, *all_keys), None, place=shared.place(radiograph), refused=full)
    refused = ""
    readings: dict[str, Reading] = {}
    errors: dict[str, str] = {}
    mapped: dict[str, Future[SaliencyMap]] = {}
    for key, future in asked.items():
        if not settled(future):
            continue
        problem = future.exception()
        if isinstance(problem, LineFullError):  # Asked for again when the page looks again.
            refused = str(problem)
            continue
        if problem is not None:
            errors[key] = _explained(problem)
            continue
        readings[key] = future.result()
        finding = _finding_of(readings[key].prediction, choice)
        if finding is not None:
            mapped[key] = shared.heat(radiograph, key, finding, choice.method, size)
    _give_a_moment(*mapped.values())
    drawn = {key: future for key, future in mapped.items() if settled(future) and not _was_refused(future)}
    heats = {key: future.result() for key, future in drawn.items() if not future.exception()}
    heat_errors = {key: _explained(p) for key, future in drawn.items() if (p := future.exception())}
    # By what was taken above, not by what is done by now: a network that answered in between is still to be shown.
    waiting = [key for key in all_keys if key not in readings and key not in errors]
    waiting += [key for key in mapped if key not in heats and key not in heat_errors]
    place = shared.place(radiograph)
    return _State(readings, errors, heat_errors, heats, tuple(waiting), _said(gate), place=place, refused=refused)


def _was_refused(future: Future[Any]) -> bool:
    """Whether too much waited when it was asked for; it is asked for again when the page looks again."""
    return settled(future) and isinstance(future.exception(), LineFullError)


def _said(gate: Future[Gate]) -> Gate:
    """The gate's verdict; where it failed in a way that nobody foresaw, that there is none."""
    problem = gate.exception()
    return gate.result() if problem is None else Gate(UNAVAILABLE, f"the check failed ({type(problem).__name__}).")


def _give_a_moment(*asked: Future[Any]) -> None:
    wait(asked, _PATIENCE_SECONDS)


def _compare(state: _State, radiograph: Radiograph, size: tuple[int, int], choice: _Choice) -> _State:
    """The same, with the lungs, and all networks' maps for one finding; as far as they come within a moment."""
    shared = service()
    where = shared.lungs(radiograph, ready_folder())
    predictions = {key: reading.prediction for key, reading in state.readings.items()}
    finding = choice.finding or common_finding(list(predictions.values()))
    asked = {
        key: shared.heat(radiograph, key, finding, choice.method, size)
        for key, one in predictions.items()
        if finding in one.findings and key not in state.heat_errors
    }
    _give_a_moment(where, *asked.values())
    lungs = where.result() if settled(where) and not where.exception() else None
    if lungs is not None:
        st.session_state[_OUTLINED] = radiograph.sha256
    futures: tuple[Future[Any], ...] = (where, *asked.values())
    done = all(settled(future) and not _was_refused(future) for future in futures)
    compared = tuple(future.result() for future in asked.values() if done and not future.exception())
    return replace(state, waiting=() if done else ("comparison",), lungs=lungs, compared=compared)


def _lungs_known(radiograph: Radiograph) -> Lungs | None:
    """Where the lungs are, if that is known already."""
    if st.session_state.get(_OUTLINED) != radiograph.sha256:
        return None
    asked = service().lungs(radiograph, ready_folder())
    return asked.result() if settled(asked) and not asked.exception() else None


def _explained(problem: BaseException) -> str:
    if isinstance(problem, ModelError):
        return str(problem)
    return f"This network failed ({type(problem).__name__}). The others go on; restart the program to try it again."


def show_results(film: ChosenFilm) -> None:
    """The film in its viewer, and all that the networks say of it. Cards fill as networks finish."""
    polling = st.session_state.get(_POLLING) == film.radiograph.sha256
    board = st.fragment(_board, run_every=_POLL_SECONDS if polling else None)
    board(film, polling)


def _controls() -> _Choice:
    findings = [_LIKELIEST, *dict.fromkeys(finding for key in available() for finding in spec(key).findings)]
    finding, method, opacity = st.columns(3, vertical_alignment="bottom")
    chosen = finding.selectbox(
        "Heat map of",
        findings,
        format_func=lambda key: "each network's likeliest finding" if key == _LIKELIEST else TITLES[key],
        key="finding",
    )
    way = method.selectbox(
        "Method",
        list(METHODS),
        format_func=lambda key: METHODS[key].title,
        key="method",
        help="  \n".join(f"**{method.title}**: {method.assumes}" for method in METHODS.values()),
    )
    strength = opacity.slider("Heat map opacity", 0, 100, 60, 5, format="%d %%", key="opacity")
    outlines = st.toggle("Outline the lungs in heat maps", True, key="outlines")
    return _Choice(None if chosen == _LIKELIEST else chosen, way, strength / 100, outlines)


def _board(film: ChosenFilm, polling: bool) -> None:
    left, right = st.columns([2, 3], gap="medium")
    known = _lungs_known(film.radiograph)
    with left:
        _film(film, known)
    with right:
        verdict, summary, controls = st.container(), st.container(), st.empty()
        with controls.container():
            choice = _controls()
    pixels = _shown_pixels(film.radiograph.sha256, film.radiograph.pixels)
    state = _gather(film.radiograph, pixels.shape, choice)
    maps = (film.radiograph.sha256, choice.finding, choice.method)
    # What the maps have in common comes in the run after the one that draws them: no answer and no map waits for it.
    first = not state.waiting and st.session_state.get(_COMPARED) != maps
    if not state.waiting and not first:
        state = _compare(state, film.radiograph, pixels.shape, choice)
    if bool(state.waiting) != polling or (state.lungs is not None and known is None):
        # Whether the page looks again by itself is decided when the whole script runs; and the film stands already
        # without the outline that has just been found.
        st.session_state[_POLLING] = film.radiograph.sha256 if state.waiting else ""
        st.rerun()
    if state.gate is not None:
        with verdict:
            shown = show_gate(state.gate, film.radiograph.sha256)
        if not shown:
            controls.empty()
            return
    with summary:
        _summary(film, state)
    all_keys = available()
    for start in range(0, len(all_keys), 3):
        for column, key in zip(st.columns(3), all_keys[start : start + 3], strict=False):
            with column, st.container(border=True, key=f"card_{key}"):
                _card(film, key, state, choice, pixels)
    # A place of its own for each: what comes above late would move the buttons: they would be there twice.
    together, downloads = st.container(), st.container()
    with together:
        _together(state, choice, pixels)
    with downloads:
        _downloads(film, state, choice, pixels, last=not state.waiting and not first)
    if first:
        st.session_state[_COMPARED] = maps
        st.rerun()


def _together(state: _State, choice: _Choice, pixels: np.ndarray) -> None:
    """What the maps have in common, once all of them are there."""
    if "comparison" in state.waiting:
        st.skeleton(height=240)
    elif len(state.compared) > 1:
        predictions = {key: reading.prediction for key, reading in state.readings.items()}
        show_council(state.compared, predictions, pixels, state.lungs, choice.opacity, choice.outlines)


def _film(film: ChosenFilm, lungs: Lungs | None) -> None:
    radiograph = film.radiograph
    radiograph_viewer(
        radiograph.pixels,
        sha256=radiograph.sha256,
        alt=f"Chest radiograph {radiograph.name}",
        name=radiograph.name,
        key="viewer",
        outline=outline(radiograph.sha256, lungs),
    )
    about = [radiograph.format, *radiograph.notes]
    if film.source:
        about.append(f"From {film.source}")
    if lungs:
        about.append(f"Lungs outlined {whose(lungs)}")
    st.caption(". ".join(f"{part[:1].upper()}{part[1:]}" for part in about) + ".")


def _summary(film: ChosenFilm, state: _State) -> None:
    # One that was trained here may not know COVID-19: it has its card, and no part in the agreement.
    asked = [key for key in state.readings if "covid19" in spec(key).findings]
    titles = [plain(spec(key).title) for key in asked]
    predictions = [state.readings[key].prediction for key in asked]
    total = len(available())
    if not total:
        st.error("No network is shipped here. Restore the weights folder, or train one on the command line.")
        return
    if len(state.readings) + len(state.errors) < total or "gate" in state.waiting:
        st.markdown(f"#### {len(state.readings)} of {total} networks have answered")
        st.progress(len(state.readings) / total, _waiting_for(state))
    else:
        if predictions:
            verdict = judge(predictions, state.gate)
            st.markdown(f"#### {_TOGETHER[verdict.answer]}")
            st.markdown(
                f"{agreement(titles, predictions, state.gate)} {verdict.why}\n\nProbability of COVID-19: "
                f"{percent(verdict.mean)} on average, from {percent(verdict.low)} to {percent(verdict.high)} (standard "
                f"deviation {100 * verdict.spread:.0f} percentage points).",
                help=_RULE,
            )
        else:
            st.markdown(f"#### {agreement(titles, predictions)}")
        if film.finding and (state.gate is None or state.gate.passed):
            st.markdown(_stated(film.finding, predictions))
    if film.radiograph.synthetic:
        st.info(
            "This film is synthetic, drawn by this program. The shipped networks learnt from real films: what they say "
            "of it shows how they behave, not how good they are.",
            icon=":material/draw:",
        )
    if predictions:
        st.plotly_chart(
            _dots(
                tuple(spec(key).title for key in asked),
                tuple(one.probability("covid19") for one in predictions),
                tuple(call(one) for one in predictions),
                ink(),
            ),
            config=_STATIC,
            key="agreement",
            alt="Probability of COVID-19: "
            + ", ".join(
                f"{spec(key).title} {percent(one.probability('covid19') or 0)}"
                for key, one in zip(asked, predictions, strict=True)
            ),
        )
        st.caption(
            "Probability of COVID-19 from each network. Filled circle: it says COVID-19; square: something else; "
            f"diamond: not sure. {NOTICE}"
        )


def _waiting_for(state: _State) -> str:
    """Why not all networks have answered."""
    if state.refused:
        return f"{state.refused} This page does so by itself."
    if state.place is not None and state.place > 1:
        others = state.place - 1
        before = "One film of another viewer comes" if others == 1 else f"{others} films of other viewers come"
        return f"{ordinal(state.place)} in line. {before} first."
    if any(not service().ready(key) for key in available()):
        return "Loading the networks: some seconds, once after a start."
    return "Reading the film."


def _stated(finding: str, predictions: list[Prediction]) -> str:
    """What the film's data set calls it, and how many of the networks that can say so do."""
    able = [(one, place) for one in predictions if (place := index_of(finding, one.findings)) is not None]
    right = sum(one.decision == one.findings[place] for one, place in able)
    text = f"Its data set calls it **{TITLES[finding]}**: "
    return text + (f"{right} of the {len(able)} networks that know this finding say so." if able else "none knows it.")


def _verdict(prediction: Prediction) -> str:
    likeliest = prediction.findings[prediction.top]
    value = percent(float(prediction.probabilities[prediction.top]))
    if prediction.decision == NOT_SURE:
        return f"Not sure. Likeliest: {TITLES[likeliest]}, {value}"
    return f"{TITLES[likeliest]}, {value}"


def _card(film: ChosenFilm, key: str, state: _State, choice: _Choice, pixels: np.ndarray) -> None:
    model = spec(key)
    st.markdown(f"**{plain(model.title)}**")
    if key in state.errors:
        st.error(state.errors[key], icon=":material/error:")
        return
    if key not in state.readings:
        st.caption("Waiting for its turn")
        st.skeleton(height=320)
        return
    prediction = state.readings[key].prediction
    # A number and its sign stay on one line.
    st.markdown(f"#### {heading(state.gate, _verdict(prediction))}".replace(" %", "\N{NO-BREAK SPACE}%"))
    st.plotly_chart(
        _bars(prediction.findings, tuple(prediction.probabilities.tolist()), ink()),
        config=_STATIC,
        key=f"bars_{key}",
        alt=f"{model.title}: "
        + ", ".join(
            f"{TITLES[finding]} {percent(float(value))}"
            for finding, value in zip(prediction.findings, prediction.probabilities, strict=True)
        ),
    )
    _heat(film, key, prediction, state, choice, pixels)
    source = {"yes": "was in its training", "no": "was **not** in its training", "unknown": ""}
    about = source[seen(prediction.training_sources, film.source)]
    if about:
        st.caption(f"The source of this film, {film.source}, {about}.")
    st.caption(_track_record(key, prediction.weights_sha256, film.source), help=_AUC)
    with st.popover("What the network saw", width="stretch"):
        st.image(
            _network_input(film.radiograph.sha256, key, film.radiograph),
            width=256,
            alt=f"The film as {model.title} got it: {model.input_size} by {model.input_size} pixels",
        )
        st.caption(
            f"{model.input_size} x {model.input_size} px: {WORDS[model.preprocessing]}. "
            f"Model `{key}`, weights `{prediction.weights_sha256[:12]}`. Not sure below "
            f"{percent(prediction.threshold)}. Learnt from: {', '.join(prediction.training_sources)}."
        )


def _heat(
    film: ChosenFilm, key: str, prediction: Prediction, state: _State, choice: _Choice, pixels: np.ndarray
) -> None:
    finding = _finding_of(prediction, choice)
    title = spec(key).title
    if finding is None:
        assert choice.finding is not None
        st.image(to_png(pixels), width="stretch", alt=f"The film without a heat map: {title} has none for this finding")
        st.caption(f"{plain(title)} does not answer {TITLES[choice.finding]}.")
        return
    if key in state.heat_errors:
        st.error(state.heat_errors[key], icon=":material/error:")
        return
    if key not in state.heats:
        st.skeleton(height=240)
        return
    heat = state.heats[key]
    lines = outline(film.radiograph.sha256, state.lungs) if choice.outlines else ()
    name = f"{METHODS[heat.method].title} for {TITLES[finding]}, layer {heat.layer}"
    st.image(
        _overlay_png(
            film.radiograph.sha256,
            key,
            finding,
            heat.method,
            choice.opacity,
            bool(lines),
            pixels,
            heat.heat,
            lines,
        ),
        width="stretch",
        alt=f"{name}, {title}: {_where(heat)}",
    )
    if heat.raw_max:
        st.image(_legend(choice.opacity), width="stretch", alt="Colour scale of the heat map, from none to the most")
        st.caption(f"None to most evidence. {name}: {_where(heat)}.")
        if state.lungs:
            place = evidence_of(film.radiograph.sha256, (key, finding, heat.method), heat.heat, state.lungs)
            st.caption(in_words(place, finding))
    else:
        st.caption(f"{name}: nothing in this layer speaks for it, so the map is empty.")


def _where(heat: SaliencyMap) -> str:
    """In words, for who cannot see the map. Image left is the patient's right."""
    if not heat.raw_max:
        return "empty"
    height, width = heat.heat.shape
    row, column = np.unravel_index(int(heat.heat.argmax()), heat.heat.shape)
    vertical = ("upper", "middle", "lower")[min(2, int(3 * row / height))]
    horizontal = ("left", "centre", "right")[min(2, int(3 * column / width))]
    return f"strongest in the {vertical} {horizontal} of the picture"


def _downloads(film: ChosenFilm, state: _State, choice: _Choice, pixels: np.ndarray, last: bool) -> None:
    """Both files; to be had in the last of the runs that show a film: what the run before offered is gone then."""
    if not state.readings:
        return

    # Here: what is kept for a session cannot be had outside of its script.
    lines = outline(film.radiograph.sha256, state.lungs) if choice.outlines else ()

    # Both are made when they are asked for: each answer that comes in would make them anew.
    def numbers() -> str:
        predictions = [reading.prediction for reading in state.readings.values()]
        return predictions_csv(film.radiograph, film.source, predictions, state.errors | state.heat_errors, state.gate)

    def sheet() -> bytes:
        pictures = []
        for key, heat in state.heats.items():
            named = f"{METHODS[heat.method].title}, {TITLES[heat.finding]}, {heat.layer}"
            verdict = heading(state.gate, _verdict(state.readings[key].prediction))
            picture = outlined(overlay(pixels, heat.heat, choice.opacity), lines)
            pictures.append((f"{spec(key).title}: {verdict}", named, picture))
        mark = "synthetic film, " if film.radiograph.synthetic else ""
        if state.gate is not None and not state.gate.passed:
            mark = "REFUSED, the claims mean nothing, "
        return contact_sheet_png(pictures, f"{mark}{film.radiograph.name}")

    stem = film.radiograph.sha256[:12]
    with st.container(horizontal=True):
        st.download_button(
            "All numbers (CSV)",
            numbers,
            f"cxr-{stem}.csv",
            "text/csv",
            icon=":material/table:",
            on_click="ignore",
            key="csv",
            disabled=not last,
        )
        st.download_button(
            "All heat maps (PNG)",
            sheet,
            f"cxr-{stem}.png",
            "image/png",
            icon=":material/image:",
            on_click="ignore",
            key="png",
            disabled=not (last and state.heats),
        )
