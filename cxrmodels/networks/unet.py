"""A small U-Net (Ronneberger et al. 2015, arXiv 1505.04597) that outlines lungs."""

from __future__ import annotations

from keras import KerasTensor, Model, layers

from cxrmodels.networks._blocks import conv_bn, film_input, network

_WIDTHS = (8, 24, 48, 64)


def _twice(x: KerasTensor, name: str, filters: int) -> KerasTensor:
    return conv_bn(conv_bn(x, f"{name}_conv1", filters, 3), f"{name}_conv2", filters, 3)


def lung_unet(size: int, channels: int, outputs: int) -> Model:
    """Four scales of two convolutions each, down and up again, about 0.3 M parameters.

    Args:
        size: side of the film in pixels, a multiple of 16.
        channels: 1 or 3.
        outputs: number of masks.

    Returns:
        A flat functional model: (batch, size, size, channels) in 0-1 -> (batch, size, size, outputs) logits.
    """
    film = film_input(size, channels)
    x, kept = film, []
    for number, filters in enumerate(_WIDTHS, start=1):
        x = _twice(x, f"down{number}", filters)
        kept.append(x)
        x = layers.MaxPooling2D(2, name=f"down{number}_pool")(x)
    x = _twice(x, "bottom", 96)
    for number, (filters, beside) in reversed(list(enumerate(zip(_WIDTHS, kept, strict=True), start=1))):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{number}_grow")(x)
        x = layers.Concatenate(name=f"up{number}_join")([x, beside])
        x = _twice(x, f"up{number}", filters)
    return network(film, layers.Conv2D(outputs, 1, dtype="float32", name="logits")(x), "lung_unet")
