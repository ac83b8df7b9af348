"""Stored predictions: what a model answered on every held-out film, as logits, in `predictions.csv.gz`."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from cxrmodels.datasets.manifest import Film
from cxrmodels.evaluation.packed import csv_text, read_packed, write_packed
from cxrmodels.findings import TITLES, index_of

_WORDS = ("image_id", "source", "split", "group_id", "finding", "age_group", "view")
_NUMBERS = ("width", "height", "exposure")
_COLUMNS = (*_WORDS, *_NUMBERS)


class PredictionsError(ValueError):
    """A predictions file is not what it should be; the message names row and column."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's answers on labelled films.

    Attributes:
        findings: the model's K findings, in the order of the logits.
        image_ids, sources, splits, groups, labels, age_groups, views: one string a film, (N,). `labels` are
            findings as the data set states them; they need not be among the model's.
        widths, heights: int64 (N,), pixels of the film as it came.
        exposures: float32 (N,), the film's mean grey, 0 (black) to 1.
        logits: float32 (N, K).
    """

    findings: tuple[str, ...]
    image_ids: np.ndarray
    sources: np.ndarray
    splits: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    age_groups: np.ndarray
    views: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    exposures: np.ndarray
    logits: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def where(self, mask: np.ndarray) -> Evaluation:
        """The films that `mask`, bool (N,), selects."""
        return Evaluation(
            self.findings,
            *(getattr(self, name)[mask] for name in self.__slots__ if name != "findings"),
        )

    def y_true(self) -> np.ndarray:
        """Position of each film's label among the findings, int (N,); -1 where the model has no answer for it."""
        positions = {label: index_of(str(label), self.findings) for label in np.unique(self.labels)}
        return np.array([-1 if (p := positions[label]) is None else p for label in self.labels], dtype=np.int64)

    def probabilities(self, temperature: float = 1.0) -> np.ndarray:
        """Calibrated probabilities, float64 (N, K), each row summing to one."""
        scaled: np.ndarray = softmax(self.logits.astype(np.float64) / temperature, axis=1)
        return scaled


def of_films(
    films: Sequence[Film],
    findings: tuple[str, ...],
    logits: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    exposures: Sequence[float],
) -> Evaluation:
    """A model's logits on a data folder's films.

    Args:
        logits: float (N, K).
        sizes: (width, height) of each film as it came.
        exposures: mean grey of each, 0-1.
    """

    def column(name: str) -> np.ndarray:
        return np.array([getattr(film, name) for film in films], dtype=np.str_)

    return Evaluation(
        findings=findings,
        image_ids=column("image_id"),
        sources=column("source"),
        splits=column("split"),
        groups=column("group_id"),
        labels=column("finding"),
        age_groups=column("age_group"),
        views=column("view"),
        widths=np.array([width for width, _ in sizes], np.int64),
        heights=np.array([height for _, height in sizes], np.int64),
        exposures=np.array(exposures, np.float32),
        logits=logits.astype(np.float32),
    )


def joined(parts: Sequence[Evaluation]) -> Evaluation:
    """One model's answers on several sets of films as one, in that order; at least one part."""
    names = [name for name in Evaluation.__slots__ if name != "findings"]
    return Evaluation(parts[0].findings, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def predictions_csv(evaluation: Evaluation) -> str:
    """Predictions as CSV; uncompressed, the content of a predictions file. `submitted.read_submission` reads it too."""
    strings = zip(
        evaluation.image_ids,
        evaluation.sources,
        evaluation.splits,
        evaluation.groups,
        evaluation.labels,
        evaluation.age_groups,
        evaluation.views,
        evaluation.widths,
        evaluation.heights,
        strict=True,
    )
    rows = (
        [*words, f"{exposure:.3f}", *(f"{value:.4f}" for value in row)]
        for words, exposure, row in zip(strings, evaluation.exposures, evaluation.logits, strict=True)
    )
    return csv_text([*_COLUMNS, *(f"logit_{finding}" for finding in evaluation.findings)], rows)


def write_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write a predictions file. Equal predictions give equal bytes: the gzip header carries no time."""
    write_packed(predictions_csv(evaluation), path)


def read_predictions(path: Path) -> Evaluation:
    """Read a predictions file.

    Raises:
        PredictionsError: missing, damaged, or a cell is not what its column asks for.
    """
    try:
        text = read_packed(path)
    except FileNotFoundError:
        raise PredictionsError(f"There is no {path.name} in {path.parent.name}.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise PredictionsError(f"{path.parent.name}/{path.name} is damaged ({type(error).__name__}).") from error
    rows = list(csv.reader(text.splitlines()))
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    findings = tuple(name.removeprefix("logit_") for name in header if name.startswith("logit_"))
    if tuple(header) != (*_COLUMNS, *(f"logit_{f}" for f in findings)) or len(findings) < 2:
        raise PredictionsError(
            f"{path.name} has the columns {', '.join(header) or '(none)'}; expected {', '.join(_COLUMNS)} and at "
            "least two named logit_FINDING."
        )
    unknown = [finding for finding in findings if finding not in TITLES]
    if unknown:
        raise PredictionsError(f"{path.name}: unknown findings {', '.join(unknown)}; known: {', '.join(TITLES)}.")
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise PredictionsError(f"{path.name}, row {number}: {len(row)} cells, expected {len(header)}.")
    numbers = np.empty((len(body), len(_NUMBERS) + len(findings)), np.float64)
    for number, row in enumerate(body, start=2):
        try:
            numbers[number - 2] = row[len(_WORDS) :]
        except ValueError as error:
            raise PredictionsError(f"{path.name}, row {number}: a cell is not a number ({error}).") from error
    if not np.isfinite(numbers).all():
        number = int(np.flatnonzero(~np.isfinite(numbers).all(1))[0]) + 2
        raise PredictionsError(f"{path.name}, row {number}: a number is not finite.")
    # Each column by itself: in one array all would be as wide as the widest.
    image_ids, sources, splits, groups, labels, age_groups, views = (
        np.array([row[place] for row in body], dtype=np.str_) for place in range(len(_WORDS))
    )
    width, height, exposure = numbers[:, : len(_NUMBERS)].T
    return Evaluation(
        findings,
        image_ids,
        sources,
        splits,
        groups,
        labels,
        age_groups,
        views,
        widths=width.astype(np.int64),
        heights=height.astype(np.int64),
        exposures=exposure.astype(np.float32),
        logits=numbers[:, len(_NUMBERS) :].astype(np.float32),
    )
