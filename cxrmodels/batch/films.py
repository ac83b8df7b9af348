"""The films of files, folders and zip archives, not read yet."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from cxrmodels.radiograph import MAX_BYTES

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom", ".ima")
"""What counts as a film in a folder or archive, beside files without a suffix: DICOM files often have none."""


class BatchError(ValueError):
    """What a batch was asked for makes no sense together; the message says what would."""


@dataclass(frozen=True, slots=True)
class Source:
    """A film that was not read yet: its name in the table, and how to get at most MAX_BYTES + 1 of its bytes.

    What reads a film of a path can be pickled: another process, or another machine with the same path, reads the same.
    """

    name: str
    read: Callable[[], bytes]


def sources(paths: Sequence[str | Path]) -> list[Source]:
    """All films of files, folders and zip archives, in order; those of a folder or archive sorted by name.

    Raises:
        BatchError: there is none, or an archive cannot be opened. A missing file is a row with its error.
    """
    return checked(itertools.chain.from_iterable(map(_sources_of, map(Path, paths))))


def folder_sources(folder: Path) -> list[Source]:
    """All films of a folder and below it, named by their place in it.

    Raises:
        BatchError: it is no folder, or holds none.
    """
    if not folder.is_dir():
        raise BatchError(f"There is no folder {folder} on this machine that can be read. Check its name.")
    inside = len(f"{folder}{os.sep}")
    return checked(replace(source, name=source.name[inside:]) for source in _sources_of(folder))


def checked(found: Iterable[Source]) -> list[Source]:
    """The films, if there are any and each has a name of its own.

    Raises:
        BatchError: otherwise.
    """
    films = list(found)
    if not films:
        raise BatchError(f"No film is there; a folder or archive should hold files of the kinds {', '.join(SUFFIXES)}.")
    repeated = len(films) - len({source.name for source in films})
    if repeated:
        raise BatchError(f"{repeated} of {len(films)} films are named twice. Name each folder or file once.")
    return films


def _sources_of(path: Path) -> Iterator[Source]:
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and is_film(p.relative_to(path).as_posix()))
        yield from (Source(_shown(str(one)), _File(one)) for one in inside)
    elif path.suffix.lower() == ".zip" and path.is_file():
        for member in _films_in(_opened(path), str(path)):
            yield Source(_shown(f"{path}/{member}"), _Member(path, member))
    else:
        yield Source(_shown(str(path)), _File(path))


def is_film(name: str) -> bool:
    """Whether a file in a folder or archive counts as a film, by its place there, with `/` between folders."""
    path = PurePosixPath(name)
    # macOS' resource forks (`__MACOSX`, `._x`) only look like films.
    hidden = "__MACOSX" in path.parts or any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix.lower() in ("", *SUFFIXES) and path.name != "DICOMDIR"


def archive_sources(archive: IO[bytes], name: str = "") -> Iterator[Source]:
    """The films of an open zip archive, unpacked one by one when they are read, and never to disk.

    Args:
        archive: stays open as long as one of its films may be read.
        name: goes before the films' names, if there is one.

    Raises:
        BatchError: it cannot be opened.
    """
    opened = _open(archive, name or "that was dropped")

    def reader(member: str) -> Callable[[], bytes]:
        return lambda: _content(opened, member)

    for member in _films_in(opened, name):
        yield Source(_shown(f"{name}/{member}" if name else member), reader(member))


def _films_in(archive: zipfile.ZipFile, name: str) -> list[str]:
    members = sorted(info.filename for info in archive.infolist() if not info.is_dir() and is_film(info.filename))
    if len(set(members)) < len(members):
        raise BatchError(f"The archive {name} holds two files of one name. Pack it anew.")
    return members


@lru_cache(maxsize=16)
def _opened(path: Path) -> zipfile.ZipFile:
    """Opened once a process: an archive's list of contents may be long. Reading from several threads is safe."""
    return _open(path, str(path))


def _open(archive: Path | IO[bytes], name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise BatchError(f"The archive {name} cannot be opened ({error}).") from None


def _content(archive: zipfile.ZipFile, member: str) -> bytes:
    with archive.open(member) as stream:
        return stream.read(MAX_BYTES + 1)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path

    def __call__(self) -> bytes:
        with self.path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)


@dataclass(frozen=True, slots=True)
class _Member:
    archive: Path
    name: str

    def __call__(self) -> bytes:
        return _content(_opened(self.archive), self.name)


def _shown(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become backslash codes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
