"""A comparison in a few sentences."""

from __future__ import annotations

import numpy as np

from cxrmodels.evaluation.board import SHARED, Board, Standing, headline
from cxrmodels.evaluation.metrics import SEEN, UNSEEN, Estimate
from cxrmodels.evaluation.paired import compare
from cxrmodels.markdown import plain

NAMES = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "negative_predictive_value": "Negative predictive value",
    "f1": "F1",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "F1, mean of classes",
    "macro_auc": "AUC, mean of classes",
    "ece": "Calibration error",
    "brier": "Brier score",
    "auc" + SHARED: "AUC, shared films",
    "balanced_accuracy" + SHARED: "Balanced accuracy, shared films",
}
"""Metric -> name for readers."""

CHANCE = 0.05
"""Above it a difference is called one that chance may explain."""


def interval(figure: Estimate | None) -> str:
    """A figure with its interval, as everywhere: 0.78 (0.74 to 0.82)."""
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})" if figure else "cannot be said"


def verdict(board: Board) -> list[str]:
    """Which model answers best on these films; then whether its lead may be chance, and how it does elsewhere.

    Returns:
        Sentences, Markdown; the first is the answer.
    """
    if not board.standings:
        return [f"No model can answer this question on {plain(board.films.words())}."]
    name = headline(board.question)
    best = board.standings[0]
    figure = best.ranked if board.even else best.ranked or best.figures.estimates[name]
    title, where = f"**{plain(best.contender.title)}**", plain(board.films.words())
    if figure is not None and best.ranked is None:
        return [
            f"On {where}, the models were asked about different films, which do not rank them.",
            f"The highest {NAMES[name]} on its own {len(best.answers):,} has {title}: {interval(figure)}.",
            _lead(board),
        ]
    if figure is None:
        right = interval(best.figures.estimates["accuracy"])
        return [
            f"On {where}, {title} is right most often: {right}.",
            f"Only one of the classes occurs there, so {NAMES[name]} cannot be said.",
            *_elsewhere(board, best, None),
        ]
    asked = where if board.even else f"the {board.shared:,} {where} that all were asked about"
    said = f"On {asked}, {title} answers best: {NAMES[name]} {interval(figure)}."
    return [said, _lead(board), *_elsewhere(board, best, figure)]


def uneven(board: Board) -> str | None:
    """Says, in Markdown, that not all were asked about the same films, and what then ranks them; None if all were."""
    if board.even:
        return None
    counts = [f"{plain(one.contender.title)} on {len(one.answers):,}" for one in board.standings]
    first, *others = board.standings
    order = (
        f"They are ranked by the {board.shared:,} that all were asked about"
        if first.ranked
        else f"The {board.shared:,} that all were asked about do not allow a ranking"
    )
    apart = [plain(one.contender.title) for one in others if first.ranked and not one.ranked]
    if apart:
        order += f"; {', '.join(apart)}, with other films altogether, cannot be ranked among them"
    return (
        "Not all models are measured on the same films: one that learnt from a source is not asked about it there. "
        f"{order}; every other figure is on a model's own films ({', '.join(counts)})."
    )


def _lead(board: Board) -> str:
    if len(board.standings) < 2:
        return "No other model here can answer this question."
    first, second = board.standings[:2]
    other = f"**{plain(second.contender.title)}**"
    if not np.isin(first.answers.films.image_ids, second.answers.films.image_ids).any():
        return f"It shares no film with {other}, the next: whether its lead is chance cannot be said."
    pair = compare(first.answers, second.answers, names=(first.contender.key, second.contender.key))
    if pair.auc is not None:
        p, ahead, lead = pair.auc.p, pair.auc.difference, f"{pair.auc.difference:.2f}"
    else:
        p, ahead = pair.p_mcnemar, pair.difference.value
        lead = f"{100 * ahead:.0f} points of accuracy"
    if ahead <= 0:
        # Ranked on all its films and by another figure, it need not lead film by film.
        figure = "AUC" if pair.auc is not None else "accuracy"
        return f"On the {pair.films:,} films that both can answer, {other} has no less {figure} (p {p_words(p)})."
    if p < CHANCE:
        return f"Its lead over {other} ({lead}) is more than chance (p {p_words(p)})."
    return f"Its lead over {other} ({lead}) may be chance (p {p_words(p)})."


def p_words(value: float) -> str:
    """A p value, to follow "p": = 0.012, or < 0.001."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _elsewhere(board: Board, best: Standing, figure: Estimate | None) -> list[str]:
    if board.films.where not in (SEEN, UNSEEN):
        return ["It learnt from this source, from films of other patients."] if best.learnt_here else []
    if figure is None:
        return []
    if board.films.where == UNSEEN and best.seen:
        drop = round(best.seen.value - figure.value, 2)
        lost = f": {drop:.2f} of that is gone in a new hospital" if drop > 0 else ""
        return [f"On sources it learnt from it has {interval(best.seen)}{lost}."]
    if board.films.where == SEEN and best.unseen and best.unseen.value < figure.low:
        return [f"On sources it never saw it has only {interval(best.unseen)}."]
    return []
