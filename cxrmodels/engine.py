"""Runs a loaded network: a prepared batch in, features and logits out, and gradients of the part between them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from cxrmodels.runtime import open_runtime
from cxrmodels.zoo import LoadedModel


@dataclass(frozen=True, slots=True)
class Output:
    """`features` float32 (N, h, w, C) at the spec's feature layer; `logits` float32 (N, K)."""

    features: np.ndarray
    logits: np.ndarray


class Engine:
    """A loaded model on the engine that `cxrmodels.runtime` chooses, split at its feature layer.

    The body runs once a film. A heat map for any finding then costs the gradient of the small head alone.
    Safe to call from several threads: the model's lock is held while it runs, unless it has several streams.

    Args:
        streams: how many threads are to run films beside each other, each on one core; None: one film, on all cores.

    Raises:
        ModelError: when made: the engine that was asked for is not there, or the weights are not of this network.
    """

    def __init__(self, loaded: LoadedModel, streams: int | None = None) -> None:
        self.loaded = loaded
        self._runtime = open_runtime(loaded, streams)
        self._turn: AbstractContextManager[object] = loaded.lock if self._runtime.streams == 1 else nullcontext()

    @property
    def name(self) -> str:
        """What runs the network: `openvino` or `tensorflow`."""
        return self._runtime.name

    def warm_up(self) -> None:
        """Compile both functions, so that the first film does not wait for it."""
        model_spec = self.loaded.spec
        blank = np.zeros((1, model_spec.input_size, model_spec.input_size, model_spec.channels), np.float32)
        self.gradient(self.run(blank).features, 0)

    def run(self, batch: np.ndarray) -> Output:
        """Features and logits of prepared films.

        Args:
            batch: float32 (N, size, size, channels), 0-1, as `preprocessing.prepare` makes it; at least one.

        Raises:
            ValueError: the batch has another shape.
        """
        model_spec = self.loaded.spec
        expected = (model_spec.input_size, model_spec.input_size, model_spec.channels)
        if batch.shape[1:] != expected or not len(batch):
            raise ValueError(f"{model_spec.key} takes one film or more of shape {expected}; got {batch.shape}.")
        with self._turn:
            return Output(*self._runtime.forward(batch))

    def gradient(self, features: np.ndarray, finding: int) -> np.ndarray:
        """Gradient of a finding's logit by the features.

        Args:
            features: float32 (N, h, w, C), from `run`.
            finding: position among the model's findings.

        Returns:
            float32, shaped like `features`.
        """
        weights = np.zeros(len(self.loaded.spec.findings), np.float32)
        weights[finding] = 1
        with self.loaded.lock:
            return self._runtime.gradient(features, weights)
