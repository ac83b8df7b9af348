"""From a radiograph to what a network is fed. Training and inference go through the same function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxrmodels.radiograph import resize


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _stretch(pixels: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pixels, (1, 99))
    return np.clip((pixels - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)


PREPROCESSING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "unit": _unit,
    "stretch": _stretch,
}
"""Grey levels as stored, 0-1 (`unit`); or the film's own 1st to 99th percentile spread over 0-1 (`stretch`)."""


def prepare(pixels: np.ndarray, preprocessing: str, size: int, channels: int) -> np.ndarray:
    """What a network sees of a film.

    The film is squashed to a square, as the public training sets are, then its grey levels are treated.

    Args:
        pixels: float32 (H, W), 0-1, air dark.
        preprocessing: a key of `PREPROCESSING`.
        size: side of the square in pixels.
        channels: 1, or 3 equal ones for networks that expect colour.

    Returns:
        float32 (size, size, channels), 0-1.
    """
    square = PREPROCESSING[preprocessing](resize(pixels, size, size))
    return np.repeat(square[..., None], channels, axis=-1)
