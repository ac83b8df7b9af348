"""A folder with one subfolder of films a class, as tutorials and the papers' programs have it: read, split, made."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from cxrmodels.datasets.layouts import LAYOUTS, Listing, Upstream
from cxrmodels.datasets.manifest import Film, read_manifest
from cxrmodels.datasets.sources import FetchError
from cxrmodels.findings import TITLES
from cxrmodels.radiograph import RadiographError, read_radiograph

DEFAULT_VIEWS = ("PA", "")
"""Views that `build_class_folder` takes: what is stated to be PA, and frontal films whose source states no view."""

_PATIENT_MARK = "__"
"""Stands between patient and name of a file."""

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "normal": ("healthy", "no finding", "no findings"),
    "covid19": ("covid", "covid positive", "sars-cov-2"),
    "bacterial_pneumonia": ("bacterial", "bacteria", "pneumonia bacterial"),
    "viral_pneumonia": ("viral", "virus", "pneumonia viral"),
    "non_covid19": ("non-covid", "not covid", "no covid", "covid negative"),
    "tuberculosis": ("tb",),
}
"""Finding -> names that class folders in circulation give it, beside its key and its title."""

_SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_LEARNT_FROM = ("train", "val", "test")
_UNFINISHED = ".unfinished"

Progress = Callable[[int, int], None]
"""Called with what is done and the total."""


class ClassFolderError(ValueError):
    """A class folder cannot be read, split or made; the message says what came, what was expected, what to do."""


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """The films of a class folder.

    Attributes:
        films: those that can be read, each content once, ordered by class and name. `finding` is the class,
            `image_id` is `class/file name`, `group_id` the patient (where unknown, the content's hash), `split` empty.
        classes: names of the classes that have films, sorted.
        left_out: name and reason of what takes no part: unreadable files, repeated films, classes without a film.
    """

    films: tuple[Film, ...]
    classes: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """What was found, as lines of plain text."""
        counts = Counter(film.finding for film in self.films)
        known = sum(film.group_id != film.sha256 for film in self.films)
        return [
            ", ".join(f"{name}: {counts[name]:,} films" for name in self.classes),
            f"The patient is known of {known:,} films; any other counts as a patient of its own.",
            *(f"Left out: {name}: {reason}" for name, reason in self.left_out),
        ]


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied into a class folder.

    Attributes:
        films: class -> how many films.
        left_out: reason -> how many films the source has beside these.
        failures: name and reason of each film that was wanted and could not be copied.
    """

    films: Mapping[str, int]
    left_out: Mapping[str, int]
    failures: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """The same as lines of plain text."""
        return [
            ", ".join(f"{name}: {count:,} films" for name, count in sorted(self.films.items())),
            *(f"Left out: {count:,}, {reason}." for reason, count in sorted(self.left_out.items())),
            *(f"Could not be used: {name}: {reason}" for name, reason in self.failures),
        ]


# --- reading ------------------------------------------------------------------------------------------------


def read_class_folder(folder: Path, progress: Progress | None = None) -> ClassFolder:
    """Read a folder with one subfolder a class, looking at every file in it.

    Films lie in their class's folder, or in `images` inside it where the class's folder holds folders only. Names
    beginning with a dot are passed over. A class is called as its subfolder is, but for the usual spellings of this
    program's findings (`COVID-19`, `Viral Pneumonia`, ...), which get the finding's key unless two subfolders would
    get the same one. Films are the same when their pixels are; of films of one class the first by name stays,
    of films that stand in two classes none does, as one of the labels is wrong.

    Args:
        folder: the class folder. A file `patient__name` is of that patient.
        progress: told after each file.

    Raises:
        ClassFolderError: there is no such folder, its subfolders are a data set's splits, or fewer than two of them
            hold a film that can be read.
    """
    homes = _class_homes(folder)
    files = [(name, path) for name, home in homes.items() for path in sorted(home.iterdir()) if path.name[0] != "."]
    left_out: list[tuple[str, str]] = []
    by_content: dict[bytes, list[Film]] = defaultdict(list)
    with ThreadPoolExecutor(2) as pool:
        for done, found in enumerate(pool.map(partial(_read_film, folder.name), files), start=1):
            if isinstance(found, _Unreadable):
                left_out.append((found.name, found.reason))
            else:
                by_content[found.content].append(found.film)
            if progress is not None:
                progress(done, len(files))
    films: list[Film] = []
    for first, *others in by_content.values():
        if {film.finding for film in others} - {first.finding}:
            reason = "the same film stands in several classes, so one label is wrong"
            left_out += [(film.image_id, f"{reason} ({_names([first, *others])})") for film in (first, *others)]
        else:
            films.append(first)
            left_out += [(film.image_id, f"the same film as {first.image_id}") for film in others]
    films.sort(key=lambda film: (film.finding, film.image_id))
    classes = sorted({film.finding for film in films})
    left_out += [(name, "no film in this class can be used") for name in homes if name not in classes]
    if len(classes) < 2:
        reasons = " ".join(f"{name}: {reason.rstrip('.')}." for name, reason in left_out[:5])
        raise ClassFolderError(
            f"{folder} holds films of {len(classes)} class(es) that can be used; expected two or more subfolders, one "
            f"a class, with films in them. Add a subfolder for each class. {reasons}".rstrip()
        )
    return ClassFolder(tuple(films), tuple(classes), tuple(left_out))


def _class_homes(folder: Path) -> dict[str, Path]:
    """Class -> the folder its films lie in."""
    if not folder.is_dir():
        raise ClassFolderError(f"There is no folder {folder}; expected one with a subfolder of films for each class.")
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    if subfolders and {path.name.lower() for path in subfolders} <= _SPLIT_NAMES:
        raise ClassFolderError(
            f"The subfolders of {folder} are splits ({', '.join(path.name for path in subfolders)}); expected one "
            "subfolder a class. Name one of the splits: it is split anew, by patient."
        )
    claims = Counter(finding_of(path.name) for path in subfolders)
    homes = {}
    for path in subfolders:
        finding = finding_of(path.name)
        files_within = any(inner.is_file() and inner.name[0] != "." for inner in path.iterdir())
        home = path / "images" if not files_within and (path / "images").is_dir() else path
        homes[finding if finding and claims[finding] == 1 else _text(path.name)] = home
    return homes


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


_FINDING_OF = {
    _bare(spelling): key for key, title in TITLES.items() for spelling in (key, title, *_SPELLINGS.get(key, ()))
}


def finding_of(name: str) -> str | None:
    """The finding that `name`, of a folder of films for instance, is a usual spelling of; None where there is none."""
    return _FINDING_OF.get(_bare(name))


def _text(name: str) -> str:
    """A file's name as text that can be written anywhere: on some systems a name need not be UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class _Readable:
    film: Film
    content: bytes


@dataclass(frozen=True, slots=True)
class _Unreadable:
    name: str
    reason: str


def _read_film(source: str, file: tuple[str, Path]) -> _Readable | _Unreadable:
    finding, path = file
    name = _text(path.name)
    image_id = f"{finding}/{name}"
    try:
        data = path.read_bytes()
        pixels = read_radiograph(data, name).pixels
    except RadiographError as error:
        return _Unreadable(image_id, str(error))
    except OSError as error:
        return _Unreadable(image_id, f"it cannot be opened ({error.strerror})")
    sha256 = hashlib.sha256(data).hexdigest()[:16]
    patient, mark, _ = name.partition(_PATIENT_MARK)
    film = Film(
        image_id=image_id,
        path=path,
        mask_path=None,
        source=source,
        finding=finding,
        group_id=patient if mark and patient else sha256,
        age_group="",
        view="",
        split="",
        fold="",
        licence="",
        sha256=sha256,
    )
    # Pixels, not bytes: a film saved again without its metadata is still the same film.
    return _Readable(film, hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest())


def _names(films: Iterable[Film]) -> str:
    return ", ".join(film.image_id for film in films)


# --- splitting ----------------------------------------------------------------------------------------------


def split_films(films: Sequence[Film], *, seed: int, test: float = 0.2, validation: float = 0.2) -> tuple[Film, ...]:
    """Deal films into train, val and test, patient by patient, classes alike in all three as far as that goes.

    Args:
        films: of two or more classes (`finding`); those of one `group_id` stay together.
        seed: the same films and seed give the same split.
        test: share of the films to test on, above 0, at most 0.5; taken as one part in a whole number. Where there
            are too few patients for it, one patient of the scarcest class.
        validation: share of the others that chooses the epoch, likewise.

    Returns:
        The films in the order given, `split` set.

    Raises:
        ClassFolderError: a class has too few patients to stand on every side.
    """
    return _with_splits(films, _part(films, test, seed), validation, seed)


def split_folds(
    films: Sequence[Film], folds: int, *, seed: int, validation: float = 0.2
) -> tuple[tuple[Film, ...], ...]:
    """Deal films for cross-validation: each film is `test` in one fold, patients and classes as in `split_films`.

    Args:
        folds: 2 or more.
        validation: share of a fold's other films that chooses the epoch, as in `split_films`.

    Returns:
        The films once a fold, in the order given, `split` set.

    Raises:
        ClassFolderError: fewer than two folds, or a class has too few patients for so many.
    """
    if folds < 2:
        raise ClassFolderError(f"{folds} folds were asked for; cross-validation takes 2 or more.")
    return tuple(_with_splits(films, held_out, validation, seed) for held_out in _deal(films, folds, seed))


def split_fold(films: Sequence[Film], fold: str, *, seed: int, validation: float) -> tuple[Film, ...]:
    """Make one fold of a manifest, which has dealt the films already, the test films.

    Args:
        fold: the value of the films' `fold`.
        validation: share of the other films that chooses the epoch, as in `split_films`.

    Returns:
        The films in the order given, `split` set.

    Raises:
        ClassFolderError: a class has too few patients to stand on every side.
    """
    held_out = np.flatnonzero([film.fold == fold for film in films])
    return _with_splits(films, held_out, validation, seed)


def _with_splits(films: Sequence[Film], test: np.ndarray, validation: float, seed: int) -> tuple[Film, ...]:
    splits = np.full(len(films), "train", dtype=object)
    splits[test] = "test"
    rest = np.flatnonzero(splits == "train")
    others = [film for film, split in zip(films, splits, strict=True) if split == "train"]
    splits[rest[_part(others, validation, seed)]] = "val"
    return tuple(replace(film, split=split) for film, split in zip(films, splits, strict=True))


def _part(films: Sequence[Film], share: float, seed: int) -> np.ndarray:
    """Positions of about `share` of the films, of every class at least one patient."""
    fewest = min(map(len, _patients(films).values()))
    return _deal(films, max(2, min(round(1 / share), fewest)), seed)[0]


def _patients(films: Sequence[Film]) -> dict[str, set[str]]:
    """Class -> its patients."""
    patients: dict[str, set[str]] = defaultdict(set)
    for film in films:
        patients[film.finding].add(film.group_id)
    return patients


def _deal(films: Sequence[Film], parts: int, seed: int) -> list[np.ndarray]:
    """Positions of the films of each of `parts` parts, every class in every one of them."""
    from sklearn.model_selection import StratifiedGroupKFold

    patients = _patients(films)
    scarce = sorted(name for name, known in patients.items() if len(known) < parts)
    labels = np.array([film.finding for film in films])
    held_out: list[np.ndarray] = []
    if not scarce:
        dealer = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        held_out = [part for _, part in dealer.split(labels, labels, [film.group_id for film in films])]
        # Where a patient has films of several classes, or most films of one, counting patients is not enough.
        scarce = sorted({name for name in patients for part in held_out if not (labels[part] == name).any()})
    if scarce:
        counts = ", ".join(f"{name} ({len(patients[name])})" for name in scarce)
        raise ClassFolderError(
            f"{len(films)} films cannot be dealt into {parts} parts with every class in each: too few patients of "
            f"{counts}. Add films of other patients, change the number of folds, or leave the class out."
        )
    return held_out


# --- making -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Copy:
    """A film on its way into a class folder, and what it will be called there. `read` gives its bytes."""

    finding: str
    file_name: str
    view: str
    read: Callable[[], bytes]


def _file_name(patient: str, name: str) -> str:
    """`patient__name`, both such that no file system minds, with the mark nowhere but between the two."""
    patient, name = _plain(patient), _plain(PurePosixPath(name).name)
    return f"{patient}{_PATIENT_MARK}{name}" if patient else name


def _plain(text: str) -> str:
    return re.sub(r"_+", "_", re.sub(r"[^\w.+-]", "_", text)).strip("_.")


def _write_classes(
    out: Path, copies: Sequence[_Copy], progress: Progress | None = None
) -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Copy films into `out`. Gives how many came of each class, and name and reason of those that did not."""
    there = {finding_of(path.name) or path.name for path in out.iterdir()} if out.is_dir() else set()
    held = sorted(there & {copy.finding for copy in copies})
    if held:
        raise ClassFolderError(f"{out} already holds {', '.join(held)}. Nothing was copied; name another folder.")
    # Killed half-way, no class is there rather than part of one: a name with a dot is no class.
    unfinished = out / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    counts: Counter[str] = Counter()
    failures: list[tuple[str, str]] = []
    for done, copy in enumerate(copies, start=1):
        target = unfinished / copy.finding / copy.file_name
        try:
            data = copy.read()
        except OSError as error:
            failures.append((copy.file_name, error.strerror or str(error)))
        else:
            if target.exists():
                failures.append((copy.file_name, "a second film of this name"))
            else:
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(data)
                counts[copy.finding] += 1
        if progress is not None:
            progress(done, len(copies))
    for finding in counts:
        os.replace(unfinished / finding, out / finding)
    unfinished.rmdir()
    return dict(counts), tuple(failures)


class _Unpacked(Upstream):
    """A source as its publisher packs it, or that archive unpacked: a folder. Links in it are no files either."""

    def _add(self, path: Path) -> None:
        if not path.is_dir():
            super()._add(path)
            return
        for file in path.rglob("*"):
            if file.is_file() and not file.is_symlink():
                self._members[file.relative_to(path).as_posix()] = file


def build_class_folder(
    source: Path,
    out: Path,
    *,
    findings: Sequence[str] = (),
    views: Sequence[str] = DEFAULT_VIEWS,
    progress: Progress | None = None,
) -> Copied:
    """Copy films with a finding and a view into `out`, one subfolder a finding, files named `patient__name`.

    Args:
        source: ieee8023's covid-chestxray-dataset (with its metadata.csv) as a folder or zip archive, or a data
            folder with a manifest.csv. Of the latter, films kept for testing (external, benchmark) are not taken.
        out: made if need be. It may hold other classes already; nothing in it is overwritten.
        findings: keys or usual spellings of them; all that the source has when empty.
        views: as the source states them, whatever the case; "any" takes every frontal film. Films that are not
            frontal never are.
        progress: told after each film.

    Raises:
        ClassFolderError: the source is missing or neither of the two, a finding is unknown or without a film of
            these views, or `out` holds one of the classes.
        ManifestError: the manifest is not as it should be.
    """
    if not source.exists():
        raise ClassFolderError(f"There is no {source}; expected a data folder or ieee8023's folder or zip archive.")
    wanted = [_wanted(name) for name in findings]
    with ExitStack() as stack:
        if (source / "manifest.csv").is_file():
            copies, left_out, missing = _from_manifest(source)
        else:
            try:
                upstream = stack.enter_context(_Unpacked([source]))
                copies, left_out, missing = _from_listing(upstream, LAYOUTS["ieee8023"](upstream))
            except FetchError as error:
                raise ClassFolderError(
                    f"{source} is neither a data folder with a manifest.csv nor ieee8023's collection. {error}"
                ) from error
        taken: list[_Copy] = []
        allowed = {view.casefold() for view in views}
        for copy in copies:
            if wanted and copy.finding not in wanted:
                left_out[f"finding {copy.finding}"] += 1
            elif "any" not in allowed and copy.view.casefold() not in allowed:
                left_out[f"{copy.finding} of view {copy.view or '(not stated)'}"] += 1
            else:
                taken.append(copy)
        found = {copy.finding for copy in taken}
        if not found or not found.issuperset(wanted):
            lacking = ", ".join(finding for finding in wanted if finding not in found) or "any finding"
            others = "; ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "nothing else"
            raise ClassFolderError(
                f"{source} has no film of {lacking} with view {' or '.join(view for view in views if view)}. It has: "
                f"{others}. Ask for a finding and a view that it has."
            )
        films, failures = _write_classes(out, taken, progress)
    return Copied(films, dict(left_out), (*missing, *failures))


def _wanted(name: str) -> str:
    finding = finding_of(name)
    if finding is None:
        raise ClassFolderError(f"Unknown finding {name!r}; expected one of {', '.join(TITLES)}.")
    return finding


_Found = tuple[list[_Copy], Counter[str], tuple[tuple[str, str], ...]]
"""Films, how many others were left out and why, names and reasons of those that are not there."""


def _from_manifest(folder: Path) -> _Found:
    films = read_manifest(folder)
    # The group, not the patient: it also joins films that are nearly the same.
    copies = [
        _Copy(film.finding, _file_name(film.group_id, film.path.name), film.view, film.path.read_bytes)
        for film in films
        if film.split in _LEARNT_FROM
    ]
    left_out: Counter[str] = Counter()
    if len(copies) < len(films):
        left_out["kept for testing (split external or benchmark)"] = len(films) - len(copies)
    return copies, left_out, ()


def _from_listing(upstream: Upstream, listing: Listing) -> _Found:
    copies = [
        _Copy(
            entry.finding,
            _file_name(entry.patient_id, entry.upstream_name),
            entry.view,
            partial(upstream.read, entry.member),
        )
        for entry in listing.entries
    ]
    return copies, Counter(listing.left_out), listing.missing


def sample_class_folder(
    source: Path, out: Path, *, per_class: int, seed: int, progress: Progress | None = None
) -> Copied:
    """Copy as many films of each class of a class folder, drawn at random, into another one.

    What is drawn of a class depends on its name, its films and the seed alone. File names stay as they are.

    Args:
        source: a class folder.
        out: the new one, outside `source`; made if need be.
        per_class: films of each class, 1 or more.
        seed: 0 or more; of the draw.
        progress: told after each film read from `source`.

    Raises:
        ClassFolderError: `source` is no class folder, a class has fewer films, or `out` lies in `source` or holds
            one of the classes.
    """
    if per_class < 1 or seed < 0:
        raise ClassFolderError(f"{per_class} films a class with seed {seed}; expected 1 or more, and a seed from 0.")
    if out.resolve().is_relative_to(source.resolve()):
        raise ClassFolderError(f"{out} lies in {source} and would become a class of it; name a folder outside.")
    folder = read_class_folder(source, progress)
    copies: list[_Copy] = []
    left_out: Counter[str] = Counter()
    for name in folder.classes:
        films = [film for film in folder.films if film.finding == name]
        if len(films) < per_class:
            raise ClassFolderError(
                f"Class {name} has {len(films)} films that can be used; {per_class} were asked for. Ask for fewer."
            )
        rng = np.random.default_rng([seed, *name.encode()])
        drawn = sorted(rng.permutation(len(films))[:per_class])
        left_out[f"{name} not drawn"] += len(films) - per_class
        copies += [_Copy(name, film.path.name, film.view, film.path.read_bytes) for film in (films[at] for at in drawn)]
    counts, failures = _write_classes(out, copies)
    return Copied(counts, +left_out, (*folder.left_out, *failures))
