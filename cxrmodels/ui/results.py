"""What the networks say of the chosen film: one card each, appearing as they finish, and where they agree."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
from cxrmodels.gate import UNAVAILABLE, Gate
from cxrmodels.inference import Prediction, network_input
from cxrmodels.lab.kept import is_own
from cxrmodels.lungs import Lungs
from cxrmodels.markdown import plain
from cxrmodels.models import available, card, spec
from cxrmodels.plots import (
    contact_sheet_png,
    greys,
    heat_legend_png,
    outlined,
    overlay,
    percent,
    png,
)
from cxrmodels.preprocessing import WORDS
from cxrmodels.radiograph import Radiograph, resize
from cxrmodels.service import Reading, settled, succeeded
from cxrmodels.ui.bars import probability_bars
from cxrmodels.ui.council import show_council
from cxrmodels.ui.dots import agreement_dots
from cxrmodels.ui.films import ChosenFilm, ready_folder
from cxrmodels.ui.frame import service
from cxrmodels.ui.gate import heading, show_gate
from cxrmodels.ui.lungs import evidence_of, outline, whose
from cxrmodels.ui.pictures import address, film_photo, photo
from cxrmodels.ui.viewer import radiograph_viewer
from cxrmodels.zoo import ModelError

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

_SHOWN_SIDE = 420
_LIKELIEST = "likeliest"
_LOOK_SECONDS = 0.5
"""While answers come one by one, the page shows them so often: each time a browser draws all of it anew."""
_FILM_SECONDS = 0.25
"""How long the film waits for the outline of its lungs, which comes with it then."""
_ROW = 3
"""Cards beside each other."""
_PATIENCE_SECONDS = 20.0
"""How long one run of the page goes on filling it. Any click ends it before."""
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


@dataclass(frozen=True, slots=True)
class _Choice:
    """What the viewer wants to see of the heat maps. `finding` None: each network's likeliest."""

    finding: str | None
    method: str
    opacity: float
    outlines: bool


# What shows a film is of the session, so that it is forgotten with it.
@st.cache_data(scope="session", max_entries=8, show_spinner=False)
def _shown_pixels(sha256: str, _pixels: np.ndarray) -> np.ndarray:
    height, width = _pixels.shape
    scale = _SHOWN_SIDE / max(height, width)
    return resize(_pixels, max(1, round(width * scale)), max(1, round(height * scale)))


@st.cache_data(scope="session", max_entries=128, show_spinner=False)
def _heat_picture(
    film: str,
    model: str,
    finding: str,
    method: str,
    opacity: float,
    outlines: bool,
    _pixels: np.ndarray,
    _heat: np.ndarray,
    _lines: tuple[np.ndarray, ...],
) -> str:
    return photo(outlined(overlay(_pixels, _heat, opacity), _lines))


@st.cache_data(scope="session", max_entries=64, show_spinner=False)
def _network_input(film: str, model: str, _radiograph: Radiograph) -> str:
    return address(png(greys(network_input(_radiograph, spec(model))[..., 0])))


@st.cache_data(max_entries=32, show_spinner=False)
def _legend(opacity: float) -> str:
    return address(heat_legend_png(opacity))


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
    """What is known so far of one film: answers, errors, and the heat maps that were asked for; what is waited for, in
    the order in which it should come, and whether every network has answered; what the gate says; then where the lungs
    are, and the maps that can be compared with each other. While it waits: its place in line, or why it was not
    taken."""

    readings: dict[str, Reading]
    errors: dict[str, str]
    heat_errors: dict[str, str]
    heats: dict[str, SaliencyMap]
    waiting: tuple[Future[Any], ...]
    answered: bool
    gate: Gate | None = None
    lungs: Lungs | None = None
    compared: tuple[SaliencyMap, ...] = ()
    place: int | None = None
    refused: str = ""

    @property
    def complete(self) -> bool:
        return not self.waiting and not self.refused


def _finding_of(prediction: Prediction, choice: _Choice) -> str | None:
    """The finding whose heat map to show; None when the network does not answer it."""
    if choice.finding is None:
        return prediction.findings[prediction.top]
    return choice.finding if choice.finding in prediction.findings else None


def _ask(radiograph: Radiograph) -> tuple[dict[str, Future[Reading]], Future[Gate], Future[Lungs | None]]:
    """What every network says of a film, what the gate does, and where its lungs are."""
    shared, all_keys = service(), available()
    # Behind the first network, which answers no later for it, and before the others: the gate has the lungs outlined,
    # and the film is drawn once then, with the outline, while the networks run.
    asked = {key: shared.read(radiograph, key) for key in all_keys[:1]}
    gate, where = shared.gate(radiograph), shared.lungs(radiograph, ready_folder())
    asked |= {key: shared.read(radiograph, key) for key in all_keys[1:]}
    return asked, gate, where


def _look(film: ChosenFilm, size: tuple[int, int], choice: _Choice) -> _State:
    """What is there of a film, and what is waited for. Asks for whatever follows from what is there."""
    radiograph, shared = film.radiograph, service()
    asked, gate, where = _ask(radiograph)
    mapped: dict[str, Future[SaliencyMap]] = {}
    readings = {key: future.result() for key, future in asked.items() if succeeded(future)}
    for key, reading in readings.items():
        finding = _finding_of(reading.prediction, choice)
        if finding is not None:
            mapped[key] = shared.heat(radiograph, key, finding, choice.method, size)
    heats = {key: future.result() for key, future in mapped.items() if succeeded(future)}
    everything: tuple[Future[Any], ...] = (gate, where, *asked.values(), *mapped.values())
    state = _State(
        readings,
        _problems(asked),
        _problems(mapped),
        heats,
        _open(everything),
        not _open(asked.values()),
        _said(gate) if settled(gate) and not _was_refused(gate) else None,
        where.result() if succeeded(where) else None,
        place=shared.place(radiograph),
        refused=next((str(one.exception()) for one in everything if _was_refused(one)), ""),
    )
    return _compare(state, radiograph, size, choice) if state.complete else state


def _compare(state: _State, radiograph: Radiograph, size: tuple[int, int], choice: _Choice) -> _State:
    """The same, with all networks' maps for one finding, where they are there."""
    predictions = {key: reading.prediction for key, reading in state.readings.items()}
    finding = choice.finding or common_finding(list(predictions.values()))
    asked = [
        service().heat(radiograph, key, finding, choice.method, size)
        for key, one in predictions.items()
        if finding in one.findings and key not in state.heat_errors
    ]
    return replace(
        state,
        waiting=_open(asked),
        compared=tuple(future.result() for future in asked if succeeded(future)),
        refused=next((str(one.exception()) for one in asked if _was_refused(one)), ""),
    )


def _open(asked: Iterable[Future[Any]]) -> tuple[Future[Any], ...]:
    return tuple(future for future in asked if not settled(future))


def _problems(asked: Mapping[str, Future[Any]]) -> dict[str, str]:
    """Why what failed did; what was not even taken, since too much waits, is asked for again at the next look."""
    return {
        key: _explained(problem)
        for key, future in asked.items()
        if settled(future) and (problem := future.exception()) and not isinstance(problem, LineFullError)
    }


def _was_refused(future: Future[Any]) -> bool:
    """Whether too much waited when it was asked for; it is asked for again when the page looks again."""
    return settled(future) and isinstance(future.exception(), LineFullError)


def _said(gate: Future[Gate]) -> Gate:
    """The gate's verdict; where it failed in a way that nobody foresaw, that there is none."""
    problem = gate.exception()
    return gate.result() if problem is None else Gate(UNAVAILABLE, f"the check failed ({type(problem).__name__}).")


def _explained(problem: BaseException) -> str:
    if isinstance(problem, ModelError):
        return str(problem)
    return f"This network failed ({type(problem).__name__}). The others go on; restart the program to try it again."


def show_results(film: ChosenFilm) -> None:
    """The film in its viewer, and all that the networks say of it, filled in as it comes.

    One run of the page draws everything, each thing once, when it is there. Pages that looked again by a timer were
    drawn over and over: with ten viewers that was most of what server and browsers did.
    """
    # At once: the networks read the film while the page makes its picture.
    _, _, where = _ask(film.radiograph)
    pixels = _shown_pixels(film.radiograph.sha256, film.radiograph.pixels)
    left, right = st.columns([2, 3], gap="medium")
    picture = left.empty()
    with right:
        # Empty, not containers: what they showed of another film is gone at once.
        verdict, summary, controls = st.empty(), st.empty(), st.empty()
        with controls.container():
            choice = _controls()
    board = st.empty()
    with board.container():
        cards = _Cards(film, choice, pixels)
        together, downloads = st.empty(), st.empty()
    wait((where,), _FILM_SECONDS)
    found = succeeded(where)
    # One that comes later in the same run is another element.
    _film(picture, film, where.result() if found else None, "viewer" if found else "viewer_at_first")

    progress = _Progress(summary)
    # No answer is shown before it is known whether the film is one that can be answered.
    for state in _looks(film, pixels.shape, choice, lambda state: state.gate is not None, few=1):
        progress.show(state)
    shown = False
    if state.gate is not None:
        with verdict.container():
            shown = show_gate(state.gate, film.radiograph.sha256)
        if not shown:
            for place in (summary, controls, board):
                place.empty()
    if shown:
        state = _fill(film, choice, pixels, cards, progress)
    if not found:
        wait((where,), _FILM_SECONDS)
        if succeeded(where):
            _film(picture, film, where.result(), "viewer")
    if shown and state.complete:
        with summary.container():
            _summary(film, state)
        with together.container():
            _together(state, choice, pixels)
        with downloads.container():
            _downloads(film, state, choice, pixels)
    elif shown or state.gate is None:
        st.fragment(_again, run_every=_LOOK_SECONDS)(time.monotonic())


def _fill(film: ChosenFilm, choice: _Choice, pixels: np.ndarray, cards: _Cards, progress: _Progress) -> _State:
    """Fill the cards as answers and heat maps come; returns what was there at last."""
    # A row of cards at a time, and of each what the network says alone: that is what a viewer waits for, and all the
    # rest keeps a browser as busy again. Unless answers take long, as they do while networks are loaded.
    until = time.monotonic() + _LOOK_SECONDS
    for state in _looks(film, pixels.shape, choice, lambda state: state.answered or time.monotonic() > until, few=_ROW):
        cards.show(state, answers_alone=True)
    waited = False
    for state in _looks(film, pixels.shape, choice, lambda state: state.complete):
        # What is said beside the maps comes with them, unless they take long.
        if waited or state.complete:
            cards.show(state)
        if waited and not state.complete:
            progress.show(state)
        waited = True
    return state


def _looks(
    film: ChosenFilm,
    size: tuple[int, int],
    choice: _Choice,
    enough: Callable[[_State], bool],
    few: int | None = None,
) -> Iterator[_State]:
    """What is there of a film, again when all is there that is waited for, and every now and then before, until it is
    enough or a run has taken long enough.

    Args:
        few: how many of the next things are waited for at once; None: all.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        state = _look(film, size, choice)
        yield state
        if enough(state) or time.monotonic() > until:
            return
        coming = [future for future in state.waiting if not future.cancelled()]
        if coming:
            wait(coming[:few], _LOOK_SECONDS)
        else:  # Too much waited, or what was asked for was forgotten: it is asked for again.
            time.sleep(_LOOK_SECONDS)
        # Ends this run where the viewer has clicked something meanwhile: Streamlit looks for that here.
        st.session_state.get(_LIKELIEST)


def _again(began: float) -> None:
    """Has the whole page run once more, not within the run that began this."""
    if time.monotonic() > began + _LOOK_SECONDS / 2:
        st.rerun()


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


def _together(state: _State, choice: _Choice, pixels: np.ndarray) -> None:
    """What the maps have in common, once all of them are there."""
    if len(state.compared) > 1:
        predictions = {key: reading.prediction for key, reading in state.readings.items()}
        show_council(state.compared, predictions, pixels, state.lungs, choice.opacity, choice.outlines)


def _film(place: DeltaGenerator, film: ChosenFilm, lungs: Lungs | None, key: str) -> None:
    """The film in its viewer, with the outline of its lungs if that is known."""
    radiograph = film.radiograph
    about = [radiograph.format, *radiograph.notes]
    if film.source:
        about.append(f"From {film.source}")
    if lungs:
        about.append(f"Lungs outlined {whose(lungs)}")
    with place.container():
        radiograph_viewer(
            radiograph.pixels,
            sha256=radiograph.sha256,
            alt=f"Chest radiograph {radiograph.name}",
            name=radiograph.name,
            key=key,
            remembered="viewer",
            outline=outline(radiograph.sha256, lungs),
        )
        st.caption(". ".join(f"{part[:1].upper()}{part[1:]}" for part in about) + ".")


def _summary(film: ChosenFilm, state: _State) -> None:
    # One that was trained here may not know COVID-19: it has its card, and no part in the agreement.
    asked = [key for key in state.readings if "covid19" in spec(key).findings]
    titles = [plain(spec(key).title) for key in asked]
    predictions = [state.readings[key].prediction for key in asked]
    if not available():
        st.error("No network is shipped here. Restore the weights folder, or train one on the command line.")
        return
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
        agreement_dots(
            [spec(key).title for key in asked],
            [one.probability("covid19") for one in predictions],
            [call(one) for one in predictions],
            key="agreement",
        )
        st.caption(
            "Probability of COVID-19 from each network. Filled circle: it says COVID-19; square: something else; "
            f"diamond: not sure. {NOTICE}"
        )


class _Progress:
    """How many networks have answered, and why not all have."""

    def __init__(self, place: DeltaGenerator) -> None:
        self._place, self._said = place, (-1, "")

    def show(self, state: _State) -> None:
        """Say it, where that is not what stands there."""
        total = len(available())
        # Before the gate has passed a film, nothing that a network said is shown, not even that it did.
        done = len(state.readings) + len(state.errors) if state.gate is not None else 0
        now = (done, _waiting_for(state))
        if not total or now == self._said:
            return
        self._said = now
        with self._place.container():
            st.markdown(f"#### {done} of {total} networks have answered")
            st.progress(done / total, now[1])


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


class _Cards:
    """The cards of all networks, each filled when what belongs into it is there."""

    def __init__(self, film: ChosenFilm, choice: _Choice, pixels: np.ndarray) -> None:
        self._film, self._choice, self._pixels = film, choice, pixels
        self._cards: dict[str, DeltaGenerator] = {}
        self._maps: dict[str, DeltaGenerator] = {}
        self._notes: dict[str, DeltaGenerator] = {}
        all_keys = available()
        for start in range(0, len(all_keys), _ROW):
            for column, key in zip(st.columns(_ROW), all_keys[start : start + _ROW], strict=False):
                with column, st.container(border=True, key=f"card_{key}"):
                    st.markdown(f"**{plain(spec(key).title)}**")
                    # An element, not a container: what stood here of another film is gone with it.
                    self._cards[key] = st.empty()
                    self._cards[key].skeleton(height=360)

    def show(self, state: _State, *, answers_alone: bool = False) -> None:
        """Fill in what has come since the last time; only what the networks say, if that is asked for."""
        for key in [key for key in self._cards if key in state.errors]:
            self._cards.pop(key).error(state.errors[key], icon=":material/error:")
        for key in [key for key in self._cards if key in state.readings]:
            with self._cards.pop(key).container():
                self._maps[key], self._notes[key] = _answer(key, state)
        if answers_alone:
            return
        for key in list(self._notes):
            with self._notes.pop(key).container():
                _about(self._film, state.readings[key].prediction)
        for key in [key for key in self._maps if _map_known(key, state, self._choice)]:
            with self._maps.pop(key).container():
                _heat(self._film, key, state, self._choice, self._pixels)


def _map_known(key: str, state: _State, choice: _Choice) -> bool:
    """Whether a network's heat map, or that there is none, is known."""
    none = _finding_of(state.readings[key].prediction, choice) is None
    return none or key in state.heats or key in state.heat_errors


def _answer(key: str, state: _State) -> tuple[DeltaGenerator, DeltaGenerator]:
    """What a network says of the film; returns the places for its heat map and for what is to be known about it."""
    model, prediction = spec(key), state.readings[key].prediction
    st.markdown(f"#### {_unbroken(heading(state.gate, _verdict(prediction)))}")
    probability_bars(model.title, prediction.findings, prediction.probabilities.tolist(), key=f"bars_{key}")
    place: DeltaGenerator = st.empty()
    place.skeleton(height=240)
    return place, st.empty()


def _about(film: ChosenFilm, prediction: Prediction) -> None:
    """How far a network can be trusted, and what it saw."""
    source = {"yes": "was in its training", "no": "was **not** in its training", "unknown": ""}
    about = source[seen(prediction.training_sources, film.source)]
    parts = [f"The source of this film, {film.source}, {about}."] if about else []
    parts.append(_track_record(prediction.model, prediction.weights_sha256, film.source))
    st.caption("\n\n".join(parts), help=_AUC)
    _network_saw(film, prediction)


@st.fragment
def _network_saw(film: ChosenFilm, prediction: Prediction) -> None:
    """What went into a network, made when a viewer opens it: few do, and it would be much of what each film costs."""
    model = spec(prediction.model)
    details = st.popover("What the network saw", width="stretch", key=f"saw_{model.key}", on_change="rerun")
    if not details.open:
        return
    with details:
        st.image(
            _network_input(film.radiograph.sha256, model.key, film.radiograph),
            width=256,
            alt=f"The film as {model.title} got it: {model.input_size} by {model.input_size} pixels",
        )
        st.caption(
            f"{model.input_size} x {model.input_size} px: {WORDS[model.preprocessing]}. "
            f"Model `{model.key}`, weights `{prediction.weights_sha256[:12]}`. Not sure below "
            f"{percent(prediction.threshold)}. Learnt from: {', '.join(prediction.training_sources)}."
        )


def _heat(film: ChosenFilm, key: str, state: _State, choice: _Choice, pixels: np.ndarray) -> None:
    finding = _finding_of(state.readings[key].prediction, choice)
    title = spec(key).title
    if finding is None:
        assert choice.finding is not None
        alt = f"The film without a heat map: {title} has none for this finding"
        st.image(film_photo(pixels), width="stretch", alt=alt)
        st.caption(f"{plain(title)} does not answer {TITLES[choice.finding]}.")
        return
    if key in state.heat_errors:
        st.error(state.heat_errors[key], icon=":material/error:")
        return
    heat = state.heats[key]
    lines = outline(film.radiograph.sha256, state.lungs) if choice.outlines else ()
    name = f"{METHODS[heat.method].title} for {TITLES[finding]}, layer {heat.layer}"
    st.image(
        _heat_picture(
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
        parts = [f"None to most evidence. {name}: {_where(heat)}."]
        if state.lungs:
            place = evidence_of(film.radiograph.sha256, (key, finding, heat.method), heat.heat, state.lungs)
            parts.append(in_words(place, finding))
        st.caption(_unbroken("\n\n".join(parts)))
    else:
        st.caption(f"{name}: nothing in this layer speaks for it, so the map is empty.")


def _unbroken(text: str) -> str:
    """A number and its sign stay on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _where(heat: SaliencyMap) -> str:
    """In words, for who cannot see the map. Image left is the patient's right."""
    if not heat.raw_max:
        return "empty"
    height, width = heat.heat.shape
    row, column = np.unravel_index(int(heat.heat.argmax()), heat.heat.shape)
    vertical = ("upper", "middle", "lower")[min(2, int(3 * row / height))]
    horizontal = ("left", "centre", "right")[min(2, int(3 * column / width))]
    return f"strongest in the {vertical} {horizontal} of the picture"


@dataclass(eq=False)
class _Offered:
    """What the files that a page offers are made of."""

    film: ChosenFilm
    state: _State
    choice: _Choice
    pixels: np.ndarray
    lines: tuple[np.ndarray, ...]

    def numbers(self) -> str:
        """The CSV."""
        predictions = [reading.prediction for reading in self.state.readings.values()]
        problems = self.state.errors | self.state.heat_errors
        return predictions_csv(self.film.radiograph, self.film.source, predictions, problems, self.state.gate)

    def sheet(self) -> bytes:
        """The PNG."""
        pictures = []
        for key, heat in self.state.heats.items():
            named = f"{METHODS[heat.method].title}, {TITLES[heat.finding]}, {heat.layer}"
            verdict = heading(self.state.gate, _verdict(self.state.readings[key].prediction))
            picture = outlined(overlay(self.pixels, heat.heat, self.choice.opacity), self.lines)
            pictures.append((f"{spec(key).title}: {verdict}", named, picture))
        mark = "synthetic film, " if self.film.radiograph.synthetic else ""
        if self.state.gate is not None and not self.state.gate.passed:
            mark = "REFUSED, the claims mean nothing, "
        return contact_sheet_png(pictures, f"{mark}{self.film.radiograph.name}")


@st.cache_resource(scope="session", show_spinner=False)
def _offered() -> list[_Offered]:
    """What a viewer's page offers now: one entry."""
    return []


def _downloads(film: ChosenFilm, state: _State, choice: _Choice, pixels: np.ndarray) -> None:
    if not state.readings:
        return
    # The outlines here: what is kept for a session cannot be had outside of its script.
    lines = outline(film.radiograph.sha256, state.lungs) if choice.outlines else ()
    offered = _Offered(film, state, choice, pixels, lines)
    _offered()[:] = [offered]
    # Streamlit keeps what makes a file beyond the session: it holds no more than a way to the film and its maps.
    place = weakref.ref(offered)

    # Made when they are asked for: each answer that comes in would make them anew.
    def asked() -> _Offered:
        there = place()
        if there is None:
            raise LookupError("This film is no longer open: open it again.")
        return there

    stem = film.radiograph.sha256[:12]
    with st.container(horizontal=True):
        st.download_button(
            "All numbers (CSV)",
            lambda: asked().numbers(),
            f"cxr-{stem}.csv",
            "text/csv",
            icon=":material/table:",
            on_click="ignore",
            key="csv",
        )
        st.download_button(
            "All heat maps (PNG)",
            lambda: asked().sheet(),
            f"cxr-{stem}.png",
            "image/png",
            icon=":material/image:",
            on_click="ignore",
            key="png",
            disabled=not state.heats,
        )
