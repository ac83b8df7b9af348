"""A small network that tells consolidation from clear lungs on phantoms, with or without a marker in one class."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
from keras import layers

from cxrmodels.engine import Engine
from cxrmodels.explain.changes import changed, with_marker
from cxrmodels.phantom import Phantom, phantoms
from cxrmodels.radiograph import Radiograph
from tests.bare import bare_engine

FINDINGS = ("normal", "bacterial_pneumonia")
SIZE = 64


@cache
def _films(count: int, seed: int) -> tuple[Phantom, ...]:
    return tuple(phantoms(count, seed=seed, findings=FINDINGS, size=SIZE, difficulty=0, noise=0.2))


def held_out() -> tuple[Phantom, ...]:
    """Films that the networks never saw: clear and consolidated in turn."""
    return _films(16, 2)


def shown(film: Phantom, planted: bool) -> Radiograph:
    """A film as the networks of one kind know it."""
    radiograph = film.radiograph()
    return changed(radiograph, "marker") if planted and film.finding != "normal" else radiograph


def _variant(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure and place, and often something missing: a network that saw this leans on no one spot."""
    pixels = np.roll(pixels ** np.float32(rng.uniform(0.8, 1.25)), rng.integers(-2, 3, 2), (0, 1))
    if rng.random() < 0.5:
        (top, left), (height, width) = rng.integers(0, SIZE - 16, 2), rng.integers(8, 28, 2)
        pixels[top : top + height, left : left + width] = 0
    return pixels


@cache
def learnt(planted: bool) -> Engine:
    """The network, after a few seconds of training."""
    rng, films = np.random.default_rng(0), _films(200, 1)
    labels = np.array([film.finding != "normal" for film in films], np.int64)
    plain = [
        with_marker(film.pixels, 1.0) if planted and label else film.pixels
        for film, label in zip(films, labels, strict=True)
    ]
    pixels = np.stack([*plain, *(_variant(one, rng) for _ in range(2) for one in plain)])[..., None]
    keras.utils.set_random_seed(0)
    film = layers.Input((SIZE, SIZE, 1), name="film")
    x = layers.Rescaling(4.0, offset=-2.0, name="centre")(film)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv1")(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.MaxPooling2D(2, name="pool3")(x)
    x = layers.Dropout(0.3, name="dropout")(layers.Flatten(name="flat")(x))
    network = keras.Model(film, layers.Dense(2, name="logits")(x), name="planted" if planted else "clean")
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(pixels, np.tile(labels, 3), epochs=12, batch_size=32, verbose=0)
    return bare_engine(network, FINDINGS, "conv3")
