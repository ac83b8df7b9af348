"""Receptive fields, against brute force: gradients of every architecture, and films changed pixel by pixel."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cxrmodels.explain.layers import Layer, describe
from cxrmodels.explain.receptive_field import UnknownReachError, field_of, mask_of_unit
from cxrmodels.networks import build

SIZES = {
    "two_conv_cnn": 32,
    "multi_lung_cnn": 96,
    "mobilenet_v3": 64,
    "vgg16": 128,
    "resnet50": 64,
    "inception_v3": 96,
    "xception": 80,
    "darkcovidnet": 64,
    "mobilenet_v1": 64,
}
"""The networks of the shipped models, at sizes that are quick to walk; odd map sizes among what comes of them."""


@cache
def network(name: str) -> keras.Model:
    return build(name, SIZES[name], 1, 2)


@cache
def described(name: str) -> tuple[Layer, ...]:
    return describe(network(name))


def transparent(model: keras.Model) -> keras.Model:
    """A copy wired alike in which nothing can cancel out or be shut off: positive weights, averages for maxima, no
    activations. A unit's gradient is above zero exactly where the unit depends on the film."""

    def twin(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config() | {"dtype": "float64"}
        if isinstance(layer, layers.MaxPooling2D):
            return layers.AveragePooling2D.from_config(config)
        if isinstance(layer, layers.Activation | layers.LeakyReLU | layers.ReLU):
            return layers.Activation("linear", name=layer.name, dtype="float64")
        if isinstance(layer, layers.Rescaling):
            return layers.Rescaling(1.0, name=layer.name, dtype="float64")
        return type(layer).from_config(config | ({"activation": "linear"} if "activation" in config else {}))

    copy = keras.models.clone_model(model, clone_function=twin)
    copy.set_weights([np.full(array.shape, 1 / max(1, np.prod(array.shape[:-1]))) for array in model.get_weights()])
    return copy


Unit = tuple[tuple[int, int], int]
"""Position and channel."""


def gradient_masks(model: keras.Model, name: str, units: list[Unit]) -> list[np.ndarray]:
    part = keras.Model(model.inputs[0], model.get_layer(name).output)
    film = tf.ones((1, *model.inputs[0].shape[1:]), tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(film)
        output = part(film, training=False)
        asked = [output[0, row, column, channel] for (row, column), channel in units]
    return [np.asarray(tape.gradient(unit, film))[0].sum(-1) != 0 for unit in asked]


def telling(name: str) -> list[Layer]:
    """Layers with a field that is not the whole film: the first join, or one in the middle, and the last one."""
    seen = [
        layer
        for layer in described(name)
        if layer.has_places and layer.inputs and not mask_of_unit(described(name), layer.name, (0, 0), gates=True).all()
    ]
    joins = [layer for layer in seen if layer.kind in ("concatenate", "add")]
    return list({layer.name: layer for layer in (*(joins or seen[len(seen) // 2 :])[:1], seen[-1])}.values())


@pytest.mark.parametrize("name", SIZES)
def test_the_field_is_where_the_gradient_is(name: str) -> None:
    model = transparent(network(name))
    for layer in telling(name):
        rows, columns, channels = layer.shape
        units: list[Unit] = [((0, columns - 1), 0), ((rows // 2, columns // 3), channels - 1)]
        for (position, channel), expected in zip(units, gradient_masks(model, layer.name, units), strict=True):
            found = mask_of_unit(described(name), layer.name, position, channel, gates=True)
            np.testing.assert_array_equal(found, expected, err_msg=f"{layer.name} {position} {channel}")


@cache
def toy() -> keras.Model:
    """Branches of unlike reach, a shortcut, a gate, odd sizes, gaps: whatever a walk may stumble over."""
    film = layers.Input((23, 21, 1), name="film")
    wide = layers.Conv2D(2, (1, 5), padding="same", strides=2, name="wide")(film)
    tall = layers.Conv2D(3, (5, 1), padding="same", strides=2, name="tall")(film)
    joined = layers.Concatenate(name="joined")([wide, tall])
    x = layers.BatchNormalization(name="norm")(joined)
    x = layers.MaxPooling2D(2, padding="same", name="pool")(x)
    skipped = layers.Conv2D(4, 1, strides=2, name="skipped")(joined)
    x = layers.SeparableConv2D(4, 3, padding="same", dilation_rate=2, name="apart")(x)
    x = layers.Add(name="added")([x, skipped])
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(4, 1, name="excite")(gate)
    gated = layers.Multiply(name="gated")([x, gate])
    x = layers.ZeroPadding2D(((2, 0), (0, 1)), name="padded")(gated)
    x = layers.DepthwiseConv2D(2, name="depthwise")(x)
    x = layers.Flatten(name="flatten")(x)
    model = keras.Model(film, layers.Dense(2, name="logits")(x), name="toy")
    rng = np.random.default_rng(3)
    model.set_weights([rng.uniform(0.1, 1, array.shape) for array in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("name", "position", "channel"),
    [
        ("wide", (0, 0), 1),
        ("joined", (5, 5), 1),
        ("joined", (5, 5), 2),
        ("pool", (5, 5), 0),
        ("pool", (2, 3), 4),
        ("skipped", (2, 2), 0),
        ("apart", (3, 3), 1),
        ("added", (0, 5), 1),
        ("gated", (3, 2), 0),
        ("padded", (0, 0), 0),
        ("depthwise", (0, 4), 0),
        ("depthwise", (4, 5), 3),
    ],
)
def test_the_field_is_where_a_changed_pixel_changes_the_unit(
    name: str, position: tuple[int, int], channel: int
) -> None:
    part = keras.Model(toy().inputs[0], toy().get_layer(name).output)
    films = np.full((1 + 23 * 21, 23 * 21), 0.5, np.float32)
    # Bright enough to win any maximum.
    films[1:][np.eye(23 * 21, dtype=bool)] = 100
    units = np.asarray(part(films.reshape(-1, 23, 21, 1), training=False))[:, position[0], position[1], channel]
    changed = (np.abs(units[1:] - units[0]) > 1e-6 * (1 + abs(units[0]))).reshape(23, 21)
    found = mask_of_unit(describe(toy()), name, position, channel, gates=True)
    np.testing.assert_array_equal(found, changed)


def test_gates_are_told_apart_from_what_a_unit_sees_itself() -> None:
    found = describe(toy())
    local = mask_of_unit(found, "gated", (3, 2), 0)
    np.testing.assert_array_equal(local, mask_of_unit(found, "added", (3, 2), 0))
    assert 0 < local.sum() < local.size
    # Of this film the whole are the pixels that anything looks at: strides leave some out.
    rows, columns, _ = next(layer.shape for layer in found if layer.name == "added")
    looked_at = [mask_of_unit(found, "added", place) for place in np.ndindex(rows, columns)]
    np.testing.assert_array_equal(mask_of_unit(found, "gated", (3, 2), 0, gates=True), np.any(looked_at, axis=0))
    assert field_of(found, "gated").gated
    assert not field_of(found, "added").gated


def test_a_channel_of_a_join_sees_through_its_own_branch_only() -> None:
    found = describe(toy())
    assert field_of(found, "joined", 0).size == (1, 5)
    assert field_of(found, "joined", 2).size == (5, 1)
    assert field_of(found, "joined").size == (5, 5)
    # Exact, where numbers alone say 5 x 5: a cross.
    assert mask_of_unit(found, "joined", (5, 5)).sum() == 9


@pytest.mark.parametrize(
    ("name", "size", "layer", "field", "step"),
    # Araujo, Norris and Sim 2019, Computing Receptive Fields of Convolutional Neural Networks, Distill: its table.
    [
        ("vgg16", 128, "block5_pool", 212, 32),
        ("resnet50", 64, "stage5_block3_out", 483, 32),
        ("inception_v3", 96, "mixed10", 1311, 32),
        ("mobilenet_v1", 64, "conv_pw_13_act", 315, 32),
    ],
)
def test_the_numbers_are_those_that_were_published(name: str, size: int, layer: str, field: int, step: int) -> None:
    found = field_of(described(name) if name in SIZES else describe(build(name, size, 1, 2)), layer)
    assert (found.size, found.step, found.gated) == ((field, field), (step, step), False)


def test_behind_global_pooling_a_unit_sees_everything() -> None:
    for name in ("pooling", "logits", "softmax"):
        assert field_of(described("resnet50"), name).size is None


def test_a_unit_on_padding_sees_nothing() -> None:
    # DarkCovidNet pads its 1 x 1 convolutions: their corners get zeros only.
    assert not mask_of_unit(described("darkcovidnet"), "triple3b", (0, 0)).any()


def test_what_is_not_known_is_said() -> None:
    unet = describe(build("lung_unet", 32, 1, 1))
    with pytest.raises(UnknownReachError, match=r"up\d_grow is of a kind"):
        field_of(unet, "logits")
    assert field_of(unet, "conv_pw_3_act").size is not None
    with pytest.raises(ValueError, match=r"no position \(40, 0\)"):
        mask_of_unit(described("two_conv_cnn"), "conv1", (40, 0))
    with pytest.raises(KeyError):
        field_of(unet, "nowhere")
