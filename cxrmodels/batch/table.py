"""The table of many films: written row by row, gone on with after a stop, read again.

It is wide, so that it can be sorted and joined to a list of films:

| column | content |
|---|---|
| `file` | the film as it was named, or its place in a folder or archive |
| `label` | the finding that the labels give for it, if any |
| `doubt` | 0 where every model is certain, 1 where none favours any finding; the mean over the models |
| `disagreement` | greatest difference between two models' P(COVID-19), 0-1; empty with one model |
| `gate` | `pass`, `refused: REASON` or `not judged: REASON`; empty where the film could not be read |
| `KEY:decision` | a model's decision, or `not sure` |
| `KEY:FINDING` | its calibrated probability of a finding |
| `models` | which models answered: key and first digits of the weights' sha256 |
| `error` | why the film could not be read; the columns of the models are empty then |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from cxrmodels.batch.films import BatchError, Source
from cxrmodels.batch.reading import NOT_ASKED, FilmRow, read_films
from cxrmodels.export import harmless
from cxrmodels.zoo import LoadedModel

if TYPE_CHECKING:
    import pyarrow

_ABOUT, _END = ("file", "label", "doubt", "disagreement", "gate"), ("models", "error")
_WORDS = ("file", "label", "gate", *_END)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a table is: films done, of how many, how many of them could not be read, earlier runs included; and how
    many bytes the rows that are there take."""

    done: int
    total: int
    failed: int
    length: int


class Reader(Protocol):
    """What has models read films; `reading.read_films` does it here."""

    def __call__(
        self, films: Sequence[Source], models: Mapping[str, LoadedModel], *, gated: bool
    ) -> Generator[FilmRow, None, None]: ...


def columns(models: Mapping[str, LoadedModel]) -> list[str]:
    """The table's columns for these models."""
    of_models = [f"{key}:{name}" for key, one in models.items() for name in ("decision", *one.spec.findings)]
    return [*_ABOUT, *of_models, *_END]


def versions(models: Mapping[str, LoadedModel]) -> str:
    """Keys of models and the first digits of their weights' sha256."""
    return " ".join(f"{key}@{one.card.weights_sha256[:12]}" for key, one in models.items())


def cells(row: FilmRow, models: Mapping[str, LoadedModel], label: str = "") -> list[str]:
    """A row of the table as text."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.6f}"

    said = [
        cell for one in row.predictions for cell in (one.decision, *(f"{value:.6f}" for value in one.probabilities))
    ]
    if not row.predictions:
        said = [""] * (len(columns(models)) - len(_ABOUT) - len(_END))
    about = [harmless(row.file), label, number(row.doubt), number(row.disagreement), row.gate]
    return [*about, *said, versions(models), " ".join(row.error.split())]


def run(
    films: Sequence[Source],
    models: Mapping[str, LoadedModel],
    output: Path,
    *,
    label_of: Callable[[str], str] = lambda file: "",
    report: Callable[[Progress], object] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
    reader: Reader = read_films,
    gated: bool = True,
) -> Progress:
    """Write the table of films as CSV or, by the output's suffix, Parquet. What a stopped run wrote is gone on with.

    Args:
        label_of: film's name -> its label, or nothing; see `labels`.
        report: called before the first film and after each.
        stopped: asked before each film; where it says so, the rest is left for another run.
        reader: what reads the films.
        gated: whether the gate judges each film.

    Returns:
        How far it came.

    Raises:
        BatchError: the output has another suffix, or is of other models or gated otherwise, or is a Parquet file that
            is whole already.
        ModelError: a model cannot be run here.
        OSError: it cannot be written.
    """
    kind = output.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise BatchError(f"The output is {output.name}; expected a name that ends in .csv or .parquet.")
    if kind == ".parquet" and output.exists():
        raise BatchError(f"{output} is there already. Name another file, or remove it.")
    # A Parquet file is whole or unreadable: until all rows are there they are kept as CSV beside it.
    journal = output if kind == ".csv" else output.with_name(f"{output.name}.unfinished.csv")
    done, failed = _resume(journal, columns(models), versions(models), gated)
    left = [source for source in films if harmless(source.name) not in done]
    finished = len(films) - len(left)
    with journal.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if not stream.tell():
            writer.writerow(columns(models))
            stream.flush()
        progress = Progress(finished, len(films), failed, stream.tell())
        report(progress)
        if left and not stopped():
            with closing(reader(left, models, gated=gated)) as rows:
                for row in rows:
                    writer.writerow(cells(row, models, label_of(row.file)))
                    stream.flush()  # To the system: a killed process loses no row.
                    failed += bool(row.error)
                    finished += 1
                    progress = Progress(finished, len(films), failed, stream.tell())
                    report(progress)
                    if stopped():
                        break
    if kind == ".parquet" and finished == len(films):
        to_parquet(journal, output)
        journal.unlink()
    return progress


def _resume(journal: Path, header: list[str], models: str, gated: bool) -> tuple[set[str], int]:
    """Cut off what a killed run left half written; the films whose rows are there, and how many of those hold an error.

    Raises:
        BatchError: the file is another table.
    """
    if not journal.exists():
        return set(), 0
    other = BatchError(
        f"{journal} was written by other models or another program, or {'without' if gated else 'with'} the gate, and "
        "is left as it is. Name another output, or remove it."
    )
    done, failed, whole = set[str](), 0, 0
    with journal.open("rb+") as stream:
        for row, end in _rows(stream):
            if not whole and row != header:
                raise other
            if len(row) != len(header):
                break
            if whole:
                without_gate = row[header.index("gate")] == NOT_ASKED
                # A film that could not be read has no word on the gate.
                if row[header.index("models")] != models or (not row[-1] and without_gate == gated):
                    raise other
                done.add(row[0])
                failed += bool(row[-1])
            whole = end
        if not whole:
            stream.seek(0)
            if not f"{','.join(header)}\r\n".encode().startswith(stream.read()):
                raise other
        stream.truncate(whole)
    return done, failed


def _rows(stream: BinaryIO) -> Iterator[tuple[list[str], int]]:
    """The rows of a CSV file whose lines have an end, up to the first that is no text, and where each ends."""
    end, line = 0, b""

    def lines() -> Iterator[str]:
        nonlocal end, line
        for line in stream:
            end += len(line)
            yield line.decode("utf-8")

    try:
        for row in csv.reader(lines()):
            if line.endswith(b"\n"):
                yield row, end
    except (UnicodeDecodeError, csv.Error):
        return


# --------------------------------------------------------------------------------------------------- read again
def read_csv(journal: Path, length: int | None = None) -> pyarrow.Table:
    """A table that was written as CSV, or its first so many bytes, with a type for each column.

    Args:
        length: see `Progress`; the whole file where None.

    Raises:
        OSError: it is not there.
    """
    from pyarrow import csv as arrow_csv

    with journal.open("rb") as stream:
        content = stream.read() if length is None else stream.read(length)
    return arrow_csv.read_csv(io.BytesIO(content), **_how(content))


def counted(journal: Path) -> tuple[int, int, int]:
    """How many rows of a table are whole, how many of these hold an error, and how many bytes they take with the
    header: what a killed run left half written is not counted."""
    width, rows, failed, whole = None, -1, 0, 0
    with journal.open("rb") as stream:
        for row, end in _rows(stream):
            if width is not None and len(row) != width:
                break
            width, whole = len(row), end
            failed += rows >= 0 and bool(row[-1])
            rows += 1
    return max(rows, 0), failed, whole


def to_parquet(journal: Path, output: Path) -> None:
    """A whole table that was written as CSV, as Parquet, in flat memory."""
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    with journal.open("rb") as stream:
        how = _how(stream.readline())
    partial = output.with_name(f"{output.name}.part")
    with (
        arrow_csv.open_csv(journal, **how) as batches,
        parquet.ParquetWriter(partial, batches.schema) as writer,
    ):
        for part in batches:
            writer.write_batch(part)
    partial.replace(output)


def _how(content: bytes) -> dict[str, Any]:
    """How Arrow is to read a table: the types of its columns, by their names in the first line."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    header = content[: content.index(b"\n")].decode().rstrip("\r").split(",")
    kinds = {
        name: pyarrow.string() if name in _WORDS or name.endswith(":decision") else pyarrow.float64() for name in header
    }
    return {
        "parse_options": arrow_csv.ParseOptions(newlines_in_values=True),
        "convert_options": arrow_csv.ConvertOptions(column_types=kinds),
    }


def rows_of(output: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table that is whole, CSV or Parquet, one by one."""
    if output.suffix.lower() == ".csv":
        with output.open(encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)
        return
    from pyarrow import parquet

    with parquet.ParquetFile(output) as stored:
        for part in stored.iter_batches():
            yield from part.to_pylist()
