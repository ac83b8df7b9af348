"""Signs read from the curves: each appears where it should and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from cxrmodels.lab.events import EpochEnd
from cxrmodels.lab.signs import Kind, signs

EVEN = ((8, 2), (2, 8))
ONE = ((10, 0), (10, 0))


def curve(
    training: Sequence[float],
    validation: Sequence[float],
    *,
    accuracies: tuple[float, float] = (0.9, 0.8),
    confusion: tuple[tuple[int, ...], ...] = EVEN,
) -> list[EpochEnd]:
    return [
        EpochEnd(epoch, epoch * 10, one, accuracies[0], two, accuracies[1], confusion, (0.8, 0.8), (0.8, 0.8), 1, 1, 1)
        for epoch, (one, two) in enumerate(zip(training, validation, strict=True), start=1)
    ]


def falling(start: float, end: float, count: int) -> list[float]:
    return np.linspace(start, end, count).tolist()


NAN = float("nan")
CASES: dict[str, tuple[list[EpochEnd], list[float], dict[Kind, int]]] = {
    # Epochs, losses of the steps, and the signs with the epoch each is there since.
    "nothing yet": ([], [], {}),
    "a good run": (curve(falling(0.6, 0.1, 8), falling(0.62, 0.2, 8)), falling(0.7, 0.1, 80), {}),
    "overfitting": (
        curve([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [0.6, 0.5, 0.45, 0.5, 0.6, 0.7]),
        [],
        {Kind.OVERFITTING: 3},
    ),
    "two epochs make no trend": (curve([0.6, 0.5, 0.4, 0.3, 0.2], [0.6, 0.5, 0.45, 0.5, 0.6]), [], {}),
    "rising with interruptions": (curve([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [0.5, 0.52, 0.54, 0.5, 0.52, 0.54]), [], {}),
    "overfitting that stays": (
        curve([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [0.5, 0.55, 0.6, 0.7, 0.69, 0.7]),
        [],
        {Kind.OVERFITTING: 1},
    ),
    "overfitting that is over": (curve([0.6, 0.5, 0.4, 0.3, 0.2], [0.5, 0.55, 0.6, 0.7, 0.4]), [], {}),
    "both rise: that is no overfitting": (curve([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]), [], {}),
    "underfitting": (curve([0.7, 0.69, 0.69, 0.69, 0.69], [0.7, 0.7, 0.7, 0.7, 0.7]), [], {Kind.UNDERFITTING: 2}),
    "high but falling": (curve([0.9, 0.8, 0.75, 0.7, 0.65], [0.9, 0.85, 0.8, 0.75, 0.7]), [], {}),
    "flat but low": (curve([0.1, 0.1, 0.1, 0.1], [0.12, 0.12, 0.12, 0.12]), [], {}),
    "validation better": (
        curve([0.6, 0.5, 0.45, 0.4], [0.5, 0.4, 0.35, 0.3], accuracies=(0.7, 0.85)),
        [],
        {Kind.VALIDATION_BETTER: 1},
    ),
    "validation better for two epochs": (curve([0.6, 0.5], [0.5, 0.4], accuracies=(0.7, 0.85)), [], {}),
    "one answer": (curve([0.6, 0.55], [0.7, 0.65], accuracies=(0.5, 0.5), confusion=ONE), [], {Kind.ONE_ANSWER: 1}),
    "loss is no number": (curve([0.6, NAN], [0.6, NAN]), [], {Kind.DIVERGED: 2}),
    "validation loss infinite": (curve([0.6, 0.5], [0.6, math.inf]), [], {Kind.DIVERGED: 2}),
    "a step's loss is no number": (curve([0.6], [0.6]), [0.5, NAN], {Kind.DIVERGED: 2}),
    "rate too high": (
        curve([0.6, 0.5], [0.6, 0.5]),
        [*falling(0.7, 0.3, 60), *falling(2.5, 1.5, 20)],
        {Kind.RATE_TOO_HIGH: 2},
    ),
    "jumped long ago": (curve([0.6, 0.5], [0.6, 0.5]), [0.3] * 20 + [3.0] * 20 + [0.3] * 200, {}),
    "noisy steps": (curve([0.6, 0.5], [0.6, 0.5]), [0.1, 0.9] * 60, {}),
    "twice next to nothing": (curve([0.02, 0.01], [0.02, 0.01]), [0.01] * 60 + [0.05] * 20, {}),
    "too few steps": (curve([0.6], [0.6]), [0.1] * 8 + [3.0] * 4, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_signs(name: str) -> None:
    epochs, losses, expected = CASES[name]
    found = signs(epochs, losses)
    assert {sign.kind: sign.epoch for sign in found} == expected
    for sign in found:
        for sentence in (sign.seen, sign.advice):
            assert sentence[0].isupper()
            assert sentence.endswith(".")


def test_every_kind_is_tried() -> None:
    assert {kind for _, _, expected in CASES.values() for kind in expected} == set(Kind)
