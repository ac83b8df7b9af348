"""Runs a loaded network: a prepared batch in, features and logits out, and gradients of the part between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrmodels.zoo import LoadedModel

if TYPE_CHECKING:
    from keras import Model


@dataclass(frozen=True, slots=True)
class Output:
    """`features` float32 (N, h, w, C) at the spec's feature layer; `logits` float32 (N, K)."""

    features: np.ndarray
    logits: np.ndarray


class Engine:
    """A loaded model as two compiled TensorFlow functions, split at its feature layer.

    The body runs once a film. A heat map for any finding then costs the gradient of the small head alone.
    Safe to call from several threads: the model's lock is held while it runs.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    @cached_property
    def _models(self) -> tuple[Model, Model]:
        import keras

        network = self.loaded.network
        features = network.get_layer(self.loaded.spec.feature_layer).output
        body = keras.Model(network.inputs, features, name="body")
        head = keras.Model(features, network.outputs[0], name="head")
        return body, head

    @cached_property
    def _forward(self) -> Any:
        import tensorflow as tf

        body, head = self._models

        def forward(batch: Any) -> Any:
            features = body(batch, training=False)
            return features, head(features, training=False)

        return tf.function(forward, reduce_retracing=True)

    @cached_property
    def _gradient(self) -> Any:
        import tensorflow as tf

        _, head = self._models

        def gradient(features: Any, weights: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(features)
                score = tf.reduce_sum(head(features, training=False) * weights)
            return tape.gradient(score, features)

        return tf.function(gradient, reduce_retracing=True)

    def warm_up(self) -> None:
        """Compile both functions, so that the first film does not wait for it."""
        model_spec = self.loaded.spec
        blank = np.zeros((1, model_spec.input_size, model_spec.input_size, model_spec.channels), np.float32)
        self.gradient(self.run(blank).features, 0)

    def run(self, batch: np.ndarray) -> Output:
        """Features and logits of prepared films.

        Args:
            batch: float32 (N, size, size, channels), 0-1, as `preprocessing.prepare` makes it.

        Raises:
            ValueError: the batch has another shape.
        """
        model_spec = self.loaded.spec
        expected = (model_spec.input_size, model_spec.input_size, model_spec.channels)
        if batch.shape[1:] != expected:
            raise ValueError(f"{model_spec.key} takes films of shape {expected}; got {batch.shape[1:]}.")
        import tensorflow as tf

        with self.loaded.lock:
            features, logits = self._forward(tf.constant(batch))
            return Output(features.numpy(), logits.numpy())

    def gradient(self, features: np.ndarray, finding: int) -> np.ndarray:
        """Gradient of a finding's logit by the features.

        Args:
            features: float32 (N, h, w, C), from `run`.
            finding: position among the model's findings.

        Returns:
            float32, shaped like `features`.
        """
        import tensorflow as tf

        weights = np.zeros(len(self.loaded.spec.findings), np.float32)
        weights[finding] = 1
        with self.loaded.lock:
            found: np.ndarray = self._gradient(tf.constant(features), tf.constant(weights)).numpy()
        return found
