"""MobileNetV3-Large (Howard et al. 2019, arXiv 1905.02244) with the head of the MobileNetV3 COVID-19 study."""

from __future__ import annotations

from typing import NamedTuple

from keras import KerasTensor, Model, initializers, layers

from cxrmodels.networks._blocks import conv_bn, depthwise_init, film_input, logits, network


class _Block(NamedTuple):
    expansion: float
    filters: int
    kernel: int
    stride: int
    squeeze: bool
    activation: str


_BLOCKS = (
    _Block(1, 16, 3, 1, False, "relu"),
    _Block(4, 24, 3, 2, False, "relu"),
    _Block(3, 24, 3, 1, False, "relu"),
    _Block(3, 40, 5, 2, True, "relu"),
    _Block(3, 40, 5, 1, True, "relu"),
    _Block(3, 40, 5, 1, True, "relu"),
    _Block(6, 80, 3, 2, False, "hard_swish"),
    _Block(2.5, 80, 3, 1, False, "hard_swish"),
    _Block(2.3, 80, 3, 1, False, "hard_swish"),
    _Block(2.3, 80, 3, 1, False, "hard_swish"),
    _Block(6, 112, 3, 1, True, "hard_swish"),
    _Block(6, 112, 3, 1, True, "hard_swish"),
    _Block(6, 160, 5, 2, True, "hard_swish"),
    _Block(6, 160, 5, 1, True, "hard_swish"),
    _Block(6, 160, 5, 1, True, "hard_swish"),
)
"""Table 1 of the paper."""

_OPEN = initializers.Constant(3.0)


def _round_channels(channels: float) -> int:
    """To a multiple of 8, never losing more than a tenth (the paper's reference code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _inverted_residual(x: KerasTensor, block: _Block, number: int) -> KerasTensor:
    name = f"block{number}"
    shortcut = x
    entering = x.shape[-1]
    expanded = _round_channels(entering * block.expansion)
    if number:
        x = conv_bn(x, f"{name}_expand", expanded, 1, activation=block.activation)
    if block.stride == 2:
        # "same" of a stride of two pads right and below only where the size is even, as the original does.
        before = block.kernel // 2
        even = x.shape[1] % 2 == 0
        x = layers.ZeroPadding2D(((before - even, before), (before - even, before)), name=f"{name}_depthwise_pad")(x)
    x = layers.DepthwiseConv2D(
        block.kernel,
        strides=block.stride,
        padding="same" if block.stride == 1 else "valid",
        use_bias=False,
        depthwise_initializer=depthwise_init(block.kernel),
        name=f"{name}_depthwise",
    )(x)
    x = layers.BatchNormalization(momentum=0.97, epsilon=1e-3, name=f"{name}_depthwise_bn")(x)
    x = layers.Activation(block.activation, name=f"{name}_depthwise_act")(x)
    if block.squeeze:
        gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze_pool")(x)
        gate = layers.Conv2D(_round_channels(expanded / 4), 1, activation="relu", name=f"{name}_squeeze_reduce")(gate)
        # Gates that start open (hard_sigmoid(3) = 1) leave learning to the convolutions first.
        gate = layers.Conv2D(
            expanded, 1, activation="hard_sigmoid", bias_initializer=_OPEN, name=f"{name}_squeeze_expand"
        )(gate)
        x = layers.Multiply(name=f"{name}_squeeze")([x, gate])
    residual = block.stride == 1 and entering == block.filters
    x = conv_bn(x, f"{name}_project", block.filters, 1, activation=None, start_silent=residual)
    if residual:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def mobilenet_v3(size: int, channels: int, outputs: int) -> Model:
    """MobileNetV3-Large; then pooling, dense 2500, batch normalisation, dropout 0.5 and the logits.

    The body equals `keras.applications.MobileNetV3Large(include_preprocessing=False)` weight for weight.

    Args:
        size: side of the film in pixels (paper: 224).
        channels: 1 or 3 (paper: 3).
        outputs: number of findings (study: 4).
    """
    film = film_input(size, channels)
    x = conv_bn(film, "stem", 16, 3, strides=2, activation="hard_swish")
    for number, block in enumerate(_BLOCKS):
        x = _inverted_residual(x, block, number)
    x = conv_bn(x, "top", 960, 1, activation="hard_swish")
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    x = layers.Dense(2500, activation="relu", name="dense")(x)
    x = layers.BatchNormalization(momentum=0.97, name="dense_bn")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    # 2500 normalised features through Keras' default kernel are logits of size 2: guesses, and sure of them.
    small = initializers.RandomNormal(stddev=1e-3)
    return network(film, logits(x, outputs, kernel_initializer=small), "mobilenet_v3")
