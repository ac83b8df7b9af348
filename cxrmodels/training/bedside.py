"""Frontal films as they are taken of people who cannot stand: off centre, turned, under wires."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

_WIRES = 5
_FINE = 4
"""Wires are drawn this many times as large and then shrunk, so that they are soft."""


def bedside(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A film moved by up to a fifth of its side, turned by up to 15 degrees, three quarters to five quarters as large,
    with up to five wires and their pads across it.

    Args:
        film: uint8 (S, S), 0 = air dark.
        rng: source of the random amounts.

    Returns:
        uint8 (S, S), a new array.
    """
    return _wired(_moved(film, rng), rng)


def _moved(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = film.shape[0]
    picture = Image.fromarray(film)
    side = round(size * rng.uniform(0.75, 1.25))
    page = Image.new("L", (size, size), int(rng.choice((0, 255, int(film[:4].mean())), p=(0.6, 0.1, 0.3))))
    left, top = ((size - side) // 2 + round(size * rng.uniform(-reach, reach)) for reach in (0.2, 0.12))
    page.paste(picture.resize((side, side), Image.Resampling.BILINEAR), (left, top))
    return np.asarray(page.rotate(float(rng.uniform(-15, 15)), Image.Resampling.BILINEAR, fillcolor=0))


def _wired(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = film.shape[0]
    sheet = Image.new("L", (size * _FINE, size * _FINE))
    draw = ImageDraw.Draw(sheet)
    for _ in range(int(rng.integers(0, _WIRES + 1))):
        corners = rng.uniform(-0.1, 1.1, (4, 2))
        t = np.linspace(0, 1, 40)[:, None]
        curve = (
            (1 - t) ** 3 * corners[0]
            + 3 * t * (1 - t) ** 2 * corners[1]
            + 3 * t**2 * (1 - t) * corners[2]
            + t**3 * corners[3]
        ) * (size * _FINE)
        light = int(rng.integers(90, 230))
        draw.line([(float(x), float(y)) for x, y in curve], fill=light, width=int(rng.integers(2, 7)))
        if rng.random() < 0.5:
            x, y = curve[-1]
            radius = size * _FINE * rng.uniform(0.01, 0.03)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=light)
    cover = np.asarray(sheet.resize((size, size), Image.Resampling.BOX), np.float32) / 255
    return (film + (255 - film.astype(np.float32)) * cover).astype(np.uint8)
