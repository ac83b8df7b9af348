"""Grad-CAM of a network while it is being trained, on any Keras backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from scipy.special import softmax

from cxrmodels.explain.saliency import METHODS
from cxrmodels.lab.network import as_batch


class _Nudge(layers.Layer):
    """Adds to the features what it holds, which is nothing."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.nudge = self.add_weight(shape=shape, initializer="zeros", name="nudge")

    def call(self, features: Any) -> Any:
        return features + ops.cast(self.nudge, features.dtype)


def _score(wanted: Any, scores: Any) -> Any:
    return -ops.sum(wanted * scores, axis=-1)


def _still(layer: layers.Layer) -> layers.Layer:
    """The same layer again, but for dropout, which a training step would turn on, at a rate of nothing."""
    config = layer.get_config()
    if isinstance(layer, layers.Dropout):
        config["rate"] = 0.0
    return type(layer).from_config(config)


class Probe:
    """Heat maps of some films, again and again while their network learns.

    Keras has no gradient of its own that every backend knows, but every backend can train: a step of plain gradient
    descent, at learning rate 1 and on minus the wanted logits, of something that is added to the features moves it by
    just the gradient. The rest of the network behind the features is a copy that stays frozen, so that nothing of this
    touches the training.
    """

    def __init__(self, network: keras.Model, layer: str, films: np.ndarray, labels: np.ndarray) -> None:
        """
        Args:
            network: the network.
            layer: where the maps come from: the name of a layer whose output is (batch, h, w, C).
            films: uint8 (N, size, size).
            labels: int (N,), the class each film's map is of.
        """
        at = network.get_layer(layer).output
        self._films, self._count = as_batch(films), len(films)
        self._wanted = np.eye(network.outputs[0].shape[-1], dtype=np.float32)[labels]
        self._body = keras.Model(network.inputs[0], [at, network.outputs[0]], name="probe_body")
        head = keras.Model(at, network.outputs[0], name="probe_head")
        self._source, self._head = head, keras.models.clone_model(head, clone_function=_still)
        self._head.trainable = False
        features = layers.Input(batch_shape=(self._count, *at.shape[1:]), name="features")
        self._nudge = _Nudge(name="nudge")
        self._probe = keras.Model(features, self._head(self._nudge(features)), name="probe")
        # The loss is a mean over the films, its gradient for one of them so much smaller; the maps are scaled anyway.
        self._probe.compile(optimizer=keras.optimizers.SGD(1.0), loss=_score)

    def look(self) -> tuple[np.ndarray, np.ndarray]:
        """What the network as it is now makes of the films.

        Returns:
            Probabilities, float32 (N, K); and Grad-CAM of each film's class, float32 (N, h, w), 0-1, all 0 where
            nothing speaks for it.
        """
        features, scores = (np.asarray(part, np.float32) for part in self._body.predict_on_batch(self._films))
        self._head.set_weights(self._source.get_weights())
        self._nudge.nudge.assign(ops.zeros_like(self._nudge.nudge))
        self._probe.train_on_batch(features, self._wanted)
        gradient = self._count * ops.convert_to_numpy(self._nudge.nudge)
        weigh = METHODS["grad_cam"].weigh
        raw = np.stack([np.maximum(weigh(one, slope), 0) for one, slope in zip(features, gradient, strict=True)])
        most = raw.max((1, 2), keepdims=True)
        heat = np.divide(raw, most, out=np.zeros_like(raw), where=most > 0)
        return softmax(scores, axis=1), heat.astype(np.float32)
