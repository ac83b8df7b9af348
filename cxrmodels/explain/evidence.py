"""Where the evidence of a heat map lies: inside the lungs or not, in which of them, in how much of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxrmodels.radiograph import resize

AFFECTED = 0.5
"""A place of a lung counts as affected where the heat is at least this share of its greatest value."""

ONE_SIDED = 0.75
"""From this share of the evidence inside the lungs on, one lung is called the side."""

_LEAST_COMPONENT = 0.05  # of the mask: smaller specks are no lung


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a heat map's evidence lies. Right and left are the patient's: their right is on the left of the picture.

    Attributes:
        inside: share of all evidence that lies inside the lungs, 0-1; 0 for an empty map.
        lung_share: share of the film that is lung: what a map that knows nothing would have inside.
        right, left: shares of all evidence in either lung; they add up to `inside`.
        affected_right, affected_left: share of each lung that is affected (see `AFFECTED`).
        side: "right", "left", "both", or "neither" where there is no evidence inside.
    """

    inside: float
    lung_share: float
    right: float
    left: float
    affected_right: float
    affected_left: float
    side: str


def sides(lungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mask of both lungs, bool (H, W), as the patient's right lung and left lung.

    Each separate part belongs to the side of the middle that its own middle is on; a mask in one piece is cut in the
    middle.

    Raises:
        ValueError: the mask is empty, or not of this kind.
    """
    # Imported here: it takes half a second, which the first paint of a page need not wait for.
    from scipy.ndimage import label

    if lungs.ndim != 2 or lungs.dtype != bool or not lungs.any():
        raise ValueError(
            f"Expected a mask of the lungs, bool (H, W), with something in it; got {lungs.dtype} {lungs.shape}, "
            f"{int(lungs.sum())} set. Go without a mask where no lungs were found."
        )
    columns = np.flatnonzero(lungs.any(0))
    middle = (columns[0] + columns[-1]) / 2
    parts, count = label(lungs)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    of_columns = np.arange(lungs.shape[1])
    if (sizes > _LEAST_COMPONENT * lungs.sum()).sum() < 2:
        right = lungs & (of_columns < middle)
    else:
        centres = np.bincount(parts.ravel(), np.tile(of_columns, lungs.shape[0]), count + 1) / np.maximum(sizes, 1)
        right = lungs & (centres < middle)[parts]
    return right, lungs & ~right


def sides_at(lungs: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """`sides`, of the mask brought to another size."""
    if lungs.dtype == bool and lungs.ndim == 2 and lungs.shape != (height, width):
        lungs = resize(lungs.astype(np.float32), width, height) >= 0.5
    return sides(lungs)


def evidence(heat: np.ndarray, lungs: np.ndarray) -> Evidence:
    """Where the evidence lies.

    Args:
        heat: float (h, w), 0-1.
        lungs: bool (H, W), both lungs of the same film, at whatever size.

    Raises:
        ValueError: the mask is empty, or not of this kind.
    """
    return evidence_between(heat, *sides_at(lungs, *heat.shape))


def evidence_between(heat: np.ndarray, right: np.ndarray, left: np.ndarray) -> Evidence:
    """The same where it is known which lung is which, as for many maps of one film.

    Args:
        heat: float (h, w), 0-1.
        right, left: bool (h, w), from `sides_at`.
    """
    total = float(heat.sum())
    of_right, of_left = (float(heat[side].sum()) / total if total else 0.0 for side in (right, left))
    hot = heat >= AFFECTED * heat.max() if total else np.zeros(heat.shape, bool)
    inside = of_right + of_left
    if not inside:
        side = "neither"
    elif max(of_right, of_left) >= ONE_SIDED * inside:
        side = "right" if of_right > of_left else "left"
    else:
        side = "both"
    shares = [float(hot[lung].mean()) if lung.any() else 0.0 for lung in (right, left)]
    lung_share = float(right.mean() + left.mean())
    return Evidence(inside, lung_share, of_right, of_left, shares[0], shares[1], side)


NO_DISEASE = frozenset({"normal", "non_covid19"})
"""Findings whose evidence affects no lung."""


def in_words(found: Evidence, finding: str = "") -> str:
    """One or two sentences for a reader.

    Args:
        finding: what the map is of, where that is known: of `normal` no lung is called affected.
    """
    inside, of_film = f"{100 * found.inside:.0f} %", f"{100 * found.lung_share:.0f} %"
    said = f"{inside} of the evidence lies inside the lungs, which take {of_film} of the film"
    if found.side == "neither":
        return f"{said}."
    where = "in both lungs" if found.side == "both" else f"mostly in the patient's {found.side} lung"
    picture = {"right": " (left in the picture)", "left": " (right in the picture)", "both": ""}[found.side]
    affected = "Strong evidence in" if finding in NO_DISEASE else "Affected:"
    return (
        f"{said}; {where}{picture}. {affected} {100 * found.affected_right:.0f} % of the right lung, "
        f"{100 * found.affected_left:.0f} % of the left."
    )
