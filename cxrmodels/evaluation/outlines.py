"""How well lungs are outlined: the Dice coefficient of every film, stored, and what a card says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cxrmodels.evaluation.metrics import bootstrap_weights, estimate
from cxrmodels.evaluation.packed import csv_text, read_rows, write_packed

DICE_FILE = "dice.csv.gz"


@dataclass(frozen=True, slots=True)
class Overlap:
    """The Dice coefficient of one film, 0-1. `left_out` names the source that the network had not learnt from, though
    the shipped one has; empty for the shipped one."""

    image_id: str
    source: str
    split: str
    group_id: str
    age_group: str
    left_out: str
    dice: float


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Dice coefficient (Dice 1945) of two bool arrays of one shape: twice what they share, over the sum of their sizes;
    0-1, and 1 where both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else 1.0


def write_overlaps(overlaps: Sequence[Overlap], path: Path) -> None:
    """Write them as compressed CSV; equal ones give equal bytes."""
    rows = (astuple(one) for one in sorted(overlaps, key=lambda one: (one.left_out, one.image_id)))
    header = [field.name for field in fields(Overlap)]
    write_packed(csv_text(header, ([*words, f"{value:.4f}"] for *words, value in rows)), path)


def read_overlaps(path: Path) -> list[Overlap]:
    """Read what `write_overlaps` wrote.

    Raises:
        OSError: it cannot be read, or is damaged.
        ValueError: it is not such a file.
    """
    rows = read_rows(path, [field.name for field in fields(Overlap)], "Dice coefficients")
    return [Overlap(**{**row, "dice": float(row["dice"])}) for row in rows]  # type: ignore[arg-type]


def summarise_overlaps(overlaps: Sequence[Overlap]) -> tuple[dict[str, Any], ...]:
    """One entry a source and network: mean Dice with its 95 % interval by bootstrap over patients."""
    found = []
    for left_out, source in sorted({(one.left_out, one.source) for one in overlaps}):
        members = [one for one in overlaps if (one.left_out, one.source) == (left_out, source)]
        weights = bootstrap_weights(np.array([one.group_id for one in members]))
        values = weights @ np.array([one.dice for one in members]) / weights.sum(1)
        measured = estimate(values)
        assert measured is not None
        seen = not left_out and any(one.split != "external" for one in members)
        name = f"{source}, by a network that had not seen it" if left_out else source
        found.append(
            {
                "name": name,
                "seen": seen,
                "films": len(members),
                "age_groups": sorted({one.age_group for one in members}),
                "metrics": {"dice": {key: round(value, 4) for key, value in asdict(measured).items()}},
            }
        )
    return tuple(found)
