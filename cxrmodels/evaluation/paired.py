"""Two models on the same films: is one better, or can they not be told apart?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, log10, sqrt

import numpy as np

from cxrmodels.evaluation.metrics import Estimate, estimate, shared_weights
from cxrmodels.evaluation.questions import Answers, common

_LEVEL, _POWER = 0.05, 0.8


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947) that two models are right equally often.

    It takes films as independent; where patients have several, trust the bootstrap interval more.

    Args:
        only_a, only_b: films that only the one, or only the other, got right.
    """
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


@dataclass(frozen=True, slots=True)
class AucDifference:
    """Two areas under the ROC curve on the same films, 0 to 1; `difference` is a minus b, with its 95 % interval."""

    auc_a: float
    auc_b: float
    difference: float
    low: float
    high: float
    p: float


def delong(positive: np.ndarray, score_a: np.ndarray, score_b: np.ndarray) -> AucDifference:
    """DeLong's test of two correlated areas (DeLong et al. 1988), by ranks (Sun and Xu 2014).

    It takes films as independent.

    Args:
        positive: bool (N,).
        score_a, score_b: float (N,), higher means positive.

    Raises:
        ValueError: fewer than two films of either class: the areas then have no variance to estimate.
    """
    from scipy.stats import norm, rankdata

    sick, well = int(positive.sum()), int((~positive).sum())
    if min(sick, well) < 2:
        raise ValueError(f"{sick} positive and {well} negative films; DeLong's test needs two of each.")
    scores = np.stack([score_a, score_b])
    above = rankdata(scores, axis=1)
    # How large a share of the other class each film beats, (2, films of its class).
    of_sick = (above[:, positive] - rankdata(scores[:, positive], axis=1)) / well
    of_well = 1 - (above[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / sick
    auc_a, auc_b = of_sick.mean(1)
    difference = float(auc_a - auc_b)
    variance = np.diff(of_sick, axis=0).var(ddof=1) / sick + np.diff(of_well, axis=0).var(ddof=1) / well
    error = float(np.sqrt(variance))
    reach = float(norm.ppf(1 - _LEVEL / 2)) * error
    # Without variance there is nothing to doubt: the areas are the same, or they differ for certain.
    p = float(2 * norm.sf(abs(difference) / error)) if error else float(difference == 0)
    return AucDifference(float(auc_a), float(auc_b), difference, difference - reach, difference + reach, p)


def kappa(called_a: np.ndarray, called_b: np.ndarray) -> float | None:
    """Cohen's kappa (Cohen 1960): agreement beyond chance, at most 1.

    Args:
        called_a, called_b: int (N,), the class each model calls.

    Returns:
        None where both call all films the same one class: chance alone would agree as well.
    """
    if len(classes := np.union1d(called_a, called_b)) < 2:
        return None
    # scikit-learn's takes fifty times as long, and a comparison of nine models asks 36 times.
    by_chance = sum((called_a == label).mean() * (called_b == label).mean() for label in classes)
    return float(((called_a == called_b).mean() - by_chance) / (1 - by_chance))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for how many there are (Holm 1979), in the order given, at most 1."""
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1)
    return [float(value) for value in adjusted]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models on the films that both can answer.

    Attributes:
        a, b: the models' names.
        films, patients: how many there are.
        both_right, only_a, only_b, both_wrong: films, by who got them right.
        agreement: share of films that both call the same, right or wrong.
        kappa: Cohen's kappa of the two; None where it has no meaning.
        difference: accuracy of a minus that of b, -1 to 1, with its interval by bootstrap over patients.
        p_mcnemar: of McNemar's exact test.
        p_adjusted: the same after Holm's correction for all pairs compared; None where only one was.
        auc: DeLong's test, for questions with a positive class and two films or more of each class.
        films_to_settle: about how many films in all would show a difference as large as this one; None when the
            interval excludes 0, when there is no difference, or when there are as many films already.
        deciding: `image_id`s of the films that exactly one of them got right, those they differ on most first.
    """

    a: str
    b: str
    films: int
    patients: int
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    agreement: float
    kappa: float | None
    difference: Estimate
    p_mcnemar: float
    p_adjusted: float | None
    auc: AucDifference | None
    films_to_settle: int | None
    deciding: tuple[str, ...]


def films_needed(only_a: int, only_b: int, films: int) -> int | None:
    """About how many films would show the difference that `films` films have hinted at.

    Connor's formula for McNemar's test (Connor 1987, Biometrics 43:207), 80 % power at 5 % two-sided, with the
    observed shares taken for the true ones. It takes films as independent. None when there is no difference.
    """
    from scipy.stats import norm

    if only_a == only_b:
        return None
    differing, difference = (only_a + only_b) / films, (only_a - only_b) / films
    level, power = norm.ppf(1 - _LEVEL / 2), norm.ppf(_POWER)
    return ceil(((level * sqrt(differing) + power * sqrt(differing - difference**2)) / difference) ** 2)


def compare(
    a: Answers,
    b: Answers,
    threshold: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
    *,
    names: tuple[str, str] = ("a", "b"),
) -> Pair:
    """Two models' answers to one question, film by film, on the films both can answer.

    Args:
        threshold: probability from which both call a film positive; without meaning for more than two classes.

    Raises:
        ValueError: different questions, or no film that both can answer.
    """
    a, b = common([a, b])
    if not len(a):
        raise ValueError(f"No film that both {names[0]} and {names[1]} can answer; compare them on other films.")
    called_a, called_b = a.called(threshold), b.called(threshold)
    right_a, right_b = called_a == a.y_true, called_b == b.y_true
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    weights = shared_weights(a.films.groups, resamples, seed)
    gain = right_a.astype(np.float32) - right_b.astype(np.float32)
    difference = estimate(weights @ gain / weights.sum(1))
    assert difference is not None, "every resample holds at least one patient"
    settled = difference.low > 0 or difference.high < 0
    needed = None if settled else films_needed(only_a, only_b, len(a))

    auc = None
    if a.question.positive is not None and 2 <= a.positive().sum() <= len(a) - 2:
        auc = delong(a.positive(), a.score(), b.score())
    decided = np.flatnonzero(right_a != right_b)
    rows = decided, a.y_true[decided]
    apart = np.abs(a.probabilities[rows] - b.probabilities[rows])
    return Pair(
        a=names[0],
        b=names[1],
        films=len(a),
        patients=len(np.unique(a.films.groups)),
        both_right=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((~right_a & ~right_b).sum()),
        agreement=float((called_a == called_b).mean()),
        kappa=kappa(called_a, called_b),
        difference=difference,
        p_mcnemar=mcnemar(only_a, only_b),
        p_adjusted=None,
        auc=auc,
        films_to_settle=needed if needed and needed > len(a) else None,
        deciding=tuple(a.films.image_ids[decided[np.argsort(-apart, kind="stable")]].tolist()),
    )


def compare_all(
    answers: Mapping[str, Answers], threshold: float = 0.5, resamples: int = 2000, seed: int = 0
) -> list[Pair]:
    """Every pair of models, in the order of `answers`, all on the films that every one of them can answer.

    Raises:
        ValueError: different questions, or no film that all can answer.
    """
    shared = dict(zip(answers, common(list(answers.values())), strict=True))
    pairs = [
        compare(shared[a], shared[b], threshold, resamples, seed, names=(a, b)) for a, b in combinations(shared, 2)
    ]
    adjusted = holm([pair.p_mcnemar for pair in pairs])
    return [replace(pair, p_adjusted=p) for pair, p in zip(pairs, adjusted, strict=True)]


def _points(share: float) -> str:
    # Adding 0 turns -0.0 into 0.0.
    return f"{round(100 * share, 1) + 0.0:g}"


def _counted(number: str, noun: str) -> str:
    return f"{number} {noun}" if number.lstrip("-") == "1" else f"{number} {noun}s"


def sentence(pair: Pair, title_a: str, title_b: str, where: str) -> str:
    """A comparison in words. One model is called better when the interval of the difference excludes 0.

    Args:
        title_a, title_b: the models' names for readers.
        where: what the films are, to follow "on", for instance "unseen films".
    """
    gap = pair.difference
    if gap.high < 0:
        title_a, title_b = title_b, title_a
        gap = Estimate(-gap.value, -gap.high, -gap.low)
    points = f"{_counted(_points(gap.value), 'point')} of accuracy"
    interval = f"95 % {_points(gap.low)} to {_points(gap.high)}"
    if gap.low > 0:
        said = f"{title_a} is better than {title_b} on {where} by {points} ({interval})."
        if pair.p_adjusted is not None and pair.p_adjusted >= _LEVEL:
            said += " Among so many comparisons one like this may come by chance."
        return said
    said = f"{title_a} and {title_b} cannot be told apart on {where} (difference {points}, {interval})"
    if pair.films_to_settle is None:
        return f"{said}."
    more = pair.films_to_settle - pair.films
    rounded = round(more, 1 - int(log10(more)))
    return f"{said}; about {_counted(f'{rounded:,}', 'more film')} would settle it."
