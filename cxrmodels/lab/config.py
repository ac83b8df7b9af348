"""What defines a training run. The same configuration, on the same machine, gives the same run."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from cxrmodels.findings import TITLES
from cxrmodels.phantom import FINDINGS

OPTIMIZERS = ("adam", "sgd", "rmsprop", "adamw")
SCHEDULES = {
    "constant": "stays as it is",
    "cosine": "falls along a half cosine to 1 % of it",
    "step": "divided by ten after half of the steps, and again after three quarters",
}
"""Schedule -> what it does to the learning rate."""


def rate_factor(schedule: str, step: float, steps: int) -> float:
    """What a schedule multiplies the learning rate by.

    Args:
        schedule: a key of `SCHEDULES`.
        step: the step to come, from 0.
        steps: of the whole run.
    """
    done = step / steps
    if schedule == "cosine":
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "step":
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
    return 1.0


BREAKAGES = {
    "none": "Nothing is broken.",
    "leak patients": "Every film gets an augmented copy, and films are dealt at random, whoever the patient is: the "
    "validation side holds films whose twins were learnt from.",
    "flip 20 % labels": "A fifth of all labels, on both sides, is replaced by another class, as by a careless reader.",
    "marker on one class": "A white R stands in a corner of all films of the second class, and of no other.",
    "shuffled labels": "All labels are dealt anew at random: there is nothing to learn.",
    "border only": "The middle of every film, lungs included, is black: only the border is left to learn from.",
}
"""Way of breaking a training on purpose -> what it does."""

MAX_CLASSES = 20
MAX_FILMS = 20_000
FIXED_NETWORKS = {"two_conv_cnn": 32, "multi_lung_cnn": 85}
"""The papers' networks -> the least input size at which their last layer still has something to look at."""

_MAX_SEED = 2**31 - 1
_MAX_FILTERS = 1024
_MAX_TEXT = 4000
_MAX_UNPACKED = 65_536


class ConfigError(ValueError):
    """A configuration is not possible; the message names the field, what came and what is expected."""


def _number(name: str, value: Any, low: float, high: float) -> float:
    # The comparison is false for NaN too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name} is {_shown(value)}; expected a number from {low:g} to {high:g}. Choose one.")
    return float(value)


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is {_shown(value)}; expected a whole number from {low} to {high}. Choose one.")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {_shown(value)}; expected true or false.")


def _one_of(name: str, value: Any, choices: Collection[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} is {_shown(value)}; expected one of {', '.join(choices)}. Choose one of them.")


def _names(name: str, value: Any, low: int, high: int) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        raise ConfigError(f"{name} is {_shown(value)}; expected a list of names.")
    if len(set(value)) != len(value) or not low <= len(value) <= high:
        raise ConfigError(f"{name} is {_shown(value)}; expected {low} to {high} different names.")
    return tuple(value)


def _findings(name: str, value: Any, known: Collection[str]) -> tuple[str, ...]:
    found = _names(name, value, 2, MAX_CLASSES)
    for finding in found:
        _one_of(name, finding, known)
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


@dataclass(frozen=True, slots=True)
class PhantomData:
    """Synthetic films, the findings in turn; see `cxrmodels.phantom`.

    Attributes:
        films: 4 to 20,000, training and validation together.
        difficulty, noise: 0 to 1.
        findings: the classes, two or more of `phantom.FINDINGS`.
        seed: of the patients.
    """

    films: int = 800
    difficulty: float = 0.2
    noise: float = 0.3
    findings: tuple[str, ...] = FINDINGS
    seed: int = 0

    def __post_init__(self) -> None:
        _whole("films", self.films, 4, MAX_FILMS)
        object.__setattr__(self, "difficulty", _number("difficulty", self.difficulty, 0, 1))
        object.__setattr__(self, "noise", _number("noise", self.noise, 0, 1))
        object.__setattr__(self, "findings", _findings("findings", self.findings, FINDINGS))
        _whole("the phantoms' seed", self.seed, 0, _MAX_SEED)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.findings


@dataclass(frozen=True, slots=True)
class ManifestData:
    """Films of the data folder that are there to learn from (splits `train` and `val`); the others are never touched.

    Attributes:
        findings: the classes. A film with another finding takes no part.
        sources: names of sources; none means all.
        per_class: at most so many films a class, drawn with the run's seed; 0 takes all.
    """

    findings: tuple[str, ...] = FINDINGS
    sources: tuple[str, ...] = ()
    per_class: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", _findings("findings", self.findings, TITLES))
        object.__setattr__(self, "sources", _names("sources", self.sources, 0, 100))
        _whole("per_class", self.per_class, 0, MAX_FILMS)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.findings


@dataclass(frozen=True, slots=True)
class FolderData:
    """The user's own films.

    Attributes:
        name: of the import within the runs folder; see `imports.import_archive`.
        classes: of that import.
    """

    name: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        # It becomes part of a path.
        if not isinstance(self.name, str) or not re.fullmatch(r"[0-9a-z]{1,64}", self.name):
            raise ConfigError(f"The import's name is {_shown(self.name)}; expected small letters and digits.")
        object.__setattr__(self, "classes", _names("classes", self.classes, 2, MAX_CLASSES))


@dataclass(frozen=True, slots=True)
class ConfigurableCnn:
    """A small CNN: blocks of convolution 3x3, ReLU and 2x2 max pooling, then dropout and dense layers.

    Attributes:
        blocks: 1 to 5.
        filters: of the first block, 4 to 128.
        doubling: twice as many in each further block, else as many.
        dropout: 0 to 0.8, before the last layer.
        batch_norm: after each convolution.
        dense: units of a dense layer before the last one, 0 (none) to 512.
    """

    blocks: int = 3
    filters: int = 16
    doubling: bool = True
    dropout: float = 0.3
    batch_norm: bool = False
    dense: int = 64

    def __post_init__(self) -> None:
        _whole("blocks", self.blocks, 1, 5)
        _whole("filters", self.filters, 4, 128)
        _flag("doubling", self.doubling)
        object.__setattr__(self, "dropout", _number("dropout", self.dropout, 0, 0.8))
        _flag("batch_norm", self.batch_norm)
        _whole("dense", self.dense, 0, 512)
        if self.widths[-1] > _MAX_FILTERS:
            raise ConfigError(
                f"The last of {self.blocks} blocks would have {self.widths[-1]} filters; expected at most "
                f"{_MAX_FILTERS}. Take fewer blocks or filters, or do not double."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of each block."""
        return tuple(self.filters * 2 ** (block if self.doubling else 0) for block in range(self.blocks))


Data = PhantomData | ManifestData | FolderData
_DATA: dict[str, type[Data]] = {"phantoms": PhantomData, "manifest": ManifestData, "folder": FolderData}


@dataclass(frozen=True, slots=True)
class RunConfig:
    """All that defines a run. Every instance is valid.

    Attributes:
        name: 1 to 80 printable characters.
        data: the films and their classes.
        network: a key of `FIXED_NETWORKS`, or a `ConfigurableCnn`.
        input_size: side of the film, 32 to 256 pixels.
        optimizer: one of `OPTIMIZERS`, with Keras' own settings (`sgd` with momentum 0.9).
        learning_rate: above 0, at most 10; at the start of the `schedule`.
        schedule: a key of `SCHEDULES`.
        batch_size: 1 to 256 films a step.
        epochs: 1 to 500.
        augmentation: strength, 0 (none) to 1; see `training.augment`.
        class_weights: films of rare classes weigh more in the loss that is minimised, so that classes weigh alike.
        label_noise: share of the training films, 0 to 1, that get another class's label.
        seed: of split, initial weights, order, augmentation, dropout and label noise.
        mixed_precision: bfloat16 arithmetic, float32 weights.
        breakage: a key of `BREAKAGES`.
        validation: share of each class's patients that is held out, 0.05 to 0.5, taken as one part in a whole number.
        folds, fold: of a cross-validation, 2 to 10 and 1 to `folds`; then `validation` is without meaning. 1 and 1:
            none. See `cross_validation`.

    Raises:
        ConfigError: on making one that is not possible.
    """

    name: str = "Phantoms"
    data: Data = field(default_factory=PhantomData)
    network: str | ConfigurableCnn = field(default_factory=ConfigurableCnn)
    input_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    batch_size: int = 32
    epochs: int = 15
    augmentation: float = 0.2
    class_weights: bool = False
    label_noise: float = 0.0
    seed: int = 0
    mixed_precision: bool = False
    breakage: str = "none"
    validation: float = 0.2
    folds: int = 1
    fold: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable() or not 1 <= len(self.name.strip()) <= 80:
            raise ConfigError(f"name is {_shown(self.name)}; expected 1 to 80 printable characters.")
        if not isinstance(self.data, Data):
            raise ConfigError(f"data is {_shown(self.data)}; expected phantoms, films of a manifest or a folder.")
        _whole("input_size", self.input_size, 32, 256)
        self._check_network()
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        object.__setattr__(self, "learning_rate", check_learning_rate(self.learning_rate))
        _one_of("schedule", self.schedule, SCHEDULES)
        _whole("batch_size", self.batch_size, 1, 256)
        _whole("epochs", self.epochs, 1, 500)
        _flag("class_weights", self.class_weights)
        _whole("seed", self.seed, 0, _MAX_SEED)
        _flag("mixed_precision", self.mixed_precision)
        _one_of("breakage", self.breakage, BREAKAGES)
        for name, low, high in (("augmentation", 0, 1), ("label_noise", 0, 1), ("validation", 0.05, 0.5)):
            object.__setattr__(self, name, _number(name, getattr(self, name), low, high))
        _whole("folds", self.folds, 1, 10)
        _whole("fold", self.fold, 1, self.folds)

    def _check_network(self) -> None:
        if isinstance(self.network, ConfigurableCnn):
            return
        _one_of("network", self.network, FIXED_NETWORKS)
        if self.input_size < FIXED_NETWORKS[self.network]:
            raise ConfigError(
                f"{self.network} needs films of {FIXED_NETWORKS[self.network]} px or more; input_size is "
                f"{self.input_size}. Take larger films or another network."
            )
        if self.network == "two_conv_cnn" and len(self.classes) != 2:
            raise ConfigError(
                f"two_conv_cnn ends in one score and tells 2 classes apart; the data has {len(self.classes)}. Choose "
                "two classes or another network."
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the network's outputs."""
        return self.data.classes

    def to_json(self) -> str:
        """The configuration as JSON, all fields in it."""
        return json.dumps(self._plain(), indent=1)

    def to_query(self) -> str:
        """The configuration as a text of some 300 letters, digits, `-` and `_`, for an address."""
        packed = zlib.compress(json.dumps(self._plain(), separators=(",", ":")).encode(), 9)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def _plain(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["data"] = {"kind": next(kind for kind, made in _DATA.items() if made is type(self.data)), **plain["data"]}
        return plain


def check_learning_rate(value: Any) -> float:
    """The learning rate, if it is one.

    Raises:
        ConfigError: it is no number above 0 and up to 10.
    """
    return _number("learning_rate", value, 1e-8, 10)


def from_json(text: str) -> RunConfig:
    """The configuration that `RunConfig.to_json` wrote. Fields that are missing have their default.

    Raises:
        ConfigError: it is no JSON, has a field that no configuration has, or is not possible.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"The configuration is no JSON: {_shown(text)}. Take the file as it was written.") from None
    plain = dict(_known(plain, RunConfig, "The configuration"))
    if "data" in plain:
        data = plain["data"]
        kind = data.get("kind") if isinstance(data, dict) else None
        _one_of("The kind of data", kind, _DATA)
        plain["data"] = _made(_DATA[str(kind)], {key: data[key] for key in data if key != "kind"}, "data")
    if isinstance(plain.get("network"), dict):
        plain["network"] = _made(ConfigurableCnn, plain["network"], "network")
    return RunConfig(**plain)


def from_query(text: str) -> RunConfig:
    """The configuration that `RunConfig.to_query` wrote.

    Raises:
        ConfigError: the text is cut short or changed, or as in `from_json`.
    """
    broken = ConfigError("The address holds no configuration that can be read. Copy the whole address again.")
    if len(text) > _MAX_TEXT:
        raise broken
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        inflating = zlib.decompressobj()
        # An address is written by anybody: it must not unpack to more than a configuration can be.
        plain = inflating.decompress(packed, _MAX_UNPACKED).decode()
    except (ValueError, zlib.error):
        raise broken from None
    if not inflating.eof:
        raise broken
    return from_json(plain)


def _known(plain: Any, made: type[Any], where: str) -> Mapping[str, Any]:
    names = [one.name for one in fields(made)]
    if not isinstance(plain, dict):
        raise ConfigError(f"{where} is {_shown(plain)}; expected the fields {', '.join(names)}.")
    for name in plain:
        _one_of(f"A field of {where.lower()}", name, names)
    return plain


def _made(made: type[Any], plain: Any, where: str) -> Any:
    given = _known(plain, made, where)
    try:
        return made(**given)
    except TypeError:
        names = ", ".join(one.name for one in fields(made))
        raise ConfigError(f"{where} has {', '.join(given) or 'no field'}; expected {names}.") from None


def cross_validation(config: RunConfig, folds: int) -> tuple[RunConfig, ...]:
    """The `folds` (2 to 10) runs of a cross-validation: every patient is held out in one of them.

    Raises:
        ConfigError: another number of folds.
    """
    _whole("folds", folds, 2, 10)
    name = config.name[:60]
    return tuple(
        replace(config, name=f"{name}, fold {fold} of {folds}", folds=folds, fold=fold) for fold in range(1, folds + 1)
    )


def differences(configs: Mapping[str, RunConfig]) -> dict[str, tuple[str, ...]]:
    """In what runs differ.

    Args:
        configs: run -> its configuration.

    Returns:
        Field (those of data and network as `data.films`, `network.blocks`) -> its value in each run, as text, `-`
        where a run has no such field; only fields that are not the same in all.
    """
    flat = [_flat(config) for config in configs.values()]
    names = list(dict.fromkeys(name for one in flat for name in one if name != "name"))
    table = {name: tuple(one.get(name, "-") for one in flat) for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


def _flat(config: RunConfig) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in json.loads(config.to_json()).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": _text(one) for inner, one in value.items()}
        else:
            flat[name] = _text(value)
    if isinstance(config.network, ConfigurableCnn):
        flat["network"] = "configurable"
    return flat


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
