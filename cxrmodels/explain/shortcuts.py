"""The shortcut lab: changes to a film that should, or should not, change what a network says of it.

A network that learnt a shortcut (DeGrave et al. 2021, Nature Machine Intelligence 3) still answers when the lungs are
gone, and changes its mind over a letter in a corner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cxrmodels.datasets.manifest import Film
from cxrmodels.engine import Engine
from cxrmodels.explain.changes import CHANGES, TEXT, changed, possible
from cxrmodels.explain.steps import Steps
from cxrmodels.findings import index_of
from cxrmodels.inference import Prediction, network_input, predict
from cxrmodels.radiograph import Radiograph

Lungs = Callable[[Radiograph], np.ndarray | None]
"""Finds the lungs of a film: bool (H, W) of both, or None where it finds none."""

MOVED = 0.25
"""A probability that changes by this much over something beside the disease is a sign of a shortcut."""
KEPT = 0.5
"""A finding still held with this probability although the lungs are gone is one, too."""

_UNCHANGED = ""

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


@dataclass(frozen=True, slots=True)
class Survival:
    """How much of a model's accuracy survives a change, on the N films on which the change could be made.

    `chance` is the accuracy of always naming the finding that is commonest among them.
    """

    model: str
    change: str
    films: int
    before: float
    after: float
    chance: float

    @property
    def survives(self) -> float:
        """Share of what the model knows beyond chance that is left: 1 all, 0 nothing, below 0 worse than chance; 0
        where it knew nothing."""
        known = self.before - self.chance
        return (self.after - self.chance) / known if known > 0 else 0.0


def drawn(films: Sequence[Film], findings: Sequence[str], count: int, seed: int = 0) -> list[tuple[Film, int]]:
    """At most `count` films that a model can answer, of every finding equally many where there are
    enough, those with a lung mask first.

    Returns:
        Each with the position of its right answer among the model's `findings`.
    """
    rng = np.random.default_rng(seed)
    able: dict[int, list[Film]] = {}
    for film in films:
        place = index_of(film.finding, findings)
        if place is not None:
            able.setdefault(place, []).append(film)
    if not able:
        return []
    each = max(1, count // len(able))
    chosen = []
    for place, of_place in sorted(able.items()):
        order = sorted(rng.permutation(len(of_place)), key=lambda number: of_place[number].mask_path is None)
        chosen += [(of_place[number], place) for number in order[:each]]
    return chosen


def survival(
    engine: Engine,
    films: Sequence[tuple[Radiograph, int]],
    lungs: Lungs,
    report: Callable[[int], object] = lambda done: None,
    batch: int = 32,
) -> tuple[Survival, ...]:
    """How much of a model's accuracy survives each change.

    Args:
        films: each with the position of its right answer among the model's findings.
        lungs: finds the lungs of a film.
        report: called with the number of films that are done.

    Returns:
        One entry a change; none for a change that could be made on no film.
    """
    model = engine.loaded.spec
    right: dict[str, dict[int, bool]] = {key: {} for key in (_UNCHANGED, *CHANGES)}
    waiting: list[tuple[int, str, np.ndarray]] = []

    def answer() -> None:
        named = engine.run(np.stack([shown for _, _, shown in waiting])).logits.argmax(1)
        for (place, key, _), name in zip(waiting, named, strict=True):
            right[key][place] = bool(name == films[place][1])
        waiting.clear()

    for place, (film, _) in enumerate(films):
        mask = lungs(film)
        waiting.append((place, _UNCHANGED, network_input(film, model)))
        waiting += [(place, key, network_input(changed(film, key, mask), model)) for key in possible(mask)]
        if len(waiting) >= batch or place + 1 == len(films):
            answer()
        report(place + 1)
    labels = np.array([label for _, label in films])
    unchanged = right.pop(_UNCHANGED)
    return tuple(
        Survival(
            model.key,
            key,
            len(answers),
            float(np.mean([unchanged[place] for place in answers])),
            float(np.mean(list(answers.values()))),
            float(np.bincount(labels[list(answers)]).max() / len(answers)),
        )
        for key, answers in right.items()
        if answers
    )
