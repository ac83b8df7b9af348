"""Where the lungs are on a film: a small U-Net outlines them, and what is no lung by its size is left out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from cxrmodels.datasets.manifest import ManifestError
from cxrmodels.datasets.masks import read_mask
from cxrmodels.datasets.ready import listed
from cxrmodels.engine import Engine
from cxrmodels.preprocessing import believable, prepare
from cxrmodels.radiograph import resize
from cxrmodels.zoo import LUNGS, load

if TYPE_CHECKING:
    from pathlib import Path

    from cxrmodels.radiograph import Radiograph

_KEPT = 64
_LEAST_PART = 0.2
"""A spot smaller than this share of the largest one is no lung."""

_guard, _one_at_a_time = threading.Lock(), threading.Lock()
_outlines: OrderedDict[str, np.ndarray] = OrderedDict()


@cache
def _engine() -> Engine:
    return Engine(load(LUNGS.key))


def load_network() -> None:
    """Load the lung network now, so that the first film does not wait for it.

    Raises:
        ModelError: it is missing or altered.
    """
    _engine()


def two_largest(mask: np.ndarray) -> list[np.ndarray]:
    """The two largest spots of a mask, the largest first; fewer where there are fewer.

    Args:
        mask: bool (H, W).

    Returns:
        bool (H, W) each.
    """
    from scipy.ndimage import label

    spots, _ = label(mask)
    sizes = np.bincount(spots.ravel())[1:]
    return [spots == spot + 1 for spot in np.argsort(-sizes)[:2]]


def tidy(mask: np.ndarray) -> np.ndarray:
    """The two largest spots of a mask, holes filled: what is left of an outline when specks are gone.

    Args:
        mask: bool (H, W).

    Returns:
        bool (H, W), empty where the mask is.
    """
    from scipy.ndimage import binary_fill_holes

    spots = two_largest(mask)
    if not spots:
        return mask.copy()
    least = _LEAST_PART * spots[0].sum()
    filled: np.ndarray = binary_fill_holes(np.any([spot for spot in spots if spot.sum() >= least], axis=0))
    return filled


def outline_batch(films: np.ndarray, engine: Engine | None = None) -> np.ndarray:
    """Lungs of films as the lung network takes them.

    Args:
        films: float32 (N, 128, 128, 1), 0-1.
        engine: the lung network where it is not to be the shared one.

    Returns:
        bool (N, 128, 128), tidied; with the lung that lies behind the heart.

    Raises:
        ModelError: the lung network is missing or altered.
    """
    logits = (engine or _engine()).run(films).logits[..., 0]
    return np.stack([tidy(one > 0) for one in logits])


def outline(radiograph: Radiograph, film: np.ndarray | None = None) -> np.ndarray:
    """Lungs of one film, as a mask of the film squashed to a square. Asked again, the same at once.

    Args:
        film: what `network_film` makes of it, for who has made that already.

    Returns:
        bool (128, 128), read-only; empty where no lung was found.

    Raises:
        ModelError: the lung network is missing or altered.
    """
    known = _known(radiograph.sha256)
    if known is not None:
        return known
    # The gate and a network's preparation ask at the same time: the later one waits for the answer of the first.
    with _one_at_a_time:
        known = _known(radiograph.sha256)
        if known is not None:
            return known
        prepared = network_film(radiograph.pixels) if film is None else film
        found: np.ndarray = outline_batch(prepared[None])[0]
        found.setflags(write=False)
        with _guard:
            _outlines[radiograph.sha256] = found
            while len(_outlines) > _KEPT:
                _outlines.popitem(last=False)
    return found


def _known(sha256: str) -> np.ndarray | None:
    """A film's outline, where it was asked for before."""
    with _guard:
        if sha256 in _outlines:
            _outlines.move_to_end(sha256)
        return _outlines.get(sha256)


def mask_of(radiograph: Radiograph) -> np.ndarray | None:
    """Lungs of one film at its own size, bool (H, W); None where none that could be lungs were found.

    Raises:
        ModelError: the lung network is missing or altered.
    """
    found = outline(radiograph)
    if not believable(found):
        return None
    height, width = radiograph.pixels.shape
    mask: np.ndarray = resize(found.astype(np.float32), width, height) >= 0.5
    return mask


@dataclass(frozen=True, slots=True)
class Lungs:
    """Where the lungs of a film are.

    Attributes:
        mask: bool (H, W), both lungs, at the film's own size.
        drawn: whether its data set has them drawn; otherwise the lung network found them.
    """

    mask: np.ndarray
    drawn: bool


def find(radiograph: Radiograph, folder: Path | None) -> Lungs | None:
    """Lungs of a film as its data set has them drawn, where it is of the data folder, else as the lung network outlines
    them; None where none that could be lungs were found.

    Args:
        folder: a data folder, where there is one.

    Raises:
        ModelError: the lung network is asked for, and missing or altered.
    """
    try:
        film = listed(folder, radiograph.sha256)
        mask = read_mask(film, radiograph.pixels.shape) if film else None
    except (OSError, ManifestError):
        mask = None
    if mask is not None:
        return Lungs(mask, drawn=True)
    mask = mask_of(radiograph)
    return None if mask is None else Lungs(mask, drawn=False)


_CONTOUR_SIDE, _CONTOUR_BLUR = 256, 2.0


def contours(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """The outline of a mask, smoothed to what a pen would draw.

    Args:
        mask: bool (H, W).

    Returns:
        One closed line a part, each float64 (P, 2): x and y, 0-1 of width and height; none for an empty mask.
    """
    # Imported here: the first paint of a page need not wait for them.
    from contourpy import contour_generator
    from scipy.ndimage import gaussian_filter

    height, width = mask.shape
    scale = _CONTOUR_SIDE / max(height, width)
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    small = gaussian_filter(resize(mask.astype(np.float32), columns, rows), _CONTOUR_BLUR, mode="constant")
    # A rim of nothing, so that a part that touches the film's edge is closed along it.
    lines = contour_generator(z=np.pad(small, 1)).lines(0.5)
    return tuple(np.clip((line - 0.5) / (columns, rows), 0, 1) for line in lines if isinstance(line, np.ndarray))


def network_film(pixels: np.ndarray) -> np.ndarray:
    """A film, float32 (H, W), as the lung network takes it: float32 (128, 128, 1)."""
    return prepare(pixels, LUNGS.preprocessing, LUNGS.input_size, LUNGS.channels)


def forget() -> None:
    """Drop the network and all outlines, so that another weights folder is looked into."""
    with _guard:
        _outlines.clear()
    _engine.cache_clear()
