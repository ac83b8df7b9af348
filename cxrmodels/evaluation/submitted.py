"""Predictions of a reader's own model, brought as a CSV file: checked cell by cell, then an `Evaluation` like any."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NoReturn

import numpy as np

from cxrmodels.datasets.manifest import SPLITS
from cxrmodels.evaluation.predictions import Evaluation
from cxrmodels.findings import TITLES
from cxrmodels.radiograph import MAX_SIDE

MAX_BYTES = 200 * 1000**2
MAX_ROWS = 1_000_000
MAX_COLUMNS = 200
MAX_CELL = 300
"""Longest cell, in characters."""

_REQUIRED = ("image_id", "finding")
_TEXT_DEFAULTS = {"source": "yours", "split": "external", "group_id": "", "age_group": "", "view": ""}
"""Optional columns of text -> what an empty cell, or a file without the column, means. A film without a group is
its own group."""
_NUMBERS = ("width", "height", "exposure")
"""Optional columns of numbers. A file without one gets zeros, which no film has: unknown."""
_LEAST_PROBABILITY = 1e-7
_MAX_LINE = 65_536
_CHUNK = 8192  # rows that exist as Python strings at a time
_TEXT_BYTES = 256 * 1000**2  # of one column as an array, in which every cell takes the room of the longest
_DELIMITERS = ",;\t"
_NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *", re.ASCII)
_MISSING = ("nan", "na", "n/a", "#n/a", "null", "none")
_INFINITE = ("inf", "infinity")
_FORMULA = ("=", "+", "-", "@", "\t")
_STRANGERS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"PK\x03\x04", "an Excel workbook or another zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF"),
    (b"PAR1", "a Parquet file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
)

_TEMPLATE = """\
image_id,finding,source,split,group_id,age_group,view,width,height,exposure,p_normal,p_covid19
film-001,normal,my hospital,external,patient-1,adult,PA,2048,2048,0.51,0.92,0.08
film-002,covid19,my hospital,external,patient-2,adult,AP,1760,2140,0.47,0.23,0.77
film-003,covid19,my hospital,external,patient-2,adult,AP,1760,2140,0.45,0.41,0.59
"""


class SubmissionError(ValueError):
    """The file cannot join the comparison. The message names row and column where there are any; the header is
    row 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """Predictions that a reader brought.

    Attributes:
        name: the file's name without folders and ending, printable, at most 60 characters; still to be escaped
            where it is shown as HTML.
        evaluation: the answers; sizes and exposures are 0 where the file does not state them.
        notes: what was filled in, left out or assumed, one sentence each.
        sha256: hex digest of the file's bytes.
    """

    name: str
    evaluation: Evaluation
    notes: tuple[str, ...]
    sha256: str


def template() -> str:
    """A small file with every column, as CSV. It reads without a note."""
    return _TEMPLATE


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    """Logits whose softmax gives the probabilities again: their logarithm, clipped at 1e-7; float32, same shape."""
    logits: np.ndarray = np.log(np.clip(probabilities, _LEAST_PROBABILITY, 1)).astype(np.float32)
    return logits


def read_submission(data: bytes, name: str) -> Submission:
    """Read a CSV file of predictions.

    A row is a film. `image_id` and `finding` (its true label, a key of `findings.TITLES`) are required, and so are
    two or more columns `p_FINDING` (0-1, a row's sum within 0.01 of 1) or, instead, `logit_FINDING` (finite).
    Optional: `source`, `split` (one of `manifest.SPLITS`), `group_id`, `age_group`, `view`, `width` and `height`
    (whole, 1 or more), `exposure` (0-1). Text in optional columns may be left empty. Other columns are ignored.
    Cells are parted by commas, semicolons or tabs, decimals by a point; UTF-8, with or without byte order mark.

    Args:
        data: the file's bytes.
        name: the file's name, only shown.

    Raises:
        SubmissionError: the file is not as described, or larger than MAX_BYTES or MAX_ROWS.
    """
    _check_bytes(data)
    body = data.rstrip(b"\r\n")
    stream = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", newline=None)
    delimiter = max(_DELIMITERS, key=stream.readline(_MAX_LINE).count)
    stream.seek(0)
    records = _records(stream, delimiter)
    columns = _Columns.of(next(records))
    row_count = max(body.count(b"\n"), body.count(b"\r"))
    if not row_count:
        raise SubmissionError("The file has a header and no rows; expected one row a film. Add your predictions.")
    if row_count > MAX_ROWS:
        raise SubmissionError(f"The file has {row_count:,} rows; expected at most {MAX_ROWS:,}. Split it.")

    longest = min(MAX_CELL, _TEXT_BYTES // (4 * row_count))
    text: dict[str, list[np.ndarray]] = {column: [] for column in columns.text}
    numbers: dict[str, list[np.ndarray]] = {column: [] for column in (*columns.numbers, *columns.answers)}
    first_row = 2
    while chunk := list(islice(records, _CHUNK)):
        cells = list(zip(*chunk, strict=True))
        for column, parts in text.items():
            parts.append(_text(cells[columns.at[column]], column, first_row, longest))
        for column, parts in numbers.items():
            parts.append(_parse(cells[columns.at[column]], column, first_row))
        first_row += len(chunk)
    words = {column: np.concatenate(parts) for column, parts in text.items()}
    values = {column: np.concatenate(parts) for column, parts in numbers.items()}
    _check_unique(words["image_id"])

    notes: list[str] = []
    count = len(words["image_id"])
    for column, default in _TEXT_DEFAULTS.items():
        words[column] = _filled(words, column, default or (words["image_id"] if column == "group_id" else ""), notes)
    logits = _logits(columns, np.stack([values[column] for column in columns.answers], axis=1), notes)
    unknown = [column for column in _NUMBERS if column not in values]
    if unknown:
        notes.append(f"No column {' or '.join(unknown)}: unknown, kept as 0.")
    evaluation = Evaluation(
        findings=columns.findings,
        image_ids=words["image_id"],
        sources=words["source"],
        splits=words["split"],
        groups=words["group_id"],
        labels=words["finding"],
        age_groups=words["age_group"],
        views=words["view"],
        widths=values.get("width", np.zeros(count)).astype(np.int64),
        heights=values.get("height", np.zeros(count)).astype(np.int64),
        exposures=values.get("exposure", np.zeros(count)).astype(np.float32),
        logits=logits,
    )
    return Submission(
        _title(name), evaluation, (*notes, *_remarks(evaluation, columns)), hashlib.sha256(data).hexdigest()
    )


# --- the file -----------------------------------------------------------------------------------------------


def _check_bytes(data: bytes) -> None:
    if not data.strip(b"\xef\xbb\xbf \t\r\n"):
        raise SubmissionError(f"The file is empty ({len(data)} bytes); expected a CSV table. Choose another file.")
    if len(data) > MAX_BYTES:
        raise SubmissionError(
            f"The file has {len(data) / 1e6:.0f} MB; expected at most {MAX_BYTES / 1e6:.0f} MB. Leave out columns "
            "that are not needed, or split it."
        )
    advice = "expected a CSV table in UTF-8. Save it as 'CSV UTF-8'."
    for magic, what in _STRANGERS:
        if data.startswith(magic):
            raise SubmissionError(f"The file is {what}; {advice}")
    if b"\0" in data[:64]:
        raise SubmissionError(f"The file is not text, or text in UTF-16; {advice}")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise SubmissionError(f"Row {row}: byte 0x{data[error.start]:02X} is not UTF-8; {advice}") from None


def _lines(stream: Iterator[str]) -> Iterator[str]:
    for row, line in enumerate(stream, start=1):
        if len(line) > _MAX_LINE:
            raise SubmissionError(
                f"Row {row} has {len(line):,} characters; expected at most {_MAX_LINE:,}. Is it the right file?"
            )
        yield line


def _records(stream: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    """The header, then the rows, all as wide as the header. A row is a line, so that rows can be named."""
    reader = csv.reader(_lines(stream), delimiter=delimiter, strict=True)
    row, width = 1, 0
    try:
        for record in reader:
            if reader.line_num != row:
                raise csv.Error("line break")
            width = width or len(record)
            if not record or len(record) != width:
                raise _wrong_width(row, record, width, delimiter)
            yield record
            row += 1
    except csv.Error:
        raise SubmissionError(
            f"Row {row}: a quote is not closed, or a cell goes over several lines; expected one line a film. Write "
            'a quote inside a quoted cell as "" and take line breaks out.'
        ) from None


def _wrong_width(row: int, record: list[str], width: int, delimiter: str) -> SubmissionError:
    if not record:
        return SubmissionError(f"Row {row} is empty; expected no empty rows between others. Delete it.")
    advice = "Quote cells that hold the delimiter."
    if delimiter == "," and len(record) > width:
        advice = "Quote cells that hold a comma, and write decimals with a point."
    few = "too few" if len(record) < width else "too many"
    names = {",": "commas", ";": "semicolons", "\t": "tabs"}
    return SubmissionError(
        f"Row {row} has {few} cells: {len(record)}; expected {width} as in the header, parted by "
        f"{names[delimiter]}. {advice}"
    )


def _title(name: str) -> str:
    base = name.replace("\\", "/").rsplit("/", 1)[-1][:1000]
    stem = base.rsplit(".", 1)[0] if "." in base else base
    # A title ends up in tables that spreadsheets open.
    return "".join(c for c in stem if c.isprintable()).lstrip("".join(_FORMULA) + " .")[:60].strip() or "unnamed"


# --- the header ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the columns are: `at` name -> position; `answers` are those of the `findings`, in the same order."""

    at: dict[str, int]
    text: tuple[str, ...]
    numbers: tuple[str, ...]
    answers: tuple[str, ...]
    findings: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def probabilities(self) -> bool:
        return self.answers[0].startswith("p_")

    @classmethod
    def of(cls, header: list[str]) -> _Columns:
        if len(header) > MAX_COLUMNS:
            raise SubmissionError(f"Row 1 has {len(header):,} columns; expected at most {MAX_COLUMNS}.")
        at: dict[str, int] = {}
        ignored = []
        for position, cell in enumerate(header):
            column = cell.strip(" ")
            if column and (fault := _text_fault(column, MAX_CELL)):
                _refuse(1, f"number {position + 1}", fault)
            if column in at:
                _refuse(1, column, "stands there twice; expected every column once. Rename or delete one")
            if column.startswith(("p_", "logit_")) and column.partition("_")[2] not in TITLES:
                _refuse(1, column, f"names no known finding; expected p_ or logit_ and one of {', '.join(TITLES)}")
            if column:
                at[column] = position
            else:
                ignored.append(f"number {position + 1} (without a name)")
        missing = [column for column in _REQUIRED if column not in at]
        if missing:
            came = _shown(", ".join(at), 100)
            raise SubmissionError(
                f"Row 1: no column {' and no column '.join(missing)} among {came}; expected image_id, finding and two "
                "or more columns p_FINDING. Rename or add what is missing."
            )
        answers = tuple(column for column in at if column.startswith(("p_", "logit_")))
        kinds = {column.partition("_")[0] for column in answers}
        if len(kinds) > 1:
            raise SubmissionError(
                f"Row 1 has both {next(c for c in answers if c.startswith('p_'))} and "
                f"{next(c for c in answers if c.startswith('logit_'))}; expected either probabilities (p_) or logits "
                "(logit_). Leave one kind out."
            )
        if len(answers) < 2:
            raise SubmissionError(
                f"Row 1 has {f'only {answers[0]}' if answers else 'no column of predictions'}; expected two or more "
                "named p_FINDING or logit_FINDING. For one probability p add the column of the other finding, 1 - p."
            )
        known = (*_REQUIRED, *_TEXT_DEFAULTS, *_NUMBERS, *answers)
        return cls(
            at,
            text=tuple(column for column in (*_REQUIRED, *_TEXT_DEFAULTS) if column in at),
            numbers=tuple(column for column in _NUMBERS if column in at),
            answers=answers,
            findings=tuple(column.partition("_")[2] for column in answers),
            ignored=(*(column for column in at if column not in known), *ignored),
        )


# --- the cells ----------------------------------------------------------------------------------------------


def _shown(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _refuse(row: int, column: str, fault: str) -> NoReturn:
    raise SubmissionError(f"Row {row}, column {_shown(column)}: {fault}.")


def _text_fault(cell: str, longest: int) -> str | None:
    """What is wrong with a cell whatever its column, if anything is."""
    if len(cell) > longest:
        return f"has {len(cell):,} characters; expected at most {longest}. Shorten it"
    if cell.startswith(_FORMULA):
        return (
            f"{_shown(cell)!r} begins like a formula, which a spreadsheet would run; expected text that begins "
            "with none of = + - @ tab. Take the sign away"
        )
    if not cell.isprintable():
        stranger = next(c for c in cell if not c.isprintable())
        return f"holds the control character U+{ord(stranger):04X}; expected text that can be seen. Delete it"
    return None


def _text(cells: Sequence[str], column: str, first_row: int, longest: int) -> np.ndarray:
    """Checked text, one string a row, (N,)."""
    stripped = [cell.strip(" ") for cell in cells]
    known: Sequence[str] | None = {"finding": tuple(TITLES), "split": SPLITS}.get(column)
    for row, cell in enumerate(stripped, start=first_row):
        if not cell and column in _REQUIRED:
            _refuse(row, column, "the cell is empty; expected text. Fill it in or delete the row")
        if fault := _text_fault(cell, longest):
            _refuse(row, column, fault)
        if known and cell and cell not in known:
            _refuse(row, column, f"{_shown(cell)!r} is unknown; expected one of {', '.join(known)}")
    return np.array(stripped, dtype=np.str_)


def _parse(cells: Sequence[str], column: str, first_row: int) -> np.ndarray:
    """Checked numbers, float64 (N,)."""
    for row, cell in enumerate(cells, start=first_row):
        if len(cell) > MAX_CELL or not _NUMBER.fullmatch(cell):
            _refuse(row, column, _number_fault(cell.strip(" ")))
    values = np.array(cells, dtype=np.float64)
    expected: str
    if column in ("width", "height"):
        right = (values == np.rint(values)) & (values >= 1) & (values <= MAX_SIDE)
        expected = f"a whole number of pixels, 1 to {MAX_SIDE}"
    elif column.startswith("logit_"):
        right = np.abs(values) <= np.finfo(np.float32).max
        expected = "a finite number; it is infinite in single precision"
    else:
        right = (values >= 0) & (values <= 1)
        expected = "a number from 0 to 1"
    if not right.all():
        at = int(np.flatnonzero(~right)[0])
        advice = ". Divide per cent by 100" if column.startswith("p_") and values[at] > 1 else ""
        _refuse(first_row + at, column, f"is {_shown(cells[at].strip(' '))}; expected {expected}{advice}")
    return values


def _number_fault(cell: str) -> str:
    if not cell:
        return "the cell is empty; expected a number. Fill it in or delete the row"
    bare = cell.lower().lstrip("+-")
    if bare in _MISSING:
        return f"{cell!r} is no number; expected one for every film. Fill it in or delete the row"
    if bare in _INFINITE:
        return f"{cell!r} is infinite; expected a finite number"
    if re.fullmatch(r"[+-]?\d+,\d+", cell):
        return f"{_shown(cell)!r} has a decimal comma; expected a decimal point. Export it with English numbers"
    fault = _text_fault(cell, MAX_CELL)
    return fault or f"{_shown(cell)!r} is not a number; expected one such as 0.25"


def _check_unique(image_ids: np.ndarray) -> None:
    _, first = np.unique(image_ids, return_index=True)
    if len(first) < len(image_ids):
        repeated = np.ones(len(image_ids), dtype=bool)
        repeated[first] = False
        at = int(np.flatnonzero(repeated)[0])
        earlier = int(np.flatnonzero(image_ids == image_ids[at])[0])
        _refuse(
            at + 2,
            "image_id",
            f"{_shown(str(image_ids[at]))!r} stands in row {earlier + 2} already; expected every film once",
        )


def _filled(words: dict[str, np.ndarray], column: str, default: str | np.ndarray, notes: list[str]) -> np.ndarray:
    """The column with its default where it is empty or missing, (N,), and a note on it."""
    count = len(words["image_id"])
    given = words.get(column, np.full(count, ""))
    empty = given == ""
    if not empty.any():
        return given
    where = f"No column {column}" if column not in words else f"Column {column} is empty in {empty.sum():,} rows"
    if column == "group_id":
        taken = "intervals treat each of those films as a patient of its own"
    else:
        taken = f"taken as {default!r}" if default else "left empty"
    notes.append(f"{where}: {taken}.")
    filled: np.ndarray = np.where(empty, default, given)
    return filled


def _logits(columns: _Columns, values: np.ndarray, notes: list[str]) -> np.ndarray:
    """Logits from the columns of predictions, float64 (N, K) -> float32 (N, K)."""
    if not columns.probabilities:
        return values.astype(np.float32)
    sums = values.sum(1)
    off = np.abs(sums - 1)
    if (off > 0.01 + 1e-9).any():
        at = int(np.flatnonzero(off > 0.01 + 1e-9)[0])
        raise SubmissionError(
            f"Row {at + 2}, columns {_shown(', '.join(columns.answers), 120)}: the probabilities sum to "
            f"{sums[at]:.4g}; expected 1 (within 0.01). Add the findings that are missing, or divide by the sum."
        )
    if rescaled := int((off > 1e-3).sum()):
        notes.append(f"The probabilities of {rescaled:,} rows did not sum to exactly 1 and were divided by their sum.")
    return logits_of(values)


def _remarks(evaluation: Evaluation, columns: _Columns) -> Iterator[str]:
    if unanswerable := int((evaluation.y_true() < 0).sum()):
        yield (
            f"{unanswerable:,} of {len(evaluation):,} films carry a finding that none of "
            f"{', '.join(columns.findings)} answers: they take no part."
        )
    if learnt := int(np.isin(evaluation.splits, ("train", "val")).sum()):
        yield f"{learnt:,} films are of the split train or val: figures on films a model learnt from say little."
    if columns.ignored:
        more = f" and {len(columns.ignored) - 10} more" if len(columns.ignored) > 10 else ""
        yield f"Ignored columns: {', '.join(map(_shown, columns.ignored[:10]))}{more}."
