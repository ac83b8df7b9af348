"""Pictures made smaller or larger, by products of small matrices: bilinear with anti-aliasing, as Pillow does it.

Every film is made smaller once for each network, and that was most of what an answer took beside the networks
themselves. A row of the result depends on a few neighbouring rows of the film alone, so several of them are one product
of a small matrix with a band of the film; the columns likewise. This takes a third of Pillow's time on a film of
1024 x 1024 px and differs from it by rounding (Pillow's `ImagingResample` is the oracle in the tests).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_ROWS, _BAND = 8, 64
"""Rows of a result that are made by one product, where they then need about this many rows of the film or fewer: fewer
make more calls, more multiply by more zeros."""


@lru_cache(maxsize=16)  # At most 16 x 3 MB, for sides of 65,536 px; 50 kB for one of 1024 px.
def _bands(before: int, after: int) -> tuple[tuple[int, ...], Floats]:
    """How `after` rows are made of `before` ones.

    Returns:
        For each band the first row it reads; and the weights, (bands, rows made, rows read). Rows beyond `after` in
        the last band mean nothing.
    """
    scale = before / after
    reach = max(scale, 1.0)
    made = max(1, min(_ROWS, int(_BAND / scale)))
    count = -(-after // made)
    centres = (np.arange(count * made) + 0.5).reshape(count, made).clip(max=after - 0.5) * scale
    length = min(before, int(np.ceil((made - 1) * scale + 2 * reach)) + 1)
    starts = np.clip(np.floor(centres[:, 0] - reach), 0, before - length).astype(int)
    positions = starts[:, None] + np.arange(length) + 0.5
    weights = np.maximum(0, 1 - np.abs(positions[:, None, :] - centres[..., None]) / reach)
    weights /= weights.sum(-1, keepdims=True)
    return tuple(starts.tolist()), weights.astype(np.float32)


def bilinear(pixels: np.ndarray, width: int, height: int) -> Floats:
    """(H, W) values -> float32 (height, width): a triangle filter, as wide as two pixels of the smaller picture.

    Raises:
        ValueError: a side, before or after, has no pixels.
    """
    if pixels.ndim != 2 or min(*pixels.shape, width, height) < 1:
        raise ValueError(
            f"A picture of shape {pixels.shape} cannot become one of {height} x {width}; expected two sides of at "
            "least one pixel, before and after."
        )
    values = np.asarray(pixels, np.float32)
    starts, weights = _bands(values.shape[0], height)
    count, made, read = weights.shape
    rows = np.empty((count * made, values.shape[1]), np.float32)
    for number, start in enumerate(starts):
        np.matmul(weights[number], values[start : start + read], out=rows[number * made : (number + 1) * made])
    rows = rows[:height]
    starts, weights = _bands(values.shape[1], width)
    count, made, read = weights.shape
    result = np.empty((height, count * made), np.float32)
    for number, start in enumerate(starts):
        result[:, number * made : (number + 1) * made] = rows[:, start : start + read] @ weights[number].T
    return result[:, :width]
