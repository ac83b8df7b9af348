"""The lab's networks: those of the papers, and a small CNN with its parts to choose. Every layer has a name."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from cxrmodels.lab.config import ConfigurableCnn, RunConfig
from cxrmodels.networks import build
from cxrmodels.networks._blocks import conv_bn, film_input, logits, network

CHANNELS = 1
"""Films are grey. The papers' networks take three equal channels, which says nothing more and takes longer."""

_MOMENTUM = 0.8
"""Of batch normalisation: an epoch here may have ten steps, and slower averages would lag behind the weights."""

_LAST_CONVOLUTION = {"two_conv_cnn": "conv2", "multi_lung_cnn": "conv3"}


def build_network(config: RunConfig) -> keras.Model:
    """A run's network with fresh weights: (batch, size, size, 1) in 0-1 -> (batch, classes) logits."""
    if isinstance(config.network, str):
        return build(config.network, config.input_size, CHANNELS, len(config.classes))
    return _configurable(config.network, config.input_size, len(config.classes))


def feature_layer(config: RunConfig) -> str:
    """The layer that heat maps come from: the last convolution, after its activation."""
    if isinstance(config.network, str):
        return _LAST_CONVOLUTION[config.network]
    return f"conv{config.network.blocks}_act"


def _configurable(chosen: ConfigurableCnn, size: int, outputs: int) -> keras.Model:
    film = film_input(size, CHANNELS)
    # Greys around 0 instead of 0 to 1: on some hundred films it learns in a third of the epochs.
    x = layers.Rescaling(4.0, offset=-2.0, name="centre")(film)
    for number, filters in enumerate(chosen.widths, start=1):
        name = f"conv{number}"
        if chosen.batch_norm:
            x = conv_bn(x, name, filters, 3, momentum=_MOMENTUM)
        else:
            x = layers.Conv2D(filters, 3, padding="same", name=name)(x)
            x = layers.Activation("relu", name=f"{name}_act")(x)
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
    # Flattened, not averaged: where in the chest something is says much about what it is.
    x = layers.Flatten(name="flatten")(x)
    if chosen.dense:
        x = layers.Dense(chosen.dense, activation="relu", name="dense")(x)
    x = layers.Dropout(chosen.dropout, name="dropout")(x)
    return network(film, logits(x, outputs), "configurable_cnn")


def as_batch(films: np.ndarray) -> np.ndarray:
    """uint8 (N, size, size) -> float32 (N, size, size, 1), 0-1."""
    return films[..., None].astype(np.float32) / np.float32(255)
