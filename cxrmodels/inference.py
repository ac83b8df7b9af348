"""A radiograph and a model make a prediction: calibrated probabilities, and a decision or "not sure"; many films of a
data folder make stored predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cxrmodels.datasets.manifest import Film
from cxrmodels.engine import Engine, Output
from cxrmodels.evaluation.calibration import decide
from cxrmodels.evaluation.predictions import Evaluation, of_films
from cxrmodels.lungs import network_film, outline, outline_batch
from cxrmodels.preprocessing import NEEDS_LUNGS, lung_box, prepare
from cxrmodels.radiograph import Radiograph, read_radiograph
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
    """The film as the model's network sees it: float32 (size, size, channels), 0-1.

    Raises:
        ModelError: the model looks at the lungs, and the network that outlines them is missing or altered.
    """
    return inputs_of(radiograph, [model])[0]


def inputs_of(
    radiograph: Radiograph, models: Iterable[ModelSpec], outlined: Callable[[Radiograph], np.ndarray] = outline
) -> list[np.ndarray]:
    """The film as each model's network sees it, as `network_input`; what several see alike is made once.

    Args:
        outlined: film -> its lungs, bool (h, w).
    """
    made: dict[tuple[str, int, int], np.ndarray] = {}
    found, lungs = [], None
    for model in models:
        if model.preprocessing in NEEDS_LUNGS and lungs is None:
            lungs = outlined(radiograph)
        how = (model.preprocessing, model.input_size, model.channels)
        if how not in made:
            made[how] = prepare(radiograph.pixels, *how, lungs)
        found.append(made[how])
    return found


def seen_part(radiograph: Radiograph, model: ModelSpec) -> tuple[float, float, float, float]:
    """The part of the film that the model's network sees: left, top, right, bottom, each 0-1 of width or height.

    Raises:
        ModelError: as `network_input`.
    """
    return lung_box(outline(radiograph)) if model.preprocessing in NEEDS_LUNGS else (0.0, 0.0, 1.0, 1.0)


def network_inputs(radiographs: Sequence[Radiograph], model: ModelSpec, size: int | None = None) -> np.ndarray:
    """Several films as the model's network sees them, float32 (N, size, size, channels), 0-1; the lungs of all are
    outlined at once.

    Args:
        size: side in pixels where it is not to be the model's.

    Raises:
        ModelError: as `network_input`.
    """
    outlines: Sequence[np.ndarray | None] = [None] * len(radiographs)
    if model.preprocessing in NEEDS_LUNGS:
        outlines = list(outline_batch(np.stack([network_film(radiograph.pixels) for radiograph in radiographs])))
    return np.stack(
        [
            prepare(radiograph.pixels, model.preprocessing, size or model.input_size, model.channels, lungs)
            for radiograph, lungs in zip(radiographs, outlines, strict=True)
        ]
    )


def predict(engine: Engine, radiograph: Radiograph, prepared: np.ndarray | None = None) -> tuple[Prediction, Output]:
    """One film through one model. The output's features are what heat maps start from.

    Args:
        prepared: what `network_input` gives, where it was made before.
    """
    if prepared is None:
        prepared = network_input(radiograph, engine.loaded.spec)
    output = engine.run(prepared[None])
    return interpret(engine, radiograph, output.logits[0]), output


def interpret(engine: Engine, radiograph: Radiograph, logits: np.ndarray) -> Prediction:
    """Logits, float32 (K,), with the model's calibration and threshold applied."""
    # Imported here: it takes half a second, which the first paint of a page need not wait for.
    from scipy.special import softmax

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


def read_film(film: Film) -> Radiograph:
    """Read a film of a data folder, exactly as one that was dropped on a page.

    Raises:
        RadiographError: it cannot be read.
        OSError: it is not there.
    """
    return read_radiograph(film.path.read_bytes(), film.path.name)


def read_films(
    logits_of: Callable[[np.ndarray], np.ndarray],
    model: ModelSpec,
    films: Sequence[Film],
    *,
    batch_size: int = 64,
    report: Callable[[int], object] = lambda done: None,
) -> Evaluation:
    """A network's logits on a data folder's films, read and prepared exactly as for a single one.

    Args:
        logits_of: float32 (n, size, size, channels), 0-1 -> logits, float (n, K).
        films: at least one.
        report: called with the number of films that are done, after each batch.

    Raises:
        RadiographError: a film cannot be read.
        OSError: a film is not there.
    """

    logits, sizes, exposures = [], [], []
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(films), batch_size):
            radiographs = list(pool.map(read_film, films[start : start + batch_size]))
            logits.append(logits_of(network_inputs(radiographs, model)))
            sizes += [radiograph.original_size for radiograph in radiographs]
            exposures += [float(radiograph.pixels.mean()) for radiograph in radiographs]
            report(len(sizes))
    return of_films(films, model.findings, np.concatenate(logits), sizes, exposures)
