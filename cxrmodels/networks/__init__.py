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
    "compact_resnet": "resnet",
    "inception_v3": "inception",
    "xception": "xception",
    "mobilenet_v1": "mobilenet_v1",
    "lung_unet": "unet",
}
"""Network -> the module that builds it, so that naming a network does not import Keras."""

NETWORKS = tuple(_HOME)


def build(network: str, size: int, channels: int, outputs: int) -> Model:
    """Build a network with fresh weights.

    Args:
        network: one of `NETWORKS`.
        size: side of the square film in pixels.
        channels: 1 or 3.
        outputs: number of findings.

    Returns:
        A flat functional model: (batch, size, size, channels) in 0-1 -> (batch, outputs) logits.

    Raises:
        KeyError: unknown network.
    """
    from importlib import import_module

    if network not in _HOME:
        raise KeyError(f"Unknown network {network!r}; expected one of {', '.join(NETWORKS)}.")
    module = import_module(f"{__name__}.{_HOME[network]}")
    model: Model = getattr(module, network)(size, channels, outputs)
    return model
