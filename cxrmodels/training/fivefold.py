"""The five-fold comparison with DarkCovidNet's paper: what learns, and how its films are dealt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cxrmodels.datasets.class_folder import split_fold
from cxrmodels.datasets.manifest import Film, ManifestError, data_hash, read_manifest
from cxrmodels.evaluation.fivefold import (
    CLASSES,
    FOLDS,
    SPLIT,
    Facts,
    FiveFold,
    split_patients,
    write_fivefold,
)
from cxrmodels.evaluation.predictions import joined
from cxrmodels.training.deep_features import FeaturePlan
from cxrmodels.training.papers import Report, Trial, clear, run_trial
from cxrmodels.training.plan import Plan
from cxrmodels.training.recipes import Recipe, Stage
from cxrmodels.zoo import ModelSpec

VALIDATION = 1 / 8
"""Share of the films outside a fold that chooses the epoch of a network."""


@dataclass(frozen=True, kw_only=True)
class NetworkPlan(Plan):
    """A network that is trained for each fold.

    Attributes:
        recipe: how it learns; its last stage's size is the network's. It starts from fresh weights or ImageNet's: what
            ships has seen films of the comparison.
    """

    recipe: Recipe

    @property
    def size(self) -> int:
        """See `Plan`."""
        return self.recipe.stages[-1].size

    @property
    def method(self) -> str:
        """See `Plan`."""
        recipe = self.recipe
        stages = ", then ".join(
            f"{stage.epochs} epochs at {stage.size} px (peak learning rate {stage.learning_rate:g}, augmentation "
            f"{stage.augmentation:g})"
            for stage in recipe.stages
        )
        return f"{stages}; {recipe.optimizer}, batches of {recipe.batch_size}, from {recipe.init} weights"

    def learn(
        self, spec: ModelSpec, films: Sequence[Film], *, seed: int, work: Path, report: Report
    ) -> Iterator[tuple[Trial, str]]:
        """See `Plan`. Of the other four folds' patients, one part in eight chooses the epoch. Killed and called again
        it goes on from `work`. No network is kept: there are five."""
        report(f"A network is trained for each fold. Killed, it goes on from {work} when started again.")
        for number, (fold, home) in enumerate(zip(FOLDS, self._homes(work), strict=True), start=1):
            dealt = split_fold(films, fold, seed=seed, validation=VALIDATION)
            line = f"Fold {number}/{len(FOLDS)}, "
            _, trial = run_trial(spec, self.recipe, dealt, seed=seed, home=home, name=line, report=report)
            yield trial, f"epoch {_chosen(trial)}"

    def forget(self, work: Path) -> None:
        """See `Plan`."""
        clear(self._homes(work))

    @staticmethod
    def _homes(work: Path) -> list[Path]:
        return [work / f"fold-{fold}" for fold in FOLDS]


PLANS: dict[str, Plan] = {
    "darkcovidnet": NetworkPlan(
        title="DarkCovidNet as published",
        network="darkcovidnet",
        recipe=Recipe((Stage(128, 20, 3e-3, 0.3),), weight_decay=1e-2, label_smoothing=0.0),
        departures="The paper takes 256 px and 100 epochs: too long for a machine without a graphics card. Its peak "
        "learning rate, batches and rise and fall of the learning rate are kept. It deals films, not patients, and "
        "takes the last epoch, while here an eighth of the other folds' films chooses it; classes are drawn equally "
        "often.",
    ),
    "ours": FeaturePlan(
        title="Support vector machine on an ImageNet MobileNet",
        network="mobilenet_v1",
        blocks=tuple(f"conv_pw_{number}_act" for number in range(1, 14)),
        film_size=320,
        departures="Another network than the paper's, which has learnt from photographs and learns nothing of films.",
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
    """Learn and test once a fold of the manifest, and write the answers on the films left out under `weights`.

    A fold's test films choose nothing.

    Args:
        name: a key of `PLANS`.
        classes: 3 (normal, covid19, pneumonia) or 2 (normal, covid19).
        data: folder with `manifest.csv`, whose films of split `benchmark` are taken.
        weights: folder that gets `benchmark/NAME-CLASSES.csv.gz` and `.json`.
        work: folder for what is unfinished.
        report: told of each epoch and fold.

    Raises:
        ManifestError: the data folder is not as it should be or lacks a fold.
        ModelError, ValueError: see `Plan.learn`.
    """
    plan, findings = PLANS[name], CLASSES[classes]
    everything = read_manifest(data)
    films = [film for film in everything if film.split == SPLIT and film.finding in findings]
    lacking = [fold for fold in FOLDS if fold not in {film.fold for film in films}]
    if lacking:
        raise ManifestError(
            f"{data} has no films of split {SPLIT} in fold {', '.join(lacking)}; it needs all of {', '.join(FOLDS)}."
        )
    trials: list[Trial] = []
    choices: list[str] = []
    for trial, chosen in plan.learn(plan.spec(name, findings), films, seed=seed, work=work, report=report):
        trials.append(trial)
        choices.append(chosen)
        told = ", ".join(f"{figure} {value:.4f}" for figure, value in trial.figures().items())
        report(f"Fold {len(trials)}/{len(FOLDS)}, {chosen}: {told}")
    answers = [
        # As the file has them, so that what is told now is what anyone can compute again.
        replace(
            trial.evaluation,
            splits=np.full(len(trial.evaluation), f"fold {fold}"),
            logits=trial.evaluation.logits.round(4),
        )
        for fold, trial in zip(FOLDS, trials, strict=True)
    ]
    result = FiveFold(
        Facts(
            name=name,
            method=plan.method,
            settings=asdict(plan),
            chosen=tuple(choices),
            split_patients=split_patients(everything),
            seed=seed,
            versions=trials[-1].made.versions,
            device=trials[-1].made.device,
            data_sha256=data_hash(films),
            wall_time_s=round(sum(trial.made.seconds for trial in trials), 1),
        ),
        joined(answers),
    )
    write_fivefold(result, weights)
    plan.forget(work)
    return result


def _chosen(trial: Trial) -> int:
    """The epoch whose weights were kept: of the last stage the one with the least validation loss, the first such."""
    last = [epoch for epoch in trial.history if epoch.stage == trial.history[-1].stage]
    return min(last, key=lambda epoch: epoch.validation_loss).epoch
