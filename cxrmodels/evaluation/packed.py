"""Tables beside a model's weights: CSV, compressed; equal ones give equal bytes."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_packed(text: str, path: Path) -> None:
    """Write text, compressed; the header of the file carries no time."""
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_packed(path: Path) -> str:
    """Read what `write_packed` wrote.

    Raises:
        OSError, EOFError, zlib.error, UnicodeDecodeError: it cannot be read, or is damaged.
    """
    return gzip.decompress(path.read_bytes()).decode()


def read_rows(path: Path, header: Sequence[str], what: str) -> list[dict[str, str]]:
    """Rows of a table, by its columns.

    Args:
        what: is in such a file, in words.

    Raises:
        OSError, EOFError, zlib.error, UnicodeDecodeError: it cannot be read, or is damaged.
        ValueError: it has other columns.
    """
    rows = csv.DictReader(io.StringIO(read_packed(path)))
    if rows.fieldnames != list(header):
        raise ValueError(f"{path.name} has the columns {rows.fieldnames}; it is no file of {what}.")
    return list(rows)
