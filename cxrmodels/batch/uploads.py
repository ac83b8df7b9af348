"""Films that somebody dropped on a page, in memory that belongs to no page and to no disk.

They are open files without a name, which a worker inherits: they are there as long as it has them open, whatever
becomes of the page and its server, and gone with it. On Linux they are memory; elsewhere they are unnamed files in the
system's folder for temporary ones.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Protocol, Self

from cxrmodels.batch.films import BatchError, Source, archive_sources, checked, is_film


class Dropped(Protocol):
    """A file as a page gets it; of a folder, `name` is its place in it."""

    @property
    def name(self) -> str: ...

    def getbuffer(self) -> memoryview: ...


@dataclass(frozen=True, slots=True)
class Uploads:
    """Zip archives in memory: those that were dropped, and one of all other films.

    Attributes:
        names: of the archives; empty for films that were dropped by themselves.
        files: open and whole.
    """

    names: tuple[str, ...]
    files: tuple[IO[bytes], ...]

    def films(self) -> list[Source]:
        """All films; those of several archives are named by theirs.

        Raises:
            BatchError: there is none, or an archive cannot be opened.
        """
        several = len(self.files) > 1
        return checked(
            film
            for name, file in zip(self.names, self.files, strict=True)
            for film in archive_sources(file, name if several else "")
        )

    def close(self) -> None:
        """Let go of the films here."""
        for file in self.files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hold(dropped: Iterable[Dropped]) -> Uploads:
    """Copy what was dropped: films, folders' content, zip archives of films.

    Of two films with one name the second gets a number. What is no film by its name is passed over, as in a folder.

    Raises:
        BatchError: no film is there.
    """
    names: list[str] = []
    files: list[IO[bytes]] = []
    loose: IO[bytes] | None = None
    taken: set[str] = set()
    packed: zipfile.ZipFile | None = None
    for one in dropped:
        name = _unlike(one.name.replace("\\", "/").lstrip("/"), taken)
        if name.lower().endswith(".zip"):
            names.append(name)
            files.append(_in_memory())
            files[-1].write(one.getbuffer())
        elif is_film(name):
            if packed is None:
                loose = _in_memory()
                packed = zipfile.ZipFile(loose, "w", zipfile.ZIP_STORED)
            packed.writestr(name, one.getbuffer())
        else:
            continue
        taken.add(name)
    if packed is not None and loose is not None:
        packed.close()
        names.append("")
        files.append(loose)
    if not files:
        raise BatchError("No film is among what was dropped; expected radiographs, or zip archives of them.")
    return Uploads(tuple(names), tuple(files))


def inherited(names: Sequence[str], descriptors: Sequence[int]) -> Uploads:
    """What another process handed over by the numbers of its open files."""
    files = tuple(os.fdopen(number, "rb") for number in descriptors)
    for file in files:
        # Processes that this one starts must not keep them.
        os.set_inheritable(file.fileno(), False)
        file.seek(0)
    return Uploads(tuple(names), files)


def _in_memory() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            return os.fdopen(os.memfd_create("films"), "w+b")
    return tempfile.TemporaryFile()


def _unlike(name: str, taken: set[str]) -> str:
    path, number, unlike = PurePosixPath(name), 1, name
    while unlike in taken:
        number += 1
        unlike = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
    return unlike
