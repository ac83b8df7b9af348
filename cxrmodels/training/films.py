"""Films and labels as arrays, and the batches that a fit draws from them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxrmodels.datasets.manifest import Film
from cxrmodels.findings import index_of
from cxrmodels.preprocessing import prepare
from cxrmodels.radiograph import read_radiograph
from cxrmodels.training.augment import augment


@dataclass(frozen=True, slots=True)
class LabelledFilms:
    """`images` uint8 (N, size, size) as a network sees them; `labels` int (N,), positions among its findings."""

    images: np.ndarray
    labels: np.ndarray


def answerable(films: Sequence[Film], findings: Sequence[str]) -> tuple[list[Film], np.ndarray]:
    """The films whose finding a network with `findings` can answer, and their labels, int (N,)."""
    pairs = [(film, index_of(film.finding, findings)) for film in films]
    kept = [(film, label) for film, label in pairs if label is not None]
    return [film for film, _ in kept], np.array([label for _, label in kept], dtype=np.int64)


def prepare_film(path: Path, preprocessing: str, size: int, channels: int) -> np.ndarray:
    """Read a film and prepare it exactly as the pages do: float32 (size, size, channels), 0-1."""
    return prepare(read_radiograph(path.read_bytes(), path.name).pixels, preprocessing, size, channels)


def load_films(films: Sequence[Film], findings: Sequence[str], preprocessing: str, size: int) -> LabelledFilms:
    """Read films into memory, one byte a pixel (8,000 at 224 px: 400 MB).

    Raises:
        RadiographError: a film cannot be read.
    """
    kept, labels = answerable(films, findings)
    images = np.empty((len(kept), size, size), np.uint8)

    def read(position: int) -> None:
        pixels = prepare_film(kept[position].path, preprocessing, size, 1)[..., 0]
        images[position] = np.rint(pixels * 255)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, range(len(kept))))
    return LabelledFilms(images, labels)


def _as_batch(images: np.ndarray, channels: int) -> np.ndarray:
    scaled = images.astype(np.float32) / 255
    return np.repeat(scaled[..., None], channels, axis=-1)


def balanced_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions for one epoch: as many as there are films, every class equally often, int (N,).

    A class larger than its share is drawn without repeats, a smaller one goes round.
    """
    classes = np.unique(labels)
    share = -(-len(labels) // len(classes))
    drawn = [
        np.resize(np.concatenate([rng.permutation(members) for _ in range(-(-share // len(members)))]), share)
        for members in (np.flatnonzero(labels == label) for label in classes)
    ]
    order: np.ndarray = rng.permutation(np.concatenate(drawn))[: len(labels)]
    return order


class TrainingBatches(keras.utils.PyDataset):
    """One epoch of balanced, augmented batches. What epoch e holds depends on seed and e alone, so that a
    training that was killed goes on with the very batches it would have seen."""

    def __init__(
        self,
        films: LabelledFilms,
        *,
        outputs: int,
        channels: int,
        batch_size: int,
        strength: float,
        seed: int,
        epoch: int,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._films, self._channels, self._batch_size = films, channels, batch_size
        self._strength, self._seed, self._epoch = strength, seed, epoch
        self._targets = np.eye(outputs, dtype=np.float32)
        self._order = balanced_order(films.labels, np.random.default_rng((seed, epoch)))

    def __len__(self) -> int:
        return len(self._order) // self._batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`: float32 (batch, size, size, channels) in 0-1, one-hot float32 (batch, outputs)."""
        rng = np.random.default_rng((self._seed, self._epoch, index))
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images = self._films.images[chosen]
        if self._strength:
            images = np.stack([augment(image, self._strength, rng) for image in images])
        return _as_batch(images, self._channels), self._targets[self._films.labels[chosen]]


def predict_logits(network: keras.Model, images: np.ndarray, channels: int, batch_size: int = 64) -> np.ndarray:
    """Logits of films as `LabelledFilms.images` holds them: float32 (N, outputs)."""
    parts = [
        np.asarray(network.predict_on_batch(_as_batch(images[start : start + batch_size], channels)))
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts)
