"""What a picture looks like in a thousand numbers: where it is light and dark, and which way its edges run."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from cxrmodels.preprocessing import lung_box, stretch

SIDE = 128
"""Side of the square, in pixels, that is described."""

_TILES, _CELLS, _WAYS, _LEVELS = 16, 8, 8, 12
_MARGIN = 0.15
"""What stands around the lungs is looked at too, this share of their width and height on each side."""
_FAINT = 0.02
"""Edges fainter than this, in greys of 0-1 a pixel, count little: what is all but flat has no direction."""

SIZE = _TILES**2 + _CELLS**2 * (_WAYS + 1) + _LEVELS + 4 + 3
"""How many numbers `describe` gives."""
ALIGNED_SIZE = SIZE + _CELLS**2 + 5
"""How many numbers `describe_aligned` gives."""


def describe(film: np.ndarray) -> np.ndarray:
    """A film's layout.

    The greys of 16 x 16 tiles; for each of 8 x 8 cells how much of its edges runs each of eight ways, from dark to
    light, so that an inverted film differs (histograms of oriented gradients: Dalal and Triggs 2005), and its share of
    all edges; the histogram of greys; how strong detail is at four sizes; how alike left and right, and top and bottom,
    are, and how much of the picture is flat.

    Args:
        film: float32 (128, 128), 0-1, its greys spread over the whole range, as the lung network takes it.

    Returns:
        float32 (SIZE,).
    """
    tiles = _mean(film, _TILES)
    across = tiles - tiles.mean()
    spread = float(across.std()) + 1e-3
    levels = np.histogram(film, _LEVELS, (0, 1))[0] / film.size
    return np.concatenate(
        [
            (across / spread).ravel(),
            _edges(film),
            np.sqrt(levels),
            _detail(film),
            [_alike(tiles, tiles[:, ::-1]), _alike(tiles, tiles[::-1]), _flat(film)],
        ],
        dtype=np.float32,
    )


def describe_aligned(film: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """A film's layout around what could be its lungs: what else is on the film, and how large, matters less.

    Args:
        film: as in `describe`, of the whole film.
        lungs: bool (128, 128), the outline on it; where it is too small to be believed, all of the film is looked at.

    Returns:
        float32 (ALIGNED_SIZE,): as `describe`, of the part with the lungs; the outline's share of 8 x 8 cells of that
        part; where that part lies, and the outline's share of the film.
    """
    left, top, right, bottom = lung_box(lungs)
    wide, high = _MARGIN * (right - left), _MARGIN * (bottom - top)
    box = (max(0.0, left - wide), max(0.0, top - high), min(1.0, right + wide), min(1.0, bottom + high))
    part = _part(film, box)
    shape = _mean(_part(lungs.astype(np.float32), box), _CELLS)
    return np.concatenate([describe(stretch(part)), shape.ravel(), box, [lungs.mean()]], dtype=np.float32)


def _part(film: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """A part, sides 0-1, enlarged to (128, 128)."""
    left, top, right, bottom = (side * SIDE for side in box)
    picture = Image.fromarray(film)
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))


def _mean(film: np.ndarray, count: int) -> np.ndarray:
    """(S, S) -> (count, count), the means of square tiles."""
    side = film.shape[0] // count
    tiles: np.ndarray = film.reshape(count, side, count, side).mean((1, 3))
    return tiles


def _smooth(film: np.ndarray) -> np.ndarray:
    """Twice the mean of 2 x 2 pixels: noise of one pixel is no edge."""
    for _ in range(2):
        film = (film[:-1, :-1] + film[1:, :-1] + film[:-1, 1:] + film[1:, 1:]) / 4
    return film


@cache
def _cell_of() -> np.ndarray:
    place = np.minimum(np.arange(SIDE - 4) * _CELLS // (SIDE - 4), _CELLS - 1)
    cells: np.ndarray = place[:, None] * _CELLS + place[None, :]
    return cells


def _edges(film: np.ndarray) -> np.ndarray:
    """Float (CELLS * CELLS * (WAYS + 1),)."""
    soft = _smooth(film)
    down, right = (soft[2:, 1:-1] - soft[:-2, 1:-1]) / 2, (soft[1:-1, 2:] - soft[1:-1, :-2]) / 2
    strength = np.hypot(down, right)
    turn = (np.arctan2(down, right) / (2 * np.pi)) % 1 * _WAYS
    first = np.floor(turn)
    rest = turn - first
    places = _cell_of() * _WAYS
    sums = np.zeros(_CELLS**2 * _WAYS)
    for way, share in ((first, 1 - rest), (first + 1, rest)):
        index = (places + way.astype(np.int64) % _WAYS).ravel()
        sums += np.bincount(index, (strength * share).ravel(), sums.size)
    ways = sums.reshape(_CELLS**2, _WAYS)
    totals = ways.sum(1, keepdims=True)
    pixels = (SIDE - 4) ** 2 / _CELLS**2
    shares = np.sqrt(ways / (totals + _FAINT * pixels / 2))
    return np.concatenate([shares.ravel(), np.sqrt(totals.ravel() / (totals.sum() + _FAINT * pixels))])


def _detail(film: np.ndarray) -> np.ndarray:
    """How strong detail of 1, 2, 4 and 8 pixels is: the logarithm of what is lost when it is averaged out."""
    strengths, now = [], film
    for _ in range(4):
        coarse = _mean(now, now.shape[0] // 2)
        strengths.append(np.log(float((now - coarse.repeat(2, 0).repeat(2, 1)).std()) + 1e-3))
        now = coarse
    return np.array(strengths)


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two sets of greys, 0 where one is flat."""
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / (np.sqrt((a**2).sum() * (b**2).sum()) + 1e-6))


def _flat(film: np.ndarray) -> float:
    """Share of the picture that does not change from one pixel to the next."""
    return float((np.abs(np.diff(film, axis=1)) < 1 / 512).mean())
