"""The lab's networks, their heat maps while they learn, and the learning rate of every step."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from cxrmodels.explain.saliency import METHODS
from cxrmodels.lab.config import ConfigurableCnn, PhantomData, RunConfig
from cxrmodels.lab.events import Changed
from cxrmodels.lab.loop import epoch_order, learning_rate
from cxrmodels.lab.network import as_batch, build_network, feature_layer
from cxrmodels.lab.saliency import Probe

TWO = PhantomData(findings=("normal", "covid19"))
NETWORKS: dict[str, RunConfig] = {
    "two_conv_cnn": RunConfig(data=TWO, network="two_conv_cnn", input_size=32),
    "multi_lung_cnn": RunConfig(network="multi_lung_cnn", input_size=85),
    "with everything": RunConfig(network=ConfigurableCnn(2, 4, True, 0.5, True, 8), input_size=32),
    "plain": RunConfig(network=ConfigurableCnn(1, 4, False, 0.0, False, 0), input_size=32),
    "deep": RunConfig(network=ConfigurableCnn(5, 4, True), input_size=32),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_named_and_answers_are_logits(name: str) -> None:
    config = NETWORKS[name]
    network = build_network(config)
    films = np.random.default_rng(0).integers(0, 255, (3, config.input_size, config.input_size), np.uint8)
    assert network(as_batch(films)).shape == (3, len(config.classes))
    fresh = build_network(config)
    assert [layer.name for layer in network.layers] == [layer.name for layer in fresh.layers]
    assert len(network.get_layer(feature_layer(config)).output.shape) == 4


def test_parts_that_were_chosen_are_there() -> None:
    names = {layer.name for layer in build_network(NETWORKS["with everything"]).layers}
    assert {"conv1_bn", "conv2_bn", "dense", "dropout"} <= names
    plain = build_network(NETWORKS["plain"])
    assert not {"conv1_bn", "dense"} & {layer.name for layer in plain.layers}
    widths = [build_network(NETWORKS["deep"]).get_layer(f"conv{number}").filters for number in range(1, 6)]
    assert widths == [4, 8, 16, 32, 64]


@pytest.mark.parametrize("name", NETWORKS)
def test_heat_maps_are_those_of_the_true_gradient(name: str) -> None:
    import tensorflow as tf

    config = NETWORKS[name]
    keras.utils.set_random_seed(3)
    network = build_network(config)
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(1)
    films = rng.integers(0, 255, (4, config.input_size, config.input_size), np.uint8)
    labels = np.array([0, 1, 1, 0])
    layer = feature_layer(config)
    probe = Probe(network, layer, films, labels)
    for _ in range(2):  # while it learns: what was seen before must not stick
        network.train_on_batch(as_batch(films), labels)
        before = [variable.numpy() for variable in (*network.variables, *network.optimizer.variables)]
        probabilities, heat = probe.look()
        after = [variable.numpy() for variable in (*network.variables, *network.optimizer.variables)]
        assert all((one == two).all() for one, two in zip(before, after, strict=True)), "the training is left alone"

        body = keras.Model(network.inputs[0], network.get_layer(layer).output)
        head = keras.Model(network.get_layer(layer).output, network.outputs[0])
        features = body(as_batch(films), training=False)
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = head(features, training=False)
            score = tf.reduce_sum(tf.gather(logits, labels, axis=1, batch_dims=1))
        gradient = tape.gradient(score, features).numpy()
        np.testing.assert_allclose(probabilities, tf.nn.softmax(logits).numpy(), atol=1e-5)
        for position in range(4):
            raw = np.maximum(METHODS["grad_cam"].weigh(features[position].numpy(), gradient[position]), 0)
            expected = raw / raw.max() if raw.max() > 0 else raw
            np.testing.assert_allclose(heat[position], expected, atol=2e-3)
        assert heat.max() == pytest.approx(1)


def test_learning_rate_of_every_step() -> None:
    constant, step, cosine = (RunConfig(schedule=name, learning_rate=0.1) for name in ("constant", "step", "cosine"))
    assert [learning_rate(constant, [], at, 8) for at in range(8)] == [0.1] * 8
    assert [learning_rate(step, [], at, 8) for at in range(8)] == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    falling = [learning_rate(cosine, [], at, 100) for at in range(100)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == pytest.approx(0.1)
    assert 0.001 <= falling[-1] < 0.0012


def test_rate_that_was_set_holds_at_once_and_the_schedule_goes_on_from_it() -> None:
    config = RunConfig(schedule="step", learning_rate=0.1)
    changes = [Changed("learning_rate", 1.0, 3), Changed("learning_rate", 0.5, 5)]
    found = [learning_rate(config, changes, at, 8) for at in range(8)]
    assert found == pytest.approx([0.1, 0.1, 0.1, 1.0, 0.1, 0.5, 0.05, 0.05])


def test_order_of_an_epoch() -> None:
    config = RunConfig()
    first, second = epoch_order(config, 50, 0), epoch_order(config, 50, 1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert (first != second).any()
    np.testing.assert_array_equal(first, epoch_order(config, 50, 0))
