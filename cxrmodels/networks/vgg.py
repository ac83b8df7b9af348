"""VGG16 (Simonyan and Zisserman 2015, arXiv 1409.1556) with the head of the 25+25-film tutorial papers."""

from __future__ import annotations

from collections.abc import Callable

from keras import KerasTensor, Model, layers

from cxrmodels.networks._blocks import conv_bn, film_input, logits, network


def vgg16(size: int, channels: int, outputs: int) -> Model:
    """VGG16's convolutions; then average pooling 4x4, flatten, dense 64, dropout 0.5 and the logits.

    The body equals `keras.applications.VGG16(include_top=False)` weight for weight.

    Args:
        size: side of the film in pixels (papers: 224), at least 128 for the 4x4 pooling.
        channels: 1 or 3 (papers: 3).
        outputs: number of findings (papers: 2).
    """
    return _vgg16(size, channels, outputs, _plain)


def vgg16_normalised(size: int, channels: int, outputs: int) -> Model:
    """`vgg16` with batch normalisation after each convolution: what learns in its place, see `networks.folded`."""
    return _vgg16(size, channels, outputs, lambda x, name, filters: conv_bn(x, name, filters, 3, use_bias=True))


def _plain(x: KerasTensor, name: str, filters: int) -> KerasTensor:
    # Thirteen layers without normalisation: from Keras' default kernels the signal would fade on its way.
    return layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name)(x)


def _vgg16(
    size: int, channels: int, outputs: int, convolution: Callable[[KerasTensor, str, int], KerasTensor]
) -> Model:
    film = film_input(size, channels)
    x = film
    for block, (filters, convolutions) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for number in range(1, convolutions + 1):
            x = convolution(x, f"block{block}_conv{number}", filters)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.AveragePooling2D(4, name="pooling")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="dense")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    return network(film, logits(x, outputs), "vgg16")
