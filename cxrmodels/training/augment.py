"""Changes to a film that leave its finding what it was. Never a flip: a mirrored chest is another anatomy."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

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
    return _expose(_warp(film, _movement(film.shape[0], strength, rng)), strength, rng)


def augment_with_mask(
    film: np.ndarray, mask: np.ndarray, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A film and its mask, uint8 (size, size) both, moved alike, further than a film alone is: lungs are to be found on
    a child's film that shows half of the body, too. The film is then changed in its looks, see `_restyle`."""
    movement = _far_movement(film.shape[0], strength, rng)
    return _restyle(_warp(film, movement), strength, rng), _warp(mask, movement)


def augment_looks(film: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """As `augment`, and the film changed in its looks as if another hospital had made it; see `_restyle`."""
    return _restyle(_warp(film, _movement(film.shape[0], strength, rng)), strength, rng)


def augment_framing(film: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """As `augment_looks`, and the film moved, scaled and stretched as far as `augment_with_mask` does: how much of a
    body a film shows is a habit of who took it, and no finding."""
    return _restyle(_warp(film, _far_movement(film.shape[0], strength, rng)), strength, rng)


AUGMENTATIONS = {"expose": augment, "restyle": augment_looks, "reframe": augment_framing}
"""Name in a recipe -> function (film, strength, rng) -> film."""


def _movement(size: int, strength: float, rng: np.random.Generator) -> tuple[float, ...]:
    """A random turn, shift and scale, see `_affine`."""
    angle = np.deg2rad(15) * strength * rng.uniform(-1, 1)
    scale = 1 + 0.2 * strength * rng.uniform(-1, 1, 2) * (1, 0.7)
    return _affine(size, angle, scale, 0.1 * size * strength * rng.uniform(-1, 1, 2))


def _far_movement(size: int, strength: float, rng: np.random.Generator) -> tuple[float, ...]:
    """As `_movement`; at strength 1 from 0.64 to 1.28 times the size and, beside that, sides that differ by up to 1.5
    times."""
    angle = np.deg2rad(15) * strength * rng.uniform(-1, 1)
    zoom, longer = np.exp(strength * rng.uniform(-0.45, 0.25)), np.exp(0.22 * strength * rng.uniform(-1, 1))
    scale = np.array([zoom * longer, zoom / longer])
    return _affine(size, angle, scale, 0.12 * size * strength * rng.uniform(-1, 1, 2))


def _affine(size: int, angle: float, scale: np.ndarray, shift: np.ndarray) -> tuple[float, ...]:
    """A turn (radians), scales and shifts (pixels) along x and y, as Pillow's six numbers from a place in the result to
    one in the film."""
    (scale_x, scale_y), (shift_x, shift_y) = scale, shift
    cos, sin, middle = np.cos(angle), np.sin(angle), (size - 1) / 2
    a, b, d, e = cos / scale_x, sin / scale_x, -sin / scale_y, cos / scale_y
    c = middle - a * middle - b * middle + shift_x
    f = middle - d * middle - e * middle + shift_y
    return (a, b, c, d, e, f)


def _warp(film: np.ndarray, movement: tuple[float, ...]) -> np.ndarray:
    size = film.shape[0]
    return np.asarray(
        Image.fromarray(film).transform((size, size), Image.Transform.AFFINE, movement, Image.Resampling.BILINEAR)
    )


def _expose(moved: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    size = moved.shape[0]
    levels = np.linspace(0, 1, 256) ** np.exp(0.52 * strength * rng.uniform(-1, 1))
    contrast = 1 + 0.3 * strength * rng.uniform(-1, 1)
    brightness = 0.12 * strength * rng.uniform(-1, 1)
    table = np.clip(255 * ((levels - 0.5) * contrast + 0.5 + brightness), 0, 255).astype(np.uint8)
    shown = table[moved]
    if rng.random() < 0.3 * strength:
        shown = _resample(shown, 2 / 3)
    if rng.random() < 0.5:
        amount = int(rng.integers(0, 1 + int(13 * strength)))
        row = int(rng.integers(0, size + _BANK))
        noise = _noise_bank(size)[row : row + size].astype(np.int16) * amount // 32
        shown = np.clip(shown.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    return shown


def _restyle(film: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A film as another hospital might have made it: exposed otherwise, softer or sharper, unevenly lit, noisier,
    compressed, with something written on it. What these change is what a network must not lean on.

    Args:
        film: uint8 (size, size).
        strength: 0 to 1: how likely, and how strong, each change is.
        rng: source of the random amounts.

    Returns:
        uint8 (size, size), a new array.
    """
    size = film.shape[0]
    shown = _expose(film, strength, rng)
    kind = rng.random()
    if kind < 0.25 * strength:
        shown = _resample(shown, rng.uniform(0.3, 0.8))
    elif kind < 0.5 * strength:
        picture = Image.fromarray(shown)
        shown = np.asarray(picture.filter(ImageFilter.UnsharpMask(rng.uniform(1, 4), int(rng.integers(50, 250)), 0)))
    if rng.random() < 0.4 * strength:
        # Four numbers a side, grown to the film: a shade that changes slowly across it.
        shade = Image.fromarray(rng.uniform(-1, 1, (4, 4)).astype(np.float32)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        shown = np.clip(shown + 40 * strength * np.asarray(shade), 0, 255).astype(np.uint8)
    if rng.random() < 0.3 * strength:
        stream = BytesIO()
        Image.fromarray(shown).save(stream, "JPEG", quality=int(rng.integers(20, 80)))
        shown = np.asarray(Image.open(stream))
    shown = shown.copy()
    if rng.random() < 0.3 * strength:
        # A marker, a label, a cable, a field that was cut off: somewhere, in any grey.
        height, width = (int(side) for side in size * rng.uniform(0.03, 0.25, 2))
        top, left = int(rng.integers(0, size - height)), int(rng.integers(0, size - width))
        shown[top : top + height, left : left + width] = rng.integers(0, 256)
    return shown


def _resample(film: np.ndarray, factor: float) -> np.ndarray:
    """Shrink and grow back: the softness of another detector."""
    size = film.shape[0]
    small = Image.fromarray(film).resize((max(8, int(factor * size + 1e-9)),) * 2, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR))
