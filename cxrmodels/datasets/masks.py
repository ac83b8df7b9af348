"""Lung masks that came with a data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from cxrmodels.datasets.manifest import Film
from cxrmodels.radiograph import Radiograph

BEHIND_HEART = frozenset({"kermany", "ieee8023"})
"""Sources whose masks take in the lung that lies behind the heart. Those of montgomery (Candemir et al. 2014, doi
10.1109/TMI.2013.2290491) and shenzhen (Stirenko et al. 2018, arXiv 1803.01199) end at the heart and the great
vessels."""


def read_mask(film: Film, shape: tuple[int, int]) -> np.ndarray | None:
    """The lungs of a film, bool of (height, width) `shape`, as its data set drew them; None where it has none.

    Raises:
        OSError: the mask's file is not there, or no picture.
    """
    path: Path | None = film.mask_path
    if path is None:
        return None
    with Image.open(path) as picture:
        drawn = picture.convert("L").resize((shape[1], shape[0]), Image.Resampling.NEAREST)
    mask: np.ndarray = np.asarray(drawn) > 127
    return mask if mask.any() else None


def mask_finder(films: Iterable[Film]) -> Callable[[Radiograph], np.ndarray | None]:
    """Finds the lungs of any of these films, as their data set drew them, by the film's content."""
    by_content = {film.sha256: film for film in films}

    def found(radiograph: Radiograph) -> np.ndarray | None:
        film = by_content.get(radiograph.sha256[:16])
        height, width = radiograph.pixels.shape
        return read_mask(film, (height, width)) if film else None

    return found
