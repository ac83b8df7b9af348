"""Films and labels as arrays, and the batches that a fit draws from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cxrmodels.datasets.manifest import Film
from cxrmodels.evaluation.predictions import Evaluation
from cxrmodels.findings import index_of
from cxrmodels.inference import network_inputs, read_film, read_films
from cxrmodels.training.augment import AUGMENTATIONS
from cxrmodels.zoo import ModelSpec

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class LabelledFilms:
    """`images` uint8 (N, size, size) as a network sees them; `labels` int (N,), positions among its findings; `sources`
    str (N,)."""

    images: np.ndarray
    labels: np.ndarray
    sources: np.ndarray


def answerable(films: Sequence[Film], findings: Sequence[str]) -> tuple[list[Film], np.ndarray]:
    """The films whose finding a network with `findings` can answer, and their labels, int (N,)."""
    pairs = [(film, index_of(film.finding, findings)) for film in films]
    kept = [(film, label) for film, label in pairs if label is not None]
    return [film for film, _ in kept], np.array([label for _, label in kept], dtype=np.int64)


def load_films(films: Sequence[Film], spec: ModelSpec, size: int) -> LabelledFilms:
    """Read the films that a model can answer into memory, as its network sees them but for `size`, one byte a pixel
    (8,000 at 224 px: 400 MB).

    Raises:
        RadiographError: a film cannot be read.
        ModelError: the model looks at the lungs, and the network that outlines them is missing or altered.
    """
    kept, labels = answerable(films, spec.findings)
    images = np.empty((len(kept), size, size), np.uint8)
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(kept), _CHUNK):
            radiographs = list(pool.map(read_film, kept[start : start + _CHUNK]))
            seen = network_inputs(radiographs, spec, size)[..., 0]
            images[start : start + len(seen)] = np.rint(255 * seen)
    return LabelledFilms(images, labels, np.array([film.source for film in kept]))


def _as_batch(images: np.ndarray, channels: int) -> np.ndarray:
    scaled = images.astype(np.float32) / 255
    return np.repeat(scaled[..., None], channels, axis=-1)


def balanced_order(labels: np.ndarray, rng: np.random.Generator, sources: np.ndarray | None = None) -> np.ndarray:
    """Positions for one epoch: as many as there are films, every class equally often, int (N,).

    A class larger than its share is drawn without repeats, a smaller one goes round.

    Args:
        sources: str (N,), to even out sources within a class, too: each is drawn in proportion to the square root of
            its number of films, half-way between equally often and as they come.
    """
    classes = np.unique(labels)
    share = -(-len(labels) // len(classes))
    if sources is None:
        sources = np.zeros(len(labels), np.int64)
    drawn = []
    for label in classes:
        cells = [np.flatnonzero((labels == label) & (sources == source)) for source in np.unique(sources)]
        cells = [cell for cell in cells if len(cell)]
        roots = np.sqrt([len(cell) for cell in cells])
        for cell, part in zip(cells, roots / roots.sum(), strict=True):
            wanted = math.ceil(share * part)
            rounds = [rng.permutation(cell) for _ in range(-(-wanted // len(cell)))]
            drawn.append(np.resize(np.concatenate(rounds), wanted))
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
        augmentation: str = "expose",
        even_sources: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._films, self._channels, self._batch_size = films, channels, batch_size
        self._strength, self._seed, self._epoch = strength, seed, epoch
        self._augment = AUGMENTATIONS[augmentation]
        self._targets = np.eye(outputs, dtype=np.float32)
        rng = np.random.default_rng((seed, epoch))
        self._order = balanced_order(films.labels, rng, films.sources if even_sources else None)

    def __len__(self) -> int:
        return len(self._order) // self._batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `index`: float32 (batch, size, size, channels) in 0-1, one-hot float32 (batch, outputs)."""
        rng = np.random.default_rng((self._seed, self._epoch, index))
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images = self._films.images[chosen]
        if self._strength:
            images = np.stack([self._augment(image, self._strength, rng) for image in images])
        return _as_batch(images, self._channels), self._targets[self._films.labels[chosen]]


def predict_logits(network: keras.Model, images: np.ndarray, channels: int, batch_size: int = 64) -> np.ndarray:
    """Logits of films as `LabelledFilms.images` holds them: float32 (N, outputs)."""
    parts = [
        np.asarray(network.predict_on_batch(_as_batch(images[start : start + batch_size], channels)))
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts)


def predict_films(network: keras.Model, spec: ModelSpec, films: Sequence[Film]) -> Evaluation:
    """A network's logits on films, see `inference.read_films`."""
    return read_films(lambda batch: np.asarray(network.predict_on_batch(batch)), spec, films)
