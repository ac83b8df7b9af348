"""What a network's weights are before it learns: fresh ones, those of a trained model, or ImageNet's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from cxrmodels.datasets.manifest import data_folder
from cxrmodels.networks.unet import BLOCKS
from cxrmodels.training.recipes import FRESH, IMAGENET
from cxrmodels.zoo import ModelError, ModelSpec, load
from cxrmodels.zoo import spec as spec_of


@dataclass(frozen=True, slots=True)
class Body:
    """A network's body as `keras.applications` has it.

    Attributes:
        application: name of its builder there.
        end: our network's layer that the body ends with.
        scale, shift: what its ImageNet weights expect in place of a grey from 0 to 1: `scale` times it plus `shift`,
            one a channel.
        options: of its builder.
        file: name of a file of its arrays that a data folder may hold in `init`.
    """

    application: str
    end: str
    scale: float
    shift: tuple[float, float, float]
    options: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


_CAFFE: tuple[float, tuple[float, float, float]] = 255.0, (-103.939, -116.779, -123.68)
"""Greys to 255 less the mean of ImageNet's blue, green and red. The order matters to the shift alone: a film's three
channels are one."""
_SYMMETRIC: tuple[float, tuple[float, float, float]] = 2.0, (-1.0, -1.0, -1.0)
"""From -1 to 1."""

_MOBILENET = Body("MobileNet", "conv_pw_13_act", *_SYMMETRIC, {"alpha": 0.75}, "mobilenet_v1_0.75_224_imagenet.npz")

BODIES: dict[str, Body] = {
    "vgg16": Body("VGG16", "block5_pool", *_CAFFE),
    "resnet50": Body("ResNet50", "stage5_block3_out", *_CAFFE),
    "inception_v3": Body("InceptionV3", "mixed10", *_SYMMETRIC),
    "xception": Body("Xception", "block14_sepconv2_act", *_SYMMETRIC),
    "mobilenet_v3": Body("MobileNetV3Large", "top_act", *_SYMMETRIC, {"include_preprocessing": False}),
    "mobilenet_v1": _MOBILENET,
    "lung_unet": replace(_MOBILENET, end=f"conv_pw_{BLOCKS}_act"),
}
"""Network -> its body, or the beginning of one. The order of the weight arrays is the same on both sides."""


def carry_weights(source: keras.Model, target: keras.Model) -> list[str]:
    """Copy layer weights by name wherever all shapes agree; names the layers that start afresh."""
    fresh = []
    for layer in target.layers:
        values = source.get_layer(layer.name).get_weights()
        if [value.shape for value in values] == [tuple(weight.shape) for weight in layer.weights]:
            layer.set_weights(values)
        else:
            fresh.append(layer.name)
    return fresh


def first_weights(spec: ModelSpec, init: str) -> Callable[[keras.Model], object] | None:
    """What sets the first weights of a freshly built network.

    Args:
        spec: of the network that is going to learn.
        init: `fresh`; `imagenet`, for the networks of `BODIES`, whose heads stay fresh; or the key of a shipped model
            with the same network, whose layers are taken wherever their shapes agree.

    Returns:
        None for `fresh`.

    Raises:
        ModelError: there are no such weights for this network, or they cannot be had.
    """
    if init == FRESH:
        return None
    if init == IMAGENET:
        return _imagenet(spec)
    if spec_of(init).network != spec.network:
        raise ModelError(
            f"{spec.title} cannot start from the weights of {init}, whose network is {spec_of(init).network}; it needs "
            f"those of a {spec.network}."
        )
    source = load(init).network
    return lambda network: carry_weights(source, network)


def set_body(network: keras.Model, body: Body, arrays: list[np.ndarray]) -> None:
    """Give a network's body the weights of `keras.applications`, made to expect greys from 0 to 1.

    What those networks do to their input first, scaling it and taking a mean off, goes into the first convolution:
    the scale into its kernel, the rest into its bias or the mean of the normalisation after it. That is exact wherever
    the kernel lies within the film. Where it hangs over the edge the padding stands for black here and for the mean
    there; the networks without padding there (Inception-v3, Xception) are exact to the edge.

    Args:
        network: built for three channels, or for one: a film's three are one, so their kernels add up.
        arrays: of the body, in the order of Keras; those of more layers than the network has are left over.
    """
    kernel, *others = arrays
    own = keras.Model(network.input, network.get_layer(body.end).output)
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D))
    scaled = body.scale * (kernel if network.input.shape[-1] == 3 else kernel.sum(axis=2, keepdims=True))
    own.set_weights([scaled, *others[: len(own.weights) - 1]])
    constant = np.einsum("ijco,c->o", kernel, np.array(body.shift, kernel.dtype))
    if first.use_bias:
        first.bias.assign(np.asarray(first.bias) + constant)
    else:
        mean = network.get_layer(f"{first.name}_bn").moving_mean
        mean.assign(np.asarray(mean) - constant)


def _imagenet(spec: ModelSpec) -> Callable[[keras.Model], object]:
    body = BODIES.get(spec.network)
    if body is None:
        raise ModelError(
            f"There are no ImageNet weights for {spec.title}; there are for the networks {', '.join(BODIES)}. Leave "
            "--init out, or take --init fresh."
        )
    folder = data_folder() if body.file else None
    if folder is not None and (path := folder / "init" / body.file).is_file():
        return _stored(spec, body, path)
    arrays = _downloaded(spec, body)
    return lambda network: set_body(network, body, arrays)


def _downloaded(spec: ModelSpec, body: Body) -> list[np.ndarray]:
    """The arrays of `keras.applications`, which keeps what it has downloaded."""
    builder = getattr(keras.applications, body.application)
    try:
        source: keras.Model = builder(include_top=False, weights="imagenet", input_shape=(224, 224, 3), **body.options)
    except Exception as error:  # Keras raises bare `Exception` where an address cannot be reached.
        raise ModelError(
            f"The ImageNet weights of {spec.title} could not be had: {error}. They are downloaded once and then kept. "
            "See that this machine reaches the network and try again, or take --init fresh."
        ) from error
    arrays: list[np.ndarray] = source.get_weights()
    return arrays


def _stored(spec: ModelSpec, body: Body, path: Path) -> Callable[[keras.Model], object]:
    """From a file whose arrays are named `layer__variable`, as Keras calls them and our layers, too."""

    def broken(error: Exception) -> ModelError:
        return ModelError(
            f"{path} does not hold the ImageNet weights of {spec.title} ({type(error).__name__}: {error}). Restore it, "
            "or take it away to have them downloaded."
        )

    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, BadZipFile) as error:
        raise broken(error) from error

    def fill(network: keras.Model) -> None:
        found = []
        try:
            for layer in keras.Model(network.input, network.get_layer(body.end).output).layers:
                # Files of before Keras 3 call the kernel of a depthwise convolution so.
                kind = "depthwise_kernel" if isinstance(layer, keras.layers.DepthwiseConv2D) else "kernel"
                names = [kind if weight.name == "kernel" else weight.name for weight in layer.weights]
                found += [arrays[f"{layer.name}__{name}"] for name in names]
            set_body(network, body, found)
        except (KeyError, ValueError) as error:
            raise broken(error) from error

    return fill
