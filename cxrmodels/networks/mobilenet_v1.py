"""MobileNet (Howard et al. 2017, arXiv 1704.04861) at three quarters of its width."""

from __future__ import annotations

from keras import KerasTensor, Model, layers

from cxrmodels.networks._blocks import conv_bn, depthwise_init, film_input, network, pooled_head

# (filters of the 1x1 convolution at full width, stride of the depthwise one), Table 1 of the paper.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
_WIDTH = 0.75


def _separable(x: KerasTensor, number: int, filters: int, stride: int) -> KerasTensor:
    if stride == 2:
        # As the original pads: below and right only.
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{number}")(x)
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        depthwise_initializer=depthwise_init(3),
        name=f"conv_dw_{number}",
    )(x)
    x = layers.BatchNormalization(momentum=0.97, epsilon=1e-3, name=f"conv_dw_{number}_bn")(x)
    x = layers.Activation("relu6", name=f"conv_dw_{number}_relu")(x)
    return conv_bn(x, f"conv_pw_{number}", filters, 1, activation="relu6")


def body(film: KerasTensor, blocks: int = len(_BLOCKS)) -> tuple[KerasTensor, list[KerasTensor]]:
    """The first convolution and the first `blocks` separable ones.

    It equals that of `keras.applications.MobileNet(alpha=0.75, include_top=False)` weight for weight, and bears its
    layers' names.

    Returns:
        What the last block gives, and what there is of each larger size, largest first, just before it is halved.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name="conv1_pad")(film)
    x = conv_bn(x, "conv1", int(32 * _WIDTH), 3, strides=2, padding="valid", activation="relu6")
    kept = []
    for number, (filters, stride) in enumerate(_BLOCKS[:blocks], start=1):
        if stride == 2:
            kept.append(x)
        x = _separable(x, number, int(filters * _WIDTH), stride)
    return x, kept


def mobilenet_v1(size: int, channels: int, outputs: int) -> Model:
    """MobileNet 0.75; then global average pooling, dropout 0.3 and the logits.

    Args:
        size: side of the film in pixels.
        channels: 1 or 3.
        outputs: number of findings.
    """
    film = film_input(size, channels)
    x, _ = body(film)
    return network(film, pooled_head(x, outputs, 0.3), "mobilenet_v1")
