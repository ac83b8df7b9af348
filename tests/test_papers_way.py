"""Training the papers' way: a folder of classes in; figures, curves and a Keras file out."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from cxrmodels import cli
from cxrmodels.datasets.class_folder import ClassFolder, read_class_folder, split_films, split_folds
from cxrmodels.evaluation.predictions import Evaluation
from cxrmodels.inference import network_input
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import read_radiograph
from cxrmodels.training.films import predict_films
from cxrmodels.training.fit import EpochReport, read_history
from cxrmodels.training.history_plot import plot_history
from cxrmodels.training.machine import Made
from cxrmodels.training.papers import CrossValidation, Trial, cross_validate, paper_recipe, train_on_folder
from cxrmodels.training.recipes import RECIPES
from cxrmodels.zoo import SPECS, ModelError

KEY = "two_conv_cnn"
TINY = paper_recipe(KEY, epochs=2, batch_size=4)
EPOCH = re.compile(
    r"(Fold \d/\d, )?Epoch \d/\d - \d+s - loss: \d+\.\d{4} - accuracy: [01]\.\d{4} - val_loss: \d+\.\d{4} - "
    r"val_accuracy: [01]\.\d{4}"
)


def write_films(folder: Path, names: Sequence[str] = ("covid", "normal"), count: int = 12) -> Path:
    """A class folder of phantoms; every patient has two films, the second half of the patients has no name."""
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            film = phantom("covid19" if place == 0 else "normal", seed=place, index=number, size=64, difficulty=0.1)
            patient = f"{name}{number // 2}__" if number < count // 2 else ""
            (folder / name / f"{patient}{number}.png").write_bytes(film.png())
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("films") / "set")


@pytest.fixture(scope="module")
def dataset(films: Path) -> ClassFolder:
    return read_class_folder(films)


# --- figures ------------------------------------------------------------------------------------------------


def trial(classes: tuple[str, ...], y_true: np.ndarray, y_pred: np.ndarray) -> Trial:
    """A trial of films with these labels and answers, int (N,)."""
    words, numbers = np.full(len(y_true), ""), np.zeros(len(y_true), np.int64)
    evaluation = Evaluation(
        findings=classes,
        image_ids=words,
        sources=words,
        splits=words,
        groups=words,
        labels=np.array(classes)[y_true],
        age_groups=words,
        views=words,
        widths=numbers,
        heights=numbers,
        exposures=numbers,
        logits=np.eye(len(classes), dtype=np.float32)[y_pred],
    )
    return Trial(evaluation, (), Made(0.0, {}, ""))


def drawn(classes: tuple[str, ...], seed: int) -> Trial:
    """A trial that gets about six films in ten right."""
    rng = np.random.default_rng(seed)
    y_true = rng.permutation(np.repeat(np.arange(len(classes)), rng.integers(3, 20, len(classes))))
    guessed = rng.integers(0, len(classes), len(y_true))
    return trial(classes, y_true, np.where(rng.random(len(y_true)) < 0.4, y_true, guessed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [("covid19", "normal"), ("a", "b"), ("covid19", "normal", "x y"), tuple("abcde")])
def test_figures_are_scikit_learns(classes: tuple[str, ...], seed: int) -> None:
    one = drawn(classes, seed)
    y_true, y_pred = one.evaluation.y_true(), one.y_pred
    recall = metrics.recall_score(y_true, y_pred, average=None)
    # Specificity is the recall of "not this class".
    specificity = [metrics.recall_score(y_true != label, y_pred != label) for label in range(len(classes))]
    np.testing.assert_allclose(one.sensitivities(), recall)
    np.testing.assert_allclose(one.specificities(), specificity)
    np.testing.assert_array_equal(one.confusion, metrics.confusion_matrix(y_true, y_pred))
    figures = one.figures()
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(y_true, y_pred))
    lines = one.lines()
    if len(classes) == 2:
        positive = 0 if "covid19" in classes else 1
        assert one.positive == positive
        expected = recall[positive], specificity[positive]
        assert f"sensitivity: {expected[0]:.4f} (positive: {classes[positive]})" in lines
    else:
        assert one.positive is None
        expected = np.mean(recall), np.mean(specificity)
        for name, sensitivity, other in zip(classes, recall, specificity, strict=True):
            assert f"{name}: sensitivity {sensitivity:.4f}, specificity {other:.4f}" in lines
    assert (figures["sensitivity"], figures["specificity"]) == pytest.approx(expected)
    precision, _, f1, support = metrics.precision_recall_fscore_support(y_true, y_pred, zero_division=0)
    for row in zip(classes, precision, recall, f1, support, strict=True):
        name, *numbers, films = row
        assert any(
            line.split() == [*name.split(), *(f"{number:.4f}" for number in numbers), str(films)] for line in lines
        )
    for name, counts in zip(classes, one.confusion, strict=True):
        assert any(line.split() == [*name.split(), *map(str, counts)] for line in lines)


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (("covid19", "normal"), "covid19"),
        (("covid19", "non_covid19"), "covid19"),
        (("No COVID", "sick COVID"), "sick COVID"),
        (("COVID severe", "healthy lungs"), "COVID severe"),
        (("covid mild", "covid severe"), "covid severe"),
        (("cats", "dogs"), "dogs"),
    ],
)
def test_the_positive_class_is_the_covid_one(classes: tuple[str, str], positive: str) -> None:
    one = trial(classes, np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    assert one.positive is not None
    assert classes[one.positive] == positive


def test_spread_over_folds() -> None:
    folds = [drawn(("covid19", "normal"), seed) for seed in range(4)]
    result = CrossValidation(tuple(folds))
    values = [[fold.figures()[name] for fold in folds] for name in result.spread()]
    assert list(result.spread()) == ["accuracy", "sensitivity", "specificity"]
    for (mean, deviation), each in zip(result.spread().values(), values, strict=True):
        assert mean == pytest.approx(sum(each) / 4)
        assert deviation == pytest.approx((sum((value - mean) ** 2 for value in each) / 3) ** 0.5)
        assert deviation > 0
    lines = result.lines()
    assert [line for line in lines if line.startswith("Fold ")] == [f"Fold {number}/4" for number in (1, 2, 3, 4)]
    mean, deviation = result.spread()["sensitivity"]
    assert f"sensitivity: {mean:.4f}, {deviation:.4f}" in lines[-3:]


# --- recipe -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SPECS)
def test_the_papers_train_at_full_size(key: str) -> None:
    recipe = paper_recipe(key)
    assert [(stage.size, stage.epochs) for stage in recipe.stages] == [(SPECS[key].input_size, 25)]
    assert recipe.stages[0].learning_rate == RECIPES[key].stages[0].learning_rate
    assert (recipe.batch_size, recipe.optimizer) == (8, RECIPES[key].optimizer)
    asked = paper_recipe(key, epochs=3, batch_size=16, learning_rate=1e-5)
    assert (asked.stages[0].epochs, asked.batch_size, asked.stages[0].learning_rate) == (3, 16, 1e-5)


@pytest.mark.parametrize(
    "numbers", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}]
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected 1 or more epochs"):
        paper_recipe(KEY, **numbers)
    with pytest.raises(ModelError, match="Unknown model"):
        paper_recipe("no_such_model")


# --- one training -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def straight(dataset: ClassFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, list[str], Path]:
    """A training left in peace: its trial, what it reported, the folder it wrote to."""
    out = tmp_path_factory.mktemp("straight")
    lines: list[str] = []
    done = train_on_folder(
        KEY,
        dataset,
        TINY,
        seed=3,
        work=out / "work",
        report=lines.append,
        plot=out / "history.png",
        model=out / "out.keras",
    )
    return done, lines, out


def test_the_file_gives_the_answers_that_were_measured(
    straight: tuple[Trial, list[str], Path], dataset: ClassFolder
) -> None:
    done, lines, out = straight
    assert {path.name for path in out.iterdir()} == {"history.png", "out.keras"}, "nothing is left in the work folder"
    assert [bool(EPOCH.fullmatch(line)) for line in lines] == [True, True, False]
    assert "logits in this order: covid19, normal" in lines[2]

    tested = set(done.evaluation.image_ids)
    shown = [film for film in dataset.films if film.image_id in tested]
    assert 4 <= len(shown) <= 6
    network = keras.saving.load_model(out / "out.keras")
    inputs = [network_input(read_radiograph(film.path.read_bytes()), SPECS[KEY]) for film in shown]
    logits = np.asarray(network.predict_on_batch(np.stack(inputs)))
    np.testing.assert_allclose(done.evaluation.logits, logits, atol=1e-5)
    answers = [done.classes[position] for position in logits.argmax(1)]
    truth = [film.finding for film in shown]
    assert done.figures()["accuracy"] == pytest.approx(metrics.accuracy_score(truth, answers))
    assert done.figures()["sensitivity"] == pytest.approx(metrics.recall_score(truth, answers, pos_label="covid19"))
    assert done.figures()["specificity"] == pytest.approx(metrics.recall_score(truth, answers, pos_label="normal"))
    report = metrics.classification_report(truth, answers, digits=4, zero_division=0)
    assert "\n".join(done.lines()).startswith(report.rstrip())


def test_the_network_kept_is_that_of_the_least_validation_loss(
    straight: tuple[Trial, list[str], Path], dataset: ClassFolder
) -> None:
    done, lines, out = straight
    assert [epoch.epoch for epoch in done.history] == [1, 2]
    for epoch, line in zip(done.history, lines, strict=False):
        assert line.endswith(
            f"loss: {epoch.training_loss:.4f} - accuracy: {epoch.training_accuracy:.4f} - "
            f"val_loss: {epoch.validation_loss:.4f} - val_accuracy: {epoch.validation_accuracy:.4f}"
        )
    validation = [film for film in split_films(dataset.films, seed=3) if film.split == "val"]
    network = keras.saving.load_model(out / "out.keras")
    answers = predict_films(network, replace(SPECS[KEY], findings=dataset.classes), validation)
    weights = 1 / np.bincount(answers.y_true())[answers.y_true()]
    loss = metrics.log_loss(answers.y_true(), answers.probabilities(), sample_weight=weights)
    assert loss == pytest.approx(min(epoch.validation_loss for epoch in done.history), abs=2e-3)


def killer(after: int) -> Callable[[str], None]:
    """Reports until the line number `after`, then kills."""
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        if len(lines) == after:
            raise KeyboardInterrupt

    return report


def test_killed_it_goes_on(
    straight: tuple[Trial, list[str], Path],
    dataset: ClassFolder,
    tmp_path: Path,
) -> None:
    work = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        train_on_folder(KEY, dataset, TINY, seed=3, work=work, report=killer(1))
    assert len(read_history(work / "split")) == 1
    with pytest.raises(ValueError, match="another recipe, seed or data"):
        train_on_folder(KEY, dataset, TINY, seed=4, work=work, report=killer(0))
    lines: list[str] = []
    done = train_on_folder(KEY, dataset, TINY, seed=3, work=work, report=lines.append)
    expected, _, _ = straight
    assert len(lines) == 1
    assert "Epoch 2/2" in lines[0]
    assert [epoch.epoch for epoch in done.history] == [1, 2]
    for found, left_in_peace in zip(done.history, expected.history, strict=True):
        assert found.validation_loss == pytest.approx(left_in_peace.validation_loss, abs=1e-5)
    np.testing.assert_allclose(done.evaluation.logits, expected.evaluation.logits, atol=1e-5)
    np.testing.assert_array_equal(done.evaluation.image_ids, expected.evaluation.image_ids)
    assert not work.exists()


def test_a_checkpoint_without_history_and_a_stranger_in_the_folder(dataset: ClassFolder, tmp_path: Path) -> None:
    """A training begun before epochs were kept with the state goes on all the same; other files stay."""
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(KeyboardInterrupt):
        train_on_folder(KEY, dataset, TINY, seed=3, work=tmp_path, report=killer(1))
    (tmp_path / "split" / "mine.keras").write_text("x")
    path = tmp_path / "split" / "state.json"
    state = json.loads(path.read_text())
    del state["history"]
    path.write_text(json.dumps(state))
    assert read_history(tmp_path / "split") == ()
    done = train_on_folder(KEY, dataset, TINY, seed=3, work=tmp_path, report=lambda line: None)
    assert [epoch.epoch for epoch in done.history] == [2]
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"mine.txt", "split", "split/mine.keras"}


def test_what_cannot_end_well_is_told_before_it_starts(dataset: ClassFolder, tmp_path: Path) -> None:
    def attempt(**changes: Any) -> None:
        options: dict[str, Any] = {"dataset": dataset, "recipe": TINY, "seed": 0, "work": tmp_path / "work"}
        train_on_folder(KEY, **options | changes, report=killer(1))

    for changes, message in (
        ({"plot": tmp_path / "history.jpg"}, r"expected a name ending in \.png"),
        ({"plot": tmp_path / "none" / "history.png"}, "in a folder that exists"),
        ({"model": tmp_path / "out.h5"}, r"expected a name ending in \.keras"),
        ({"recipe": paper_recipe(KEY, batch_size=16)}, "1[4-6] training films do not fill one batch of 16"),
    ):
        with pytest.raises(ValueError, match=message):
            attempt(**changes)
    three = read_class_folder(write_films(tmp_path / "three", ("covid", "normal", "virus"), 6))
    with pytest.raises(ValueError, match="answers 2 findings; got 3"):
        attempt(dataset=three)


# --- folds --------------------------------------------------------------------------------------------------


def test_folds_go_on_after_a_kill_and_test_every_film_once(dataset: ClassFolder, tmp_path: Path) -> None:
    once = paper_recipe(KEY, epochs=1, batch_size=4)
    work = tmp_path / "work"

    def run(report: Callable[[str], None]) -> CrossValidation:
        return cross_validate(KEY, dataset, once, 3, seed=1, work=work, report=report, plot=tmp_path / "folds.png")

    # Fold 1: an epoch and its figures; fold 2: an epoch.
    with pytest.raises(KeyboardInterrupt):
        run(killer(3))
    assert {path.name for path in work.iterdir()} == {"fold-1-of-3", "fold-2-of-3"}
    lines: list[str] = []
    result = run(lines.append)
    assert [line[:14] for line in lines] == [*("Fold 1/3, accu", "Fold 2/3, accu", "Fold 3/3, Epoc", "Fold 3/3, accu")]
    assert EPOCH.fullmatch(lines[2])
    assert not work.exists()
    assert (tmp_path / "folds.png").is_file()

    tested = [image_id for one in result.trials for image_id in one.evaluation.image_ids]
    assert sorted(tested) == sorted(film.image_id for film in dataset.films)
    home: dict[str, set[int]] = {}
    for number, one in enumerate(result.trials):
        for group in one.evaluation.groups:
            home.setdefault(group, set()).add(number)
    assert all(len(folds) == 1 for folds in home.values())
    assert {"covid0", "normal2"} <= set(home)
    for one, films in zip(result.trials, split_folds(dataset.films, 3, seed=1), strict=True):
        assert list(one.evaluation.image_ids) == [film.image_id for film in films if film.split == "test"]
        assert len(one.history) == 1


# --- the plot -----------------------------------------------------------------------------------------------


def pixels(path: Path) -> tuple[tuple[int, int], Counter[tuple[int, ...]]]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        rgb = picture.convert("RGB")
        return rgb.size, Counter(map(tuple, np.asarray(rgb).reshape(-1, 3).tolist()))


def test_the_plot_shows_both_curves_of_both_figures(tmp_path: Path) -> None:
    def curves(*losses: float) -> list[EpochReport]:
        return [EpochReport(0, n, len(losses), loss, 1 - loss, 2 * loss, 0.5, 1.0) for n, loss in enumerate(losses, 1)]

    one, two = curves(0.9, 0.5, 0.4, 0.2), curves(0.8, 0.1)
    plot_history([one], tmp_path / "one.png", "A $title")
    size, colours = pixels(tmp_path / "one.png")
    assert size == (1500, 600)
    blue, vermilion = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    assert min(colours[blue], colours[vermilion]) > 300
    for place, name in (("left half", (0, 750)), ("right half", (750, 1500))):
        with Image.open(tmp_path / "one.png") as picture:
            half = np.asarray(picture.convert("RGB"))[:, slice(*name)].reshape(-1, 3)
        assert all((half == colour).all(1).any() for colour in (blue, vermilion)), place
    # Another course is another picture, and folds are drawn over each other.
    plot_history([two], tmp_path / "two.png", "A $title")
    plot_history([one, two], tmp_path / "both.png", "A $title")
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in ("one", "two", "both")}) == 3


# --- the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command; gives its exit status, standard output and standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse leaves on wrong usage
            status = leaving.code if isinstance(leaving.code, int) else 1
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


def test_command_trains_on_a_folder(run: Any, films: Path, tmp_path: Path) -> None:
    arguments = ("--epochs", "1", "--batch-size", "4", "--learning-rate", "0.001", "--seed", "3")
    files = ("--plot", tmp_path / "history.png", "--model", tmp_path / "out.keras", "--work", tmp_path / "work")
    status, out, err = run("train", KEY, "--dataset", films, *arguments, *files)
    assert status == 0, err
    assert "covid19: 12 films, normal: 12 films" in err
    assert sum(bool(EPOCH.fullmatch(line)) for line in err.splitlines()) == 1
    for word in ("precision", "f1-score", "support", "Confusion matrix", "accuracy: ", "specificity: "):
        assert word in out
    assert "(positive: covid19)" in out
    assert {path.name for path in tmp_path.iterdir()} == {"history.png", "out.keras"}


def test_command_cross_validates(run: Any, films: Path, tmp_path: Path) -> None:
    status, out, err = run(
        *("train", KEY, "--dataset", films, "--folds", "2", "--epochs", "1", "--batch-size", "4"),
        *("--work", tmp_path / "work"),
    )
    assert status == 0, err
    assert sum(bool(EPOCH.fullmatch(line)) for line in err.splitlines()) == 2
    assert out.count("Confusion matrix") == 2
    assert "Mean over 2 folds, standard deviation" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--folds", "2", "--model", "out.keras"), 2, "--folds"),
        (("--data", "somewhere"), 2, "--dataset"),
        (("--output", "somewhere"), 2, "--dataset"),
        (("--folds", "1"), 1, "2 or more"),
        (("--epochs", "0"), 1, "1 or more epochs"),
        (("--plot", "history.jpg"), 1, ".png"),
        (("--epochs", "many"), 2, "invalid int"),
    ],
)
def test_command_refuses(
    run: Any, films: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    found, out, err = run("train", KEY, "--dataset", films, "--work", tmp_path / "work", *arguments)
    assert (found, out) == (status, "")
    assert message in err


def test_command_needs_a_folder_for_the_papers_options(run: Any, tmp_path: Path) -> None:
    for option in (("--plot", "x.png"), ("--model", "x.keras"), ("--folds", "3"), ("--epochs", "2")):
        status, _, err = run("train", KEY, "--data", tmp_path, *option)
        assert status == 2
        assert option[0] in err
        assert "--dataset" in err


def test_commands_make_class_folders(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = tmp_path / "covid-chestxray-dataset"
    (collection / "images").mkdir(parents=True)
    rows = ["patientid,finding,view,modality,filename"]
    for number in range(6):
        finding, word = ("covid19", "Pneumonia/Viral/COVID-19") if number % 2 else ("normal", "No Finding")
        picture = phantom(finding, seed=4, index=number, size=64).png()
        (collection / "images" / f"{number}.png").write_bytes(picture)
        rows.append(f"p{number},{word},{'AP' if number == 5 else 'PA'},X-ray,{number}.png")
    (collection / "metadata.csv").write_text("\n".join(rows) + "\n")

    status, out, _ = run("data", "build", tmp_path / "set", "--data", collection)
    assert status == 0
    assert "covid19: 2 films, normal: 3 films" in out
    assert "covid19 of view AP" in out
    status, _, _ = run("data", "build", tmp_path / "any", "--data", collection, "--finding", "covid", "--view", "PA,AP")
    assert status == 0
    assert {path.name for path in (tmp_path / "any").rglob("*.png")} == {"p1__1.png", "p3__3.png", "p5__5.png"}
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    status, _, err = run("data", "build", tmp_path / "none")
    assert status == 1
    assert "CXRMODELS_DATA" in err

    status, out, _ = run("data", "sample", tmp_path / "set", tmp_path / "small", "--per-class", "2", "--seed", "5")
    assert status == 0
    assert "covid19: 2 films, normal: 2 films" in out
    assert len(list((tmp_path / "small").rglob("*.png"))) == 4
    status, _, err = run("data", "sample", tmp_path / "set", tmp_path / "large")
    assert status == 1
    assert "25 were asked for" in err
