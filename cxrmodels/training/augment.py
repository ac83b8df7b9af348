"""Changes to a film that leave its finding what it was. Never a flip: a mirrored chest is another anatomy."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

_BANK = 64


@lru_cache(maxsize=8)
def _noise_bank(size: int) -> np.ndarray:
    """Unit Gaussian noise, int8 in units of 1/32, drawn once: fresh noise a film would cost more than the rest."""
    noise = np.random.default_rng(0).normal(0, 32, (2 * size + _BANK, size))
    return np.clip(noise, -127, 127).astype(np.int8)


def augment(film: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A film turned, moved, scaled, re-exposed and made noisier by a random amount.

    Args:
        film: uint8 (size, size), 0 = air dark.
        strength: 0 to 1. At 1: up to 15 degrees, 10 % shift, 20 % scale, gamma 0.6 to 1.7, contrast 0.7 to 1.3,
            noise of 5 % and a blur.
        rng: source of the random amounts.

    Returns:
        uint8 (size, size), a new array.
    """
    size = film.shape[0]
    angle = np.deg2rad(15) * strength * rng.uniform(-1, 1)
    scale_x, scale_y = 1 + 0.2 * strength * rng.uniform(-1, 1, 2) * (1, 0.7)
    shift_x, shift_y = 0.1 * size * strength * rng.uniform(-1, 1, 2)
    cos, sin, middle = np.cos(angle), np.sin(angle), (size - 1) / 2
    a, b, d, e = cos / scale_x, sin / scale_x, -sin / scale_y, cos / scale_y
    c = middle - a * middle - b * middle + shift_x
    f = middle - d * middle - e * middle + shift_y
    moved = np.asarray(
        Image.fromarray(film).transform(
            (size, size), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
        )
    )
    levels = np.linspace(0, 1, 256) ** np.exp(0.52 * strength * rng.uniform(-1, 1))
    contrast = 1 + 0.3 * strength * rng.uniform(-1, 1)
    brightness = 0.12 * strength * rng.uniform(-1, 1)
    table = np.clip(255 * ((levels - 0.5) * contrast + 0.5 + brightness), 0, 255).astype(np.uint8)
    shown = table[moved]
    if rng.random() < 0.3 * strength:
        shown = _blur(shown)
    if rng.random() < 0.5:
        amount = int(rng.integers(0, 1 + int(13 * strength)))
        row = int(rng.integers(0, size + _BANK))
        noise = _noise_bank(size)[row : row + size].astype(np.int16) * amount // 32
        shown = np.clip(shown.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return shown


def _blur(film: np.ndarray) -> np.ndarray:
    """Shrink to two thirds and back: the softness of another detector."""
    size = film.shape[0]
    small = Image.fromarray(film).resize((2 * size // 3,) * 2, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR))
