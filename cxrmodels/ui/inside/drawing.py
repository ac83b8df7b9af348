"""Small pictures of the page: maps made large enough to look at, filters, and a bar where no map is left."""

from __future__ import annotations

import numpy as np

from cxrmodels.plots import FRAME, png


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """A small map, uint8 (h, w), each place as a square, as large as fits `side` pixels; a large one as it is."""
    factor = max(1, side // max(picture.shape))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def marked(picture: np.ndarray, position: tuple[int, int], shape: tuple[int, int], side: int) -> np.ndarray:
    """A channel's map, enlarged, with a frame around one of its positions.

    Args:
        picture: uint8 (h, w), may be smaller than the map it is of.
        position: row and column in the map.
        shape: of the map, (rows, columns).
        side: longest side in pixels.

    Returns:
        uint8 (H, W, 3).
    """
    large = np.repeat(enlarged(picture, side)[..., None], 3, axis=-1)
    top, left = (int(at * size / count) for at, size, count in zip(position, large.shape, shape, strict=False))
    high, wide = (max(6, round(size / count)) for size, count in zip(large.shape, shape, strict=False))
    rows, columns = slice(max(0, top - 2), top + high + 2), slice(max(0, left - 2), left + wide + 2)
    inside = large[top : top + high, left : left + wide].copy()
    large[rows, columns] = FRAME
    large[top : top + high, left : left + wide] = inside
    return large


def filter_picture(kernel: np.ndarray) -> np.ndarray:
    """A filter, float (h, w), as greys, uint8: mid grey is no weight, white as much for it as black is against."""
    most = float(np.abs(kernel).max()) or 1.0
    return np.rint(127.5 + 127.5 * kernel / most).astype(np.uint8)


def no_places_png(side: int) -> bytes:
    """A picture for what is no map any more: a row of squares."""
    picture = np.full((side, side), 10, np.uint8)
    step = side // 8
    for number in range(1, 7):
        picture[side // 2 - step // 3 : side // 2 + step // 3, number * step + 2 : (number + 1) * step - 2] = 150
    return png(picture)
