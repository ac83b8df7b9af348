"""Several models' predictions of one film, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.gate import Gate
from cxrmodels.inference import Prediction

_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def call(prediction: Prediction) -> str:
    """The question all models can answer: `covid19`, `other` (anything but COVID-19) or `not sure`."""
    if prediction.decision == NOT_SURE:
        return NOT_SURE
    return "covid19" if prediction.decision == "covid19" else "other"


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
