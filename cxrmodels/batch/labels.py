"""What films are labelled, and from that the models' predictions as the comparison takes them.

Each film counts as a patient of its own, since neither a list of labels nor folders say which belong together.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cxrmodels.batch.films import BatchError
from cxrmodels.datasets.class_folder import finding_of
from cxrmodels.findings import TITLES

if TYPE_CHECKING:
    from cxrmodels.evaluation.metrics import Summary
    from cxrmodels.evaluation.submitted import Submission

_FILE, _LABEL = "file", "label"
_LONGEST_ID = 200


def read_labels(content: bytes, name: str) -> dict[str, str]:
    """A CSV file with the columns `file` and `label` -> the label of each file, as a key of `findings.TITLES`.

    A file is named as in the table, or by its last part alone where no two share that. A label is a finding's key, or
    a usual spelling of it ("COVID-19", "Viral pneumonia").

    Args:
        name: the file's, for messages.

    Raises:
        BatchError: it is no such file, a column is missing, a label is no finding, or a file has two labels.
    """
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        if missing := {_FILE, _LABEL} - set(reader.fieldnames or ()):
            raise BatchError(f"{name} has no column {' and no '.join(sorted(missing))}; expected file and label.")
        labels: dict[str, str] = {}
        for row in reader:
            file, given = row[_FILE], (row[_LABEL] or "").strip()
            label = finding_of(given) if given else ""
            if label is None:
                raise BatchError(f"{name}, {file!r}: {given!r} is no finding; expected one of {', '.join(TITLES)}.")
            if labels.setdefault(file, label) != label:
                raise BatchError(f"{name}: {file!r} is there twice, as {labels[file]} and as {label}.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise BatchError(f"{name} is no CSV file in UTF-8 ({error}). Save it as 'CSV UTF-8'.") from None
    return labels


def label_finder(labels: Mapping[str, str]) -> Callable[[str], str]:
    """Film's name in the table -> its label, or nothing, by such a list."""
    by_end: dict[str, str] = {}
    for file, label in labels.items():
        end = PurePosixPath(file).name
        by_end[end] = label if by_end.get(end, label) == label else ""
    return lambda file: labels.get(file) or by_end.get(PurePosixPath(file).name, "")


def folder_label(file: str) -> str:
    """The finding that a film's folder is named after, the innermost that is; or nothing."""
    found = (finding_of(part) for part in reversed(PurePosixPath(file).parts[:-1]))
    return next((one for one in found if one), "")


def submissions(
    rows: Iterable[Mapping[str, Any]], findings: Mapping[str, tuple[str, ...]], titles: Mapping[str, str]
) -> dict[str, tuple[Submission, str]]:
    """Each model's answers on the labelled films of a table, as if somebody had brought them to the comparison.

    Args:
        rows: of the table; numbers as such or as text.
        findings: model key -> its findings.
        titles: model key -> its name for readers.

    Returns:
        Model key -> its predictions, and the file that `evaluate --check` takes; nothing where no film has a label.

    Raises:
        SubmissionError: the table was changed.
    """
    from cxrmodels.evaluation.submitted import read_submission

    labelled = [row for row in rows if row["label"] and not row["error"]]
    if not labelled:
        return {}
    names = _ids([str(row["file"]) for row in labelled])
    found = {}
    for key, known in findings.items():
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["image_id", "finding", *(f"p_{finding}" for finding in known)])
        for name, row in zip(names, labelled, strict=True):
            writer.writerow([name, row["label"], *(f"{float(row[f'{key}:{one}']):.6f}" for one in known)])
        text = stream.getvalue()
        found[key] = read_submission(text.encode(), titles[key]), text
    return found


def summaries(found: Mapping[str, tuple[Submission, str]]) -> list[tuple[str, Summary]]:
    """Accuracy, AUC and more of each model, with 95 % intervals, of those that know one of the labels."""
    from cxrmodels.evaluation.metrics import summarise

    summed = ((key, summarise(one.name, False, one.evaluation, 1.0)) for key, (one, _) in found.items())
    return [(key, summary) for key, summary in summed if summary is not None]


def _ids(files: list[str]) -> list[str]:
    """Names of films as the comparison takes them: what cannot be seen as a code, the end of long ones, each once."""
    taken: dict[str, None] = {}
    for number, file in enumerate(files, start=1):
        plain = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in file.lstrip("'"))
        name = plain.strip().lstrip("=+-@")[-_LONGEST_ID:] or "film"
        taken[name if name not in taken else f"{name} (row {number})"] = None
    return list(taken)
