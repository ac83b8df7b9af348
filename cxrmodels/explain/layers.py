"""What a network consists of, as plain values: its layers, what each does in a sentence, and the blocks they form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cxrmodels.engine import Engine
from cxrmodels.runtime import import_tensorflow

if TYPE_CHECKING:
    from keras import Layer as KerasLayer
    from keras import Model

SOFTMAX = "softmax"
"""Name of the last layer shown. No network here holds it: it is applied to the logits, with the card's temperature."""

ANSWER = "answer"
"""Name of the block in which positions are given up: from pooling or flattening to the findings."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of layer: its title, and what it does in one sentence for somebody who sees it for the first time."""

    title: str
    does: str


_RELU = "Sets everything below zero to zero and leaves the rest: only what was found goes on."

KINDS: dict[str, Kind] = {
    "film": Kind("Film", "What the network is given: the film as a square of grey levels, nothing else."),
    "convolution": Kind(
        "Convolution",
        "Slides small learnt patterns over the map and notes how well each fits at every place; one channel a pattern.",
    ),
    "pointwise": Kind(
        "1 x 1 convolution",
        "Looks at one place at a time and mixes its channels into new ones; neighbours play no part.",
    ),
    "depthwise": Kind(
        "Depthwise convolution",
        "Slides one small pattern over each channel by itself; a 1 x 1 convolution mixes the channels afterwards. "
        "Together they do nearly what a convolution does, with far fewer weights.",
    ),
    "separable": Kind(
        "Depthwise separable convolution",
        "First one small pattern slides over each channel by itself, then the channels are mixed place by place: "
        "nearly what a convolution does, with far fewer weights.",
    ),
    "batch_norm": Kind(
        "Batch normalisation",
        "Shifts and scales each channel by what was usual while the network learnt, so that no channel is loud by "
        "chance.",
    ),
    "relu": Kind("ReLU", _RELU),
    "relu6": Kind("ReLU6", f"{_RELU} What exceeds six is cut to six."),
    "leaky_relu": Kind(
        "Leaky ReLU", "Leaves what is above zero and shrinks what is below to a tenth or so: weak objections stay."
    ),
    "hard_swish": Kind(
        "Hard swish", "A ReLU with a soft corner: what is far below zero becomes zero, what is high stays."
    ),
    "hard_sigmoid": Kind("Hard sigmoid", "Squeezes every value into 0 to 1, by straight lines: closed to open."),
    "linear": Kind("Identity", "Hands on what it gets."),
    "max_pooling": Kind(
        "Max pooling",
        "Keeps the strongest value of each small square: the map shrinks, and it matters less where exactly "
        "something was.",
    ),
    "average_pooling": Kind("Average pooling", "Replaces each small square by its mean: a smaller, smoother map."),
    "global_pooling": Kind(
        "Global average pooling",
        "Takes the mean of each channel over the whole map: how much of it there is, no longer where.",
    ),
    "padding": Kind("Padding", "Puts a rim of zeros around the map, so that patterns also fit at its edge."),
    "add": Kind(
        "Residual addition",
        "Adds what the block found to what came in: the block only has to learn what to change.",
    ),
    "gate": Kind(
        "Squeeze-and-excite",
        "Multiplies each channel by a number between 0 and 1 that the whole map decides on: channels that matter for "
        "this film are let through, others are turned down.",
    ),
    "gate_pooling": Kind(
        "Squeeze",
        "Takes the mean of each channel over the whole map. Two small layers turn these means into a gate for each "
        "channel.",
    ),
    "gate_weights": Kind(
        "Excite", "A step from the channels' means to their gates: decides which channels matter for this film."
    ),
    "multiply": Kind("Multiplication", "Multiplies its inputs place by place."),
    "concatenate": Kind(
        "Concatenation", "Puts the channels of several branches, each of which looked in its own way, side by side."
    ),
    "flatten": Kind("Flatten", "Writes the map as one long row of numbers, in which each place keeps its own seat."),
    "dense": Kind("Dense", "Weighs all its inputs and adds them up, once for every unit."),
    "dropout": Kind(
        "Dropout",
        "While learning it hides some values at random, so that none is relied on alone; here it does nothing.",
    ),
    "rescaling": Kind(
        "Rescaling", "Multiplies everything by one fixed number and adds another; nothing is learnt here."
    ),
    "softmax": Kind(
        "Softmax",
        "Turns the scores of the findings into probabilities that sum to one; a temperature fitted on validation "
        "films keeps them honest.",
    ),
    "other": Kind("Layer", "A kind of layer that this page has no sentence for."),
}
"""Kind -> what it is. The kinds of all networks here have a sentence; other networks may hold others."""

_ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "hard_swish": "hard_swish",
    "hard_silu": "hard_swish",
    "hard_sigmoid": "hard_sigmoid",
    "softmax": "softmax",
    "linear": "linear",
}
_PLAIN = {
    "InputLayer": "film",
    "BatchNormalization": "batch_norm",
    "LeakyReLU": "leaky_relu",
    "ReLU": "relu",
    "MaxPooling2D": "max_pooling",
    "AveragePooling2D": "average_pooling",
    "DepthwiseConv2D": "depthwise",
    "SeparableConv2D": "separable",
    "ZeroPadding2D": "padding",
    "Add": "add",
    "Concatenate": "concatenate",
    "Flatten": "flatten",
    "Dense": "dense",
    "Dropout": "dropout",
    "Rescaling": "rescaling",
    "Softmax": "softmax",
}

_MIXING = frozenset({"convolution", "pointwise", "separable", "gate_weights", "flatten", "dense", "softmax", "other"})

EACH, ALL, UNKNOWN = "each", "all", "unknown"
"""What a position of a layer depends on in its inputs: the same position; every position; nobody here knows."""

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """What a position of a layer depends on in its input: `kernel` rows and columns, `dilation` apart, of which the
    first are at `stride` times the position less `before`; what lies outside the input is padding. All (rows, columns).
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a network.

    Attributes:
        name: unique in its network.
        kind: key of `KINDS`.
        activation: key of `KINDS` where the layer applies one to its own output, else empty.
        settings: its size in words, "3 x 3, stride 2"; may be empty.
        shape: of its output for one film: (h, w, C), or (C,).
        parameters: numbers it learnt, those that batch normalisation counted among them.
        inputs: names of the layers before it.
        reach: what a position depends on in each input.
        mixes: whether each of its channels depends on all channels of the input, not on its own only.
        block: the block it belongs to.
    """

    name: str
    kind: str
    activation: str
    settings: str
    shape: tuple[int, ...]
    parameters: int
    inputs: tuple[str, ...]
    reach: Window | str
    mixes: bool
    block: str

    @property
    def has_places(self) -> bool:
        """Whether its output is a map, of more than one position."""
        return len(self.shape) == 3 and self.shape[0] * self.shape[1] > 1

    def sentences(self) -> str:
        """What it does, for a reader."""
        said = KINDS[self.kind].does
        if not self.activation:
            return said
        then = KINDS[self.activation]
        return f"{said} Then {then.title}: {then.does[0].lower()}{then.does[1:]}"


@dataclass(frozen=True, slots=True)
class Block:
    """Layers that belong together: `name`, and `layers` in the order of the film's way, at least one."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def end(self) -> Layer:
        """The layer whose output the next block gets."""
        return self.layers[-1]


def open_network(engine: Engine) -> Model:
    """A model's Keras network, TensorFlow imported with regard for others first."""
    import_tensorflow()
    return engine.loaded.network


def describe(network: Model) -> tuple[Layer, ...]:
    """The layers of a network on the film's way, and the softmax after it.

    Args:
        network: a flat functional Keras model with one input, (batch, size, size, channels) -> logits.
    """
    before = {one["name"]: _names(one["inbound_nodes"]) for one in network.get_config()["layers"]}
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in network.layers}
    kinds = {layer.name: _kind(layer, shapes, before) for layer in network.layers}
    blocks = _block_names([layer.name for layer in network.layers], shapes, kinds)
    found = [
        Layer(
            name=layer.name,
            kind=kinds[layer.name],
            activation=_fused(layer),
            settings=_settings(layer),
            shape=shapes[layer.name],
            parameters=layer.count_params(),
            inputs=before[layer.name],
            reach=_reach(layer, kinds[layer.name], [shapes[one] for one in before[layer.name]]),
            mixes=kinds[layer.name] in _MIXING or getattr(layer, "depth_multiplier", 1) > 1,
            block=blocks[layer.name],
        )
        for layer in network.layers
    ]
    last = found[-1]
    return (*found, Layer(SOFTMAX, "softmax", "", "", last.shape, 0, (last.name,), EACH, True, last.block))


def blocks_of(layers: tuple[Layer, ...]) -> tuple[Block, ...]:
    """The blocks of a network, in order."""
    return tuple(Block(name, tuple(group)) for name, group in groupby(layers, lambda layer: layer.block))


def _names(call: Any) -> tuple[str, ...]:
    """The layers whose outputs a layer is called with, from what Keras writes of the call."""
    if isinstance(call, dict):
        return (call["keras_history"][0],) if "keras_history" in call else _names(list(call.values()))
    return tuple(name for one in call for name in _names(one)) if isinstance(call, list | tuple) else ()


def _kind(layer: KerasLayer, shapes: dict[str, Any], before: dict[str, Any]) -> str:
    name = type(layer).__name__
    entering = [shapes[one] for one in before[layer.name]]
    single = [len(shape) == 3 and shape[:2] == (1, 1) for shape in entering]
    if name == "Activation":
        return _ACTIVATIONS.get(layer.get_config()["activation"], "other")
    special = {
        "Multiply": "gate" if any(single) and not all(single) else "multiply",
        "GlobalAveragePooling2D": "gate_pooling" if getattr(layer, "keepdims", False) else "global_pooling",
        "Conv2D": _convolution(layer, all(single)),
    }
    return special.get(name) or _PLAIN.get(name, "other")


def _convolution(layer: KerasLayer, single: bool) -> str:
    if single:
        return "gate_weights"
    return "pointwise" if getattr(layer, "kernel_size", None) == (1, 1) else "convolution"


def _fused(layer: KerasLayer) -> str:
    if type(layer).__name__ == "Activation":
        return ""
    activation = layer.get_config().get("activation")
    if activation in (None, "linear"):
        return ""
    return _ACTIVATIONS.get(activation, "other") if isinstance(activation, str) else "other"


def _settings(layer: KerasLayer) -> str:
    config = layer.get_config()
    said = []
    if size := config.get("kernel_size") or config.get("pool_size"):
        said.append(f"{size[0]} x {size[1]}")
    if (strides := config.get("strides")) and tuple(strides) != (1, 1):
        said.append(f"stride {strides[0]}" if strides[0] == strides[1] else f"strides {strides[0]} and {strides[1]}")
    if (dilation := config.get("dilation_rate")) and tuple(dilation) != (1, 1):
        said.append(f"{dilation[0]} apart")
    if type(layer).__name__ == "Dropout":
        said.append(f"{100 * config['rate']:.0f} %")
    return ", ".join(said)


def _reach(layer: KerasLayer, kind: str, entering: list[tuple[int, ...]]) -> Window | str:
    """What a position of a layer depends on."""
    if len(layer.output.shape) != 4 or kind in ("gate_pooling", "global_pooling"):
        # A row of numbers has no places: each stands for the whole of what came in.
        return ALL
    if kind == "padding":
        (top, _), (left, _) = layer.padding
        return Window((1, 1), (1, 1), (1, 1), (top, left))
    if hasattr(layer, "kernel_size") or hasattr(layer, "pool_size"):
        return _window(layer, entering[0])
    strange = kind == "other" and type(layer).__name__ != "Activation"
    return UNKNOWN if strange or (kind == "concatenate" and layer.axis not in (-1, 3)) else EACH


def _window(layer: KerasLayer, entering: tuple[int, ...]) -> Window | str:
    if layer.data_format != "channels_last" or layer.padding not in ("same", "valid"):
        return UNKNOWN
    kernel = tuple(getattr(layer, "kernel_size", None) or layer.pool_size)
    dilation = tuple(getattr(layer, "dilation_rate", (1, 1)))
    strides = tuple(layer.strides)
    before = [0, 0]
    if layer.padding == "same":
        for axis in (0, 1):
            size, step = entering[axis], strides[axis]
            wide = (kernel[axis] - 1) * dilation[axis] + 1
            # Of two unequal rims the first is the smaller one, as TensorFlow pads.
            before[axis] = max((-(-size // step) - 1) * step + wide - size, 0) // 2
    return Window(kernel, strides, dilation, (before[0], before[1]))


_STEM = re.compile(r"((?:stage\d+_)?[A-Za-z]+\d*)")
_SEPARABLE = re.compile(r"conv_(?:pad|dw|pw)_(\d+)")
"""MobileNet's names in Keras: the parts of block 3 are `conv_pad_3`, `conv_dw_3`, `conv_pw_3`."""


def _block_names(names: list[str], shapes: dict[str, Any], kinds: dict[str, str]) -> dict[str, str]:
    """The block of each layer, told from what the names begin with: `block3_conv1`, `stage2_block1_add`, `conv_dw_3`.
    Pooling ends the block before it; what follows the last map is the answer."""
    maps = [number for number, name in enumerate(names) if len(shapes[name]) == 3]
    found: dict[str, str] = {}
    current = ""
    for number, name in enumerate(names):
        if number > max(maps):
            current = ANSWER
        else:
            start, separable = _STEM.match(name), _SEPARABLE.match(name)
            stem = f"block{separable.group(1)}" if separable else start.group(1) if start else name
            current = current if stem.startswith("pool") and current else stem
        found[name] = current
    return found
