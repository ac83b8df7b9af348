"""A model's card, every figure of it computed from the stored predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cxrmodels.evaluation.aims import outcomes
from cxrmodels.evaluation.calibration import fit_decision_threshold, fit_temperature, operating_points
from cxrmodels.evaluation.metrics import summaries, summarise
from cxrmodels.evaluation.predictions import Evaluation, read_predictions
from cxrmodels.evaluation.survival import SHORTCUTS_FILE, Named, shortcuts_of, write_named
from cxrmodels.training.recipes import FRESH, IMAGENET, RECIPES
from cxrmodels.zoo import CARD_FILE, PREDICTIONS_FILE, ModelCard, ModelSpec, read_card, weights_folder
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
    metrics = tuple(summary.to_dict() for summary in summaries(evaluation, training_sources, temperature))
    trained_again = facts.get("left_out", ())
    assert isinstance(trained_again, tuple)
    return ModelCard(
        key=spec.key,
        title=spec.title,
        findings=spec.findings,
        input_size=spec.input_size,
        training_sources=training_sources,
        temperature=temperature,
        decision_threshold=fit_decision_threshold(calibrated, y_val),
        operating_points=operating_points(calibrated[:, covid], y_val == covid),
        metrics=metrics,
        aims=outcomes(spec.key, [*metrics, *trained_again]),
        calibration=calibration,
        paper=spec.paper,
        paper_figures=spec.paper_figures,
        departures=_departures(spec, facts["recipe"]),
        intended_use=_INTENDED_USE,
        limits=_LIMITS,
        licence=_LICENCE,
        **facts,  # type: ignore[arg-type]
    )


def _departures(spec: ModelSpec, recipe: object) -> str:
    """The spec's words, and where the training started from other weights than those words speak of."""
    assert isinstance(recipe, dict)
    init = recipe.get("init", FRESH)  # cards written before there was a choice do not say it
    if init == (RECIPES[spec.key].init if spec.key in RECIPES else FRESH):
        return spec.departures
    return (
        f"It started from {'ImageNet' if init == IMAGENET else init} weights, all of which learnt. Otherwise it was "
        f"trained by this program's own recipe, of which it is said: {spec.departures}"
    )


_FACTS = (
    "parameters",
    "weights_sha256",
    "training_films",
    "seed",
    "recipe",
    "versions",
    "device",
    "data_sha256",
    "wall_time_s",
    "cost",
)
"""Fields of a card that predictions cannot give."""


def recompute(key: str) -> ModelCard:
    """A shipped model's card with all figures computed again from its stored predictions.

    Raises:
        ModelError: the card is missing or unreadable.
        PredictionsError: the predictions are.
        SurvivalError: the answers on changed films are.
    """
    card = read_card(key)
    evaluation = read_predictions(weights_folder() / key / PREDICTIONS_FILE)
    facts = {name: getattr(card, name) for name in _FACTS}
    facts["left_out"] = left_out(weights_folder() / key)
    facts["shortcuts"] = shortcuts_of(weights_folder() / key, card.weights_sha256)
    return describe(spec_of(key), evaluation, training_sources=card.training_sources, **facts)


def left_out_file(source: str) -> str:
    """Name of the file, in a model's folder, with the answers of a network trained alike but without `source`."""
    return f"without-{source}.csv.gz"


def left_out(folder: Path) -> tuple[dict[str, Any], ...]:
    """What networks trained without one source each give on all films of sources they have not seen.

    Raises:
        PredictionsError: a file is damaged.
    """
    found = []
    for path in sorted(folder.glob(left_out_file("*"))):
        source = path.name.removeprefix("without-").removesuffix(".csv.gz")
        summary = summarise(f"trained without {source}", False, read_predictions(path), 1.0)
        if summary is not None:
            found.append(summary.to_dict())
    return tuple(found)


def write_card(card: ModelCard) -> None:
    """Write a shipped model's card."""
    (weights_folder() / card.key / CARD_FILE).write_text(card.to_json(), encoding="utf-8")


def keep_shortcuts(key: str, answers: Named) -> None:
    """Keep what a shipped model named on changed films: the answers in its folder, what they come to in its card.

    Raises:
        ModelError: the card is missing or unreadable.
    """
    folder = weights_folder() / key
    write_named(answers, folder / SHORTCUTS_FILE)
    card = read_card(key)
    write_card(replace(card, shortcuts=shortcuts_of(folder, card.weights_sha256)))
