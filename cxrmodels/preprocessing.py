"""From a radiograph to what a network is fed. Training and inference go through the same function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxrmodels.radiograph import resize

NEEDS_LUNGS = frozenset({"lungs"})
"""Keys of `PREPROCESSING` that want to know where the lungs are."""

_MARGIN = 0.06
_LEAST_LUNGS = 0.06
"""An outline smaller than this share of the film is not believed; lungs take a fifth to a half of a frontal one."""


def _square(pixels: np.ndarray, size: int, lungs: np.ndarray | None) -> np.ndarray:
    return resize(pixels, size, size)


def stretch(pixels: np.ndarray) -> np.ndarray:
    """Greys, float32 of any shape, with their 1st to 99th percentile spread over 0-1."""
    low, high = np.percentile(pixels, (1, 99))
    return np.clip((pixels - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)


def _stretch(pixels: np.ndarray, size: int, lungs: np.ndarray | None) -> np.ndarray:
    return stretch(resize(pixels, size, size))


def believable(lungs: np.ndarray) -> bool:
    """Whether an outline, bool (h, w), covers enough of the film to be lungs: 6 % of it."""
    return bool(lungs.mean() >= _LEAST_LUNGS)


def lung_box(lungs: np.ndarray) -> tuple[float, float, float, float]:
    """The part of a film that holds the lungs, with a margin of 6 % of its sides.

    Args:
        lungs: bool (h, w), of any size. Where it covers less than 6 % of the film, the box is the whole film.

    Returns:
        Left, top, right, bottom, each 0-1 of the film's width or height.
    """
    if not believable(lungs):
        return 0.0, 0.0, 1.0, 1.0
    sides = []
    for axis, length in ((0, lungs.shape[1]), (1, lungs.shape[0])):
        places = np.flatnonzero(lungs.any(axis))
        first, last = places[0] / length, (places[-1] + 1) / length
        margin = _MARGIN * (last - first)
        sides.append((max(0.0, first - margin), min(1.0, last + margin)))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def _crop(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    height, width = pixels.shape
    left, top, right, bottom = box
    return pixels[
        int(top * height) : max(int(top * height) + 1, round(bottom * height)),
        int(left * width) : max(int(left * width) + 1, round(right * width)),
    ]


def _lungs(pixels: np.ndarray, size: int, lungs: np.ndarray | None) -> np.ndarray:
    """Cropped to the lungs; greys replaced by their rank among the lungs' greys, so that nothing is left of a film's
    exposure, gamma and look-up table."""
    if lungs is None:
        raise ValueError("This preprocessing crops to the lungs and needs their outline; got none.")
    box = lung_box(lungs)
    square = resize(_crop(pixels, box), size, size)
    inside = resize(_crop(lungs.astype(np.float32), box), size, size) > 0.5
    if not believable(lungs) or not inside.any():
        inside = np.ones_like(inside)
    greys = np.sort(square[inside])
    ranks: np.ndarray = np.searchsorted(greys, square, side="right").astype(np.float32) / len(greys)
    return ranks


PREPROCESSING: dict[str, Callable[[np.ndarray, int, np.ndarray | None], np.ndarray]] = {
    "unit": _square,
    "stretch": _stretch,
    "lungs": _lungs,
}
"""Grey levels as stored, 0-1 (`unit`); the film's own 1st to 99th percentile spread over 0-1 (`stretch`); or cropped to
the lungs and each grey as its rank among the greys of the lungs (`lungs`)."""

WORDS = {
    "unit": "the whole film, squashed to a square; grey levels as they came",
    "stretch": "the whole film, squashed to a square; its grey levels spread over the whole range",
    "lungs": "the part of the film that holds the lungs, squashed to a square; each grey level replaced by its rank "
    "among those of the lungs",
}
"""Key of `PREPROCESSING` -> what it does, for a reader."""


def prepare(
    pixels: np.ndarray, preprocessing: str, size: int, channels: int, lungs: np.ndarray | None = None
) -> np.ndarray:
    """What a network sees of a film.

    The film, or its part with the lungs, is squashed to a square, as the public training sets are; then its grey
    levels are treated.

    Args:
        pixels: float32 (H, W), 0-1, air dark.
        preprocessing: a key of `PREPROCESSING`.
        size: side of the square in pixels.
        channels: 1, or 3 equal ones for networks that expect colour.
        lungs: bool (h, w), where the lungs are on the film squashed to a rectangle of that size; for those of
            `NEEDS_LUNGS`.

    Returns:
        float32 (size, size, channels), 0-1.

    Raises:
        ValueError: the preprocessing needs an outline of the lungs and got none.
    """
    square = PREPROCESSING[preprocessing](pixels, size, lungs)
    # Takes a third of the time of `np.repeat`.
    return np.stack([square] * channels, axis=-1)
