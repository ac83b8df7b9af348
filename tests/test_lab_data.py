"""Films of a run: the same every time, dealt by patient, and each way of breaking them as it is said."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrmodels.datasets.manifest import COLUMNS, DATA_VARIABLE
from cxrmodels.lab.config import ConfigurableCnn, FolderData, ManifestData, PhantomData, RunConfig, cross_validation
from cxrmodels.lab.data import LabData, contact_sheet, load
from cxrmodels.lab.imports import DataError
from cxrmodels.phantom import phantom

DATA = PhantomData(films=40, findings=("normal", "covid19"), difficulty=0.1)
CONFIG = RunConfig(
    data=DATA,
    network=ConfigurableCnn(2, 4),
    input_size=64,
    augmentation=0.5,
)


def same(one: LabData, other: LabData) -> bool:
    return one.digest() == other.digest() and (one.ids == other.ids).all()


def test_phantoms_are_those_of_the_generator() -> None:
    data = load(CONFIG)
    assert data.films.shape == (40, 64, 64)
    assert data.films.dtype == np.uint8
    assert data.labels.tolist() == [0, 1] * 20
    made = phantom("covid19", seed=0, index=3, size=64, difficulty=0.1, noise=0.3)
    np.testing.assert_array_equal(data.films[3], np.rint(made.pixels * 255))
    assert same(data, load(CONFIG))
    assert not same(data, load(replace(CONFIG, data=replace(DATA, seed=1))))


def test_many_films_are_made_by_other_processes_as_here() -> None:
    many = load(replace(CONFIG, data=replace(DATA, films=104), input_size=32))
    few = load(replace(CONFIG, input_size=32))
    assert many.films.shape == (104, 32, 32)
    np.testing.assert_array_equal(many.films[:40], few.films)


def test_split_holds_out_its_share_of_every_class_and_depends_on_the_seed() -> None:
    data = load(CONFIG)
    assert [(data.validation & (data.labels == label)).sum() for label in (0, 1)] == [4, 4]
    other = load(replace(CONFIG, seed=1))
    assert (data.films == other.films).all()
    assert (data.validation != other.validation).any()
    assert load(replace(CONFIG, validation=0.5)).validation.sum() == 20


def test_folds_hold_every_patient_out_once() -> None:
    held = np.stack([load(fold).validation for fold in cross_validation(CONFIG, 4)])
    assert (held.sum(0) == 1).all()
    assert (held.sum(1) == 10).all()


def test_too_few_patients_is_told() -> None:
    with pytest.raises(DataError, match=r"bacterial_pneumonia has films of 1 patient.*Add films"):
        load(replace(CONFIG, data=PhantomData(films=4, findings=("normal", "bacterial_pneumonia", "covid19"))))
    with pytest.raises(DataError, match="10 or more"):
        load(cross_validation(replace(CONFIG, data=replace(DATA, films=10)), 10)[0])


# ------------------------------------------------------------------------------------------------------- broken
def broken(how: str) -> tuple[LabData, LabData]:
    return load(CONFIG), load(replace(CONFIG, breakage=how))


def test_leak_puts_twins_on_both_sides() -> None:
    plain, leaking = broken("leak patients")
    assert len(leaking.labels) == 80
    np.testing.assert_array_equal(leaking.films[:40], plain.films)
    assert (leaking.patients[:40] == leaking.patients[40:]).all()
    assert (leaking.labels[:40] == leaking.labels[40:]).all()
    twins = set(leaking.patients[leaking.validation]) & set(leaking.patients[~leaking.validation])
    assert len(twins) > 8, "most of the patients validated on were learnt from"
    assert not set(plain.patients[plain.validation]) & set(plain.patients[~plain.validation])
    apart = np.abs(leaking.films[:40].astype(int) - leaking.films[40:]).mean((1, 2))
    assert (apart > 0.5).all(), "the copies are augmented"
    assert len(set(leaking.ids)) == 80


def test_flipped_labels_are_a_fifth_on_both_sides_together() -> None:
    plain, flipped = broken("flip 20 % labels")
    np.testing.assert_array_equal(plain.films, flipped.films)
    np.testing.assert_array_equal(plain.validation, flipped.validation)
    assert (plain.labels != flipped.labels).sum() == 8


def test_shuffled_labels_say_nothing() -> None:
    plain, shuffled = broken("shuffled labels")
    np.testing.assert_array_equal(plain.films, shuffled.films)
    assert sorted(plain.labels) == sorted(shuffled.labels)
    assert 10 <= (plain.labels != shuffled.labels).sum() <= 30


def test_marker_stands_on_one_class_only() -> None:
    plain, marked = broken("marker on one class")
    changed = plain.films != marked.films
    assert not changed[plain.labels == 0].any()
    assert changed[plain.labels == 1].any((1, 2)).all()
    rows, columns = np.nonzero(changed.any(0))
    assert rows.max() < 20, "in a corner"
    assert columns.max() < 20
    assert (marked.films[changed] == 255).all()
    np.testing.assert_array_equal(plain.validation, marked.validation)


@pytest.mark.parametrize("size", [32, 256])
def test_marker_is_legible_at_any_size(size: int) -> None:
    config = replace(CONFIG, data=replace(DATA, films=4), input_size=size, breakage="marker on one class")
    marked, plain = load(config), load(replace(config, breakage="none"))
    assert (marked.films[1] != plain.films[1]).sum() > (size / 20) ** 2


def test_border_only_leaves_nothing_of_the_lungs() -> None:
    plain, border = broken("border only")
    assert not border.films[:, 10:-10, 10:-10].any()
    frame = np.ones((64, 64), bool)
    frame[10:-10, 10:-10] = False
    np.testing.assert_array_equal(border.films[:, frame], plain.films[:, frame])


def test_label_noise_touches_training_films_alone() -> None:
    plain, noisy = load(CONFIG), load(replace(CONFIG, label_noise=0.25))
    changed = plain.labels != noisy.labels
    assert changed.sum() == 8
    assert not (changed & plain.validation).any()
    assert (load(replace(CONFIG, label_noise=1.0)).labels != plain.labels).sum() == 32


# ------------------------------------------------------------------------------------------------- contact sheet
def test_contact_sheet_shows_training_films_and_their_augmentation() -> None:
    sheet = contact_sheet(CONFIG, films=5, copies=3)
    assert sheet.films.shape == (5, 64, 64)
    assert sheet.augmented.shape == (5, 3, 64, 64)
    assert sheet.labels == ("normal", "covid19", "normal", "covid19", "normal")
    data = load(CONFIG)
    training = {film.tobytes() for film in data.films[~data.validation]}
    assert {film.tobytes() for film in sheet.films} <= training
    assert all(
        (copy != film).any() for film, copies in zip(sheet.films, sheet.augmented, strict=True) for copy in copies
    )
    np.testing.assert_array_equal(sheet.augmented, contact_sheet(CONFIG, films=5, copies=3).augmented)


def test_contact_sheet_reads_no_more_than_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(*given: object, **named: object) -> object:
        made.append(1)
        return phantom(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("cxrmodels.lab.data.phantom", counted)
    contact_sheet(replace(CONFIG, data=replace(DATA, films=20_000)), films=6)
    assert len(made) == 6


# ------------------------------------------------------------------------------------------------ films of others
@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder: two sources, patients with two films each, three splits."""
    rows = []
    for number in range(48):
        finding = ("normal", "covid19", "bacterial_pneumonia")[number // 2 % 3]
        pixels = phantom(finding, seed=1, index=number, size=64).pixels
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        row = {
            "image_id": f"film{number}",
            "path": f"{number}.png",
            "source": "one" if number < 24 else "two",
            "finding": finding,
            "group_id": f"patient{number // 2}",
            "split": ("train", "train", "val", "test")[number // 2 % 4],
        }
        rows.append({column: row.get(column, "") for column in COLUMNS})
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    return tmp_path


MANIFEST = replace(CONFIG, data=ManifestData(("normal", "covid19")), validation=0.5)


def test_manifest_gives_films_to_learn_from_and_no_other(films: Path) -> None:
    data = load(MANIFEST)
    numbers = [int(name.removeprefix("film")) for name in data.ids]
    assert all(number // 2 % 4 != 3 for number in numbers), "none kept for testing"
    assert sorted(numbers) == [n for n in range(48) if n // 2 % 4 != 3 and n // 2 % 3 != 2]
    assert not set(data.patients[data.validation]) & set(data.patients[~data.validation])
    with_pneumonia = load(replace(MANIFEST, data=ManifestData(("normal", "pneumonia"))))
    assert with_pneumonia.labels.sum() > 0, "a finding that covers others takes their films"


def test_manifest_sources_and_limit(films: Path) -> None:
    one = load(replace(MANIFEST, data=ManifestData(("normal", "covid19"), ("one",))))
    assert all(int(name.removeprefix("film")) < 24 for name in one.ids)
    few = load(replace(MANIFEST, data=ManifestData(("normal", "covid19"), per_class=4)))
    assert np.bincount(few.labels).tolist() == [4, 4]
    with pytest.raises(DataError, match=r"three.*it has one, two"):
        load(replace(MANIFEST, data=ManifestData(("normal", "covid19"), ("three",))))


def test_unreadable_film_is_named(films: Path) -> None:
    (films / "0.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="film0 cannot be read"):
        load(MANIFEST)


def test_no_data_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(DataError, match=DATA_VARIABLE):
        load(MANIFEST)


def test_import_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_RUNS", str(tmp_path))
    with pytest.raises(DataError, match="no import 'abc'"):
        load(replace(CONFIG, data=FolderData("abc", ("a", "b"))))
