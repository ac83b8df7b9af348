"""A film on its way through a network: what each block makes of it, each channel of a layer, and the first filters.

Pictures are kept as 8-bit greys and at most `PICTURE_SIDE` wide, so that a layer takes a megabyte or so, not a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cxrmodels.engine import Engine
from cxrmodels.explain.layers import SOFTMAX, Layer, blocks_of, describe, open_network
from cxrmodels.explain.steps import Steps
from cxrmodels.inference import interpret, network_input
from cxrmodels.radiograph import Radiograph, resize

PICTURE_SIDE = 128
"""Longest side of a kept picture, in pixels: larger maps are made smaller."""


@dataclass(frozen=True, slots=True)
class Network:
    """A model's network as plain values.

    Attributes:
        layers: on the film's way, the softmax last.
        filtered: name of the first convolution; empty where there is none.
        filters: float32 (F, h, w), its kernels as they act on a grey film: added up over the input's channels, which
            are all the same; (0, 1, 1) where there is none.
    """

    layers: tuple[Layer, ...]
    filtered: str
    filters: np.ndarray


@dataclass(frozen=True, slots=True)
class Walk:
    """A film as it comes out of each block.

    Attributes:
        blocks: name of a block -> uint8 (h, w): the mean size of its activations, from its least place (0) to its
            greatest (255); of the first block the film as the network gets it. Blocks without places are left out.
    """

    blocks: dict[str, np.ndarray]


@dataclass(frozen=True)
class Maps:
    """What a layer makes of a film.

    Attributes:
        layer: its name.
        pictures: uint8 (C, h, w), each channel from its own least value (0) to its greatest (255); a channel that is
            the same everywhere is 0. A layer without places has (C, 1, 1).
        low, high, mean: float32 (C,), of a channel's activations.
        strength: float32 (C,), mean size of a channel's activations, whatever their sign.
        peak: int (C, 2), row and column of a channel's greatest activation.
    """

    layer: str
    pictures: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    strength: np.ndarray
    peak: np.ndarray

    @cached_property
    def strongest(self) -> np.ndarray:
        """Channels by their strength, the strongest first; int (C,)."""
        order: np.ndarray = np.argsort(-self.strength, kind="stable")
        return order

    @property
    def silent(self) -> int:
        """How many channels are zero everywhere."""
        return int((self.strength == 0).sum())

    def positive(self, channel: int) -> np.ndarray:
        """A channel's map as float32 (h, w), 0 where it is not above zero, 1 where it is greatest."""
        low, high = float(self.low[channel]), float(self.high[channel])
        if high <= 0:
            return np.zeros(self.pictures.shape[1:], np.float32)
        value = low + (high - low) * self.pictures[channel].astype(np.float32) / np.float32(255)
        # A channel that is the same everywhere has no picture of its own; it is as strong as it can be everywhere.
        return np.clip(value / high, 0, 1) if high > low else np.ones(self.pictures.shape[1:], np.float32)


def look(engine: Engine) -> Steps[Network]:
    """A model's network as plain values, as steps that are one. It may import TensorFlow."""
    yield from _one_piece()
    network = open_network(engine)
    layers = describe(network)
    first = next((layer.name for layer in layers if layer.kind in ("convolution", "pointwise")), "")
    filters = np.zeros((0, 1, 1), np.float32)
    if first:
        kernel = np.asarray(network.get_layer(first).kernel)
        filters = np.ascontiguousarray(np.moveaxis(kernel.sum(2), -1, 0), np.float32)
    return Network(layers, first, filters)


def walk(engine: Engine, radiograph: Radiograph, layers: tuple[Layer, ...]) -> Steps[Walk]:
    """What each block of a network makes of a film, as steps that are one.

    Args:
        layers: of the network (`look`).
    """
    import keras

    yield from _one_piece()
    network, film = open_network(engine), network_input(radiograph, engine.loaded.spec)
    shown = {
        block.name: [layer.name for layer in block.layers if layer.has_places][-1]
        for block in blocks_of(layers)
        if any(layer.has_places for layer in block.layers) and block.layers[0].inputs
    }
    ends = keras.Model(network.inputs[0], [network.get_layer(name).output for name in shown.values()], name="ends")
    with engine.loaded.lock:
        found = ends(film[None], training=False)
    sizes = {block: np.abs(np.asarray(one)[0]).mean(-1) for block, one in zip(shown, found, strict=True)}
    return Walk(
        {
            layers[0].block: np.rint(255 * film[..., 0]).astype(np.uint8),
            **{block: _greys(size[None])[0] for block, size in sizes.items()},
        }
    )


def maps(engine: Engine, radiograph: Radiograph, layer: str) -> Steps[Maps]:
    """What every channel of a layer makes of a film, as steps that are one.

    Args:
        layer: name of one of the network's layers, or `SOFTMAX`.

    Raises:
        ValueError: there is no such layer.
    """
    yield from _one_piece()
    raw = _activations(engine, radiograph, layer)
    if raw.ndim == 1:
        raw = raw[None, None]
    low, high = raw.min((0, 1)), raw.max((0, 1))
    peak = np.stack(np.unravel_index(raw.reshape(-1, raw.shape[-1]).argmax(0), raw.shape[:2]), axis=1)
    return Maps(
        layer,
        _greys(np.moveaxis(raw, -1, 0)),
        low,
        high,
        raw.mean((0, 1)),
        np.abs(raw).mean((0, 1)),
        peak,
    )


def _one_piece() -> tuple[float, ...]:
    """Nothing to say of progress: work of some tenths of a second would only wait for its next turn."""
    return ()


def _activations(engine: Engine, radiograph: Radiograph, layer: str) -> np.ndarray:
    """float32 (h, w, C) or (C,)."""
    import keras

    film = network_input(radiograph, engine.loaded.spec)[None]
    if layer == SOFTMAX:
        return interpret(engine, radiograph, engine.run(film).logits[0]).probabilities.astype(np.float32)
    network = open_network(engine)
    part = keras.Model(network.inputs[0], network.get_layer(layer).output, name="part")
    with engine.loaded.lock:
        found: np.ndarray = np.asarray(part(film, training=False), np.float32)[0]
    return found


def _greys(raw: np.ndarray) -> np.ndarray:
    """Maps, float (n, h, w) -> uint8, each from its least (0) to its greatest value (255), none wider than allowed."""
    low, high = raw.min((1, 2), keepdims=True), raw.max((1, 2), keepdims=True)
    scaled = (raw - low) / np.where(high > low, high - low, 1)
    longest = max(raw.shape[1:])
    if longest > PICTURE_SIDE:
        height, width = (max(1, round(side * PICTURE_SIDE / longest)) for side in raw.shape[1:])
        scaled = np.stack([np.clip(resize(one.astype(np.float32), width, height), 0, 1) for one in scaled])
    return np.rint(255 * scaled).astype(np.uint8)
