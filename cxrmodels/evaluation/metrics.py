"""Metrics of a classifier on labelled films, with 95 % intervals by bootstrap over patients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cxrmodels.evaluation.predictions import Evaluation

RESAMPLES = 1000
SEEN, UNSEEN = "test films of seen sources", "films of unseen sources"
"""Names of the two summaries that are never pooled."""

BINS = 15


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval (2.5th and 97.5th percentile over the resamples)."""

    value: float
    low: float
    high: float


def bootstrap_weights(groups: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each film occurs when whole groups (patients) are drawn with replacement.

    Films of one patient resemble each other: drawing films instead would make intervals too narrow.

    Args:
        groups: (N,) group of each film.

    Returns:
        float64 (resamples + 1, N); row 0 is all ones, the films as they are.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1 if len(member) else 0
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / max(count, 1)), size=resamples)
    return np.vstack([np.ones(len(groups)), drawn[:, member]]).astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def recalls(weights: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray, classes: Iterable[int]) -> np.ndarray:
    """Share of each class' films that were recognised: float64 (resamples + 1, classes)."""
    right = y_true == y_pred
    columns = [
        _ratio(weights[:, members & right].sum(1), weights[:, members].sum(1))
        for members in (y_true == label for label in classes)
    ]
    return np.stack(columns, axis=1)


def auc(weights: np.ndarray, positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counting half, for every row of weights: float64 (resamples + 1,)."""
    if not len(score):
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    ordered, hits = weights[:, order], positive[order]
    above = np.add.reduceat(ordered * hits, starts, axis=1)
    below = np.add.reduceat(ordered * ~hits, starts, axis=1)
    pairs = (above * (below.cumsum(1) - below / 2)).sum(1)
    return _ratio(pairs, above.sum(1) * below.sum(1))


def calibration_error(weights: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Expected calibration error over `BINS` equal bins (Guo et al. 2017): float64 (resamples + 1,)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [np.abs((weights[:, bins == b] * (confidence - right)[bins == b]).sum(1)) for b in range(BINS)]
    return _ratio(np.sum(gaps, axis=0), weights.sum(1))


def _estimate(values: np.ndarray) -> Estimate | None:
    if not np.isfinite(values[0]):
        return None
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Estimate(*(round(float(value), 4) for value in (values[0], low, high)))


@dataclass(frozen=True, slots=True)
class Summary:
    """The metrics of a model on one set of films. None where the films do not allow a figure.

    Attributes:
        name: what the films are, for instance "test, seen sources".
        seen: whether the films come from sources the model learnt from.
        films, patients: how many of them the model can answer.
        metrics: name -> estimate. Sensitivity, specificity and AUC are of COVID-19 against all else the model
            answers; `auc_covid19_normal` of COVID-19 against normal films alone.
        confusion: counts, rows true and columns called, in the order of the findings.
    """

    name: str
    seen: bool
    films: int
    patients: int
    metrics: dict[str, Estimate | None]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarise(
    name: str,
    seen: bool,
    evaluation: Evaluation,
    temperature: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Summary | None:
    """Metrics of a model on some films, with intervals. None when it can answer none of them."""
    answered = evaluation.where(evaluation.y_true() >= 0)
    if not len(answered):
        return None
    y_true, probabilities = answered.y_true(), answered.probabilities(temperature)
    y_pred, confidence = probabilities.argmax(1), probabilities.max(1)
    weights = bootstrap_weights(answered.groups, resamples, seed)
    total = weights.sum(1)
    right = y_pred == y_true
    one_hot = np.eye(len(answered.findings))[y_true]
    metrics: dict[str, np.ndarray] = {
        "accuracy": _ratio(weights @ right, total),
        "balanced_accuracy": np.nanmean(recalls(weights, y_true, y_pred, np.unique(y_true)), axis=1),
        "ece": calibration_error(weights, confidence, right),
        "brier": _ratio(weights @ ((probabilities - one_hot) ** 2).sum(1), total),
    }
    covid = answered.findings.index("covid19")
    positive, called, score = y_true == covid, y_pred == covid, probabilities[:, covid]
    metrics["sensitivity_covid19"] = _ratio(weights @ (positive & called), weights @ positive)
    metrics["specificity_covid19"] = _ratio(weights @ (~positive & ~called), weights @ ~positive)
    metrics["auc_covid19"] = auc(weights, positive, score)
    pair = positive | (answered.labels == "normal")
    metrics["auc_covid19_normal"] = auc(weights[:, pair], positive[pair], score[pair])
    confusion = np.zeros((len(answered.findings),) * 2, dtype=int)
    np.add.at(confusion, (y_true, y_pred), 1)
    return Summary(
        name,
        seen,
        len(answered),
        len(np.unique(answered.groups)),
        {key: _estimate(values) for key, values in metrics.items()},
        tuple(tuple(int(count) for count in row) for row in confusion),
    )


def summaries(
    evaluation: Evaluation,
    training_sources: tuple[str, ...],
    temperature: float,
    *,
    resamples: int = RESAMPLES,
) -> list[Summary]:
    """A model's card figures: all seen and all unseen sources apart, then each source by itself.

    Films of the validation split chose the epoch and the temperature and take no part.
    """
    held_out = evaluation.where(evaluation.splits != "val")
    seen = np.isin(held_out.sources, training_sources)
    select: list[tuple[str, bool, Callable[[], np.ndarray]]] = [
        (SEEN, True, lambda: seen),
        (UNSEEN, False, lambda: ~seen),
    ]
    found = [
        summarise(name, flag, held_out.where(mask()), temperature, resamples=resamples) for name, flag, mask in select
    ]
    for source in sorted(set(held_out.sources.tolist())):
        mask = held_out.sources == source
        found.append(
            summarise(source, source in training_sources, held_out.where(mask), temperature, resamples=resamples)
        )
    return [summary for summary in found if summary is not None]
