"""Training as the papers' programs do it: any folder of classes in; figures, curves and a Keras file out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import classification_report, confusion_matrix

from cxrmodels.datasets.class_folder import ClassFolder, split_films, split_folds
from cxrmodels.datasets.manifest import Film
from cxrmodels.evaluation.predictions import Evaluation
from cxrmodels.networks import build
from cxrmodels.training.films import predict_films
from cxrmodels.training.fit import EpochReport, fit, forget, read_history
from cxrmodels.training.history_plot import plot_history
from cxrmodels.training.machine import Made
from cxrmodels.training.recipes import RECIPES, Recipe, Stage
from cxrmodels.zoo import ModelSpec
from cxrmodels.zoo import spec as spec_of

EPOCHS, BATCH_SIZE = 25, 8
"""What the 25+25-film papers take (Manapure et al.)."""

Report = Callable[[str], None]
"""Called with each line of progress."""


def paper_recipe(
    key: str, *, epochs: int = EPOCHS, batch_size: int = BATCH_SIZE, learning_rate: float | None = None
) -> Recipe:
    """The recipe of a model as the papers train: in one stage, at full size.

    Optimiser, weight decay and augmentation stay those of the model's own recipe. Labels are not smoothed, so that
    training and validation loss are the same quantity.

    Args:
        key: a model key.
        epochs: 1 or more.
        batch_size: 1 or more.
        learning_rate: its peak, above 0; that of the model's own recipe unless given.

    Raises:
        ModelError: unknown key.
        ValueError: a number is out of its range.
    """
    spec, own = spec_of(key), RECIPES[key]
    rate = own.stages[0].learning_rate if learning_rate is None else learning_rate
    if epochs < 1 or batch_size < 1 or not rate > 0:
        raise ValueError(
            f"{epochs} epochs, batches of {batch_size}, learning rate {rate:g}: expected 1 or more epochs, 1 or more "
            "films a batch and a learning rate above 0."
        )
    stage = Stage(spec.input_size, epochs, rate, own.stages[-1].augmentation)
    return replace(own, stages=(stage,), batch_size=batch_size, label_smoothing=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One training and what came of it.

    Attributes:
        evaluation: the answers of the network with the least validation loss, on films that it neither learnt from
            nor was chosen by.
        history: its epochs, those before a kill included.
        made: where and how long it learnt.
    """

    evaluation: Evaluation
    history: tuple[EpochReport, ...]
    made: Made

    @property
    def classes(self) -> tuple[str, ...]:
        """The K classes, in the order of the network's outputs."""
        return self.evaluation.findings

    @property
    def y_pred(self) -> np.ndarray:
        """The likeliest class of each film, int (N,)."""
        likeliest: np.ndarray = self.evaluation.logits.argmax(1)
        return likeliest

    @property
    def confusion(self) -> np.ndarray:
        """Films by their folder's class (rows) and the network's (columns), int (K, K)."""
        matrix: np.ndarray = confusion_matrix(self.evaluation.y_true(), self.y_pred, labels=range(len(self.classes)))
        return matrix

    @property
    def positive(self) -> int | None:
        """Of two classes the position of the positive one: the only one called after COVID-19, else the last.
        None where there are more classes."""
        if len(self.classes) != 2:
            return None
        named = [
            position
            for position, name in enumerate(self.classes)
            if "covid" in name.lower() and not name.lower().startswith(("no", "without"))
        ]
        return named[0] if len(named) == 1 else 1

    def sensitivities(self) -> np.ndarray:
        """Of each class' films the share recognised, float (K,), 0-1."""
        matrix = self.confusion
        return np.diag(matrix) / matrix.sum(1)

    def specificities(self) -> np.ndarray:
        """Of each class, among the other classes' films the share not called it, float (K,), 0-1."""
        matrix = self.confusion
        others = matrix.sum() - matrix.sum(1)
        return 1 - (matrix.sum(0) - np.diag(matrix)) / others

    def figures(self) -> dict[str, float]:
        """`accuracy`, `sensitivity` and `specificity`, 0-1: the last two of the positive class; where there are more
        than two classes, the mean over all, each against the rest."""
        chosen = slice(None) if self.positive is None else self.positive
        return {
            "accuracy": float(np.diag(self.confusion).sum() / self.confusion.sum()),
            "sensitivity": float(np.mean(self.sensitivities()[chosen])),
            "specificity": float(np.mean(self.specificities()[chosen])),
        }

    def lines(self) -> list[str]:
        """Classification report, confusion matrix and figures, as lines of plain text."""
        labels = range(len(self.classes))
        report = classification_report(
            self.evaluation.y_true(), self.y_pred, labels=labels, target_names=self.classes, digits=4, zero_division=0
        )
        wide = max(5, *map(len, self.classes)) + 2
        matrix = [
            f"{name:<{wide}}" + "".join(f"{count:>{wide}}" for count in row)
            for name, row in zip(self.classes, self.confusion, strict=True)
        ]
        if self.positive is None:
            meant = "mean over the classes, each against the rest"
            each = [
                f"{name}: sensitivity {sensitivity:.4f}, specificity {specificity:.4f}"
                for name, sensitivity, specificity in zip(
                    self.classes, self.sensitivities(), self.specificities(), strict=True
                )
            ]
        else:
            meant, each = f"positive: {self.classes[self.positive]}", []
        return [
            *report.rstrip().splitlines(),
            "",
            "Confusion matrix (rows: the folder's class, columns: the network's answer)",
            " " * wide + "".join(f"{name:>{wide}}" for name in self.classes),
            *matrix,
            "",
            *each,
            *(
                f"{name}: {value:.4f}" + (f" ({meant})" if name != "accuracy" else "")
                for name, value in self.figures().items()
            ),
        ]


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """The trials of a cross-validation, one a fold: every film was tested on once."""

    trials: tuple[Trial, ...]

    def spread(self) -> dict[str, tuple[float, float]]:
        """Figure -> its mean over the folds and its sample standard deviation (n - 1)."""
        folds = [trial.figures() for trial in self.trials]
        return {
            name: (float(np.mean(values)), float(np.std(values, ddof=1)))
            for name in folds[0]
            for values in [[fold[name] for fold in folds]]
        }

    def lines(self) -> list[str]:
        """The lines of each fold, then mean and standard deviation."""
        count = len(self.trials)
        lines = []
        for number, trial in enumerate(self.trials, start=1):
            lines += [f"Fold {number}/{count}", *trial.lines(), ""]
        lines.append(f"Mean over {count} folds, standard deviation")
        return [*lines, *(f"{name}: {mean:.4f}, {spread:.4f}" for name, (mean, spread) in self.spread().items())]


def train_on_folder(
    key: str,
    dataset: ClassFolder,
    recipe: Recipe,
    *,
    seed: int,
    work: Path,
    report: Report,
    plot: Path | None = None,
    model: Path | None = None,
) -> Trial:
    """Train a model's network on the classes of a folder: a fifth of the patients to test on, a fifth of the others
    to choose the epoch, the rest to learn from.

    Killed and called again it goes on from `work`; when all is done, what it kept there is deleted.

    Args:
        key: a model key. Its network gets an output a class.
        dataset: the films.
        recipe: how to train; see `paper_recipe`.
        seed: of the split, the initial weights, the order and the augmentation.
        work: folder for the unfinished training.
        report: told of each epoch.
        plot: a PNG file for the curves.
        model: a .keras file for the network whose figures are returned.

    Raises:
        ModelError: unknown key.
        ValueError: the network cannot have so many outputs, a class has too few patients, a file has another ending
            or no folder to go to, or as in `fit`.
    """
    spec = _rebuilt(key, dataset)
    _check_file(plot, ".png")
    _check_file(model, ".keras")
    home = work / "split"
    network, trial = run_trial(spec, recipe, split_films(dataset.films, seed=seed), seed=seed, home=home, report=report)
    if plot is not None:
        plot_history([trial.history], plot, spec.title)
    if model is not None:
        network.save(model)
        report(
            f"{model} takes films as (films, {spec.input_size}, {spec.input_size}, {spec.channels}) with greys 0 to 1, "
            f"air dark, preprocessing '{spec.preprocessing}', and answers with logits in this order: "
            f"{', '.join(spec.findings)}."
        )
    clear([home])
    return trial


def cross_validate(
    key: str,
    dataset: ClassFolder,
    recipe: Recipe,
    folds: int,
    *,
    seed: int,
    work: Path,
    report: Report,
    plot: Path | None = None,
) -> CrossValidation:
    """Train and test a model's network once a fold, every patient being tested on in one fold.

    Killed and called again it goes on from `work`, which has a folder for each fold; when all is done, what it kept
    there is deleted. No network is kept: `folds` were trained and none of them is the one the mean speaks of.

    Args:
        folds: 2 or more. Of a fold's other films, a fifth of the patients choose the epoch.
        key, dataset, recipe, seed, work, report, plot: as in `train_on_folder`.

    Raises:
        ModelError, ValueError: as in `train_on_folder`.
    """
    spec = _rebuilt(key, dataset)
    _check_file(plot, ".png")
    homes, trials = [], []
    for number, films in enumerate(split_folds(dataset.films, folds, seed=seed), start=1):
        name = f"Fold {number}/{folds}, "
        homes.append(work / f"fold-{number}-of-{folds}")
        _, trial = run_trial(spec, recipe, films, seed=seed, home=homes[-1], name=name, report=report)
        report(name + ", ".join(f"{figure} {value:.4f}" for figure, value in trial.figures().items()))
        trials.append(trial)
    if plot is not None:
        plot_history([trial.history for trial in trials], plot, f"{spec.title}, {folds} folds")
    clear(homes)
    return CrossValidation(tuple(trials))


def _rebuilt(key: str, dataset: ClassFolder) -> ModelSpec:
    """The spec with the folder's classes for findings."""
    spec = replace(spec_of(key), findings=dataset.classes)
    # Not every network takes any number of classes: better told now than after the films were read.
    build(spec.network, spec.input_size, spec.channels, len(spec.findings))
    return spec


def _check_file(path: Path | None, ending: str) -> None:
    """Told before hours of training rather than after."""
    if path is not None and (path.suffix != ending or not path.parent.is_dir()):
        raise ValueError(f"{path} cannot be written; expected a name ending in {ending}, in a folder that exists.")


def run_trial(
    spec: ModelSpec, recipe: Recipe, films: Sequence[Film], *, seed: int, home: Path, name: str = "", report: Report
) -> tuple[keras.Model, Trial]:
    """Fit and test on films that carry their split: train, val or test.

    Args:
        home: where the training is kept; called again it goes on from there, and trains no more when it is done.
        name: begins each line reported.
        spec, recipe, seed, report: as in `train_on_folder`.
    """
    training, validation, test = ([film for film in films if film.split == split] for split in ("train", "val", "test"))

    def epoch_done(epoch: EpochReport) -> None:
        report(
            f"{name}Epoch {epoch.epoch}/{epoch.epochs} - {epoch.seconds:.0f}s - loss: {epoch.training_loss:.4f} - "
            f"accuracy: {epoch.training_accuracy:.4f} - val_loss: {epoch.validation_loss:.4f} - "
            f"val_accuracy: {epoch.validation_accuracy:.4f}"
        )

    network, made = fit(spec, recipe, training, validation, seed=seed, folder=home, report=epoch_done)
    return network, Trial(predict_films(network, spec, test), read_history(home), made)


def clear(homes: Sequence[Path]) -> None:
    """Delete what finished trainings kept, and the work folder with it unless it holds other files."""
    for home in homes:
        forget(home)
    work = homes[0].parent
    if not any(work.iterdir()):
        work.rmdir()
