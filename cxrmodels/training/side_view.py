"""Chest films taken from the side, drawn: what rays meet on their way through a body, added up."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


class _Sheet:
    """What rays meet, over the picture. Places and lengths are shares of its side; a map is float32 (S, S)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.rows, self.columns = (axis.astype(np.float32) / size for axis in np.mgrid[:size, :size])

    def ellipsoid(self, x: float, y: float, across: float, down: float, turn: float = 0.0) -> np.ndarray:
        """A ray's way through an ellipsoid around a place, 1 through its middle."""
        right, below = self.columns - x, self.rows - y
        u = (right * np.cos(turn) + below * np.sin(turn)) / across
        v = (below * np.cos(turn) - right * np.sin(turn)) / down
        way: np.ndarray = np.sqrt(np.maximum(1 - u**2 - v**2, 0))
        return way

    def area(self, corners: np.ndarray, blur: float) -> np.ndarray:
        """1 inside an outline, (N, 2) places (x, y), its edge blurred."""
        page = Image.new("L", (self._size,) * 2)
        ImageDraw.Draw(page).polygon(self._points(corners), fill=255)
        return self._soft(page, blur)

    def line(self, places: np.ndarray, width: float, blur: float) -> np.ndarray:
        """1 on a curve through (N, 2) places (x, y)."""
        page = Image.new("L", (self._size,) * 2)
        thick = max(1, round(width * self._size))
        ImageDraw.Draw(page).line(self._points(places), fill=255, width=thick, joint="curve")
        return self._soft(page, blur)

    def _points(self, places: np.ndarray) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in places * self._size]

    def _soft(self, page: Image.Image, blur: float) -> np.ndarray:
        return np.asarray(page.filter(ImageFilter.GaussianBlur(blur * self._size)), np.float32) / 255


def side_view(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A drawn chest from the side, facing either way: both lungs on top of each other between spine and breast bone,
    the heart before and the domes of the diaphragm below them, ribs, arms or not, in greys of its own, with the fine
    detail of a real film.

    Args:
        film: uint8 (S, S), a frontal film, whose detail it gets.
        rng: source of everything drawn.

    Returns:
        uint8 (S, S), air dark.
    """
    sheet = _Sheet(film.shape[0])
    back, front = rng.uniform(0.12, 0.24), rng.uniform(0.74, 0.88)
    top, floor = rng.uniform(0.1, 0.2), rng.uniform(0.62, 0.8)
    met = _body(sheet, back, front, top, rng) + _lungs(sheet, back, front, top, floor, rng)
    met += _bones(sheet, back, front, top, floor, rng) + _middle(sheet, back, front, top, floor, rng)
    if rng.random() < 0.7:
        met += rng.uniform(0.1, 0.6) * sheet.ellipsoid(  # shoulders and raised arms
            rng.uniform(back, front), rng.uniform(-0.05, 0.1), rng.uniform(0.2, 0.5), rng.uniform(0.12, 0.28)
        )
    # Rays that meet much leave little light: what lies on top of much hardly shows.
    hidden = 1 - np.exp(-rng.uniform(0.3, 1.3) * np.maximum(met, 0))
    hidden += rng.uniform(0, 1) * _detail(film) + rng.normal(0, rng.uniform(0.0, 0.02), met.shape)
    return _exposed(hidden[:, ::-1] if rng.random() < 0.5 else hidden, rng)


def _detail(film: np.ndarray) -> np.ndarray:
    """What a blur takes from a film."""
    soft = np.asarray(Image.fromarray(film).filter(ImageFilter.GaussianBlur(film.shape[0] / 140)), np.float32)
    return (film - soft) / 255


def _curve(xs: list[float], ys: list[float], count: int = 24) -> np.ndarray:
    """(count, 2) places along a smooth curve near a few."""
    from scipy.interpolate import CubicSpline

    at = np.linspace(0, 1, len(xs))
    return np.stack([CubicSpline(at, values)(np.linspace(0, 1, count)) for values in (xs, ys)], axis=1)


def _body(sheet: _Sheet, back: float, front: float, top: float, rng: np.random.Generator) -> np.ndarray:
    """Soft tissue: narrow at the neck, its front sloping down to the belly."""
    skin = rng.uniform(0.02, 0.09)
    slope, neck = rng.uniform(0.0, 0.15), rng.uniform(0.05, 0.2)
    behind = _curve([back + neck, back, back - skin, back, back + 0.04], [-0.05, top, 0.45, 0.8, 1.05])
    before = _curve([front - neck - 0.1, front - 0.05, front + skin, front + slope], [-0.05, top + 0.08, 0.5, 1.05])
    outline = np.concatenate([behind, before[::-1]])
    thick = sheet.area(outline, rng.uniform(0.015, 0.05))
    return thick * (1 + rng.uniform(0.1, 0.6) * sheet.rows)


def _lungs(sheet: _Sheet, back: float, front: float, top: float, floor: float, rng: np.random.Generator) -> np.ndarray:
    """What the air of both lungs takes away: each reaches deep behind and ends on a dome before."""
    air = np.zeros_like(sheet.rows)
    for _ in range(2):
        left, right = back + rng.uniform(0.0, 0.06), front - rng.uniform(0.02, 0.08)
        peak, dome = left + (right - left) * rng.uniform(0.3, 0.45), floor - rng.uniform(0.05, 0.2)
        deep = floor + rng.uniform(0.0, 0.14)
        behind = _curve([peak, left + 0.02, left, left + 0.05], [top, top + 0.15, 0.5, deep])
        before = _curve([peak + 0.03, right - 0.12, right, right], [top, top + 0.06, 0.42, dome + 0.06])
        foot = _curve(
            [left + 0.05, left + 0.12, left + 0.6 * (right - left), right], [deep, dome + 0.08, dome, dome + 0.06]
        )
        outline = np.concatenate([behind, foot, before[::-1]])
        air += rng.uniform(0.25, 0.42) * sheet.area(outline, rng.uniform(0.004, 0.02))
    for _ in range(int(rng.integers(0, 5)) if rng.random() < 0.5 else 0):  # fluid where air was
        place = rng.uniform(back, front), rng.uniform(top, floor)
        air *= 1 - rng.uniform(0.2, 0.9) * sheet.ellipsoid(*place, *rng.uniform(0.05, 0.25, 2))
    return -air


def _bones(sheet: _Sheet, back: float, front: float, top: float, floor: float, rng: np.random.Generator) -> np.ndarray:
    """Spine, breast bone, and the ribs of both sides, which slope down to the front."""
    bones = np.zeros_like(sheet.rows)
    bow, strength = rng.uniform(0.0, 0.06), rng.uniform(0.05, 0.35)
    inside = back + rng.uniform(0.0, 0.1)
    step = rng.uniform(0.06, 0.1)
    for y in np.arange(0.03, 1.0, step):
        x = inside + bow * np.cos(np.pi * (y - 0.1))
        block = sheet.ellipsoid(x, y, rng.uniform(0.04, 0.07), step * 0.52) ** 0.4
        bones += strength * (1.2 - 0.6 * y) * block
    plate = _curve([front - 0.07, front - 0.01, front], [top + 0.08, top + 0.25, floor - 0.1])
    bones += rng.uniform(0.05, 0.3) * sheet.line(plate, rng.uniform(0.012, 0.03), 0.006)
    for _ in range(2):
        drop, light, first = rng.uniform(0.1, 0.3), rng.uniform(0.02, 0.12), top + rng.uniform(-0.05, 0.08)
        for y in np.arange(first, floor + 0.1, rng.uniform(0.06, 0.09)):
            rib = _curve([back, back + 0.02, (back + front) / 2, front - 0.05], [y, y - 0.03, y + 0.4 * drop, y + drop])
            bones += light * sheet.line(rib, rng.uniform(0.008, 0.02), 0.005)
    return bones


def _middle(sheet: _Sheet, back: float, front: float, top: float, floor: float, rng: np.random.Generator) -> np.ndarray:
    """Heart, great vessels with their branches, the dark windpipe, gas under the diaphragm."""
    depth = front - back
    heart = back + depth * rng.uniform(0.58, 0.75), floor - rng.uniform(0.12, 0.25)
    found = rng.uniform(0.15, 0.5) * sheet.ellipsoid(*heart, rng.uniform(0.12, 0.2), rng.uniform(0.13, 0.2), 0.5)
    root = np.array([back + depth * rng.uniform(0.4, 0.55), top + (floor - top) * rng.uniform(0.4, 0.55)])
    found += rng.uniform(0.05, 0.3) * sheet.ellipsoid(*root, *rng.uniform(0.03, 0.08, 2))
    arch = root - (0.02, rng.uniform(0.08, 0.14))
    found += rng.uniform(0.0, 0.2) * sheet.ellipsoid(*arch, *rng.uniform(0.05, 0.1, 2))
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(6, 26))):
        reach = rng.uniform(0.1, 0.3) * np.array([np.cos(angle), np.sin(angle)])
        bend = rng.normal(0, 0.03, 2)
        (x0, y0), (x1, y1), (x2, y2) = root, root + reach / 2 + bend, root + reach
        found += rng.uniform(0.02, 0.12) * sheet.line(
            _curve([x0, x1, x2], [y0, y1, y2]), rng.uniform(0.004, 0.014), 0.004
        )
    pipe = np.array([[root[0] - rng.uniform(0.0, 0.08), -0.02], root - (0.0, 0.04)])
    found -= rng.uniform(0.0, 0.2) * sheet.line(pipe, rng.uniform(0.02, 0.04), 0.008)
    for _ in range(int(rng.integers(0, 4))):
        place = rng.uniform(back + 0.1, front), rng.uniform(floor + 0.08, 1.0)
        found -= rng.uniform(0.05, 0.35) * sheet.ellipsoid(*place, *rng.uniform(0.02, 0.1, 2))
    return found


def _exposed(met: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Greys of what rays met: moved and turned a little, with a film's curve, on black or on what stands there."""
    low, high = 0.0, float(np.quantile(met, rng.uniform(0.9, 1.0)))
    greys = np.clip((met - low) / (high - low), 0, 1) ** rng.uniform(0.7, 1.8)
    dark = rng.uniform(0, 40) if rng.random() < 0.7 else rng.uniform(40, 110)
    picture = Image.fromarray(np.rint(dark + (255 - dark) * greys).astype(np.uint8))
    size = picture.size[0]
    wide, high_part = rng.uniform(0.75, 1.0, 2)
    left, up = rng.uniform(0, 1 - wide) * size, rng.uniform(0, 1 - high_part) * size
    turned = picture.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BILINEAR, fillcolor=int(dark))
    box = (left, up, left + wide * size, up + high_part * size)
    part = turned.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(part.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 1.0))))
