"""Networks on OpenVINO, on the processor."""

from __future__ import annotations

from functools import cached_property
from queue import SimpleQueue
from typing import Any

import numpy as np

from cxrmodels.runtime import store
from cxrmodels.zoo import LoadedModel

# On processors with bfloat16 units OpenVINO would use those by itself: eight bits of mantissa, and other answers.
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}

_CLOSE = 1e-3
"""How far logits may be from TensorFlow's."""


class DisagreementError(RuntimeError):
    """A converted network does not answer as the one it was made from."""


class OpenVinoRuntime:
    """A model's two converted networks, from the store or converted now. See `cxrmodels.runtime.Runtime`.

    Films go through one at a time: with several, OpenVINO takes as long for each, and a fixed shape is quicker. Where
    many wait, each on a core of its own takes a quarter less of the processor than one after the other on all.
    """

    name = "openvino"

    def __init__(self, loaded: LoadedModel, streams: int | None = None) -> None:
        self.streams = streams or 1
        networks = store.read(loaded)
        if networks is None:
            from cxrmodels.runtime.conversion import convert

            # Not `loaded.network`, which would be kept though nobody needs it any more.
            network = loaded.build()
            networks = list(convert(network, loaded.spec))
            self._check(_requests(networks[0]).get(), network, loaded)
            store.write(loaded, networks)
        forward, self._backward_network = networks
        self._forward = _requests(forward, streams)

    def _check(self, request: Any, network: Any, loaded: LoadedModel) -> None:
        """Compare a fresh conversion with what it was made from, before anybody is told its answers."""
        size, channels = loaded.spec.input_size, loaded.spec.channels
        film = np.random.default_rng(0).random((1, size, size, channels), np.float32)
        expected = np.asarray(network(film, training=False))
        difference = float(np.abs(self._run(request, film)[1] - expected).max())
        if not difference < _CLOSE:
            raise DisagreementError(f"its answers differ from the Keras network's by {difference:.3g}")

    @cached_property
    def _backward(self) -> Any:
        request = _requests(self._backward_network).get()
        del self._backward_network
        return request

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        request = self._forward.get()
        try:
            answers = [self._run(request, batch[at : at + 1]) for at in range(len(batch))]
        finally:
            self._forward.put(request)
        features, logits = ([one[place] for one in answers] for place in (0, 1))
        return _joined(features), _joined(logits)

    def gradient(self, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return _joined([self._run(self._backward, features[at : at + 1], weights)[0] for at in range(len(features))])

    @staticmethod
    def _run(request: Any, *inputs: np.ndarray) -> list[np.ndarray]:
        given = [np.ascontiguousarray(one, np.float32) for one in inputs]
        request.infer(given, share_inputs=True)
        return [tensor.data.copy() for tensor in request.output_tensors]


def _requests(network: Any, streams: int | None = None) -> SimpleQueue[Any]:
    """As many requests as may run at once, each on one core; or one on all. Whoever takes one puts it back."""
    import openvino

    beside = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
    settings = _SETTINGS | (beside if streams else {"PERFORMANCE_HINT": "LATENCY"})
    compiled = openvino.Core().compile_model(network, "CPU", settings)
    requests: SimpleQueue[Any] = SimpleQueue()
    for _ in range(streams or 1):
        requests.put(compiled.create_infer_request())
    return requests


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
