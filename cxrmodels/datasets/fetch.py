"""Fetch a public source: licence first, download with checksum, then films and manifest as the program "
"reads them.

A data folder afterwards holds `manifest.csv`, `images/<source>/*.jpg` (8-bit grey, at most 320 px on the longer
side) and `downloads/<source>/`: the archives, their recorded checksums and a receipt. The archives may be deleted.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import requests
from PIL import Image

from cxrmodels.datasets.layouts import LAYOUTS, Entry, Upstream
from cxrmodels.datasets.manifest import COLUMNS, ManifestError, read_manifest
from cxrmodels.datasets.sources import SOURCES, Archive, FetchError, Source
from cxrmodels.radiograph import RadiographError, read_radiograph, resize

__all__ = ["LONGER_SIDE", "FetchError", "FetchReport", "fetch"]

LONGER_SIDE = 320
"""Longest side of a stored film, in pixels."""

_JPEG_QUALITY = 87
_CHUNK = 64 * 1024  # bytes; what of a chunk has come when the connection breaks is lost
_TIMEOUT = (15, 60)  # seconds to connect, seconds without a byte
_PAUSES = (1.0, 3.0, 10.0, 30.0)  # seconds before each further try that got no byte further than the last
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_RECEIPT_VERSION = 1  # raise it when films would come out differently: the next fetch then makes them anew

Progress = Callable[[int, int | None], None]
"""Called with what is done and the total, None while that is unknown."""


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a fetch did.

    films: rows of this source now in the manifest. findings: how many of each. failures: upstream name and
    reason of every film that could not be read. left_out: reason -> how many. downloaded: bytes that came over
    the network this time. checksums: archive file -> sha256. notes: what a user has to be told.
    """

    source: str
    films: int
    findings: dict[str, int]
    failures: tuple[tuple[str, str], ...]
    left_out: dict[str, int]
    downloaded: int
    checksums: dict[str, str]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report as lines of plain text, at most ten failures by name."""
        counts = ", ".join(f"{finding} {count:,}" for finding, count in sorted(self.findings.items()))
        lines = [f"{self.source}: {self.films:,} films ({counts}); {self.downloaded:,} bytes downloaded."]
        lines += [f"Left out: {count:,}, {reason}." for reason, count in sorted(self.left_out.items())]
        if self.failures:
            lines.append(f"Could not be used: {len(self.failures):,} films.")
            lines += [f"  {name}: {reason}" for name, reason in self.failures[:10]]
            if len(self.failures) > 10:
                lines.append(f"  and {len(self.failures) - 10:,} more")
        return [*lines, *self.notes]


def fetch(
    source_key: str,
    folder: Path,
    *,
    accept_licence: Callable[[Source], bool],
    archive: Path | None = None,
    urls: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    film_progress: Progress | None = None,
) -> FetchReport:
    """Fetch the source `source_key` into the data folder `folder`, which is made if need be.

    `accept_licence` is shown the source first (`Source.terms()`): nothing is requested or written before it
    says yes. `archive` is a file the user has already, taken in place of the source's first archive; nothing is
    then downloaded. `urls` replaces addresses by archive file name (a mirror, a test). `progress` counts bytes
    of the download, `film_progress` films made.

    An interrupted download goes on where it stopped. Checksums nobody publishes are recorded on the first
    complete download; a later archive that differs is refused. Running again when all is there does nothing.

    Raises:
        FetchError: the source is unknown or has to be downloaded by hand, the licence was refused, the server or
            the disk failed, an archive is not the expected one, or no film could be read. What was downloaded
            is kept for the next try, and the manifest is as it was.
    """
    source = SOURCES.get(source_key)
    if source is None:
        raise FetchError(f"There is no source {source_key!r}; expected one of {', '.join(SOURCES)}.")
    if archive is not None and not archive.is_file():
        raise FetchError(f"There is no file {archive}; expected the archive of {source.key}. Check the path.")
    if archive is None and source.by_hand:
        raise FetchError(f"{source.key} cannot be downloaded by this program. {source.notes}")
    if not accept_licence(source):
        raise FetchError(f"The licence of {source.key} was not accepted, so nothing was requested.")

    downloads = folder / "downloads" / source.key
    with _disk_errors(folder):
        downloads.mkdir(parents=True, exist_ok=True)
        others, own = _manifest_rows(folder, source.key)
        receipt = _read_json(downloads / "receipt.json")
        if own and not receipt:
            raise FetchError(
                f"{folder} already holds {len(own):,} films of {source.key} that this command did not make. "
                "Fetch into another folder, or take these rows out of its manifest.csv first."
            )
        if archive is not None:
            expected = _by_hand(source)
            kept = {expected.file_name: _check(archive, expected, downloads, ours=False)}
            paths, downloaded = [archive], 0
        elif _is_complete(source, folder, own, receipt):
            return _report(source, own, receipt, 0)
        else:
            paths, downloaded, kept = _download_all(source, downloads, urls or {}, progress)
        if kept == receipt.get("checksums") and _is_complete(source, folder, own, receipt):
            return _report(source, own, receipt, downloaded)

        with Upstream(paths) as upstream:
            rows, failures, left_out = _make_films(source.key, upstream, folder, film_progress)
        if not rows:
            first = f" The first: {failures[0][0]}, {failures[0][1]}" if failures else ""
            raise FetchError(
                f"The archive of {source.key} holds no film that can be used: {len(failures):,} failed, "
                f"{sum(left_out.values()):,} were left out.{first} Expected the layout its publisher "
                f"documents; "
                f"see {source.home}."
            )
        receipt = {
            "version": _RECEIPT_VERSION,
            "films": len(rows),
            "checksums": kept,
            "failures": failures,
            "left_out": left_out,
        }
        # The receipt last: without it the next run makes the films anew, with it they are all there.
        (downloads / "receipt.json").unlink(missing_ok=True)
        _write(folder / "manifest.csv", _csv([*others, *rows]))
        _write(downloads / "receipt.json", json.dumps(receipt, indent=1).encode())
    return _report(source, rows, receipt, downloaded)


def _report(source: Source, rows: list[dict[str, str]], receipt: Mapping[str, Any], downloaded: int) -> FetchReport:
    checksums: dict[str, str] = receipt["checksums"]
    published = {archive.file_name for archive in source.archives if archive.sha256}
    notes = [
        f"Nobody publishes a checksum of {name}: its first copy here was trusted (sha256 {digest})."
        for name, digest in checksums.items()
        if name not in published
    ]
    notes += [
        f"Made without {archive.file_name}: patients are told from file names only, so fold by fold is less sure."
        for archive in source.archives[1:]
        if archive.file_name not in checksums
    ]
    return FetchReport(
        source=source.key,
        films=len(rows),
        findings=dict(Counter(row["finding"] for row in rows)),
        failures=tuple((name, reason) for name, reason in receipt["failures"]),
        left_out=dict(receipt["left_out"]),
        downloaded=downloaded,
        checksums=dict(checksums),
        notes=(*notes, source.notes),
    )


def _is_complete(source: Source, folder: Path, own: list[dict[str, str]], receipt: Mapping[str, Any]) -> bool:
    """Whether everything the receipt speaks of is there, made from archives that would pass today's check."""
    if receipt.get("version") != _RECEIPT_VERSION or receipt.get("films") != len(own):
        return False
    checksums = receipt.get("checksums", {})
    if any(archive.sha256 not in (None, checksums.get(archive.file_name)) for archive in source.archives):
        return False
    return all((folder / row["path"]).is_file() for row in own)


# --- download -----------------------------------------------------------------------------------------------


def _download_all(
    source: Source, downloads: Path, urls: Mapping[str, str], progress: Progress | None
) -> tuple[list[Path], int, dict[str, str]]:
    paths: list[Path] = []
    checksums: dict[str, str] = {}
    downloaded = 0
    with requests.Session() as session:
        for archive in source.archives:
            path = downloads / archive.file_name
            if not path.is_file():
                part = path.with_name(path.name + ".part")
                url = urls.get(archive.file_name, archive.url)
                downloaded += _download(session, url, archive, part, progress)
                checksums[path.name] = _check(part, archive, downloads)
                os.replace(part, path)
                _note_file(part).unlink(missing_ok=True)
            else:
                checksums[path.name] = _check(path, archive, downloads)
            paths.append(path)
    return paths, downloaded, checksums


def _download(session: requests.Session, url: str, archive: Archive, part: Path, progress: Progress | None) -> int:
    """Bring `part` to its full length; returns the bytes that came. Tries again while the connection "
    "breaks."""
    came = 0
    furthest = part.stat().st_size if part.exists() else 0
    pauses = iter(_PAUSES)
    while True:
        before = came
        trouble = ""
        try:
            for count in _request(session, url, archive, part, progress):
                came += count
            return came
        except (
            _BrokenError,
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            trouble = str(error)
        except requests.RequestException as error:
            raise FetchError(f"{url} cannot be requested ({error}). Check the address and the proxy.") from error
        size = part.stat().st_size if part.exists() else 0
        if size > furthest and came > before:
            furthest, pauses = size, iter(_PAUSES)
        pause = next(pauses, None)
        if pause is None:
            raise FetchError(
                f"The download of {archive.file_name} from {url} keeps failing ({trouble}). {size:,} bytes "
                f"are kept "
                "and the next run goes on from there; try again later, or download the file in a browser and "
                "pass it with --archive FILE."
            )
        time.sleep(pause)


class _BrokenError(Exception):
    """The connection or the server failed in a way that another try may mend."""


def _request(
    session: requests.Session, url: str, archive: Archive, part: Path, progress: Progress | None
) -> Iterator[int]:
    """One request for what `part` lacks; yields the length of each piece once it is in the file."""
    note = _note_file(part)
    have, validator = 0, ""
    if part.exists():
        kept = _read_json(note)
        # Without a validator for this very address there is no telling whether the rest fits the beginning.
        if kept.get("url") == url and kept.get("validator"):
            have, validator = part.stat().st_size, str(kept["validator"])
    headers = {"Accept-Encoding": "identity", "User-Agent": "cxrmodels data fetch"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if not _goes_on(response, url, archive, part, have, validator):
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        _check_space(part, archive, total, have)
        done = have
        with part.open("ab" if have else "wb") as file:
            # Written after the truncation: a note must never vouch for bytes of an earlier file.
            _write(note, json.dumps({"url": url, "validator": _validator(response)}).encode())
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
                yield len(chunk)
    if total is not None and done != total:
        raise _BrokenError(f"the connection ended after {done:,} of {total:,} bytes")


def _goes_on(response: requests.Response, url: str, archive: Archive, part: Path, have: int, validator: str) -> bool:
    """Whether the answer continues the `have` bytes kept (True) or starts the file anew (False)."""
    status = response.status_code
    if status in _TRY_AGAIN:
        raise _BrokenError(f"the server answers {status} {response.reason}")
    if status == 416 and have:  # the kept part is as long as the file, or longer: it cannot be gone on with
        part.unlink()
        raise _BrokenError("the server has no more than what is kept here; starting over")
    if status not in (200, 206):
        raise FetchError(
            f"{url} answers {status} {response.reason}; expected the file {archive.file_name}. It may have "
            "moved: look for it on the source's home page and pass the file with --archive FILE."
        )
    if "html" in response.headers.get("Content-Type", ""):
        raise FetchError(
            f"{url} answers with a web page; expected the file {archive.file_name}. A login or a proxy may "
            "be in between: download it in a browser and pass the file with --archive FILE."
        )
    if status == 200:
        return False
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    # Not every server heeds If-Range, so what it sends is held against what was kept once more.
    if start is None or int(start[1]) != have or _validator(response) not in ("", validator):
        part.unlink(missing_ok=True)
        raise _BrokenError("the server sent a part of another file or range; starting over")
    return True


def _validator(response: requests.Response) -> str:
    """What tells this version of the file from another (RFC 9110, 13.1.5); a weak ETag does not."""
    etag = response.headers.get("ETag", "")
    if etag:
        return "" if etag.startswith("W/") else etag
    return response.headers.get("Last-Modified", "")


def _note_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _check_space(part: Path, archive: Archive, total: int | None, have: int) -> None:
    needed = (total or archive.size or 0) - have
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise FetchError(
            f"{archive.file_name} needs {needed:,} bytes more on the disk of {part.parent}, {free:,} are "
            f"free. "
            "Make room, or choose another folder."
        )


def _check(path: Path, archive: Archive, downloads: Path, *, ours: bool = True) -> str:
    """The file's sha256, held against the published or the recorded one; recorded when there is neither.

    Nothing is recorded of a file that is no archive at all, so an error page is never trusted. A file that
    fails is deleted when it is `ours`, that is a download, and left alone when the user brought it.
    """
    record = downloads / f"{archive.file_name}.sha256"
    digest = str(pooch.file_hash(str(path), alg="sha256"))
    problem = ""
    if archive.file_name.endswith(".zip") and not zipfile.is_zipfile(path):
        problem = (
            f"{path} ({path.stat().st_size:,} bytes) is no complete zip archive; expected {archive.file_name}. "
            "Fetch again; if that repeats, download it in a browser and pass the file with --archive FILE."
        )
    elif archive.sha256 is not None:
        if digest != archive.sha256:
            problem = (
                f"{path} has sha256 {digest}; for {archive.file_name} {archive.sha256} is published. It was not "
                "used. Fetch again; if that repeats, the publisher changed the file or somebody tampers with it."
            )
    elif record.is_file():
        known = record.read_text(encoding="ascii", errors="replace").partition(" ")[0]
        if known != digest:
            problem = (
                f"{path} has sha256 {digest}; the first {archive.file_name} fetched here had {known}. It was not "
                f"used. If you know why it changed, delete {record} and fetch again."
            )
    else:
        _write(record, f"{digest}  {archive.file_name}\n".encode())
    if problem:
        if ours:
            path.unlink()
            _note_file(path).unlink(missing_ok=True)
        raise FetchError(problem)
    return digest


def _by_hand(source: Source) -> Archive:
    """What a file brought by the user is held against: the source's first archive, if it has one."""
    return source.archives[0] if source.archives else Archive(source.home, f"{source.key}.zip")


# --- films and manifest -------------------------------------------------------------------------------------


def _make_films(
    key: str, upstream: Upstream, folder: Path, progress: Progress | None
) -> tuple[list[dict[str, str]], list[tuple[str, str]], dict[str, int]]:
    listing = LAYOUTS[key](upstream)
    left_out = Counter(listing.left_out)
    failures = list(listing.missing)
    rows: dict[str, dict[str, str]] = {}
    seen: set[bytes] = set()
    (folder / "images" / key).mkdir(parents=True, exist_ok=True)
    # Of two identical files the held-out one stays: its twin in training would give the answer away.
    order = {"test": 0, "val": 1}
    entries = sorted(listing.entries, key=lambda entry: (order.get(entry.split, 2), entry.stem))
    for done, entry in enumerate(entries, start=1):
        try:
            data = upstream.read(entry.member)
            digest = hashlib.sha256(data).digest()
            stem = re.sub(r"[^\w.+-]", "_", entry.stem)
            if digest in seen:
                left_out["identical to another film"] += 1
            elif stem in rows:
                failures.append((entry.upstream_name, "another film of this source has the same name"))
            else:
                rows[stem] = _make_film(key, stem, entry, data, folder)
                seen.add(digest)
        except RadiographError as error:
            failures.append((entry.upstream_name, str(error)))
        except OSError as error:
            if error.errno is not None:  # the disk's fault, not the film's
                raise
            failures.append((entry.upstream_name, str(error)))
        if progress is not None:
            progress(done, len(entries))
    return [rows[stem] for stem in sorted(rows)], failures, dict(left_out)


def _make_film(key: str, stem: str, entry: Entry, data: bytes, folder: Path) -> dict[str, str]:
    pixels = read_radiograph(data, entry.upstream_name).pixels
    height, width = pixels.shape
    scale = LONGER_SIDE / max(height, width)
    if scale < 1:
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = resize(pixels, width, height)
    picture = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    path = f"images/{key}/{stem}.jpg"
    _write(folder / path, buffer.getvalue())
    row = {
        **asdict(entry),
        "image_id": f"{key}/{stem}",
        "path": path,
        "mask_path": "",
        "source": key,
        # A film without a patient is a group of its own: better than one group of all strangers.
        "group_id": f"{key}:{entry.patient_id or stem}",
        "width": str(width),
        "height": str(height),
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()[:16],
    }
    return {column: row[column] for column in COLUMNS}


def _manifest_rows(folder: Path, key: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of other sources and the rows of this one, as they stand in the manifest."""
    path = folder / "manifest.csv"
    if not path.is_file():
        return [], []
    try:
        read_manifest(folder)
    except ManifestError as error:
        raise FetchError(f"Nothing was fetched, because the folder's manifest needs mending first: {error}") from error
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [{column: row[column] for column in COLUMNS} for row in csv.DictReader(file)]
    return [row for row in rows if row["source"] != key], [row for row in rows if row["source"] == key]


def _csv(rows: list[dict[str, str]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: a reader never meets half of one."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_json(path: Path) -> dict[str, Any]:
    """A file this module wrote; empty when it is not there or was damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        what = "The disk is full" if full else f"{error.strerror or error}"
        advice = "Make room" if full else "Check the folder and its permissions"
        raise FetchError(
            f"{what} while writing under {folder}. {advice} and run the command again: what was downloaded "
            f"is "
            "kept, and the download goes on from there."
        ) from error
