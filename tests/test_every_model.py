"""What holds for every model: its network, its heat maps, and, where it is shipped, its files and figures."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import accuracy_score, roc_auc_score
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.layercam import Layercam

from cxrmodels import zoo
from cxrmodels.datasets.manifest import NEVER, read_manifest
from cxrmodels.engine import Engine
from cxrmodels.evaluation.cards import recompute
from cxrmodels.evaluation.predictions import Evaluation, read_predictions
from cxrmodels.explain.saliency import METHODS, saliency
from cxrmodels.findings import TITLES
from cxrmodels.inference import network_input, predict, seen_part
from cxrmodels.networks import NETWORKS, build
from cxrmodels.phantom import phantom
from cxrmodels.preprocessing import PREPROCESSING
from cxrmodels.radiograph import Radiograph, read_radiograph
from cxrmodels.training.initial import BODIES
from cxrmodels.zoo import (
    CARD_FILE,
    PREDICTIONS_FILE,
    SPECS,
    WEIGHTS_FILE,
    WEIGHTS_VARIABLE,
    LoadedModel,
    ModelCard,
    ModelError,
    ModelSpec,
)
from tests.bare import bare_card
from tests.make_golden import GOLDEN, golden_film

KEYS = tuple(SPECS)
SHIPPED = zoo.shipped()
MUST_SHIP = (
    "two_conv_cnn",
    "multi_lung_cnn",
    "mobilenet_v3",
    "vgg16",
    "resnet50",
    "inception_v3",
    "xception",
    "darkcovidnet",
    "lung_aware",
)
# Least accuracy over four findings on the test split: a little under what shipped.
FOUR_FINDINGS = {"multi_lung_cnn": 0.83, "mobilenet_v3": 0.89, "lung_aware": 0.90}
SMALL = {"vgg16": 128, "resnet50": 96, "inception_v3": 107, "xception": 96, "lung_aware": 96, "mobilenet_v3": 96}
"""Sides in pixels at which big networks are tested to save time; what is tested does not depend on the size."""

ORACLES: dict[str, Callable[[keras.Model], Any]] = {
    "grad_cam": Gradcam,
    "grad_cam_plus_plus": GradcamPlusPlus,
    "layer_cam": Layercam,
}


@pytest.fixture
def _forget() -> Iterator[None]:
    """Frees big networks: nine at once would be a gigabyte. Not after every test, for it takes a second or two."""
    yield
    keras.backend.clear_session()


def fresh(spec: ModelSpec, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build(spec.network, spec.input_size, spec.channels, len(spec.findings))


def lively(spec: ModelSpec, seed: int = 0) -> keras.Model:
    """Fresh weights, and batch normalisations that have seen a few films: else deep signals fade to nothing."""
    network = fresh(spec, seed)
    normalisations = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
    findings = ("normal", "covid19", "bacterial_pneumonia", "viral_pneumonia")
    network(np.stack([network_input(film(finding), spec) for finding in findings]), training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum
    return network


@cache
def film(finding: str = "covid19") -> Radiograph:
    return phantom(finding, seed=11, size=256, difficulty=0.2).radiograph()


def small(key: str) -> ModelSpec:
    return replace(SPECS[key], input_size=SMALL.get(key, SPECS[key].input_size))


# ---------------------------------------------------------------------------------------------------- networks
@pytest.mark.parametrize("key", KEYS)
def test_spec_names_what_exists(key: str) -> None:
    spec = SPECS[key]
    assert spec.key == key
    assert spec.network in NETWORKS
    assert spec.preprocessing in PREPROCESSING
    assert spec.channels in (1, 3)
    assert set(spec.findings) <= set(TITLES)
    assert len(set(spec.findings)) == len(spec.findings)
    assert "covid19" in spec.findings, "the question all models are compared on"


@pytest.mark.usefixtures("_forget")
@pytest.mark.parametrize("key", KEYS)
def test_network_is_flat_named_and_seeded(key: str) -> None:
    spec = SPECS[key]
    one, two = fresh(spec), fresh(spec)
    assert one.input_shape == (None, spec.input_size, spec.input_size, spec.channels)
    assert one.output_shape == (None, len(spec.findings))
    assert not [layer.name for layer in one.layers if isinstance(layer, keras.Model)], "Grad-CAM cannot reach inside"
    # An automatic name counts up with everything built before in this process.
    assert [layer.name for layer in one.layers] == [layer.name for layer in two.layers]
    assert one.name == two.name
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), two.get_weights(), strict=True))
    features = one.get_layer(spec.feature_layer).output
    assert len(features.shape) == 4
    assert min(features.shape[1:3]) > 1, "a map of one position shows no place"


@pytest.mark.parametrize("key", KEYS)
def test_output_is_logits(key: str) -> None:
    network = lively(small(key))
    squashing = {"softmax", "sigmoid", "tanh"}
    last = network.output._keras_history.operation
    assert not isinstance(last, keras.layers.Softmax)
    activation = getattr(last, "activation", None)
    assert activation is None or activation.__name__ not in squashing
    # The proof: twenty times the last weights give answers that no probability could be.
    loudest = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)][-1]
    loudest.set_weights([1e4 * weight for weight in loudest.get_weights()])
    film = np.random.default_rng(0).random((1, *network.input_shape[1:]), np.float32)
    assert np.abs(network(film, training=False)).max() > 1.5


@pytest.mark.parametrize("key", KEYS)
def test_every_weight_learns(key: str) -> None:
    """A weight without a gradient hangs beside the network: a layer that was built and never joined."""
    spec = small(key)
    network = fresh(spec)
    for layer in network.layers:
        # A residual branch that starts silent hides what stands before it, until its scale has moved.
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale and not np.any(layer.gamma):
            layer.gamma.assign(np.ones(layer.gamma.shape))
    rng = np.random.default_rng(0)
    films = rng.random((2, spec.input_size, spec.input_size, spec.channels), np.float32)
    targets = np.eye(len(spec.findings), dtype=np.float32)[[0, 1]]
    with tf.GradientTape() as tape:
        # Not in training mode: there batch normalisation takes away what a bias before it adds.
        logits = network(films, training=False)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)(targets, logits)
    gradients = tape.gradient(loss, [weight.value for weight in network.trainable_weights])
    dead = [
        weight.path
        for weight, gradient in zip(network.trainable_weights, gradients, strict=True)
        if gradient is None or not np.isfinite(gradient).all() or not np.any(gradient)
    ]
    assert dead == []


@pytest.mark.parametrize("key", ["two_conv_cnn", "multi_lung_cnn", "darkcovidnet"])
def test_another_seed_gives_other_weights(key: str) -> None:
    one, other = (fresh(SPECS[key], seed).get_weights() for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# Network -> sizes at which its body is compared: with an odd map on the way, too.
BODY_SIZES: dict[str, tuple[int, ...]] = {
    "vgg16": (128,),
    "resnet50": (100,),
    "inception_v3": (107,),
    "xception": (100,),
    "mobilenet_v3": (96, 100),
    "mobilenet_v1": (100,),
    "lung_unet": (96,),
}
# Of which only the beginning is taken, up to this layer of theirs.
BEGINNINGS = {"lung_unet": "conv_pw_11_relu"}


def test_every_body_is_compared() -> None:
    assert set(BODY_SIZES) == set(BODIES)


@pytest.mark.usefixtures("_forget")
@pytest.mark.parametrize(("network", "size"), [(name, size) for name, sizes in BODY_SIZES.items() for size in sizes])
def test_body_is_that_of_keras_applications(network: str, size: int) -> None:
    known = BODIES[network]
    ours = build(network, size, 3, 2)
    body = keras.Model(ours.input, ours.get_layer(known.end).output)
    application = getattr(keras.applications, known.application)
    theirs = application(include_top=False, weights=None, input_shape=(size, size, 3), **known.options)
    rng = np.random.default_rng(0)
    # Fresh batch normalisations are all alike; moved a little, a swapped pair shows.
    weights = [
        weight + rng.uniform(0, 0.1, weight.shape).astype(np.float32) if weight.ndim == 1 else weight
        for weight in theirs.get_weights()
    ]
    theirs.set_weights(weights)
    body.set_weights(weights[: len(body.weights)])
    if network in BEGINNINGS:
        theirs = keras.Model(theirs.input, theirs.get_layer(BEGINNINGS[network]).output)
    film = rng.random((1, size, size, 3), np.float32)
    expected, found = (np.asarray(model(film, training=False)) for model in (theirs, body))
    assert expected.shape == found.shape
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))


# --------------------------------------------------------------------------------------------------- heat maps
@lru_cache(maxsize=1)
def engine_of(key: str) -> Engine:
    """The shipped model; for one that is not shipped its network with seeded weights, smaller where that saves time."""
    if key in SHIPPED:
        return Engine(zoo.load(key))
    spec = small(key)
    network = lively(spec, seed=1)
    return Engine(LoadedModel(spec, bare_card(spec), lambda: network))


@pytest.fixture(scope="module", params=KEYS)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every model's engine in turn. Of the module's scope: pytest then runs all tests of one model in a row."""
    return engine_of(request.param)


def _each_its_own(logits: Any) -> Any:
    """The score of row i is logit i: one call of the oracle answers for all findings."""
    return tf.linalg.diag_part(logits)


TOLERANCE = {"grad_cam": 1e-3, "grad_cam_plus_plus": 5e-3, "layer_cam": 1e-3}
"""Of a map scaled to 0-1. Grad-CAM++ divides by a difference that can vanish, its oracle in single precision."""


def _same_map(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    top = float(expected.max())
    return bool(np.allclose(found, expected / top if top > 0 else expected, rtol=0, atol=tolerance))


def test_heat_maps_are_those_of_tf_keras_vis(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = engine.loaded.spec
    # The oracle knows nothing of where on the film the network looked: maps are compared as the network has them.
    monkeypatch.setattr("cxrmodels.explain.saliency.seen_part", lambda *_: (0.0, 0.0, 1.0, 1.0))
    batch = np.repeat(network_input(film(), spec)[None], len(spec.findings), axis=0)
    _, output = predict(engine, film())
    height, width = output.features.shape[1:3]
    assert set(ORACLES) == set(METHODS), "a method without an oracle"
    wrong, empty = [], []
    for method, oracle in ORACLES.items():
        # Not stretched to 0-1 by the oracle: that would take its least value for zero, which ours is not.
        expected = oracle(engine.loaded.network)(
            _each_its_own,
            batch,
            penultimate_layer=engine.loaded.network.get_layer(spec.feature_layer),
            seek_penultimate_conv_layer=False,
            expand_cam=False,
            normalize_cam=False,
        )
        for number, finding in enumerate(spec.findings):
            found = saliency(engine, film(), output, finding, method, (height, width))
            theirs = np.asarray(expected[number])
            if not _same_map(found.heat, theirs, TOLERANCE[method]):
                wrong.append((method, finding))
            if not found.raw_max:
                empty.append((method, finding))
            elif method != "grad_cam_plus_plus":  # whose oracle multiplies by exp(score)
                assert found.raw_max == pytest.approx(theirs.max(), rel=1e-2)
    assert wrong == []
    assert len(empty) < len(METHODS) * len(spec.findings), "every map is empty: nothing was compared"


def test_heat_map_covers_the_film(engine: Engine) -> None:
    prediction, output = predict(engine, film())
    for method in METHODS:
        for finding in prediction.findings:
            heat = saliency(engine, film(), output, finding, method)
            assert (heat.model, heat.method, heat.finding) == (prediction.model, method, finding)
            assert heat.layer == engine.loaded.spec.feature_layer
            assert heat.heat.shape == film().pixels.shape
            assert heat.heat.dtype == np.float32
            assert not heat.heat.flags.writeable
            assert 0 <= heat.heat.min() <= heat.heat.max() <= 1
            assert bool(heat.heat.any()) == (heat.raw_max > 0)
        with pytest.raises(ValueError, match=r"does not answer 'tuberculosis'.*covid19"):
            saliency(engine, film(), output, "tuberculosis", method)
    with pytest.raises(KeyError, match=r"rainbow.*grad_cam"):
        saliency(engine, film(), output, "covid19", "rainbow")


def test_heat_lies_where_the_network_looked() -> None:
    """Of a network that sees the lungs alone, nothing outside their box is hot, and the box is where the lungs are."""
    engine = engine_of("lung_aware")
    prediction, output = predict(engine, film())
    left, top, right, bottom = seen_part(film(), engine.loaded.spec)
    assert 0 <= left < 0.3
    assert 0.7 < right <= 1
    height, width = film().pixels.shape
    heat = saliency(engine, film(), output, prediction.findings[prediction.top], "grad_cam").heat
    rows, columns = np.nonzero(heat)
    assert round(top * height) <= rows.min() <= rows.max() < round(bottom * height)
    assert round(left * width) <= columns.min() <= columns.max() < round(right * width)
    lungs = phantom("covid19", seed=11, size=256, difficulty=0.2).lung_mask
    inside = lungs[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
    assert inside.sum() > 0.9 * lungs.sum()


def test_engine_splits_without_changing_the_answer(engine: Engine) -> None:
    spec = engine.loaded.spec
    batch = np.stack([network_input(film(name), spec) for name in ("normal", "covid19")])
    whole = np.asarray(engine.loaded.network(batch, training=False))
    alone = np.concatenate([engine.run(batch[i : i + 1]).logits for i in range(2)])
    np.testing.assert_allclose(alone, whole, rtol=1e-3, atol=1e-3)
    if len(engine.loaded.network.layers) < 100:  # another batch size compiles anew, which takes long for the deep ones
        np.testing.assert_allclose(engine.run(batch).logits, whole, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match=spec.key):
        engine.run(batch[:, :-1])


# ----------------------------------------------------------------------------------------------------- shipped
@pytest.mark.parametrize("key", MUST_SHIP)
def test_is_shipped(key: str) -> None:
    assert key in SHIPPED


def test_unknown_model() -> None:
    for door in (zoo.spec, zoo.load, zoo.read_card):
        with pytest.raises(ModelError, match=r"Unknown model 'alexnet'.*two_conv_cnn"):
            door("alexnet")


@pytest.mark.parametrize("key", KEYS)
def test_model_that_is_not_there(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never random weights instead: the message says how to get the right ones."""
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    assert zoo.shipped() == ()
    with pytest.raises(ModelError, match=f"python -m cxrmodels train {key}"):
        zoo.load(key)


@pytest.mark.parametrize("key", SHIPPED)
def test_loads(key: str) -> None:
    loaded = zoo.load(key)
    card, spec = loaded.card, loaded.spec
    assert (card.key, card.title, card.findings, card.input_size) == (key, spec.title, spec.findings, spec.input_size)
    assert card.parameters == loaded.network.count_params()
    assert card.weights_sha256 == zoo.file_sha256(zoo.weights_folder() / key / WEIGHTS_FILE)
    assert set(card.training_films) == set(spec.findings)
    assert not {"hannover", "montgomery", "darkcovidnet"} & set(card.training_sources), "no model may see these"
    assert all(np.isfinite(weight).all() for weight in loaded.network.get_weights())
    assert ModelCard.from_json(card.to_json()) == card


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Copies a shipped model's folder to where it may be damaged, and lets the library look there."""

    def copy(key: str) -> Path:
        shutil.copytree(zoo.weights_folder() / key, tmp_path / key)
        monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
        return tmp_path / key

    return copy


@pytest.mark.parametrize("key", SHIPPED)
@pytest.mark.parametrize("place", [0, 0.5, -1], ids=["first byte", "middle", "last byte"])
def test_altered_weights_are_refused(key: str, place: float, copied: Callable[[str], Path]) -> None:
    path = copied(key) / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if place == 0.5 else int(place)] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{key} were altered.*Restore weights/{key}"):
        zoo.load(key)


@pytest.mark.parametrize("key", SHIPPED)
@pytest.mark.parametrize("name", [WEIGHTS_FILE, CARD_FILE])
def test_missing_file_is_named(key: str, name: str, copied: Callable[[str], Path]) -> None:
    (copied(key) / name).unlink()
    assert zoo.shipped() == ()
    with pytest.raises(ModelError, match=rf"(?s){name}.*python -m cxrmodels train {key}"):
        zoo.load(key)


@pytest.mark.parametrize("text", ["", "{}", "[]", "not JSON", "null", '{"key": "two_conv_cnn"}'])
def test_damaged_card_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    (tmp_path / "two_conv_cnn").mkdir()
    (tmp_path / "two_conv_cnn" / CARD_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=rf"card of two_conv_cnn cannot be read.*Restore.*{CARD_FILE}"):
        zoo.load("two_conv_cnn")


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")  # Keras' own word before its error
@pytest.mark.parametrize("other", [None, "multi_lung_cnn"], ids=["no weights file", "another network's"])
def test_weights_that_do_not_fit_are_refused(
    other: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sha256 agrees with the card, and still the file is not this network's."""
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path))
    key = "two_conv_cnn"
    path = tmp_path / key / WEIGHTS_FILE
    path.parent.mkdir()
    if other:
        zoo.save_weights(fresh(SPECS[other]), path)
    else:
        path.write_bytes(b"anything")
    card = replace(bare_card(SPECS[key]), weights_sha256=zoo.file_sha256(path))
    path.with_name(CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    with pytest.raises(ModelError, match="do not fit"):
        Engine(zoo.load(key))


@pytest.mark.parametrize("key", ["two_conv_cnn", "mobilenet_v3"])
def test_half_precision_keeps_the_answer(key: str, tmp_path: Path) -> None:
    spec = small(key)
    network = fresh(spec)
    path = tmp_path / WEIGHTS_FILE
    digest = zoo.save_weights(network, path)
    assert digest == zoo.file_sha256(path)
    assert path.stat().st_size < 2.2 * network.count_params() + 2_000 * len(network.layers)
    assert list(tmp_path.iterdir()) == [path]
    back = fresh(spec, seed=9)
    back.load_weights(path)
    for before, after in zip(network.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before.astype(np.float16).astype(np.float32))


@cache
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def test_every_shipped_model_has_golden_logits() -> None:
    assert set(golden()) == set(SHIPPED), "run 'python -m tests.make_golden'"


@pytest.mark.parametrize("key", SHIPPED)
def test_golden_logits(key: str) -> None:
    """The same film gives the same answer on every machine, with every version of what we stand on."""
    prediction, _ = predict(engine_of(key), golden_film())
    expected = golden()[key]
    assert prediction.weights_sha256 == expected["weights_sha256"], "new weights: run 'python -m tests.make_golden'"
    assert tuple(expected["logits"]) == prediction.findings
    assert prediction.logits == pytest.approx(list(expected["logits"].values()), abs=1e-2)


def _predictions(key: str) -> Evaluation:
    return read_predictions(zoo.weights_folder() / key / PREDICTIONS_FILE)


@pytest.mark.parametrize("key", SHIPPED)
def test_card_figures_follow_from_stored_predictions(key: str) -> None:
    card, again = zoo.read_card(key), recompute(key)
    # Through JSON, as a reader of the file has them.
    stored, computed = (json.loads(one.to_json()) for one in (card, again))
    for name in stored:
        assert computed[name] == stored[name], name


@pytest.mark.parametrize("key", SHIPPED)
def test_card_has_figures_on_seen_and_unseen_films(key: str) -> None:
    metrics = {entry["name"]: entry for entry in zoo.read_card(key).metrics}
    for name, seen in (("test films of seen sources", True), ("films of unseen sources", False)):
        assert metrics[name]["seen"] is seen
        assert metrics[name]["films"] > 100
        for figure, estimate in metrics[name]["metrics"].items():
            assert estimate is not None, figure
            assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"], figure


@pytest.mark.parametrize("key", SHIPPED)
def test_predictions_are_of_the_held_out_films(key: str, data_dir: Path) -> None:
    learnt_from = zoo.read_card(key).training_sources
    held_out = {
        film.image_id: film
        for film in read_manifest(data_dir)
        if film.split in ("val", "test") or (film.split == "external" and film.source not in learnt_from)
    }
    data = _predictions(key)
    assert sorted(data.image_ids) == sorted(held_out)
    assert data.findings == SPECS[key].findings
    for name in ("source", "split", "finding", "group_id"):
        column = {"finding": "labels", "group_id": "groups"}.get(name, f"{name}s")
        assert [getattr(held_out[i], name) for i in data.image_ids] == getattr(data, column).tolist()


@pytest.mark.parametrize("key", SHIPPED)
def test_pages_say_what_was_stored(key: str, data_dir: Path) -> None:
    """What was measured is what is served: film by film, the way of the pages leads to the stored logits."""
    data, engine = _predictions(key), engine_of(key)
    paths = {film.image_id: film.path for film in read_manifest(data_dir)}
    sample = np.random.default_rng(0).choice(len(data), 60, replace=False)
    for position in sample:
        path = paths[data.image_ids[position]]
        prediction, _ = predict(engine, read_radiograph(path.read_bytes(), path.name))
        assert prediction.logits == pytest.approx(data.logits[position], abs=1e-2), data.image_ids[position]


def _rows(key: str) -> list[dict[str, str]]:
    """Stored predictions on the test split, read without the library."""
    with gzip.open(zoo.weights_folder() / key / PREDICTIONS_FILE, "rt", encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["split"] == "test"]


@pytest.mark.parametrize("key", [key for key in FOUR_FINDINGS if key in SHIPPED])
def test_tells_four_findings_apart(key: str) -> None:
    rows = [row for row in _rows(key) if f"logit_{row['finding']}" in row]
    called = [max((name for name in row if name.startswith("logit_")), key=lambda n: float(row[n])) for row in rows]
    assert len({row["finding"] for row in rows}) == 4
    assert accuracy_score([f"logit_{row['finding']}" for row in rows], called) > FOUR_FINDINGS[key]


def test_small_network_tells_covid19_from_normal() -> None:
    rows = [row for row in _rows("two_conv_cnn") if row["finding"] in ("covid19", "normal")]
    score = [float(row["logit_covid19"]) - float(row["logit_normal"]) for row in rows]
    assert roc_auc_score([row["finding"] == "covid19" for row in rows], score) > 0.95


def test_lung_aware_network_holds_up_where_nobody_has_been() -> None:
    """On two hospitals that no network here has learnt from; the field's networks are near chance there."""
    stored = _predictions("lung_aware")
    there = np.isin(stored.sources, NEVER) & np.isin(stored.labels, ("covid19", "normal"))
    score = stored.logits[there, 1] - stored.logits[there, 0]
    assert roc_auc_score(stored.labels[there] == "covid19", score) > 0.97
