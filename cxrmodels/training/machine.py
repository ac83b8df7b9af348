"""What a training ran on, for the card of what came of it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import keras


@dataclass(frozen=True, slots=True)
class Made:
    """Where a network came about.

    Attributes:
        seconds: all epochs took, those before a kill included.
        versions: of what the training rests on.
        device: what its epochs were computed on, one after the other.
    """

    seconds: float
    versions: dict[str, str]
    device: str

    @staticmethod
    def of(state: dict[str, Any]) -> Made:
        """As a checkpoint's state tells it. A training begun before these were kept with the state ran here."""
        return Made(float(state["seconds"]), state.get("versions", versions()), state.get("device", device()))


def versions() -> dict[str, str]:
    """Versions of what a training rests on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("keras", "numpy", "pillow")},
        keras.backend.backend(): version(keras.backend.backend()),
    }


def device() -> str:
    """What a training runs on: a graphics card by its name where the backend tells it."""
    devices = [name for name in keras.distribution.list_devices() if not name.lower().startswith("cpu")]
    if not devices:
        return f"CPU ({platform.machine()})"
    if keras.backend.backend() == "jax":
        # By name, for it is no package that this program asks for.
        return ", ".join(str(one.device_kind) for one in import_module("jax").devices())
    return ", ".join(devices)


def devices(before: str) -> str:
    """What a training has run on, now included.

    Args:
        before: what this gave at its last epoch, empty at the first.
    """
    now = device()
    if not before or before == now or before.endswith(f", then {now}"):
        return before or now
    return f"{before}, then {now}"
