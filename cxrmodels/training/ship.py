"""From a recipe to what ships: weights, card and stored predictions of one model, by one command."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from cxrmodels.datasets.manifest import Film, data_hash, read_manifest
from cxrmodels.evaluation.calibration import fit_decision_threshold, fit_temperature, operating_points
from cxrmodels.evaluation.metrics import summaries, summarise
from cxrmodels.evaluation.predictions import Evaluation, read_predictions, write_predictions
from cxrmodels.networks import build
from cxrmodels.training.films import answerable, prepare_film
from cxrmodels.training.fit import EpochReport, fit
from cxrmodels.training.recipes import RECIPES
from cxrmodels.zoo import CARD_FILE, PREDICTIONS_FILE, WEIGHTS_FILE, ModelCard, ModelSpec, save_weights
from cxrmodels.zoo import spec as spec_of

_INTENDED_USE = (
    "Research and teaching: to explore, compare and criticise classifiers of frontal chest radiographs. Never "
    "for diagnosis, triage or any decision about a person."
)
_LIMITS = (
    "It learnt from few hospitals, in which finding, age and scanner go together: the bacterial and viral films "
    "are of children of one hospital, COVID-19 films and most normal ones of adults of others. It may tell these "
    "apart instead of the finding; compare its figures on seen and unseen sources. Labels are the data sets' own, "
    "not re-read. It answers only its own findings and has an answer for anything, a photograph included."
)
_LICENCE = "Weights CC BY-NC 4.0, for the terms of the training data; code as the repository says."


def predict_films(network: keras.Model, spec: ModelSpec, films: Sequence[Film], batch_size: int = 64) -> Evaluation:
    """A network's logits on films, read and prepared exactly as the pages do it."""

    def prepared(film: Film) -> np.ndarray:
        return prepare_film(film.path, spec.preprocessing, spec.input_size, spec.channels)

    parts = []
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(films), batch_size):
            batch = np.stack(list(pool.map(prepared, films[start : start + batch_size])))
            parts.append(np.asarray(network.predict_on_batch(batch)))

    def column(name: str) -> np.ndarray:
        return np.array([getattr(film, name) for film in films], dtype=np.str_)

    return Evaluation(
        findings=spec.findings,
        image_ids=column("image_id"),
        sources=column("source"),
        splits=column("split"),
        groups=column("group_id"),
        labels=column("finding"),
        age_groups=column("age_group"),
        views=column("view"),
        logits=np.concatenate(parts).astype(np.float32),
    )


def train(
    key: str,
    *,
    data: Path,
    weights: Path,
    work: Path,
    seed: int = 0,
    report: Callable[[EpochReport], None],
) -> ModelCard:
    """Train a model by its recipe and write its folder under `weights`.

    Killed and called again with the same `work` folder it goes on where it was.

    Args:
        key: a model key.
        data: folder with `manifest.csv`.
        weights: folder that gets `<key>/model.weights.h5`, `card.json` and `predictions.csv.gz`.
        work: folder for the unfinished training.
        report: called after each epoch.

    Raises:
        ModelError: unknown key.
        ManifestError: the data folder is not as it should be.
        ValueError: see `fit`.
    """
    spec, recipe = spec_of(key), RECIPES[key]
    films = read_manifest(data)
    training = [film for film in films if film.split == "train"]
    validation = [film for film in films if film.split == "val"]
    network, seconds = fit(spec, recipe, training, validation, seed=seed, folder=work, report=report)

    folder = weights / key
    folder.mkdir(parents=True, exist_ok=True)
    digest = save_weights(network, folder / WEIGHTS_FILE)
    # From here on the rounded weights count: they are what is served.
    shipped = build(spec.network, spec.input_size, spec.channels, len(spec.findings))
    shipped.load_weights(folder / WEIGHTS_FILE)
    evaluation = predict_films(shipped, spec, [film for film in films if film.split in ("val", "test", "external")])
    write_predictions(evaluation, folder / PREDICTIONS_FILE)
    # The card is computed from the file, whose logits are rounded, so that anyone can compute it again.
    evaluation = read_predictions(folder / PREDICTIONS_FILE)

    used, labels = answerable(training, spec.findings)
    sources = tuple(sorted({film.source for film in used}))
    card = describe(
        spec,
        evaluation,
        training_sources=sources,
        training_films={name: int((labels == i).sum()) for i, name in enumerate(spec.findings)},
        parameters=shipped.count_params(),
        weights_sha256=digest,
        seed=seed,
        recipe=asdict(recipe),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "numpy", "pillow")},
            keras.backend.backend(): version(keras.backend.backend()),
        },
        device=_device(),
        data_sha256=data_hash(films),
        wall_time_s=round(seconds, 1),
    )
    (folder / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    return card


def describe(
    spec: ModelSpec, evaluation: Evaluation, *, training_sources: tuple[str, ...], **facts: object
) -> ModelCard:
    """The card of a model from its stored predictions: calibration, operating points and metrics computed here.

    Args:
        facts: the card's fields that cannot be computed from predictions.
    """
    validation = evaluation.where((evaluation.splits == "val") & (evaluation.y_true() >= 0))
    y_val = validation.y_true()
    temperature = round(fit_temperature(validation.logits.astype(np.float64), y_val), 4)
    calibrated = validation.probabilities(temperature)
    covid = spec.findings.index("covid19")
    test = evaluation.where(evaluation.splits == "test")
    calibration = {}
    for name, value in (("before", 1.0), ("after", temperature)):
        summary = summarise(name, True, test, value, resamples=1)
        assert summary is not None
        calibration[name] = {
            metric: estimate.value for metric in ("ece", "brier") if (estimate := summary.metrics[metric]) is not None
        }
    return ModelCard(
        key=spec.key,
        title=spec.title,
        findings=spec.findings,
        input_size=spec.input_size,
        training_sources=training_sources,
        temperature=temperature,
        decision_threshold=fit_decision_threshold(calibrated, y_val),
        operating_points=operating_points(calibrated[:, covid], y_val == covid),
        metrics=tuple(summary.to_dict() for summary in summaries(evaluation, training_sources, temperature)),
        calibration=calibration,
        paper=spec.paper,
        paper_figures=spec.paper_figures,
        departures=spec.departures,
        intended_use=_INTENDED_USE,
        limits=_LIMITS,
        licence=_LICENCE,
        **facts,  # type: ignore[arg-type]
    )


def _device() -> str:
    devices = [name for name in keras.distribution.list_devices() if not name.lower().startswith("cpu")]
    return ", ".join(devices) if devices else f"CPU ({platform.machine()})"
