"""What is no upright frontal chest film: real films changed until they are none, and pictures drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from cxrmodels.training.side_view import side_view

Kind = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""(film, uint8 (S, S), random numbers) -> uint8 (S, S); drawn kinds take its size, at most its fine detail."""


def _resized(film: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(film).resize((max(1, width), max(1, height)), Image.Resampling.BILINEAR))


# --- real films, changed ----------------------------------------------------------------------------------------------
def upside_down(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned by 180 degrees, or its top and bottom exchanged."""
    return film[::-1, ::-1] if rng.random() < 0.7 else film[::-1]


def turned_left(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned by 90 degrees against the clock."""
    return np.rot90(film)


def turned_right(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned by 90 degrees with the clock."""
    return np.rot90(film, -1)


def inverted(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light for dark."""
    return 255 - film


def _turned(film: np.ndarray, degrees: float, grey: int) -> np.ndarray:
    return np.asarray(Image.fromarray(film).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=grey))


def slanted(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned by 40 to 140 degrees either way, the corners grey."""
    return _turned(film, float(rng.choice((-1, 1)) * rng.uniform(40, 140)), int(rng.integers(0, 256)))


def part(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part of it, a fifth to under half of each side, enlarged."""
    size = film.shape[0]
    height, width = (int(size * share) for share in rng.uniform(0.2, 0.45, 2))
    top, left = int(rng.integers(0, size - height)), int(rng.integers(0, size - width))
    return _resized(film[top : top + height, left : left + width], size, size)


def half(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One side of it, two fifths to three fifths of its width: one lung, with or without the spine. Spread over the
    picture, or in the middle of black."""
    size = film.shape[0]
    width = int(size * rng.uniform(0.4, 0.6))
    edge = int(size * rng.uniform(0, 0.1))
    side = film[:, edge : edge + width] if rng.random() < 0.5 else film[:, size - edge - width : size - edge]
    if rng.random() < 0.5:
        return _resized(side, size, size)
    page = np.zeros_like(film)
    left = (size - width) // 2
    page[:, left : left + width] = side
    return page


def overlaid(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Its two sides on top of each other, as on a film taken from the side: the mean of it and a copy that is moved
    sideways by a quarter to half of its width, at times mirrored; what lies beside both is left out."""
    size = film.shape[0]
    move = int(size * rng.uniform(0.25, 0.5))
    other = film[:, ::-1] if rng.random() < 0.5 else film
    share = rng.uniform(0.35, 0.65)
    both = share * film[:, move:].astype(np.float32) + (1 - share) * other[:, : size - move]
    page = _resized(both.astype(np.uint8), size, size)
    if rng.random() < 0.5:
        width = int(size * rng.uniform(0.55, 0.9))
        left = int(rng.integers(0, size - width + 1))
        narrow = np.zeros_like(page)
        narrow[:, left : left + width] = _resized(page, width, size)
        page = narrow
    return _turned(page, float(rng.uniform(-15, 15)), int(page[0].mean()))


def shuffled(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut into 2 x 2 to 5 x 5 tiles that are put together anew."""
    count = int(rng.integers(2, 6))
    side = film.shape[0] // count
    square = film[: side * count, : side * count]
    tiles = square.reshape(count, side, count, side).swapaxes(1, 2).reshape(-1, side, side)
    order = (
        np.roll(rng.permutation(len(tiles)), 1)
        if count > 2
        else np.array([[1, 0, 3, 2], [2, 3, 0, 1]])[int(rng.integers(2))]
    )
    mixed = tiles[order].reshape(count, count, side, side).swapaxes(1, 2).reshape(side * count, side * count)
    return _resized(mixed, film.shape[0], film.shape[0])


def several(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two to nine small copies on one picture, or one far too small."""
    size = film.shape[0]
    page = np.full_like(film, rng.integers(0, 256))
    if rng.random() < 0.4:
        side = int(size * rng.uniform(0.2, 0.45))
        top, left = (int(rng.integers(0, size - side)) for _ in range(2))
        page[top : top + side, left : left + side] = _resized(film, side, side)
        return page
    down, across = [(1, 2), (2, 1), (2, 2), (2, 3), (3, 3)][int(rng.integers(5))]
    height, width = size // down, size // across
    gap = int(rng.integers(0, 5))
    small = _resized(film, width - gap, height - gap)
    for row in range(down):
        for column in range(across):
            page[row * height : row * height + height - gap, column * width : column * width + width - gap] = small
    return page


def bent(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stirred: every place moved by up to a quarter of the picture, smoothly."""
    size = film.shape[0]
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    moves = [
        np.asarray(
            Image.fromarray(rng.uniform(-1, 1, (5, 5)).astype(np.float32)).resize(
                (size, size), Image.Resampling.BICUBIC
            )
        )
        for _ in range(2)
    ]
    reach = size * rng.uniform(0.15, 0.25)
    row = np.clip(rows + reach * moves[0], 0, size - 1).astype(np.int64)
    column = np.clip(columns + reach * moves[1], 0, size - 1).astype(np.int64)
    return film[row, column]


def flattened(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two to four greys only, as a stencil of it, with or without noise."""
    size = film.shape[0]
    soft = np.asarray(Image.fromarray(film).filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 3.5))), np.float32)
    cuts = np.quantile(soft, np.sort(rng.uniform(0.15, 0.85, int(rng.integers(1, 4)))))
    greys = np.sort(rng.uniform(0, 255, len(cuts) + 1))
    greys[0], greys[-1] = rng.uniform(0, 60), rng.uniform(170, 255)
    flat = greys[np.digitize(soft, cuts)]
    flat = flat + rng.normal(0, 1, (size, size)) * rng.uniform(0, 14)
    return np.clip(flat, 0, 255).astype(np.uint8)


# --- pictures drawn at random -----------------------------------------------------------------------------------------
def leaves(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Discs and boxes that cover each other, each with a grey, a shade and a grain of its own: pictures with the
    statistics of photographs (dead leaves: Lee et al. 2001; Baradad et al. 2021, arXiv 2106.05963)."""
    size = film.shape[0]
    picture = Image.fromarray(noise_of_nature(film, rng))
    ramp, grain = np.linspace(-1, 1, size), rng.normal(0, 4, (size, size))
    for _ in range(int(rng.integers(10, 150))):
        radius = size * min(0.5, 0.03 / rng.random() ** 0.6)
        x, y = rng.uniform(0, size, 2)
        shape = Image.new("L", (size, size))
        draw = ImageDraw.Draw(shape)
        if rng.random() < 0.6:
            stretch = rng.uniform(0.5, 1)
            draw.ellipse((x - radius, y - stretch * radius, x + radius, y + stretch * radius), fill=255)
        else:
            corners = [
                (x + radius * np.cos(angle), y + radius * np.sin(angle)) for angle in np.sort(rng.uniform(0, 6.28, 5))
            ]
            draw.polygon(corners, fill=255)
        slope = rng.uniform(-60, 60, 2)
        fill = rng.uniform(0, 255) + slope[0] * ramp[:, None] + slope[1] * ramp + grain
        picture.paste(Image.fromarray(np.clip(fill, 0, 255).astype(np.uint8)), (0, 0), shape)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2))))


def noise_of_nature(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise whose strength falls with fineness as in photographs, or evenly: clouds, plaster, sand."""
    size = film.shape[0]
    fineness = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    fineness[0, 0] = 1 / size
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) / fineness ** rng.uniform(0, 2.2)
    cloud = np.fft.irfft2(spectrum, (size, size))
    low, high = np.quantile(cloud, (0.01, 0.99))
    return np.clip(255 * (cloud - low) / (high - low), 0, 255).astype(np.uint8)


def cross_section(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A body cut across at the height of the lungs, as computed tomography shows it, drawn: a body wall with ribs, two
    lungs with vessels, what lies between them, a spine, at times the table under it and shadows in the lungs."""
    size = film.shape[0]
    wide, high = size * rng.uniform(0.38, 0.49), size * rng.uniform(0.26, 0.4)
    centre = size / 2 + size * rng.uniform(-0.04, 0.04, 2)
    tissue, bone, air = (int(rng.integers(*span)) for span in ((120, 235), (215, 256), (0, 90)))
    page = Image.new("L", (size, size), int(rng.choice((0, 0, air))))
    draw = ImageDraw.Draw(page)

    def oval(x: float, y: float, across: float, down: float, grey: int) -> None:
        """Around a place given in halves of the body, from its middle."""
        left, top = centre[0] + (x - across) * wide, centre[1] + (y - down) * high
        draw.ellipse((left, top, left + 2 * across * wide, top + 2 * down * high), fill=grey)

    if rng.random() < 0.6:
        box = (centre[0] - wide, centre[1] - high, centre[0] + wide, centre[1] + 1.35 * high)
        draw.arc(box, 20, 160, fill=int(rng.integers(60, 200)), width=int(rng.integers(1, 4)))
    oval(0, 0, 1, 1, tissue - int(rng.integers(0, 60)))
    oval(0, 0, 0.9, 0.88, tissue)
    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(8, 16)), endpoint=False) + rng.uniform(0, 1):
        oval(0.86 * np.cos(angle), 0.84 * np.sin(angle), 0.05, 0.04, bone)
    for side in (-1, 1):
        across, down = rng.uniform(0.28, 0.36), rng.uniform(0.5, 0.72)
        place = side * rng.uniform(0.42, 0.5), rng.uniform(-0.08, 0.12)
        oval(*place, across, down, air)
        for _ in range(int(rng.integers(5, 30))):
            turn, far, dot = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()), rng.uniform(0.008, 0.04)
            at = place[0] + 0.9 * far * across * np.cos(turn), place[1] + 0.9 * far * down * np.sin(turn)
            oval(*at, dot, dot * wide / high, int(rng.integers(air, tissue)))
        for _ in range(int(rng.integers(0, 4))):
            at = place[0] + side * across * rng.uniform(0, 0.7), place[1] + down * rng.uniform(-0.6, 0.7)
            oval(*at, rng.uniform(0.05, 0.16), rng.uniform(0.05, 0.16), (air + tissue) // 2)
    oval(rng.uniform(-0.15, 0.15), rng.uniform(-0.3, 0), rng.uniform(0.12, 0.32), rng.uniform(0.25, 0.45), tissue)
    oval(0, 0.62, 0.14, 0.16, bone)
    oval(0, 0.78, 0.05, 0.06, tissue)
    noisy = np.asarray(page, np.float32) + rng.normal(0, rng.uniform(1, 9), (size, size))
    soft = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    return np.asarray(soft.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.4))))


def shades(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All but blank: one grey or a slow shade, some grain, at times a spot."""
    size = film.shape[0]
    shade = Image.fromarray(rng.uniform(-1, 1, (3, 3)).astype(np.float32)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    picture = (
        rng.uniform(0, 255) + rng.uniform(0, 120) * np.asarray(shade) + rng.normal(0, rng.uniform(0, 6), (size,) * 2)
    )
    if rng.random() < 0.5:
        rows, columns = np.mgrid[:size, :size] / size
        middle, radius = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.5)
        spot = np.hypot(rows - middle[0], columns - middle[1]) < radius
        picture = np.where(spot, rng.uniform(0, 255), picture)
    return np.clip(picture, 0, 255).astype(np.uint8)


BUILT_WITH: dict[str, Kind] = {
    "upside_down": upside_down,
    "turned_left": turned_left,
    "turned_right": turned_right,
    "inverted": inverted,
    "slanted": slanted,
    "part": part,
    "half": half,
    "overlaid": overlaid,
    "shuffled": shuffled,
    "several": several,
    "bent": bent,
    "flattened": flattened,
    "leaves": leaves,
    "noise_of_nature": noise_of_nature,
    "shades": shades,
    "cross_section": cross_section,
    "side_view": side_view,
}
"""Kinds that the gate is built with."""


# --- held out: never seen while the gate is built ---------------------------------------------------------------------
def text_page(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A page of words, dark on light or light on dark."""
    size = film.shape[0]
    paper, letters = (245, 15) if rng.random() < 0.7 else (10, 240)
    picture = Image.new("L", (size, size), paper)
    draw, height = ImageDraw.Draw(picture), int(rng.integers(8, 20))
    font = ImageFont.load_default(height)
    for row in range(int(rng.integers(2, 12)), size, int(height * 1.4)):
        words = "".join(rng.choice(list("abcdefghij  klmnopqrst  uvw")) for _ in range(int(rng.integers(5, 60))))
        draw.text((6, row), words, fill=letters, font=font)
    return np.asarray(picture)


def drawing(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A line drawing: strokes, circles and boxes."""
    size = film.shape[0]
    paper, pen = (250, 20) if rng.random() < 0.6 else (0, 230)
    picture = Image.new("L", (size, size), paper)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 20))):
        points = [tuple(point) for point in rng.uniform(0, size, (int(rng.integers(2, 6)), 2))]
        width = int(rng.integers(1, 5))
        shape = rng.integers(3)
        if shape == 0:
            draw.line(points, fill=pen, width=width, joint="curve")
        else:
            (x0, x1), (y0, y1) = (sorted(pair) for pair in np.array(points[:2]).T)
            (draw.ellipse if shape == 1 else draw.rectangle)((x0, y0, x1, y1), outline=pen, width=width)
    return np.asarray(picture)


def chart(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bar chart or a curve with its axes."""
    size = film.shape[0]
    picture = Image.new("L", (size, size), 255)
    draw = ImageDraw.Draw(picture)
    foot, edge = int(size * 0.9), int(size * 0.1)
    draw.line([(edge, int(size * 0.05)), (edge, foot), (int(size * 0.97), foot)], fill=0, width=2)
    values = rng.uniform(0.1, 0.85, int(rng.integers(4, 14)))
    step = (size - 2 * edge) / len(values)
    tops = [(edge + (i + 0.5) * step, foot - value * size) for i, value in enumerate(values)]
    if rng.random() < 0.5:
        for x, y in tops:
            draw.rectangle((x - 0.35 * step, y, x + 0.35 * step, foot), fill=int(rng.integers(40, 200)))
    else:
        draw.line(tops, fill=60, width=2)
    return np.asarray(picture)


def hand(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A film of a hand, as a drawing of bones: bright on a softer hand, on black."""
    size = film.shape[0]
    flesh, bones = Image.new("L", (size, size), 8), Image.new("L", (size, size))
    soft, hard = ImageDraw.Draw(flesh), ImageDraw.Draw(bones)
    palm = size * np.array([0.5 + rng.uniform(-0.05, 0.05), 0.68])
    reach, turn = size * rng.uniform(0.28, 0.36), rng.uniform(-0.2, 0.2)
    soft.ellipse((*(palm - 0.2 * size), *(palm + 0.22 * size)), fill=85)
    soft.line([tuple(palm), (palm[0], size)], fill=80, width=int(0.24 * size))
    for finger, angle in enumerate(np.linspace(-0.75, 0.6, 5) + turn):
        way = np.array([np.sin(angle), -np.cos(angle)])
        length = reach * (1.25 if 0 < finger < 4 else 1.0)
        soft.line([tuple(palm), tuple(palm + (0.15 * size + length) * way)], fill=90, width=int(0.085 * size))
        joints = [palm + (0.1 * size + length * share) * way for share in (-0.2, 0.3, 0.65, 0.88, 1.05)]
        for start, end in pairwise(joints):
            gap = 0.012 * size * way
            hard.line([tuple(start + gap), tuple(end - gap)], fill=130, width=int(0.035 * size))
    for side in (-1, 1):
        foot = palm + np.array([side * 0.05, 0.12]) * size
        hard.line([tuple(foot), (foot[0], size)], fill=140, width=int(0.05 * size))
    picture = np.asarray(flesh, np.float32) + np.asarray(bones) + rng.normal(0, 5, (size, size))
    soft_picture = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
    return np.asarray(soft_picture)


def board(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A test picture: chequers, stripes or rings."""
    size = film.shape[0]
    rows, columns = np.mgrid[:size, :size] / size - rng.uniform(0.3, 0.7)
    waves, kind = rng.uniform(2, 12), rng.integers(3)
    if kind == 0:
        return np.where((np.floor(rows * waves) + np.floor(columns * waves)) % 2 == 0, 20, 235).astype(np.uint8)
    angle = rng.uniform(0, np.pi)
    place = np.hypot(rows, columns) if kind == 1 else rows * np.sin(angle) + columns * np.cos(angle)
    return (127 + 110 * np.sin(2 * np.pi * waves * place)).astype(np.uint8)


HELD_OUT: dict[str, Kind] = {"text_page": text_page, "drawing": drawing, "chart": chart, "hand": hand, "board": board}
"""Kinds that only measure it."""
