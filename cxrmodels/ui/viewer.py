"""The radiograph viewer: window and level, zoom and pan in the browser, on real grey levels.

A Streamlit component (v2, inline): its page parts lie in `assets/viewer.*`, nothing is loaded from elsewhere
and nothing is sent back, so looking at a film never reruns the script.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from cxrmodels.radiograph import Floats, resize
from cxrmodels.ui.components import asset, component

LONGEST_SIDE = 1024
"""Longest side, in pixels, of what is sent to the browser: at most about 3 MB, for pure noise, once."""

_mount = component("viewer", asset("viewer.html"))


def radiograph_viewer(
    pixels: Floats,
    *,
    sha256: str,
    alt: str,
    name: str,
    key: str,
    remembered: str | None = None,
    height: int = 520,
    outline: Sequence[np.ndarray] = (),
) -> None:
    """Show a film that the reader can window, zoom, pan and invert.

    Window, zoom and inversion belong to the pair of `remembered` and `sha256`: they stay through reruns and page
    changes, and another film under the same name starts afresh.

    Args:
        pixels: (H, W), float32, 0-1, air dark. Not changed.
        sha256: identity of `pixels`; for a Radiograph as it was read, its sha256. The encoded film is cached
            under it, so pixels that were changed need another one.
        alt: what the picture shows, for readers who do not see it.
        name: the film's name, written under it.
        key: identity of this viewer on the page.
        remembered: under what it remembers how a film is looked at; its `key` unless given.
        height: greatest height of the film area in CSS pixels; narrow screens and wide films get less.
        outline: closed lines around the lungs, float (P, 2) each, x and y as shares of width and height, 0-1; the
            reader can take them away.
    """
    film, levels, columns, rows = _sent(sha256, pixels)
    data: dict[str, Any] = {
        # Streamlit does not pass its own key on to the browser.
        "key": remembered or key,
        "sha256": sha256,
        "name": name,
        "alt": alt,
        "height": height,
        "columns": columns,
        "rows": rows,
        "film": film,
        "levels": levels,
        # A ten-thousandth of a side is less than a pixel.
        "outline": [np.round(line, 4).tolist() for line in outline],
    }
    _mount(key=key, data=data)


@dataclass(frozen=True, slots=True)
class Film:
    """A film as the browser gets it.

    Attributes:
        png: grey, not interlaced; of 16 bits, or of 8 where there are levels.
        levels: the 16-bit grey, 0-65535, that each value of an 8-bit PNG stands for; None where the PNG has 16 bits.
    """

    png: bytes
    levels: list[int] | None


# Keyed by the hash, since Streamlit would hash only a sample of a large array: never show a wrong film.
@st.cache_data(scope="session", max_entries=8, show_spinner=False)
def _sent(sha256: str, _pixels: Floats) -> tuple[str, list[int] | None, int, int]:
    """The film as base64 of its PNG, its levels, and the columns and rows that were left of it."""
    film = film_png(_pixels)
    return base64.b64encode(film.png).decode("ascii"), film.levels, *sent_size(_pixels)


def sent_size(pixels: Floats) -> tuple[int, int]:
    """(columns, rows) of the film as the browser gets it: never more than LONGEST_SIDE, never enlarged."""
    if pixels.ndim != 2 or pixels.size == 0:
        raise ValueError(f"The viewer shows one film as an array (H, W); got the shape {pixels.shape}.")
    rows, columns = pixels.shape
    shrink = min(1.0, LONGEST_SIDE / max(rows, columns))
    return max(1, round(columns * shrink)), max(1, round(rows * shrink))


def film_png(pixels: Floats) -> Film:
    """The film, (H, W) in 0-1, as a grey PNG of `sent_size`.

    Where more than 256 greys are in it, of 16 bits, since with 8 steps would show as soon as the window is narrowed.
    Where there are no more, as in most JPEG files, the PNG holds which of them it is: half the work for both sides. One
    grey channel because high and low byte in two colour channels take 15 % more and would need a canvas to decode,
    which browsers may alter on purpose (colour management, noise against fingerprinting).
    """
    columns, rows = sent_size(pixels)
    if pixels.shape != (rows, columns):
        pixels = resize(pixels, columns, rows)
    greys = np.rint(np.clip(pixels, 0.0, 1.0) * np.float32(65535)).astype(np.uint16)
    there = np.bincount(greys.ravel(), minlength=65536) > 0
    levels = np.flatnonzero(there)
    few = len(levels) <= 256
    if few:
        greys = (np.cumsum(there) - 1).astype(np.uint8)[greys]
    buffer = io.BytesIO()
    # Little effort: the low bits are noise, so that more costs time and saves next to nothing.
    strategy = Image.RLE if few else Image.DEFAULT_STRATEGY
    Image.fromarray(greys).save(buffer, format="PNG", compress_level=1, compress_type=strategy)
    return Film(buffer.getvalue(), levels.tolist() if few else None)
