"""Class folders: what is read out of one, how it is split by patient, and how one is made."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrmodels.datasets.class_folder import (
    ClassFolderError,
    build_class_folder,
    read_class_folder,
    sample_class_folder,
    split_films,
    split_folds,
)
from cxrmodels.datasets.manifest import COLUMNS, Film, ManifestError, check_groups


def png(seed: int, level: int = 6) -> bytes:
    """A noise film unlike that of any other seed; `level` changes the file, not the film."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (72, 64)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def write(folder: Path, **classes: dict[str, bytes]) -> Path:
    for name, files in classes.items():
        for file_name, data in files.items():
            path = folder / name / file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- reading ------------------------------------------------------------------------------------------------

NAMES: dict[tuple[str, str], tuple[str, str]] = {
    ("covid", "normal"): ("covid19", "normal"),
    ("COVID-19", "NORMAL"): ("covid19", "normal"),
    ("Covid_19", "Healthy"): ("covid19", "normal"),
    ("covid19", "No Finding"): ("covid19", "normal"),
    ("Viral Pneumonia", "bacterial"): ("bacterial_pneumonia", "viral_pneumonia"),
    ("VIRUS", "pneumonia_bacterial"): ("bacterial_pneumonia", "viral_pneumonia"),
    ("PNEUMONIA", "non-COVID"): ("non_covid19", "pneumonia"),
    ("Tuberculosis", "other"): ("other", "tuberculosis"),
    # Not this program's findings, or not certainly.
    ("Lung_Opacity", "cats"): ("Lung_Opacity", "cats"),
    ("covid severe", "covid mild"): ("covid mild", "covid severe"),
    # Both would be covid19.
    ("covid", "COVID-19"): ("COVID-19", "covid"),
}


@pytest.mark.parametrize("subfolders", NAMES, ids=" ".join)
def test_usual_spellings_get_the_findings_key(subfolders: tuple[str, str], tmp_path: Path) -> None:
    write(tmp_path, **{name: {"a.png": png(seed)} for seed, name in enumerate(subfolders)})
    folder = read_class_folder(tmp_path)
    assert folder.classes == NAMES[subfolders]
    assert [film.finding for film in folder.films] == list(folder.classes)


def test_every_file_is_looked_at(tmp_path: Path) -> None:
    write(
        tmp_path / "set",
        covid={
            "p1__a.png": png(1),
            "p1__b.png": png(2),
            "c.png": png(3),
            "c2.png": png(3, level=1),
            "__d.png": png(4),
            "notes.txt": b"no film",
            "cut.png": png(5)[:200],
            ".DS_Store": b"hidden",
            "deeper/x.png": png(6),
        },
        normal={"n.png": png(10), "twin.png": png(20), "m.jpg": png(11)},
        viral={"v.png": png(30), "twin too.png": png(20, level=0)},
        bacterial={"only.png": b""},
        **{".git": {"x.png": png(40)}, "__MACOSX": {"x.png": png(41)}},
    )
    told: list[tuple[int, int]] = []
    folder = read_class_folder(tmp_path / "set", lambda done, total: told.append((done, total)))
    assert folder.classes == ("covid19", "normal", "viral_pneumonia")
    groups = {film.image_id: film.group_id for film in folder.films}
    hashes = {film.image_id: film.sha256 for film in folder.films}
    assert groups == hashes | {"covid19/p1__a.png": "p1", "covid19/p1__b.png": "p1"}
    assert list(groups) == [
        *("covid19/__d.png", "covid19/c.png", "covid19/p1__a.png", "covid19/p1__b.png"),
        *("normal/m.jpg", "normal/n.png", "viral_pneumonia/v.png"),
    ]
    assert {film.source for film in folder.films} == {"set"}
    assert {film.image_id: film.path.read_bytes() for film in folder.films}["normal/n.png"] == png(10)

    reasons = dict(folder.left_out)
    assert set(reasons) == {
        *("covid19/notes.txt", "covid19/cut.png", "covid19/deeper", "covid19/c2.png"),
        *("normal/twin.png", "viral_pneumonia/twin too.png", "bacterial_pneumonia/only.png", "bacterial_pneumonia"),
    }
    assert reasons["covid19/c2.png"] == "the same film as covid19/c.png"
    assert "expected" in reasons["covid19/notes.txt"]
    assert "directory" in reasons["covid19/deeper"]
    for twin in ("normal/twin.png", "viral_pneumonia/twin too.png"):
        assert "one label is wrong (normal/twin.png, viral_pneumonia/twin too.png)" in reasons[twin]
    assert told == [(number, 14) for number in range(1, 15)]
    lines = "\n".join(folder.lines())
    assert all(name in lines for name in reasons)
    assert "covid19: 4 films" in lines
    assert "known of 2 films" in lines


def test_masks_beside_images_are_no_films(tmp_path: Path) -> None:
    """The COVID-19 Radiography Database has COVID/images and COVID/masks."""
    for seed, name in enumerate(("COVID", "Normal")):
        write(tmp_path, **{f"{name}/images": {"1.png": png(seed)}, f"{name}/masks": {"1.png": png(seed + 10)}})
    folder = read_class_folder(tmp_path)
    assert [film.image_id for film in folder.films] == ["covid19/1.png", "normal/1.png"]
    assert folder.films[0].path.read_bytes() == png(0)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda path: None, "There is no folder"),
    "nothing in it": (lambda path: path.mkdir(), "0 class.*subfolders"),
    "films, no subfolders": (lambda path: write(path.parent, set={"a.png": png(1)}), "0 class"),
    "one class": (lambda path: write(path, covid={"a.png": png(1)}), "1 class"),
    "one class that can be read": (
        lambda path: write(path, covid={"a.png": png(1)}, normal={"b.png": b"x"}),
        r"1 class.*normal/b\.png",
    ),
    "splits": (lambda path: write(path, train={"a.png": png(1)}, TEST={"b.png": png(2)}), "splits.*TEST, train.*one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_class_folder_is_refused(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    make(tmp_path / "set")
    with pytest.raises(ClassFolderError, match=message):
        read_class_folder(tmp_path / "set")


# --- splitting ----------------------------------------------------------------------------------------------


def films_of(*classes: tuple[str, int, int], start: int = 0) -> list[Film]:
    """Films of each (class, patients, films a patient), without files."""
    return [
        Film(f"{name}/{patient}-{number}", Path(), None, "", name, f"{name}{patient}", "", "", "", "", "", "")
        for name, patients, films in classes
        for patient in range(patients)
        for number in range(films)
    ]


TWO_SIZES = films_of(("covid19", 40, 2), ("normal", 120, 1), ("viral_pneumonia", 15, 3))
SHARED = [*films_of(("covid19", 20, 2)), *(replace(film, finding="normal") for film in films_of(("covid19", 12, 1)))]
"""Twelve of the twenty patients also have a normal film."""


@pytest.mark.parametrize("films", [TWO_SIZES, SHARED], ids=["classes of several sizes", "patients with two classes"])
@pytest.mark.parametrize("seed", [0, 7])
def test_split_is_by_patient_and_class(films: list[Film], seed: int) -> None:
    split = split_films(films, seed=seed)
    assert [replace(film, split="") for film in split] == films
    check_groups(split)
    sides = Counter((film.finding, film.split) for film in split)
    for name in {film.finding for film in films}:
        whole = sum(film.finding == name for film in films)
        assert sides[name, "test"] / whole == pytest.approx(0.2, abs=0.07)
        assert sides[name, "val"] / whole == pytest.approx(0.16, abs=0.07)
        assert sides[name, "train"] + sides[name, "val"] + sides[name, "test"] == whole
    assert split == split_films(films, seed=seed)
    assert split != split_films(films, seed=seed + 1)


def test_shares_are_as_asked() -> None:
    films = films_of(("covid19", 60, 1), ("normal", 60, 1))
    split = Counter(film.split for film in split_films(films, seed=0, test=1 / 3, validation=0.5))
    assert split == {"train": 40, "val": 40, "test": 40}


def test_the_fewest_patients_that_can_be_split() -> None:
    split = split_films(films_of(("covid19", 3, 2), ("normal", 30, 1)), seed=0)
    assert Counter(film.split for film in split if film.finding == "covid19") == {"train": 2, "val": 2, "test": 2}
    with pytest.raises(ClassFolderError, match=r"too few patients of covid19 \(1\)"):
        split_films(films_of(("covid19", 2, 9), ("normal", 30, 1)), seed=0)


@pytest.mark.parametrize("films", [TWO_SIZES, SHARED], ids=["classes of several sizes", "patients with two classes"])
@pytest.mark.parametrize("count", [2, 5])
def test_folds_test_every_film_once_and_part_no_patient(films: list[Film], count: int) -> None:
    folds = split_folds(films, count, seed=3)
    assert len(folds) == count
    tested = [film.image_id for fold in folds for film in fold if film.split == "test"]
    assert sorted(tested) == sorted(film.image_id for film in films)
    names = {film.finding for film in films}
    for fold in folds:
        check_groups(fold)
        assert {(film.finding, film.split) for film in fold} == {
            (name, split) for name in names for split in ("train", "val", "test")
        }
    assert folds == split_folds(films, count, seed=3)
    assert folds != split_folds(films, count, seed=4)


@pytest.mark.parametrize(("count", "message"), [(1, "1 folds"), (-2, "2 or more"), (16, r"viral_pneumonia \(15\)")])
def test_folds_that_cannot_be_are_refused(count: int, message: str) -> None:
    with pytest.raises(ClassFolderError, match=message):
        split_folds(TWO_SIZES, count, seed=0)


def test_a_part_without_a_class_is_never_dealt() -> None:
    """Two patients in each class, but one of them in both: the parts come out as this one and the other two."""
    shared = [
        *films_of(("covid19", 1, 2), ("normal", 1, 3)),
        *films_of(("covid19", 2, 1))[1:],
        *films_of(("normal", 2, 3))[3:],
    ]
    both = [replace(film, group_id="both") if film.group_id in ("covid190", "normal0") else film for film in shared]
    with pytest.raises(ClassFolderError, match="9 films cannot be dealt into 2 parts"):
        split_folds(both, 2, seed=0)


# --- making -------------------------------------------------------------------------------------------------

METADATA = """\
patientid,age,finding,view,modality,filename,license
2,65,Pneumonia/Viral/COVID-19,PA,X-ray,a.png,
2,65,Pneumonia/Viral/COVID-19,PA,X-ray,b.jpeg,
3,50,Pneumonia/Viral/COVID-19,AP,X-ray,ap.png,
3,50,Pneumonia/Viral/COVID-19,AP Supine,X-ray,lying.png,
4,50,Pneumonia/Viral/COVID-19,Axial,CT,ct.png,
5,50,Pneumonia/Viral/COVID-19,L,X-ray,side.png,
../../9,40,No Finding,PA,X-ray,n__1 (2).png,
,40,No Finding,PA,X-ray,nobody__s.png,
8,40,No Finding,PA,X-ray,../../outside.png,
8,40,No Finding,PA,X-ray,gone.png,
8,40,todo,PA,X-ray,todo.png,
2,65,Pneumonia/Viral/COVID-19,PA,X-ray,a.png,
10,40,Pneumonia/Bacterial,PA,X-ray,bacterial.png,
"""
FILES = ("a.png", "b.jpeg", "ap.png", "lying.png", "ct.png", "side.png", "n__1 (2).png", "nobody__s.png", "todo.png")
PA_FILMS = {
    "covid19/2__a.png": "a.png",
    "covid19/2__b.jpeg": "b.jpeg",
    "normal/9__n_1_2_.png": "n__1 (2).png",
    "normal/nobody_s.png": "nobody__s.png",
    "bacterial_pneumonia/10__bacterial.png": "bacterial.png",
}


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """ieee8023's covid-chestxray-dataset as it is cloned, with odd rows; a film outside it, too."""
    folder = tmp_path / "here" / "covid-chestxray-dataset"
    write(folder, images={name: png(seed) for seed, name in enumerate((*FILES, "bacterial.png"))})
    write(folder, **{".git": {"x.png": b"x"}})
    (folder / "metadata.csv").write_text(METADATA)
    (tmp_path / "outside.png").write_bytes(png(99))
    (folder / "images" / "gone.png").symlink_to(tmp_path / "outside.png")
    return folder


@pytest.fixture(params=["folder", "zip"])
def source(request: pytest.FixtureRequest, collection: Path, tmp_path: Path) -> Path:
    if request.param == "folder":
        return collection
    path = tmp_path / "collection.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents(collection).items():
            if name != "images/gone.png":
                archive.writestr(f"covid-chestxray-dataset-master/{name}", data)
    return path


def test_build_takes_pa_films_of_every_finding(source: Path, collection: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    out = tmp_path / "out"
    told: list[tuple[int, int]] = []
    copied = build_class_folder(source, out, progress=lambda done, total: told.append((done, total)))
    assert contents(out) == {name: (collection / "images" / file).read_bytes() for name, file in PA_FILMS.items()}
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith("out/")} == before
    assert copied.films == {"covid19": 2, "normal": 2, "bacterial_pneumonia": 1}
    assert copied.left_out == {
        "not a radiograph (CT)": 1,
        "not a frontal view": 1,
        "no finding given": 1,
        "covid19 of view AP": 1,
        "covid19 of view AP Supine": 1,
    }
    assert {name for name, _ in copied.failures} == {"../../outside.png", "gone.png", "2__a.png"}
    assert told == [(number, 6) for number in range(1, 7)]
    lines = "\n".join(copied.lines())
    assert all(word in lines for word in ("covid19: 2 films", "1, not a radiograph (CT)", "../../outside.png"))
    # Grouping survives.
    groups = {film.image_id: film.group_id for film in read_class_folder(out).films}
    assert [groups[f"covid19/2__{name}"] for name in ("a.png", "b.jpeg")] == ["2", "2"]
    assert groups["normal/9__n_1_2_.png"] == "9"
    assert len(groups["normal/nobody_s.png"]) == 16


@pytest.mark.parametrize(
    ("findings", "views", "names"),
    [
        (["covid"], ["PA"], {"2__a.png", "2__b.jpeg"}),
        (["COVID-19"], ["ap"], {"3__ap.png"}),
        (["covid19"], ["AP", "ap supine"], {"3__ap.png", "3__lying.png"}),
        (["covid19"], ["any"], {"2__a.png", "2__b.jpeg", "3__ap.png", "3__lying.png"}),
        (["normal", "bacterial"], ["PA"], {"9__n_1_2_.png", "nobody_s.png", "10__bacterial.png"}),
    ],
)
def test_build_filters(findings: list[str], views: list[str], names: set[str], source: Path, tmp_path: Path) -> None:
    build_class_folder(source, tmp_path / "out", findings=findings, views=views)
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} == names


def test_build_adds_classes_and_overwrites_none(collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_class_folder(collection, out, findings=["covid"])
    build_class_folder(collection, out, findings=["normal"])
    before = contents(out)
    assert {name.split("/")[0] for name in before} == {"covid19", "normal"}
    with pytest.raises(ClassFolderError, match="already holds covid19"):
        build_class_folder(collection, out, findings=["covid"], views=["AP"])
    (out / "normal").rename(out / "Healthy")
    with pytest.raises(ClassFolderError, match="already holds normal"):
        build_class_folder(collection, out, findings=["normal"])
    (out / "Healthy").rename(out / "normal")
    assert contents(out) == before


def test_a_killed_build_leaves_no_part_of_a_class(collection: Path, tmp_path: Path) -> None:
    def killed(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        build_class_folder(collection, out, progress=killed)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    build_class_folder(collection, out)
    assert set(contents(out)) == set(PA_FILMS)


def test_build_says_what_is_wrong(collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, message in (
        ({"findings": ["flu"]}, "Unknown finding 'flu'; expected one of normal, covid19"),
        ({"findings": ["covid", "tuberculosis"]}, "no film of tuberculosis with view PA"),
        ({"views": ["lordotic"]}, "view lordotic.* covid19 of view AP"),
        ({"findings": ["normal"], "views": ["AP"]}, "no film of normal with view AP.*2 normal of view PA"),
    ):
        with pytest.raises(ClassFolderError, match=message):
            build_class_folder(collection, out, **options)  # type: ignore[arg-type]
    for source, message in (
        (tmp_path / "nowhere", "There is no"),
        (collection / "images", "neither a data folder with a manifest.csv nor ieee8023's"),
        (tmp_path / "outside.png", "not a zip archive"),
    ):
        with pytest.raises(ClassFolderError, match=message):
            build_class_folder(source, out)
    assert not out.exists()


def data_folder(folder: Path, *rows: tuple[str, str, str, str, str]) -> Path:
    """A data folder of (path, finding, group, view, split)."""
    folder.mkdir()
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for number, (path, finding, group, view, split) in enumerate(rows):
            cells = {"image_id": f"s/{number}", "path": path, "finding": finding, "group_id": group}
            writer.writerow(dict.fromkeys(COLUMNS, "") | cells | {"view": view, "split": split})
            if path != "gone.png" and ".." not in path:
                (folder / path).write_bytes(png(number))
    return folder


def test_build_from_a_data_folder(tmp_path: Path) -> None:
    folder = data_folder(
        tmp_path / "data",
        ("a.png", "covid19", "kermany:P1", "", "train"),
        ("b.png", "covid19", "kermany:P1", "PA", "train"),
        ("c.png", "covid19", "kermany:P2", "AP", "val"),
        ("d.png", "normal", "kermany:P3", "", "test"),
        ("gone.png", "normal", "kermany:P4", "", "train"),
        ("e.png", "normal", "x", "PA", "external"),
        ("f.png", "normal", "x", "", "benchmark"),
    )
    copied = build_class_folder(folder, tmp_path / "out")
    assert contents(tmp_path / "out") == {
        "covid19/kermany_P1__a.png": png(0),
        "covid19/kermany_P1__b.png": png(1),
        "normal/kermany_P3__d.png": png(3),
    }
    assert copied.left_out == {
        "covid19 of view AP": 1,
        "kept for testing (split external or benchmark)": 2,
    }
    assert copied.failures == (("kermany_P4__gone.png", "No such file or directory"),)
    build_class_folder(folder, tmp_path / "pa", views=["PA"])
    assert set(contents(tmp_path / "pa")) == {"covid19/kermany_P1__b.png"}


def test_build_refuses_a_manifest_that_leads_outside(tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "data", ("../outside.png", "covid19", "p", "PA", "train"))
    (tmp_path / "outside.png").write_bytes(png(1))
    with pytest.raises(ManifestError, match="leaves the data folder"):
        build_class_folder(folder, tmp_path / "out")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """30 and 12 films, one of the 12 twice, beside a file that is none."""
    write(
        tmp_path / "set",
        covid={f"p{seed // 3}__{seed}.png": png(seed) for seed in range(30)},
        normal={f"{seed}.png": png(seed) for seed in range(100, 112)},
    )
    return write(tmp_path / "set", normal={"again.png": png(100), "notes.txt": b"x"})


def test_sample_is_balanced_and_reproducible(classes: Path, tmp_path: Path) -> None:
    before = contents(classes)
    copied = sample_class_folder(classes, tmp_path / "one", per_class=10, seed=0)
    drawn = contents(tmp_path / "one")
    assert Counter(name.split("/")[0] for name in drawn) == copied.films == {"covid19": 10, "normal": 10}
    assert copied.left_out == {"covid19 not drawn": 20, "normal not drawn": 2}
    assert {name for name, _ in copied.failures} == {"normal/notes.txt", "normal/again.png"}
    assert contents(classes) == before
    originals = {name.replace("covid/", "covid19/"): data for name, data in before.items()}
    assert drawn.items() <= originals.items()
    assert len(set(drawn.values())) == 20, "no film twice"

    sample_class_folder(classes, tmp_path / "again", per_class=10, seed=0)
    assert contents(tmp_path / "again") == drawn
    sample_class_folder(classes, tmp_path / "other", per_class=10, seed=1)
    assert contents(tmp_path / "other") != drawn
    # Another class in the folder changes nothing for these.
    write(classes, bacterial={f"b{seed}.png": png(seed) for seed in range(200, 210)})
    sample_class_folder(classes, tmp_path / "more", per_class=10, seed=0)
    assert drawn.items() < contents(tmp_path / "more").items()


def test_sample_says_what_is_wrong(classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ClassFolderError, match=r"normal has 12 films.*13 were asked"):
        sample_class_folder(classes, out, per_class=13, seed=0)
    with pytest.raises(ClassFolderError, match="0 films a class"):
        sample_class_folder(classes, out, per_class=0, seed=0)
    with pytest.raises(ClassFolderError, match="seed from 0"):
        sample_class_folder(classes, out, per_class=3, seed=-1)
    with pytest.raises(ClassFolderError, match="would become a class"):
        sample_class_folder(classes, classes / "small", per_class=3, seed=0)
    assert not out.exists()
    shutil.copytree(classes, out)
    before = contents(out)
    with pytest.raises(ClassFolderError, match="already holds covid19, normal"):
        sample_class_folder(classes, out, per_class=3, seed=0)
    assert contents(out) == before
