"""Networks that no file ships, run as if one did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cxrmodels.engine import Engine
from cxrmodels.zoo import LoadedModel, ModelCard, ModelSpec

if TYPE_CHECKING:
    import keras


def bare_card(spec: ModelSpec) -> ModelCard:
    """As little of a card as an engine needs, for a network without trained weights."""
    return ModelCard(
        key=spec.key,
        title=spec.title,
        findings=spec.findings,
        parameters=0,
        weights_sha256="",
        input_size=spec.input_size,
        training_sources=(),
        training_films={},
        seed=0,
        recipe={},
        versions={},
        device="",
        data_sha256="",
        wall_time_s=0,
        temperature=1,
        decision_threshold=0.6,
        operating_points={},
        metrics=(),
        paper="",
        paper_figures="",
        departures="",
        intended_use="",
        limits="",
        licence="",
        calibration={},
    )


def bare_engine(network: keras.Model, findings: tuple[str, ...], feature_layer: str) -> Engine:
    """An engine for any network, (batch, size, size, channels) in 0-1 -> logits."""
    spec = ModelSpec(
        key=network.name,
        title=network.name,
        network="",
        findings=findings,
        input_size=network.input_shape[1],
        channels=network.input_shape[-1],
        preprocessing="unit",
        feature_layer=feature_layer,
        paper="",
        paper_figures="",
        departures="",
    )
    return Engine(LoadedModel(spec, bare_card(spec), lambda: network))
