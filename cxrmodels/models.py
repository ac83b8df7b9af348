"""All models that can answer: the shipped ones, then those that the user trained and kept."""

from __future__ import annotations

from pathlib import Path

from cxrmodels import zoo
from cxrmodels.lab import kept
from cxrmodels.zoo import LoadedModel, ModelCard, ModelSpec


def available() -> tuple[str, ...]:
    """Keys of the models that can be loaded, in the order the pages show them."""
    return (*zoo.shipped(), *kept.kept())


def spec(key: str) -> ModelSpec:
    """The spec of a model, shipped or kept.

    Raises:
        ModelError: there is none of this key.
    """
    return kept.spec(key) if kept.is_own(key) else zoo.spec(key)


def card(key: str) -> ModelCard:
    """The card of a model, shipped or kept.

    Raises:
        ModelError: there is none of this key, or it is missing or unreadable.
    """
    return kept.card(key) if kept.is_own(key) else zoo.read_card(key)


def load(key: str) -> LoadedModel:
    """A model's network with its weights.

    Raises:
        ModelError: as in `card`; or its weights are missing, altered, or not of this network.
    """
    return kept.load(key) if kept.is_own(key) else zoo.load(key)


def predictions_file(key: str) -> Path:
    """Where a model's stored predictions are, or would be.

    Raises:
        ModelError: there is no model of this key.
    """
    if kept.is_own(key):
        return kept.predictions_file(key)
    return zoo.weights_folder() / zoo.spec(key).key / zoo.PREDICTIONS_FILE
