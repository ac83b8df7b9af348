"""Networks on TensorFlow: two compiled functions, split at the feature layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras import Model


class TensorFlowRuntime:
    """A Keras network as compiled TensorFlow functions. See `cxrmodels.runtime.Runtime`."""

    name, streams = "tensorflow", 1

    def __init__(self, network: Model, feature_layer: str) -> None:
        import tensorflow as tf

        forward, gradient, _ = functions(network, feature_layer)
        self._constant = tf.constant
        self._forward = tf.function(forward, reduce_retracing=True)
        self._gradient = tf.function(gradient, reduce_retracing=True)

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, logits = self._forward(self._constant(batch))
        return features.numpy(), logits.numpy()

    def gradient(self, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._gradient(self._constant(features), self._constant(weights)).numpy()
        return found


def functions(network: Model, feature_layer: str) -> tuple[Any, Any, tuple[int, ...]]:
    """A network's two functions of TensorFlow tensors, not compiled yet, and the shape (h, w, C) of its features.

    Returns:
        Films -> (features, logits); (features, weights) -> gradient of the weighted sum of logits by the features;
        and the features' shape.
    """
    import keras
    import tensorflow as tf

    at = network.get_layer(feature_layer).output
    whole = keras.Model(network.inputs, [at, network.outputs[0]], name="whole")
    head = keras.Model(at, network.outputs[0], name="head")

    def forward(batch: Any) -> Any:
        return tuple(whole(batch, training=False))

    def gradient(features: Any, weights: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            score = tf.reduce_sum(head(features, training=False) * weights)
        return tape.gradient(score, features)

    return forward, gradient, tuple(at.shape[1:])
