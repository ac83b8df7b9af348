"""DarkCovidNet (Ozturk et al. 2020, doi 10.1016/j.compbiomed.2020.103792)."""

from __future__ import annotations

from keras import KerasTensor, Model, layers

from cxrmodels.networks._blocks import film_input, logits, network


def _dark(x: KerasTensor, name: str, filters: int, kernel: int = 3) -> KerasTensor:
    """Convolution padded by 1, batch norm, LeakyReLU 0.1. A 1x1 convolution so padded grows the map by two."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    x = layers.Conv2D(filters, kernel, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=0.97, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.LeakyReLU(negative_slope=0.1, name=f"{name}_act")(x)


def darkcovidnet(size: int, channels: int, outputs: int) -> Model:
    """Seventeen convolutions in the manner of Darknet-19, then one dense layer on a map with a channel a class.

    Args:
        size: side of the film in pixels (paper: 256, which ends in a 13 x 13 map).
        channels: 1 or 3 (paper: 3).
        outputs: number of findings (paper: 3 and 2).
    """
    film = film_input(size, channels)
    x = _dark(film, "conv1", 8)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = _dark(x, "conv2", 16)
    for number, (narrow, wide) in enumerate(((16, 32), (32, 64), (64, 128), (128, 256)), start=3):
        x = layers.MaxPooling2D(2, name=f"pool{number - 1}")(x)
        x = _dark(x, f"triple{number}a", wide)
        x = _dark(x, f"triple{number}b", narrow, kernel=1)
        x = _dark(x, f"triple{number}c", wide)
    x = _dark(x, "conv7", 128, kernel=1)
    x = _dark(x, "conv8", 256)
    x = layers.Conv2D(outputs, 3, padding="same", use_bias=False, name="conv9")(x)
    x = layers.Activation("relu", name="conv9_act")(x)
    x = layers.BatchNormalization(momentum=0.97, epsilon=1e-5, name="conv9_bn")(x)
    x = layers.Flatten(name="flatten")(x)
    return network(film, logits(x, outputs), "darkcovidnet")
