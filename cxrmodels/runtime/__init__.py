"""What runs a network: OpenVINO, or TensorFlow. One small interface for both; `open_runtime` chooses.

| module | holds |
|---|---|
| `conversion.py` | Keras network -> two OpenVINO networks: forward, and gradient behind the feature layer |
| `store.py` | converted networks on disk |
| `on_openvino.py`, `on_tensorflow.py` | the two runtimes |
"""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from typing import Protocol

import numpy as np

from cxrmodels.zoo import LoadedModel, ModelError

ENGINE_VARIABLE = "CXRMODELS_ENGINE"
ENGINES = ("openvino", "tensorflow")

_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # OpenVINO's converter raises the level of all that have none of their own.


class Runtime(Protocol):
    """A network that is ready to run. Not for several threads at once, where `streams` is one: `Engine` then holds the
    model's lock."""

    name: str
    """One of `ENGINES`."""
    streams: int
    """How many threads may call `forward` at once."""

    def forward(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 (N, size, size, channels) -> features (N, h, w, C) and logits (N, K), both float32."""

    def gradient(self, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Gradient of the logits' sum, weighted by float32 (K,), by the features: float32, shaped like them."""


@cache
def _import_openvino() -> str:
    """Import OpenVINO without its converter, which reports each import to its maker and is seldom needed.

    Returns:
        An empty string; or why it cannot be used here.
    """
    converter = "openvino.tools.ovc"
    hidden = converter not in sys.modules
    if hidden:
        # Whoever tries to import them gets an ImportError, which OpenVINO takes for "not installed".
        sys.modules[converter] = sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        return str(error)
    finally:
        if hidden:
            del sys.modules[converter]
    return ""


def chosen() -> str:
    """The engine that networks run on here: what `CXRMODELS_ENGINE` says, else OpenVINO where it is installed.

    Raises:
        ModelError: the variable names no engine, or one that is not installed.
    """
    wanted = os.environ.get(ENGINE_VARIABLE, "").strip().lower()
    if wanted not in ("", *ENGINES):
        raise ModelError(f"{ENGINE_VARIABLE} is {wanted!r}; expected {' or '.join(ENGINES)}, or nothing.")
    if wanted == "tensorflow":
        return wanted
    if missing := _import_openvino():
        if wanted:
            raise ModelError(
                f"{ENGINE_VARIABLE} asks for OpenVINO, which cannot be imported ({missing}). Install it with "
                f"'pip install openvino', or unset {ENGINE_VARIABLE} to run on TensorFlow."
            )
        _log.warning("OpenVINO cannot be imported (%s): networks run on TensorFlow, which is slower.", missing)
        return "tensorflow"
    return "openvino"


def needs_tensorflow(loaded: LoadedModel) -> bool:
    """Whether opening a model will import TensorFlow: it runs on it, or it was not converted here before.

    Raises:
        ModelError: as in `chosen`.
    """
    if chosen() == "tensorflow":
        return True
    from cxrmodels.runtime import store

    return not store.holds(loaded)


def import_tensorflow() -> None:
    """Import TensorFlow while the threads that serve pages get their turn every half millisecond, not every five:
    otherwise whoever clicks meanwhile waits until the import is over."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        import tensorflow  # noqa: F401
    finally:
        sys.setswitchinterval(before)


def open_runtime(loaded: LoadedModel, streams: int | None = None) -> Runtime:
    """A model's network, ready to run on the chosen engine; on TensorFlow, which the log then tells, where OpenVINO
    has no counterpart for something in it.

    Args:
        streams: how many films are to run beside each other, each on one core; None: one, on all cores. TensorFlow
            takes one film after the other.

    Raises:
        ModelError: as in `chosen`; or the weights are not of this network.
    """
    if chosen() == "openvino":
        from openvino.frontend import OpConversionFailure

        from cxrmodels.runtime.on_openvino import DisagreementError, OpenVinoRuntime

        try:
            return OpenVinoRuntime(loaded, streams)
        except (OpConversionFailure, DisagreementError) as error:
            reason = str(error).partition("Summary:")[2].strip().split("\n")[0] or str(error)
            _log.warning("%s runs on TensorFlow: OpenVINO cannot hold its network (%s).", loaded.spec.key, reason)
    from cxrmodels.runtime.on_tensorflow import TensorFlowRuntime

    return TensorFlowRuntime(loaded.network, loaded.spec.feature_layer)
