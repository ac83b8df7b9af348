"""Where the lungs are on a film: a small U-Net outlines them, and what is no lung by its size is left out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from cxrmodels.engine import Engine
from cxrmodels.preprocessing import believable, prepare
from cxrmodels.radiograph import resize
from cxrmodels.zoo import LUNGS, load

if TYPE_CHECKING:
    from cxrmodels.radiograph import Radiograph

_KEPT = 64
_LEAST_PART = 0.2
"""A spot smaller than this share of the largest one is no lung."""

_guard = threading.Lock()
_outlines: OrderedDict[str, np.ndarray] = OrderedDict()


@cache
def _engine() -> Engine:
    return Engine(load(LUNGS.key))


def tidy(mask: np.ndarray) -> np.ndarray:
    """The two largest spots of a mask, holes filled: what is left of an outline when specks are gone.

    Args:
        mask: bool (H, W).

    Returns:
        bool (H, W), empty where the mask is.
    """
    from scipy.ndimage import binary_fill_holes, label

    spots, count = label(mask)
    if not count:
        return mask.copy()
    sizes = np.bincount(spots.ravel())[1:]
    largest = [spot + 1 for spot in np.argsort(-sizes)[:2] if sizes[spot] >= _LEAST_PART * sizes.max()]
    filled: np.ndarray = binary_fill_holes(np.isin(spots, largest))
    return filled


def outline_batch(films: np.ndarray, engine: Engine | None = None) -> np.ndarray:
    """Lungs of films as the lung network takes them.

    Args:
        films: float32 (N, 128, 128, 1), 0-1.
        engine: the lung network where it is not to be the shared one.

    Returns:
        bool (N, 128, 128), tidied.

    Raises:
        ModelError: the lung network is missing or altered.
    """
    logits = (engine or _engine()).run(films).logits[..., 0]
    return np.stack([tidy(one > 0) for one in logits])


def outline(radiograph: Radiograph) -> np.ndarray:
    """Lungs of one film, as a mask of the film squashed to a square. Asked again, the same at once.

    Returns:
        bool (128, 128), read-only; empty where no lung was found.

    Raises:
        ModelError: the lung network is missing or altered.
    """
    with _guard:
        if radiograph.sha256 in _outlines:
            _outlines.move_to_end(radiograph.sha256)
            return _outlines[radiograph.sha256]
    found: np.ndarray = outline_batch(network_film(radiograph.pixels)[None])[0]
    found.setflags(write=False)
    with _guard:
        _outlines[radiograph.sha256] = found
        while len(_outlines) > _KEPT:
            _outlines.popitem(last=False)
    return found


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


def network_film(pixels: np.ndarray) -> np.ndarray:
    """A film, float32 (H, W), as the lung network takes it: float32 (128, 128, 1)."""
    return prepare(pixels, LUNGS.preprocessing, LUNGS.input_size, LUNGS.channels)


def forget() -> None:
    """Drop the network and all outlines, so that another weights folder is looked into."""
    with _guard:
        _outlines.clear()
    _engine.cache_clear()
