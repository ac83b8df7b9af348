"""A reader's own network: what must not be opened is refused, what computes nonsense is found out, the rest joins in.

The networks here have hand-set weights and tell films apart by their mean grey, so that every probe's right answer is
known.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.applications.imagenet_utils import preprocess_input
from scipy.special import softmax

from cxrmodels.datasets.manifest import Film
from cxrmodels.evaluation import keras_file
from cxrmodels.evaluation.contract import (
    SCALINGS,
    SYNTHETIC_FILMS,
    Contract,
    Probe,
    check_model,
    to_evaluation,
)
from cxrmodels.evaluation.keras_file import ContractError
from cxrmodels.phantom import phantoms
from cxrmodels.radiograph import resize, to_png

layers = keras.layers
THREE = ("normal", "covid19", "bacterial_pneumonia")
TWO = THREE[:2]
GREYS = np.array([0.25, 0.5, 0.75])
"""Mean grey of the films of each of THREE."""
STEEP = 100.0

Films = list[tuple[np.ndarray, str]]


def grey_films(findings: Sequence[str] = THREE, each: int = 6) -> Films:
    """Films, float32 (40, 48), that differ in their mean grey."""
    rng = np.random.default_rng(0)
    return [
        ((GREYS[at] + rng.uniform(-0.05, 0.05, (40, 48))).astype(np.float32), finding)
        for _ in range(each)
        for at, finding in enumerate(findings)
    ]


def patchy_films(each: int = 6) -> Films:
    """Films of random exposure whose findings differ in how much of them is bright: nothing but stretching shows it."""
    rng = np.random.default_rng(0)
    films = []
    for _ in range(each):
        for share, finding in zip(GREYS, THREE, strict=True):
            pixels = np.full((64, 64), rng.uniform(0.2, 0.4))
            pixels[: round(64 * share)] += rng.uniform(0.05, 0.15)
            films.append((pixels.astype(np.float32), finding))
    return films


def scaled(value: float, scaling: str) -> np.ndarray:
    """What a film of one grey is fed as, (3,); the ImageNet figures as Keras itself computes them."""
    modes = {"-1 to 1": "tf", "ImageNet, torch style": "torch", "ImageNet, caffe style": "caffe"}
    grey = np.full((1, 1, 1, 3), 255 * value, np.float32)
    if scaling in modes:
        return preprocess_input(grey, mode=modes[scaling], data_format="channels_last")[0, 0, 0]
    return grey[0, 0, 0] if scaling == "0-255" else grey[0, 0, 0] / 255


def scores(mean: np.ndarray, classes: int) -> np.ndarray:
    """Logits by the distance of the mean grey, (N,), to each class' grey; (N, classes)."""
    return STEEP * (2 * mean[:, None] * GREYS[:classes] - GREYS[:classes] ** 2)


Graph = Callable[[Any], Any]


def network(
    classes: int = 3,
    *,
    size: tuple[int, int] = (16, 16),
    channels: int = 1,
    scaling: str = "0-1",
    before: Graph = lambda maps: maps,
    pool: Graph | None = None,
    after: Graph = lambda logits: logits,
    name: str = "net",
) -> keras.Model:
    """Film, fed as `scaling` says -> mean grey -> logits. The other arguments put something between."""
    film = keras.Input((*size, channels), name="film")
    conv = layers.Conv2D(1, 1, name="conv")
    dense = layers.Dense(classes, name="scores")
    maps = before(conv(film))
    pooled = (pool or layers.GlobalAveragePooling2D(name="pool"))(maps)
    model = keras.Model(film, after(dense(pooled)), name=name)
    black, white = scaled(0, scaling), scaled(1, scaling)
    if channels == 1:
        black, white = black.mean(keepdims=True), white.mean(keepdims=True)
    slope = 1 / (channels * (white - black))
    conv.set_weights([slope.reshape(1, 1, channels, 1), -(slope * black).sum(keepdims=True)])
    dense.set_weights([2 * STEEP * GREYS[None, :classes], -STEEP * GREYS[:classes] ** 2])
    return model


def saved(model: keras.Model, tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    model.save(path)
    return path


def checked(
    model: keras.Model,
    tmp_path: Path,
    *,
    findings: Sequence[str] = THREE,
    films: Films | None = None,
    films_are: str = "films of the tests",
    scaling: str | None = "0-1",
) -> Contract:
    path = saved(model, tmp_path)
    return check_model(path, films or grey_films(), findings=findings, films_are=films_are, scaling=scaling)


def probe(found: Contract, name: str) -> Probe:
    return next(probe for probe in found.probes if probe.name == name)


def failed(found: Contract) -> set[str]:
    return {probe.name for probe in found.probes if not probe.passed}


# --- networks that pass -------------------------------------------------------------------------------------


def test_a_good_network_passes_and_predicts(tmp_path: Path) -> None:
    found = checked(network(size=(20, 24), channels=3), tmp_path)
    assert found.passed
    assert [probe.name for probe in found.probes] == [
        "output shape",
        "finite",
        "probabilities",
        "same film, same answer",
        "independent of other films",
        "scaling",
        "class order",
        "heat maps",
        "speed",
    ]
    assert failed(found) == set()
    assert (found.input_size, found.channels, found.scaling) == ((20, 24), 3, "0-1")
    assert found.feature_layer == "conv"
    assert found.parameters == 3 + 1 + 3 + 3
    assert found.sha256 == hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest()
    films = [pixels for pixels, _ in grey_films(each=8)]
    means = np.array([resize(pixels, 24, 20).mean() for pixels in films])
    np.testing.assert_allclose(found.predict(films), softmax(scores(means, 3), axis=1), atol=1e-4)


def test_the_guide_names_every_probe_and_scaling(tmp_path: Path) -> None:
    guide = (Path(__file__).parent.parent / "docs" / "bring-your-own.md").read_text(encoding="utf-8")
    found = checked(network(), tmp_path)
    assert {probe.name for probe in found.probes} <= set(re.findall(r"^\| ([^|`]+) \|", guide, re.MULTILINE))
    assert set(SCALINGS) <= set(re.findall(r"^\| `([^|]+)` \|", guide, re.MULTILINE))


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (lambda logits: logits, "logits: a softmax"),
        (layers.Softmax(name="softmax"), "probabilities"),
    ],
    ids=["logits", "softmax"],
)
def test_scores_become_probabilities_once(after: Graph, said: str, tmp_path: Path) -> None:
    found = checked(network(2, after=after), tmp_path, findings=TWO, films=grey_films(TWO))
    assert found.passed
    assert said in probe(found, "probabilities").detail
    means = np.array([pixels.mean() for pixels in (resize(film, 16, 16) for film, _ in grey_films(TWO))])
    probabilities = found.predict(film for film, _ in grey_films(TWO))
    np.testing.assert_allclose(probabilities, softmax(scores(means, 2), axis=1), atol=1e-4)


@pytest.mark.parametrize(("activation", "said"), [("sigmoid", "One score between"), ("linear", "sigmoid is applied")])
def test_a_single_score_is_the_second_finding(activation: str, said: str, tmp_path: Path) -> None:
    model = network(1, after=layers.Activation(activation, name="end"))
    model.get_layer("scores").set_weights([np.array([[40.0]]), np.array([-15.0])])
    found = checked(model, tmp_path, findings=TWO, films=grey_films(TWO))
    assert found.passed
    assert said in probe(found, "probabilities").detail
    probabilities = found.predict([np.full((30, 30), 0.375 + 0.01, np.float32)])
    np.testing.assert_allclose(probabilities, [[1 / (1 + np.exp(0.4)), 1 / (1 + np.exp(-0.4))]], atol=1e-4)


def test_the_answers_join_the_comparison(tmp_path: Path) -> None:
    found = checked(network(), tmp_path)
    films = []
    for number, (pixels, finding) in enumerate(grey_films(each=7)):
        path = tmp_path / f"{number}.png"
        path.write_bytes(to_png(resize(pixels, 80, 70)))
        words = ("here", finding, f"p{number}", "adult", "PA", "test", "", "", "")
        films.append(Film(f"here/{number}", path, None, *words))
    evaluation = to_evaluation(found, films)
    assert evaluation.findings == THREE
    assert evaluation.image_ids.tolist() == [film.image_id for film in films]
    assert evaluation.groups.tolist() == [film.group_id for film in films]
    assert evaluation.probabilities().argmax(1).tolist() == evaluation.y_true().tolist()
    assert set(evaluation.widths) == {80}
    assert set(evaluation.heights) == {70}
    np.testing.assert_allclose(evaluation.exposures, np.resize(GREYS, len(films)), atol=0.01)


def test_a_sequential_with_a_body_inside_has_heat_maps_of_the_body(tmp_path: Path) -> None:
    body = keras.Sequential([keras.Input((16, 16, 1), name="in"), layers.Conv2D(4, 3, name="inner")], name="body")
    head = [layers.GlobalAveragePooling2D(name="pool"), layers.Dense(3, name="scores")]
    found = checked(keras.Sequential([keras.Input((16, 16, 1), name="film"), body, *head], name="whole"), tmp_path)
    assert found.feature_layer == "body"
    assert "'body'" in probe(found, "heat maps").detail


def test_random_flips_in_the_graph_are_off(tmp_path: Path) -> None:
    found = checked(network(before=layers.RandomBrightness(0.9, (0, 1), name="lamp")), tmp_path)
    assert found.passed


def test_equal_scores_have_a_gradient_all_the_same(tmp_path: Path) -> None:
    model = network(2)
    model.get_layer("scores").set_weights([np.array([[1.0, -1.0]]), np.array([-0.5, 0.5])])
    same = [(np.full((20, 20), 0.5, np.float32), finding) for finding in TWO]
    assert checked(model, tmp_path, findings=TWO, films=same, scaling=None).feature_layer == "conv"


def test_a_whole_network_inside_hides_its_feature_maps(tmp_path: Path) -> None:
    film = keras.Input((16, 16, 1), name="film")
    model = keras.Model(film, network(name="inner")(layers.Rescaling(1.0, name="same")(film)), name="outer")
    found = checked(model, tmp_path)
    assert found.passed
    assert failed(found) == {"heat maps"}


def test_without_a_feature_map_there_are_no_heat_maps_and_all_else_works(tmp_path: Path) -> None:
    film = keras.Input((16, 16, 1), name="film")
    dense = layers.Dense(3, name="scores")
    model = keras.Model(film, dense(layers.Flatten(name="flat")(film)), name="net")
    dense.set_weights([np.tile(2 * STEEP * GREYS / 256, (256, 1)), -STEEP * GREYS**2])
    found = checked(model, tmp_path)
    assert failed(found) == {"heat maps"}
    assert found.feature_layer is None
    assert found.passed


# --- class order and scaling --------------------------------------------------------------------------------


def test_another_class_order_is_found_and_named(tmp_path: Path) -> None:
    found = checked(network(), tmp_path, findings=("covid19", "bacterial_pneumonia", "normal"))
    assert failed(found) == {"class order"}
    detail = probe(found, "class order").detail
    assert "outputs read as normal, covid19, bacterial_pneumonia" in detail
    assert "balanced accuracy 0.00 on 18 films of the tests" in detail
    with pytest.raises(ContractError, match="failed on: class order; expected"):
        found.predict([])


@pytest.mark.parametrize("right", SCALINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_scaling_is_found(right: str, channels: int, tmp_path: Path) -> None:
    films = patchy_films() if right == "stretch" else grey_films()
    path = saved(network(channels=channels, scaling=right), tmp_path)

    def check(declared: str | None) -> Contract:
        return check_model(path, films, findings=THREE, films_are="films of the tests", scaling=declared)

    found = check(None)
    assert found.passed
    assert found.scaling == right
    assert "balanced accuracy 1.00" in probe(found, "scaling").detail
    assert "balanced accuracy 1.00" in probe(found, "class order").detail
    wrong = SCALINGS[SCALINGS.index(right) - 1]
    found = check(wrong)
    assert failed(found) == {"scaling"}
    assert f"Declare {right}" in probe(found, "scaling").detail


@pytest.mark.parametrize(
    ("films_are", "each", "findings"),
    [(SYNTHETIC_FILMS, 6, THREE), ("films of the tests", 4, THREE), ("films of the tests", 6, ("normal",))],
    ids=["synthetic", "too few", "one finding"],
)
def test_order_and_scaling_are_hints_only(films_are: str, each: int, findings: tuple[str, ...], tmp_path: Path) -> None:
    order = ("covid19", "bacterial_pneumonia", "normal")
    films = grey_films(findings, each)
    found = checked(network(), tmp_path, findings=order, scaling="0-255", films=films, films_are=films_are)
    assert found.passed
    for name in ("class order", "scaling"):
        assert ("hint" in probe(found, name).detail) == (findings == THREE)
        assert ("Not judged" in probe(found, name).detail) == (findings != THREE)


def test_films_that_the_network_has_no_answer_for_take_no_part(tmp_path: Path) -> None:
    films = [*grey_films(), *((pixels, "tuberculosis") for pixels, _ in grey_films())]
    found = checked(network(), tmp_path, films=films)
    assert "balanced accuracy 1.00 on 18 films" in probe(found, "class order").detail


def test_phantoms_will_do(tmp_path: Path) -> None:
    films = [(film.pixels, film.finding) for film in phantoms(8, seed=1, size=64)]
    assert checked(network(), tmp_path, films=films, films_are=SYNTHETIC_FILMS, scaling=None).passed


# --- networks that compute nonsense -------------------------------------------------------------------------


NONSENSE: dict[str, tuple[Callable[[], keras.Model], set[str], str]] = {
    "dropout left on": (
        lambda: network(before=lambda maps: layers.Dropout(0.5, name="drop")(maps, training=True)),
        {"same film, same answer"},
        "The graph calls 'drop' with training=True",
    ),
    "batch normalisation left on": (
        lambda: network(before=lambda maps: layers.BatchNormalization(name="norm")(maps, training=True)),
        {"same film, same answer"},
        "The graph calls 'norm' with training=True",
    ),
    "softmax over the films": (
        lambda: network(after=lambda logits: keras.ops.softmax(logits, axis=0)),
        {"probabilities", "independent of other films"},
        "softmax over the last axis",
    ),
    "sigmoids": (
        lambda: network(after=layers.Activation("sigmoid", name="end")),
        {"probabilities"},
        "neither probabilities nor logits",
    ),
    "a row a position": (
        lambda: network(pool=lambda maps: keras.ops.reshape(maps, (-1, 1))),
        {"output shape"},
        "18 films gave 4608 rows",
    ),
    "no gradient": (
        lambda: network(before=lambda maps: keras.ops.stop_gradient(layers.Identity(name="same")(maps))),
        {"heat maps"},
        "heat maps would be empty",
    ),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_found_out(kind: str, tmp_path: Path) -> None:
    model, names, said = NONSENSE[kind]
    found = checked(model(), tmp_path)
    # A network that answers nonsense may well fail on films too.
    assert failed(found) - {"class order", "scaling"} == names
    assert any(said in probe(found, name).detail for name in names)
    assert found.passed == (names == {"heat maps"})


def test_nan_weights_are_found_out(tmp_path: Path) -> None:
    model = network()
    model.get_layer("conv").set_weights([np.full((1, 1, 1, 1), np.nan), np.zeros(1)])
    found = checked(model, tmp_path)
    assert [probe.name for probe in found.probes] == ["output shape", "finite"]
    assert failed(found) == {"finite"}
    assert "NaN among the weights" in probe(found, "finite").detail


# --- what is not opened -------------------------------------------------------------------------------------


class Doubling(keras.Layer):
    def call(self, maps: Any) -> Any:
        return 2 * maps


def doubled(maps: Any) -> Any:
    return 2 * maps


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def plain(tmp_path: Path) -> Path:
    return saved(network(), tmp_path)


def repacked(tmp_path: Path, **parts: bytes | None) -> Path:
    """A good file with members (config, weights) replaced, or left out when None."""
    names = {"config": "config.json", "weights": "model.weights.h5"}
    changed = {names[key]: data for key, data in parts.items()}
    merged = {**members(plain(tmp_path)), **changed}
    return packed(tmp_path / "model.keras", {name: data for name, data in merged.items() if data is not None})


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """A good file with a change in its configuration."""
    config = members(plain(tmp_path))["config.json"].decode()
    assert old in config
    return repacked(tmp_path, config=config.replace(old, new).encode())


def file(tmp_path: Path, data: bytes, name: str = "model.keras") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def hdf5(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    with h5py.File(path, "w") as stored:
        stored["x"] = 1
    return path


def traversing(tmp_path: Path) -> Path:
    return packed(tmp_path / "model.keras", {**members(plain(tmp_path)), "../../evil.py": b"x"})


def twice(tmp_path: Path) -> Path:
    path = plain(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", b"{}")
    return path


def cut(tmp_path: Path) -> Path:
    return file(tmp_path, plain(tmp_path).read_bytes()[:-200])


def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.keras").mkdir()
    return tmp_path / "model.keras"


def two_inputs() -> keras.Model:
    films = [keras.Input((16, 16, 1), name=name) for name in ("film", "age")]
    pooled = [layers.GlobalAveragePooling2D(name=f"pool{at}")(film) for at, film in enumerate(films)]
    return keras.Model(films, layers.Dense(3, name="scores")(layers.Add(name="sum")(pooled)), name="net")


def of_shape(shape: tuple[int | None, ...], *after: keras.Layer) -> keras.Model:
    film = keras.Input(shape, name="film")
    maps = film
    for layer in after or (layers.GlobalAveragePooling2D(name="pool"),):
        maps = layer(maps)
    return keras.Model(film, layers.Dense(3, name="scores")(maps), name="net")


def unbuilt() -> keras.Model:
    return keras.Sequential([layers.Dense(3, name="scores")], name="net")


def other_weights(tmp_path: Path) -> Path:
    other = members(saved(of_shape((16, 16, 3)), tmp_path))["model.weights.h5"]
    return repacked(tmp_path, weights=other)


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "Lambda": (lambda tmp: saved(network(before=layers.Lambda(lambda x: x, name="evil")), tmp), "code, Lambda 'evil'"),
    "Lambda of a function": (
        lambda tmp: saved(network(before=layers.Lambda(doubled, name="evil")), tmp),
        "Lambda 'evil'|custom object 'doubled'",
    ),
    "TFSMLayer": (lambda tmp: edited(tmp, '"GlobalAveragePooling2D"', '"TFSMLayer"'), "foreign code, TFSMLayer"),
    "custom class": (lambda tmp: saved(network(before=Doubling(name="own")), tmp), "custom object 'Doubling'"),
    "custom function": (
        lambda tmp: saved(network(before=layers.Activation(doubled, name="own")), tmp),
        "custom object 'doubled'",
    ),
    "module of the machine": (lambda tmp: edited(tmp, '"keras.layers"', '"os"'), "custom object"),
    "path traversal": (traversing, r"also holds '\.\./\.\./evil.py'"),
    "a name twice": (twice, "holds a name twice"),
    "cut short": (cut, "cut short"),
    "renamed HDF5": (hdf5, "HDF5"),
    "text": (lambda tmp: file(tmp, b"This is no network."), "no .keras file"),
    "empty": (lambda tmp: file(tmp, b""), "no .keras file"),
    "other ending": (lambda tmp: file(tmp, b"PK", "model.zip"), "ends in '.zip'"),
    "folder": (folder, "SavedModel"),
    "nothing": (lambda tmp: tmp / "model.keras", "cannot be read"),
    "no weights": (lambda tmp: repacked(tmp, weights=None), "lacks model.weights.h5"),
    "broken weights": (lambda tmp: repacked(tmp, weights=bytes(20_000)), "cannot rebuild"),
    "another network's weights": (other_weights, "cannot rebuild"),
    "configuration no JSON": (lambda tmp: repacked(tmp, config=b"{"), "broken"),
    "configuration of nothing": (lambda tmp: repacked(tmp, config=b"[]"), "describes no network"),
    "deep configuration": (lambda tmp: repacked(tmp, config=b"[" * 100_000), "broken"),
    "unknown layer": (lambda tmp: edited(tmp, "GlobalAveragePooling2D", "GlobalUnheardOf"), "cannot rebuild"),
    "layer, not a network": (
        lambda tmp: repacked(tmp, config=json.dumps(keras.saving.serialize_keras_object(layers.ReLU())).encode()),
        "no fixed input",
    ),
    "more weights than the file": (lambda tmp: edited(tmp, '"units": 3', '"units": 4000000000000'), "file holds"),
    "a giant layer": (
        lambda tmp: saved(
            of_shape((16, 16, 1), layers.ZeroPadding2D(9000, name="pad"), layers.GlobalMaxPooling2D(name="pool")), tmp
        ),
        "gives 324,576,256 values",
    ),
    "two inputs": (lambda tmp: saved(two_inputs(), tmp), "2 inputs and 1 outputs"),
    "unknown size": (lambda tmp: saved(of_shape((None, None, 1)), tmp), "no fixed size"),
    "too small": (lambda tmp: saved(of_shape((8, 8, 1)), tmp), "8 x 8 pixels; expected 16 to 1024"),
    "too large": (lambda tmp: saved(of_shape((16, 2048, 1)), tmp), "16 x 2048 pixels"),
    "a fixed batch": (
        lambda tmp: saved(
            keras.Model(film := keras.Input(batch_shape=(4, 16, 16, 1)), layers.Flatten(name="flat")(film)), tmp
        ),
        r"shape \(4, 16, 16, 1\); expected \(None",
    ),
    "channels first": (lambda tmp: saved(of_shape((3, 64, 64)), tmp), "channels last"),
    "not a picture": (lambda tmp: saved(of_shape((64,), layers.ReLU(name="relu")), tmp), r"shape \(None, 64\)"),
    "a map as output": (lambda tmp: saved(of_shape((16, 16, 1), layers.ReLU(name="r")), tmp), "output has the shape"),
    "two findings for three outputs": (lambda tmp: saved(network(2), tmp), "2 outputs and 3 findings"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    make, said = REFUSED[kind]
    path = make(tmp_path)
    with pytest.raises(ContractError, match=said) as refusal:
        check_model(path, grey_films(), findings=THREE, films_are="films of the tests")
    message = str(refusal.value)
    assert message.isprintable()
    assert len(message) < 400
    assert "; expected " in message
    assert str(tmp_path) not in message


def test_a_network_that_was_never_built_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not yet been built"):
        path = saved(unbuilt(), tmp_path)
    with pytest.raises(ContractError, match=r"keras\.Input"):
        check_model(path, grey_films(), findings=THREE, films_are="films of the tests")


@pytest.mark.parametrize(
    ("findings", "scaling", "said"),
    [
        (("normal", "flu"), None, "unknown findings flu; expected each once, of normal"),
        (("normal", "normal"), None, "a finding twice"),
        (TWO, "0-65535", "Unknown scaling '0-65535'; expected one of 0-1"),
    ],
)
def test_what_is_declared_is_checked(findings: Sequence[str], scaling: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=said):
        check_model(tmp_path / "x.keras", grey_films(), findings=findings, films_are="films", scaling=scaling)


@pytest.mark.parametrize(("limit", "said"), [("MAX_BYTES", "GB; expected at most"), ("MAX_UNPACKED", "unpacks to")])
def test_too_much_is_refused(limit: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = repacked(tmp_path, weights=bytes(10_000_000))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(keras_file, limit, 5_000_000 if limit == "MAX_UNPACKED" else 1000)
    with pytest.raises(ContractError, match=said):
        check_model(path, grey_films(), findings=THREE, films_are="films")


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: check_model(path, grey_films(), findings=THREE, films_are="films"),
        lambda path: keras_file.load_network(path, ""),
    ],
    ids=["plan", "load"],
)
def test_code_in_a_file_does_not_run_even_if_it_is_overlooked(
    opened: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is searched first; behind that, both times it is built, Keras' safe mode refuses too."""
    trace = tmp_path / "trace"
    text = str(trace)

    def touch(maps: Any) -> Any:
        with open(text, "w", encoding="utf-8"):  # Nothing that it would have to import is at hand in the file.
            return maps

    # A function without a name is stored as its code.
    touch.__name__ = "<lambda>"
    path = saved(network(before=layers.Lambda(touch, name="evil")), tmp_path)
    trace.unlink()
    keras.models.load_model(path, safe_mode=False)
    assert trace.exists(), "the code would have run"
    trace.unlink()
    monkeypatch.setattr(keras_file, "_check_part", lambda part: None)
    with pytest.raises(ContractError, match=r"cannot rebuild the network \(ValueError\)"):
        opened(path)
    assert not trace.exists()


def test_without_films_nothing_can_be_probed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no films"):
        check_model(plain(tmp_path), [], findings=THREE, films_are="none")
