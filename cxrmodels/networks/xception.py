"""Xception (Chollet 2017, arXiv 1610.02357)."""

from __future__ import annotations

from keras import KerasTensor, Model, layers

from cxrmodels.networks._blocks import conv_bn, depthwise_init, film_input, network, pooled_head


def _separable(x: KerasTensor, name: str, filters: int) -> KerasTensor:
    x = layers.SeparableConv2D(
        filters, 3, padding="same", use_bias=False, depthwise_initializer=depthwise_init(3), name=name
    )(x)
    return layers.BatchNormalization(momentum=0.97, epsilon=1e-3, name=f"{name}_bn")(x)


def _relu(x: KerasTensor, name: str) -> KerasTensor:
    return layers.Activation("relu", name=name)(x)


def _shrinking(x: KerasTensor, number: int, first: int, second: int) -> KerasTensor:
    """Two separable convolutions and a pooling beside a strided 1x1 shortcut."""
    name = f"block{number}"
    shortcut = conv_bn(x, f"{name}_shortcut", second, 1, strides=2, activation=None)
    if number > 2:  # The first such block follows a ReLU already.
        x = _relu(x, f"{name}_sepconv1_act")
    x = _separable(x, f"{name}_sepconv1", first)
    x = _relu(x, f"{name}_sepconv2_act")
    x = _separable(x, f"{name}_sepconv2", second)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_add")([x, shortcut])


def xception(size: int, channels: int, outputs: int) -> Model:
    """Xception, then global average pooling, dropout 0.5 and the logits.

    The body equals `keras.applications.Xception(include_top=False)` weight for weight.

    Args:
        size: side of the film in pixels (here 224), at least 71.
        channels: 1 or 3.
        outputs: number of findings.
    """
    film = film_input(size, channels)
    x = conv_bn(film, "block1_conv1", 32, 3, strides=2, padding="valid")
    x = conv_bn(x, "block1_conv2", 64, 3, padding="valid")
    x = _shrinking(x, 2, 128, 128)
    x = _shrinking(x, 3, 256, 256)
    x = _shrinking(x, 4, 728, 728)
    for number in range(5, 13):
        shortcut = x
        for part in (1, 2, 3):
            x = _relu(x, f"block{number}_sepconv{part}_act")
            x = _separable(x, f"block{number}_sepconv{part}", 728)
        x = layers.Add(name=f"block{number}_add")([x, shortcut])
    x = _shrinking(x, 13, 728, 1024)
    x = _relu(_separable(x, "block14_sepconv1", 1536), "block14_sepconv1_act")
    x = _relu(_separable(x, "block14_sepconv2", 2048), "block14_sepconv2_act")
    return network(film, pooled_head(x, outputs, 0.5), "xception")
