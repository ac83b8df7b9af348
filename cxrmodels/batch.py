"""Many films through several models: decoding beside the networks, one row a film, gone on with after a stop.

The table is wide, so that it can be sorted and joined to a list of films:

| column | content |
|---|---|
| `file` | the film as it was named, or its place in a folder or archive |
| `label` | the finding that the labels give for it, if any |
| `doubt` | 0 where every model is certain, 1 where none favours any finding; the mean over the models |
| `disagreement` | greatest difference between two models' P(COVID-19), 0-1; empty with one model |
| `KEY:decision` | a model's decision, or `not sure` |
| `KEY:FINDING` | its calibrated probability of a finding |
| `models` | which models answered: key and first digits of the weights' sha256 |
| `error` | why the film could not be read; the columns of the models are empty then |
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from cxrmodels.engine import Engine
from cxrmodels.export import harmless
from cxrmodels.findings import TITLES
from cxrmodels.inference import Prediction, interpret, network_input
from cxrmodels.radiograph import MAX_BYTES, Radiograph, RadiographError, read_radiograph

if TYPE_CHECKING:
    from cxrmodels.evaluation.metrics import Summary

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom", ".ima")
"""What counts as a film in a folder or archive, beside files without a suffix: DICOM files often have none."""

_WORKERS = 2


class BatchError(ValueError):
    """The words of a batch make no sense together; the message says what would."""


@dataclass(frozen=True, slots=True)
class Source:
    """A film that was not read yet: its name in the table, and how to get at most MAX_BYTES + 1 of its bytes."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class FilmRow:
    """What the models say of a film; or, with no predictions, why it could not be read."""

    file: str
    predictions: tuple[Prediction, ...]
    error: str = ""

    @property
    def doubt(self) -> float | None:
        """How far from certain the models are, 0-1: 1 - p of the likeliest finding, as a part of what it is when all
        findings are equally likely; the mean over the models."""
        if not self.predictions:
            return None
        return float(np.mean([(1 - p.probabilities.max()) / (1 - 1 / len(p.findings)) for p in self.predictions]))

    @property
    def disagreement(self) -> float | None:
        """Greatest difference between two models' probability of COVID-19, 0-1; None with fewer than two."""
        asked = [p for one in self.predictions if (p := one.probability("covid19")) is not None]
        return max(asked) - min(asked) if len(asked) > 1 else None


# ------------------------------------------------------------------------------------------------------ sources
def sources(paths: Sequence[str | Path]) -> list[Source]:
    """All films of files, folders and zip archives, in order; those of a folder or archive sorted by name.

    Raises:
        BatchError: there is none, or an archive cannot be opened. A missing file is a row with its error.
    """
    found = list(itertools.chain.from_iterable(map(_sources_of, map(Path, paths))))
    if not found:
        raise BatchError(f"No film is there; a folder or archive should hold files of the kinds {', '.join(SUFFIXES)}.")
    repeated = len(found) - len({source.name for source in found})
    if repeated:
        raise BatchError(f"{repeated} of {len(found)} films are named twice. Name each folder or file once.")
    return found


def _sources_of(path: Path) -> Iterator[Source]:
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and _is_film(PurePosixPath(p.relative_to(path))))
        yield from map(_file, inside)
    elif path.suffix.lower() == ".zip" and path.is_file():
        yield from archive_sources(path, str(path))
    else:
        yield _file(path)


def _is_film(path: PurePosixPath) -> bool:
    # macOS' resource forks (`__MACOSX`, `._x`) only look like films.
    hidden = "__MACOSX" in path.parts or any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix.lower() in ("", *SUFFIXES) and path.name != "DICOMDIR"


def _file(path: Path) -> Source:
    def read() -> bytes:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)

    return Source(_shown(str(path)), read)


def archive_sources(archive: Path | io.BytesIO, name: str) -> Iterator[Source]:
    """The films of a zip archive, unpacked one by one when they are read, and never to disk.

    Raises:
        BatchError: it cannot be opened.
    """
    try:
        # Open as long as one of its films may be read; reading from several threads is safe.
        opened = zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise BatchError(f"The archive {name} cannot be opened ({error}).") from None

    def member(info: zipfile.ZipInfo) -> Source:
        def read() -> bytes:
            with opened.open(info) as stream:
                return stream.read(MAX_BYTES + 1)

        return Source(_shown(f"{name}/{info.filename}"), read)

    for info in sorted(opened.infolist(), key=lambda info: info.filename):
        if not info.is_dir() and _is_film(PurePosixPath(info.filename)):
            yield member(info)


def _shown(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become backslash codes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


# ------------------------------------------------------------------------------------------------------- reading
def read_films(
    films: Iterable[Source], engines: Mapping[str, Engine], *, workers: int = _WORKERS
) -> Generator[FilmRow, None, None]:
    """What models say of films, in their order. While networks run, threads decode the next films; a few films are in
    memory at a time, however many there are.

    Args:
        engines: model key -> engine, in the order of the predictions.
        workers: threads that decode.
    """

    def prepared(source: Source) -> tuple[Radiograph, list[np.ndarray]] | str:
        try:
            radiograph = read_radiograph(_bytes(source), source.name)
        except RadiographError as error:
            return str(error)
        return radiograph, [network_input(radiograph, engine.loaded.spec) for engine in engines.values()]

    waiting: deque[tuple[Source, Future[Any]]] = deque()
    remaining = iter(films)
    with ThreadPoolExecutor(workers, thread_name_prefix="films") as pool:
        try:
            while True:
                for source in itertools.islice(remaining, 2 * workers - len(waiting)):
                    waiting.append((source, pool.submit(prepared, source)))
                if not waiting:
                    return
                source, future = waiting.popleft()
                ready = future.result()
                if isinstance(ready, str):
                    yield FilmRow(source.name, (), ready)
                    continue
                radiograph, inputs = ready
                yield FilmRow(
                    source.name,
                    tuple(
                        interpret(engine, radiograph, engine.run(one[None]).logits[0])
                        for engine, one in zip(engines.values(), inputs, strict=True)
                    ),
                )
        finally:
            for _, future in waiting:
                future.cancel()


def _bytes(source: Source) -> bytes:
    try:
        return source.read()
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error) or type(error).__name__
    raise RadiographError(f"The file cannot be opened ({reason}). Check its name and that you may read it.")


# --------------------------------------------------------------------------------------------------------- table
def columns(engines: Mapping[str, Engine]) -> list[str]:
    """The table's columns for these models."""
    of_models = [
        f"{key}:{name}" for key, engine in engines.items() for name in ("decision", *engine.loaded.spec.findings)
    ]
    return ["file", "label", "doubt", "disagreement", *of_models, "models", "error"]


def versions(engines: Mapping[str, Engine]) -> str:
    """Keys of models and the first digits of their weights' sha256."""
    return " ".join(f"{key}@{engine.loaded.card.weights_sha256[:12]}" for key, engine in engines.items())


def cells(row: FilmRow, engines: Mapping[str, Engine], label: str = "") -> list[str]:
    """A row of the table as text."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.6f}"

    said = [
        cell for one in row.predictions for cell in (one.decision, *(f"{value:.6f}" for value in one.probabilities))
    ]
    if not row.predictions:
        said = [""] * (len(columns(engines)) - 6)
    about = [harmless(row.file), label, number(row.doubt), number(row.disagreement)]
    return [*about, *said, versions(engines), " ".join(row.error.split())]


def run(
    films: Sequence[Source],
    engines: Mapping[str, Engine],
    output: Path,
    *,
    labels: Mapping[str, str] | None = None,
    report: Callable[[int, int], object] = lambda done, total: None,
) -> int:
    """Write the table of films as CSV or, by the output's suffix, Parquet. What a stopped run wrote is gone on with.

    Args:
        labels: see `read_labels`.
        report: called with the numbers of films done, earlier runs included, and in all.

    Returns:
        How many films could not be read, earlier runs included.

    Raises:
        BatchError: the output has another suffix, or is of other models, or is a Parquet file that is whole already.
        OSError: it cannot be written.
    """
    kind = output.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise BatchError(f"The output is {output.name}; expected a name that ends in .csv or .parquet.")
    if kind == ".parquet" and output.exists():
        raise BatchError(f"{output} is there already. Name another file, or remove it.")
    # A Parquet file is whole or unreadable: until all rows are there they are kept as CSV beside it.
    journal = output if kind == ".csv" else output.with_name(f"{output.name}.unfinished.csv")
    done, failed = _resume(journal, columns(engines), versions(engines))
    left = [source for source in films if harmless(source.name) not in done]
    total, finished = len(films), len(films) - len(left)
    label_of = _label_finder(labels or {})
    with journal.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if not stream.tell():
            writer.writerow(columns(engines))
        report(finished, total)
        for row in read_films(left, engines):
            writer.writerow(cells(row, engines, label_of(row.file)))
            stream.flush()  # To the system: a killed process loses no row.
            failed += bool(row.error)
            finished += 1
            report(finished, total)
    if kind == ".parquet":
        _to_parquet(journal, output, engines)
        journal.unlink()
    return failed


def _resume(journal: Path, header: list[str], models: str) -> tuple[set[str], int]:
    """Cut off what a killed run left half written; the films whose rows are there, and how many of those hold an error.

    Raises:
        BatchError: the file is another table.
    """
    if not journal.exists():
        return set(), 0
    other = BatchError(
        f"{journal} was written by other models or another program, and is left as it is. Name another output, or "
        "remove it."
    )
    done, failed, whole = set[str](), 0, 0
    with journal.open("rb+") as stream:
        for row, end in _rows(stream):
            if not whole and row != header:
                raise other
            if len(row) != len(header):
                break
            if whole:
                if row[header.index("models")] != models:
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


def _to_parquet(journal: Path, output: Path, engines: Mapping[str, Engine]) -> None:
    import pyarrow
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    words = {"file", "label", "models", "error", *(f"{key}:decision" for key in engines)}
    kinds = {name: pyarrow.string() if name in words else pyarrow.float64() for name in columns(engines)}
    partial = output.with_name(f"{output.name}.part")
    with (
        arrow_csv.open_csv(
            journal,
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=kinds),
        ) as batches,
        parquet.ParquetWriter(partial, batches.schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    partial.replace(output)


# -------------------------------------------------------------------------------------------------------- labels
def read_labels(path: Path) -> dict[str, str]:
    """A CSV file with the columns `file` and `label` -> the label of each file.

    A file is named as in the table, or by its last part alone where no two share that.

    Raises:
        BatchError: a column is missing, a label is no finding, or a file has two labels.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := {"file", "label"} - set(reader.fieldnames or ()):
            raise BatchError(f"{path} has no column {' and no '.join(sorted(missing))}; expected file and label.")
        labels: dict[str, str] = {}
        for row in reader:
            file, label = row["file"], (row["label"] or "").strip()
            if label and label not in TITLES:
                raise BatchError(f"{path}, {file!r}: {label!r} is no finding; expected one of {', '.join(TITLES)}.")
            if labels.setdefault(file, label) != label:
                raise BatchError(f"{path}: {file!r} is there twice, as {labels[file]} and as {label}.")
    return labels


def _label_finder(labels: Mapping[str, str]) -> Callable[[str], str]:
    by_end: dict[str, str] = {}
    for file, label in labels.items():
        end = PurePosixPath(file).name
        by_end[end] = label if by_end.get(end, label) == label else ""
    return lambda file: labels.get(file) or by_end.get(PurePosixPath(file).name, "")


def evaluate(output: Path, engines: Mapping[str, Engine]) -> list[tuple[str, Summary]]:
    """Accuracy, AUC and more with 95 % intervals, of each model on the labelled films of a finished table.

    Every film counts as a patient of its own, since a table of labels does not say which belong together.

    Returns:
        (model key, summary) for the models that know one of the labels.
    """
    from cxrmodels.evaluation.metrics import summarise
    from cxrmodels.evaluation.predictions import Evaluation

    table = _labelled(output)
    if not table:
        return []
    found = []
    labels = np.array(table["label"], np.str_)
    nothing = np.full(len(labels), "", np.str_)
    for key, engine in engines.items():
        findings = engine.loaded.spec.findings
        probabilities = np.array([table[f"{key}:{finding}"] for finding in findings], np.float64).T
        evaluation = Evaluation(
            findings=findings,
            image_ids=np.array(table["file"], np.str_),
            sources=nothing,
            splits=nothing,
            groups=np.array(table["file"], np.str_),
            labels=labels,
            age_groups=nothing,
            views=nothing,
            widths=np.zeros(len(labels), np.int64),
            heights=np.zeros(len(labels), np.int64),
            exposures=np.zeros(len(labels), np.float32),
            # Six digits were written: less than half of the last is as good as none.
            logits=np.log(np.maximum(probabilities, 5e-7)).astype(np.float32),
        )
        if summary := summarise(output.name, False, evaluation, 1.0):
            found.append((key, summary))
    return found


def _labelled(output: Path) -> dict[str, list[Any]]:
    """The columns of those films of a table that have a label and no error."""
    kept: dict[str, list[Any]] = {}
    for row in _table(output):
        if row["label"] and not row["error"]:
            for name, value in row.items():
                kept.setdefault(name, []).append(value)
    return kept


def _table(output: Path) -> Iterator[dict[str, Any]]:
    if output.suffix.lower() == ".csv":
        with output.open(encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)
        return
    from pyarrow import parquet

    with parquet.ParquetFile(output) as stored:
        for part in stored.iter_batches():
            yield from part.to_pylist()
