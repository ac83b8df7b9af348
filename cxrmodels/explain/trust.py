"""One badge for a heat map, from checks whose rules stand here and, for readers, in docs/trust.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrmodels.explain.evidence import Evidence, in_words
from cxrmodels.explain.faithfulness import Curves, Shuffled, Stability

HOLDS_UP, WEAK, DO_NOT_TRUST = "holds up", "weak", "do not trust"

LUNGS = "Lungs"
"""Name of the check that needs to know where the lungs are."""

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"

GAIN = 0.05
"""What a good map gains over random ones, in areas under its curves; nothing, or less, is bad."""
STABLE, UNSTABLE = 0.8, 0.5
"""Mean rank correlation under small changes: good from the first on, bad below the second."""
FORGETS, REMEMBERS = 0.5, 0.75
"""Rank correlation with the map of the network all shuffled: good below the first, bad from the second on."""
INSIDE, OUTSIDE = 0.5, 0.3
"""Share of the evidence inside the lungs: good from the first on; bad below the second, or below what a map that knows
nothing would have."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found: its name, `GOOD`, `DOUBTFUL` or `BAD`, and why in a sentence."""

    title: str
    grade: str
    says: str


@dataclass(frozen=True, slots=True)
class Badge:
    """`HOLDS_UP` where every check is good, `DO_NOT_TRUST` where one is bad, otherwise `WEAK`."""

    word: str
    checks: tuple[Check, ...]


def _between(value: float, good: float, bad: float) -> str:
    """Where more is better."""
    return GOOD if value >= good else BAD if value < bad else DOUBTFUL


def check_covering(curves: Curves) -> Check:
    grade = BAD if curves.gain <= 0 else GOOD if curves.gain >= GAIN and curves.beats_all else DOUBTFUL
    return Check("Covering", grade, f"{curves.sentence()} Over all steps it gains {curves.gain:+.2f} on random maps.")


def check_stability(found: Sequence[Stability]) -> Check:
    mean = float(np.mean([one.likeness.rank for one in found]))
    least = min(found, key=lambda one: one.likeness.rank)
    says = f"Under small changes it stays alike to {mean:.2f} (least, {least.change}: {least.likeness.rank:.2f})."
    return Check("Small changes", _between(mean, STABLE, UNSTABLE), says)


def check_shuffled(found: Sequence[Shuffled]) -> Check:
    rank = found[-1].likeness.rank
    says = f"With all weights shuffled the map is alike to {rank:.2f}: " + (
        "it depends on what the network learnt." if rank < FORGETS else "it hardly depends on what the network learnt."
    )
    return Check("Shuffled weights", _between(-rank, np.nextafter(-FORGETS, 0), np.nextafter(-REMEMBERS, 0)), says)


def check_lungs(found: Evidence) -> Check:
    grade = _between(found.inside, INSIDE, max(OUTSIDE, found.lung_share))
    return Check(LUNGS, grade, in_words(found))


def check_shortcuts(signs: Sequence[str]) -> Check:
    return Check(
        "Shortcuts", BAD if signs else GOOD, " ".join(signs) or "No mark moves the answer, and it needs lungs."
    )


def judge(checks: Sequence[Check]) -> Badge:
    """The badge over what was checked.

    Raises:
        ValueError: nothing was checked.
    """
    if not checks:
        raise ValueError("Nothing was checked; a badge needs at least one check.")
    grades = {check.grade for check in checks}
    word = DO_NOT_TRUST if BAD in grades else WEAK if DOUBTFUL in grades else HOLDS_UP
    return Badge(word, tuple(checks))
