"""Several models' predictions of one film: where they agree, and what they answer together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.gate import Gate
from cxrmodels.inference import Prediction

_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def call(prediction: Prediction) -> str:
    """The question all models can answer: `covid19`, `other` (anything but COVID-19) or `not sure`."""
    if prediction.decision == NOT_SURE:
        return NOT_SURE
    return "covid19" if prediction.decision == "covid19" else "other"


QUORUM = 0.5
"""The share of the networks that have to be sure for an answer of all."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What several models answer together: is it COVID-19?

    Attributes:
        answer: `covid19` or `other` where at least half of them are sure of it and none is sure of the opposite,
            otherwise `not sure`.
        why: why they are not sure, in a sentence; empty where they are, or where `agreement` shows it: they disagree,
            or there is only one.
        mean, spread: mean and standard deviation of P(COVID-19) over the models, 0-1.
        low, high: the least and the greatest of them.
    """

    answer: str
    why: str
    mean: float
    spread: float
    low: float
    high: float


def together(calls: Sequence[str]) -> str:
    """What several models answer together, from what each calls a film: `covid19` or `other` where there are two or
    more, at least half of them are sure of it and none of the opposite, otherwise `not sure`."""
    sides = {side: calls.count(side) for side in ("covid19", "other")}
    leading = max(sides, key=sides.__getitem__)
    sure = len(calls) > 1 and not min(sides.values()) and sides[leading] >= QUORUM * len(calls)
    return leading if sure else NOT_SURE


def judge(predictions: Sequence[Prediction], gate: Gate | None = None) -> Verdict:
    """What several models answer together.

    Args:
        predictions: of one film, at least one, all of models that know COVID-19.
        gate: what it says of the film. A film that it refuses gets no answer, however much the models agree.

    Raises:
        ValueError: there is no prediction, or one without COVID-19.
    """
    asked = [p for one in predictions if (p := one.probability("covid19")) is not None]
    if not asked or len(asked) < len(predictions):
        raise ValueError(
            f"{len(asked)} of {len(predictions)} predictions have a probability of COVID-19; expected at least one, "
            "and all. Leave out the models that do not answer it."
        )
    calls = [call(one) for one in predictions]
    answer, why = together(calls), ""
    if gate is not None and not gate.passed:
        answer, why = NOT_SURE, f"This film was refused: {gate.reason}"
    elif answer == NOT_SURE and len(calls) > 1 and not {"covid19", "other"} <= set(calls):
        why = "Fewer than half of them are sure."
    return Verdict(answer, why, float(np.mean(asked)), float(np.std(asked)), min(asked), max(asked))


def common_finding(predictions: Sequence[Prediction]) -> str | None:
    """The finding that most of the models call likeliest, among those that at least two of them answer: what their heat
    maps can be compared for. None where no two answer the same."""
    able = Counter(finding for one in predictions for finding in one.findings)
    named = Counter(one.findings[one.top] for one in predictions)
    shared = [finding for finding, count in able.items() if count > 1]
    return max(shared, key=named.__getitem__) if shared else None


def _names(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def _say(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def agreement(titles: Sequence[str], predictions: Sequence[Prediction], gate: Gate | None = None) -> str:
    """Where the models agree on COVID-19 and where not, in one or two sentences.

    Args:
        titles: the models' names, in the order of `predictions`.
        gate: what it says of the film. A film that it refuses gets no answer, however much the models agree.
    """
    if gate is not None and not gate.passed:
        return "Not sure: this film was refused, so what the networks say of it means nothing."
    if not predictions:
        return "No network has answered."
    return _sentence(titles, predictions)


def _sentence(titles: Sequence[str], predictions: Sequence[Prediction]) -> str:
    sides: dict[str, list[str]] = {"covid19": [], "other": [], NOT_SURE: []}
    for title, prediction in zip(titles, predictions, strict=True):
        sides[call(prediction)].append(title)
    words = {"covid19": "COVID-19", "other": "not COVID-19"}
    total = len(predictions)
    unsure = sides[NOT_SURE]
    doubt = f" {_names(unsure)} {'is' if len(unsure) == 1 else 'are'} not sure." if unsure else ""
    if len(unsure) == total:
        return "No network is sure." if total > 1 else f"{titles[0]} is not sure."
    leading, trailing = sorted(("covid19", "other"), key=lambda side: -len(sides[side]))
    if total == 1:
        return f"{titles[0]} says {words[leading]}. One network alone shows no agreement."
    if not sides[trailing]:
        if not unsure:
            everyone = "Both" if total == 2 else f"All {_say(total).lower()}"
            return f"{everyone} networks say {words[leading]}."
        verb = "says" if len(sides[leading]) == 1 else "say"
        return f"{_say(len(sides[leading]))} of {_say(total).lower()} networks {verb} {words[leading]}.{doubt}"
    verb = "says" if len(sides[leading]) == 1 else "say"
    other = "says" if len(sides[trailing]) == 1 else "say"
    return (
        f"The networks disagree: {_say(len(sides[leading])).lower()} of {_say(total).lower()} {verb} {words[leading]}, "
        f"{_names(sides[trailing])} {other} {words[trailing]}.{doubt}"
    )
