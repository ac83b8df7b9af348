"""VGG16 (Simonyan and Zisserman 2015, arXiv 1409.1556) with the head of the 25+25-film tutorial papers."""

from __future__ import annotations

from keras import Model, layers

from cxrmodels.networks._blocks import film_input, logits, network


def vgg16(size: int, channels: int, outputs: int) -> Model:
    """VGG16's convolutions; then average pooling 4x4, flatten, dense 64, dropout 0.5 and the logits.

    The body equals `keras.applications.VGG16(include_top=False)` weight for weight.

    Args:
        size: side of the film in pixels (papers: 224), at least 128 for the 4x4 pooling.
        channels: 1 or 3 (papers: 3).
        outputs: number of findings (papers: 2).
    """
    film = film_input(size, channels)
    x = film
    for block, (filters, convolutions) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for number in range(1, convolutions + 1):
            # Thirteen layers without normalisation: from Keras' default kernels the signal would fade on its way.
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"block{block}_conv{number}",
            )(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.AveragePooling2D(4, name="pooling")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="dense")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    return network(film, logits(x, outputs), "vgg16")
