"""Layers that several networks share. Each one is named: Keras' automatic names depend on what else runs."""

from __future__ import annotations

import math
from typing import Any

from keras import KerasTensor, Model, initializers, layers

Size = int | tuple[int, int]


def film_input(size: int, channels: int) -> KerasTensor:
    """The input of every network: (batch, size, size, channels), 0-1, air dark."""
    return layers.Input((size, size, channels), name="film")


def conv_bn(
    x: KerasTensor,
    name: str,
    filters: int,
    kernel: Size,
    *,
    strides: int = 1,
    padding: str = "same",
    activation: str | None = "relu",
    momentum: float = 0.97,
    epsilon: float = 1e-3,
    scale: bool = True,
    use_bias: bool = False,
    start_silent: bool = False,
) -> KerasTensor:
    """Convolution, batch normalisation, activation: `name`, `name`_bn, `name`_act.

    With `start_silent` the scale starts at zero: at the end of a residual branch the block then begins as its
    shortcut, and a deep network learns sooner (Goyal et al. 2017, arXiv 1706.02677).

    The batch normalisation forgets faster than Keras' default (0.99): a run here has hundreds of steps, not
    hundreds of thousands, and slow averages would lag behind the weights.
    """
    x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=use_bias, name=name)(x)
    x = layers.BatchNormalization(
        momentum=momentum,
        epsilon=epsilon,
        scale=scale,
        gamma_initializer="zeros" if start_silent else "ones",
        name=f"{name}_bn",
    )(x)
    return layers.Activation(activation, name=f"{name}_act")(x) if activation else x


def depthwise_init(kernel: int) -> initializers.Initializer:
    """Normal with variance 2 / kernel**2 (He et al. 2015, arXiv 1502.01852), for depthwise kernels.

    Keras counts all channels as inputs of a depthwise kernel, though each output sees one. Its default is some
    twenty times too small; batch normalisation hides that, but a step of Adam then turns such a layer over.
    """
    return initializers.RandomNormal(stddev=math.sqrt(2) / kernel)


def pooled_head(x: KerasTensor, outputs: int, dropout: float) -> KerasTensor:
    """Global average pooling, dropout, dense: the usual end of a transfer-learning network."""
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return logits(x, outputs)


def logits(x: KerasTensor, outputs: int, **options: Any) -> KerasTensor:
    """The last layer: one logit a finding, no activation, float32 also under mixed precision."""
    return layers.Dense(outputs, dtype="float32", name="logits", **options)(x)


def network(inputs: KerasTensor, outputs: KerasTensor, name: str) -> Model:
    """A flat functional model. Flat, because Grad-CAM and its kin cannot reach into nested ones."""
    return Model(inputs, outputs, name=name)
