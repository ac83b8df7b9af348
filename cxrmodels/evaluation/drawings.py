"""The charts of a comparison, and what each shows in words. `ink` is the colour of text in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxrmodels import charts
from cxrmodels.evaluation import curves
from cxrmodels.evaluation.board import CURVES, Board, Standing, all_recalled, headline
from cxrmodels.evaluation.metrics import Estimate
from cxrmodels.evaluation.verdict import NAMES, interval
from cxrmodels.plots import Interval, seen_unseen

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Drawing = tuple["Figure", str]
"""A chart, and the same in words for readers who do not see it."""


def _tuple(figure: Estimate | None) -> Interval | None:
    return (figure.value, figure.low, figure.high) if figure else None


def with_both_classes(board: Board) -> list[Standing]:
    """Those whose films are of both classes: only they have curves."""
    if board.question.positive is None:
        return []
    return [one for one in board.standings if 0 < one.answers.positive().sum() < len(one.answers)]


def answer_chart(board: Board, ink: str) -> Drawing:
    """The headline figure on seen and unseen sources."""
    name = headline(board.question)
    titles = [standing.contender.title for standing in board.standings]
    guessing = 0.5 if name == "auc" else 1 / len(board.question.classes)
    known = [figure for one in board.standings for figure in (one.seen, one.unseen) if figure]
    figure = seen_unseen(
        titles,
        [_tuple(standing.seen) for standing in board.standings],
        [_tuple(standing.unseen) for standing in board.standings],
        ink,
        figure=f"{NAMES[name]} ({guessing:.2g} is guessing)",
        low=min([guessing, *(one.low for one in known)]) - 0.05,
    )
    words = "; ".join(
        f"{title}: seen sources {interval(standing.seen)}, unseen {interval(standing.unseen)}"
        for title, standing in zip(titles, board.standings, strict=True)
    )
    return figure, f"{NAMES[name]} of each model. {words}"


def _estimate(standing: Standing, name: str) -> float | None:
    figure = standing.figures.estimates[name]
    return figure.value if figure else None


def _listed(standings: Sequence[Standing], name: str) -> str:
    return "; ".join(f"{one.contender.title} {interval(one.figures.estimates[name])}" for one in standings)


def _banded(board: Board, name: str) -> list[charts.Band]:
    shown, standings = [], with_both_classes(board)
    for one, curve in zip(standings, all_recalled(standings, board, name, CURVES[name]), strict=True):
        assert curve is not None, "both classes occur"
        shown.append((one.contender.title, curve.x, curve.y, curve.low, curve.high))
    return shown


def roc_chart(board: Board, ink: str) -> Drawing:
    """ROC curves, and where each threshold stands on them."""
    standings = with_both_classes(board)
    points: list[tuple[float, float] | None] = []
    for one in standings:
        hit, right = _estimate(one, "sensitivity"), _estimate(one, "specificity")
        points.append(None if hit is None or right is None else (1 - right, hit))
    shown = _banded(board, "roc")
    figure = charts.bands(shown, points, ("false alarm rate", "sensitivity"), ink, diagonal=True)
    return figure, f"ROC curves, area under each: {_listed(standings, 'auc')}"


def precision_recall_chart(board: Board, ink: str) -> Drawing:
    """Precision-recall curves, and where each threshold stands on them."""
    standings = with_both_classes(board)
    points: list[tuple[float, float] | None] = []
    for one in standings:
        hit, sure = _estimate(one, "sensitivity"), _estimate(one, "precision")
        points.append(None if hit is None or sure is None else (hit, sure))
    shown = _banded(board, "precision_recall")
    figure = charts.bands(shown, points, ("recall (sensitivity)", "precision"), ink, diagonal=False)
    return figure, f"Precision-recall curves, average precision: {_listed(standings, 'average_precision')}"


def reliability_chart(board: Board, ink: str) -> Drawing:
    """What probabilities were said, and what was so."""
    standings, question = with_both_classes(board), board.question
    assert question.positive is not None, "only two-class questions have one"
    shown: list[charts.Reliability] = []
    made = all_recalled(standings, board, "reliability", curves.reliability)
    for one, bins in zip(standings, made, strict=True):
        shown.append(
            (
                one.contender.title,
                [found.predicted for found in bins],
                [(found.observed.value, found.observed.low, found.observed.high) for found in bins],
                [found.films for found in bins],
            )
        )
    return charts.reliability(
        shown, question.positive, ink
    ), f"Reliability, calibration error: {_listed(standings, 'ece')}"


def scores_chart(board: Board, ink: str) -> Drawing:
    """How probabilities lie, class against class."""
    standings, question = with_both_classes(board), board.question
    positive = question.positive_index()
    names = question.classes[1 - positive][0], question.classes[positive][0]
    shown: list[charts.Scores] = []
    for one in standings:
        found = curves.histogram(one.answers)
        shown.append((one.contender.title, found.negative, found.positive, one.threshold))
    words = f"Each model's probabilities of {names[1]}: films of {names[1]} upwards, of {names[0]} downwards. "
    words += "; ".join(f"{one.contender.title}, threshold {one.threshold:.2f}" for one in standings)
    return charts.histograms(shown, names, ink), words
