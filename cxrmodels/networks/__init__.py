"""The architectures, one file a family. Keras and numpy only: each builds on any Keras backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras import Model

_HOME = {
    "two_conv_cnn": "small_cnn",
    "multi_lung_cnn": "small_cnn",
    "darkcovidnet": "darkcovidnet",
    "mobilenet_v3": "mobilenet_v3",
    "vgg16": "vgg",
    "resnet50": "resnet",
    "inception_v3": "inception",
    "xception": "xception",
    "mobilenet_v1": "mobilenet_v1",
    "lung_unet": "unet",
}
"""Network -> the module that builds it, so that naming a network does not import Keras."""

NETWORKS = tuple(_HOME)


NORMALISED = ("vgg16",)
"""Networks of convolutions alone, in whose place one with batch normalisation can learn."""


def build(network: str, size: int, channels: int, outputs: int, *, normalised: bool = False) -> Model:
    """Build a network with fresh weights.

    Args:
        network: one of `NETWORKS`.
        size: side of the square film in pixels.
        channels: 1 or 3.
        outputs: number of findings.
        normalised: of those in `NORMALISED`, the one that learns in its place; `folded` gives the network itself.

    Returns:
        A flat functional model: (batch, size, size, channels) in 0-1 -> (batch, outputs) logits.

    Raises:
        KeyError: unknown network, or one that has no normalised one.
    """
    from importlib import import_module

    known = NORMALISED if normalised else NETWORKS
    if network not in known:
        raise KeyError(f"Unknown network {network!r}; expected one of {', '.join(known)}.")
    module = import_module(f"{__name__}.{_HOME[network]}")
    model: Model = getattr(module, f"{network}_normalised" if normalised else network)(size, channels, outputs)
    return model


def folded(trained: Model, network: Model) -> Model:
    """Give a network what the one with batch normalisation has learnt in its place.

    A trained normalisation scales and shifts each channel by the same amount whatever the film: the convolution before
    it can do that itself (Jacob et al. 2018, arXiv 1712.05877, section 3.2). Both networks answer alike.

    Args:
        trained: built by `build` with `normalised`.
        network: built without; its weights are replaced.

    Returns:
        `network`.
    """
    import numpy as np

    names = {layer.name for layer in trained.layers}
    for layer in network.layers:
        weights = [np.asarray(weight, np.float32) for weight in trained.get_layer(layer.name).get_weights()]
        if f"{layer.name}_bn" in names:
            kernel, bias = weights
            normal = trained.get_layer(f"{layer.name}_bn")
            gamma, beta, mean, variance = (np.asarray(weight, np.float32) for weight in normal.get_weights())
            scale = gamma / np.sqrt(variance + normal.epsilon)
            weights = [kernel * scale, (bias - mean) * scale + beta]
        layer.set_weights(weights)
    return network
