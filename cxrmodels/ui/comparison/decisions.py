"""Curves, the threshold, what it means for people, and the matrices whose cells list their films."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from cxrmodels.evaluation.board import COST, EQUAL, SENSITIVE, SPECIFIC, Board, Standing
from cxrmodels.evaluation.drawings import (
    precision_recall_chart,
    reliability_chart,
    roc_chart,
    scores_chart,
    with_both_classes,
)
from cxrmodels.evaluation.metrics import prevalence_counts
from cxrmodels.evaluation.questions import Question
from cxrmodels.evaluation.verdict import interval
from cxrmodels.markdown import plain
from cxrmodels.plots import percent
from cxrmodels.ui.comparison.films import show_films
from cxrmodels.ui.comparison.matrix import matrix
from cxrmodels.ui.comparison.pictures import show
from cxrmodels.ui.frame import ink

SAME = "the same for all"
_PRESETS = {
    SAME: "The same for all",
    EQUAL: "Sensitivity = specificity",
    SENSITIVE: "Sensitivity at least 95 %",
    SPECIFIC: "Specificity at least 95 %",
    COST: "By cost of errors",
}
_CHARTS = _ROC, _PRECISION, _RELIABILITY, _SCORES = "ROC", "Precision and recall", "Reliability", "Scores"
_CELL = "comparison_cell"


def ask_threshold(question: Question) -> tuple[float, str | None, float]:
    """Where to decide: one threshold for all; or None of it and a preset by which each model finds its own, and the
    cost ratio of that preset."""
    if question.positive is None:
        st.caption("With more than two classes a model calls a film what it finds likeliest; there is no threshold.")
        return 0.5, None, 1.0
    left, right = st.columns(2, vertical_alignment="bottom")
    preset = left.selectbox(
        "Threshold",
        list(_PRESETS),
        format_func=lambda name: _PRESETS[name],
        key="preset",
        bind="query-params",
        help="A film is called positive when its probability reaches the threshold. With a preset each model gets "
        "its own, chosen on its validation films: as one would have to, before the films below were known.",
    )
    if preset == SAME:
        level = right.slider("Called positive from", 0.0, 1.0, 0.5, 0.01, key="threshold", bind="query-params")
        return level, None, 1.0
    ratio = 1.0
    if preset == COST:
        ratio = right.slider(
            "A missed film is worse than a false alarm by a factor of", 1.0, 20.0, 5.0, 1.0, key="cost"
        )
    return 0.5, preset, ratio


def show_curves(board: Board) -> None:
    """The chart that is chosen, all models over each other."""
    if board.question.positive is None:
        return
    both = with_both_classes(board)
    if not both:
        st.info("Curves need films of both classes; these are all of one.", icon=":material/show_chart:")
        return
    kind = st.segmented_control("Chart", _CHARTS, default=_ROC, key="curve", required=True)
    if kind == _ROC:
        figure, words = roc_chart(board, ink())
        about = (
            "The nearer to the upper left corner the better; the dotted diagonal is guessing. Shaded: 95 % of "
            "resamples of patients, point by point. Marker: where the model stands at its threshold."
        )
    elif kind == _PRECISION:
        figure, words = precision_recall_chart(board, ink())
        share = percent(float(both[0].answers.positive().mean()))
        about = f"Of these films {share} are of the class asked for: that precision a guess would have."
    elif kind == _RELIABILITY:
        figure, words = reliability_chart(board, ink())
        about = (
            "On the dotted diagonal a probability means what it says; below it the model claims too much. Bars: "
            "Wilson's 95 % interval of each bin."
        )
    else:
        figure, words = scores_chart(board, ink())
        about = "Bars: share of each class' films. Dashed line: the threshold."
    show(figure, kind, alt=words)
    st.caption(about)


def show_matrices(board: Board) -> None:
    """What each model calls what, and what that means among people; a picked cell lists its films."""
    classes = [name for name, _ in board.question.classes]
    common = 0.1
    if board.question.positive is not None:
        common = st.slider(
            f"How common is {board.question.positive} among those examined?",
            *(0.01, 0.9, 0.1, 0.01),
            format="percent",
            key="prevalence",
            help="The share of ill people among those examined decides what a positive answer is worth.",
        )
    for start in range(0, len(board.standings), 3):
        for column, standing in zip(st.columns(3), board.standings[start : start + 3], strict=False):
            with column, st.container(border=True):
                _one(board, standing, classes, common)
    _cell_films(board, classes)


def _one(board: Board, standing: Standing, classes: Sequence[str], common: float) -> None:
    one, estimates = standing.contender, standing.figures.estimates
    st.markdown(f"**{plain(one.title)}**")
    held = st.session_state.get(_CELL)

    def pick(row: int, column: int) -> None:
        st.session_state[_CELL] = (one.key, board.question.key, row, column)

    matrix(
        standing.figures.confusion,
        classes,
        model=one.title,
        caption="Rows: what films are. Columns: what they were called. A cell lists its films.",
        chosen=held[2:] if held and held[:2] == (one.key, board.question.key) else None,
        on_pick=pick,
        key=f"matrix {one.key}",
    )
    hit, right = estimates.get("sensitivity"), estimates.get("specificity")
    if board.question.positive is None:
        st.caption(f"Right: {interval(estimates['accuracy'])}.")
        return
    st.caption(f"Threshold {standing.threshold:.2f}. Sensitivity {interval(hit)}, specificity {interval(right)}.")
    if hit and right:
        st.markdown(_people(hit.value, right.value, common, board.question.positive))


def _people(sensitivity: float, specificity: float, common: float, positive: str) -> str:
    counts = prevalence_counts(sensitivity, specificity, common)
    worth = f" A positive answer is right in {percent(counts.ppv)} of cases." if counts.ppv is not None else ""
    return (
        f"Of 1,000 people like these, {counts.ill} have {positive}: it finds {counts.found}, misses {counts.missed}, "
        f"and alarms {counts.false_alarms} of the {counts.healthy} others for nothing.{worth}"
    )


def _cell_films(board: Board, classes: Sequence[str]) -> None:
    held = st.session_state.get(_CELL)
    standing = next((one for one in board.standings if held and one.contender.key == held[0]), None)
    if not held or standing is None or held[1] != board.question.key:
        st.caption("Pick a cell of a matrix to see its films.")
        return
    row, column = held[2:]
    answers = standing.answers
    inside = np.flatnonzero((answers.y_true == row) & (answers.called(standing.threshold) == column))
    # Surest first: of mistakes those the model was most convinced of, of right answers likewise.
    order = inside[np.argsort(-answers.probabilities[inside, column], kind="stable")]
    title = plain(standing.contender.title)
    st.markdown(f"##### {len(order)} films that are {classes[row]}, called {classes[column]} by {title}")
    show_films(board, answers.films.image_ids[order].tolist(), "cell")
