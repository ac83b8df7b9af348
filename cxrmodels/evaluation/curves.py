"""What a model does at every threshold, for questions with a positive class: curves, calibration, presets.

A film is called positive where its probability is at least the threshold. All functions raise ValueError for answers
to a question without a positive class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrmodels.evaluation.metrics import Estimate, shared_weights
from cxrmodels.evaluation.questions import Answers

_GRID = np.linspace(0, 1, 101)
_RELIABILITY_BINS, _HISTOGRAM_BINS = 10, 25


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve with its 95 % band.

    Attributes:
        x: float64 (101,), 0 to 1.
        y, low, high: float64 (101,), the curve there, and the 2.5th and 97.5th percentile over the resamples of
            patients. The band is pointwise: it holds for each x, not for the whole curve at once.
        step_x, step_y, thresholds: float64 (M,), the exact points, one for every distinct probability, from the
            highest threshold down. The first threshold may be infinity: nothing is called positive.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    step_x: np.ndarray
    step_y: np.ndarray
    thresholds: np.ndarray


def _both_classes(answers: Answers) -> bool:
    positive = answers.positive()
    return bool(positive.any() and not positive.all())


def _counts(answers: Answers, resamples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct probabilities from the highest down (M,); true and false positives there, (resamples + 1, M)."""
    score, positive = answers.score(), answers.positive()
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(score[order]) < 0, True])
    drawn = shared_weights(answers.films.groups, resamples, 0).T[order]
    called = drawn.cumsum(0, dtype=np.float64)[ends].T
    found = (drawn * positive[order, None]).cumsum(0, dtype=np.float64)[ends].T
    return score[order][ends], found, called - found


def _banded(
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray], found: np.ndarray, false_alarms: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A curve on the grid for the films as they are, row 0, and its percentiles over the other rows."""
    # A resample without one of the classes has no curve.
    rows = [curve(tp, fp) for tp, fp in zip(found, false_alarms, strict=True) if tp[-1] and fp[-1]]
    low, high = np.percentile(rows, (2.5, 97.5), axis=0)
    return rows[0], low, high


def roc(answers: Answers, resamples: int = 500) -> Curve | None:
    """Sensitivity (y) by false positive rate (x).

    On the grid the points are joined by straight lines, so that the area is the AUC with ties counting half; where the
    curve rises straight up, y is its upper end. None where the films are of one class.
    """
    if not _both_classes(answers):
        return None
    thresholds, found, false_alarms = _counts(answers, resamples)

    def on_grid(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
        return np.interp(_GRID, np.r_[0, fp] / fp[-1], np.r_[0, tp] / tp[-1])

    return Curve(
        _GRID,
        *_banded(on_grid, found, false_alarms),
        step_x=np.r_[0, false_alarms[0]] / false_alarms[0, -1],
        step_y=np.r_[0, found[0]] / found[0, -1],
        thresholds=np.r_[np.inf, thresholds],
    )


def precision_recall(answers: Answers, resamples: int = 500) -> Curve | None:
    """Precision (y) by sensitivity (x).

    On the grid y is the precision at the highest threshold that reaches x, the steps whose area is the average
    precision; straight lines between points would promise too much (Davis and Goadrich 2006). None where the films
    are of one class.
    """
    if not _both_classes(answers):
        return None
    thresholds, found, false_alarms = _counts(answers, resamples)

    def on_grid(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
        # Counts are whole: 0.07 of 100 films is 7, not the 7.000000000000001 that the product comes to.
        reached = np.searchsorted(tp, (_GRID * tp[-1]).round(9))
        # Films at the top of the ranking may be missing from a resample.
        return (tp / np.maximum(tp + fp, 1))[np.maximum(reached, (tp + fp > 0).argmax())]

    return Curve(
        _GRID,
        *_banded(on_grid, found, false_alarms),
        step_x=found[0] / found[0, -1],
        step_y=found[0] / (found[0] + false_alarms[0]),
        thresholds=thresholds,
    )


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Films with about the same probability.

    Attributes:
        low, high: the bin, low <= probability < high (the last one takes in 1).
        predicted: mean probability of the positive class.
        observed: share of films of the positive class, with Wilson's 95 % interval (Wilson 1927), which takes films
            as independent.
        films: how many, at least 1.
    """

    low: float
    high: float
    predicted: float
    observed: Estimate
    films: int


def reliability(answers: Answers) -> tuple[ReliabilityBin, ...]:
    """Whether probabilities mean what they say: ten equal bins, without those that hold no film."""
    from scipy.stats import binomtest

    score, positive = answers.score(), answers.positive()
    bins = np.minimum((score * _RELIABILITY_BINS).astype(int), _RELIABILITY_BINS - 1)
    found = []
    for number in np.unique(bins):
        inside = bins == number
        films, hits = int(inside.sum()), int(positive[inside].sum())
        interval = binomtest(hits, films).proportion_ci(method="wilson")
        found.append(
            ReliabilityBin(
                low=int(number) / _RELIABILITY_BINS,
                high=(int(number) + 1) / _RELIABILITY_BINS,
                predicted=float(score[inside].mean()),
                observed=Estimate(hits / films, float(interval.low), float(interval.high)),
                films=films,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How a model's probabilities lie.

    Attributes:
        edges: float64 (26,), 0 to 1.
        negative, positive: int64 (25,), films of each class in each bin.
    """

    edges: np.ndarray
    negative: np.ndarray
    positive: np.ndarray


def histogram(answers: Answers) -> Histogram:
    """Films of each class by their probability of the positive class, in 25 equal bins."""
    score, positive = answers.score(), answers.positive()
    negatives, edges = np.histogram(score[~positive], _HISTOGRAM_BINS, (0, 1))
    positives, _ = np.histogram(score[positive], _HISTOGRAM_BINS, (0, 1))
    return Histogram(edges, negatives, positives)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A model at every threshold from 0 to 1 in steps of 0.01.

    Attributes:
        thresholds: float64 (101,).
        sensitivity, specificity: float64 (101,), NaN where no film is of the class.
        tp, fp, tn, fn: int64 (101,), films.
    """

    thresholds: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    tn: np.ndarray
    fn: np.ndarray


def sweep(answers: Answers) -> Sweep:
    """What a slider shows at each of its positions."""
    # Rounded: a slider says 0.29, not 0.29000000000000004.
    return _at(answers, _GRID.round(2))


def _at(answers: Answers, levels: np.ndarray) -> Sweep:
    score, positive = answers.score(), answers.positive()
    fn, tn = (np.searchsorted(np.sort(score[of]), levels) for of in (positive, ~positive))
    tp, fp = positive.sum() - fn, (~positive).sum() - tn
    with np.errstate(invalid="ignore"):
        return Sweep(levels, tp / positive.sum(), tn / (~positive).sum(), tp, fp, tn, fn)


def thresholds(answers: Answers, cost_ratio: float = 1.0) -> dict[str, float]:
    """Thresholds worth starting from, chosen on these films among their probabilities and 1.

    - "equal": sensitivity and specificity as near to each other as possible; of several the one with the greater
      sum, then the highest.
    - "sensitivity >= 95 %": the highest threshold that gives it, and so the greatest specificity.
    - "specificity >= 95 %": the lowest threshold that gives it, and so the greatest sensitivity.
    - "cost": the least `cost_ratio` * false negatives + false positives; of several the lowest, which misses fewest.

    Args:
        cost_ratio: how many false alarms one missed film is worth, at least 0.

    Returns:
        Name -> threshold, 0 to 1. Without a preset that no threshold gives (more than 5 % of the negative films at a
        probability of 1), and empty where the films are of one class.

    Raises:
        ValueError: a cost ratio below 0.
    """
    if not cost_ratio >= 0:
        raise ValueError(f"cost_ratio is {cost_ratio}; a missed film costs 0 false alarms or more.")
    if not _both_classes(answers):
        return {}
    at = _at(answers, np.unique(np.r_[answers.score(), 1.0]))
    levels, gap, both = at.thresholds, np.abs(at.sensitivity - at.specificity), at.sensitivity + at.specificity
    chosen = {
        "equal": levels[np.lexsort((-levels, -both, gap))[:1]],
        "sensitivity >= 95 %": levels[at.sensitivity >= 0.95][-1:],
        "specificity >= 95 %": levels[at.specificity >= 0.95][:1],
        "cost": levels[[np.argmin(cost_ratio * at.fn + at.fp)]],
    }
    return {name: float(level[0]) for name, level in chosen.items() if len(level)}
