"""Networks on OpenVINO answer as on TensorFlow; what they were converted to is kept, and never trusted blindly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import openvino
import pytest
from keras import layers

from cxrmodels import runtime
from cxrmodels.engine import Engine
from cxrmodels.explain.saliency import METHODS, saliency
from cxrmodels.inference import network_input, predict
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import Radiograph
from cxrmodels.runtime import ENGINE_VARIABLE, on_openvino, store
from cxrmodels.runtime.conversion import convert
from cxrmodels.runtime.on_tensorflow import TensorFlowRuntime
from cxrmodels.runtime.store import CACHE_VARIABLE
from cxrmodels.zoo import LUNGS, SPECS, LoadedModel, ModelError, load, shipped

ROOT = Path(__file__).resolve().parent.parent
SMALL = "two_conv_cnn"
CLOSE = 1e-3


def film() -> Radiograph:
    return phantom("covid19", seed=3, size=200).radiograph()


@pytest.fixture(scope="module")
def usual() -> np.ndarray:
    """What the small model says of the film."""
    return predict(Engine(load(SMALL)), film())[0].logits


# --------------------------------------------------------------------------------------------- the same answers
@pytest.mark.parametrize("key", shipped())
def test_answers_and_heat_maps_are_those_of_tensorflow(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, engines = load(key), {}
    for name in runtime.ENGINES:
        monkeypatch.setenv(ENGINE_VARIABLE, name)
        engines[name] = Engine(loaded)
        assert engines[name].name == name
    batch = np.stack(
        [network_input(one, loaded.spec) for one in (film(), phantom("normal", seed=5, size=300).radiograph())]
    )
    ours = engines["openvino"].run(batch)
    for position in range(2):
        theirs = engines["tensorflow"].run(batch[position : position + 1])
        np.testing.assert_allclose(ours.logits[position], theirs.logits[0], rtol=0, atol=CLOSE)
        np.testing.assert_allclose(ours.features[position], theirs.features[0], rtol=0, atol=CLOSE)
    outputs = {name: predict(engine, film())[1] for name, engine in engines.items()}
    features = outputs["tensorflow"].features
    for number, finding in enumerate(loaded.spec.findings):
        slope = engines["tensorflow"].gradient(features, number)
        # Slopes can be small numbers: close is close in relation to the greatest.
        np.testing.assert_allclose(
            engines["openvino"].gradient(features, number), slope, rtol=0, atol=CLOSE * np.abs(slope).max()
        )
        for method in METHODS:
            maps = [
                saliency(engine, film(), predict(engine, film())[1], finding, method) for engine in engines.values()
            ]
            np.testing.assert_allclose(maps[0].heat, maps[1].heat, rtol=0, atol=CLOSE, err_msg=f"{method}, {finding}")


def test_gradient_of_several_films_is_each_ones_own() -> None:
    engine = Engine(load(SMALL))
    films = np.random.default_rng(0).random((3, 64, 64, 3), np.float32)
    features = engine.run(films).features
    together = engine.gradient(features, 1)
    for position in range(3):
        np.testing.assert_array_equal(together[position], engine.gradient(features[position : position + 1], 1)[0])


HEADS: dict[str, Callable[[Any], Any]] = {
    "overlapping pooling": layers.MaxPooling2D(3, 2, name="a"),
    "padded pooling": layers.MaxPooling2D(3, 2, padding="same", name="a"),
    "pooling that leaves a rest": layers.MaxPooling2D((2, 3), name="a"),
    "average pooling that leaves a rest": layers.AveragePooling2D((2, 3), name="a"),
    "average pooling with padding, step by step": layers.AveragePooling2D(3, 1, padding="same", name="a"),
    "overlapping average pooling": layers.AveragePooling2D(3, 2, name="a"),
    "convolution and normalisation": lambda x: layers.BatchNormalization(name="b")(
        layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", name="a")(x)
    ),
    "joined branches": lambda x: layers.Concatenate(name="c")(
        [layers.Conv2D(2, 1, name="a")(x), x, layers.Conv2D(3, 3, padding="same", name="b")(x)]
    ),
}


@pytest.mark.parametrize("head", HEADS)
def test_backward_steps_are_those_of_tensorflow(head: str) -> None:
    entry = layers.Input((13, 13, 3), name="film")
    at = layers.Conv2D(4, 3, activation="relu", name="at")(entry)
    x = layers.Dense(3, activation="relu", name="dense")(layers.Flatten(name="flat")(HEADS[head](at)))
    network = keras.Model(entry, layers.Dense(2, name="logits")(x), name="small")
    rng = np.random.default_rng(1)
    network.set_weights([rng.normal(0.1, 1, weight.shape) ** (1 + (weight.ndim == 1)) for weight in network.weights])
    # Few different values: the greatest in a window is often there more than once, zero above all.
    features = rng.integers(-2, 3, (1, 11, 11, 4)).clip(0).astype(np.float32)
    weights = np.array([0.5, -2], np.float32)
    expected = TensorFlowRuntime(network, "at").gradient(features, weights)
    assert np.count_nonzero(expected) > 5
    _, backward = convert(network, replace(SPECS[SMALL], feature_layer="at", input_size=13))
    request = on_openvino._requests(backward).get()
    request.infer([features, weights])
    np.testing.assert_allclose(request.output_tensors[0].data, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_what_openvino_cannot_hold_runs_on_tensorflow(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = layers.Input((64, 64, 3), name="film")
    at = layers.Conv2D(4, 3, name="conv2")(entry)
    x = layers.Flatten(name="flat")(layers.DepthwiseConv2D(3, strides=8, name="apart")(at))
    network = keras.Model(entry, layers.Dense(2, name="logits")(x), name="odd")
    loaded = load(SMALL)
    engine = Engine(LoadedModel(loaded.spec, loaded.card, lambda: network, "0" * 64))
    assert engine.name == "tensorflow"
    assert "two_conv_cnn runs on TensorFlow" in caplog.text
    assert "DepthwiseConv2dNativeBackpropInput" in caplog.text
    _, output = predict(engine, film())
    assert engine.gradient(output.features, 0).any()
    assert files(folder) == []


def test_arithmetic_is_single_precision() -> None:
    network, _ = store.read(load(SMALL)) or convert(load(SMALL).network, SPECS[SMALL])
    compiled = on_openvino._requests(network).get().get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


# ------------------------------------------------------------------------------------------- without TensorFlow
_ANSWER_ALL = """
import sys
from cxrmodels.phantom import phantom
from cxrmodels.service import Service
from cxrmodels.zoo import shipped
film = phantom("covid19", seed=3, size=200).radiograph()
service = Service()
service.warm_up(shipped(), lambda: None)
for key in shipped():
    service.read(film, key).result()
    service.heat(film, key, "covid19", "grad_cam", (50, 60)).result()
print(len(shipped()), *sorted({"tensorflow", "keras", "openvino.tools.ovc", "openvino_telemetry"} & set(sys.modules)))
print(sys.modules["openvino_telemetry"])
"""


def test_what_was_converted_once_needs_no_tensorflow() -> None:
    for key in (*shipped(), LUNGS.key):
        Engine(load(key))
    done = subprocess.run(
        [sys.executable, "-c", _ANSWER_ALL], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True
    )
    # The package that would tell OpenVINO's maker of its use is barred.
    assert done.stdout.split() == [str(len(shipped())), "openvino_telemetry", "None"]


def test_nothing_is_told_to_anybody() -> None:
    """In a process of its own: this one has imported OpenVINO as it comes."""
    program = (
        "import sys; from cxrmodels import runtime; from cxrmodels.runtime.conversion import _converter; "
        "runtime.chosen(); _converter(); print(sys.modules['openvino.tools.ovc.telemetry_utils'].tm.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub", done.stderr[-500:]


# ---------------------------------------------------------------------------------------------------- the store
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of this test's own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "store"))
    return tmp_path / "store"


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": _cut,
    "one bit": _flip,
    "empty": lambda path: path.write_bytes(b""),
    "another kind of file": lambda path: path.write_bytes(b"[1, 2]\nanything"),
    "no text": lambda path: path.write_bytes(bytes(range(256))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_anew(damage: str, folder: Path, usual: np.ndarray) -> None:
    Engine(load(SMALL))
    (path,) = files(folder)
    whole = path.read_bytes()
    DAMAGES[damage](path)
    np.testing.assert_array_equal(predict(Engine(load(SMALL)), film())[0].logits, usual)
    assert files(folder) == [path]
    assert path.stat().st_size == pytest.approx(len(whole), rel=0.01)
    assert store.read(load(SMALL)) is not None


def test_a_folder_that_cannot_be_used_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usual: np.ndarray
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "store"))
    np.testing.assert_array_equal(predict(Engine(load(SMALL)), film())[0].logits, usual)
    # The same where the folder is there and only the file cannot be read.
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    path = store._path(load(SMALL))
    assert path is not None
    path.mkdir()
    np.testing.assert_array_equal(predict(Engine(load(SMALL)), film())[0].logits, usual)


def test_a_full_disk_breaks_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, usual: np.ndarray) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("no space left")

    monkeypatch.setattr(openvino, "serialize", full)
    np.testing.assert_array_equal(predict(Engine(load(SMALL)), film())[0].logits, usual)
    assert files(folder) == []


def test_other_weights_other_file(folder: Path) -> None:
    loaded = load(SMALL)
    Engine(loaded)
    other = LoadedModel(loaded.spec, loaded.card, loaded.build, "f" * 64)
    assert store.holds(loaded)
    assert not store.holds(other)
    assert not store.holds(
        LoadedModel(replace(loaded.spec, feature_layer="conv1"), loaded.card, loaded.build, "f" * 64)
    )
    Engine(other)
    assert len(files(folder)) == 2


def test_a_network_that_is_from_no_file_is_not_kept(folder: Path) -> None:
    loaded = load(SMALL)
    Engine(LoadedModel(loaded.spec, loaded.card, loaded.build))
    assert not folder.exists()


def test_what_nobody_uses_goes(folder: Path) -> None:
    folder.mkdir()
    old, young, half = folder / "a.openvino", folder / "b.openvino", folder / ".making-a"
    for path in (old, young):
        path.touch()
    half.mkdir()
    long_ago = time.time() - (store.KEPT_DAYS + 1) * 86400
    for path in (old, half):
        os.utime(path, (long_ago, long_ago))
    Engine(load(SMALL))
    assert young in files(folder)
    assert not {old, half} & set(files(folder))
    (path,) = set(files(folder)) - {young}
    os.utime(path, (long_ago, long_ago))
    Engine(load(SMALL))
    assert time.time() - path.stat().st_mtime < 3600, "reading is using"


def test_a_clock_that_jumps_costs_time_at_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch, usual: np.ndarray
) -> None:
    Engine(load(SMALL))
    (path,) = files(folder)
    for jump in (10 * 365 * 86400, -10 * 365 * 86400):
        os.utime(path, (time.time() + jump, time.time() + jump))  # kept before the clock was put right
        np.testing.assert_array_equal(predict(Engine(load(SMALL)), film())[0].logits, usual)
        assert files(folder) == [path]
    # Years ahead, another network's file counts as unused and goes; what was made meanwhile stays.
    now = time.time()
    monkeypatch.setattr("cxrmodels.runtime.store.time.time", lambda: now + 10 * 365 * 86400)
    loaded = load(SMALL)
    Engine(LoadedModel(loaded.spec, loaded.card, loaded.build, "e" * 64))
    (made,) = files(folder)
    assert made != path


# --------------------------------------------------------------------------------------------------- the choice
@pytest.fixture
def _no_openvino(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if it were not installed."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    runtime._import_openvino.cache_clear()
    yield
    runtime._import_openvino.cache_clear()


@pytest.mark.usefixtures("_no_openvino")
def test_without_openvino_networks_run_on_tensorflow(monkeypatch: pytest.MonkeyPatch, usual: np.ndarray) -> None:
    assert runtime.needs_tensorflow(load(SMALL))
    engine = Engine(load(SMALL))
    assert engine.name == "tensorflow"
    prediction, output = predict(engine, film())
    np.testing.assert_allclose(prediction.logits, usual, rtol=0, atol=CLOSE)
    assert saliency(engine, film(), output, "covid19", "grad_cam").heat.shape == film().pixels.shape
    monkeypatch.setenv(ENGINE_VARIABLE, "openvino")
    with pytest.raises(ModelError, match=r"pip install openvino.*unset CXRMODELS_ENGINE"):
        Engine(load(SMALL))


def test_the_variable_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, name in (("", "openvino"), ("OpenVINO ", "openvino"), ("tensorflow", "tensorflow")):
        monkeypatch.setenv(ENGINE_VARIABLE, value)
        assert runtime.chosen() == name
    monkeypatch.setenv(ENGINE_VARIABLE, "cuda")
    with pytest.raises(ModelError, match=r"'cuda'; expected openvino or tensorflow"):
        Engine(load(SMALL))
