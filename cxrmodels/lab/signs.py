"""What the curves say, in plain words: over- and underfitting, a learning rate too high, one answer for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from cxrmodels.lab.events import EpochEnd

_RUN = 3
"""Epochs in a row that make a trend: two happen by chance."""
_FLAT = 0.02
_JUMP = 2.0


class Kind(StrEnum):
    """What a sign is of."""

    DIVERGED = "diverged"
    RATE_TOO_HIGH = "learning rate too high"
    ONE_ANSWER = "one answer for all"
    UNDERFITTING = "underfitting"
    OVERFITTING = "overfitting"
    VALIDATION_BETTER = "validation better than training"


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign: since which epoch it has been there, what is seen, and what to try, a sentence or two each."""

    kind: Kind
    epoch: int
    seen: str
    advice: str


def signs(epochs: Sequence[EpochEnd], losses: Sequence[float] = ()) -> tuple[Sign, ...]:
    """What holds after the last epoch, the most telling first.

    Args:
        epochs: all so far, in order.
        losses: of every step so far, in order.
    """
    if not_a_number := _diverged(epochs, losses):
        return (not_a_number,)
    found = (_jumps(losses, epochs), _one_answer(epochs), _underfits(epochs), _overfits(epochs), _easier(epochs))
    return tuple(sign for sign in found if sign is not None)


def _diverged(epochs: Sequence[EpochEnd], losses: Sequence[float]) -> Sign | None:
    numbers = [*losses, *(loss for ended in epochs for loss in (ended.training_loss, ended.validation_loss))]
    if all(map(math.isfinite, numbers)):
        return None
    first = next(
        (ended.epoch for ended in epochs if not math.isfinite(ended.training_loss + ended.validation_loss)),
        len(epochs) + 1,
    )
    return Sign(
        Kind.DIVERGED,
        first,
        "The loss is no longer a number: the weights have run away, and no further step brings them back.",
        "Start again with a learning rate ten times lower.",
    )


def _jumps(losses: Sequence[float], epochs: Sequence[EpochEnd]) -> Sign | None:
    """Whole stretches of the training loss, not single batches, at twice what it had come down to."""
    stretch = max(5, len(losses) // 40)
    if len(losses) < 4 * stretch:
        return None
    means = np.array(losses[: len(losses) // stretch * stretch]).reshape(-1, stretch).mean(1)
    lowest = np.minimum.accumulate(means)
    # Near nought twice is nothing: a tenth of a nat is what any batch may differ by.
    late = np.flatnonzero(means[1:] > _JUMP * lowest[:-1] + 0.1) + 1
    if not len(late) or late[-1] < len(means) - max(2, len(means) // 4):
        return None
    return Sign(
        Kind.RATE_TOO_HIGH,
        len(epochs),
        f"The training loss jumped from {lowest[late[-1] - 1]:.2f} up to {means[late[-1]]:.2f} instead of falling.",
        "Lower the learning rate to a third or a tenth; it can be done while it runs.",
    )


def _one_answer(epochs: Sequence[EpochEnd]) -> Sign | None:
    if not epochs:
        return None

    def only_one(ended: EpochEnd) -> bool:
        called = np.array(ended.confusion).sum(0)
        return bool(np.count_nonzero(called) == 1)

    since = _since([only_one(ended) for ended in epochs])
    if since is None:
        return None
    share = epochs[-1].validation_accuracy
    return Sign(
        Kind.ONE_ANSWER,
        epochs[since].epoch,
        f"Every validation film gets the same answer: an accuracy of {share:.0%} is just the share of that class.",
        "Give it a few more epochs; if it stays, change the learning rate, or turn class weights on.",
    )


def _underfits(epochs: Sequence[EpochEnd]) -> Sign | None:
    """Both losses near that of guessing, and going nowhere."""
    if len(epochs) <= _RUN:
        return None
    classes = len(epochs[-1].confusion)
    recent = epochs[-_RUN - 1 :]
    high = 0.85 * math.log(classes)
    if any(ended.training_loss < high or ended.validation_loss < high for ended in recent):
        return None
    if recent[0].training_loss - min(ended.training_loss for ended in recent[1:]) > _FLAT * recent[0].training_loss:
        return None
    return Sign(
        Kind.UNDERFITTING,
        recent[0].epoch,
        f"Both losses stay high ({recent[-1].training_loss:.2f} and {recent[-1].validation_loss:.2f}; pure guessing "
        f"among {classes} classes gives {math.log(classes):.2f}): it does not learn what tells the classes apart.",
        "Try a higher learning rate, a larger network, larger films or less augmentation; or the labels say nothing.",
    )


def _overfits(epochs: Sequence[EpochEnd]) -> Sign | None:
    """Training loss falls and validation loss rises, epoch by epoch, or the gap that this left is still there."""
    run = 0
    begun: int | None = None
    for position, (before, after) in enumerate(pairwise(epochs), start=1):
        parting = after.training_loss < before.training_loss and after.validation_loss > before.validation_loss
        run = run + 1 if parting else 0
        if run >= _RUN and begun is None:
            begun = position - run
    if begun is None or epochs[-1].validation_loss <= epochs[begun].validation_loss:
        return None
    best = min(epochs, key=lambda ended: ended.validation_loss)
    return Sign(
        Kind.OVERFITTING,
        epochs[begun].epoch,
        f"The training loss falls while the validation loss rises: from epoch {epochs[begun].epoch} on it learns these "
        f"films by heart. The validation loss was least after epoch {best.epoch}.",
        "Stop there, take more films, more augmentation, more dropout or a smaller network.",
    )


def _easier(epochs: Sequence[EpochEnd]) -> Sign | None:
    better = [
        ended.validation_loss < ended.training_loss and ended.validation_accuracy > ended.training_accuracy
        for ended in epochs
    ]
    since = _since(better)
    if since is None or len(epochs) - since < _RUN:
        return None
    return Sign(
        Kind.VALIDATION_BETTER,
        epochs[since].epoch,
        "It does better on films it has not learnt from. Dropout and augmentation make training films harder, which "
        "explains a small gap; a large one means that the validation films are easy, few, or not new to it.",
        "Look whether patients stand on both sides, and whether there are enough validation films.",
    )


def _since(held: Sequence[bool]) -> int | None:
    """From which position on it has held to the end; None where it does not hold now."""
    if not held or not held[-1]:
        return None
    return max((position + 1 for position, one in enumerate(held) if not one), default=0)
