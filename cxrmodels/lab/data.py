"""The films of a run: made or read, dealt into training and validation by patient, and broken where that is asked."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrmodels.datasets.manifest import data_folder, read_manifest
from cxrmodels.explain.changes import with_marker
from cxrmodels.findings import index_of
from cxrmodels.lab.config import FolderData, ManifestData, PhantomData, RunConfig
from cxrmodels.lab.imports import DataError, read_import
from cxrmodels.phantom import phantom
from cxrmodels.preprocessing import prepare
from cxrmodels.radiograph import RadiographError, read_radiograph
from cxrmodels.training.augment import augment

Bytes = NDArray[np.uint8]

SYNTHETIC, IMPORTED = "synthetic films", "your own films"
"""What stands for the source of films that come from no data set."""

_LEAST_PHANTOM = 64
_INLINE = 100
"""Up to so many films are made here; for more, other processes are worth their start."""
_SPLIT, _FLIPPED, _NOISE, _COPY, _DRAWN, _SHEET = range(1, 7)
"""Streams of random numbers: one for each purpose, so that one choice does not move another."""
_COPY_STRENGTH = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class LabData:
    """The N films of a run.

    Attributes:
        films: uint8 (N, size, size), 0 = air dark, as the network is fed them (after division by 255).
        labels: int64 (N,), positions among the classes, wrong ones where that was asked for.
        patients, ids, sources: str (N,).
        validation: bool (N,), the films held out.
        classes: names.
    """

    films: Bytes
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    ids: NDArray[np.str_]
    sources: NDArray[np.str_]
    validation: NDArray[np.bool_]
    classes: tuple[str, ...]

    def digest(self) -> str:
        """sha256 (hex) of films, labels and split: the same data, the same digest."""
        digest = hashlib.sha256()
        for array in (self.films, self.labels, self.validation):
            digest.update(array.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Row:
    """A film that is not read yet. `read` takes the size and gives uint8 (size, size)."""

    id: str
    label: int
    patient: str
    source: str
    read: Callable[[int], Bytes]
    validation: bool = False


class UnwantedError(Exception):
    """Films were no longer wanted before all of them were there."""


def load(config: RunConfig, unwanted: Callable[[], bool] = lambda: False) -> LabData:
    """Make or read all films of a run.

    What comes depends on the configuration (and the films on disk) alone.

    Args:
        config: the run's.
        unwanted: asked after each film whether to leave it at that.

    Raises:
        DataError: there is no data folder or import, a class has too few patients, a film cannot be read.
        ManifestError: the manifest is not as it should be.
        UnwantedError: `unwanted` said so.
    """
    rows = _planned(config)
    return LabData(
        _read(rows, config, unwanted),
        np.array([row.label for row in rows], np.int64),
        np.array([row.patient for row in rows]),
        np.array([row.id for row in rows]),
        np.array([row.source for row in rows]),
        np.array([row.validation for row in rows]),
        config.classes,
    )


@dataclass(frozen=True, slots=True, eq=False)
class ContactSheet:
    """Some training films and what augmentation does to them.

    Attributes:
        films: uint8 (n, size, size).
        labels: class of each.
        augmented: uint8 (n, copies, size, size).
    """

    films: Bytes
    labels: tuple[str, ...]
    augmented: NDArray[np.uint8]


def contact_sheet(config: RunConfig, films: int = 8, copies: int = 4) -> ContactSheet:
    """The first training films of a run, the classes in turn, read alone: quick however many there are.

    Raises:
        DataError, ManifestError: as in `load`.
    """
    waiting: dict[int, list[_Row]] = defaultdict(list)
    for row in _planned(config):
        if not row.validation:
            waiting[row.label].append(row)
    chosen: list[_Row] = []
    while len(chosen) < films and any(waiting.values()):
        chosen += [rows.pop(0) for _, rows in sorted(waiting.items()) if rows]
    chosen = chosen[:films]
    pictures = _read(chosen, config, lambda: False)
    rng = np.random.default_rng((config.seed, _SHEET))
    return ContactSheet(
        pictures,
        tuple(config.classes[row.label] for row in chosen),
        np.stack([[augment(film, config.augmentation, rng) for _ in range(copies)] for film in pictures]),
    )


# --- where films come from --------------------------------------------------------------------------------------


def _rows(config: RunConfig) -> list[_Row]:
    match config.data:
        case PhantomData() as data:
            return [
                _Row(
                    f"phantom {index:05d}",
                    index % len(data.findings),
                    f"patient {index:05d}",
                    SYNTHETIC,
                    partial(_phantom, data, index),
                )
                for index in range(data.films)
            ]
        case ManifestData() as data:
            return _of_manifest(data, config.seed)
        case FolderData() as data:
            imported = read_import(data.name)
            if imported.classes != data.classes:
                raise DataError(
                    f"The import {data.name} has the classes {', '.join(imported.classes)}; the run expects "
                    f"{', '.join(data.classes)}. Choose the import again."
                )
            return [
                _Row(film.id, data.classes.index(film.label), film.patient, IMPORTED, partial(_file, film.path))
                for film in imported.films
            ]


def _of_manifest(data: ManifestData, seed: int) -> list[_Row]:
    folder = data_folder()
    if folder is None:
        raise DataError(
            "There is no folder of real films on this machine. Set CXRMODELS_DATA to one, or train on synthetic films."
        )
    films = [film for film in read_manifest(folder) if film.split in ("train", "val")]
    known = {film.source for film in films}
    if unknown := [source for source in data.sources if source not in known]:
        raise DataError(
            f"The data folder has no films to learn from of {', '.join(unknown)}; it has {', '.join(sorted(known))}. "
            "Choose among these."
        )
    by_label: dict[int, list[_Row]] = {label: [] for label in range(len(data.findings))}
    for film in films:
        label = index_of(film.finding, data.findings)
        if label is not None and (not data.sources or film.source in data.sources):
            by_label[label].append(_Row(film.image_id, label, film.group_id, film.source, partial(_file, film.path)))
    if data.per_class:
        for label, rows in by_label.items():
            drawn = np.random.default_rng((seed, _DRAWN, label)).permutation(len(rows))[: data.per_class]
            by_label[label] = [rows[position] for position in sorted(drawn)]
    return [row for rows in by_label.values() for row in rows]


def _phantom(data: PhantomData, index: int, size: int) -> Bytes:
    # A phantom cannot be made smaller than some size; it is shrunk as a real film is.
    made = phantom(
        data.findings[index % len(data.findings)],
        seed=data.seed,
        index=index,
        size=max(size, _LEAST_PHANTOM),
        difficulty=data.difficulty,
        noise=data.noise,
    )
    return _as_bytes(made.pixels, size)


def _file(path: Path, size: int) -> Bytes:
    return _as_bytes(read_radiograph(path.read_bytes(), path.name).pixels, size)


def _as_bytes(pixels: np.ndarray, size: int) -> Bytes:
    """As the pages prepare a film for a network, to the nearest of 256 greys."""
    return np.rint(prepare(pixels, "unit", size, 1)[..., 0] * 255).astype(np.uint8)


def _read(rows: Sequence[_Row], config: RunConfig, unwanted: Callable[[], bool]) -> Bytes:
    work = partial(_one_film, config.input_size)
    if len(rows) <= _INLINE:
        return _collected(map(work, rows), unwanted)
    with _at_hand() as pool:
        # Left early, `map` withdraws what was not begun.
        return _collected(pool.map(work, rows, chunksize=25), unwanted)


def _collected(films: Iterator[Bytes], unwanted: Callable[[], bool]) -> Bytes:
    made = []
    for film in films:
        made.append(film)
        if unwanted():
            raise UnwantedError
    return np.stack(made)


_hired: list[ProcessPoolExecutor] = []
"""At most one."""


def hire() -> None:
    """Have the processes that make or read films started before there is a run: that takes a second."""
    pool = _helpers()
    wait([pool.submit(os.getpid) for _ in range(os.cpu_count() or 1)])
    _hired.append(pool)


def dismiss() -> None:
    """Let the processes that were hired go."""
    while _hired:
        _hired.pop().shutdown(wait=False)


@contextmanager
def _at_hand() -> Iterator[ProcessPoolExecutor]:
    """The processes that were hired, or others for the moment."""
    if _hired:
        yield _hired[0]
    else:
        with _helpers() as pool:
            yield pool


def _helpers() -> ProcessPoolExecutor:
    # Spawned, not forked: a fork would keep the run's lock if the worker were killed.
    return ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """A pool does not notice that the process it works for was killed, and would wait for ever."""

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _one_film(size: int, row: _Row) -> Bytes:
    try:
        return row.read(size)
    except (RadiographError, OSError) as error:
        reason = str(error) if isinstance(error, RadiographError) else error.strerror
        raise DataError(f"{row.id} cannot be read: {reason} Take it out of the data, or mend it.") from None


# --- how they are dealt, and broken -----------------------------------------------------------------------------


def _bordered(read: Callable[[int], Bytes], size: int) -> Bytes:
    film, edge = read(size).copy(), size // 6
    film[edge:-edge, edge:-edge] = 0
    return film


def _marked(read: Callable[[int], Bytes], size: int) -> Bytes:
    """With a white R, a seventh of the film high, in the upper corner where a marker of the right side stands."""
    return with_marker(read(size), np.uint8(255))


def _planned(config: RunConfig) -> list[_Row]:
    """All rows of a run, dealt and with the labels that it will see. No film is read."""
    rows = _rows(config)
    leaking = config.breakage == "leak patients"
    if config.breakage == "border only":
        rows = [replace(row, read=partial(_bordered, row.read)) for row in rows]
    if config.breakage == "marker on one class":
        rows = [replace(row, read=partial(_marked, row.read)) if row.label == 1 else row for row in rows]
    if leaking:
        rows += [
            replace(row, id=f"{row.id} (copy)", read=partial(_copy, row.read, config.seed, position))
            for position, row in enumerate(rows)
        ]
    held_out = _held_out(rows, config, by_film=leaking)
    rows = [replace(row, validation=(row.id if leaking else row.patient) in held_out) for row in rows]
    classes = len(config.classes)
    if config.breakage == "flip 20 % labels":
        rows = _mislabelled(rows, range(len(rows)), 0.2, classes, (config.seed, _FLIPPED))
    if config.breakage == "shuffled labels":
        order = np.random.default_rng((config.seed, _FLIPPED)).permutation(len(rows))
        rows = [replace(row, label=rows[other].label) for row, other in zip(rows, order, strict=True)]
    training = [position for position, row in enumerate(rows) if not row.validation]
    return _mislabelled(rows, training, config.label_noise, classes, (config.seed, _NOISE))


def _copy(read: Callable[[int], Bytes], seed: int, position: int, size: int) -> Bytes:
    return augment(read(size), _COPY_STRENGTH, np.random.default_rng((seed, _COPY, position)))


def _mislabelled(
    rows: list[_Row], among: Sequence[int], share: float, classes: int, seed: tuple[int, int]
) -> list[_Row]:
    """A share of the rows `among` gets another class, each other class equally likely."""
    rng = np.random.default_rng(seed)
    rows = list(rows)
    for position in rng.permutation(among)[: round(share * len(among))]:
        row = rows[int(position)]
        rows[int(position)] = replace(row, label=(row.label + int(rng.integers(1, classes))) % classes)
    return rows


def _held_out(rows: Sequence[_Row], config: RunConfig, *, by_film: bool) -> set[str]:
    """The patients (or film ids) that are validated on: of each class every so manieth, in a seeded order.

    A patient with films of several classes counts with the first of them, and is on one side with all.
    """
    of_class: dict[int, dict[str, None]] = {label: {} for label in range(len(config.classes))}
    seen: set[str] = set()
    for row in rows:
        group = row.id if by_film else row.patient
        if group not in seen:
            seen.add(group)
            of_class[row.label][group] = None
    rng = np.random.default_rng((config.seed, _SPLIT))
    held_out: set[str] = set()
    for label, groups in of_class.items():
        parts = config.folds if config.folds > 1 else min(round(1 / config.validation), max(len(groups), 2))
        if len(groups) < parts:
            raise DataError(
                f"{config.classes[label]} has films of {len(groups)} patient(s) of its own; {parts} or more are needed "
                "to have some on both sides. Add films of other patients, or leave the class out."
            )
        held_out.update(np.array(list(groups))[rng.permutation(len(groups))[config.fold - 1 :: parts]].tolist())
    return held_out
