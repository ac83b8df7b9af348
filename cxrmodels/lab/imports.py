"""A user's own films: a zip archive or a folder, with one folder a class, checked and copied into the runs folder.

Nothing of an archive is written before its names, number and sizes were looked at, and nothing outside the runs folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from cxrmodels.datasets.class_folder import ClassFolder, ClassFolderError, read_class_folder
from cxrmodels.files import replace_file
from cxrmodels.lab.config import MAX_CLASSES, MAX_FILMS, FolderData
from cxrmodels.lab.store import runs_folder
from cxrmodels.radiograph import MAX_BYTES

MAX_TOTAL = 4 * 2**30
"""Bytes of all films together, unpacked (4 GB)."""
MAX_RATIO = 200
"""How many times smaller than its films an archive may be: films shrink to a half or a tenth."""

_SMALL = 10 * 2**20  # below it, unpacking does no harm whatever the ratio
_MAX_PART, _MAX_DEPTH = 200, 12
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")
_INDEX, _FILMS = "index.json", "films"
_SPLIT = "Expected one folder a class, with its films in it."


class DataError(ValueError):
    """Films cannot be used; the message says what came, what was expected, what to do."""


@dataclass(frozen=True, slots=True)
class ImportedFilm:
    """A film of an import. `patient` is its content's hash where the file's name states none."""

    id: str
    label: str
    patient: str
    path: Path


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import holds.

    Attributes:
        name: of the import.
        classes: names, sorted.
        films: those that can be used, each content once.
        left_out: name and reason of what takes no part.
        shared_patients: patients with films of several classes, and these classes; they do take part, on one side of
            the split each.
        known_patients: films whose name states the patient (`patient__name`).
    """

    name: str
    classes: tuple[str, ...]
    films: tuple[ImportedFilm, ...]
    left_out: tuple[tuple[str, str], ...]
    shared_patients: tuple[tuple[str, tuple[str, ...]], ...]
    known_patients: int

    def data(self) -> FolderData:
        """What a configuration names it by."""
        return FolderData(self.name, self.classes)

    def counts(self) -> dict[str, int]:
        """Class -> how many films."""
        counts = Counter(film.label for film in self.films)
        return {name: counts[name] for name in self.classes}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file to copy. `name` as it came, with `/` between folders."""

    name: str
    size: int
    read: Callable[[], bytes]


def import_archive(source: bytes | Path) -> ImportReport:
    """Check a user's films and copy them into the runs folder. The same films again give the same import.

    Folders around the class folders are taken off; names that begin with a dot, and what systems add by themselves
    (`__MACOSX`, `Thumbs.db`), are passed over. Films that cannot be read, or occur twice, are left out and listed.

    Args:
        source: a zip archive's bytes, its path, or a folder's path.

    Raises:
        DataError: there is nothing to be had from it, or it is not to be trusted: see the message.
    """
    home = _imports_folder()
    with ExitStack() as stack:
        if isinstance(source, Path) and source.is_dir():
            entries = _of_folder(source)
        else:
            entries = _of_archive(_opened(source, stack))
        entries = _unwrapped([entry for entry in entries if not _of_the_system(entry.name)])
        _check_layout(entries)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        films = staging / _FILMS
        for entry in entries:
            target = films / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_content(entry))
        try:
            read = read_class_folder(films)
        except ClassFolderError as error:
            raise DataError(str(error).replace(str(films), "The upload")) from None
        report = _reported(read)
        _write_index(report, staging)
        final = home / report.name
        if not final.is_dir():
            os.replace(staging, final)
    return read_import(report.name)


def read_import(name: str) -> ImportReport:
    """An earlier import, by its name.

    Raises:
        DataError: there is none.
    """
    folder = _imports_folder() / name
    try:
        plain = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"There is no import {name[:64]!r} on this machine. Upload the films again.") from None
    return ImportReport(
        plain["name"],
        tuple(plain["classes"]),
        tuple(
            ImportedFilm(film["id"], film["label"], film["patient"], folder / film["path"]) for film in plain["films"]
        ),
        tuple((left, reason) for left, reason in plain["left_out"]),
        tuple((patient, tuple(classes)) for patient, classes in plain["shared_patients"]),
        plain["known_patients"],
    )


def imports() -> tuple[ImportReport, ...]:
    """All imports, by name."""
    return tuple(read_import(path.parent.name) for path in sorted(_imports_folder().glob(f"[0-9a-z]*/{_INDEX}")))


def delete_import(name: str) -> None:
    """Remove an import and its films. Runs on it keep their results but cannot be resumed.

    Raises:
        DataError: there is none.
    """
    shutil.rmtree(_imports_folder() / read_import(name).name)


def _imports_folder() -> Path:
    folder = runs_folder() / "imports"
    folder.mkdir(exist_ok=True)
    return folder


# --- reading -----------------------------------------------------------------------------------------------------


def _opened(source: bytes | Path, stack: ExitStack) -> zipfile.ZipFile:
    if isinstance(source, Path) and not source.exists():
        raise DataError(f"There is no {source}; expected a zip archive or a folder.")
    stream = stack.enter_context(io.BytesIO(source) if isinstance(source, bytes) else source.open("rb"))
    start = stream.read(4)
    if not start:
        raise DataError("The file is empty (0 bytes); expected a zip archive. Choose another file.")
    if start[:2] != b"PK":
        raise DataError("The file is no zip archive; expected one with a folder for each class. Zip the folders.")
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise DataError("The zip archive is cut short or damaged. Upload it again, or zip the folders anew.") from None


def _of_archive(archive: zipfile.ZipFile) -> list[_Entry]:
    infos = archive.infolist()
    for info in infos:
        # The name as it is in the archive: Python's own has been tidied.
        _check_name(info.orig_filename)
        if info.flag_bits & 1:
            raise DataError("The archive is encrypted; this program asks for no password. Zip the folders without one.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"{_short(info.filename)} is a link; expected the film itself. Zip copies, not links.")
    entries = [
        _Entry(info.filename, info.file_size, lambda info=info: archive.read(info))  # type: ignore[misc]
        for info in infos
        if not info.is_dir()
    ]
    _check_sizes(entries)
    packed = sum(info.compress_size for info in infos)
    total = sum(entry.size for entry in entries)
    if total > _SMALL and total > MAX_RATIO * packed:
        raise DataError(
            f"The archive would unpack to {total // max(packed, 1):,} times its size; films do to less than "
            f"{MAX_RATIO} times. It is no archive of films."
        )
    return entries


def _of_folder(folder: Path) -> list[_Entry]:
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    entries = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        _check_name(name)
        if path.is_symlink() or not path.is_file():
            raise DataError(f"{_short(name)} is a link or no file; expected the film itself. Put copies there.")
        entries.append(_Entry(name, path.stat().st_size, path.read_bytes))
    _check_sizes(entries)
    return entries


def _content(entry: _Entry) -> bytes:
    try:
        return entry.read()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, NotImplementedError):
            raise DataError(
                f"{_short(entry.name)} is packed in a way that is not read; expected an ordinary zip archive (deflate)."
            ) from None
        raise DataError(
            f"{_short(entry.name)} is damaged in the archive. Upload it again, or zip the folders anew."
        ) from None


# --- checking ----------------------------------------------------------------------------------------------------


def _short(name: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in name[:60])
    return shown if len(name) <= 60 else f"{shown}..."


def _check_name(name: str) -> None:
    parts = name.split("/")
    if max(len(part.encode(errors="replace")) for part in parts) > _MAX_PART or len(parts) > _MAX_DEPTH:
        raise DataError(
            f"The name {_short(name)} has {len(name):,} characters in {len(parts):,} folders; expected at most "
            f"{_MAX_PART} bytes in each of at most {_MAX_DEPTH}. Shorten it."
        )
    if not name.isprintable():
        raise DataError(f"The name {_short(name)} holds control characters. Rename the file.")
    if "\\" in name or re.match(r"[A-Za-z]:", name):
        raise DataError(
            f"The name {_short(name)} is a Windows path; expected folders with / between them. Zip the folders anew, "
            "from inside the folder that holds them."
        )
    if name.startswith("/"):
        raise DataError(f"The name {_short(name)} is an absolute path; expected names inside the archive.")
    if ".." in parts:
        raise DataError(f"The name {_short(name)} leads out of the archive; expected names inside it.")


def _check_sizes(entries: Sequence[_Entry]) -> None:
    if not entries:
        raise DataError(f"There is no file in it. {_SPLIT}")
    if len(entries) > MAX_FILMS:
        raise DataError(f"It holds {len(entries):,} files; expected at most {MAX_FILMS:,}. Take fewer films.")
    if (total := sum(entry.size for entry in entries)) > MAX_TOTAL:
        raise DataError(
            f"It holds {total / 2**30:.1f} GB; expected at most {MAX_TOTAL / 2**30:.0f} GB. Take fewer films."
        )
    for entry in entries:
        if entry.size > MAX_BYTES:
            raise DataError(
                f"{_short(entry.name)} has {entry.size / 2**20:,.0f} MB; a film has at most "
                f"{MAX_BYTES / 2**20:.0f} MB. Take it out."
            )
    seen: dict[str, str] = {}
    for entry in entries:
        other = seen.setdefault(unicodedata.normalize("NFC", entry.name).casefold(), entry.name)
        if other is not entry.name:
            raise DataError(
                f"{_short(entry.name)} and {_short(other)} have the same name on many systems. Rename one of them."
            )


def _of_the_system(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1] in (
        "Thumbs.db",
        "desktop.ini",
    )


def _unwrapped(entries: list[_Entry]) -> list[_Entry]:
    """Without the folders around the class folders, and without what lies beside such a folder."""
    while True:
        within = [entry for entry in entries if "/" in entry.name]
        around = {entry.name.split("/")[0] for entry in within}
        if len(around) != 1 or not any(entry.name.count("/") > 1 for entry in within):
            return entries
        entries = [replace(entry, name=entry.name.split("/", 1)[1]) for entry in within]


def _check_layout(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        if entry.name.lower().endswith(_ARCHIVES):
            raise DataError(f"{_short(entry.name)} is an archive within the upload. Unpack it first. {_SPLIT}")
    classes = sorted({entry.name.split("/")[0] for entry in entries if "/" in entry.name})
    if not classes:
        raise DataError(f"The files lie in no folder, so nothing says what they show. {_SPLIT}")
    if len(classes) < 2:
        raise DataError(
            f"There is one folder only, {_short(classes[0])}; a network needs two classes or more. {_SPLIT}"
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(f"There are {len(classes):,} folders; expected 2 to {MAX_CLASSES} classes. {_SPLIT}")


# --- writing -----------------------------------------------------------------------------------------------------


def _reported(read: ClassFolder) -> ImportReport:
    homes: dict[str, set[str]] = defaultdict(set)
    for film in read.films:
        homes[film.group_id].add(film.finding)
    films = tuple(ImportedFilm(film.image_id, film.finding, film.group_id, film.path) for film in read.films)
    text = "\n".join(f"{film.image_id} {film.sha256}" for film in read.films)
    return ImportReport(
        hashlib.sha256(text.encode()).hexdigest()[:16],
        read.classes,
        films,
        read.left_out,
        tuple((patient, tuple(sorted(found))) for patient, found in sorted(homes.items()) if len(found) > 1),
        sum(film.group_id != film.sha256 for film in read.films),
    )


def _write_index(report: ImportReport, folder: Path) -> None:
    plain = asdict(report)
    for film in plain["films"]:
        film["path"] = film["path"].relative_to(folder).as_posix()
    replace_file(folder / _INDEX, json.dumps(plain).encode())
