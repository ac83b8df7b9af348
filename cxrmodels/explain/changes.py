"""Changes to a film that should, or should not, change what a network says of it: each a film in, another film out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxrmodels.radiograph import Floats, Radiograph, resize

_BORDER, _CORNER, _CROP, _SQUASH = 0.12, 0.25, 0.08, 0.8  # of a side
TEXT = "PORTABLE"
"""What is written into films."""

_LETTER = ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#")


def with_marker(film: np.ndarray, white: np.generic | float) -> np.ndarray:
    """A film (H, W), numbers of any kind, with an R in `white`, a seventh of the film high, in the upper corner where a
    marker of the right side stands."""
    height, width = film.shape
    letter = Image.fromarray(np.array([[255 * (cell == "#") for cell in line] for line in _LETTER], np.uint8))
    drawn = np.asarray(letter.resize((width // 10, height // 7), Image.Resampling.NEAREST))
    top, left = height // 10, width // 10
    marked = film.copy()
    marked[top : top + drawn.shape[0], left : left + drawn.shape[1]][drawn > 0] = white
    return marked


def _with_text(film: Floats) -> Floats:
    height, width = film.shape
    words = Image.new("L", (width, height))
    font = ImageFont.load_default(max(8, height // 18))
    ImageDraw.Draw(words).text((0.97 * width, 0.03 * height), TEXT, fill=255, font=font, anchor="rt")
    return np.maximum(film, np.asarray(words, np.float32) / np.float32(255))


def _middle(film: Floats) -> np.ndarray:
    """All but the border, bool (H, W)."""
    inside = np.zeros(film.shape, bool)
    rows, columns = (round(_BORDER * side) for side in film.shape)
    inside[rows:-rows, columns:-columns] = True
    return inside


def _without_corners(film: Floats) -> Floats:
    hidden = film.copy()
    rows, columns = (round(_CORNER * side) for side in film.shape)
    for vertical in (slice(None, rows), slice(-rows, None)):
        for horizontal in (slice(None, columns), slice(-columns, None)):
            # Its median: a marker is gone, and no edge says that something was hidden.
            hidden[vertical, horizontal] = np.median(film[vertical, horizontal])
    return hidden


def _squashed(film: Floats) -> Floats:
    height, width = film.shape
    narrow = max(1, round(_SQUASH * width))
    left = (width - narrow) // 2
    squashed = np.zeros_like(film)
    squashed[:, left : left + narrow] = resize(film, narrow, height)
    return squashed


def _cropped(film: Floats) -> Floats:
    rows, columns = (round(_CROP * side) for side in film.shape)
    return film[rows:-rows, columns:-columns]


def _lungs_only(film: Floats, lungs: np.ndarray) -> Floats:
    return np.where(lungs, film, np.float32(0))


def _no_lungs(film: Floats, lungs: np.ndarray) -> Floats:
    return np.where(lungs, np.float32(0), film)


@dataclass(frozen=True, slots=True)
class Change:
    """A change to a film.

    Attributes:
        title: what is done.
        asks: what a reader learns from it.
        make: greys (H, W) -> greys; those that `need_lungs` also take the lungs, bool (H, W).
        takes_evidence: nothing of the lungs is left, so no finding can be held; otherwise the lungs are left as they
            were, so no finding should change.
    """

    title: str
    asks: str
    make: Callable[..., Floats]
    needs_lungs: bool = False
    takes_evidence: bool = False


CHANGES: dict[str, Change] = {
    "no_lungs": Change(
        "Lungs painted black",
        "Whether a finding is held although no lung is left to show it.",
        _no_lungs,
        needs_lungs=True,
        takes_evidence=True,
    ),
    "lungs_only": Change("Lungs alone", "Whether the lungs are enough for the answer.", _lungs_only, needs_lungs=True),
    "border_only": Change(
        "Border alone",
        "Whether the frame of the film, where markers and collimator edges are, is enough for the answer.",
        lambda film: np.where(_middle(film), np.float32(0), film),
        takes_evidence=True,
    ),
    "no_corners": Change(
        "Corners hidden", "Whether something in the corners, where markers stand, made the answer.", _without_corners
    ),
    "marker": Change(
        "An R pasted in", "Whether a marker of the right side moves the answer.", lambda film: with_marker(film, 1.0)
    ),
    "text": Change(
        f'"{TEXT}" written in', "Whether words, which tell of ward and device, move the answer.", _with_text
    ),
    "inverted": Change(
        "Black and white exchanged", "Whether the network needs films to be of one kind.", lambda film: 1 - film
    ),
    "squashed": Change("Squashed to four fifths", "Whether the shape of the film matters.", _squashed),
    "cropped": Change("Edges cut off", "Whether the cut of the film matters.", _cropped),
}
"""Change key -> change, in the order shown."""


def possible(lungs: np.ndarray | None) -> tuple[str, ...]:
    """Keys of the changes that can be made, with a mask of the lungs or without."""
    return tuple(key for key, change in CHANGES.items() if lungs is not None or not change.needs_lungs)


def changed(radiograph: Radiograph, change: str, lungs: np.ndarray | None = None) -> Radiograph:
    """A film with one change, as another film.

    Args:
        radiograph: the film; it is left as it was.
        change: a key of `CHANGES`.
        lungs: bool (H, W), both lungs.

    Raises:
        KeyError: unknown change.
        ValueError: the change needs the lungs and they are not given, or they are not of the film's size.
    """
    if change not in CHANGES:
        raise KeyError(f"Unknown change {change!r}; expected one of {', '.join(CHANGES)}.")
    one, digest = CHANGES[change], hashlib.sha256(f"{radiograph.sha256} {change}".encode())
    given: tuple[np.ndarray, ...] = ()
    if one.needs_lungs:
        if lungs is None or lungs.shape != radiograph.pixels.shape or lungs.dtype != bool:
            came = "none" if lungs is None else f"{lungs.dtype} {lungs.shape}"
            raise ValueError(
                f"{one.title}: expected a mask of the lungs, bool {radiograph.pixels.shape}; got {came}. Give one, or "
                "choose a change that needs none."
            )
        given = (lungs,)
        digest.update(np.packbits(lungs).tobytes())
    pixels = np.ascontiguousarray(one.make(radiograph.pixels, *given), np.float32)
    pixels.setflags(write=False)
    return replace(radiograph, sha256=digest.hexdigest(), pixels=pixels, notes=(*radiograph.notes, one.title.lower()))
