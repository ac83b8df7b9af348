"""The five-fold comparison with DarkCovidNet's paper: what is trained, and how its films are dealt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cxrmodels.datasets.class_folder import split_fold
from cxrmodels.datasets.manifest import SAME_COVID_FILMS, ManifestError, data_hash, read_manifest
from cxrmodels.evaluation.fivefold import (
    CLASSES,
    FOLDS,
    SPLIT,
    Facts,
    FiveFold,
    split_patients,
    write_fivefold,
)
from cxrmodels.evaluation.predictions import Evaluation, joined
from cxrmodels.training.papers import Trial, clear, run_trial
from cxrmodels.training.recipes import FRESH, IMAGENET, Recipe, Stage
from cxrmodels.zoo import ModelError, ModelSpec, check_weights

VALIDATION = 1 / 8
"""Share of the films outside a fold that chooses the epoch."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared: a network and a recipe for it.

    Attributes:
        title: for readers.
        network: one of `networks.NETWORKS`.
        channels, preprocessing: as in a `ModelSpec`.
        recipe: how the network of each fold learns; its last stage's size is the network's.
        departures: from the paper, in sentences.
        members: networks a fold, from other seeds, whose probabilities are averaged (Lakshminarayanan et al. 2017,
            arXiv 1612.01474).
    """

    title: str
    network: str
    channels: int
    preprocessing: str
    recipe: Recipe
    departures: str
    members: int = 1

    def spec(self, name: str, findings: tuple[str, ...]) -> ModelSpec:
        """The spec of the plan `name`'s networks."""
        return ModelSpec(
            key=name,
            title=self.title,
            network=self.network,
            findings=findings,
            input_size=self.recipe.stages[-1].size,
            channels=self.channels,
            preprocessing=self.preprocessing,
            feature_layer="",
            paper="",
            paper_figures="",
            departures=self.departures,
        )


PLANS: dict[str, Plan] = {
    "darkcovidnet": Plan(
        "DarkCovidNet as published",
        "darkcovidnet",
        3,
        "unit",
        Recipe((Stage(128, 20, 3e-3, 0.3),), weight_decay=1e-2, label_smoothing=0.0),
        "The paper takes 256 px and 100 epochs: too long for a machine without a graphics card. Its peak learning "
        "rate, batches and rise and fall of the learning rate are kept. It deals films, not patients, and takes the "
        "last epoch, while here an eighth of the other folds' films chooses it; classes are drawn equally often.",
    ),
    "ours": Plan(
        "Five MobileNets of width 0.75 from ImageNet weights",
        "mobilenet_v1",
        3,
        "unit",
        Recipe(
            (Stage(224, 14, 3e-4, 0.5),),
            weight_decay=2e-2,
            label_smoothing=0.05,
            precision="mixed_bfloat16",
            augmentation="restyle",
            init=IMAGENET,
        ),
        "Another network than the paper's, not from fresh weights, and five of them a fold.",
        members=5,
    ),
}
"""Name -> plan."""


def run_fivefold(
    name: str,
    classes: int,
    *,
    data: Path,
    weights: Path,
    work: Path,
    seed: int = 0,
    report: Callable[[str], None],
) -> FiveFold:
    """Train and test once a fold of the manifest, and write the answers on the films left out under `weights`.

    A fold's test films choose nothing: of the other four folds' patients, one part in eight chooses the epoch, the
    rest is learnt from. Killed and called again it goes on from `work`; when all is done, what it kept there is
    deleted. No network is kept: there are five.

    Args:
        name: a key of `PLANS`.
        classes: 3 (normal, covid19, pneumonia) or 2 (normal, covid19).
        data: folder with `manifest.csv`, whose films of split `benchmark` are taken.
        weights: folder that gets `benchmark/NAME-CLASSES.csv.gz` and `.json`.
        work: folder for the unfinished trainings.
        report: told of each epoch and fold.

    Raises:
        ManifestError: the data folder is not as it should be or lacks a fold.
        ModelError: the weights to start from cannot be had, or learnt from films of the comparison.
        ValueError: see `fit`.
    """
    plan, findings = PLANS[name], CLASSES[classes]
    spec = plan.spec(name, findings)
    everything = read_manifest(data)
    films = [film for film in everything if film.split == SPLIT and film.finding in findings]
    lacking = [fold for fold in FOLDS if fold not in {film.fold for film in films}]
    if lacking:
        raise ManifestError(
            f"{data} has no films of split {SPLIT} in fold {', '.join(lacking)}; it needs all of {', '.join(FOLDS)}."
        )
    started = _allowed_start(plan.recipe.init)

    answers: list[Evaluation] = []
    trials: list[Trial] = []
    homes: list[Path] = []
    validation_films: list[int] = []
    for number, fold in enumerate(FOLDS, start=1):
        dealt = split_fold(films, fold, seed=seed, validation=VALIDATION)
        validation_films.append(sum(film.split == "val" for film in dealt))
        line = f"Fold {number}/{len(FOLDS)}, "
        members: list[Trial] = []
        for member in range(plan.members):
            alone = plan.members == 1
            homes.append(work / (f"fold-{fold}" if alone else f"fold-{fold}-{member}"))
            named = line if alone else f"{line}network {member + 1}/{plan.members}, "
            _, trial = run_trial(
                spec, plan.recipe, dealt, seed=seed + member, home=homes[-1], name=named, report=report
            )
            members.append(trial)
        together = replace(members[0], evaluation=_averaged([trial.evaluation for trial in members]))
        report(line + ", ".join(f"{figure} {value:.4f}" for figure, value in together.figures().items()))
        trials += members
        answers.append(replace(together.evaluation, splits=np.full(len(together.evaluation), f"fold {fold}")))
    result = FiveFold(
        Facts(
            name=name,
            title=plan.title,
            network=spec.network,
            input_size=spec.input_size,
            preprocessing=spec.preprocessing,
            recipe=asdict(plan.recipe),
            init_sha256=started,
            departures=plan.departures,
            epochs=tuple(_chosen(trial) for trial in trials),
            validation_films=tuple(validation_films),
            split_patients=split_patients(everything),
            seed=seed,
            versions=trials[-1].made.versions,
            device=trials[-1].made.device,
            data_sha256=data_hash(films),
            wall_time_s=round(sum(trial.made.seconds for trial in trials), 1),
            members=plan.members,
        ),
        # As the file has them, so that what is told now is what anyone can compute again.
        joined([replace(one, logits=one.logits.round(4)) for one in answers]),
    )
    write_fivefold(result, weights)
    clear(homes)
    return result


def _averaged(members: list[Evaluation]) -> Evaluation:
    """Several networks' answers on the same films as one: the logarithms of their mean probabilities."""
    if len(members) == 1:
        return members[0]
    probabilities = np.mean([member.probabilities() for member in members], axis=0)
    return replace(members[0], logits=np.log(np.maximum(probabilities, 1e-12)).astype(np.float32))


def _allowed_start(init: str) -> str:
    """sha256 of the shipped model's weights that a recipe starts from, empty where it starts from others."""
    if init in (FRESH, IMAGENET):
        return ""
    card, _ = check_weights(init)
    shared = [source for source in card.training_sources if source in SAME_COVID_FILMS]
    if shared:
        raise ModelError(
            f"{init} learnt from {', '.join(shared)}, whose COVID-19 films are those of the comparison; start from "
            "other weights."
        )
    return card.weights_sha256


def _chosen(trial: Trial) -> int:
    """The epoch whose weights were kept: of the last stage the one with the least validation loss, the first such."""
    last = [epoch for epoch in trial.history if epoch.stage == trial.history[-1].stage]
    return min(last, key=lambda epoch: epoch.validation_loss).epoch
