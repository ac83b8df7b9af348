"""How good a film is: tilt, a turned patient, exposure, lungs cut off, things written on it. Measured, not judged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cxrmodels.preprocessing import believable
from cxrmodels.radiograph import resize

_SIDE = 320
_SMALLEST_MARK, _LARGEST_MARK = 3, 40
"""Height and width of a letter or marker, in pixels of a film of 320."""
_CLIPPED = 1 / 128
"""Greys so close to black or white show nothing any more."""


def measure(pixels: np.ndarray, lungs: np.ndarray) -> dict[str, float]:
    """What can be measured of a film's quality.

    Args:
        pixels: float32 (H, W), 0-1, air dark, as they came.
        lungs: bool (h, w), where the lungs are on the film squashed to that size.

    Returns:
        `lungs`, share of the film that they fill; `cut`, share of the film's edges that they touch; `tilt`, degrees by
        which the line from lung to lung slopes, positive with the clock; `balance`, the smaller lung's area over the
        larger's; `grey`, the lungs' median grey, 0-1; `range`, from the film's 2nd to its 98th percentile of greys;
        `clipped`, share of the lungs that is black or white; `marks`, how many small bright crisp things are on it.
        Without lungs that can be believed only `lungs`, `range` and `marks`.
    """
    height, width = pixels.shape
    scale = _SIDE / max(height, width)
    small = resize(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
    low, high = np.percentile(small, (2, 98))
    found = {"lungs": float(lungs.mean()), "range": float(high - low), "marks": float(_marks(small))}
    if not believable(lungs):
        return found
    edges = np.concatenate([lungs[0], lungs[-1], lungs[:, 0], lungs[:, -1]])
    inside = small[resize(lungs.astype(np.float32), small.shape[1], small.shape[0]) > 0.5]
    found |= {
        "cut": float(edges.mean()),
        "grey": float(np.median(inside)),
        "clipped": float(((inside < _CLIPPED) | (inside > 1 - _CLIPPED)).mean()),
    }
    return found | _sides(lungs, height / width)


def _sides(lungs: np.ndarray, aspect: float) -> dict[str, float]:
    """Tilt and balance of two lungs; nothing where there are not two."""
    from scipy.ndimage import center_of_mass, label

    spots, count = label(lungs)
    if count != 2:
        return {}
    (row1, column1), (row2, column2) = sorted(center_of_mass(lungs, spots, (1, 2)), key=lambda place: place[1])
    areas = np.bincount(spots.ravel())[1:]
    return {
        "tilt": float(np.degrees(np.arctan2(aspect * (row2 - row1), column2 - column1))),
        "balance": float(areas.min() / areas.max()),
    }


def _marks(film: np.ndarray) -> int:
    """How many bright things of a letter's size stand out crisply."""
    from scipy.ndimage import find_objects, label, uniform_filter

    spots, _ = label((film > 0.85 * film.max()) & (film - uniform_filter(film, 15) > 0.2))
    sizes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in find_objects(spots)]
    return sum(min(size) >= _SMALLEST_MARK and max(size) <= _LARGEST_MARK for size in sizes)


def notes(measured: Mapping[str, float], usual: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """What is unusual about a film, each a sentence with its number.

    Args:
        measured: what `measure` gave.
        usual: name -> the range that nearly all films keep to.
    """

    def below(name: str) -> bool:
        return name in measured and name in usual and measured[name] < usual[name][0]

    def above(name: str) -> bool:
        return name in measured and name in usual and measured[name] > usual[name][1]

    found = []
    if "grey" not in measured:
        found.append("No lungs were found on it; lungs that are white all over can be missed.")
    if below("tilt") or above("tilt"):
        found.append(f"Tilted by about {abs(measured['tilt']):.0f} degrees.")
    if below("balance"):
        found.append(
            f"One lung looks {measured['balance']:.0%} as large as the other: the patient may be turned, or part of a "
            "lung hidden."
        )
    if above("cut"):
        found.append(f"Lungs touch {measured['cut']:.0%} of the picture's edge: part of them may be cut off.")
    if above("grey"):
        found.append(f"Underexposed: the lungs' middle grey is {measured['grey']:.0%} of white.")
    if below("grey"):
        found.append(f"Overexposed: the lungs' middle grey is {measured['grey']:.0%} of white.")
    if below("range"):
        found.append(f"Little contrast: its greys span {measured['range']:.0%} of the range.")
    if above("clipped"):
        found.append(f"{measured['clipped']:.0%} of the lungs is pure black or white, and shows nothing.")
    if above("marks"):
        found.append(f"About {measured['marks']:.0f} letters or markers are on it; networks are known to read them.")
    return tuple(found)
