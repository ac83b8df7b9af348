"""The shortcut lab: changes to a film that should, or should not, change what a network says of it.

A network that learnt a shortcut (DeGrave et al. 2021, Nature Machine Intelligence 3) still answers when the lungs are
gone, and changes its mind over a letter in a corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrmodels.engine import Engine
from cxrmodels.explain.changes import CHANGES, TEXT, changed, possible
from cxrmodels.explain.steps import Steps
from cxrmodels.inference import Prediction, predict
from cxrmodels.radiograph import Radiograph

MOVED = 0.25
"""A probability that changes by this much over something beside the disease is a sign of a shortcut."""
KEPT = 0.5
"""A finding still held with this probability although the lungs are gone is one, too."""

_MARKS = ("no_corners", "marker", "text")
"""Changes that leave the lungs alone and put in, or take out, marks."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a model said of a finding, probability 0-1, before a change and after it, and what it then decided."""

    change: str
    before: float
    after: float
    decision: str


def trials(
    engine: Engine, radiograph: Radiograph, prediction: Prediction, finding: str, lungs: np.ndarray | None = None
) -> Steps[tuple[Trial, ...]]:
    """Steps to what a model says of a film after each change that is possible.

    Args:
        prediction: what it said before.
        finding: one of the model's findings.
        lungs: bool (H, W), both lungs; without them the changes that need them are left out.
    """
    place, keys = prediction.findings.index(finding), possible(lungs)
    found = []
    for number, key in enumerate(keys, start=1):
        after, _ = predict(engine, changed(radiograph, key, lungs))
        found.append(
            Trial(key, float(prediction.probabilities[place]), float(after.probabilities[place]), after.decision)
        )
        yield number / len(keys)
    return tuple(found)


def signs(found: Sequence[Trial], finding: str) -> tuple[str, ...]:
    """Signs of shortcuts, a sentence each; none where there is none.

    A mark that moves the probability by `MOVED` is one. So is a finding other than normal that is held with `KEPT` or
    more although the lungs are gone: that nothing is there, a network may say of a film with nothing on it.
    """
    said = []
    for trial in found:
        change = CHANGES[trial.change]
        moved = f"from {trial.before:.2f} to {trial.after:.2f}"
        if trial.change in _MARKS and abs(trial.after - trial.before) >= MOVED:
            said.append(f"{_NAMES[trial.change]} moves it {moved}.")
        if change.takes_evidence and finding != "normal" and min(trial.before, trial.after) >= KEPT:
            said.append(f"{_NAMES[trial.change]}, it still says {trial.after:.2f} (before: {trial.before:.2f}).")
    return tuple(said)


_NAMES = {
    "no_corners": "Hiding the corners, where markers stand,",
    "marker": "A marker, an R pasted in,",
    "text": f'The word "{TEXT}" written in',
    "no_lungs": "With the lungs painted black",
    "border_only": "Of the border alone",
}
