"""From a recipe to what ships: weights, card and stored predictions of one model, by one command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from cxrmodels.datasets.manifest import data_hash, read_manifest
from cxrmodels.evaluation.cards import describe, left_out, left_out_file
from cxrmodels.evaluation.predictions import read_predictions, write_predictions
from cxrmodels.networks import build
from cxrmodels.training.films import answerable, predict_films
from cxrmodels.training.fit import EpochReport, fit
from cxrmodels.training.offsets import add_offsets
from cxrmodels.training.recipes import RECIPES
from cxrmodels.zoo import CARD_FILE, PREDICTIONS_FILE, WEIGHTS_FILE, ModelCard, ModelError, save_weights
from cxrmodels.zoo import spec as spec_of


def train(
    key: str,
    *,
    data: Path,
    weights: Path,
    work: Path,
    seed: int = 0,
    init: str | None = None,
    without: str = "",
    report: Callable[[EpochReport], None],
) -> ModelCard:
    """Train a model by its recipe and write its folder under `weights`.

    Killed and called again with the same `work` folder it goes on where it was.

    Args:
        key: a model key.
        data: folder with `manifest.csv`.
        weights: folder that gets `<key>/model.weights.h5`, `card.json` and `predictions.csv.gz`.
        work: folder for the unfinished training.
        init: what to start from instead of what the recipe says, see `initial.first_weights`.
        without: a source to leave out. The network is then not kept: its answers on hospitals that it has not seen go
            beside the shipped model, and what they come to into its card.
        report: called after each epoch.

    Raises:
        ModelError: unknown key, or the weights to start from cannot be had; no shipped card to write into.
        ManifestError: the data folder is not as it should be.
        ValueError: see `fit`; or the model does not learn from the source that is to be left out.
    """
    spec, recipe = spec_of(key), RECIPES[key]
    recipe = replace(recipe, init=init or recipe.init)
    films = read_manifest(data)
    if without:
        if without not in recipe.sources:
            raise ValueError(
                f"{key} does not learn from {without}: there is nothing to leave out. Those that may be left out: "
                f"{', '.join(recipe.sources) or 'none'}."
            )
        if not (weights / key / CARD_FILE).is_file():
            raise ModelError(f"{key} is not shipped in {weights}: train it whole first, then without {without}.")
        recipe = replace(recipe, sources=tuple(source for source in recipe.sources if source != without))
    training = [film for film in films if film.split == "train" or film.source in recipe.sources]
    validation = [film for film in films if film.split == "val"]
    network, made = fit(spec, recipe, training, validation, seed=seed, folder=work, report=report)
    if recipe.offsets:
        add_offsets(network, spec, validation)

    folder = weights / key
    if without:
        never = [film for film in films if film.split == "external" and film.source not in recipe.sources]
        write_predictions(predict_films(network, spec, never), folder / left_out_file(without))
        old = ModelCard.from_json((folder / CARD_FILE).read_text(encoding="utf-8"))
        card = replace(old, left_out=left_out(folder))
        (folder / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
        return card
    folder.mkdir(parents=True, exist_ok=True)
    digest = save_weights(network, folder / WEIGHTS_FILE)
    # From here on the rounded weights count: they are what is served.
    shipped = build(spec.network, spec.input_size, spec.channels, len(spec.findings))
    shipped.load_weights(folder / WEIGHTS_FILE)
    held_out = [
        film for film in films if film.split in ("val", "test", "external") and film.source not in recipe.sources
    ]
    evaluation = predict_films(shipped, spec, held_out)
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
        versions=made.versions,
        device=made.device,
        data_sha256=data_hash(films),
        wall_time_s=round(made.seconds, 1),
        left_out=left_out(folder),
    )
    (folder / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    return card
