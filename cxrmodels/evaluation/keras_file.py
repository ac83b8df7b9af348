"""A `.keras` file from somebody else, opened without running code from it and without letting it take all memory."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras import KerasTensor, Model

MAX_BYTES = 1000**3
MAX_UNPACKED = 4 * 1000**3
MIN_SIDE, MAX_SIDE = 16, 1024
"""Shortest and longest side of a network's input, in pixels."""

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, _WEIGHTS, "metadata.json"}
_MAX_CONFIG = 20 * 1000**2
# Layers of Keras itself that hold or fetch foreign code.
_FOREIGN_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
_MAX_ACTIVATION = 2**27  # values a layer gives for one film (half a gigabyte); VGG16 at 1024 pixels: 2**26
_BATCH = 16
_BATCH_VALUES = 2**28  # of the largest layer's output for a whole batch (a gigabyte)


class ContractError(ValueError):
    """The file cannot be used as a network here. The message says what came, what was expected, what to do."""


_SAVE_AGAIN = "Save the network with Keras 3: model.save('model.keras')."


def read_archive(path: Path) -> tuple[dict[str, Any], int, str]:
    """The checked configuration, the size of the weights in bytes, and a sentence on the versions of Keras."""
    if path.is_dir():
        raise ContractError(f"A folder came (a SavedModel?); expected one .keras file. {_SAVE_AGAIN}")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise ContractError(
            f"The file cannot be read ({type(error).__name__}); expected a .keras file. Choose it again."
        ) from None
    if start.startswith(b"\x89HDF"):
        raise ContractError(f"The file is HDF5, the format of older Keras; expected a .keras file. {_SAVE_AGAIN}")
    if path.suffix.lower() != ".keras":
        raise ContractError(f"The file ends in {path.suffix[:20]!r}; expected a .keras file. {_SAVE_AGAIN}")
    if size > MAX_BYTES:
        raise ContractError(
            f"The file has {size / 1e9:.1f} GB; expected at most {MAX_BYTES / 1e9:.0f} GB. Save it without the "
            "optimizer (compile the network anew), or bring its predictions as CSV."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member.file_size for member in archive.infolist()}
            _check_members(members, len(archive.infolist()))
            config = json.loads(archive.read(_CONFIG))
            versions = _versions(archive) if "metadata.json" in members else ""
    except ContractError:
        raise
    except Exception as error:  # On broken bytes zipfile, zlib and json raise anything.
        raise ContractError(
            f"The file is broken, cut short or no .keras file ({type(error).__name__}); expected a zip archive that "
            f"Keras 3 wrote. {_SAVE_AGAIN}"
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ContractError(f"The file's {_CONFIG} describes no network; expected what Keras 3 writes. {_SAVE_AGAIN}")
    # How it was trained is of no matter here, and may name anything.
    config["compile_config"] = None
    for part in _parts(config):
        _check_part(part)
    return config, members[_WEIGHTS], versions


def _check_members(members: dict[str, int], entries: int) -> None:
    # Only names that Keras writes for a network without vocabularies: no path in the archive can lead anywhere.
    foreign = sorted(set(members) - _MEMBERS)
    if foreign or entries > len(members):
        what = f"also holds {foreign[0][:60]!a}" if foreign else "holds a name twice"
        raise ContractError(f"The archive {what}; expected {', '.join(sorted(_MEMBERS))} only. {_SAVE_AGAIN}")
    missing = sorted({_CONFIG, _WEIGHTS} - set(members))
    if missing:
        raise ContractError(f"The archive lacks {' and '.join(missing)}; expected a whole network. {_SAVE_AGAIN}")
    unpacked = sum(members.values())
    if unpacked > MAX_UNPACKED or members[_CONFIG] > _MAX_CONFIG:
        raise ContractError(
            f"The archive unpacks to {unpacked / 1e9:.1f} GB, {members[_CONFIG] / 1e6:.0f} MB of them configuration; "
            f"expected at most {MAX_UNPACKED / 1e9:.0f} GB and {_MAX_CONFIG / 1e6:.0f} MB. Bring its predictions as "
            "CSV instead."
        )


def _versions(archive: zipfile.ZipFile) -> str:
    import keras

    metadata = json.loads(archive.read("metadata.json"))
    saved_by = str(metadata.get("keras_version", "?"))[:20] if isinstance(metadata, dict) else "?"
    return f"It was saved by Keras {ascii(saved_by)[1:-1]}; this is Keras {keras.__version__}."


def _parts(value: object) -> Iterator[dict[str, Any]]:
    """Every object in a configuration."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            waiting += current.values()
            if isinstance(current.get("class_name"), str):
                yield current
        elif isinstance(current, list):
            waiting += current


def _check_part(part: dict[str, Any]) -> None:
    kind, module = part["class_name"], part.get("module", "keras")
    name = ascii(str(part.get("name", ""))[:40])
    if kind in _FOREIGN_CODE:
        raise ContractError(
            f"The network holds foreign code, {kind} {name}; expected layers of Keras only, "
            "since code in a file could do anything. Replace it by layers (Rescaling, Activation, keras.ops), or bring "
            "its predictions as CSV."
        )
    # Built-in functions are stored by name alone; a function that is spelt out is the author's.
    if kind == "function" or not (isinstance(module, str) and (module == "keras" or module.startswith("keras."))):
        what = part.get("config") if kind == "function" else kind
        raise ContractError(
            f"The network uses the custom object {str(what)[:40]!a}; expected layers and functions of Keras only, "
            "since its code is not in the file. Replace it, or bring the network's predictions as CSV."
        )


# --- what the network will be, before any memory is spent on it --------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """A network's input and output, how many films to run at once (`batch`), and the layers that its graph calls
    with training=True (`left_on`)."""

    size: tuple[int, int]
    channels: int
    outputs: int
    batch: int
    left_on: tuple[str, ...]


def plan(config: dict[str, Any], weights_bytes: int, versions: str) -> Plan:
    # Keras keeps the variables that are still to be filled per thread: in one of its own they vanish with it.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_plan_here, config, weights_bytes, versions).result()


def _plan_here(config: dict[str, Any], weights_bytes: int, versions: str) -> Plan:
    """A few lines of configuration can ask for a terabyte of weights: built without values, they cost nothing."""
    import keras

    try:
        with keras.StatelessScope(initialize_variables=False):
            # A copy, since Keras takes it apart.
            network = keras.saving.deserialize_keras_object(deepcopy(config), safe_mode=True)
    except Exception as error:  # A configuration that somebody else wrote: anything can be raised.
        raise _unbuildable(error, versions) from None
    inputs, outputs = getattr(network, "inputs", None) or [], getattr(network, "outputs", None) or []
    if not isinstance(network, keras.Model) or not inputs:
        raise ContractError(
            "The network has no fixed input; expected one that is built. Start it with keras.Input((H, W, C))."
        )
    if len(inputs) != 1 or len(outputs) != 1:
        raise ContractError(
            f"The network has {len(inputs)} inputs and {len(outputs)} outputs; expected one film as input and one "
            "row of scores as output. Cut it with keras.Model(input, output)."
        )
    size, channels = _input_shape(inputs[0].shape)
    shape = outputs[0].shape
    if len(shape) != 2 or not shape[1]:
        raise ContractError(
            f"The output has the shape {shape}; expected (None, K), a score for each of K findings. End the network "
            "with pooling or Flatten and Dense(K)."
        )
    # A value takes a byte at least, even quantised.
    promised = network.count_params()
    if promised > weights_bytes:
        raise ContractError(
            f"The network's layers need {promised:,} weights and the file holds {weights_bytes:,} bytes of them; "
            f"expected them all. {_SAVE_AGAIN}"
        )
    largest = max(_values(tensor.shape) for tensor in _tensors(network))
    if largest > _MAX_ACTIVATION:
        raise ContractError(
            f"One layer gives {largest:,} values for a film; expected at most {_MAX_ACTIVATION:,}. Use a smaller input "
            "or bring its predictions as CSV."
        )
    left_on = tuple(str(part.get("name")) for part in _parts(config) if _trains(part))
    return Plan(size, channels, shape[1], max(1, min(_BATCH, _BATCH_VALUES // largest)), left_on)


def _trains(part: dict[str, Any]) -> bool:
    """Whether a layer's author calls it with training=True."""
    import keras

    uses = part.get("inbound_nodes", ())
    # Random flips and the like have that as their default, which Keras writes into the file.
    training = signature(getattr(keras.layers, part["class_name"], keras.Model).call).parameters.get("training")
    if training is None or training.default is True:
        return False
    # Lists in place of objects come from older Keras and state no such thing.
    return any(isinstance(use, dict) and use["kwargs"].get("training") is True for use in uses)


def _values(shape: tuple[int | None, ...]) -> int:
    return prod(length or 1 for length in shape[1:])


def _tensors(model: Model) -> Iterator[KerasTensor]:
    """What every layer gives out, those of nested models included."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _tensors(layer)
        else:
            yield from keras.tree.flatten(getattr(layer, "output", ()))


def _input_shape(shape: tuple[int | None, ...]) -> tuple[tuple[int, int], int]:
    advice = "Start the network with keras.Input((H, W, C)), for instance (224, 224, 3)."
    if len(shape) != 4 or shape[0] is not None or shape[3] not in (1, 3):
        raise ContractError(
            f"The input has the shape {shape}; expected (None, H, W, C) with C 1 or 3, channels last. {advice}"
        )
    height, width = shape[1:3]
    if height is None or width is None:
        raise ContractError(f"The input has no fixed size: {shape}; expected numbers for height and width. {advice}")
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in (height, width)):
        raise ContractError(
            f"The input is {height} x {width} pixels; expected {MIN_SIDE} to {MAX_SIDE} a side. {advice}"
        )
    return (height, width), shape[3]


def _unbuildable(error: Exception, versions: str) -> ContractError:
    return ContractError(
        f"Keras cannot rebuild the network ({type(error).__name__}); expected one whose layers and weights fit. "
        f"{versions} Save it again with this version."
    )


def load_network(path: Path, versions: str) -> Model:
    import keras

    try:
        loaded = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # See `_plan_here`: here the weights are read as well.
        raise _unbuildable(error, versions) from None
    # A Sequential is turned into a plain graph; the name is given because automatic ones clash between threads.
    return keras.Model(loaded.inputs, loaded.outputs, name="brought")
