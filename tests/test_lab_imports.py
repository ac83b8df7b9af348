"""A user's own films: what comes in, and that nothing bad does. Each bad upload gets one clear message."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxrmodels.lab import imports
from cxrmodels.lab.config import ConfigurableCnn, RunConfig
from cxrmodels.lab.data import load
from cxrmodels.lab.imports import DataError, delete_import, import_archive, read_import
from cxrmodels.lab.store import RUNS_VARIABLE
from cxrmodels.phantom import phantom


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "runs"))
    return tmp_path / "runs"


def film(number: int) -> bytes:
    return phantom("normal", seed=9, index=number, size=64).png()


FILMS = [film(number) for number in range(8)]
GOOD = {
    **{f"ill/p{number}__a.png": FILMS[number] for number in range(4)},
    **{f"well/{number}.png": FILMS[number] for number in range(4, 8)},
}


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def on_disk(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_classes_come_in_by_bytes_by_path_and_by_folder(tmp_path: Path) -> None:
    report = import_archive(zipped(GOOD))
    assert report.classes == ("ill", "well")
    assert report.counts() == {"ill": 4, "well": 4}
    assert report.left_out == ()
    assert report.shared_patients == ()
    assert report.known_patients == 4
    (tmp_path / "films.zip").write_bytes(zipped(GOOD))
    assert import_archive(tmp_path / "films.zip") == report, "the same films are the same import"
    assert import_archive(on_disk(GOOD, tmp_path / "films")) == report
    assert read_import(report.name) == report
    assert imports.imports() == (report,)
    assert {path.path.read_bytes() for path in report.films} == set(FILMS)
    delete_import(report.name)
    assert imports.imports() == ()


def test_import_can_be_trained_on() -> None:
    data = import_archive(zipped(GOOD)).data()
    loaded = load(RunConfig(data=data, network=ConfigurableCnn(1, 4), input_size=32, validation=0.25))
    assert loaded.classes == ("ill", "well")
    assert loaded.films.shape == (8, 32, 32)
    assert np.bincount(loaded.labels[loaded.validation]).tolist() == [1, 1]


def test_usual_spellings_wrapping_and_what_systems_add() -> None:
    files = {f"data/set/{name}": content for name, content in GOOD.items()}
    files = {name.replace("ill/", "COVID-19/"): content for name, content in files.items()}
    extra = {
        "data/set/README.txt": b"text",
        "__MACOSX/data/._x.png": b"x",
        "data/set/well/.DS_Store": b"x",
        "data/set/well/Thumbs.db": b"x",
    }
    report = import_archive(zipped(files | extra))
    assert report.classes == ("covid19", "well")
    assert report.left_out == ()


def test_what_takes_no_part_is_listed() -> None:
    report = import_archive(
        zipped(
            GOOD
            | {
                "ill/broken.png": FILMS[0][:200],
                "ill/notes.txt": b"text",
                "well/again.png": FILMS[5],
                "well/wrong.png": FILMS[1],
            }
        )
    )
    left_out = dict(report.left_out)
    assert set(left_out) == {
        *("ill/broken.png", "ill/notes.txt"),
        *("well/again.png", "ill/p1__a.png", "well/wrong.png"),
    }
    assert "same film" in left_out["well/again.png"]
    assert "several classes" in left_out["well/wrong.png"]
    assert report.counts() == {"ill": 3, "well": 4}


def test_patient_of_two_classes_is_reported_and_stays_on_one_side() -> None:
    report = import_archive(zipped(GOOD | {"well/p0__later.png": film(20), "well/p1__later.png": film(21)}))
    assert report.shared_patients == (("p0", ("ill", "well")), ("p1", ("ill", "well")))
    for seed in range(5):
        config = RunConfig(data=report.data(), network=ConfigurableCnn(1, 4), validation=0.5, seed=seed)
        data = load(config)
        assert not set(data.patients[data.validation]) & set(data.patients[~data.validation])


# ----------------------------------------------------------------------------------------------------- bad uploads
def encrypted() -> bytes:
    """Python writes no encrypted archives: the flag is set in the headers, local and central."""
    data = bytearray(zipped(GOOD))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 4)
    return bytes(data)


def linked() -> bytes:
    stream = io.BytesIO(zipped(GOOD))
    with zipfile.ZipFile(stream, "a") as archive:
        link = zipfile.ZipInfo("ill/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/hostname")
    return stream.getvalue()


def damaged() -> bytes:
    data = bytearray(zipped(GOOD))
    at = data.find(FILMS[3]) + 100
    data[at : at + 50] = bytes(50)
    return bytes(data)


def strange_method() -> bytes:
    data = bytearray(zipped(GOOD))
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", data, data.find(mark) + offset, 97)
    return bytes(data)


def lying() -> bytes:
    """A central directory that states a terabyte."""
    data = bytearray(zipped(dict.fromkeys(("a/1.png", "b/2.png"), FILMS[0])))
    at = data.find(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 0xFFFFFFF0)
    return bytes(data)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "empty"),
    "no zip": (lambda: b"GIF89a" + bytes(50), "no zip archive"),
    "a picture": (lambda: FILMS[0], "no zip archive"),
    "cut short": (lambda: zipped(GOOD)[:-200], "cut short"),
    "only a beginning": (lambda: b"PK\x03\x04", "cut short"),
    "damaged within": (damaged, "damaged in the archive"),
    "strange compression": (strange_method, "not read"),
    "nothing in it": (lambda: zipped({}), "no file"),
    "folders only": (lambda: zipped({"a/": b"", "b/": b""}), "no file"),
    "no folders": (lambda: zipped({"1.png": FILMS[0], "2.png": FILMS[1]}), "lie in no folder"),
    "one class": (lambda: zipped({"ill/1.png": FILMS[0], "ill/2.png": FILMS[1]}), "one folder only"),
    "one class with films": (lambda: zipped({"ill/1.png": FILMS[0], "well/1.txt": b"x"}), "1 class"),
    "no pictures": (lambda: zipped({"a/1.txt": b"x", "b/2.txt": b"y"}), "0 class"),
    "too many classes": (lambda: zipped({f"c{n}/1.png": FILMS[0] for n in range(21)}), "21 folders"),
    "splits, not classes": (lambda: zipped({"train/1.png": FILMS[0], "test/1.png": FILMS[1]}), "splits"),
    "slips out": (lambda: zipped(GOOD | {"ill/../../../slip.png": FILMS[0]}), "leads out"),
    "absolute": (lambda: zipped(GOOD | {"/slip.png": FILMS[0]}), "absolute"),
    "Windows path": (lambda: zipped(GOOD | {"ill\\x.png": FILMS[0]}), "Windows path"),
    "Windows drive": (lambda: zipped(GOOD | {"C:/ill/x.png": FILMS[0]}), "Windows path"),
    "link": (linked, "a link"),
    "encrypted": (encrypted, "encrypted"),
    "archive within": (lambda: zipped(GOOD | {"ill/more.zip": zipped(GOOD)}), "archive within"),
    "control characters": (lambda: zipped(GOOD | {"ill/a\x1b[31m.png": FILMS[0]}), "control characters"),
    "line break": (lambda: zipped(GOOD | {"ill/a\nb.png": FILMS[0]}), "control characters"),
    "name of 10 kB": (lambda: zipped(GOOD | {"ill/" + "x" * 10_000: FILMS[0]}), "10,004 characters"),
    "deep": (lambda: zipped(GOOD | {"ill/" + "x/" * 800 + "1.png": FILMS[0]}), "characters"),
    "same name but for the case": (lambda: zipped(GOOD | {"ILL/P0__A.png": FILMS[0]}), "same name"),
    "bomb": (
        lambda: zipped(
            {name: bytes(20 * 2**20) for name in ("a/1.png", "b/2.png")},
            zipfile.ZIP_DEFLATED,
        ),
        "times its size",
    ),
    "states a giant": (lying, "MB|GB"),
    "one huge film": (lambda: zipped(GOOD | {"ill/x.png": bytes(51 * 2**20)}), "51 MB"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_upload_gets_one_clear_message_and_leaves_nothing(name: str, home: Path) -> None:
    made, says = BAD[name]
    with pytest.raises(DataError, match=says) as caught:
        import_archive(made())
    message = str(caught.value)
    assert message.isprintable(), "a name from the archive is shown without what a terminal or page would obey"
    assert len(message) < 600
    assert str(home) not in message
    assert list((home / "imports").iterdir()) == []
    assert not list(home.parent.rglob("slip*"))


def test_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MAX_FILMS", 7)
    with pytest.raises(DataError, match="8 files; expected at most 7"):
        import_archive(zipped(GOOD))


def test_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "MAX_TOTAL", 1000)
    with pytest.raises(DataError, match="GB"):
        import_archive(zipped(GOOD))


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no"):
        import_archive(tmp_path / "nowhere")
    folder = on_disk(GOOD, tmp_path / "films")
    (folder / "ill" / "link.png").symlink_to(folder / "well" / "4.png")
    with pytest.raises(DataError, match=r"ill/link\.png is a link"):
        import_archive(folder)
    (folder / "ill" / "link.png").unlink()
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(DataError, match="out is a link"):
        import_archive(folder)
