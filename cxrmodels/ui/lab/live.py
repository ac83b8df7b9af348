"""One run, live: what it does now, its curves, what it gets wrong, and the films it is followed on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import streamlit as st

from cxrmodels.charts import Curve, learning
from cxrmodels.lab.config import ConfigError, RunConfig
from cxrmodels.lab.events import EpochEnd, EventReader, EventsError, Failed, Stopped
from cxrmodels.lab.history import History
from cxrmodels.lab.pictures import HeldOut, read_filters, read_heat, read_held_out
from cxrmodels.lab.process import start, warm_up
from cxrmodels.lab.signs import signs
from cxrmodels.lab.store import MODEL_FILE, REPORT_FILE, Run, RunError, State
from cxrmodels.markdown import plain
from cxrmodels.plots import overlay, percent, png
from cxrmodels.ui.comparison.matrix import matrix
from cxrmodels.ui.comparison.pictures import show
from cxrmodels.ui.frame import ink
from cxrmodels.ui.lab.keeping import show_keeping
from cxrmodels.ui.lab.words import ACTIVE, STATES, class_title, data_words, figure_title, network_words
from cxrmodels.ui.pictures import address, photo

_REFRESH_SECONDS = 0.7
_FIRST_SECONDS = 0.15
"""Until there is a first point on the curve."""
_SILENT_SECONDS = 10
_FILM_SIDE = 224
_CELL = "lab_cell"


@dataclass(slots=True)
class _Followed:
    """A run as far as this viewer has read it.

    Attributes:
        warmed: what was done for the next run: 0 nothing, 1 a worker launched, 2 told of this one's settings.
        started: whether the first point on the curve was drawn.
    """

    reader: EventReader
    history: History = field(default_factory=History)
    held_out: HeldOut | None = None
    warmed: int = 0
    started: bool = False


def _followed(run: Run) -> _Followed:
    held: dict[str, _Followed] = st.session_state.setdefault("followed_runs", {})
    one = held.setdefault(run.id, _Followed(run.follow()))
    one.history.add(one.reader.read())
    if one.held_out is None and one.history.prepared is not None:
        one.held_out = read_held_out(run.folder)
    return one


def history_of(run: Run) -> History:
    """All that is known of a run, read on from where this viewer was."""
    return _followed(run).history


def show_run(run: Run) -> None:
    """The run, looked at again by itself as long as a worker is at it.

    Its parts stand beside each other, none within another: what Streamlit has not sent yet of a part that looks again
    it drops, but not what lies deeper, and a browser that gets the inner without the outer goes blank.
    """
    opened = _opened(run)
    if opened is None:
        return
    config, state, followed = opened
    active = state in ACTIVE
    rate = _REFRESH_SECONDS if followed.started else _FIRST_SECONDS
    st.fragment(_board, run_every=rate if active else None)(run, active, rate)
    # What is clicked within it is answered without drawing the curves again. Before the first point it has nothing.
    st.fragment(_epoch, run_every=_REFRESH_SECONDS if active and followed.started else None)(run)
    if not active:
        _take_along(run, config)


def _opened(run: Run, *, aloud: bool = True) -> tuple[RunConfig, State, _Followed] | None:
    """What is known of a run; None where it cannot be read, which the page says if it is to say so `aloud`."""
    try:
        return run.config(), run.state(), _followed(run)
    except (FileNotFoundError, RunError):
        if aloud:
            st.warning("This run was deleted meanwhile.", icon=":material/delete:")
    except (ConfigError, EventsError) as error:
        if aloud:
            st.error(plain(str(error)), icon=":material/broken_image:")
    return None


def _board(run: Run, polling: bool, rate: float) -> None:
    opened = _opened(run)
    if opened is None:
        return
    config, state, followed = opened
    if (state in ACTIVE) != polling or (followed.started and rate == _FIRST_SECONDS and polling):
        # Whether the page looks again by itself, and how often, is decided when the whole script runs.
        st.rerun()
    words, colour, icon = STATES[state]
    left, right = st.columns([3, 2], vertical_alignment="center")
    left.subheader(config.name)
    right.badge(words, color=colour, icon=icon)
    st.caption(f"{network_words(config)}; {data_words(config)}; seed {config.seed}. Run {run.id}.")
    _outcome(run, state, followed.history)
    _controls(run, state, followed.history, config.learning_rate)
    _progress(run, state, followed.history, config.epochs)
    if followed.history.steps or polling:
        _curves(followed.history)
        # The first point is drawn before the whole page runs again, to look less often.
        followed.started = bool(followed.history.steps)
    _signs(followed.history)
    _have_next_ready(run, config, state, followed)


def _have_next_ready(run: Run, config: RunConfig, state: State, followed: _Followed) -> None:
    """After a run there may be another, likely with the same settings: its worker is there by then.

    A run that goes on has only the worker started: it shares the machine with nobody's films.
    """
    if state not in ACTIVE:
        stage = 2
    elif followed.history.epochs:
        stage = 1
    else:
        return
    if followed.warmed < stage:
        followed.warmed = stage
        warm_up(None if stage == 1 else config, aside=stage == 1)


def _outcome(run: Run, state: State, history: History) -> None:
    if state == State.FAILED and isinstance(history.outcome, Failed):
        st.error(plain(history.outcome.message), icon=":material/error:")
    elif state == State.INTERRUPTED:
        st.warning(
            "The worker is gone: killed, out of memory or disk, or the machine was switched off. Nothing that was "
            "shown is lost; it goes on from its last checkpoint.",
            icon=":material/power_off:",
        )
    elif state == State.STOPPED and isinstance(history.outcome, Stopped):
        st.info(f"Stopped after {history.outcome.epoch} epochs: {history.outcome.reason}.", icon=":material/stop:")
    silence = run.silence()
    if state in ACTIVE and silence is not None and silence > _SILENT_SECONDS:
        st.warning(
            f"No sign of life from the worker for {silence:.0f} s: the machine may be asleep or short of memory.",
            icon=":material/hourglass:",
        )


def _asker(run: Run, action: str, value: float | None = None) -> Callable[[], None]:
    def ask() -> None:
        try:
            run.send(action, value)
        except (RunError, ConfigError, OSError) as error:
            st.session_state["lab_problem"] = str(error)
        if action == "stop":
            # The cores are free in a moment, and the next run may be near.
            warm_up()

    return ask


def _controls(run: Run, state: State, history: History, rate: float) -> None:
    if problem := st.session_state.pop("lab_problem", None):
        st.error(plain(problem), icon=":material/error:")
    if state in (State.INTERRUPTED, State.FAILED):
        if st.button("Go on from the last checkpoint", type="primary", icon=":material/play_arrow:", key="go_on"):
            try:
                start(run)
            except (RunError, OSError) as error:
                st.error(plain(str(error)), icon=":material/error:")
            else:
                st.rerun()
        return
    if state not in ACTIVE:
        return
    buttons = st.columns(5)
    paused = state == State.PAUSED
    if paused:
        buttons[0].button(
            "Resume", icon=":material/play_arrow:", key="resume", on_click=_asker(run, "resume"), width="stretch"
        )
    else:
        buttons[0].button("Pause", icon=":material/pause:", key="pause", on_click=_asker(run, "pause"), width="stretch")
    buttons[1].button("One step", key="one_step", on_click=_asker(run, "one_step"), width="stretch")
    buttons[2].button("One epoch", key="one_epoch", on_click=_asker(run, "one_epoch"), width="stretch")
    buttons[3].button(
        "Stop",
        icon=":material/stop:",
        key="stop",
        on_click=_asker(run, "stop"),
        width="stretch",
        help="Ends here; the report is written all the same.",
    )
    with buttons[4].popover("Learning rate", width="stretch"):
        current = history.changes[-1].value if history.changes else rate
        wanted = st.number_input("New learning rate", 1e-8, 10.0, current, format="%g", key=f"rate {run.id}")
        st.button("Set", key="set_rate", on_click=_asker(run, "learning_rate", wanted), type="primary")


def _progress(run: Run, state: State, history: History, epochs: int) -> None:
    prepared = history.prepared
    if prepared is None:
        if state in ACTIVE:
            st.progress(0.0, "Waiting for its turn" if state == State.QUEUED else "Making films and network")
        return
    done = max(history.steps, default=0)
    last = history.epochs[max(history.epochs)] if history.epochs else None
    said = f"Step {done:,} of {prepared.steps:,}, epoch {min(epochs, 1 + len(history.epochs))} of {epochs}"
    if last and state == State.RUNNING:
        left = (prepared.steps - done) / prepared.steps_per_epoch * last.seconds
        said += f"; about {_duration(left)} left"
    st.progress(min(1.0, done / prepared.steps), said)
    facts = [f"{prepared.parameters:,} parameters on {prepared.device} ({prepared.backend})"]
    facts.append(f"{prepared.training_films:,} training and {prepared.validation_films:,} validation films")
    if last:
        facts.append(f"{last.films_per_s:.0f} films a second, {last.memory_mb:.0f} MB")
    st.caption("; ".join(facts) + ".")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _curves(history: History) -> None:
    # Empty at first: the browser has then loaded what draws charts when the first point comes.
    per_epoch = history.prepared.steps_per_epoch if history.prepared else 1
    at = [step / per_epoch for step in history.steps]
    epochs = list(history.epochs.values())
    numbers = [float(ended.epoch) for ended in epochs]
    marks = [
        (change.step / per_epoch, f"{change.what.replace('_', ' ')} {change.value:g}") for change in history.changes
    ]
    columns = st.columns(2)
    for column, name, batches, training, validation in (
        (
            columns[0],
            "loss",
            [one.loss for one in history.steps.values()],
            [ended.training_loss for ended in epochs],
            [ended.validation_loss for ended in epochs],
        ),
        (
            columns[1],
            "accuracy",
            [one.accuracy for one in history.steps.values()],
            [ended.training_accuracy for ended in epochs],
            [ended.validation_accuracy for ended in epochs],
        ),
    ):
        lines: list[Curve] = [("training", numbers, training), ("validation", numbers, validation)]
        now = "No epoch yet."
        if epochs:
            now = f"Last epoch: training {training[-1]:.3f}, validation {validation[-1]:.3f}."
        with column:
            show(
                learning(("each batch", at, batches), lines, marks, name, ink()),
                f"learning {name}",
                alt=f"{name.capitalize()} over {len(epochs)} epochs. {now}",
            )


def _signs(history: History) -> None:
    for sign in signs(list(history.epochs.values()), [one.loss for one in history.steps.values()]):
        st.info(
            f"**{sign.kind.capitalize()}** since epoch {sign.epoch}. {sign.seen} {sign.advice}",
            icon=":material/insights:",
        )


def _epoch(run: Run) -> None:
    opened = _opened(run, aloud=False)
    if opened is None:
        return
    config, _, followed = opened
    history, held_out = followed.history, followed.held_out
    if not history.epochs or held_out is None:
        return
    classes = [class_title(name) for name in config.classes]
    numbers = list(history.epochs)
    epoch = numbers[-1]
    if len(numbers) > 1:
        # The newest, until the viewer looks back; the newest again when the slider stands at its end.
        follow = st.toggle("Follow the newest epoch", True, key=f"follow {run.id}")
        if not follow:
            epoch = st.slider("Epoch", numbers[0], numbers[-1], numbers[-1], key=f"epoch {run.id}")
    ended = history.epochs[epoch]
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.markdown(f"##### Validation films after epoch {epoch}")
        _matrix(run, ended, classes)
    with right:
        _pinned(run, history, held_out, epoch, classes)
    _mistakes(run, history, held_out, epoch, classes)
    _filters(run, history, epoch)


def _matrix(run: Run, ended: EpochEnd, classes: list[str]) -> None:
    held = st.session_state.get(_CELL)

    def pick(row: int, column: int) -> None:
        st.session_state[_CELL] = (run.id, row, column)

    matrix(
        ended.confusion,
        classes,
        model="this run",
        caption="Rows: what films are. Columns: what they were called. A cell shows its mistakes below.",
        chosen=held[1:] if held and held[0] == run.id else None,
        on_pick=pick,
        key=f"lab matrix {run.id}",
    )
    st.dataframe(
        [
            {"Class": name, "Sensitivity": _share(hit), "Specificity": _share(right)}
            for name, hit, right in zip(classes, ended.sensitivity, ended.specificity, strict=True)
        ],
        hide_index=True,
        width="stretch",
        key=f"rates {run.id}",
    )


def _share(value: float) -> str:
    return "no film" if np.isnan(value) else f"{value:.2f}"


def _pinned(run: Run, history: History, held_out: HeldOut, epoch: int, classes: list[str]) -> None:
    prepared, event = history.prepared, history.pinned.get(epoch)
    if prepared is None or event is None:
        return
    st.markdown("##### Where it looks: films that are followed")
    places = [held_out.position(name) for name in prepared.pinned]
    overlays = _overlays(run.id, event.file, run.folder, held_out.films[places])
    columns = st.columns(3)
    for number, (place, shares) in enumerate(zip(places, event.probabilities, strict=True)):
        true = classes[int(held_out.labels[place])]
        called = int(np.argmax(shares))
        with columns[number % 3]:
            st.image(
                overlays[number],
                width="stretch",
                caption=f"{true}: {percent(shares[int(held_out.labels[place])])}. Called {classes[called]}, "
                f"{percent(shares[called])}",
                alt=f"Grad-CAM in {prepared.feature_layer} for a film of {true}, called {classes[called]}",
            )
    st.caption(
        f"Grad-CAM of what the film is, in layer {prepared.feature_layer}, after epoch {epoch}. Bright: most evidence"
    )


# The page looks again more often than there are new ones.
@st.cache_data(max_entries=64, show_spinner=False)
def _overlays(run_id: str, file: str, _folder: Path, _films: np.ndarray) -> list[str]:
    from cxrmodels.radiograph import resize

    return [
        photo(overlay(resize((film / 255).astype(np.float32), _FILM_SIDE, _FILM_SIDE), heat, 0.55))
        for film, heat in zip(_films, read_heat(_folder, file, _FILM_SIDE), strict=True)
    ]


@st.cache_data(max_entries=256, show_spinner=False)
def _film(run_id: str, film: str, _held_out: HeldOut) -> str:
    return address(png(_held_out.films[_held_out.position(film)]))


def _mistakes(run: Run, history: History, held_out: HeldOut, epoch: int, classes: list[str]) -> None:
    event = history.mistakes.get(epoch)
    if event is None:
        return
    held = st.session_state.get(_CELL)
    wanted = held[1:] if held else None
    rows = [
        (film, true, called, share)
        for film, true, called, share in zip(event.film_ids, event.true, event.called, event.probabilities, strict=True)
        if wanted is None or (true, called) == wanted
    ][:12]
    st.markdown("##### What it gets wrong, surest first")
    if wanted:
        st.caption(f"Films that are {classes[wanted[0]]}, called {classes[wanted[1]]}.")
    if not rows:
        st.caption("No mistake of this kind after this epoch.")
        return
    columns = st.columns(6)
    for number, (film, true, called, share) in enumerate(rows):
        with columns[number % 6]:
            st.image(
                _film(run.id, film, held_out),
                width="stretch",
                caption=f"{classes[true]}, called {classes[called]} ({percent(share)})",
                alt=f"Film {film}: it is {classes[true]} and was called {classes[called]}",
            )


def _filters(run: Run, history: History, epoch: int) -> None:
    event = history.filters.get(epoch)
    if event is None:
        return
    with st.expander("First-layer filters"):
        count, tiles = _kernels(run.id, event.file, run.folder)
        st.image(
            tiles,
            width=420,
            caption=f"{count} kernels of the first convolution after epoch {epoch}, each on its own grey scale",
            alt=f"{count} small kernels as grey squares",
        )


@st.cache_data(max_entries=64, show_spinner=False)
def _kernels(run_id: str, file: str, _folder: Path) -> tuple[int, str]:
    kernels = read_filters(_folder, file)
    return len(kernels), address(png(_tiles(kernels)))


def _tiles(kernels: np.ndarray, zoom: int = 12) -> np.ndarray:
    """Kernels float (n, h, w) in rows of eight: uint8 (H, W)."""
    low = kernels.min(axis=(1, 2), keepdims=True)
    span = np.maximum(kernels.max(axis=(1, 2), keepdims=True) - low, 1e-9)
    greys = np.rint(255 * (kernels - low) / span).astype(np.uint8)
    padded = np.pad(np.kron(greys, np.ones((1, zoom, zoom), np.uint8)), ((0, -len(greys) % 8), (2, 2), (2, 2)))
    rows = padded.reshape(-1, 8, *padded.shape[1:])
    tiles: np.ndarray = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    return tiles


def _take_along(run: Run, config: RunConfig) -> None:
    show_keeping(run)
    model, report = run.folder / MODEL_FILE, run.folder / REPORT_FILE
    columns = st.columns(4)
    if model.is_file():
        columns[0].download_button(
            "Network (.keras)", model.read_bytes, f"{run.id}.keras", on_click="ignore", key="get_model", width="stretch"
        )
    if report.is_file():
        columns[1].download_button(
            "Report (JSON)",
            report.read_bytes,
            f"{run.id}-report.json",
            "application/json",
            on_click="ignore",
            key="get_report",
            width="stretch",
        )
        _report(json.loads(report.read_text(encoding="utf-8")), config.classes)
    columns[2].download_button(
        "Settings (JSON)",
        config.to_json(),
        f"{run.id}-config.json",
        "application/json",
        on_click="ignore",
        key="get_config",
        width="stretch",
    )
    if columns[3].button("Train again with these settings", key="again", width="stretch"):
        st.query_params.clear()
        st.query_params["config"] = config.to_query()
        st.rerun()


def _report(report: dict[str, object], classes: tuple[str, ...]) -> None:
    validation = report["validation"]
    assert isinstance(validation, dict)
    st.markdown("##### Its figures on the films held out")
    st.dataframe(
        [
            {
                "Figure": figure_title(name, classes),
                "Value": figure["value"],
                "95 %": f"{figure['low']:.3f} to {figure['high']:.3f}",
            }
            for name, figure in validation["estimates"].items()
            if figure
        ],
        hide_index=True,
        width="content",
        key="report_table",
        column_config={"Value": st.column_config.NumberColumn(format="%.3f")},
    )
    st.caption(
        f"{validation['films']} validation films of {validation['patients']} patients, {report['seconds']} s of "
        "training. These films chose nothing but were watched: on films nobody looked at it may be lower."
    )


def age(run: Run) -> str:
    """How long ago a run was made, in words."""
    return f"{_duration(max(0.0, time.time() - run.created.timestamp()))} ago"
