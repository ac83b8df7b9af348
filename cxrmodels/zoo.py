"""The models that exist (`SPECS`), what is known of each (`ModelCard`), and the one door to them (`load`)."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrmodels.networks import build

if TYPE_CHECKING:
    from keras import Model

WEIGHTS_FILE = "model.weights.h5"
CARD_FILE = "card.json"
PREDICTIONS_FILE = "predictions.csv.gz"
WEIGHTS_VARIABLE = "CXRMODELS_WEIGHTS"

OWN = "this project"
"""`ModelSpec.paper` of a model that follows none."""

_FOUR = ("normal", "covid19", "bacterial_pneumonia", "viral_pneumonia")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What code needs to know of a model. `feature_layer` is where its heat maps come from."""

    key: str
    title: str
    network: str
    findings: tuple[str, ...]
    input_size: int
    channels: int
    preprocessing: str
    feature_layer: str
    paper: str
    paper_figures: str
    departures: str


_ALL = (
    ModelSpec(
        key="two_conv_cnn",
        title="Two-layer CNN",
        network="two_conv_cnn",
        findings=("normal", "covid19"),
        input_size=64,
        channels=3,
        preprocessing="unit",
        feature_layer="conv2",
        paper="Abdelhady, Deep learning (CNN) model for COVID-19 detection from chest X-ray images",
        paper_figures="accuracy 0.98, loss 0.04 on 18 test films",
        departures="The paper gives no input size, batch size or optimiser: 64 x 64, 32 and Adam here. It "
        "trained on 130 films of one collection; this copy on thousands, children among the normals.",
    ),
    ModelSpec(
        key="multi_lung_cnn",
        title="Multi-lung CNN",
        network="multi_lung_cnn",
        findings=_FOUR,
        input_size=150,
        channels=3,
        preprocessing="unit",
        feature_layer="conv3",
        paper="Prediction of multi-lung disease",
        paper_figures="none stated for this network",
        departures="Four outputs for the four classes it scores (the text says five neurons) and categorical "
        "instead of binary cross-entropy. No flips: a mirrored chest is another anatomy.",
    ),
    ModelSpec(
        key="mobilenet_v3",
        title="MobileNetV3",
        network="mobilenet_v3",
        findings=_FOUR,
        input_size=224,
        channels=3,
        preprocessing="unit",
        feature_layer="top_act",
        paper="MobileNetV3 transfer-learning study (four classes)",
        paper_figures="accuracy 95.58 %, sensitivity 97.52 %, specificity 95.14 % on 3,615 films",
        departures="Trained whole from fresh weights: no ImageNet weights went in. At its end the biases of the last "
        "layer are fitted to how often findings come among the validation films. The paper froze an ImageNet body for "
        "2000 epochs and counted augmented copies.",
    ),
    ModelSpec(
        key="vgg16",
        title="VGG16",
        network="vgg16",
        findings=("normal", "covid19"),
        input_size=160,
        channels=3,
        preprocessing="unit",
        feature_layer="block5_conv3",
        paper="Manapure et al., Detecting COVID-19 in X-ray images with Keras, TensorFlow and deep learning",
        paper_figures="accuracy 0.90, sensitivity 1.00, specificity 0.80 on 10 films",
        departures="Trained whole from fresh weights, with batch normalisation that the convolutions took over at its "
        "end, where the biases of the last layer were fitted to how often findings come among the validation films, "
        "too; served at 160 px. The papers froze an ImageNet body at 224 px.",
    ),
    ModelSpec(
        key="resnet50",
        title="ResNet50",
        network="resnet50",
        findings=("covid19", "non_covid19"),
        input_size=160,
        channels=3,
        preprocessing="unit",
        feature_layer="stage5_block3_out",
        paper="Joshi and Vedpathak, Classification of COVID19 using chest X-ray images using CNN",
        paper_figures="accuracy 87.34 %, COVID-19 precision 0.88, recall 0.85 on 498 films",
        departures="Trained whole from fresh weights and served at 160 px; the report started from ImageNet at 224 px.",
    ),
    ModelSpec(
        key="inception_v3",
        title="Inception-v3",
        network="inception_v3",
        findings=("normal", "covid19", "pneumonia"),
        input_size=128,
        channels=3,
        preprocessing="unit",
        feature_layer="mixed7",
        paper="Prediction of multi-lung disease (names it among four deep architectures)",
        paper_figures="none stated for this network",
        departures="Trained whole from fresh weights, and served at 128 px, not 224. Its last map "
        "would have four positions then, so heat maps come from an earlier one, of six by six.",
    ),
    ModelSpec(
        key="xception",
        title="Xception",
        network="xception",
        findings=("normal", "covid19", "pneumonia"),
        input_size=128,
        channels=3,
        preprocessing="unit",
        feature_layer="block14_sepconv2_act",
        paper="Prediction of multi-lung disease (names it among four deep architectures)",
        paper_figures="none stated for this network",
        departures="Trained whole from fresh weights, on 72 px films first; served at 128 px, not 224.",
    ),
    ModelSpec(
        key="darkcovidnet",
        title="DarkCovidNet",
        network="darkcovidnet",
        findings=("normal", "covid19", "pneumonia"),
        input_size=256,
        channels=3,
        preprocessing="unit",
        feature_layer="conv8_act",
        paper="Ozturk et al. 2020, doi 10.1016/j.compbiomed.2020.103792",
        paper_figures="accuracy 87.02 % (three classes), 98.08 % (two classes), five-fold on 1,125 films",
        departures="Trained on other and more films than the paper's 1,125. The convolutions learn on 128 px "
        "films first.",
    ),
    ModelSpec(
        key="lung_aware",
        title="Lung-aware",
        network="mobilenet_v1",
        findings=_FOUR,
        input_size=192,
        channels=3,
        preprocessing="lungs",
        feature_layer="conv_pw_13_act",
        paper=OWN,
        paper_figures="none: it is not from a paper",
        departures="It follows no paper: MobileNet of width 0.75, from ImageNet weights. Four sources teach it, drawn "
        "so that finding and source go together less. It sees the lungs alone, with grey levels ranked, and learns "
        "from films made to look like other hospitals'. At its end the biases of the last layer are fitted to how "
        "often findings come among the validation films.",
    ),
)

LUNGS = ModelSpec(
    key="lungs",
    title="Lung outlines",
    network="lung_unet",
    findings=("lung", "lung_beside_heart"),
    input_size=128,
    channels=1,
    preprocessing="stretch",
    feature_layer="up0_join",
    paper="Ronneberger et al. 2015, arXiv 1505.04597 (U-Net); Howard et al. 2017, arXiv 1704.04861 (MobileNet)",
    paper_figures="none for lungs",
    departures="Its way down is the first eleven blocks of MobileNet 0.75, from ImageNet weights; its way up is "
    "narrow, of separable convolutions with batch normalisation and bilinear growing. Two masks: data sets draw lungs "
    "with what lies behind the heart, or without.",
)
"""The network that outlines lungs. It answers no question, so it is not among `SPECS`. Its first mask is what the
program calls the lungs."""

SPECS: dict[str, ModelSpec] = {spec.key: spec for spec in _ALL}
"""Model key -> spec, in the order the pages show them."""


class ModelError(RuntimeError):
    """A model cannot be had: unknown, missing, altered or unreadable. The message says what to do."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a reader needs to know of a shipped model. Written by the training command, never by hand.

    `metrics` holds one entry a group of films (see `cxrmodels.evaluation.metrics.summarise`), `recipe` and
    `versions` what it takes to make the model again, `operating_points` thresholds on P(COVID-19). `cost` is what
    `cxrmodels.cost.measure` found, empty until it was measured. `left_out`, for a model that learns from sources of
    which it then has no figure: what networks trained alike, but without one of them, give on hospitals they have not
    seen, one entry each like those of `metrics`. `shortcuts`: what of its accuracy survives each change of the shortcut
    lab, one entry each (see `cxrmodels.evaluation.survival.Survival`), empty until it was measured. `aims`: what it was
    to reach and what it reaches (see `cxrmodels.evaluation.aims.outcomes`).
    """

    key: str
    title: str
    findings: tuple[str, ...]
    parameters: int
    weights_sha256: str
    input_size: int
    training_sources: tuple[str, ...]
    training_films: dict[str, int]
    seed: int
    recipe: dict[str, Any]
    versions: dict[str, str]
    device: str
    data_sha256: str
    wall_time_s: float
    temperature: float
    decision_threshold: float
    operating_points: dict[str, dict[str, float]]
    metrics: tuple[dict[str, Any], ...]
    paper: str
    paper_figures: str
    departures: str
    intended_use: str
    limits: str
    licence: str
    calibration: dict[str, dict[str, float]]
    cost: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[dict[str, Any], ...] = ()
    shortcuts: tuple[dict[str, Any], ...] = ()
    aims: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card.

        Raises:
            ValueError: not JSON, or fields are missing or unknown.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("not an object")
        optional = {"cost", "left_out", "shortcuts", "aims"}
        wrong = {item.name for item in fields(cls)}.symmetric_difference(values) - optional
        if wrong:
            raise ValueError(f"missing or unknown fields: {', '.join(sorted(wrong))}")
        for name in ("findings", "training_sources", "metrics", "left_out", "shortcuts", "aims"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


class LoadedModel:
    """A model whose files were checked. Its network is built, which imports Keras, when somebody asks for it.

    Attributes:
        build: makes the network, with its weights and not trainable; raises `ModelError` where those do not fit.
        weights_sha256: of the file that the network is made from; empty for one that is from no file.
        lock: held while the network runs: Keras promises nothing about concurrent use.
    """

    def __init__(self, spec: ModelSpec, card: ModelCard, build: Callable[[], Model], weights_sha256: str = "") -> None:
        self.spec, self.card, self.build, self.weights_sha256 = spec, card, build, weights_sha256
        self.lock = threading.Lock()

    @cached_property
    def network(self) -> Model:
        """The network, built once and kept."""
        return self.build()


def spec(key: str) -> ModelSpec:
    """The spec of a model.

    Raises:
        ModelError: unknown key.
    """
    if key == LUNGS.key:
        return LUNGS
    if key not in SPECS:
        raise ModelError(f"Unknown model {key!r}; expected one of {', '.join(SPECS)}.")
    return SPECS[key]


def weights_folder() -> Path:
    """Where the shipped models are: the repository's `weights/`, unless `CXRMODELS_WEIGHTS` names another."""
    value = os.environ.get(WEIGHTS_VARIABLE, "").strip()
    return Path(value) if value else Path(__file__).resolve().parent.parent / "weights"


def read_card(key: str) -> ModelCard:
    """The card of a shipped model.

    Raises:
        ModelError: unknown key, or the card is missing or unreadable.
    """
    path = weights_folder() / spec(key).key / CARD_FILE
    try:
        return ModelCard.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{key} is not shipped here: there is no {path.parent.name}/{CARD_FILE} in the weights folder. "
            f"Restore it from the repository or make it with 'python -m cxrmodels train {key}'."
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"The card of {key} cannot be read ({error}). Restore weights/{key}/{CARD_FILE} from the repository."
        ) from error


def shipped() -> tuple[str, ...]:
    """Keys of the models that have a card and a weights file, in the order of `SPECS`. Nothing is loaded."""
    folder = weights_folder()
    return tuple(
        key for key in SPECS if (folder / key / CARD_FILE).is_file() and (folder / key / WEIGHTS_FILE).is_file()
    )


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_weights(key: str) -> tuple[ModelCard, Path]:
    """The card and weights file of a model, the file's sha256 compared with the card's.

    Raises:
        ModelError: card or weights are missing, unreadable or altered.
    """
    card = read_card(key)
    path = weights_folder() / key / WEIGHTS_FILE
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ModelError(
            f"The weights of {key} cannot be read ({type(error).__name__}). Restore weights/{key}/{WEIGHTS_FILE} "
            f"from the repository or make it with 'python -m cxrmodels train {key}'."
        ) from error
    if found != card.weights_sha256:
        raise ModelError(
            f"The weights of {key} were altered: sha256 {found[:12]}..., the card says "
            f"{card.weights_sha256[:12]}... They are not used. Restore weights/{key} from the repository."
        )
    return card, path


def load(key: str) -> LoadedModel:
    """A shipped model, its weights file compared with its card. The network is built when it is asked for.

    Raises:
        ModelError: unknown key; card or weights missing or altered.
    """
    model_spec = spec(key)
    card, path = check_weights(key)
    return LoadedModel(model_spec, card, lambda: _network(model_spec, path), card.weights_sha256)


def _network(model_spec: ModelSpec, path: Path) -> Model:
    """Build a model's network and load its weights.

    Raises:
        ModelError: the weights are not of this network, or cannot be read.
    """
    network = build(model_spec.network, model_spec.input_size, model_spec.channels, len(model_spec.findings))
    try:
        # Keras only warns where a layer finds nothing in the file, and leaves it with random weights.
        if _stored_arrays(path) != len(network.weights):
            raise ValueError("another number of arrays")
        network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The weights of {model_spec.key} do not fit its network. Restore weights/{model_spec.key} from the "
            "repository."
        ) from error
    network.trainable = False
    return network


def _stored_arrays(path: Path) -> int:
    """How many weight arrays a file holds. What random layers draw from is not one of them."""
    import h5py

    found: list[str] = []

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
            found.append(name)

    with h5py.File(path, "r") as stored:
        stored.visititems(note)
    return len(found)


def save_weights(network: Model, path: Path) -> str:
    """Write a network's weights as float16 and return the file's sha256.

    Half precision halves the repository; what is shipped, measured and served is the rounded network.
    """
    import h5py
    import numpy as np

    network.save_weights(path)

    def halve(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype == np.float32:
            found.append(name)

    found: list[str] = []
    partial = path.with_name(path.name + ".part")
    with h5py.File(path, "r") as full, h5py.File(partial, "w") as half:
        full.visititems(halve)
        for name in full:
            full.copy(name, half)
        for name in found:
            values = full[name][()].astype(np.float16)
            del half[name]
            half.create_dataset(name, data=values)
        for key, value in full.attrs.items():
            half.attrs[key] = value
    # Deleted float32 data leaves holes in the file: copying once more leaves them behind.
    with h5py.File(partial, "r") as half, h5py.File(path, "w") as final:
        for name in half:
            half.copy(name, final)
        for key, value in half.attrs.items():
            final.attrs[key] = value
    partial.unlink()
    return file_sha256(path)
