"""The five-fold comparison with DarkCovidNet's paper: who stands on which side, what is kept, what is said of it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cxrmodels import cli, zoo
from cxrmodels.datasets.class_folder import ClassFolderError, split_fold
from cxrmodels.datasets.manifest import COLUMNS, DATA_VARIABLE, ManifestError, read_manifest
from cxrmodels.evaluation.fivefold import (
    CLASSES,
    FOLDS,
    PAPER_ACCURACY,
    FiveFold,
    kept_fivefolds,
    read_fivefold,
    split_patients,
)
from cxrmodels.evaluation.predictions import PredictionsError
from cxrmodels.networks import NETWORKS
from cxrmodels.phantom import phantom
from cxrmodels.preprocessing import PREPROCESSING
from cxrmodels.training.deep_features import FeaturePlan, fit_machine
from cxrmodels.training.fivefold import PLANS, NetworkPlan, run_fivefold
from cxrmodels.training.recipes import FRESH, IMAGENET, Recipe, Stage
from cxrmodels.zoo import ModelSpec

PATIENTS, FILMS_A_PATIENT = 3, 2
"""Of each class in each fold."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of phantoms: the comparison's films in five folds, and the collection that its COVID-19 films
    come from. By its list, the first patients of folds 0 and 1 are one person."""
    folder = tmp_path_factory.mktemp("films")
    rows: list[dict[str, str]] = []

    def add(name: str, source: str, finding: str, group: str, split: str, fold: str = "") -> None:
        path = folder / "images" / source / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = phantom(finding, seed=1, index=len(rows), size=64, difficulty=0.1).pixels
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)
        told = {
            "image_id": f"{source}/{name}",
            "path": path.relative_to(folder).as_posix(),
            "source": source,
            "finding": finding,
            "group_id": f"{source}:{group}",
            "age_group": "adult",
            "split": split,
            "fold": fold,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        }
        rows.append(dict.fromkeys(COLUMNS, "") | told)

    for fold in FOLDS:
        for finding in ("normal", "covid19", "bacterial_pneumonia"):
            for patient in range(PATIENTS):
                for film in range(FILMS_A_PATIENT):
                    prefix = "Covid-19-" if finding == "covid19" else ""
                    name = f"{finding}{fold}{patient}"
                    add(f"{prefix}{name}-{film}", "darkcovidnet", finding, name, "benchmark", fold)
                    if finding == "covid19":
                        person = "same" if fold in ("0", "1") and patient == 0 else name
                        add(f"{name}-{film}", "ieee8023", finding, person, "external")
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder


TINY = NetworkPlan(
    title="Tiny",
    network="two_conv_cnn",
    recipe=Recipe((Stage(64, 1, 1e-3),), batch_size=4),
    departures="It is tiny.",
)
SEEN = FeaturePlan(
    title="Seen",
    network="mobilenet_v1",
    blocks=("conv_pw_3_act", "conv_pw_7_act"),
    film_size=64,
    departures="It learns nothing.",
    penalties=(1.0, 10.0),
    gammas=(0.1, 1.0),
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> NetworkPlan:
    monkeypatch.setitem(PLANS, "tiny", TINY)
    return TINY


def test_a_fold_is_tested_on_and_chooses_nothing(data: Path) -> None:
    films = [film for film in read_manifest(data) if film.split == "benchmark"]
    for fold in FOLDS:
        dealt = split_fold(films, fold, seed=3, validation=1 / 8)
        assert [film.image_id for film in dealt] == [film.image_id for film in films]
        assert {film.image_id for film in dealt if film.split == "test"} == {
            film.image_id for film in films if film.fold == fold
        }
        sides: dict[str, set[str]] = {}
        for film in dealt:
            sides.setdefault(film.group_id, set()).add(film.split)
        assert all(len(side) == 1 for side in sides.values()), "a patient on two sides"
        for split in ("train", "val"):
            assert {film.finding for film in dealt if film.split == split} == {film.finding for film in films}
    with pytest.raises(ClassFolderError, match="too few patients"):
        split_fold(
            [film for film in films if film.fold in "01" and film.group_id[-1] == "0"], "0", seed=0, validation=0.2
        )


def test_patients_that_stand_in_two_folds_are_named(data: Path) -> None:
    films = read_manifest(data)
    assert set(split_patients(films)) == {
        f"darkcovidnet/Covid-19-covid19{fold}0-{film}" for fold in "01" for film in range(FILMS_A_PATIENT)
    }
    assert split_patients(tuple(film for film in films if film.source != "ieee8023")) == ()


def run(name: str, data: Path, folder: Path, *, kill_after: int = 0) -> FiveFold:
    told: list[str] = []

    def report(line: str) -> None:
        told.append(line)
        if len(told) == kill_after:
            raise KeyboardInterrupt

    return run_fivefold(name, 2, data=data, weights=folder / "weights", work=folder / "work", seed=1, report=report)


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FiveFold, Path]:
    """A comparison left in peace, and the weights folder that has it."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PLANS, "tiny", TINY)
        return run("tiny", data, folder), folder / "weights"


def test_killed_it_goes_on_and_every_film_is_answered_once(
    data: Path, tiny: NetworkPlan, straight: tuple[FiveFold, Path], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run("tiny", data, tmp_path, kill_after=4)  # its plan, an epoch and its fold's figures, the next fold's epoch
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"fold-0", "fold-1"}
    assert not (tmp_path / "weights").exists()
    result = run("tiny", data, tmp_path)
    assert not (tmp_path / "work").exists(), "nothing is left behind"
    np.testing.assert_allclose(result.evaluation.logits, straight[0].evaluation.logits, atol=1e-3)

    films = [film for film in read_manifest(data) if film.split == "benchmark" and film.finding in CLASSES[2]]
    folds = {film.image_id: f"fold {film.fold}" for film in films}
    assert dict(zip(result.evaluation.image_ids, result.evaluation.splits, strict=True)) == folds
    assert len(result.evaluation) == len(films)
    assert result.facts.settings == asdict(tiny)
    assert result.facts.chosen == ("epoch 1",) * 5

    back = read_fivefold("tiny", 2, tmp_path / "weights")
    assert back.lines() == result.lines()
    assert [kept.facts.name for kept in kept_fivefolds(tmp_path / "weights")] == ["tiny"]


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of random weights: ImageNet's are not everywhere."""

    def fresh(spec: ModelSpec, init: str) -> Callable[[keras.Model], object]:
        assert init == IMAGENET
        keras.utils.set_random_seed(5)
        return lambda network: None

    monkeypatch.setattr("cxrmodels.training.deep_features.first_weights", fresh)
    monkeypatch.setitem(PLANS, "seen", SEEN)


@pytest.mark.usefixtures("untrained")
def test_features_and_a_machine_answer_films_that_nothing_was_told_of(data: Path, tmp_path: Path) -> None:
    result = run("seen", data, tmp_path)
    assert result.facts.settings == asdict(SEEN)
    assert len(result.facts.chosen) == 5
    assert all(re.fullmatch(r"C (1|10), gamma (0\.1|1)", chosen) for chosen in result.facts.chosen)
    assert result.fold_accuracies().mean() > 0.7, "phantoms are told apart even by what no film has taught"
    back = read_fivefold("seen", 2, tmp_path / "weights")
    assert back.lines() == result.lines()

    films = tuple(film for film in read_manifest(data) if film.split == "benchmark" and film.finding in CLASSES[2])
    spec = SEEN.spec("seen", CLASSES[2])
    # Were the answers on fold 0 other ones if its own films said the opposite?
    other = {"normal": "covid19", "covid19": "normal"}
    turned = [replace(film, finding=other[film.finding]) if film.fold == "0" else film for film in films]
    told: list[str] = []
    straight, twisted = (
        next(SEEN.learn(spec, dealt, seed=0, work=tmp_path, report=told.append))[0].evaluation.logits
        for dealt in (films, turned)
    )
    np.testing.assert_array_equal(straight, twisted)
    assert told == [f"{len(films)} films are looked at, 64 px a side"] * 2


def test_a_machine_is_scikit_learns_on_standardised_features() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 60)
    films = rng.normal(size=(60, 7)) * 5 + 3 * labels[:, None] + np.arange(7)
    seen = np.stack([films, films + rng.normal(size=films.shape)], axis=1)
    folds = np.array([str(number % 3) for number in range(60)])
    machine = fit_machine(seen, labels, folds, penalties=(0.01, 2.0), gammas=(0.5,))
    assert machine.chosen == "C 2, gamma 0.5", "the other penalty hardly looks at the films"
    oracle = make_pipeline(StandardScaler(), SVC(C=2.0, gamma=0.5 / 7)).fit(seen.reshape(-1, 7), np.repeat(labels, 2))
    asked = rng.normal(size=(9, 2, 7)) * 8
    logits = machine.logits(asked)
    margins = np.mean([oracle.decision_function(asked[:, side]) for side in (0, 1)], axis=0)
    np.testing.assert_allclose(logits, margins * (logits[0, 0] / margins[0, 0]), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(machine.logits(asked[:, ::-1]), logits, rtol=1e-5)

    two = fit_machine(seen[labels < 2], labels[labels < 2], folds[labels < 2], penalties=(2.0,), gammas=(0.5,))
    called = two.logits(seen[labels < 2]).argmax(1)
    assert two.logits(asked).shape == (9, 2)
    assert accuracy_score(labels[labels < 2], called) > 0.9


def test_a_result_that_cannot_be_written_loses_no_training(data: Path, tiny: NetworkPlan, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("no folder")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        run("tiny", data, tmp_path)
    assert {path.name for path in (tmp_path / "work").iterdir()} == {f"fold-{fold}" for fold in FOLDS}


def test_what_is_kept_and_damaged_is_not_shown(straight: tuple[FiveFold, Path], tmp_path: Path) -> None:
    shutil.copytree(straight[1], tmp_path / "weights")
    home = tmp_path / "weights" / "benchmark"
    facts = home / "tiny-2.json"
    whole = facts.read_text()
    for text in ("", "[]", json.dumps({"name": "tiny"}), whole.replace('"seed"', '"sead"')):
        facts.write_text(text)
        with pytest.raises(PredictionsError, match="fivefold tiny --classes 2"):
            read_fivefold("tiny", 2, tmp_path / "weights")
    facts.write_text(whole)
    (home / "tiny-2.csv.gz").write_bytes(b"anything")
    with pytest.raises(PredictionsError, match="damaged"):
        read_fivefold("tiny", 2, tmp_path / "weights")


def test_a_folder_without_the_folds_is_refused(data: Path, tiny: NetworkPlan, tmp_path: Path) -> None:
    rows = list(csv.DictReader((data / "manifest.csv").read_text().splitlines()))
    with (tmp_path / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(row for row in rows if row["fold"] != "3")
    with pytest.raises(ManifestError, match="in fold 3"):
        run("tiny", tmp_path, tmp_path)


def test_commands(
    data: Path,
    straight: tuple[FiveFold, Path],
    tiny: NetworkPlan,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(data))
    place = ["--output", str(tmp_path / "weights"), "--work", str(tmp_path / "work")]
    assert cli.main(["fivefold", "tiny", "--show", *place]) == 2
    assert "No such comparison" in capsys.readouterr().err
    assert cli.main(["fivefold", "nothing", *place]) == 2
    assert "expected one of darkcovidnet, ours" in capsys.readouterr().err
    monkeypatch.setattr("cxrmodels.training.fivefold.run_fivefold", lambda *words, **options: straight[0])
    assert cli.main(["fivefold", "tiny", "--classes", "2", *place]) == 0
    made = capsys.readouterr()
    assert cli.main(["fivefold", "--show", "--output", str(straight[1])]) == 0
    assert capsys.readouterr().out == made.out


@pytest.mark.parametrize("name", PLANS)
def test_plans_start_from_nothing_that_has_seen_the_films(name: str) -> None:
    plan = PLANS[name]
    assert plan.network in NETWORKS
    assert plan.preprocessing in PREPROCESSING
    if isinstance(plan, NetworkPlan):
        assert plan.recipe.init in (FRESH, IMAGENET)


KEPT = [
    pytest.param(path.stem.rpartition("-")[0], int(path.stem.rpartition("-")[2]))
    for path in sorted((zoo.weights_folder() / "benchmark").glob("*.json"))
] or [pytest.param("", 0, marks=pytest.mark.skip("No five-fold comparison is in weights/benchmark yet."))]


@pytest.mark.parametrize(("name", "classes"), KEPT)
def test_figures_follow_from_the_stored_answers(name: str, classes: int) -> None:
    """By scikit-learn, and read without the library."""
    result = read_fivefold(name, classes, zoo.weights_folder())
    with gzip.open(zoo.weights_folder() / "benchmark" / f"{name}-{classes}.csv.gz", "rt", newline="") as stream:
        rows = list(csv.DictReader(stream))
    findings = CLASSES[classes]
    true = [row["finding"] for row in rows]
    called = [max(findings, key=lambda finding: float(row[f"logit_{finding}"])) for row in rows]
    accuracy = result.figures.estimates["accuracy"]
    assert accuracy is not None
    assert accuracy.value == pytest.approx(accuracy_score(true, called), abs=1e-4)
    assert accuracy.low < accuracy.value < accuracy.high
    np.testing.assert_array_equal(result.figures.confusion, confusion_matrix(true, called, labels=findings))
    recall = recall_score(true, called, labels=findings, average=None)
    found = [value for value, _, _ in result.sensitivities().values()]
    np.testing.assert_allclose(found, recall, atol=1e-4)
    text = "\n".join(result.lines())
    assert f"accuracy {accuracy.value:.4f}" in text
    assert f"the paper's: {PAPER_ACCURACY[classes]:.4f}" in text
    assert len({row["image_id"] for row in rows}) == len(rows) == result.figures.films
    assert {row["split"] for row in rows} == {f"fold {fold}" for fold in FOLDS}


def test_the_page_on_training_gives_the_kept_figures() -> None:
    page = (zoo.weights_folder().parent / "docs" / "training.md").read_text(encoding="utf-8")
    names = sorted({kept.facts.name for kept in kept_fivefolds()})
    assert names == sorted(PLANS)
    for name in names:
        means = [
            100 * read_fivefold(name, classes, zoo.weights_folder()).fold_accuracies().mean() for classes in CLASSES
        ]
        assert f"| `{name}`, folds by patient | {' | '.join(f'{mean:.1f} %' for mean in means)} |" in page


@pytest.mark.parametrize(("name", "classes"), KEPT)
def test_answers_are_on_the_manifests_films(name: str, classes: int, data_dir: Path) -> None:
    result = read_fivefold(name, classes, zoo.weights_folder())
    films = {
        film.image_id: film
        for film in read_manifest(data_dir)
        if film.split == "benchmark" and film.finding in CLASSES[classes]
    }
    assert sorted(result.evaluation.image_ids) == sorted(films)
    folds = [f"fold {films[image_id].fold}" for image_id in result.evaluation.image_ids]
    assert result.evaluation.splits.tolist() == folds
    assert set(result.facts.split_patients) == set(split_patients(read_manifest(data_dir)))
