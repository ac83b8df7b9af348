"""Is this a frontal chest radiograph, upright, not inverted? What is not is refused, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cxrmodels.zoo import weights_folder

if TYPE_CHECKING:
    from cxrmodels.radiograph import Radiograph

KEY = "gate"
"""Name of the gate's folder among the weights."""

PASSED, REFUSED, SYNTHETIC, UNAVAILABLE = "passed", "refused", "synthetic", "unavailable"


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate says of a film.

    Attributes:
        state: `passed`, `refused`; `synthetic` for a film that this program drew, `unavailable` where the gate itself
            is missing: neither is judged.
        reason: in plain words, why it was refused or not judged; empty when it passed.
        notes: what is wrong with a film without being a reason to refuse it, each a sentence.
        measures: name -> what was measured on it; empty when it was not judged.
    """

    state: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the film: also where it was not judged."""
        return self.state != REFUSED

    @property
    def cell(self) -> str:
        """For a column of a table: `pass`, `refused: REASON`, or `not judged: REASON`."""
        if self.state == PASSED:
            return "pass"
        return f"{'refused' if self.state == REFUSED else 'not judged'}: {self.reason}"


def judge(radiograph: Radiograph) -> Gate:
    """Whether the networks can say anything of a film. Without its files it says so, and judges nothing."""
    if radiograph.synthetic:
        return Gate(SYNTHETIC, "this program drew it.")
    return Gate(
        UNAVAILABLE, f"the weights folder {weights_folder().name} holds no {KEY}. Restore it from the repository."
    )
