"""The list of films in a data folder, one `Film` a row of its `manifest.csv`."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cxrmodels.findings import TITLES

COLUMNS = (
    "image_id",
    "path",
    "mask_path",
    "source",
    "finding",
    "patient_id",
    "group_id",
    "age_group",
    "view",
    "split",
    "fold",
    "licence",
    "upstream_name",
    "width",
    "height",
    "sha256",
)
SPLITS = ("train", "val", "test", "external", "benchmark")
DATA_VARIABLE = "CXRMODELS_DATA"
NEVER = ("hannover", "montgomery")
"""Sources that no shipped network learns from: what it does on them is what it does in a hospital it has not seen."""
SAME_COVID_FILMS = ("ieee8023", "darkcovidnet")
"""Sources that hold the same films of COVID-19: what learnt from one is not measured on those of the other."""


class ManifestError(ValueError):
    """The data folder or its manifest is not what it should be; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Film:
    """One radiograph of a data folder. Fields are the manifest's columns; `path` and `mask_path` absolute."""

    image_id: str
    path: Path
    mask_path: Path | None
    source: str
    finding: str
    group_id: str
    age_group: str
    view: str
    split: str
    fold: str
    licence: str
    sha256: str

    @property
    def lot(self) -> int:
        """0 to 255, by a hash of the patient: deals the films of sources that have no splits, always alike."""
        return hashlib.sha256(self.group_id.encode()).digest()[0]


def data_folder() -> Path | None:
    """The folder that `CXRMODELS_DATA` names, or None when it is not set.

    Raises:
        ManifestError: it is set, but there is no `manifest.csv` in it.
    """
    value = os.environ.get(DATA_VARIABLE, "").strip()
    if not value:
        return None
    folder = Path(value).expanduser().resolve()
    if not (folder / "manifest.csv").is_file():
        raise ManifestError(
            f"{DATA_VARIABLE} names {folder}, which holds no manifest.csv. Point it at a data folder, unset it "
            "to work on synthetic films, or fill the folder with 'python -m cxrmodels data fetch SOURCE'."
        )
    return folder


def read_manifest(folder: Path) -> tuple[Film, ...]:
    """Read `folder/manifest.csv`, in file order.

    Raises:
        ManifestError: a column is missing, a finding or split is unknown, an id occurs twice, a path leaves
            the folder, or one `group_id` stands in two of the splits train, val and test.
    """
    path = folder / "manifest.csv"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as UTF-8 text ({type(error).__name__}).") from error
    reader = csv.DictReader(text.splitlines())
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ManifestError(f"{path}, line {reader.line_num}: not CSV ({error}).") from error
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ManifestError(f"{path} lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")
    films = tuple(_film(row, folder, f"{path.name}, line {line}") for line, row in enumerate(rows, start=2))
    seen: set[str] = set()
    for film in films:
        if film.image_id in seen:
            raise ManifestError(f"{path} lists image_id {film.image_id!r} twice; ids must be unique.")
        seen.add(film.image_id)
    check_groups(films)
    return films


def _film(row: dict[str | None, str], folder: Path, where: str) -> Film:
    # What csv.DictReader makes of a row shorter, or longer, than the header.
    if None in row.values() or None in row:
        raise ManifestError(f"{where}: too {'many' if None in row else 'few'} cells; expected as many as columns.")
    if row["finding"] not in TITLES:
        raise ManifestError(f"{where}: unknown finding {row['finding']!r}; expected one of {', '.join(TITLES)}.")
    if row["split"] not in SPLITS:
        raise ManifestError(f"{where}: unknown split {row['split']!r}; expected one of {', '.join(SPLITS)}.")
    return Film(
        image_id=row["image_id"],
        path=_inside(folder, row["path"], where),
        mask_path=_inside(folder, row["mask_path"], where) if row["mask_path"] else None,
        source=row["source"],
        finding=row["finding"],
        group_id=row["group_id"],
        age_group=row["age_group"],
        # Written by a program that has no word for a missing value.
        view="" if row["view"] == "nan" else row["view"],
        split=row["split"],
        fold=row["fold"],
        licence=row["licence"],
        sha256=row["sha256"],
    )


def _inside(folder: Path, relative: str, where: str) -> Path:
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ManifestError(f"{where}: path {relative!r} leaves the data folder; paths must stay inside it.")
    return path


def check_groups(films: Iterable[Film]) -> None:
    """Refuse films of one group (patient, or near-duplicate) that stand in more than one of train, val, test.

    Raises:
        ManifestError: names the first such group.
    """
    home: dict[str, str] = {}
    for film in films:
        if film.split in ("train", "val", "test"):
            other = home.setdefault(film.group_id, film.split)
            if other != film.split:
                raise ManifestError(
                    f"Group {film.group_id!r} has films in both {other} and {film.split}; a patient belongs to "
                    "one split only. Mend the manifest's split column."
                )


def data_hash(films: Iterable[Film]) -> str:
    """sha256 (hex) over ids, findings, splits and content hashes: names the data a model was made from."""
    digest = hashlib.sha256()
    for film in sorted(films, key=lambda film: film.image_id):
        digest.update(f"{film.image_id}\t{film.finding}\t{film.split}\t{film.sha256}\n".encode())
    return digest.hexdigest()
