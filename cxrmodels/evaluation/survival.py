"""How much of a model's accuracy survives a change to the films, from what it named on them before and after."""

from __future__ import annotations

import csv
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrmodels.evaluation.metrics import Estimate, bootstrap_weights, recalls
from cxrmodels.evaluation.packed import csv_text, read_packed, write_packed

SHORTCUTS_FILE = "shortcuts.csv.gz"
"""In a model's folder: what it named on changed films."""

UNCHANGED = "unchanged"
_ABOUT = ("weights_sha256", "image_id", "group_id", "finding")


class SurvivalError(ValueError):
    """A file of answers on changed films is not what it should be; the message says where."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a model named on N labelled films, as they are and changed.

    Attributes:
        weights_sha256: of the weights that named it.
        image_ids, groups: one string a film, (N,); films of one group are of one patient.
        labels: the model's finding that is the right answer for each film, (N,).
        answers: change -> the finding named on each film, (N,), empty where the change could not be made; `UNCHANGED`
            stands for the films as they are and is there always.
    """

    weights_sha256: str
    image_ids: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    answers: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Survival:
    """How much of a model's accuracy survives a change, on the N films on which the change could be made.

    Accuracy is balanced: the mean over findings of the share that is named rightly.

    Attributes:
        chance: accuracy of whoever names the same finding always.
        before, after: accuracy on the films as they are, and changed.
        survives: share of what the model knows beyond chance that is left: 1 all, 0 nothing, below 0 worse than chance;
            0 where it knew nothing.
    """

    change: str
    films: int
    chance: float
    before: Estimate
    after: Estimate
    survives: Estimate

    def to_dict(self) -> dict[str, Any]:
        """As a card holds it."""
        return asdict(self)


def survivals(named: Named) -> tuple[Survival, ...]:
    """What survives each change; none for a change that could be made on no film. Intervals resample patients."""
    found = []
    for change, answers in named.answers.items():
        able = answers != ""
        if change == UNCHANGED or not able.any():
            continue
        labels, classes = named.labels[able], np.unique(named.labels[able])
        weights = bootstrap_weights(named.groups[able])
        before, after = (
            np.nanmean(recalls(weights, labels, given[able], classes), axis=1)
            for given in (named.answers[UNCHANGED], answers)
        )
        chance = 1 / len(classes)
        known = before - chance
        left = np.divide(after - chance, known, out=np.zeros_like(known), where=known > 0)
        found.append(
            Survival(change, int(able.sum()), chance, *(_estimate(values) for values in (before, after, left)))
        )
    return tuple(found)


def _estimate(values: np.ndarray) -> Estimate:
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return Estimate(float(values[0]), float(low), float(high))


def write_named(named: Named, path: Path) -> None:
    """Write what was named. Equal answers give equal bytes."""
    rows = zip(named.image_ids, named.groups, named.labels, *named.answers.values(), strict=True)
    write_packed(csv_text([*_ABOUT, *named.answers], ([named.weights_sha256, *row] for row in rows)), path)


def read_named(path: Path) -> Named:
    """Read what was named.

    Raises:
        SurvivalError: missing, damaged, or not such a file.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        rows = list(csv.reader(read_packed(path).splitlines()))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SurvivalError(f"{name} cannot be read ({type(error).__name__}). Restore it, or measure again.") from error
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    if tuple(header[: len(_ABOUT)]) != _ABOUT or UNCHANGED not in header or not body:
        raise SurvivalError(
            f"{name} has the columns {', '.join(header) or '(none)'} and {len(body)} rows; expected rows under "
            f"{', '.join(_ABOUT)}, {UNCHANGED} and changes. Restore it, or measure again."
        )
    if wrong := next((number for number, row in enumerate(body, start=2) if len(row) != len(header)), None):
        raise SurvivalError(f"{name}, row {wrong}: {len(body[wrong - 2])} cells, expected {len(header)}.")
    weights, image_ids, groups, labels, *answers = np.array(body, dtype=np.str_).T
    if len(different := set(weights)) > 1:
        raise SurvivalError(f"{name} holds answers of {len(different)} networks; expected those of one.")
    return Named(str(weights[0]), image_ids, groups, labels, dict(zip(header[len(_ABOUT) :], answers, strict=True)))


def shortcuts_of(folder: Path, weights_sha256: str) -> tuple[dict[str, Any], ...]:
    """What survives, as a card holds it, from a model's folder; nothing where it was not measured, or of other weights.

    Raises:
        SurvivalError: the file is damaged.
    """
    path = folder / SHORTCUTS_FILE
    if not path.is_file():
        return ()
    named = read_named(path)
    return tuple(one.to_dict() for one in survivals(named)) if named.weights_sha256 == weights_sha256 else ()
