"""The comparison page, put together."""

from __future__ import annotations

import threading

import streamlit as st

from cxrmodels import models
from cxrmodels.evaluation.board import Board, Contender, compare_on, contender, prepare, viewers
from cxrmodels.evaluation.predictions import PredictionsError
from cxrmodels.evaluation.report import Setting
from cxrmodels.lab.kept import KEPT_FILE
from cxrmodels.markdown import plain
from cxrmodels.ui.comparison.controls import ask
from cxrmodels.ui.comparison.decisions import ask_threshold, show_curves, show_matrices
from cxrmodels.ui.comparison.export import show_export
from cxrmodels.ui.comparison.overview import show_answer, show_leaderboard
from cxrmodels.ui.comparison.own import own_contenders, show_own
from cxrmodels.ui.comparison.pairs import show_pairs
from cxrmodels.ui.comparison.weaknesses import show_weaknesses
from cxrmodels.zoo import CARD_FILE, ModelError

PARTS = TABLE, CURVES, PAIRS, FAILS, OWN = (
    "Every figure",
    "Curves and threshold",
    "Model against model",
    "Where it fails",
    "Bring your own",
)


@st.cache_resource(max_entries=32, show_spinner=False)
def _contender(key: str, stamps: tuple[int, ...]) -> Contender:
    return contender(key)


def _stamps(key: str) -> tuple[int, ...]:
    """When a model's files were last written: a model that was trained anew, or kept anew, is read anew."""
    predictions = models.predictions_file(key)
    paths = [predictions, *(predictions.with_name(name) for name in (CARD_FILE, KEPT_FILE))]
    return tuple(path.stat().st_mtime_ns for path in paths if path.is_file())


def _contenders() -> list[Contender]:
    found = []
    for key in models.available():
        try:
            found.append(_contender(key, _stamps(key)))
        except (ModelError, PredictionsError) as error:
            st.error(plain(str(error)), icon=":material/error:")
    return found


@st.cache_resource(max_entries=1, show_spinner=False)
def _prepare(stamps: tuple[tuple[int, ...], ...], _contenders: list[Contender]) -> None:
    """In the background, once for everybody: models that were written after the program started are prepared too."""
    threading.Thread(target=prepare, args=(_contenders,), name="comparison", daemon=True).start()


def show_comparison() -> None:
    """Question, films, answer, and whatever part the viewer looks at more closely."""
    with viewers.served():
        ours = _contenders()
        _show(ours)
    _prepare(tuple(_stamps(one.key) for one in ours), ours)


def _show(ours: list[Contender]) -> None:
    contenders = [*ours, *own_contenders()]
    if not contenders:
        st.error("No model is shipped here. Restore the weights folder, or train one on the command line.")
        return
    question, films = ask(contenders)
    answer = st.container()
    part = st.segmented_control(
        "Look closer", PARTS, default=TABLE, required=True, key="part", bind="query-params", width="stretch"
    )
    level, preset, ratio = 0.5, None, 1.0
    if part == CURVES:
        level, preset, ratio = ask_threshold(question)
    board = compare_on(contenders, question, films, threshold=level, preset=preset, cost_ratio=ratio)
    with answer:
        show_answer(board)
    if part == OWN:
        show_own()
    elif board.standings:
        show_part(board, part, level)
    if board.standings:
        st.divider()
        show_export(board, Setting(level, preset, ratio))


def show_part(board: Board, part: str, level: float) -> None:
    """One of `PARTS` but `OWN`, which needs no board."""
    if part == TABLE:
        show_leaderboard(board)
    elif part == CURVES:
        show_curves(board)
        show_matrices(board)
    elif part == PAIRS:
        show_pairs(board, level)
    else:
        show_weaknesses(board)
