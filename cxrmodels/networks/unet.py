"""A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) on MobileNet's body that outlines lungs."""

from __future__ import annotations

from keras import KerasTensor, Model, layers

from cxrmodels.networks._blocks import conv_bn, depthwise_init, film_input, network
from cxrmodels.networks.mobilenet_v1 import body

BLOCKS = 11
"""Of MobileNet's thirteen: the last two would halve the map once more, and hold half of its weights."""

_WIDTHS = (32, 64, 96)
_LAST = 8


def _separable(x: KerasTensor, name: str, filters: int) -> KerasTensor:
    x = layers.DepthwiseConv2D(
        3, padding="same", use_bias=False, depthwise_initializer=depthwise_init(3), name=f"{name}_dw"
    )(x)
    return conv_bn(x, f"{name}_pw", filters, 1)


def lung_unet(size: int, channels: int, outputs: int) -> Model:
    """MobileNet 0.75 down to a sixteenth of the film's size, two separable convolutions a scale up again, and the
    film itself beside the last one; about 1 M parameters.

    Args:
        size: side of the film in pixels, a multiple of 16.
        channels: 1 or 3.
        outputs: number of masks.

    Returns:
        A flat functional model: (batch, size, size, channels) in 0-1 -> (batch, size, size, outputs) logits.
    """
    film = film_input(size, channels)
    x, kept = body(film, BLOCKS)
    for number, (filters, beside) in reversed(list(enumerate(zip(_WIDTHS, kept, strict=True), start=1))):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{number}_grow")(x)
        x = layers.Concatenate(name=f"up{number}_join")([x, beside])
        x = _separable(x, f"up{number}_conv1", filters)
        x = _separable(x, f"up{number}_conv2", filters)
    x = layers.Conv2D(_LAST, 1, name="up0_conv")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up0_grow")(x)
    x = layers.Concatenate(name="up0_join")([x, film])
    return network(film, layers.Conv2D(outputs, 3, padding="same", dtype="float32", name="logits")(x), "lung_unet")
