"""Fetching public sources: against a real server on this machine and small archives laid out like upstream's."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import shutil
import stat
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrmodels.datasets import fetch as fetch_module
from cxrmodels.datasets import layouts
from cxrmodels.datasets.fetch import FetchReport, fetch
from cxrmodels.datasets.layouts import LAYOUTS
from cxrmodels.datasets.manifest import COLUMNS, read_manifest
from cxrmodels.datasets.sources import SOURCES, FetchError, Source


@dataclass
class Shelf:
    """What the server does next and what it was asked; tests turn the switches."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    heeds_if_range: bool = True
    etag: bool = True
    dies_after: list[int] = field(default_factory=list)  # one entry a request
    statuses: list[int] = field(default_factory=list)  # answered first, one a request
    content_type: str = "application/zip"
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    address: str = ""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


class _Handler(BaseHTTPRequestHandler):
    shelf: Shelf

    def do_GET(self) -> None:
        shelf = self.shelf
        wanted = self.headers.get("Range")
        shelf.requests.append((self.path, wanted))
        if shelf.statuses:
            self.send_error(shelf.statuses.pop(0))
            return
        data = shelf.files.get(self.path.lstrip("/"))
        if data is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha256(data).hexdigest()[:12]}"'
        start = 0
        same = not shelf.heeds_if_range or self.headers.get("If-Range") == tag
        if wanted and shelf.ranges and same:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if shelf.etag:
            self.send_header("ETag", tag)
        self.send_header("Content-Type", shelf.content_type)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.close_connection = True
        body = data[start:]
        self.wfile.write(body[: shelf.dies_after.pop(0)] if shelf.dies_after else body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.setattr(fetch_module, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(fetch_module, "_CHUNK", 500)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    shelf = Shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"shelf": shelf}))
    shelf.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield shelf
    server.shutdown()
    server.server_close()
    thread.join()


def film(seed: int, kind: str = "PNG", size: tuple[int, int] = (80, 100)) -> bytes:
    """A noise film of `size` (width, height); its seed makes it unlike any other."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0])).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def pack(files: Mapping[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def table(header: str, *rows: str) -> str:
    return "\n".join((header, *rows)) + "\n"


IEEE_METADATA = table(
    "patientid,offset,sex,age,finding,view,modality,folder,filename,license,clinical_notes,",
    '2,0,M,65,Pneumonia/Viral/COVID-19,PA,X-ray,images,a.png,,"two\nlines, one cell",',
    "3,4,M,74,Pneumonia/Viral/SARS,AP,X-ray,images,b.jpeg,CC BY-NC-SA,,",
    "5,,F,9,Pneumonia/Bacterial/Klebsiella,AP Supine,X-ray,images,c.png,CC0,,",
    "6,,F,40,Pneumonia,PA,X-ray,images,d.png,,,",
    "7,,F,40,Pneumonia/Fungal/Pneumocystis,PA,X-ray,images,e.png,,,",
    "8,,F,40,No Finding,PA,X-ray,images,f.png,,,",
    "9,,F,40,Tuberculosis,PA,X-ray,images,g.png,,,",
    "13,4,M,35,Pneumonia/Viral/COVID-19,L,X-ray,images,side.png,,,",
    "17,9,M,54,Pneumonia/Viral/COVID-19,Axial,CT,images,ct.png,,,",
    "18,9,M,54,todo,PA,X-ray,images,todo.png,,,",
    "19,9,M,54,No Finding,PA,X-ray,images,gone.png,,,",
)


def ieee8023() -> dict[str, bytes | str]:
    names = ("a.png", "b.jpeg", "c.png", "d.png", "e.png", "f.png", "g.png", "side.png", "ct.png", "todo.png")
    root = "covid-chestxray-dataset-abc"
    films = {f"{root}/images/{name}": film(10 + i, "JPEG" if "jpeg" in name else "PNG") for i, name in enumerate(names)}
    return {f"{root}/metadata.csv": IEEE_METADATA, f"{root}/volumes/x.nii.gz": b"no film", **films}


def hannover() -> dict[str, bytes | str]:
    root = "covid-19-image-repository-abc"
    return {
        f"{root}/data.csv": table(
            "patient_id,image_id,sex,age,modality,projection", "p1,aa,m,,CR,ap", "p1,bb,m,,DX,pa", "p2,cc,f,,DX,lat"
        ),
        f"{root}/png/aa.png": film(30, size=(700, 500)),
        f"{root}/png/bb.png": b"this is no film",
        f"{root}/png/cc.png": film(32),
    }


def kermany() -> dict[str, bytes | str]:
    validated = layouts._KERMANY_VALIDATION["P"].split()[0]
    twin = film(45, "JPEG")
    return {
        "chest_xray/.DS_Store": b"",
        "__MACOSX/chest_xray/train/NORMAL/._IM-0115-0001.jpeg": b"resource fork",
        "chest_xray/train/NORMAL/IM-0115-0001.jpeg": film(40, "JPEG"),
        "chest_xray/train/NORMAL/NORMAL2-IM-0383-0001.jpeg": film(41, "JPEG"),
        "chest_xray/train/PNEUMONIA/person1_bacteria_1.jpeg": film(42, "JPEG"),
        f"chest_xray/train/PNEUMONIA/person{validated}_virus_7.jpeg": film(43, "JPEG"),
        "chest_xray/train/PNEUMONIA/person9_bacteria_8.jpeg": twin,
        "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg": film(44, "JPEG"),
        "chest_xray/test/PNEUMONIA/person78_bacteria_381.jpeg": twin,
        "chest_xray/chest_xray/train/NORMAL/IM-0115-0001.jpeg": film(40, "JPEG"),
    }


def tuberculosis(root: str, prefix: str, ages: tuple[str, str]) -> dict[str, bytes | str]:
    seed = 50 if prefix == "CHN" else 60
    return {
        f"{root}/CXR_png/{prefix}CXR_0001_0.png": film(seed),
        f"{root}/CXR_png/{prefix}CXR_0327_1.png": film(seed + 1),
        f"{root}/CXR_png/Thumbs.db": b"",
        f"{root}/ManualMask/leftMask/{prefix}CXR_0001_0.png": film(seed + 2),
        f"{root}/ClinicalReadings/{prefix}CXR_0001_0.txt": f"{ages[0]}\nnormal",
        f"{root}/ClinicalReadings/{prefix}CXR_0327_1.txt": f"{ages[1]}\nPTB",
    }


def darkcovidnet() -> dict[str, bytes | str]:
    root = "COVID-19-master/X-Ray Image DataSet"
    return {
        f"{root}/Covid-19/a.jpeg": film(70, "JPEG"),
        f"{root}/Covid-19/unknown-24-day6.jpg": film(71, "JPEG"),
        f"{root}/Covid-19/unknown-24-day12.jpg": film(72, "JPEG"),
        f"{root}/No_findings/00001280_004.png": film(73),
        f"{root}/No_findings/00001280_005.png": film(74),
        f"{root}/Pneumonia/00000193_019.png": film(75),
        "COVID-19-master/figure.png": film(76),
    }


def radiography() -> dict[str, bytes | str]:
    root = "COVID-19_Radiography_Dataset"
    tested = layouts._RADIOGRAPHY_HELD_OUT["COVID", "test"].split()[0]
    absent = layouts._RADIOGRAPHY_ABSENT.split()[0]
    numbers = ("1", tested, absent, "1895")
    covid = {f"{root}/COVID/images/COVID-{n}.png": film(80 + i) for i, n in enumerate(numbers)}
    return {
        **covid,
        f"{root}/COVID/masks/COVID-1895.png": film(90),
        f"{root}/Normal/images/Normal-7.png": film(91),
        f"{root}/Normal/images/Normal-63.png": film(94),
        f"{root}/Normal/images/Normal-10192.png": film(92),
        f"{root}/Lung_Opacity/images/Lung_Opacity-1.png": film(93),
    }


ARCHIVES: dict[str, dict[str, bytes | str]] = {
    "ieee8023": ieee8023(),
    "hannover": hannover(),
    "kermany": kermany(),
    "shenzhen": tuberculosis("ChinaSet_AllFiles", "CHN", ("male 45yrs", "female 9months")),
    "montgomery": tuberculosis(
        "MontgomerySet", "MCU", ("Patient's Sex: F\nPatient's Age: 027Y", "Patient's Age: 004Y")
    ),
    "darkcovidnet": darkcovidnet(),
    "radiography": radiography(),
}


def yes(source: Source) -> bool:
    return True


def get(shelf: Shelf, key: str, folder: Path, **options: Any) -> FetchReport:
    """Fetch `key` from the shelf, whatever address its source names."""
    urls = {archive.file_name: shelf.url(archive.file_name) for archive in SOURCES[key].archives}
    return fetch(key, folder, accept_licence=yes, urls=urls, **options)


def put(shelf: Shelf, key: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Lay the archives of `key` on the shelf; a published checksum becomes that of the small stand-in."""
    data = pack(ARCHIVES[key])
    first, *others = SOURCES[key].archives
    shelf.files[first.file_name] = data
    for other in others:
        shelf.files[other.file_name] = IEEE_METADATA.encode()
    if first.sha256:
        first = replace(first, sha256=hashlib.sha256(data).hexdigest())
        monkeypatch.setitem(SOURCES, key, replace(SOURCES[key], archives=(first, *others)))
    return data


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


HANNOVER = "covid-19-image-repository.zip"

# --- licence and addresses ----------------------------------------------------------------------------------


def test_nothing_is_requested_or_written_before_the_licence_is_accepted(shelf: Shelf, tmp_path: Path) -> None:
    shown: list[str] = []

    def no(source: Source) -> bool:
        shown.append(source.terms())
        return False

    with pytest.raises(FetchError, match="not accepted"):
        fetch("hannover", tmp_path / "data", accept_licence=no, urls={HANNOVER: shelf.url(HANNOVER)})
    assert "CC BY 3.0" in shown[0]
    assert shelf.requests == []
    assert not (tmp_path / "data").exists()


def test_an_unknown_source_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="kermany"):
        fetch("nih", tmp_path, accept_licence=yes)


def test_a_source_behind_an_account_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="--archive FILE"):
        fetch("radiography", tmp_path, accept_licence=yes)


@pytest.mark.parametrize("key", SOURCES)
def test_every_source_has_a_layout_and_complete_terms(key: str) -> None:
    source = SOURCES[key]
    assert key in LAYOUTS
    assert source.key == key
    assert all((source.title, source.licence, source.licence_url, source.citation, source.home, source.notes))
    assert all(archive.url.startswith("https://") for archive in source.archives)
    assert all(archive.sha256 is None or len(archive.sha256) == 64 for archive in source.archives)


# --- download -----------------------------------------------------------------------------------------------


def test_a_complete_download_reports_progress_and_says_that_it_trusted(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = put(shelf, "hannover", monkeypatch)
    seen: list[tuple[int, int | None]] = []
    films: list[tuple[int, int | None]] = []
    report = get(
        shelf,
        "hannover",
        tmp_path,
        progress=lambda done, total: seen.append((done, total)),
        film_progress=lambda done, total: films.append((done, total)),
    )
    digest = hashlib.sha256(data).hexdigest()
    assert seen[-1] == (len(data), len(data))
    assert films[-1] == (2, 2)
    assert report.downloaded == len(data)
    assert report.checksums == {HANNOVER: digest}
    assert any("trusted" in note and digest in note for note in report.notes)
    assert not list(tmp_path.rglob("*.part*"))
    assert not list(tmp_path.rglob("*.new"))


def test_a_second_run_downloads_and_changes_nothing(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    first = get(shelf, "hannover", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = get(shelf, "hannover", tmp_path)
    assert len(shelf.requests) == 1
    assert second == replace(first, downloaded=0)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "downloads/hannover" / HANNOVER).unlink()
    get(shelf, "hannover", tmp_path)
    assert len(shelf.requests) == 1


def test_a_lost_film_is_made_again_without_a_download(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    get(shelf, "hannover", tmp_path)
    film_path = tmp_path / rows(tmp_path)["hannover/aa"]["path"]
    before = film_path.read_bytes()
    film_path.unlink()
    get(shelf, "hannover", tmp_path)
    assert film_path.read_bytes() == before
    assert len(shelf.requests) == 1


def test_a_broken_connection_goes_on_with_the_rest_only(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = put(shelf, "hannover", monkeypatch)
    shelf.dies_after = [1000]
    report = get(shelf, "hannover", tmp_path)
    assert [wanted for _, wanted in shelf.requests] == [None, "bytes=1000-"]
    assert report.downloaded == len(data)


def test_an_interrupted_run_goes_on_in_the_next(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = put(shelf, "hannover", monkeypatch)
    shelf.dies_after = [1000, 0, 0, 0, 0]
    with pytest.raises(FetchError, match="1,000 bytes are kept"):
        get(shelf, "hannover", tmp_path)
    assert not (tmp_path / "manifest.csv").exists()
    shelf.dies_after.clear()
    shelf.requests.clear()
    report = get(shelf, "hannover", tmp_path)
    assert [wanted for _, wanted in shelf.requests] == ["bytes=1000-"]
    assert report.downloaded == len(data) - 1000


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_changed_in_between_is_fetched_whole(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heeds: bool
) -> None:
    put(shelf, "hannover", monkeypatch)
    shelf.heeds_if_range = heeds
    shelf.dies_after = [1000, 0, 0, 0, 0]
    with pytest.raises(FetchError):
        get(shelf, "hannover", tmp_path)
    shelf.dies_after.clear()
    changed = pack({**ARCHIVES["hannover"], "covid-19-image-repository-abc/readme.md": "a new version"})
    shelf.files[HANNOVER] = changed
    report = get(shelf, "hannover", tmp_path)
    assert report.checksums[HANNOVER] == hashlib.sha256(changed).hexdigest()
    assert report.films == 1


@pytest.mark.parametrize("switch", ["ranges", "etag"])
def test_a_server_that_cannot_go_on_sends_all_again(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    data = put(shelf, "hannover", monkeypatch)
    setattr(shelf, switch, False)
    shelf.dies_after = [1000]
    report = get(shelf, "hannover", tmp_path)
    assert report.downloaded == 1000 + len(data)
    assert report.films == 1


def test_a_kept_part_that_is_too_long_is_dropped(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = put(shelf, "hannover", monkeypatch)
    shelf.dies_after = [1000, 0, 0, 0, 0]
    with pytest.raises(FetchError):
        get(shelf, "hannover", tmp_path)
    shelf.dies_after.clear()
    with (tmp_path / "downloads/hannover" / f"{HANNOVER}.part").open("ab") as file:
        file.write(bytes(len(data)))
    assert get(shelf, "hannover", tmp_path).films == 1


def test_a_passing_server_error_is_tried_again(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shelf, "hannover", monkeypatch)
    shelf.statuses = [500, 503]
    assert get(shelf, "hannover", tmp_path).films == 1
    assert len(shelf.requests) == 3


def test_a_lasting_server_error_ends(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shelf, "hannover", monkeypatch)
    shelf.statuses = [500] * 9
    with pytest.raises(FetchError, match="500"):
        get(shelf, "hannover", tmp_path)
    assert len(shelf.requests) == 3


def test_a_missing_file_is_not_tried_again(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="404") as caught:
        get(shelf, "hannover", tmp_path)
    assert "--archive FILE" in str(caught.value)
    assert len(shelf.requests) == 1


def test_a_silent_server_times_out(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "_TIMEOUT", (5, 0.05))
    release = threading.Event()

    def wait(handler: _Handler) -> None:
        release.wait(30)
        handler.close_connection = True

    monkeypatch.setattr(_Handler, "do_GET", wait)
    try:
        with pytest.raises(FetchError, match="keeps failing"):
            get(shelf, "hannover", tmp_path)
    finally:
        release.set()


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_a_web_page_in_place_of_the_archive_is_never_trusted(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    shelf.files[HANNOVER] = b"<html>please log in</html>"
    shelf.content_type = content_type
    with pytest.raises(FetchError, match=r"web page|no complete zip"):
        get(shelf, "hannover", tmp_path)
    shelf.content_type = "application/zip"
    put(shelf, "hannover", monkeypatch)
    assert get(shelf, "hannover", tmp_path).films == 1


def test_a_published_checksum_is_kept_to(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = SOURCES["montgomery"].archives[0].file_name
    right = put(shelf, "montgomery", monkeypatch)
    shelf.files[name] = pack({"MontgomerySet/CXR_png/MCUCXR_0001_0.png": film(1)})
    with pytest.raises(FetchError, match="is published"):
        get(shelf, "montgomery", tmp_path)
    assert not (tmp_path / "manifest.csv").exists()
    shelf.files[name] = right
    report = get(shelf, "montgomery", tmp_path)
    assert report.films == 2
    assert not any("trusted" in note for note in report.notes)


def test_what_differs_from_the_first_download_is_refused(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    get(shelf, "hannover", tmp_path)
    before = (tmp_path / "manifest.csv").read_bytes()
    downloads = tmp_path / "downloads/hannover"
    (downloads / HANNOVER).unlink()
    (downloads / "receipt.json").write_text("{}")
    (tmp_path / "manifest.csv").unlink()
    shelf.files[HANNOVER] = pack({**ARCHIVES["hannover"], "new.txt": "a new version"})
    with pytest.raises(FetchError, match=r"first .* fetched here had"):
        get(shelf, "hannover", tmp_path)
    (downloads / f"{HANNOVER}.sha256").unlink()
    get(shelf, "hannover", tmp_path)
    assert (tmp_path / "manifest.csv").read_bytes() == before


# --- disk ---------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_keeps_what_came(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = put(shelf, "hannover", monkeypatch)

    def full(done: int, total: int | None) -> None:
        if done >= 1000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FetchError, match="disk is full"):
        get(shelf, "hannover", tmp_path, progress=full)
    part = tmp_path / "downloads/hannover" / f"{HANNOVER}.part"
    assert part.read_bytes() == data[:1000]
    assert get(shelf, "hannover", tmp_path).downloaded == len(data) - 1000


def test_too_small_a_disk_is_told_before_the_download(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(FetchError, match="10 are free"):
        get(shelf, "hannover", tmp_path)


def test_a_full_disk_while_making_films_leaves_the_manifest_alone(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "shenzhen", monkeypatch)
    put(shelf, "hannover", monkeypatch)
    get(shelf, "shenzhen", tmp_path)
    before = (tmp_path / "manifest.csv").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "_make_film", full)
        with pytest.raises(FetchError, match="disk is full"):
            get(shelf, "hannover", tmp_path)
    assert (tmp_path / "manifest.csv").read_bytes() == before
    assert get(shelf, "hannover", tmp_path).downloaded == 0


# --- hostile archives ---------------------------------------------------------------------------------------


def refused(data: bytes, folder: Path, match: str) -> None:
    path = folder / "hostile.zip"
    path.write_bytes(data)
    with pytest.raises(FetchError, match=match):
        fetch("hannover", folder / "data", accept_licence=yes, archive=path)
    assert path.exists()
    assert not (folder / "data/manifest.csv").exists()
    assert not list(folder.rglob("evil*"))


@pytest.mark.parametrize("name", ["../../evil.png", "/evil.png", "png\\..\\..\\evil.png", "C:/evil.png"])
def test_a_name_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    refused(pack({**ARCHIVES["hannover"], name: film(1)}), tmp_path, "leads out")


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    refused(pack({**ARCHIVES["hannover"], "png/big.png": bytes(20 * 1024**2)}), tmp_path, "unpacks to")


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_MEMBERS", 3), ("MAX_TOTAL_BYTES", 1000), ("MAX_MEMBER_BYTES", 1000)]
)
def test_limits_on_count_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(layouts, limit, value)
    refused(pack(ARCHIVES["hannover"]), tmp_path, "expected at most|unpacks to")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(film(7))
    link = zipfile.ZipInfo("covid-19-image-repository-abc/png/bb.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "links.zip"
    path.write_bytes(pack({k: v for k, v in ARCHIVES["hannover"].items() if not k.endswith("bb.png")}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, str(secret))
    report = fetch("hannover", tmp_path / "data", accept_licence=yes, archive=path)
    assert report.failures == (("bb", "listed in data.csv, but not in the archive"),)
    assert list(rows(tmp_path / "data")) == ["hannover/aa"]


def test_a_broken_member_is_one_failure(tmp_path: Path) -> None:
    data = bytearray(pack(ARCHIVES["hannover"]))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        at = archive.getinfo("covid-19-image-repository-abc/png/aa.png").header_offset
    data[at + 200] ^= 0xFF
    path = tmp_path / "broken.zip"
    files = {**ARCHIVES["hannover"], "covid-19-image-repository-abc/png/bb.png": film(3)}
    whole = bytearray(pack(files))
    whole[at + 200] ^= 0xFF
    path.write_bytes(whole)
    report = fetch("hannover", tmp_path / "data", accept_licence=yes, archive=path)
    assert [name for name, _ in report.failures] == ["aa.png"]
    assert report.films == 1


def test_an_archive_of_something_else_says_what_was_expected(tmp_path: Path) -> None:
    refused(pack({"holiday.txt": "sun"}), tmp_path, r"no data\.csv")


def test_an_archive_without_one_usable_film_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.zip"
    path.write_bytes(pack({"chest_xray/train/NORMAL/IM-0001-0001.jpeg": b"no film"}))
    with pytest.raises(FetchError, match="no film that can be used"):
        fetch("kermany", tmp_path / "data", accept_licence=yes, archive=path)
    assert not (tmp_path / "data/manifest.csv").exists()


# --- films and manifest -------------------------------------------------------------------------------------

EXPECTED: dict[str, dict[str, tuple[str, ...]]] = {
    # stem: finding, patient, age group, view, split, licence
    "ieee8023": {
        "a": ("covid19", "2", "adult", "PA", "external", "not stated"),
        "b": ("viral_pneumonia", "3", "adult", "AP", "external", "CC BY-NC-SA"),
        "c": ("bacterial_pneumonia", "5", "pediatric", "AP Supine", "external", "CC0"),
        "d": ("pneumonia", "6", "adult", "PA", "external", "not stated"),
        "e": ("other", "7", "adult", "PA", "external", "not stated"),
        "f": ("normal", "8", "adult", "PA", "external", "not stated"),
        "g": ("tuberculosis", "9", "adult", "PA", "external", "not stated"),
    },
    "hannover": {"aa": ("covid19", "p1", "adult", "AP", "external", "CC BY 3.0")},
    "kermany": {
        "IM-0115-0001": ("normal", "N1-0115", "pediatric", "", "train", "CC BY 4.0"),
        "NORMAL2-IM-0383-0001": ("normal", "N2-0383", "pediatric", "", "train", "CC BY 4.0"),
        "person1_bacteria_1": ("bacterial_pneumonia", "P1", "pediatric", "", "train", "CC BY 4.0"),
        "person1_virus_6": ("viral_pneumonia", "P1t", "pediatric", "", "test", "CC BY 4.0"),
        "person78_bacteria_381": ("bacterial_pneumonia", "P78t", "pediatric", "", "test", "CC BY 4.0"),
    },
    "shenzhen": {
        "CHNCXR_0001_0": ("normal", "0001", "adult", "PA", "external", "NLM; free with citation"),
        "CHNCXR_0327_1": ("tuberculosis", "0327", "pediatric", "PA", "external", "NLM; free with citation"),
    },
    "montgomery": {
        "MCUCXR_0001_0": ("normal", "0001", "adult", "PA", "external", "NLM; free with citation"),
        "MCUCXR_0327_1": ("tuberculosis", "0327", "pediatric", "PA", "external", "NLM; free with citation"),
    },
    "darkcovidnet": {
        "Covid-19-a": ("covid19", "2", "adult", "", "benchmark", "NIH ChestX-ray14 / ieee8023"),
        "Pneumonia-00000193_019": ("pneumonia", "00000193", "adult", "", "benchmark", "NIH ChestX-ray14 / ieee8023"),
        "No_findings-00001280_004": ("normal", "00001280", "adult", "", "benchmark", "NIH ChestX-ray14 / ieee8023"),
    },
}
COUNTS = {"ieee8023": 7, "hannover": 1, "kermany": 6, "shenzhen": 2, "montgomery": 2, "darkcovidnet": 6}


@pytest.mark.parametrize("key", EXPECTED)
def test_rows_of_each_source(key: str, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shelf, key, monkeypatch)
    report = get(shelf, key, tmp_path)
    found = rows(tmp_path)
    assert report.films == len(found) == COUNTS[key]
    assert len(read_manifest(tmp_path)) == COUNTS[key]
    for stem, expected in EXPECTED[key].items():
        row = found[f"{key}/{stem}"]
        names = ("finding", "patient_id", "age_group", "view", "split", "licence")
        assert tuple(row[name] for name in names) == expected
        assert row["group_id"] == f"{key}:{row['patient_id']}"
    for row in found.values():
        assert tuple(row) == COLUMNS
        data = (tmp_path / row["path"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()[:16]
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "L")
            assert picture.size == (int(row["width"]), int(row["height"]))


def test_films_are_shrunk_to_320_and_never_enlarged(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    put(shelf, "shenzhen", monkeypatch)
    get(shelf, "hannover", tmp_path)
    get(shelf, "shenzhen", tmp_path)
    found = rows(tmp_path)
    assert (found["hannover/aa"]["width"], found["hannover/aa"]["height"]) == ("320", "229")
    small = found["shenzhen/CHNCXR_0001_0"]
    assert (small["width"], small["height"]) == ("80", "100")


def test_one_bad_film_and_what_is_left_out_are_reported(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    put(shelf, "ieee8023", monkeypatch)
    report = get(shelf, "hannover", tmp_path)
    assert [name for name, _ in report.failures] == ["bb.png"]
    assert report.left_out == {"not a frontal view": 1}
    assert any("bb.png" in line for line in report.lines())
    report = get(shelf, "ieee8023", tmp_path)
    assert [name for name, _ in report.failures] == ["gone.png"]
    assert report.left_out == {"not a frontal view": 1, "not a radiograph (CT)": 1, "no finding given": 1}


def test_kermany_keeps_the_projects_validation_patients_and_held_out_twins(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "kermany", monkeypatch)
    report = get(shelf, "kermany", tmp_path)
    found = rows(tmp_path)
    assert [row["finding"] for row in found.values() if row["split"] == "val"] == ["viral_pneumonia"]
    assert report.left_out["identical to another film"] == 1
    assert "kermany/person9_bacteria_8" not in found


def test_darkcovidnet_keeps_patients_and_series_in_one_fold(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "darkcovidnet", monkeypatch)
    get(shelf, "darkcovidnet", tmp_path)
    found = rows(tmp_path)
    folds: dict[str, set[str]] = {}
    for row in found.values():
        assert row["fold"] in tuple("01234")
        folds.setdefault(row["patient_id"], set()).add(row["fold"])
    assert folds.keys() == {"2", "unknown-24", "00001280", "00000193"}
    assert all(len(values) == 1 for values in folds.values())


def test_darkcovidnet_from_a_file_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "master.zip"
    path.write_bytes(pack(ARCHIVES["darkcovidnet"]))
    report = fetch("darkcovidnet", tmp_path / "data", accept_licence=yes, archive=path)
    assert report.films == 6
    assert any("ieee8023-metadata.csv" in note for note in report.notes)


def test_radiography_from_a_file_keeps_the_projects_test_films(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    path.write_bytes(pack(ARCHIVES["radiography"]))
    report = fetch("radiography", tmp_path / "data", accept_licence=yes, archive=path)
    tested = layouts._RADIOGRAPHY_HELD_OUT["COVID", "test"].split()[0]
    splits = {row["upstream_name"]: row["split"] for row in rows(tmp_path / "data").values()}
    assert splits[f"COVID-{tested}.png"] == "test"
    assert splits.keys() == {f"COVID-{tested}.png", "COVID-1895.png", "Normal-7.png", "Normal-10192.png"}
    assert report.left_out["repeats another source or another film"] == 3
    again = fetch("radiography", tmp_path / "data", accept_licence=yes, archive=path)
    assert again == report
    path.write_bytes(pack({"COVID/images/COVID-1895.png": film(5)}))
    with pytest.raises(FetchError, match="fetched here had"):
        fetch("radiography", tmp_path / "data", accept_licence=yes, archive=path)
    assert path.exists()


def test_a_second_source_keeps_the_rows_of_the_first(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    put(shelf, "kermany", monkeypatch)
    get(shelf, "hannover", tmp_path)
    first = rows(tmp_path)
    get(shelf, "kermany", tmp_path)
    both = rows(tmp_path)
    assert len(both) == len(first) + COUNTS["kermany"]
    assert all(both[key] == row for key, row in first.items())


def test_rows_made_by_somebody_else_are_not_replaced(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    get(shelf, "hannover", tmp_path)
    (tmp_path / "downloads/hannover/receipt.json").unlink()
    with pytest.raises(FetchError, match="did not make"):
        get(shelf, "hannover", tmp_path)


def test_a_manifest_that_cannot_be_read_is_left_alone(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf, "hannover", monkeypatch)
    (tmp_path / "manifest.csv").write_text("somebody,elses\n1,2\n")
    with pytest.raises(FetchError, match="needs mending"):
        get(shelf, "hannover", tmp_path)
    assert (tmp_path / "manifest.csv").read_text() == "somebody,elses\n1,2\n"
    assert shelf.requests == []


def test_a_name_twice_in_an_archive_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    path.write_bytes(pack(ARCHIVES["hannover"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("covid-19-image-repository-abc/png/aa.png", b"another")
    assert fetch("hannover", tmp_path / "data", accept_licence=yes, archive=path).films == 1


@pytest.mark.skipif(not os.environ.get("CXRMODELS_DATA"), reason="needs the project's own data folder")
@pytest.mark.parametrize("key", ["kermany", "radiography", "shenzhen", "montgomery"])
def test_rules_agree_with_the_projects_own_manifest(key: str, tmp_path: Path) -> None:
    """Every film the project knows gets the finding, patient and split it has there (names only, no pixels)."""
    with (Path(os.environ["CXRMODELS_DATA"]) / "manifest.csv").open(encoding="utf-8", newline="") as file:
        known = {row["upstream_name"]: row for row in csv.DictReader(file) if row["source"] == key}
    if not known:
        pytest.skip(f"no {key} in this data folder")
    folders = {"kermany": "chest_xray/{half}", "radiography": "COVID/images"}
    names = [
        f"{folders.get(key, 'CXR_png').format(half='test' if row['split'] == 'test' else 'train')}/{name}"
        for name, row in known.items()
    ]
    path = tmp_path / "names.zip"
    path.write_bytes(pack(dict.fromkeys(names, b"")))
    with layouts.Upstream([path]) as upstream:
        entries = {entry.upstream_name: entry for entry in LAYOUTS[key](upstream).entries}
    assert entries.keys() == known.keys()
    for name, entry in entries.items():
        row = known[name]
        assert (entry.finding, entry.split, entry.view) == (row["finding"], row["split"], row["view"])
        if key != "radiography":  # there the project joins near-duplicates, which needs the pixels
            assert entry.patient_id == row["patient_id"]
