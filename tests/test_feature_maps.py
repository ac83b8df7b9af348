"""What layers make of a film, and what excites their units, against Keras itself and against known optima."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import pytest
from keras import layers
from scipy.ndimage import gaussian_filter

from cxrmodels.engine import Engine
from cxrmodels.explain import excite as module
from cxrmodels.explain import feature_maps
from cxrmodels.explain.excite import Excited, excite
from cxrmodels.explain.feature_maps import PICTURE_SIDE, Maps, Network
from cxrmodels.explain.layers import ANSWER, KINDS, SOFTMAX, blocks_of, describe
from cxrmodels.explain.steps import finish
from cxrmodels.inference import network_input, predict
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import Radiograph
from cxrmodels.zoo import SPECS, load
from tests.bare import bare_engine
from tests.test_receptive_field import described
from tests.test_receptive_field import network as small

SIDE = 32


@cache
def film() -> Radiograph:
    return phantom("covid19", seed=11, size=128, difficulty=0.2).radiograph()


@cache
def shipped(key: str) -> Engine:
    return Engine(load(key))


@cache
def looked(key: str) -> Network:
    return finish(feature_maps.look(shipped(key)))


def maps(key: str, layer: str) -> Maps:
    return finish(feature_maps.maps(shipped(key), film(), layer))


# --- layers and blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SPECS)
def test_every_layer_of_every_network_is_explained(key: str) -> None:
    network, found = small(SPECS[key].network), described(SPECS[key].network)
    assert [layer.name for layer in found] == [*(layer.name for layer in network.layers), SOFTMAX]
    assert sum(layer.parameters for layer in found) == network.count_params()
    for layer in found:
        assert layer.kind != "other", layer
        assert layer.activation != "other", layer
        assert layer.sentences().count(".") >= 1
    for layer, ours in zip(network.layers, found, strict=False):
        assert (None, *ours.shape) == tuple(layer.output.shape)
    blocks = blocks_of(found)
    # Few enough for a strip, each of one piece, none twice; the answer last.
    assert 3 < len(blocks) <= 19
    assert len({block.name for block in blocks}) == len(blocks)
    assert blocks[-1].name == ANSWER
    assert blocks[-1].end.name == SOFTMAX
    assert [layer for block in blocks for layer in block.layers] == list(found)


def test_kinds_that_are_easily_mistaken() -> None:
    kinds = {layer.name: layer.kind for layer in described("mobilenet_v3")}
    assert kinds["block3_squeeze_pool"] == "gate_pooling"
    assert kinds["block3_squeeze_reduce"] == "gate_weights"
    assert kinds["block3_squeeze"] == "gate"
    assert kinds["block3_project"] == "pointwise"
    assert kinds["pooling"] == "global_pooling"
    assert kinds["stem"] == "convolution"
    fused = {layer.name: layer for layer in described("two_conv_cnn")}
    assert (fused["conv1"].kind, fused["conv1"].activation) == ("convolution", "relu")
    assert KINDS["relu"].title in fused["conv1"].sentences()


def test_a_strange_layer_is_called_strange() -> None:
    inputs = layers.Input((8, 8, 1), name="film")
    x = layers.Cropping2D(1, name="cut")(inputs)
    network = keras.Model(inputs, layers.Dense(2, name="logits")(layers.Flatten(name="flat")(x)), name="strange")
    assert [layer.kind for layer in describe(network)] == ["film", "other", "flatten", "dense", "softmax"]


# --- feature maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("two_conv_cnn", "conv1"),
        ("two_conv_cnn", "dense"),
        ("multi_lung_cnn", "pool2"),
        ("lung_aware", "conv_dw_1_bn"),
        ("lung_aware", "conv_pw_13_act"),
    ],
)
def test_maps_are_what_keras_computes(key: str, layer: str) -> None:
    network = shipped(key).loaded.network
    fed = network_input(film(), SPECS[key])[None]
    expected = np.asarray(keras.Model(network.inputs[0], network.get_layer(layer).output)(fed, training=False))[0]
    expected = expected.reshape(*((1, 1) if expected.ndim == 1 else expected.shape[:2]), -1)
    found = maps(key, layer)
    np.testing.assert_allclose(found.mean, expected.mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.strength, np.abs(expected).mean((0, 1)), rtol=1e-4, atol=1e-5)
    assert found.silent == (expected == 0).all((0, 1)).sum()
    assert list(found.strength[found.strongest]) == sorted(found.strength, reverse=True)
    for channel in found.strongest[:3]:
        own = expected[..., channel]
        assert found.pictures[channel].shape == own.shape
        # Eight bits: each place within half a level of what it is.
        scaled = found.low[channel] + (found.high[channel] - found.low[channel]) * found.pictures[channel] / 255
        np.testing.assert_allclose(scaled, own, atol=np.ptp(own) / 500 + 1e-6)
        assert own[tuple(found.peak[channel])] == own.max()
        if own.max() > 0:
            np.testing.assert_allclose(
                found.positive(channel), np.clip(own, 0, None) / own.max(), atol=np.ptp(own) / own.max() / 500 + 1e-6
            )


def test_a_map_with_nothing_above_zero_shows_nothing() -> None:
    empty = Maps(
        "x",
        np.array([[[0, 255]], [[0, 0]]], np.uint8),
        low=np.array([-3, 2], np.float32),
        high=np.array([-1, 2], np.float32),
        mean=np.zeros(2, np.float32),
        strength=np.array([2, 2], np.float32),
        peak=np.zeros((2, 2), int),
    )
    assert not empty.positive(0).any()
    assert empty.positive(1).all()


def test_large_maps_are_kept_small() -> None:
    found = maps("lung_aware", "film")
    assert SPECS["lung_aware"].input_size > PICTURE_SIDE
    assert found.pictures.shape == (3, PICTURE_SIDE, PICTURE_SIDE)
    assert maps("lung_aware", "conv1_act").pictures.nbytes <= 2**20


def test_the_last_layer_is_the_prediction() -> None:
    prediction, _ = predict(shipped("two_conv_cnn"), film())
    np.testing.assert_allclose(maps("two_conv_cnn", SOFTMAX).mean, prediction.probabilities, rtol=1e-5)


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="No such layer: nowhere"):
        maps("two_conv_cnn", "nowhere")


def test_filters_are_what_a_grey_film_meets() -> None:
    """Convolving the grey film with them is the first layer, before its bias."""
    network, fed = shipped("two_conv_cnn").loaded.network, network_input(film(), SPECS["two_conv_cnn"])
    found = looked("two_conv_cnn")
    assert found.filtered == "conv1"
    window = fed[20:23, 30:33, 0]
    bias = np.asarray(network.get_layer("conv1").bias)
    expected = np.maximum((found.filters * window).sum((1, 2)) + bias, 0)
    real = np.asarray(keras.Model(network.inputs[0], network.get_layer("conv1").output)(fed[None]))[0, 20, 30]
    np.testing.assert_allclose(real, expected, atol=1e-5)


def test_the_strip_shows_each_block() -> None:
    network = looked("lung_aware")
    found = finish(feature_maps.walk(shipped("lung_aware"), film(), network.layers))
    blocks = [block.name for block in blocks_of(network.layers)]
    assert blocks == ["film", "conv1", *(f"block{number}" for number in range(1, 14)), "answer"]
    assert list(found.blocks) == blocks[:-1]  # the answer has no places
    np.testing.assert_array_equal(
        found.blocks["film"], np.rint(255 * network_input(film(), SPECS["lung_aware"])[..., 0])
    )
    raw = network_input(film(), SPECS["lung_aware"])[None]
    keras_model = shipped("lung_aware").loaded.network
    end = np.asarray(keras.Model(keras_model.inputs[0], keras_model.get_layer("conv_pw_2_act").output)(raw))[0]
    size = np.abs(end).mean(-1)
    np.testing.assert_allclose(found.blocks["block2"], 255 * (size - size.min()) / np.ptp(size), atol=0.6)


# --- what excites a unit ----------------------------------------------------------------------------------------------


@cache
def linear() -> Engine:
    """A network of which the most exciting picture is known: white where the weights are positive, else black."""
    keras.utils.set_random_seed(1)
    inputs = layers.Input((SIDE, SIDE, 1), name="film")
    flat = layers.Flatten(name="flat")(layers.Activation("linear", name="shown")(inputs))
    network = keras.Model(inputs, layers.Dense(2, use_bias=False, name="logits")(flat), name="linear")
    smooth = gaussian_filter(np.random.default_rng(2).standard_normal((SIDE, SIDE, 2)), (3, 3, 0))
    network.set_weights([smooth.reshape(-1, 2)])
    return bare_engine(network, ("normal", "covid19"), "shown")


def run(engine: Engine, layer: str, channel: int, seed: int = 0) -> Excited:
    return finish(excite(engine, layer, channel, seed))


@pytest.mark.parametrize("unit", [0, 1])
def test_the_climb_reaches_an_optimum_that_is_known(unit: int) -> None:
    weights = linear().loaded.network.get_layer("logits").get_weights()[0][:, unit].reshape(SIDE, SIDE)
    found, best = run(linear(), "logits", unit), np.clip(weights, 0, None).sum()
    assert found.before < 0
    # Not all of it: the picture was moved about, so that edges that are a pixel or two off count as right.
    assert found.after > 0.8 * best
    strong = np.abs(weights) > np.abs(weights).max() / 4
    assert ((found.picture > 127) == (weights > 0))[strong].mean() > 0.97


def test_the_picture_excites_the_network_as_it_says() -> None:
    found = run(shipped("two_conv_cnn"), SOFTMAX, 1)
    fed = np.repeat(found.picture[None, ..., None].astype(np.float32) / 255, 3, axis=-1)
    # Through the engine that serves films, not through Keras.
    assert shipped("two_conv_cnn").run(fed).logits[0, 1] == pytest.approx(found.after, rel=0.02)
    assert found.after > max(0, found.before) + 5
    # A channel of a map: its mean.
    channel = int(maps("two_conv_cnn", "conv2").strongest[0])
    found, network = run(shipped("two_conv_cnn"), "conv2", channel), shipped("two_conv_cnn").loaded.network
    fed = np.repeat(found.picture[None, ..., None].astype(np.float32) / 255, 3, axis=-1)
    real = np.asarray(keras.Model(network.inputs[0], network.get_layer("conv2").output)(fed))[..., channel].mean()
    assert real == pytest.approx(found.after, rel=0.02)
    assert found.after > 1.5 * found.before


def test_it_is_drawn_by_tf_keras_vis_in_pieces_and_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from tf_keras_vis.activation_maximization import ActivationMaximization

    steps: list[int] = []
    original = ActivationMaximization.__call__

    def counted(self: ActivationMaximization, *arguments: object, **options: object) -> object:
        steps.append(options["steps"])  # type: ignore[arg-type]
        return original(self, *arguments, **options)

    monkeypatch.setattr(ActivationMaximization, "__call__", counted)
    monkeypatch.setattr(module, "STEPS", 8)
    shares: list[float] = []
    found = finish(excite(linear(), "logits", 0, seed=4), shares.append)
    assert sum(steps) == 8
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    np.testing.assert_array_equal(found.picture, run(linear(), "logits", 0, seed=4).picture)
    assert not np.array_equal(found.picture, run(linear(), "logits", 0, seed=5).picture)


def test_a_unit_that_never_answers_keeps_the_noise() -> None:
    inputs = layers.Input((SIDE, SIDE, 1), name="film")
    x = layers.Conv2D(1, 3, activation="relu", bias_initializer=keras.initializers.Constant(-99), name="dead")(inputs)
    network = keras.Model(inputs, layers.Dense(2, name="logits")(layers.Flatten(name="flat")(x)), name="silent")
    found = run(bare_engine(network, ("normal", "covid19"), "dead"), "dead", 0)
    assert found.before == found.after == 0
    assert np.ptp(found.picture) > 0


def test_units_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="logits has no channel 2; it has 2"):
        run(linear(), "logits", 2)
    with pytest.raises(ValueError, match="No such layer: nowhere"):
        run(linear(), "nowhere", 0)
