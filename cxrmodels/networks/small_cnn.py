"""The two small CNNs of the papers."""

from __future__ import annotations

from keras import Model, layers

from cxrmodels.networks._blocks import film_input, logits, network


def two_conv_cnn(size: int, channels: int, outputs: int) -> Model:
    """Two convolutions and two dense layers (Abdelhady, CNN model for COVID-19 detection from chest X-rays).

    The paper's single sigmoid score z is written as the two logits (-z/2, z/2): their softmax is that
    sigmoid, and each of the two findings has a gradient of its own to draw a heat map from.

    Args:
        size: side of the film in pixels (the tutorial network the paper follows uses 64).
        channels: 1 or 3.
        outputs: must be 2.

    Raises:
        ValueError: `outputs` is not 2.
    """
    if outputs != 2:
        raise ValueError(f"two_conv_cnn ends in one sigmoid and answers 2 findings; got {outputs}.")
    film = film_input(size, channels)
    x = layers.Conv2D(32, 3, activation="relu", name="conv1")(film)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(32, 3, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(256, activation="relu", name="dense")(x)
    score = layers.Dense(1, dtype="float32", name="score")(x)
    against = layers.Rescaling(-0.5, dtype="float32", name="against")(score)
    towards = layers.Rescaling(0.5, dtype="float32", name="towards")(score)
    both = layers.Concatenate(dtype="float32", name="logits")([against, towards])
    return network(film, both, "two_conv_cnn")


def multi_lung_cnn(size: int, channels: int, outputs: int) -> Model:
    """Three strided convolutions, dense 64, dropout 0.5 ("Prediction of multi-lung disease").

    Args:
        size: side of the film in pixels (paper: 150).
        channels: 1 or 3 (paper: 3).
        outputs: number of findings (the paper's text says five neurons, its scores are over four classes).
    """
    film = film_input(size, channels)
    x = film
    for number, filters in enumerate((32, 32, 64), start=1):
        x = layers.Conv2D(filters, 3, strides=2, activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(2, 2, name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="dense")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    return network(film, logits(x, outputs), "multi_lung_cnn")
