"""The five-fold comparison with DarkCovidNet's paper: what is kept of one, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cxrmodels.datasets.manifest import Film
from cxrmodels.evaluation.metrics import Figures, figures
from cxrmodels.evaluation.predictions import Evaluation, PredictionsError, read_predictions, write_predictions
from cxrmodels.evaluation.questions import QUESTIONS, answer
from cxrmodels.zoo import weights_folder

SPLIT, FOLDS = "benchmark", ("0", "1", "2", "3", "4")
"""What the manifest calls the comparison's films, and its five folds."""

CLASSES: dict[int, tuple[str, ...]] = {3: ("normal", "covid19", "pneumonia"), 2: ("normal", "covid19")}
PAPER_ACCURACY: dict[int, float] = {3: 0.8702, 2: 0.9808}
"""Of Ozturk et al. 2020, doi 10.1016/j.compbiomed.2020.103792, mean over five folds; by number of classes."""

_QUESTION = {3: "which_of_three", 2: "covid_normal"}
_FOLDER = "benchmark"
_TWIN_SOURCE, _TWIN_PREFIX = "ieee8023", "Covid-19-"


@dataclass(frozen=True, slots=True)
class Facts:
    """What cannot be computed from the predictions of a comparison.

    Attributes:
        name: of what was compared.
        method: how it learnt, for readers.
        settings: all that reproduces it, its `title` and its `departures` from the paper among it; see the plans in
            `training.fivefold`.
        chosen: once a fold, what the films of the others chose, for readers.
        split_patients: films whose patient, as the collection they come from lists patients, has films in other
            folds, too.
        seed, versions, device, data_sha256, wall_time_s: as on a model's card.
    """

    name: str
    method: str
    settings: dict[str, Any]
    chosen: tuple[str, ...]
    split_patients: tuple[str, ...]
    seed: int
    versions: dict[str, str]
    device: str
    data_sha256: str
    wall_time_s: float


@dataclass(frozen=True, eq=False)
class FiveFold:
    """A finished comparison: every film's logits from what had not seen its fold.

    The fold of a film is the last word of its `evaluation.splits` ("fold 3").
    """

    facts: Facts
    evaluation: Evaluation

    @property
    def classes(self) -> tuple[str, ...]:
        """The findings that were told apart, in the order of the logits."""
        return self.evaluation.findings

    @cached_property
    def figures(self) -> Figures:
        """Accuracy and sensitivities of all films together, intervals by bootstrap over patients."""
        return _figures(self.evaluation)

    @cached_property
    def without_split_patients(self) -> Figures:
        """The same without the films whose patient has films in other folds."""
        return _figures(self.evaluation.where(~np.isin(self.evaluation.image_ids, self.facts.split_patients)))

    def fold_accuracies(self) -> np.ndarray:
        """Accuracy in each fold, float (5,), whose mean is what the paper gives."""
        right = self.evaluation.logits.argmax(1) == self.evaluation.y_true()
        return np.array([right[self.evaluation.splits == f"fold {fold}"].mean() for fold in FOLDS])

    def sensitivities(self) -> dict[str, tuple[float, float, float]]:
        """Class -> share of its films that was recognised, with its 95 % interval."""
        names = (
            [f"sensitivity_{number}" for number in range(len(self.classes))]
            if len(self.classes) > 2
            else ["specificity", "sensitivity"]
        )
        return {
            finding: (found.value, found.low, found.high)
            for finding, name in zip(self.classes, names, strict=True)
            if (found := self.figures.estimates[name]) is not None
        }

    def lines(self) -> list[str]:
        """All of it as lines of plain text, the paper's accuracy beside."""
        facts, classes = self.facts, self.classes
        folds = self.fold_accuracies()
        wide = max(map(len, classes)) + 2
        lines = [
            f"{facts.settings['title']}: {len(classes)} classes, {self.figures.films:,} films of "
            f"{self.figures.patients} patients, five folds by patient",
            f"    {facts.method}; chosen, fold after fold: {'; '.join(facts.chosen)}",
            f"    {facts.settings['departures']}",
            f"    accuracy {_interval(self.figures)}; the paper's: {PAPER_ACCURACY[len(classes)]:.4f}",
            f"    mean over the folds {folds.mean():.4f}, standard deviation {folds.std(ddof=1):.4f} "
            f"({', '.join(f'{fold:.4f}' for fold in folds)})",
        ]
        lines += [
            f"    sensitivity {finding:<{wide}}{value:.4f} ({low:.4f} to {high:.4f})"
            for finding, (value, low, high) in self.sensitivities().items()
        ]
        lines += ["    " + " " * wide + "".join(f"{finding:>{wide}}" for finding in classes) + "   (columns: called)"]
        lines += [
            f"    {finding:<{wide}}" + "".join(f"{count:>{wide}}" for count in row)
            for finding, row in zip(classes, self.figures.confusion, strict=True)
        ]
        split = int(np.isin(self.evaluation.image_ids, facts.split_patients).sum())
        if split:
            lines.append(
                f"    {split} of the COVID-19 films have a film of the same patient in another fold: the folds go by "
                "file names where the paper's set states no patient, and take one series for several patients. "
                f"Without these films: accuracy {_interval(self.without_split_patients)}."
            )
        return lines


def _figures(evaluation: Evaluation) -> Figures:
    return figures(answer(QUESTIONS[_QUESTION[len(evaluation.findings)]], evaluation, 1.0))


def _interval(found: Figures) -> str:
    accuracy = found.estimates["accuracy"]
    assert accuracy is not None, "there is no fold without films"
    return f"{accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f})"


def split_patients(films: tuple[Film, ...]) -> tuple[str, ...]:
    """Films of the comparison whose patient has films in other folds, too: ids, in the manifest's order.

    The comparison's COVID-19 films come from ieee8023, which knows the patients of most of them. Where the manifest
    has that collection beside the comparison, its patients are compared with the folds.
    """
    patients = {film.path.stem: film.group_id for film in films if film.source == _TWIN_SOURCE}
    known = {
        film: patient
        for film in films
        if film.split == SPLIT
        and film.finding == "covid19"
        and (patient := patients.get(film.path.stem.removeprefix(_TWIN_PREFIX))) is not None
    }
    folds: dict[str, set[str]] = {}
    for film, patient in known.items():
        folds.setdefault(patient, set()).add(film.fold)
    return tuple(film.image_id for film, patient in known.items() if len(folds[patient]) > 1)


def _paths(name: str, classes: int, folder: Path) -> tuple[Path, Path]:
    home = folder / _FOLDER
    return home / f"{name}-{classes}.json", home / f"{name}-{classes}.csv.gz"


def write_fivefold(result: FiveFold, folder: Path) -> None:
    """Write facts and predictions into `folder/benchmark`."""
    facts, predictions = _paths(result.facts.name, len(result.classes), folder)
    facts.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(result.evaluation, predictions)
    facts.write_text(json.dumps(asdict(result.facts), indent=1) + "\n", encoding="utf-8")


def read_fivefold(name: str, classes: int, folder: Path) -> FiveFold:
    """Read a comparison from `folder/benchmark`.

    Raises:
        PredictionsError: facts or predictions are missing, damaged or do not belong together.
    """
    path, predictions = _paths(name, classes, folder)
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        tuples: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        facts = Facts(**tuples)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PredictionsError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Make it with 'python -m cxrmodels fivefold "
            f"{name} --classes {classes}'."
        ) from error
    evaluation = read_predictions(predictions)
    if evaluation.findings != CLASSES[classes]:
        raise PredictionsError(
            f"{predictions} answers {', '.join(evaluation.findings)}; expected {', '.join(CLASSES[classes])}."
        )
    return FiveFold(facts, evaluation)


def kept_fivefolds(folder: Path | None = None) -> Iterator[FiveFold]:
    """The comparisons that `folder` holds, the weights folder unless given: by classes, most first, then name.

    Raises:
        PredictionsError: one of them is damaged.
    """
    home = folder or weights_folder()
    for classes in CLASSES:
        for path in sorted((home / _FOLDER).glob(f"*-{classes}.json")):
            yield read_fivefold(path.stem.removesuffix(f"-{classes}"), classes, home)
