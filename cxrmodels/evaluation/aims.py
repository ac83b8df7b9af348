"""What each model was to reach, and what was tried where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_SEEN, _UNSEEN = "test films of seen sources", "films of unseen sources"


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure that was set before the model learnt.

    Attributes:
        what: the figure, for a reader.
        group, metric: names of an entry of the card and of one of its figures.
        least: what it was to reach, 0-1.
        tried: what was tried and what that gave, in sentences, where it is not reached.
    """

    what: str
    group: str
    metric: str
    least: float
    tried: str = ""


_CHILDREN = (
    "Many of those lost are normal films of children: they are told less often among the films that the collection "
    "itself keeps for testing than among the validation films. "
)

AIMS: dict[str, tuple[Aim, ...]] = {
    "two_conv_cnn": (Aim("Accuracy, COVID-19 or normal", _SEEN, "accuracy", 0.95),),
    "mobilenet_v3": (
        Aim(
            "Accuracy, four findings",
            _SEEN,
            "accuracy",
            0.92,
            _CHILDREN
            + "41 epochs on films made to look like other hospitals' gave 87.9 %, 21 with little augmentation "
            "88.2 %. These went by how near a film is taken: shown a quarter larger, half of the children's normal "
            "validation films were called viral. 60 epochs on films that show more or less of the body, too, and "
            "biases fitted on validation films, gave this.",
        ),
    ),
    "vgg16": (
        Aim(
            "Accuracy, COVID-19 or normal",
            _SEEN,
            "accuracy",
            0.97,
            _CHILDREN + "Four epochs at 128 px gave 85.9 %, 40 at 160 px on films made to look like other hospitals' "
            "95.2 %; 50 that show more or less of the body, too, and biases fitted on validation films, this.",
        ),
        Aim("Sensitivity, COVID-19 or normal", _SEEN, "sensitivity_covid19", 0.95),
    ),
    "resnet50": (Aim("Accuracy, COVID-19 or not", _SEEN, "accuracy", 0.97),),
    "lung_aware": (
        Aim("Accuracy, four findings", _SEEN, "accuracy", 0.90),
        Aim("AUC, COVID-19 against normal", _SEEN, "auc_covid19_normal", 0.97),
        Aim("The same in hospitals it has never seen", _UNSEEN, "auc_covid19_normal", 0.97),
        Aim("The same, learnt without shenzhen", "trained without shenzhen", "auc_covid19_normal", 0.90),
        Aim(
            "The same, learnt without ieee8023",
            "trained without ieee8023",
            "auc_covid19_normal",
            0.90,
            "A residual network from fresh weights had 0.867; films that show more or less of the body gave 0.847, "
            "and without shenzhen 0.922. Only 51 normal films stand against 323 of COVID-19 there: the interval is "
            "wide.",
        ),
    ),
    "lungs": (
        Aim(
            "Dice, adults of a hospital it has never seen",
            "montgomery",
            "dice",
            0.95,
            "One mask for both ways of drawing lungs, from fresh weights, gave 0.913; two masks, with nothing told of "
            "where adults' lungs end behind the heart, 0.943. Four more epochs with less augmentation gave nothing on "
            "validation films; 24 epochs with averaged weights 0.001 there and 0.948 here. Films of shenzhen that it "
            "has learnt from have 0.957.",
        ),
        Aim("Dice, children, learnt without any", "kermany, by a network that had not seen it", "dice", 0.93),
    ),
}
"""Model key -> its aims."""


def outcomes(key: str, groups: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """A model's aims with what it reaches, as a card keeps them.

    Args:
        groups: the card's entries, each with `name` and `metrics`.

    Returns:
        One entry an aim: its fields, `value`, `low` and `high` as the card has them, and `reached`. None for an aim
        whose figure the card lacks.
    """
    known = {group["name"]: group["metrics"] for group in groups}
    found = []
    for aim in AIMS.get(key, ()):
        figure = known.get(aim.group, {}).get(aim.metric)
        if figure is not None:
            found.append({**asdict(aim), **figure, "reached": figure["value"] >= aim.least})
    return tuple(found)
