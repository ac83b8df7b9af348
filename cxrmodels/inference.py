"""A radiograph and a model make a prediction: calibrated probabilities, and a decision or "not sure"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from cxrmodels.engine import Engine, Output
from cxrmodels.evaluation.calibration import decide
from cxrmodels.preprocessing import prepare
from cxrmodels.radiograph import Radiograph
from cxrmodels.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of a film.

    Attributes:
        model: model key.
        weights_sha256: of the weights that said it.
        film_sha256: of the film it was said of.
        findings: the model's K findings.
        logits: float32 (K,).
        probabilities: float64 (K,), calibrated, sum one.
        decision: a finding, or "not sure".
        threshold: the probability the top finding had to reach.
        training_sources: what the model learnt from.
    """

    model: str
    weights_sha256: str
    film_sha256: str
    findings: tuple[str, ...]
    logits: np.ndarray
    probabilities: np.ndarray
    decision: str
    threshold: float
    training_sources: tuple[str, ...]

    @property
    def top(self) -> int:
        """Position of the likeliest finding."""
        return int(self.probabilities.argmax())

    def probability(self, finding: str) -> float | None:
        """Probability of one finding; None when the model does not answer it."""
        return float(self.probabilities[self.findings.index(finding)]) if finding in self.findings else None


def network_input(radiograph: Radiograph, model: ModelSpec) -> np.ndarray:
    """The film as the model's network sees it: float32 (size, size, channels), 0-1."""
    return prepare(radiograph.pixels, model.preprocessing, model.input_size, model.channels)


def predict(engine: Engine, radiograph: Radiograph) -> tuple[Prediction, Output]:
    """One film through one model. The output's features are what heat maps start from."""
    loaded = engine.loaded
    output = engine.run(network_input(radiograph, loaded.spec)[None])
    return interpret(engine, radiograph, output.logits[0]), output


def interpret(engine: Engine, radiograph: Radiograph, logits: np.ndarray) -> Prediction:
    """Logits, float32 (K,), with the model's calibration and threshold applied."""
    model, card = engine.loaded.spec, engine.loaded.card
    probabilities = softmax(logits.astype(np.float64) / card.temperature)
    for array in (logits, probabilities):
        array.setflags(write=False)
    return Prediction(
        model=model.key,
        weights_sha256=card.weights_sha256,
        film_sha256=radiograph.sha256,
        findings=model.findings,
        logits=logits,
        probabilities=probabilities,
        decision=decide(probabilities, model.findings, card.decision_threshold),
        threshold=card.decision_threshold,
        training_sources=card.training_sources,
    )
