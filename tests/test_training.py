"""Training: what augmentation may do, what an epoch holds, and a small fit from films on disk to a served model."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cxrmodels import zoo
from cxrmodels.datasets.manifest import COLUMNS, Film, data_hash, read_manifest
from cxrmodels.evaluation.cards import describe, recompute
from cxrmodels.evaluation.predictions import read_predictions
from cxrmodels.inference import network_input
from cxrmodels.networks import NORMALISED, build, folded
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import read_radiograph
from cxrmodels.training import ship
from cxrmodels.training.augment import AUGMENTATIONS, augment, augment_with_mask
from cxrmodels.training.films import (
    LabelledFilms,
    TrainingBatches,
    answerable,
    balanced_order,
    load_films,
    predict_films,
)
from cxrmodels.training.fit import EpochReport, fit, validate
from cxrmodels.training.initial import carry_weights
from cxrmodels.training.machine import device, devices, versions
from cxrmodels.training.offsets import add_offsets
from cxrmodels.training.recipes import RECIPES, Recipe, Stage
from cxrmodels.zoo import CARD_FILE, PREDICTIONS_FILE, SPECS, WEIGHTS_FILE, WEIGHTS_VARIABLE

Bytes = NDArray[np.uint8]


# -------------------------------------------------------------------------------------------------- augmentation
def grey(size: int = 96) -> Bytes:
    """A phantom with a marker beside one shoulder, as real films have: nothing like its own mirror."""
    film = np.rint(phantom("bacterial_pneumonia", seed=5, size=96, difficulty=0.1).pixels * 255).astype(np.uint8)
    film[8:24, 6:20] = 255
    return np.asarray(Image.fromarray(film).resize((size, size)))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [64, 97, 224])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_augmented_film_is_a_film(size: int, strength: float, name: str) -> None:
    film = grey(size)
    before = film.copy()
    augment = AUGMENTATIONS[name]
    for seed in range(20):
        changed = augment(film, strength, np.random.default_rng(seed))
        assert changed.dtype == np.uint8
        assert changed.shape == (size, size)
        assert np.ptp(changed) > 60, "the film was wiped out"
        np.testing.assert_array_equal(changed, augment(film, strength, np.random.default_rng(seed)))
    np.testing.assert_array_equal(film, before)


def test_strength_is_how_far_it_goes() -> None:
    film = grey().astype(int)

    def distance(strength: float) -> float:
        draws = [augment(grey(), strength, np.random.default_rng(seed)).astype(int) for seed in range(30)]
        return float(np.mean([np.abs(draw - film).mean() for draw in draws]))

    nothing, some, all_of_it = map(distance, (0.0, 0.4, 1.0))
    assert nothing < 1.5, "strength 0 leaves the film as it is, but for rounding"
    assert nothing < some < all_of_it
    assert len({augment(grey(), 0.5, np.random.default_rng(seed)).tobytes() for seed in range(10)}) == 10


def test_mask_moves_with_its_film() -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[30:60, 20:50] = 255
    for seed in range(20):
        # The film is its own mask: wherever its greys may go, they go to the same place.
        film, moved = augment_with_mask(mask, mask, 0.3, np.random.default_rng(seed))
        assert np.corrcoef(film.ravel(), moved.ravel())[0, 1] > 0.8


def test_reframed_films_show_more_or_less_of_the_body() -> None:
    """The part of a film that a body fills varies more, both ways, than where films are only moved."""
    film = np.full((96, 96), 30, np.uint8)
    film[14:82, 14:82] = 200
    shares: dict[str, tuple[float, float]] = {}
    for name in ("restyle", "reframe"):
        drawn = [AUGMENTATIONS[name](film, 1.0, np.random.default_rng(seed)) for seed in range(200)]
        # Whatever the greys have become, the body is brighter than what is around it.
        found = [float((one > (int(one.max()) + int(one.min())) / 2).mean()) for one in drawn]
        low, high = np.percentile(found, (5, 95))
        shares[name] = (float(low), float(high))
    (near, far), (nearest, farthest) = shares["restyle"], shares["reframe"]
    assert nearest < 0.7 * near
    assert farthest > 1.05 * far


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_never_mirrors(name: str) -> None:
    """A mirrored chest has its heart on the wrong side: another anatomy, and one that patients do have.

    The film is brighter to the right all over, so that no permitted turn or shift comes near its mirror.
    """
    film = np.tile(np.linspace(20, 220, 96).astype(np.uint8), (96, 1))
    middle = slice(24, 72)  # what comes in from outside the film is black and says nothing
    for seed in range(300):
        changed = AUGMENTATIONS[name](film, 1.0, np.random.default_rng(seed))[middle, middle]
        assert np.corrcoef(changed.ravel(), film[middle, middle].ravel())[0, 1] > 0.3, f"seed {seed}"


# ----------------------------------------------------------------------------------------------------- an epoch
LABELS: dict[str, list[int]] = {
    "alike": [30, 30, 30],
    "one large": [100, 7, 3],
    "one film": [50, 1],
    "one class": [12],
    "not to be divided": [17, 5, 6, 3],
}


@pytest.mark.parametrize("name", LABELS)
def test_every_class_comes_equally_often(name: str) -> None:
    counts = LABELS[name]
    labels = np.repeat(np.arange(len(counts)), counts)
    order = balanced_order(labels, np.random.default_rng(0))
    assert len(order) == len(labels)
    drawn = np.bincount(labels[order], minlength=len(counts))
    assert drawn.max() - drawn.min() <= len(counts), "cut to length after shuffling, so not always exactly alike"
    times = Counter(order.tolist())
    for label, share in enumerate(drawn):
        each = [times[film] for film in np.flatnonzero(labels == label)]
        assert max(each) <= -(-share // counts[label]) + 1
        if share <= counts[label]:
            assert max(each) == 1, "no film twice while others wait"
    np.testing.assert_array_equal(order, balanced_order(labels, np.random.default_rng(0)))
    if len(labels) > 12:
        assert (order != balanced_order(labels, np.random.default_rng(1))).any()


def test_sources_of_a_finding_are_evened_out() -> None:
    """Half-way: in proportion to the square roots of their numbers; findings still equally often."""
    labels = np.repeat([0, 0, 1], [900, 100, 400])
    sources = np.repeat(["large", "small", "large"], [900, 100, 400])
    order = balanced_order(labels, np.random.default_rng(0), sources)
    assert len(order) == 1400
    assert np.mean(labels[order]) == pytest.approx(0.5, abs=0.01)
    normal = order[labels[order] == 0]
    assert np.mean(sources[normal] == "large") == pytest.approx(30 / 40, abs=0.01)


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    rng = np.random.default_rng(0)
    films = LabelledFilms(rng.integers(0, 255, (20, 32, 32), np.uint8), np.arange(20) % 2, np.full(20, "one"))

    def batches(seed: int, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        made = TrainingBatches(films, outputs=2, channels=3, batch_size=6, strength=0.5, seed=seed, epoch=epoch)
        # Backwards: workers ask in any order.
        return [made[index] for index in reversed(range(len(made)))][::-1]

    one = batches(1, 4)
    assert len(one) == 3
    for images, targets in one:
        assert images.shape == (6, 32, 32, 3)
        assert images.dtype == targets.dtype == np.float32
        assert 0 <= images.min() <= images.max() <= 1
        assert (targets.sum(1) == 1).all()
    assert all(np.array_equal(a, b) for x, y in zip(one, batches(1, 4), strict=True) for a, b in zip(x, y, strict=True))
    for other in (batches(2, 4), batches(1, 5)):
        assert not all(np.array_equal(x[0], y[0]) for x, y in zip(one, other, strict=True))


# ------------------------------------------------------------------------------------------------- films on disk
def write_data(folder: Path, findings: tuple[str, ...], per_split: dict[str, int], size: int = 64) -> Path:
    """A data folder of phantoms, PNG and JPEG in turn, the findings in turn, with its manifest."""
    (folder / "images").mkdir(parents=True)
    rows, number = [], 0
    for split, count in per_split.items():
        for i in range(count):
            finding = findings[i % len(findings)]
            pixels = phantom(finding, seed=3, index=number, size=size, difficulty=0.1).pixels
            path = folder / "images" / f"{number}.{'png' if number % 2 else 'jpg'}"
            Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path, quality=92)
            rows.append(
                dict.fromkeys(COLUMNS, "")
                | {
                    "image_id": f"drawn/{number}",
                    "path": f"images/{path.name}",
                    "source": "elsewhere" if split == "external" else "drawn",
                    "finding": finding,
                    "group_id": f"p{number}",
                    "age_group": "adult",
                    "split": split,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
                }
            )
            number += 1
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder


TWO, FOUR = SPECS["two_conv_cnn"].findings, SPECS["multi_lung_cnn"].findings
TINY = Recipe((Stage(64, 2, 1e-3),), batch_size=4)
STAGED = Recipe((Stage(110, 2, 1e-3), Stage(150, 2, 5e-4)), batch_size=4, optimizer="rmsprop")
"""Two sizes, dropout, RMSprop, and a dense layer that starts afresh with the second size."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("two"), TWO, {"train": 16, "val": 8, "test": 8, "external": 8})


@pytest.fixture(scope="module")
def drawn_four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("four"), FOUR, {"train": 16, "val": 8}, size=150)


def ignore(report: EpochReport) -> None:
    pass


def splits(folder: Path) -> tuple[list[Film], list[Film]]:
    films = read_manifest(folder)
    return [film for film in films if film.split == "train"], [film for film in films if film.split == "val"]


@pytest.mark.parametrize("key", SPECS)
def test_recipe_ends_at_the_models_size(key: str) -> None:
    recipe = RECIPES[key]
    assert recipe.stages[-1].size == SPECS[key].input_size
    assert recipe.optimizer in ("adamw", "rmsprop")
    assert all(0 <= stage.augmentation <= 1 for stage in recipe.stages)
    # The other networks at their small size are built in test_every_model.
    if key in ("two_conv_cnn", "multi_lung_cnn", "darkcovidnet"):
        for stage in recipe.stages:
            build(SPECS[key].network, stage.size, SPECS[key].channels, len(SPECS[key].findings))


def test_every_recipe_has_a_model() -> None:
    assert set(RECIPES) == set(SPECS)


def test_films_in_memory_are_what_pages_show(drawn: Path) -> None:
    films = read_manifest(drawn)
    spec = SPECS["two_conv_cnn"]
    loaded = load_films(films, spec, spec.input_size)
    assert loaded.labels.tolist() == [spec.findings.index(film.finding) for film in films]
    for image, film in zip(loaded.images, films, strict=True):
        shown = network_input(read_radiograph(film.path.read_bytes(), film.path.name), spec)[..., 0]
        assert np.abs(image / 255 - shown).max() <= 0.5 / 255 + 1e-6


def test_films_without_an_answer_are_left_out(drawn_four: Path) -> None:
    films = read_manifest(drawn_four)
    kept, labels = answerable(films, TWO)
    assert {film.finding for film in kept} == set(TWO)
    assert [TWO[label] for label in labels] == [film.finding for film in kept]
    kept, labels = answerable(films, ("normal", "pneumonia"))
    assert Counter(labels.tolist()) == {0: 6, 1: 12}


# -------------------------------------------------------------------------------------------------------- a fit
def test_training_ends_in_a_model_that_is_served(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "two_conv_cnn", TINY)
    reports: list[EpochReport] = []
    weights = tmp_path / "weights"
    card = ship.train(
        "two_conv_cnn", data=drawn, weights=weights, work=tmp_path / "work", seed=5, report=reports.append
    )
    assert [(one.epoch, one.epochs) for one in reports] == [(1, 2), (2, 2)]
    assert all(np.isfinite([one.training_loss, one.validation_loss]).all() for one in reports)
    folder = weights / "two_conv_cnn"
    assert {path.name for path in folder.iterdir()} == {WEIGHTS_FILE, CARD_FILE, PREDICTIONS_FILE}

    monkeypatch.setenv(WEIGHTS_VARIABLE, str(weights))
    assert zoo.shipped() == ("two_conv_cnn",)
    loaded = zoo.load("two_conv_cnn")
    assert loaded.card.to_json() == card.to_json()
    assert card.training_sources == ("drawn",)
    assert card.training_films == {"normal": 8, "covid19": 8}
    assert (card.seed, card.parameters) == (5, loaded.network.count_params())
    assert card.recipe == asdict(TINY)
    films = read_manifest(drawn)
    assert card.data_sha256 == data_hash(films)

    stored = read_predictions(folder / PREDICTIONS_FILE)
    held_out = [film for film in films if film.split != "train"]
    assert stored.image_ids.tolist() == [film.image_id for film in held_out]
    inputs = [network_input(read_radiograph(film.path.read_bytes()), loaded.spec) for film in held_out]
    served = loaded.network(np.stack(inputs), training=False)
    np.testing.assert_allclose(stored.logits, served, atol=1e-3)
    again = describe(
        loaded.spec,
        stored,
        training_sources=card.training_sources,
        **{
            name: getattr(card, name)
            for name in (
                *("parameters", "weights_sha256", "training_films", "seed", "recipe"),
                *("versions", "device", "data_sha256", "wall_time_s"),
            )
        },
    )
    assert again == card, "the figures must follow from the stored predictions"
    assert {entry["name"] for entry in card.metrics} >= {"drawn", "elsewhere"}


def test_a_source_is_left_out(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained again without a source, a model keeps its network and learns what it is worth there."""
    recipe = replace(TINY, stages=(replace(TINY.stages[0], epochs=1),), sources=("elsewhere",))
    monkeypatch.setitem(RECIPES, "two_conv_cnn", recipe)
    weights = tmp_path / "weights"
    common: dict[str, Any] = {"data": drawn, "weights": weights, "report": ignore}
    with pytest.raises(zoo.ModelError, match="train it whole first"):
        ship.train("two_conv_cnn", work=tmp_path / "early", without="elsewhere", **common)
    whole = ship.train("two_conv_cnn", work=tmp_path / "whole", **common)
    assert whole.training_sources == ("drawn", "elsewhere")
    assert "elsewhere" not in {entry["name"] for entry in whole.metrics}, "no figure on what it learnt from"
    with pytest.raises(ValueError, match=r"does not learn from drawn.*elsewhere"):
        ship.train("two_conv_cnn", work=tmp_path / "other", without="drawn", **common)
    card = ship.train("two_conv_cnn", work=tmp_path / "left", without="elsewhere", **common)
    assert card.weights_sha256 == whole.weights_sha256
    assert [entry["name"] for entry in card.left_out] == ["trained without elsewhere"]
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(weights))
    assert recompute("two_conv_cnn").to_json() == card.to_json()


RESUMED: dict[str, tuple[str, Recipe, int]] = {
    # What is trained, and after how many epochs it is killed.
    "within a stage": ("two_conv_cnn", TINY, 1),
    "dropout, within the first stage": ("multi_lung_cnn", STAGED, 1),
    "between two stages": ("multi_lung_cnn", STAGED, 2),
    "within the second stage": ("multi_lung_cnn", STAGED, 3),
    "after the last epoch": ("multi_lung_cnn", STAGED, 4),
}


Run = tuple[list[np.ndarray], list[EpochReport]]
"""Final weights, and what each epoch reported."""


def run(key: str, recipe: Recipe, data: Path, folder: Path, kill_after: int = 0) -> Run:
    reports: list[EpochReport] = []

    def report(epoch: EpochReport) -> None:
        reports.append(epoch)
        if len(reports) == kill_after:
            raise KeyboardInterrupt

    network, _ = fit(SPECS[key], recipe, *splits(data), seed=2, folder=folder, report=report)
    return network.get_weights(), reports


@pytest.fixture(scope="module")
def straight(drawn: Path, drawn_four: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The trainings of RESUMED, left in peace."""
    return {
        "two_conv_cnn": run("two_conv_cnn", TINY, drawn, tmp_path_factory.mktemp("straight_two")),
        "multi_lung_cnn": run("multi_lung_cnn", STAGED, drawn_four, tmp_path_factory.mktemp("straight_four")),
    }


@pytest.mark.parametrize("name", RESUMED)
def test_killed_training_goes_on_as_if_nothing_had_been(
    name: str, straight: dict[str, Run], drawn: Path, drawn_four: Path, tmp_path: Path
) -> None:
    key, recipe, epochs = RESUMED[name]
    data = drawn if key == "two_conv_cnn" else drawn_four
    with pytest.raises(KeyboardInterrupt):
        run(key, recipe, data, tmp_path, kill_after=epochs)
    weights, reports = run(key, recipe, data, tmp_path)
    expected_weights, expected_reports = straight[key]
    assert len(reports) == len(expected_reports) - epochs, "no epoch is done twice"
    for found, expected in zip(reports, expected_reports[epochs:], strict=True):
        assert (found.stage, found.epoch) == (expected.stage, expected.epoch)
        assert found.validation_loss == pytest.approx(expected.validation_loss, abs=1e-5)
    for one, two in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_longer_recipe_goes_on_from_a_shorter_one(straight: dict[str, Run], drawn_four: Path, tmp_path: Path) -> None:
    """A stage knows nothing of those that come after it."""
    spec = SPECS["multi_lung_cnn"]
    begun = replace(STAGED, stages=STAGED.stages[:1])
    small = replace(spec, input_size=begun.stages[-1].size)
    fit(small, begun, *splits(drawn_four), seed=2, folder=tmp_path, report=ignore)
    weights, reports = run(spec.key, STAGED, drawn_four, tmp_path)
    assert {one.stage for one in reports} == {1}
    for one, two in zip(weights, straight[spec.key][0], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_mixed_precision_learns_and_gives_a_float32_network(drawn: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, precision="mixed_bfloat16")
    network, _ = fit(SPECS["two_conv_cnn"], recipe, *splits(drawn), seed=0, folder=tmp_path, report=ignore)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert {weight.dtype for weight in network.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32", "the setting must not stay"


@pytest.mark.parametrize("network", NORMALISED)
def test_what_learnt_with_batch_normalisation_answers_alike_without(network: str) -> None:
    trained, plain = build(network, 128, 3, 2, normalised=True), build(network, 128, 3, 2)
    rng = np.random.default_rng(0)
    for layer in trained.layers:
        if layer.name.endswith("_bn"):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    films = rng.random((3, 128, 128, 3), np.float32)
    expected = keras.ops.convert_to_numpy(trained(films, training=False))
    assert np.ptp(expected, axis=0).min() > 0
    answers = keras.ops.convert_to_numpy(folded(trained, plain)(films))
    np.testing.assert_allclose(answers, expected, atol=1e-4)


def test_a_network_without_batch_normalisation_learns_with_it(drawn: Path, tmp_path: Path) -> None:
    small = replace(SPECS["vgg16"], input_size=128)
    recipe = replace(TINY, stages=(Stage(128, 1, 1e-3),), normalised=True)
    reports: list[EpochReport] = []
    training, validation = splits(drawn)
    network, _ = fit(small, recipe, training, validation, seed=0, folder=tmp_path, report=reports.append)
    assert [layer.name for layer in network.layers] == [layer.name for layer in build("vgg16", 128, 3, 2).layers]
    held_out = load_films(validation, small, 128)
    loss, _ = validate(network, held_out.images, held_out.labels, 3)
    assert loss == pytest.approx(reports[-1].validation_loss, abs=1e-4), "what was measured is what is kept"


def test_offsets_move_the_line_between_findings_and_nothing_else(drawn_four: Path) -> None:
    """All films' logits change by the same amounts, and what was predicted before only where two were close."""
    keras.utils.set_random_seed(0)
    spec = SPECS["multi_lung_cnn"]
    network = build(spec.network, spec.input_size, spec.channels, 4)
    films = read_manifest(drawn_four)
    before = predict_films(network, spec, films).logits
    offsets = add_offsets(network, spec, [film for film in films if film.split == "train"])
    after = predict_films(network, spec, films).logits
    assert offsets[0] == 0
    np.testing.assert_allclose(after - before, np.broadcast_to(offsets, after.shape), atol=1e-4)
    with pytest.raises(ValueError, match="No validation film"):
        add_offsets(network, spec, [film for film in films if film.finding == "normal"])


def test_a_recipe_may_end_with_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same training with and without gives weights that differ in the last layer's biases alone, by what validation
    films say; and a checkpoint of the one serves the other."""
    key, found = "multi_lung_cnn", {}
    films = write_data(tmp_path / "films", FOUR, {"train": 8, "val": 8, "test": 8}, size=150)
    for offsets in (False, True):
        recipe = Recipe((Stage(150, 1, 1e-3),), batch_size=4, offsets=offsets)
        monkeypatch.setitem(RECIPES, key, recipe)
        weights = tmp_path / str(offsets)
        card = ship.train(key, data=films, weights=weights, work=tmp_path / "work", report=ignore)
        assert card.recipe["offsets"] is offsets
        network = build(SPECS[key].network, 150, SPECS[key].channels, 4)
        network.load_weights(weights / key / WEIGHTS_FILE)
        found[offsets] = network.get_weights()
    *body, plain = found[False]
    *same, moved = found[True]
    assert all(np.array_equal(one, other) for one, other in zip(body, same, strict=True))
    assert moved[0] == plain[0]
    assert (moved[1:] != plain[1:]).all()


def test_there_is_none_for_a_network_that_has_its_own() -> None:
    with pytest.raises(KeyError, match=r"resnet50.*expected one of vgg16"):
        build("resnet50", 96, 3, 2, normalised=True)


def test_another_training_may_not_go_on(drawn: Path, tmp_path: Path) -> None:
    spec = SPECS["two_conv_cnn"]
    training, validation = splits(drawn)
    short = replace(TINY, stages=(Stage(64, 1, 1e-3),))
    fit(spec, short, training, validation, seed=0, folder=tmp_path, report=ignore)
    others: dict[str, tuple[Recipe, list[Film], int]] = {
        "recipe": (replace(short, batch_size=8), training, 0),
        "stage": (replace(short, stages=(Stage(64, 2, 1e-3),)), training, 0),
        "seed": (short, training, 1),
        "data": (short, training[2:], 0),
    }
    for recipe, films, seed in others.values():
        with pytest.raises(ValueError, match=r"another recipe, seed or data.*Remove it"):
            fit(spec, recipe, films, validation, seed=seed, folder=tmp_path, report=ignore)


def test_a_training_that_ended_elsewhere_says_so(drawn: Path, tmp_path: Path) -> None:
    """Learnt on a machine with a graphics card, tested on one without: the card names the first."""
    words = SPECS["two_conv_cnn"], replace(TINY, stages=(Stage(64, 1, 1e-3),)), *splits(drawn)
    _, here = fit(*words, seed=0, folder=tmp_path, report=ignore)
    assert here.device == device()
    assert here.versions == versions()
    assert here.seconds > 0
    state = json.loads((tmp_path / "state.json").read_text())
    state |= {"device": "another card", "versions": {"jax": "0.11"}}
    (tmp_path / "state.json").write_text(json.dumps(state))
    _, there = fit(*words, seed=0, folder=tmp_path, report=ignore)
    assert (there.device, there.versions, there.seconds) == ("another card", {"jax": "0.11"}, here.seconds)


def test_devices_are_told_one_after_the_other() -> None:
    here = device()
    assert devices("") == devices(here) == here
    assert devices("A card") == devices(f"A card, then {here}") == f"A card, then {here}"


def test_recipe_of_another_size_is_refused(drawn: Path, tmp_path: Path) -> None:
    recipe = Recipe((Stage(64, 1, 1e-3), Stage(96, 1, 1e-3)))
    with pytest.raises(ValueError, match="ends at 96 px, the model takes 64 px"):
        fit(SPECS["two_conv_cnn"], recipe, *splits(drawn), seed=0, folder=tmp_path, report=ignore)


def test_class_without_films_is_refused(drawn: Path, tmp_path: Path) -> None:
    training, validation = splits(drawn)
    healthy = [film for film in training if film.finding == "normal"]
    with pytest.raises(ValueError, match=r"No training film shows covid19; two_conv_cnn needs"):
        fit(SPECS["two_conv_cnn"], TINY, healthy, validation, seed=0, folder=tmp_path, report=ignore)


def test_no_validation_film_is_refused(drawn: Path, tmp_path: Path) -> None:
    """Without one no epoch could be chosen; that must be said before hours are spent."""
    training, _ = splits(drawn)
    with pytest.raises(ValueError, match="validation"):
        fit(SPECS["two_conv_cnn"], TINY, training, [], seed=0, folder=tmp_path, report=ignore)


def test_weights_carry_over_where_shapes_agree() -> None:
    source, target = (build("multi_lung_cnn", size, 3, 4) for size in (110, 150))
    assert carry_weights(source, target) == ["dense"]
    for name in ("conv1", "conv2", "conv3", "logits"):
        for one, two in zip(source.get_layer(name).get_weights(), target.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
