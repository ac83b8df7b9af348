"""Synthetic frontal chest radiographs with known findings, for a machine that has no films.

A film is made the way a real one is. The anatomy is laid out as a map of attenuation in body coordinates:
soft tissue, the air that the lungs take out of it, bones and vessels on top. X-rays pass through it
(Beer-Lambert), scatter, are counted with quantum noise and read out through a film curve. A finding replaces
part of the air of the lungs, so it hides a border exactly where fluid would.

Two films of the same seed and index differ in nothing but the finding, and only inside the lungs: nothing
outside them tells the findings apart.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from cxrmodels.radiograph import SYNTHETIC_MARK, Radiograph

PATTERNS: dict[str, str] = {
    "normal": "clear lungs",
    "covid19": "bilateral peripheral ground glass",
    "bacterial_pneumonia": "lobar consolidation",
    "viral_pneumonia": "diffuse interstitial pattern",
}
"""Finding -> what is drawn for it."""

FINDINGS: tuple[str, ...] = tuple(PATTERNS)

_Floats = NDArray[np.float32]
_Mask = NDArray[np.bool_]
_Table = NDArray[np.float64]
_Indices = NDArray[np.intp]
_Random = np.random.Generator
_Bands = tuple[_Table, ArrayLike, ArrayLike]
"""Centre lines in body coordinates (n x points x 2), widths (whatever fits n x points), greys (n, 0-255)."""

_STEPS = 2048  # entries of a table over one body coordinate: finer than a pixel of the largest film
_ALONG = np.linspace(0.0, 1.0, _STEPS)  # Y of the tables
_ACROSS = np.linspace(-0.75, 0.75, _STEPS)  # X of the tables


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """One synthetic film and what is known about it. All arrays are size x size and read-only.

    `pixels`: float32, 0-1, air dark, in steps of 1/255 so that the PNG loses nothing. `finding_mask`: where
    the finding lies, always inside `lung_mask`, empty for a normal film. `lung_mask`: the lungs as far as
    neither heart nor diaphragm hides them. `right_lung_mask`: the patient's right lung, on the left of the
    picture.
    """

    pixels: _Floats
    finding: str
    finding_mask: _Mask
    lung_mask: _Mask
    right_lung_mask: _Mask
    seed: int
    index: int

    @property
    def left_lung_mask(self) -> _Mask:
        """The patient's left lung (size x size, bool), on the right of the picture."""
        return self.lung_mask & ~self.right_lung_mask

    def png(self) -> bytes:
        """The film as an 8-bit grey PNG that says of itself that it is synthetic."""
        info = PngInfo()
        info.add_text("Software", SYNTHETIC_MARK)
        buffer = io.BytesIO()
        grey = np.rint(self.pixels * 255).astype(np.uint8)
        Image.fromarray(grey).save(buffer, "PNG", pnginfo=info)
        return buffer.getvalue()

    def radiograph(self) -> Radiograph:
        """The film as every other part of the program takes it; its sha256 is that of `png()`."""
        height, width = self.pixels.shape
        return Radiograph(
            name=f"phantom {self.index:04d}",
            sha256=hashlib.sha256(self.png()).hexdigest(),
            pixels=self.pixels,
            original_size=(width, height),
            format="synthetic",
            notes=(f"synthetic film: {PATTERNS[self.finding]} ({self.finding}, seed {self.seed})",),
            synthetic=True,
        )


def phantoms(
    count: int,
    *,
    seed: int,
    findings: Sequence[str] = FINDINGS,
    size: int = 224,
    difficulty: float = 0.5,
    noise: float = 0.5,
) -> Iterator[Phantom]:
    """`count` films, made as they are asked for, the `findings` in turn.

    Film i depends on nothing but i and the other arguments: the first ten of a thousand are the first ten of
    ten. The arguments are those of `phantom` and raise ValueError here, before the first film is made.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"count is {count!r}; expected a whole number, 0 or more. Give the films to make.")
    if isinstance(findings, str) or not findings:
        raise ValueError(f"findings is {findings!r}; expected a list of one or more of {', '.join(FINDINGS)}.")
    for finding in findings:
        _check(finding, seed=seed, index=0, size=size, difficulty=difficulty, noise=noise)
    film = partial(phantom, seed=seed, size=size, difficulty=difficulty, noise=noise)
    return (film(findings[i % len(findings)], index=i) for i in range(count))


def phantom(
    finding: str, *, seed: int, index: int = 0, size: int = 224, difficulty: float = 0.5, noise: float = 0.5
) -> Phantom:
    """One film of a patient who is fixed by `seed` and `index`, with `finding` (one of FINDINGS).

    `size`: pixels along each side, 64-1024. `difficulty`: 0 (conspicuous) to 1 (subtle: faint and small).
    `noise`: 0 (none) to 1 (a poor film): quantum noise and how far the exposure strays. The same arguments
    give the same film, bit for bit, under the same numpy and Pillow. Raises ValueError for an argument outside
    these ranges.
    """
    _check(finding, seed=seed, index=index, size=size, difficulty=difficulty, noise=noise)
    _keep_memory()
    # Separate streams, so that a finding that draws more numbers moves neither the anatomy nor the noise.
    body_rng, finding_rng, noise_rng = (
        np.random.default_rng(np.random.SeedSequence((seed, index, stream))) for stream in range(3)
    )
    body = _body(body_rng, size)
    anatomy, air = _anatomy(body, body_rng)
    lung_mask = body.lungs > 0.15
    finding_mask = np.zeros_like(lung_mask)
    added = None
    if finding != "normal":
        filled, extent = _FINDINGS[finding](body, finding_rng, difficulty)
        # From nothing at the edge of the mask to all within a pixel or two: no finding outside the lungs.
        inside = np.clip(4 * body.lungs - 0.6, 0, 1)
        added = filled * inside * air
        finding_mask = (extent > 0.2) & lung_mask
    pixels = _expose(anatomy, added, body_rng, noise_rng, noise)
    right = lung_mask & (body.x < 0)
    for array in (pixels, finding_mask, lung_mask, right):
        array.setflags(write=False)
    return Phantom(pixels, finding, finding_mask, lung_mask, right, seed, index)


@lru_cache(maxsize=1)
def _keep_memory() -> None:
    """Have the C library keep freed memory instead of giving it back and fetching it again, array after array: a
    quarter of the time. It keeps twice the size of the largest block that was ever freed (mallopt(3),
    M_MMAP_THRESHOLD), so one is: untouched, it costs nothing."""
    np.empty(2**24, np.uint8)


def _check(finding: str, *, seed: int, index: int, size: int, difficulty: float, noise: float) -> None:
    if finding not in FINDINGS:
        raise ValueError(f"finding is {finding!r}; expected one of {', '.join(FINDINGS)}. Choose one of them.")
    most = 2**63 - 1
    for name, number, low, high in (
        ("seed", seed, 0, most),
        ("index", index, 0, most),
        ("size", size, 64, 1024),
    ):
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not low <= number <= high:
            raise ValueError(f"{name} is {number!r}; expected a whole number from {low} to {high}. Choose one.")
    for name, share in (("difficulty", difficulty), ("noise", noise)):
        if isinstance(share, bool) or not isinstance(share, (int, float, np.floating)) or not 0 <= share <= 1:
            raise ValueError(f"{name} is {share!r}; expected a number from 0 to 1. Choose one.")


# ------------------------------------------------------------------------------------------------ the patient
class _Body(NamedTuple):
    """One patient: the pixels in body coordinates, the proportions, and where the lungs are."""

    size: int
    x: _Floats  # image width units from the midline, patient's left positive
    y: _Floats  # 0 at the top of the film, 1 at the bottom, downwards
    ax: _Floats  # |x|
    row: _Indices  # table index of y
    column: _Indices  # table index of x
    place: tuple[float, float, float, float, float]  # cos, sin, scale, shift x, shift y: body -> film
    child: float  # 0 adult - 1 small child
    apex: float  # y of the top of the lungs
    dome: float  # y of the top of the right hemidiaphragm
    width: float  # widest half width of the lungs
    lateral: _Table  # table over y: half width of the rib cage, from inside
    lungs: _Floats  # 0-1: visible lung fields, soft-edged
    aerated: _Floats  # air depth incl. what lies behind the heart and below the domes
    hila: tuple[tuple[float, float], tuple[float, float]]  # right, left


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[_Floats, _Floats]:
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(at - np.float32(0.5), at)
    return x.astype(np.float32), y.astype(np.float32)


def _body(rng: _Random, size: int) -> _Body:
    child = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.3 else 0.0
    angle, scale = math.radians(rng.normal(0, 1.6)), rng.uniform(0.9, 1.08)
    place = (math.cos(angle), math.sin(angle), scale, rng.normal(0, 0.012), rng.normal(0, 0.015))
    cos, sin, _, dx, dy = place
    gx, gy = _grid(size)
    u, v = gx - np.float32(dx), gy - np.float32(0.5 + dy)
    x = u * np.float32(cos / scale) + v * np.float32(sin / scale)
    y = v * np.float32(cos / scale) - u * np.float32(sin / scale) + np.float32(0.5)
    x += np.float32(rng.normal(0, 0.05)) * (y - 0.5) ** 2  # a spine is rarely quite straight
    ax = np.abs(x)
    row = np.clip(y * (_STEPS - 1), 0, _STEPS - 1).astype(np.intp)
    column = np.clip((x + 0.75) * ((_STEPS - 1) / 1.5), 0, _STEPS - 1).astype(np.intp)

    apex = rng.uniform(0.07, 0.12)
    dome = rng.uniform(0.64, 0.74) - 0.03 * child
    width = rng.uniform(0.345, 0.4) - 0.03 * child
    sulcus = dome + rng.uniform(0.11, 0.16)
    down = (_ALONG - apex) / (sulcus - apex)
    lateral = width * _curve(
        down,
        [-0.02, 0.0, 0.012, 0.03, 0.07, 0.13, 0.25, 0.4, 0.6, 0.85, 1.0, 1.2],
        np.array([0.25, 0.3, 0.43, 0.51, 0.6, 0.69, 0.8, 0.88, 0.95, 1.0, 1.0, 0.98]) ** rng.uniform(0.95, 1.35),
    )
    hilum = apex + (dome - apex) * rng.uniform(0.48, 0.56)
    medial = _curve(
        down, [0.0, 0.012, 0.03, 0.07, 0.14, 0.35, 1.0], [0.12, 0.088, 0.073, 0.063, 0.056, 0.05, 0.055]
    ) + rng.uniform(-0.005, 0.01)
    # Both domes, highest a little medial of the middle, falling steeply into the costophrenic angles.
    off = np.abs(_ACROSS)
    peak = 0.47 * width
    fall = np.where(off > peak, (off - peak) / (width - peak), (peak - off) / peak)
    drop = np.where(off > peak, (sulcus - dome) * np.abs(fall) ** 2.3, 0.045 * fall**2)
    domes = dome + drop + np.where(_ACROSS > 0, rng.uniform(0.015, 0.035), 0.0)

    heart = _heart(rng, (x, y, row), child, (apex, hilum, dome))
    side = _at(lateral, row)
    under = _at(domes, column) - y
    cage = _ramp(side - ax, 0.012) * _ramp(ax - _at(medial, row), 0.03)
    above = _ramp(under, 0.012)
    lungs = cage * above * (1 - heart)
    # Less air at the sides and in the apex, where the cage is shallow; some in the recess behind the dome.
    depth = np.sqrt(np.clip(1.02 - ((ax / side) ** 2) ** 2, 0.05, 1))
    depth *= np.clip(0.6 + (y - apex) * 1.6, 0.5, 1)
    recess = np.clip(1 + under / 0.1, 0, 1) ** 2
    aerated = cage * depth * np.maximum(above, 0.2 * recess) * (1 - 0.88 * heart)
    hila = ((-0.085, hilum + 0.015), (0.088, hilum - 0.01))
    return _Body(size, x, y, ax, row, column, place, child, apex, dome, width, lateral, lungs, aerated, hila)


def _heart(
    rng: _Random, axes: tuple[_Floats, _Floats, _Indices], child: float, levels: tuple[float, float, float]
) -> _Floats:
    """Heart, great vessels and mediastinum as seen from the front: 0-1."""
    x, y, row = axes
    size = rng.uniform(0.86, 1.12) + 0.12 * child
    top, hilum, dome = levels
    knob = hilum - rng.uniform(0.085, 0.11)
    arch = rng.uniform(0.058, 0.076) * (1 - 0.2 * child)
    apex = 0.17 * size
    above = (0, top, knob - 0.05, knob - 0.02, knob + 0.015, knob + 0.05, hilum + 0.01, hilum + 0.06)
    vessels = (0.085, 0.06, 0.045, 0.9 * arch, arch, 0.05, 0.064, 0.08 * size)
    below = (dome - 0.13, dome - 0.07, dome - 0.01, dome + 0.04, dome + 0.2)
    ventricle = (0.8 * apex, 0.95 * apex, apex, 0.95 * apex, 0.6 * apex)
    left = _curve(_ALONG, (*above, *below), (*vessels, *ventricle))
    bulge = rng.uniform(0.08, 0.1) * size
    right = _curve(
        _ALONG,
        [0.0, top, knob, hilum, hilum + 0.07, dome - 0.1, dome - 0.03, dome + 0.05, dome + 0.2],
        [0.085, 0.055, 0.047 + 0.012 * child, 0.052, 0.066 * size, bulge, 0.97 * bulge, 0.8 * bulge, 0.05],
    )
    inward = _at(np.concatenate([right, left]), row + _STEPS * (x > 0)) - np.abs(x)
    # Round, so thicker further in; and the vessels above the heart have softer edges than the heart.
    return 0.62 * _ramp(inward * np.minimum(0.15 + 1.4 * y, 1), 0.018) + 0.38 * _ramp(inward - 0.03, 0.07)


def _anatomy(body: _Body, rng: _Random) -> tuple[_Floats, _Floats]:
    """Attenuation of the healthy patient (size x size, 1 = 1/e) and the part of it that air takes away."""
    x, y, ax = body.x, body.y, body.ax
    # The outline: shoulders sloping from the neck, arms cropped at the sides, torso below the arm pit.
    slope = _curve(
        np.abs(_ACROSS),
        [0, 0.06, 0.1, 0.14, 0.2, 0.28, 0.38, 0.5, 0.75],
        np.array([-0.6, -0.32, -0.15, -0.06, 0, 0.03, 0.055, 0.1, 0.3]),
    ) + (body.apex - 0.075 + rng.uniform(-0.03, 0.02))
    flank = body.width + rng.uniform(0.04, 0.13)
    arm = rng.uniform(0.3, 0.5)
    torso = _curve(_ALONG, [0, arm - 0.1, arm + 0.15, 0.8, 1], [0.85, 0.8, flank + 0.03, flank, flank + 0.02])
    edge = _at(torso, body.row)
    fleshy = np.sqrt(np.clip((y - _at(slope, body.column)) * 9, 0, 1))
    tissue = fleshy * np.sqrt(np.clip(1 - ((ax / edge) ** 2) ** 2, 0, 1))
    tissue *= np.float32(rng.uniform(1.95, 2.35))
    tissue *= 0.72 + np.clip(y * 1.4, 0, 0.28)  # a neck is thinner than a chest
    below = np.clip((y - body.dome) * 5, 0, 1)
    tissue *= 1 + (0.016 + 0.03 * below) * _field(rng, body.size, 20)
    tissue += 0.3 * below
    if body.child < 0.3 and rng.random() < 0.45:
        low, wide = body.dome + rng.uniform(-0.08, 0.05), rng.uniform(0.13, 0.17)
        breast = 1 - ((ax - 0.58 * body.width) / wide) ** 2 - ((y - low) / (0.85 * wide)) ** 2
        tissue += np.sqrt(np.clip(breast, 0, 1)) * np.float32(rng.uniform(0.15, 0.4))

    air = body.aerated * np.float32(rng.uniform(1.2, 1.45))
    air *= 1 + 0.035 * _field(rng, body.size, 70)
    total = tissue - np.minimum(air, 0.85 * tissue)

    # The ribs of the side wall are seen edge on.
    rim = 1 - ((ax - _at(body.lateral, body.row) - np.float32(0.008)) * 70) ** 2
    total += np.clip(rim, 0, 1) * np.clip((y - body.apex - 0.04) * 8, 0, 0.16)

    period = 0.058 - 0.01 * body.child
    discs = np.cos(2 * np.pi * _ALONG / period + rng.uniform(0, 6.28))
    bodies = np.clip(0.08 + _ALONG, 0, 0.27) + 0.05 * discs
    spine = _curve(_ALONG, [0, 0.3, 1], [0.036, 0.036, 0.044])
    band = _ramp(_at(spine, body.row) - ax, 0.028)
    total += band * _at(bodies, body.row)
    # The windpipe: a column of air down to the carina, a little to the patient's right of the spine.
    carina = body.hila[0][1] - 0.065
    pipe = np.exp(-(((x + 0.004) / (0.017 - 0.004 * body.child)) ** 2)) * _ramp(carina - y, 0.05)
    total -= 0.3 * pipe
    if rng.random() < 0.55:  # gas above the fluid in the stomach
        top, wide = body.dome + rng.uniform(0.03, 0.06), rng.uniform(0.04, 0.08)
        high = rng.uniform(0.025, 0.05)
        gas = 1 - ((x - 0.45 * body.width) / wide) ** 2 - ((y - top - 0.035) / high) ** 2
        total -= _ramp(gas, 0.3) * _ramp(top + 0.05 - y, 0.012) * np.float32(rng.uniform(0.15, 0.5))

    hard = rng.uniform(0.8, 1.25)
    behind, front, girdle = _ribs(body, rng)
    total += behind * (1 - 0.7 * below) * np.float32(0.29 * hard)
    total += front * (np.clip(ax * 6 - 0.6, 0, 1) * np.float32(0.14 * hard))
    total += girdle * fleshy * np.float32(0.42 * hard)
    total += _vessels(body, rng) * (0.36 * body.aerated + 0.02)
    total += 0.13 * _glow(ax, y, (body.hila[1][0], body.hila[1][1] + 0.012), (0.032, 0.062))
    return total, air


def _ribs(body: _Body, rng: _Random) -> tuple[_Floats, _Floats, _Floats]:
    """Posterior ribs, anterior ribs, and the shoulder girdle, each 0-1.

    A rib is a tilted hoop: seen from the front its back half leaves the spine level and falls along the wall,
    its front half falls further, towards the breastbone.
    """
    k = np.repeat(np.arange(10), 2)[:, None]
    side = np.tile([-1, 1], 10)[:, None]
    spacing = (body.dome - body.apex) / (8.6 + rng.uniform(-0.5, 0.5))
    thick, tilt = rng.uniform(0.021, 0.026), rng.uniform(0.85, 1.15) * (1 - 0.35 * body.child)
    level = body.apex + spacing * (k + 0.1) + 0.003 * rng.standard_normal(k.shape)
    fall = tilt * np.minimum(0.045 + 0.014 * k, 0.13)
    reach = np.interp(level + fall, _ALONG, body.lateral) + 0.005
    turn = np.linspace(0.0, 1.0, 15)
    back = np.sin((0.06 + 0.94 * turn) * np.pi / 2)
    behind = np.stack([side * reach * back, level + fall * (1 - np.sqrt(1 - 0.999 * back**2))], axis=2)
    ahead = np.sin((1 - 0.72 * turn) * np.pi / 2)
    further = level + fall * (1 + 1.15 * np.sqrt(1 - 0.999 * ahead**2))
    before = np.stack([side * reach * ahead, further], axis=2)[:16]
    return (
        _draw(body, _bone(behind, thick * (1 - 0.25 * turn), 170, 215)),
        _draw(body, _bone(before, thick * (0.75 + 0.5 * turn), 190, 240)),
        _draw(body, _girdle(body, rng)),
    )


def _bone(lines: _Table, width: _Table, marrow: int, cortex: int) -> list[_Bands]:
    """Bands with a brighter rim: the cortex, seen edge on."""
    n = len(lines)
    return [(lines, width, np.full(n, cortex)), (lines, width - 0.0085, np.full(n, marrow))]


def _girdle(body: _Body, rng: _Random) -> list[_Bands]:
    """Collar bones, shoulder blades and the heads of the arm bones."""
    side = np.array([[-1], [1]])
    w, top = body.width, body.apex
    mirror = np.array([[[-1.0, 1.0]], [[1.0, 1.0]]])

    def both(points: Sequence[tuple[float, float]]) -> _Table:
        place: _Table = np.asarray(points) * mirror + (0, top)
        return place + 0.004 * rng.standard_normal((2, 1, 2))

    t = np.linspace(0.0, 1.0, 14)
    inner = 0.028 + side * rng.normal(0, 0.008)  # a patient turned a little shows one collar bone shorter
    low = top + rng.uniform(0.085, 0.105) + rng.normal(0, 0.006, (2, 1))
    rise = rng.uniform(0.06, 0.12)
    course = low - rise * t + 0.011 * np.sin(2 * np.pi * t)
    clavicle = np.stack([side * (inner + (w + 0.03 - inner) * t), course], axis=2)
    blade = both([(0.86 * w, 0.1), (0.9 * w, 0.2), (0.97 * w, 0.3), (1.05 * w, 0.36), (1.08 * w, 0.3)])
    ridge = both([(0.8 * w, 0.075), (w, 0.045), (w + 0.07, 0.015), (w + 0.1, 0.02)])
    neck = both([(1.06 * w, 0.33), (w + 0.04, 0.2), (w + 0.05, 0.1), (w + 0.04, 0.06)])
    head = both([(w + 0.085 + 0.007 * i, 0.025 + 0.018 * i) for i in range(6)])
    shaft = both([(w + 0.105, 0.09), (w + 0.125, 0.22), (w + 0.15, 0.45)])
    grey = np.array([1, 1])
    return [
        (blade, 0.006, 65 * grey),
        (ridge, [0.008, 0.016, 0.024, 0.02], 90 * grey),
        (neck, [0.01, 0.018, 0.034, 0.045], 105 * grey),
        (shaft, [0.06, 0.048, 0.044], 110 * grey),
        (head, [0.045, 0.075, 0.088, 0.088, 0.078, 0.05], 130 * grey),
        *_bone(clavicle, 0.024 + 0.01 * (2 * t - 1) ** 2, 165, 225),
    ]


def _vessels(body: _Body, rng: _Random) -> _Floats:
    """Pulmonary vessels, 0-1: trees that leave the hila, fork and thin out before they reach the wall."""
    # Angles from straight down, outwards; more and thicker vessels run to the bases than to the apices.
    aims = np.tile([0.1, 0.4, 0.7, 1.0, 1.4, 1.85, 2.3, 2.75], 2)
    n = len(aims)
    side, hila = np.repeat([-1, 1], n // 2), np.repeat(body.hila, n // 2, axis=0)
    start = hila + np.stack([rng.normal(0, 0.008, n), 0.05 * np.cos(aims) + rng.normal(0, 0.01, n)], axis=1)
    widths = np.where(aims < 1.1, 0.0105, 0.008) * rng.uniform(0.7, 1.1, n)
    aims, lengths = aims + rng.normal(0, 0.1, n), rng.uniform(0.09, 0.15, n)
    trees = _trees(rng, start, side=side, aim=aims, width=widths, length=lengths, forks=3)
    # The descending arteries, the thickest of all, give the hila their comma shape.
    t = np.linspace(0, 1, 7)
    bow = np.array([[-1], [1]]) * 0.022 * np.sin(2.4 * t - 0.4)
    commas = np.stack([bow, np.tile(0.16 * t - 0.04, (2, 1))], axis=2) + np.asarray(body.hila)[:, None]
    trees.append((commas, 0.022 - 0.014 * t, np.array([170, 170])))
    return _draw(body, trees)


def _trees(
    rng: _Random, start: _Table, *, side: _Indices, aim: _Table, width: _Table, length: _Table, forks: int
) -> list[_Bands]:
    """One generation of branches after the other: n branches, then 2n thinner ones that leave them, ..."""
    bands: list[_Bands] = []
    t = np.linspace(0.0, 1.0, 6)
    for _ in range(forks + 1):
        n = len(aim)
        course = aim[:, None] + rng.normal(0, 0.45, (n, 1)) * t + rng.normal(0, 0.12, (n, 6))
        steps = np.stack([side[:, None] * np.sin(course), np.cos(course)], axis=2)
        steps *= length[:, None, None] / 5
        lines = start[:, None] + np.cumsum(steps, axis=1) - steps[:, :1]
        greys = np.clip(70 + 11000 * width, 0, 200) * rng.uniform(0.75, 1.1, n)
        bands.append((lines, width[:, None] * (1.05 - 0.4 * t), greys))
        turn = np.where(aim < 1.5, 1, -1) * rng.uniform(0.3, 0.75, n)
        start = np.concatenate([lines[:, 3], lines[:, 5]])
        aim = np.concatenate([course[:, 3] + turn, course[:, 5] - 0.5 * turn])
        side, width = np.tile(side, 2), np.tile(width * 0.66, 2)
        length = np.tile(length * 0.8, 2) * rng.uniform(0.75, 1.2, 2 * n)
    return bands


# ----------------------------------------------------------------------------------------------- the findings
# Each: body, random numbers, difficulty -> share of the air replaced, and where the finding lies (0-1).
def _ground_glass(body: _Body, rng: _Random, difficulty: float) -> tuple[_Floats, _Floats]:
    """Several hazy patches in both lungs, along the wall, most of them low."""
    extent = np.zeros_like(body.x)
    for i in range(8):
        side = -1 if i % 2 else 1
        down, out, wide = rng.beta(3.2, 1.6), rng.uniform(0.62, 0.88), rng.uniform(0.05, 0.085)
        if i >= 7 - 3 * difficulty:  # after the draw, so that an easier film shows the same patches and more
            continue
        cy = body.apex + (0.12 + 0.88 * down) * (body.dome - body.apex)
        cx = side * out * float(np.interp(cy, _ALONG, body.lateral))
        wide *= 1.1 - 0.35 * difficulty
        np.maximum(extent, _glow(body.x, body.y, (cx, cy), (wide, 1.35 * wide)), out=extent)
    haze = 1 + 0.22 * _field(rng, body.size, 24) + 0.1 * _field(rng, body.size, 56)
    return extent * haze * np.float32(0.6 - 0.4 * difficulty), extent


def _consolidation(body: _Body, rng: _Random, difficulty: float) -> tuple[_Floats, _Floats]:
    """One lobe without air but for its bronchi: sharp along a fissure, fading on the other side."""
    side, upward = ((-1, True), (-1, False), (-1, False), (1, False), (1, True))[int(rng.integers(5))]
    high = body.dome - body.apex
    fissure = body.apex + high * (rng.uniform(0.44, 0.54) if upward else rng.uniform(0.5, 0.66))
    hx, _ = body.hila[0 if side < 0 else 1]
    slant, reach = rng.uniform(-0.15, 0.2), (1 - 0.4 * difficulty) * rng.uniform(0.85, 1.1)
    line = np.float32(slant) * (body.ax - 0.15) + np.float32(rng.normal(0, 1.2)) * (body.ax - 0.2) ** 2
    beyond = (body.y - fissure - line) * (-1 if upward else 1)
    centre = 0.62 * body.width if rng.random() < 0.6 else 0.5 * body.width
    away = 1 - _ramp(np.abs(body.ax - centre) - 0.2 * reach, 0.16)
    far = 1 - _ramp(beyond - 0.28 * reach, 0.2)
    extent = _ramp(beyond, 0.022) * away * far * (body.x * side > 0)
    aims = np.linspace(0.4, 1.2, 4) + rng.normal(0, 0.08, 4)
    aims = np.pi - aims if upward else aims
    start = np.tile((hx + side * 0.02, fissure), (4, 1))
    four = np.full(4, side), np.full(4, 0.012), np.full(4, 0.1)
    tubes = _trees(rng, start, side=four[0], aim=aims, width=four[1], length=four[2], forks=1)
    fluid = 1 + 0.08 * _field(rng, body.size, 14) - 0.35 * _draw(body, tubes)
    return extent * fluid * np.float32(0.85 - 0.45 * difficulty), extent


def _interstitial(body: _Body, rng: _Random, difficulty: float) -> tuple[_Floats, _Floats]:
    """Streaks, a fine net and cuffed bronchi around both hila, a little everywhere."""
    spread = 1.15 - 0.3 * difficulty
    (_, right), (out, left) = body.hila
    extent = _glow(body.ax, body.y, (out + 0.05, (right + left) / 2 + 0.05), (0.17 * spread, 0.23 * spread))
    n = 12
    side, hila = np.repeat([-1, 1], n), np.repeat(body.hila, n, axis=0)
    outwards = np.stack([side, np.ones(2 * n)], axis=1)
    start = hila + rng.normal(0.02, (0.015, 0.04), (2 * n, 2)) * outwards
    aims, lengths = rng.uniform(0.0, 2.9, 2 * n), rng.uniform(0.12, 0.2, 2 * n)
    widths = np.full(2 * n, 0.0055)
    paths = _trees(rng, start, side=side, aim=aims, width=widths, length=lengths, forks=1)
    # Bronchi seen end on, their walls thickened.
    ring = np.linspace(0, 2 * np.pi, 9)
    centres = hila[::3] + rng.normal((0.05, 0.03), (0.03, 0.05), (8, 2)) * outwards[::3]
    circles = centres[:, None] + 0.009 * np.stack([np.cos(ring), np.sin(ring)], axis=1)
    paths.append((circles, 0.005, np.full(8, 170)))
    # The zero lines of a smooth texture make a net.
    fine, coarse = (np.clip(1 - 1.6 * np.abs(_field(rng, body.size, cells)), 0, 1) for cells in (44, 26))
    strands = 0.16 + 0.3 * (fine + coarse) + 0.7 * _draw(body, paths)
    return extent * strands * np.float32(0.6 - 0.38 * difficulty), extent


_FINDINGS = {
    "covid19": _ground_glass,
    "bacterial_pneumonia": _consolidation,
    "viral_pneumonia": _interstitial,
}


# --------------------------------------------------------------------------------------------------- the film
def _expose(anatomy: _Floats, added: _Floats | None, body_rng: _Random, noise_rng: _Random, noise: float) -> _Floats:
    """Attenuation -> film, float32, 0-1."""
    contrast, veil = body_rng.uniform(1.4, 2.5), body_rng.uniform(0.03, 0.1)
    stray = noise * noise_rng.normal(0, 0.22)
    through = np.exp(-anatomy)
    # Scatter comes from the healthy anatomy alone: a finding must not shine out of the lungs.
    size = len(anatomy)
    scatter = _resize(_resize(through, 16), size) * np.float32(veil)
    if added is not None:
        through = np.exp(-(anatomy + added))
    through += np.maximum(scatter, 0)
    grain = noise_rng.standard_normal(through.shape, dtype=np.float32)
    # Counting quanta: the fewer come through, the rougher the reading.
    reading = np.float32(0.02 * noise) * grain / np.sqrt(through) - np.log(through)
    middle = 1.35 + stray
    film = 1 / (1 + np.exp(np.float32(-contrast) * (reading - np.float32(middle))))
    low = 1 / (1 + math.exp(contrast * (middle - 0.02)))
    film = (film - np.float32(low - 0.03)) * np.float32(0.95 / (1 - low))
    gx, gy = _grid(size)
    film *= 1 - np.float32(body_rng.uniform(0, 0.25)) * (gx**2 + (gy - 0.5) ** 2)
    return (np.rint(np.clip(film, 0, 1) * 255) / 255).astype(np.float32)


# -------------------------------------------------------------------------------------------------- the tools
def _curve(at: _Table, knots: Sequence[float], values: Sequence[float] | _Table) -> _Table:
    """A table through the knots with its corners rounded."""
    table = np.interp(at, knots, values)
    padded = np.concatenate([np.full(20, table[0]), table, np.full(20, table[-1])])
    sums = np.concatenate([[0.0], np.cumsum(padded)])
    return np.asarray((sums[41:] - sums[:-41]) / 41)


def _at(table: _Table, index: _Indices) -> _Floats:
    return np.asarray(table.astype(np.float32).take(index, mode="clip"))


def _ramp(distance: _Floats, width: float) -> _Floats:
    """0 to 1 with a smooth step of this width where `distance` passes 0."""
    # In place: at this size most of the time goes into fresh memory.
    t = distance * np.float32(1 / width)
    t += np.float32(0.5)
    np.clip(t, 0, 1, out=t)
    slope = t * np.float32(-2)
    slope += np.float32(3)
    slope *= t
    slope *= t
    return np.asarray(slope)


def _glow(x: _Floats, y: _Floats, centre: tuple[float, float], radii: tuple[float, float]) -> _Floats:
    """A Gaussian spot of height 1."""
    across, down = ((x - np.float32(centre[0])) / radii[0], (y - np.float32(centre[1])) / radii[1])
    across *= across
    down *= down
    across += down
    across *= np.float32(-0.5)
    return np.asarray(np.exp(across, out=across), dtype=np.float32)


def _resize(picture: _Floats, size: int) -> _Floats:
    method = Image.Resampling.BICUBIC if size > picture.shape[0] else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize((size, size), method))


def _field(rng: _Random, size: int, cells: int) -> _Floats:
    """Smooth random texture around 0 with about `cells` blobs along each side."""
    return _resize(rng.standard_normal((cells, cells), dtype=np.float32), size)


def _merged(bands: Sequence[_Bands]) -> Iterator[_Bands]:
    """Neighbours with as many points a line in one piece: numpy's calls cost more than what they compute here."""
    for _, alike in groupby(bands, key=lambda band: band[0].shape[1]):
        lines, widths, greys = zip(*alike, strict=True)
        spread = [np.broadcast_to(np.asarray(width), line.shape[:2]) for line, width in zip(lines, widths, strict=True)]
        yield np.concatenate(lines), np.concatenate(spread), np.concatenate([np.asarray(grey) for grey in greys])


def _draw(body: _Body, bands: Sequence[_Bands]) -> _Floats:
    """Bands drawn one over the other on a canvas twice as fine and averaged down: size x size, 0-1."""
    cos, sin, scale, dx, dy = body.place
    pixels = 2 * body.size
    turn = np.array([[cos, sin], [-sin, cos]]) * scale * pixels
    shift = np.array([0.5 + dx, 0.5 + dy]) * pixels - (0, 0.5) @ turn
    canvas = Image.new("L", (pixels, pixels))
    pen = ImageDraw.Draw(canvas)
    for lines, width, greys in _merged(bands):
        along = np.empty_like(lines)
        along[:, 1:-1] = lines[:, 2:] - lines[:, :-2]
        along[:, 0], along[:, -1] = lines[:, 1] - lines[:, 0], lines[:, -1] - lines[:, -2]
        across = along[:, :, ::-1] * (-1, 1) / (np.hypot(along[:, :, 0], along[:, :, 1])[:, :, None] + 1e-9)
        across *= np.asarray(width)[:, :, None] / 2
        outlines = np.concatenate([lines + across, (lines - across)[:, ::-1]], axis=1) @ turn + shift
        for outline, grey in zip(outlines.reshape(len(lines), -1).tolist(), np.asarray(greys).tolist(), strict=True):
            pen.polygon(outline, fill=int(grey))
    return np.asarray(canvas.reduce(2), dtype=np.float32) * np.float32(1 / 255)
