"""Metrics of a classifier on labelled films, with 95 % intervals by bootstrap over patients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cxrmodels.evaluation.predictions import Evaluation
from cxrmodels.evaluation.questions import Answers
from cxrmodels.findings import index_of

RESAMPLES = 1000
SEEN, UNSEEN = "test films of seen sources", "films of unseen sources"
"""Names of the two summaries that are never pooled."""

BINS = 15
_MOST_WEIGHTS = 2**25
_DRAWS = 2**19


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval (2.5th and 97.5th percentile over the resamples)."""

    value: float
    low: float
    high: float


def bootstrap_weights(
    groups: np.ndarray, resamples: int = RESAMPLES, seed: int = 0, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """How often each film occurs when whole groups (patients) are drawn with replacement.

    Films of one patient resemble each other: drawing films instead would make intervals too narrow.

    Args:
        groups: (N,) group of each film.

    Returns:
        (resamples + 1, N); row 0 is all ones, the films as they are. A film's column lies in one piece of memory:
        the figures that go by rank take the films in another order.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1 if len(member) else 1
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, count), dtype)
    # Counted draws, many rows at once: far faster than NumPy's multinomial, and than a row at a time.
    together = max(1, _DRAWS // count)
    for at in range(0, resamples, together):
        rows = drawn[at : at + together]
        which = rng.integers(0, count, rows.shape, np.int32) + np.arange(len(rows), dtype=np.int32)[:, None] * count
        rows[:] = np.bincount(which.ravel(), minlength=rows.size).reshape(rows.shape)
    weights = np.ones((len(groups), resamples + 1), dtype)
    weights[:, 1:] = np.ascontiguousarray(drawn.T)[member]
    return weights.T


_drawing = Lock()


@lru_cache(maxsize=4)
def _weights_of(members: bytes, resamples: int, seed: int) -> np.ndarray:
    weights = bootstrap_weights(np.frombuffer(members, np.int32), resamples, seed, np.float32)
    weights.flags.writeable = False
    return weights


def affordable(resamples: int, films: int) -> int:
    """How many of so many resamples are drawn of so many films: all up to some 16,000 films, then fewer, at least 100,
    so that they take some 150 MB. The more films, the less an interval gains by more draws."""
    return min(resamples, max(100, _MOST_WEIGHTS // max(films, 1)))


def shared_weights(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """`bootstrap_weights` in float32, read-only, and drawn once for all models with the same films; of very many films
    fewer, see `affordable`.

    float32 counts without error up to 16 million films.
    """
    _, member = np.unique(groups, return_inverse=True)
    with _drawing:  # models measured beside each other wait for one drawing instead of making it each
        return _weights_of(member.astype(np.int32).tobytes(), affordable(resamples, len(groups)), seed)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _sums(weights: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Weighted sums of columns, each (N,), over the films: (columns, resamples + 1).

    All in one product, since reading the weights is what takes the time. The columns take the weights' type: the
    other way would copy all weights.
    """
    return (weights @ np.stack(columns, axis=1).astype(weights.dtype)).T


def recalls(weights: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray, classes: Iterable[int]) -> np.ndarray:
    """Share of each class' films that were recognised: (resamples + 1, classes)."""
    right = y_true == y_pred
    columns = [_ratio(*_sums(weights, (y_true == label) & right, y_true == label)) for label in classes]
    return np.stack(columns, axis=1)


def _summed(weights: np.ndarray, films: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Summed weights of the pieces of `films` that begin at `starts`: (pieces, resamples + 1).

    A sparse product reads each film's weights once, where they lie: ten times as fast as gathering and adding them.
    """
    from scipy.sparse import csr_array

    ones, bounds = np.ones(len(films), weights.dtype), np.r_[starts, len(films)]
    pieces: np.ndarray = csr_array((ones, films, bounds), shape=(len(starts), weights.shape[1])) @ weights.T
    return pieces


def _accumulate(rows: np.ndarray) -> None:
    """Add to each row all rows before it, in place. Several times as fast as NumPy's own sum down columns."""
    for before, row in pairwise(rows):
        np.add(row, before, out=row)


def _ranked(
    weights: np.ndarray, positive: np.ndarray, score: np.ndarray, precision: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision for every row of weights, each (resamples + 1,).

    Down the ranking, each positive film adds its weight times the negative films below it (films tied with it counting
    half) to the one, times the precision at its score to the other. NaN where a class is missing.

    Neighbours of one class make a run, and the area asks for the weight of whole runs only: of a model that tells the
    classes apart there are few. Where both classes have a score, they make two runs of their own, the positive first.

    Args:
        precision: whether the average precision, which takes most of the time, is wanted; NaN where not.
    """
    area, mean_precision = np.full((2, len(weights)), np.nan, weights.dtype)
    if not positive.any() or positive.all():
        return area, mean_precision
    order = np.lexsort((~positive, -score))
    hit = positive[order]
    begins = np.r_[True, np.diff(score[order]) != 0]
    level = np.cumsum(begins) - 1
    tied = ((np.bincount(level, hit) > 0) & (np.bincount(level, ~hit) > 0))[level]
    runs = np.r_[True, hit[1:] != hit[:-1]] | (begins & (tied | np.r_[False, tied[:-1]]))
    starts = np.flatnonzero(runs)
    sums, own = _summed(weights, order, starts), hit[starts]
    # Negative films in the first so many negative runs, and how many such runs stand above each film.
    passed = np.zeros((int((~own).sum()) + 1, len(weights)), weights.dtype)
    passed[1:] = sums[~own]
    _accumulate(passed)
    above = np.cumsum(~own)[np.cumsum(runs) - 1] - ~hit
    found, over, halved = sums[own], above[starts][own], tied[starts][own]
    false_alarms = passed[over]
    false_alarms[halved] = (false_alarms[halved] + passed[over[halved] + 1]) / 2
    total, rest = found.sum(0), passed[-1]
    area = _ratio(np.einsum("ij,ij->j", found, rest - false_alarms), total * rest)
    if not precision:
        return area, mean_precision
    at = np.flatnonzero(hit)
    firsts = np.flatnonzero(np.r_[True, np.diff(level[at]) != 0])
    found = _summed(weights, order[at], firsts)
    up_to = (above + tied)[at[firsts]]
    precise = found.copy()
    _accumulate(precise)
    precise /= np.maximum(passed[up_to] + precise, 1)
    mean_precision = np.einsum("ij,ij->j", found, precise)
    return area, np.where(rest > 0, _ratio(mean_precision, total), np.nan)


def auc(weights: np.ndarray, positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counting half, for every row of weights: (resamples + 1,).

    Args:
        weights: (resamples + 1, N), whole numbers.
        positive: bool (N,).
        score: float (N,), higher means positive.
    """
    return _ranked(weights, positive, score, precision=False)[0]


def average_precision(weights: np.ndarray, positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Mean precision at the scores of the positive films, for every row of weights: (resamples + 1,).

    The step-wise area under the precision-recall curve, as scikit-learn defines it; arguments as for `auc`.
    """
    return _ranked(weights, positive, score)[1]


def calibration_error(weights: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Expected calibration error over `BINS` equal bins (Guo et al. 2017): (resamples + 1,)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.zeros((len(bins), BINS))
    gaps[np.arange(len(bins)), bins] = confidence - right
    return _ratio(np.abs(_sums(weights, *gaps.T)).sum(0), weights.sum(1))


def _two_class(weights: np.ndarray, positive: np.ndarray, called: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of a yes-or-no decision; all but the first two only where both classes are among the films."""
    tp, fn, fp, tn = _sums(weights, positive & called, positive & ~called, ~positive & called, ~positive & ~called)
    both = np.where((tp + fn > 0) & (fp + tn > 0), 1.0, np.nan)
    return {
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "precision": _ratio(tp, tp + fp) * both,
        "negative_predictive_value": _ratio(tn, tn + fn) * both,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn) * both,
    }


def estimate(values: np.ndarray) -> Estimate | None:
    """The value on the films as they are, `values[0]`, with the 95 % interval over the resamples.

    Args:
        values: (resamples + 1,), NaN where a resample does not allow the figure.

    Returns:
        None when the films as they are do not allow it.
    """
    if not np.isfinite(values[0]):
        return None
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Estimate(*(round(float(value), 4) for value in (values[0], low, high)))


def _overall(
    weights: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray, probabilities: np.ndarray
) -> dict[str, np.ndarray]:
    squares = ((probabilities - np.eye(probabilities.shape[1])[y_true]) ** 2).sum(1)
    right, squared, total = _sums(weights, y_true == y_pred, squares, np.ones(len(y_true)))
    return {
        "accuracy": _ratio(right, total),
        "ece": calibration_error(weights, probabilities.max(1), probabilities.argmax(1) == y_true),
        "brier": _ratio(squared, total),
    }


def _confusion(y_true: np.ndarray, y_pred: np.ndarray, classes: int) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (y_true, y_pred), 1)
    return tuple(tuple(int(count) for count in row) for row in counts)


@dataclass(frozen=True, slots=True)
class Summary:
    """The metrics of a model on one set of films. None where the films do not allow a figure.

    Attributes:
        name: what the films are, for instance "test, seen sources".
        seen: whether the films come from sources the model learnt from.
        films, patients: how many of them the model can answer.
        metrics: name -> estimate. Those that end in `_covid19` are of COVID-19 against all else the model
            answers; `auc_covid19_normal` of COVID-19 against normal films alone, by what the model makes of these
            two findings, as it would answer the question "COVID-19 or normal?".
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
    y_pred = probabilities.argmax(1)
    weights = bootstrap_weights(answered.groups, resamples, seed)
    overall = _overall(weights, y_true, y_pred, probabilities)
    covid = answered.findings.index("covid19")
    positive, score = y_true == covid, probabilities[:, covid]
    decision = _two_class(weights, positive, y_pred == covid)
    area, mean_precision = _ranked(weights, positive, score)
    pair = positive | (answered.labels == "normal")
    normal = index_of("normal", answered.findings)
    assert normal is not None, "every model answers normal films, if only as not COVID-19"
    # Ordered as P(COVID-19) / (P(COVID-19) + P(normal)), and exact where both are all but zero.
    margin = answered.logits[:, covid].astype(np.float64) - answered.logits[:, normal]
    metrics = {
        "accuracy": overall["accuracy"],
        "balanced_accuracy": np.nanmean(recalls(weights, y_true, y_pred, np.unique(y_true)), axis=1),
        "ece": overall["ece"],
        "brier": overall["brier"],
        "sensitivity_covid19": decision["sensitivity"],
        "specificity_covid19": decision["specificity"],
        "auc_covid19": area,
        "auc_covid19_normal": auc(weights[:, pair], positive[pair], margin[pair]),
        "precision_covid19": decision["precision"],
        "f1_covid19": decision["f1"],
        "average_precision_covid19": mean_precision,
    }
    return Summary(
        name,
        seen,
        len(answered),
        len(np.unique(answered.groups)),
        {key: estimate(values) for key, values in metrics.items()},
        _confusion(y_true, y_pred, len(answered.findings)),
    )


def summaries(
    evaluation: Evaluation,
    training_sources: tuple[str, ...],
    temperature: float,
    *,
    resamples: int = RESAMPLES,
) -> list[Summary]:
    """A model's card figures: all seen and all unseen sources apart, both by age group, then each source by itself.

    Films of the validation split chose the epoch and the temperature and take no part.
    """
    held_out = evaluation.where(evaluation.splits != "val")
    seen = np.isin(held_out.sources, training_sources)
    whole = [(SEEN, True, seen), (UNSEEN, False, ~seen)]
    by_age = [
        (f"{age}, {name}", flag, mask & (held_out.age_groups == age))
        for age in sorted(set(held_out.age_groups.tolist()) - {""})
        for name, flag, mask in whole
    ]
    by_source = [
        (source, source in training_sources, held_out.sources == source)
        for source in sorted(set(held_out.sources.tolist()))
    ]
    found = [
        summarise(name, flag, held_out.where(mask), temperature, resamples=resamples)
        for name, flag, mask in (*whole, *by_age, *by_source)
    ]
    return [summary for summary in found if summary is not None]


@dataclass(frozen=True, slots=True)
class Figures:
    """The metrics of a model's answers to a question.

    Attributes:
        films, patients: how many there are.
        estimates: name -> value with its 95 % interval, all 0 to 1 but `brier`, 0 to 2; None where the films do not
            allow a figure, for instance because all are of one class.
        confusion: counts, rows true and columns called, in the order of the question's classes.
    """

    films: int
    patients: int
    estimates: dict[str, Estimate | None]
    confusion: tuple[tuple[int, ...], ...]


def _decided(weights: np.ndarray, answers: Answers, y_pred: np.ndarray) -> dict[str, np.ndarray]:
    found = _two_class(weights, answers.positive(), y_pred == answers.question.positive_index())
    return found | {"balanced_accuracy": (found["sensitivity"] + found["specificity"]) / 2}


def figures(
    answers: Answers, threshold: float = 0.5, *, resamples: int = 2000, seed: int = 0, known: Figures | None = None
) -> Figures:
    """Metrics of a model's answers, with intervals by bootstrap over patients.

    Of two classes: `auc, average_precision, sensitivity, specificity, precision, negative_predictive_value, f1,
    accuracy, balanced_accuracy, ece, brier`. Of more: `accuracy, balanced_accuracy, macro_f1, macro_auc` (each class
    against the rest), `ece, brier` and `sensitivity_0, sensitivity_1, ...` in the order of the classes.
    `ece` is of the likelier class' probability (Guo et al. 2017) and `brier` sums over the classes (Brier 1950), so
    that both mean the same for two classes and for more, and do not depend on the threshold.

    Args:
        threshold: probability from which a film is called positive, 0 to 1; without meaning for more classes.
        known: the same answers' figures at another threshold, of as many resamples and the same seed: what does not
            depend on the threshold is taken from them, which leaves a tenth of the work.
    """
    weights = shared_weights(answers.films.groups, resamples, seed)
    y_true, y_pred, probabilities = answers.y_true, answers.called(threshold), answers.probabilities
    classes = len(answers.question.classes)
    if known is not None and answers.question.positive is not None:
        right, total = _sums(weights, y_true == y_pred, np.ones(len(y_true)))
        decided = _decided(weights, answers, y_pred) | {"accuracy": _ratio(right, total)}
        estimates = known.estimates | {name: estimate(of_rows) for name, of_rows in decided.items()}
        return Figures(known.films, known.patients, estimates, _confusion(y_true, y_pred, classes))
    overall = _overall(weights, y_true, y_pred, probabilities)
    accuracy, calibration = overall["accuracy"], {name: overall[name] for name in ("ece", "brier")}
    values: dict[str, np.ndarray]
    if answers.question.positive is not None:
        area, mean_precision = _ranked(weights, answers.positive(), answers.score())
        decision = _decided(weights, answers, y_pred)
        balanced = decision.pop("balanced_accuracy")
        values = {
            "auc": area,
            "average_precision": mean_precision,
            **decision,
            "accuracy": accuracy,
            "balanced_accuracy": balanced,
            **calibration,
        }
    else:
        each = [_two_class(weights, y_true == label, y_pred == label) for label in range(classes)]
        areas = [auc(weights, y_true == label, probabilities[:, label]) for label in range(classes)]
        values = {
            "accuracy": accuracy,
            "balanced_accuracy": np.mean([one["sensitivity"] for one in each], axis=0),
            "macro_f1": np.mean([one["f1"] for one in each], axis=0),
            "macro_auc": np.mean(areas, axis=0),
            **calibration,
            **{f"sensitivity_{label}": one["sensitivity"] for label, one in enumerate(each)},
        }
    return Figures(
        len(answers),
        len(np.unique(answers.films.groups)),
        {name: estimate(of_rows) for name, of_rows in values.items()},
        _confusion(y_true, y_pred, classes),
    )


def leading_figure(answers: Answers, *, resamples: int = 2000, seed: int = 0) -> Estimate | None:
    """The one figure that models are ranked by, as `figures` has it, in a fraction of the time: `auc` of two classes,
    `balanced_accuracy` of more."""
    weights = shared_weights(answers.films.groups, resamples, seed)
    if answers.question.positive is not None:
        return estimate(auc(weights, answers.positive(), answers.score()))
    classes = range(len(answers.question.classes))
    return estimate(np.mean(recalls(weights, answers.y_true, answers.called(), classes), axis=1))


@dataclass(frozen=True, slots=True)
class PrevalenceCounts:
    """What a test would say of so many people.

    Attributes:
        ill, found, missed: people with the finding; those among them called so, and the others.
        healthy, false_alarms, correctly_cleared: people without it; those called ill, and the others.
        ppv, npv: how likely a call of "ill" or "healthy" is right, 0 to 1; None when no such call is ever made.
    """

    ill: int
    found: int
    missed: int
    healthy: int
    false_alarms: int
    correctly_cleared: int
    ppv: float | None
    npv: float | None


def prevalence_counts(
    sensitivity: float, specificity: float, prevalence: float, people: int = 1000
) -> PrevalenceCounts:
    """What a test with this sensitivity and specificity means where the finding is this common.

    Counts are whole people and add up to `people`; the predictive values are Bayes' rule on the shares as given, so
    that they hold where the finding is too rare for a whole person.

    Raises:
        ValueError: a share outside 0 to 1, or fewer than one person.
    """
    for name, share in (("sensitivity", sensitivity), ("specificity", specificity), ("prevalence", prevalence)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; it is a share, give 0 to 1.")
    if people < 1:
        raise ValueError(f"people is {people}; give at least 1.")
    ill = round(people * prevalence)
    found, cleared = round(ill * sensitivity), round((people - ill) * specificity)
    true_alarms, false_alarms = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    true_clear, false_clear = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
    return PrevalenceCounts(
        ill=ill,
        found=found,
        missed=ill - found,
        healthy=people - ill,
        false_alarms=people - ill - cleared,
        correctly_cleared=cleared,
        ppv=true_alarms / (true_alarms + false_alarms) if true_alarms + false_alarms else None,
        npv=true_clear / (true_clear + false_clear) if true_clear + false_clear else None,
    )
