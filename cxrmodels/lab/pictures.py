"""Arrays that a run leaves beside its events: the films held out, heat maps of pinned films, first kernels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrmodels.files import replace_file
from cxrmodels.radiograph import resize

VALIDATION_FILE = "validation.npz"


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """The films a run is validated on. `films` uint8 (N, size, size), `labels` int (N,), `ids` str (N,)."""

    films: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def position(self, film_id: str) -> int:
        """Where a film stands.

        Raises:
            KeyError: there is no such film.
        """
        found = np.flatnonzero(self.ids == film_id)
        if not len(found):
            raise KeyError(f"No film {film_id!r} was held out in this run.")
        return int(found[0])


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays to a compressed .npz file, whole or not at all."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    replace_file(path, stream.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file that holds nothing but arrays of numbers and text."""
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def read_held_out(folder: Path) -> HeldOut:
    """The films held out of the run in `folder`; they are there once it is prepared."""
    return HeldOut(**read_arrays(folder / VALIDATION_FILE))


def read_heat(folder: Path, file: str, size: int) -> np.ndarray:
    """Grad-CAM of the pinned films: float32 (films, size, size), 0-1.

    Args:
        folder: the run's.
        file: `PinnedFilms.file`.
        size: side to draw at.
    """
    return np.stack([resize(one.astype(np.float32), size, size) for one in read_arrays(folder / file)["heat"]])


def read_filters(folder: Path, file: str) -> np.ndarray:
    """Kernels of the first convolution: float32 (filters, height, width). `file` is `Filters.file`."""
    return read_arrays(folder / file)["kernels"]
