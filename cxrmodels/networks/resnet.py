"""The residual network ResNet50 (He et al. 2016, arXiv 1512.03385)."""

from __future__ import annotations

from typing import Any

from keras import KerasTensor, Model, layers

from cxrmodels.networks._blocks import conv_bn, film_input, network, pooled_head


def _bottleneck(x: KerasTensor, name: str, filters: int, stride: int, *, project: bool) -> KerasTensor:
    options: dict[str, Any] = {"epsilon": 1.001e-5, "use_bias": True}
    shortcut = x
    if project:
        shortcut = conv_bn(
            x, f"{name}_shortcut", 4 * filters, 1, strides=stride, activation=None, padding="valid", **options
        )
    x = conv_bn(x, f"{name}_conv1", filters, 1, strides=stride, padding="valid", **options)
    x = conv_bn(x, f"{name}_conv2", filters, 3, **options)
    x = conv_bn(x, f"{name}_conv3", 4 * filters, 1, activation=None, padding="valid", start_silent=True, **options)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def resnet50(size: int, channels: int, outputs: int) -> Model:
    """ResNet50, then global average pooling, dropout 0.5 and the logits.

    The body equals `keras.applications.ResNet50(include_top=False)` weight for weight.

    Args:
        size: side of the film in pixels (report: 224).
        channels: 1 or 3 (report: 3).
        outputs: number of findings (report: 2).
    """
    film = film_input(size, channels)
    x = layers.ZeroPadding2D(3, name="stem_pad")(film)
    x = conv_bn(x, "stem", 64, 7, strides=2, padding="valid", epsilon=1.001e-5, use_bias=True)
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for stage, (filters, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=2):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 2 and block == 1 else 1
            x = _bottleneck(x, f"stage{stage}_block{block}", filters, stride, project=block == 1)
    return network(film, pooled_head(x, outputs, 0.5), "resnet50")
