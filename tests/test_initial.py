"""What a network starts from: the weights of a model that ships, or none other silently."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxrmodels import zoo
from cxrmodels.datasets.manifest import DATA_VARIABLE
from cxrmodels.evaluation.cards import describe
from cxrmodels.evaluation.predictions import read_predictions
from cxrmodels.networks import build
from cxrmodels.training.initial import BODIES, first_weights, set_body
from cxrmodels.training.recipes import FRESH, IMAGENET, RECIPES
from cxrmodels.zoo import SPECS, ModelError


def test_fresh_weights_are_left_alone() -> None:
    assert first_weights(SPECS["darkcovidnet"], FRESH) is None


def test_a_shipped_models_layers_are_taken_where_they_fit() -> None:
    spec = replace(SPECS["darkcovidnet"], findings=("normal", "covid19"), input_size=64)
    network = build(spec.network, spec.input_size, spec.channels, 2)
    start_from = first_weights(spec, "darkcovidnet")
    assert start_from is not None
    start_from(network)
    shipped = zoo.load("darkcovidnet").network
    for layer in network.layers:
        same = layer.name not in ("conv9", "conv9_bn", "logits")
        for found, expected in zip(layer.get_weights(), shipped.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(found, expected) == same, layer.name


@pytest.mark.parametrize(
    ("init", "said"), [("nothing", "Unknown model"), ("mobilenet_v3", "needs those of a darkcovidnet")]
)
def test_what_cannot_be_started_from_is_refused(init: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        first_weights(SPECS["darkcovidnet"], init)


# --- ImageNet -----------------------------------------------------------------------------------------------

PREPROCESSING = {
    "vgg16": keras.applications.vgg16.preprocess_input,
    "resnet50": keras.applications.resnet50.preprocess_input,
    "inception_v3": keras.applications.inception_v3.preprocess_input,
    "xception": keras.applications.xception.preprocess_input,
    # Its preprocessing is within the network, unless left out as here.
    "mobilenet_v3": lambda greys: greys / 127.5 - 1,
    "mobilenet_v1": keras.applications.mobilenet.preprocess_input,
    "lung_unet": keras.applications.mobilenet.preprocess_input,
}
# Sides, and how many positions of the body's map at each edge the padding reaches; None: nowhere. Deep maps are
# reached everywhere, so that bodies with padding are compared after their first block.
FIRST = {
    "vgg16": ("block1_pool", "block1_pool", 2),
    "resnet50": ("stem_act", "conv1_relu", 2),
    "mobilenet_v3": ("stem_act", "activation", 1),
    "mobilenet_v1": ("conv1_act", "conv1_relu", 1),
    "lung_unet": ("conv1_act", "conv1_relu", 1),
    "inception_v3": ("mixed10", "mixed10", 0),
    "xception": ("block14_sepconv2_act", "block14_sepconv2_act", 0),
}


def theirs(network: str, size: int = 128) -> keras.Model:
    """The body of `keras.applications`, as if trained: its batch normalisations are moved a little."""
    body = BODIES[network]
    keras.utils.set_random_seed(3)
    application = getattr(keras.applications, body.application)
    model: keras.Model = application(include_top=False, weights=None, input_shape=(size, size, 3), **body.options)
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            array + rng.uniform(0, 0.1, array.shape).astype(np.float32) if array.ndim == 1 else array
            for array in model.get_weights()
        ]
    )
    return model


@pytest.mark.parametrize(("network", "channels"), [*((network, 3) for network in BODIES), ("lung_unet", 1)])
def test_folded_weights_answer_as_keras_applications_on_its_own_input(network: str, channels: int) -> None:
    body, source = BODIES[network], theirs(network)
    ours = build(network, 128, channels, 2)
    set_body(ours, body, source.get_weights())
    film = np.random.default_rng(1).random((2, 128, 128, 1), np.float32).repeat(3, -1)
    own = PREPROCESSING[network](255 * film)
    here, there, edge = FIRST[network]
    if network == "mobilenet_v3":  # its activations have automatic names
        there = next(layer.name for layer in source.layers if isinstance(layer, keras.layers.Activation))
    found, expected = (
        np.asarray(keras.Model(model.input, model.get_layer(layer).output)(given, training=False))
        for model, layer, given in ((ours, here, film[..., :channels]), (source, there, own))
    )
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0
    inside = slice(edge, found.shape[1] - edge)
    tolerance = 1e-4 * float(np.abs(expected).max())
    np.testing.assert_allclose(found[:, inside, inside], expected[:, inside, inside], rtol=1e-3, atol=tolerance)
    # Where there is padding its edge must differ, else the words about it are wrong.
    assert (np.abs(found - expected).max() > 10 * tolerance) == bool(edge)


@dataclass
class Origin:
    """The server that stands for the one of Keras, and what it was asked."""

    folder: Path
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    (tmp_path / "served").mkdir()
    # Keras keeps its downloads in a folder of the whole machine when the one it is given does not exist.
    (tmp_path / "cache").mkdir()
    made = Origin(tmp_path / "served")

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(made.folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    from keras.src.utils import file_utils

    real = file_utils.get_file

    def get_file(name: str, origin: str, **options: Any) -> str:
        """The real one, at another address and with the checksum of what is served there."""
        there = made.folder / Path(origin).name
        digest = hashlib.md5(there.read_bytes()).hexdigest() if there.is_file() else options.get("file_hash")
        options = {**options, "file_hash": digest, "cache_dir": str(tmp_path / "cache")}
        address = f"http://127.0.0.1:{server.server_address[1]}/{Path(origin).name}"
        path: str = real(name, address, **options)
        return path

    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(file_utils, "get_file", get_file)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


SERVED = {
    "vgg16": "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "mobilenet_v1": "mobilenet_7_5_224_tf_no_top.h5",
}


def save(model: keras.Model, path: Path) -> None:
    """In the layout of the files that Keras serves, which has the suffix of neither."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as stream:
        legacy_h5_format.save_weights_to_hdf5_group(stream, model)


@pytest.mark.parametrize("network", SERVED)
def test_what_is_downloaded_fills_the_body_and_the_head_is_fresh(
    network: str, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A data folder may bring MobileNet's weights along: then nothing is downloaded.
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    source = theirs(network, 224)
    save(source, origin.folder / SERVED[network])
    spec = replace(SPECS["vgg16"], network=network)
    network_of = functools.partial(build, network, 128, 3, 2)
    keras.utils.set_random_seed(0)
    ours, plain = network_of(), None
    start_from = first_weights(spec, IMAGENET)
    assert start_from is not None
    start_from(ours)
    keras.utils.set_random_seed(0)
    plain = network_of()
    body = keras.Model(ours.input, ours.get_layer(BODIES[network].end).output)
    in_body = {layer.name for layer in body.layers}
    for layer in plain.layers:
        for fresh, found in zip(layer.get_weights(), ours.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(fresh, found) == (layer.name not in in_body), layer.name
    for found, expected in list(zip(body.get_weights(), source.get_weights(), strict=True))[5:]:
        np.testing.assert_array_equal(found, expected)
    assert origin.asked == [f"/{SERVED[network]}"]
    assert first_weights(spec, IMAGENET) is not None
    assert len(origin.asked) == 1, "downloaded once"


@pytest.mark.parametrize("served", [None, b"anything"])
def test_a_failed_download_is_told_and_nothing_else_taken(served: bytes | None, origin: Origin) -> None:
    if served is not None:
        (origin.folder / SERVED["vgg16"]).write_bytes(served)
    with pytest.raises(ModelError, match=r"ImageNet weights of VGG16 could not be had: .*take --init fresh"):
        first_weights(SPECS["vgg16"], IMAGENET)


@pytest.mark.parametrize("key", ["two_conv_cnn", "darkcovidnet"])
def test_networks_without_imagenet_weights_say_so(key: str) -> None:
    with pytest.raises(ModelError, match="There are no ImageNet weights for"):
        first_weights(SPECS[key], IMAGENET)


def test_a_file_in_the_data_folder_comes_before_a_download(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = BODIES["mobilenet_v1"]
    (tmp_path / "init").mkdir()
    (tmp_path / "manifest.csv").touch()
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    one, other = (build("mobilenet_v1", 64, 3, 2) for _ in range(2))
    of_body = keras.Model(other.input, other.get_layer(body.end).output)
    # numpy's own options are among the words that it takes names of arrays for.
    arrays: dict[str, Any] = {
        f"{layer.name}__{'depthwise_' * isinstance(layer, keras.layers.DepthwiseConv2D)}{weight.name}": np.asarray(
            weight
        )
        for layer in of_body.layers
        for weight in layer.weights
    }
    set_body(other, body, of_body.get_weights())
    path = tmp_path / "init" / body.file
    np.savez(path, **arrays)
    spec = replace(SPECS["vgg16"], network="mobilenet_v1")
    start_from = first_weights(spec, IMAGENET)
    assert start_from is not None
    start_from(one)
    for found, expected in zip(one.get_weights()[:-2], other.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert origin.asked == []
    cut: dict[str, Any] = {name: array[:1] for name, array in arrays.items()}
    one_alone: dict[str, Any] = {"conv1__kernel": arrays["conv1__kernel"]}
    for damaged in (cut, one_alone):
        np.savez(path, **damaged)
        start_from = first_weights(spec, IMAGENET)
        assert start_from is not None
        with pytest.raises(ModelError, match="take it away"):
            start_from(one)
    path.write_bytes(b"anything")
    with pytest.raises(ModelError, match="take it away"):
        first_weights(spec, IMAGENET)


def test_a_card_says_what_the_training_started_from() -> None:
    card = zoo.read_card("mobilenet_v3")
    evaluation = read_predictions(zoo.weights_folder() / card.key / zoo.PREDICTIONS_FILE)
    told = ("parameters", "weights_sha256", "training_films", "seed", "versions", "device", "data_sha256")
    facts = {name: getattr(card, name) for name in (*told, "wall_time_s")}
    recipe = asdict(replace(RECIPES[card.key], init=IMAGENET))
    other = describe(SPECS[card.key], evaluation, training_sources=card.training_sources, recipe=recipe, **facts)
    assert other.recipe["init"] == IMAGENET
    assert other.departures.startswith("It started from ImageNet weights")
    assert other.departures.endswith(card.departures)
