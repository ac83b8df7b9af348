"""The manifest: what is read from it, and that everything wrong with one is said in its own words."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrmodels.datasets.manifest import (
    COLUMNS,
    DATA_VARIABLE,
    SPLITS,
    ManifestError,
    check_groups,
    data_folder,
    data_hash,
    read_manifest,
)
from cxrmodels.findings import TITLES

Row = dict[str, str]


def row(number: int, **changes: str) -> Row:
    return {
        "image_id": f"here/{number}",
        "path": f"images/here/{number}.png",
        "mask_path": "",
        "source": "here",
        "finding": "normal",
        "patient_id": f"p{number}",
        "group_id": f"here:p{number}",
        "age_group": "adult",
        "view": "PA",
        "split": "train",
        "fold": "",
        "licence": "CC0",
        "upstream_name": f"film, number {number}.png",
        "width": "64",
        "height": "64",
        "sha256": f"{number:016x}",
    } | changes


def write(folder: Path, rows: list[Row], columns: tuple[str, ...] = COLUMNS) -> Path:
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_reads_what_is_written(tmp_path: Path) -> None:
    rows = [row(1), row(2, finding="covid19", split="external", mask_path="masks/2.png", fold="3")]
    first, second = read_manifest(write(tmp_path, rows))
    assert (first.image_id, first.finding, first.split, first.source) == ("here/1", "normal", "train", "here")
    assert first.path == (tmp_path / "images/here/1.png").resolve()
    assert first.mask_path is None
    assert second.mask_path == (tmp_path / "masks/2.png").resolve()
    assert (second.fold, second.group_id, second.licence) == ("3", "here:p2", "CC0")


def test_reads_what_a_spreadsheet_saves(tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, columns in another order and one more."""
    write(tmp_path, [row(1) | {"remark": "mine"}], ("remark", *reversed(COLUMNS)))
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [film.image_id for film in read_manifest(tmp_path)] == ["here/1"]


@pytest.mark.parametrize("finding", TITLES)
@pytest.mark.parametrize("split", SPLITS)
def test_every_finding_and_split_is_read(finding: str, split: str, tmp_path: Path) -> None:
    (film,) = read_manifest(write(tmp_path, [row(1, finding=finding, split=split)]))
    assert (film.finding, film.split) == (finding, split)


BROKEN: dict[str, tuple[list[Row], tuple[str, ...]]] = {
    "unknown finding": ([row(1), row(2, finding="flu")], ("line 3", "flu", "normal")),
    "unknown split": ([row(1, split="training")], ("line 2", "training", "external")),
    "id twice": ([row(1), row(2), row(1, path="other.png")], ("here/1", "twice")),
    "path leaves the folder": ([row(1, path="../secret.png")], ("line 2", "../secret.png")),
    "absolute path": ([row(1, path="/etc/hostname")], ("line 2", "/etc/hostname")),
    "mask leaves the folder": ([row(1, mask_path="masks/../../x.png")], ("line 2", "masks/../../x.png")),
    "group in two splits": ([row(1), row(2, group_id="here:p1", split="val")], ("here:p1", "train", "val")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rows(name: str, tmp_path: Path) -> None:
    rows, words = BROKEN[name]
    write(tmp_path, rows)
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("column", COLUMNS)
def test_missing_column_is_named(column: str, tmp_path: Path) -> None:
    write(tmp_path, [row(1)], tuple(name for name in COLUMNS if name != column))
    with pytest.raises(ManifestError, match=f"lacks the columns {column};"):
        read_manifest(tmp_path)


def _cut(text: str) -> str:
    return text.rstrip().rsplit(",", 3)[0] + "\n"


def _widen(text: str) -> str:
    return text.rstrip() + ",one,two\n"


@pytest.mark.parametrize("damage", [_cut, _widen], ids=["too few cells", "too many cells"])
def test_row_of_another_length(damage: Callable[[str], str], tmp_path: Path) -> None:
    """A comma too many moves every later cell into the wrong column."""
    path = write(tmp_path, [row(1)]) / "manifest.csv"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ManifestError, match="line 2"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00\x01", b"PK\x03\x04 not a table"])
def test_no_manifest(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=r"manifest\.csv"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("one", "two"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_groups_are_never_split(one: str, two: str, tmp_path: Path) -> None:
    for order in ((one, two), (two, one)):
        write(tmp_path, [row(i, group_id="patient 7", split=split) for i, split in enumerate(order)])
        with pytest.raises(ManifestError, match="patient 7"):
            read_manifest(tmp_path)


def test_groups_may_stay_together(tmp_path: Path) -> None:
    """Films of one patient in one split are as it should be; benchmark films occur elsewhere under other names."""
    rows = [row(1, group_id="g"), row(2, group_id="g"), row(3, group_id="g", split="benchmark")]
    films = read_manifest(write(tmp_path, rows))
    check_groups(films)
    assert len(films) == 3


@pytest.mark.parametrize("change", [{"finding": "covid19"}, {"split": "test"}, {"sha256": "f" * 16}, {"image_id": "x"}])
def test_hash_changes_with_content(change: Row, tmp_path: Path) -> None:
    rows = [row(1), row(2), row(3)]
    before = data_hash(read_manifest(write(tmp_path, rows)))
    assert data_hash(read_manifest(write(tmp_path, rows[::-1]))) == before, "the order of rows is no content"
    assert data_hash(read_manifest(write(tmp_path, [row(1), row(2) | change, row(3)]))) != before
    assert data_hash(read_manifest(write(tmp_path, rows[:2]))) != before


def test_hash_ignores_where_the_folder_is(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        write(folder, [row(1)])
    assert len({data_hash(read_manifest(folder)) for folder in folders}) == 1


def test_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert data_folder() is None
    monkeypatch.setenv(DATA_VARIABLE, "  ")
    assert data_folder() is None
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(ManifestError, match=DATA_VARIABLE) as caught:
        data_folder()
    assert str(tmp_path) in str(caught.value)
    write(tmp_path, [])
    assert data_folder() == tmp_path.resolve()


def test_real_manifest(data_dir: Path) -> None:
    films = read_manifest(data_dir)
    assert len(films) == 12_319
    assert {film.split for film in films} == set(SPLITS)
    assert all(film.path.is_file() for film in films)
    unseen = {film.source for film in films if film.split == "external"}
    assert not unseen & {film.source for film in films if film.split in ("train", "val", "test")}
    for split in ("train", "val", "test"):
        counts = Counter(film.finding for film in films if film.split == split)
        assert {"normal", "covid19", "bacterial_pneumonia", "viral_pneumonia"} <= set(counts)
