"""From a Keras network to OpenVINO: its forward pass, and the gradient that heat maps are made from.

The gradient is TensorFlow's own graph, converted like the other. OpenVINO has no operations for the backward steps of
pooling and ReLU; they are put together here from those that it has, and give what TensorFlow's give, ties included.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrmodels.runtime.on_tensorflow import functions
from cxrmodels.zoo import ModelSpec

if TYPE_CHECKING:
    from keras import Model

_TO_NCHW, _TO_NHWC = np.array([0, 3, 1, 2]), np.array([0, 2, 3, 1])


def convert(network: Model, model: ModelSpec) -> tuple[Any, Any]:
    """A network's two OpenVINO models, both for one film at a time.

    Returns:
        Film (1, size, size, channels) -> features (1, h, w, C) and logits (1, K); and features, weights (K,) ->
        gradient of the weighted sum of logits, shaped like the features.

    Raises:
        openvino.frontend.OpConversionFailure: the part behind the feature layer holds something whose backward step
            is not known here.
    """
    import tensorflow as tf
    from openvino.frontend import ConversionExtension
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    forward, gradient, shape = functions(network, model.feature_layer)
    film = tf.TensorSpec((1, model.input_size, model.input_size, model.channels), tf.float32)
    features = tf.TensorSpec((1, *shape), tf.float32)
    weights = tf.TensorSpec((len(model.findings),), tf.float32)
    convert_model = _converter().convert_model
    # Freezing leaves out the slopes by weights, which nobody asked for and the converter does not know.
    backward = convert_variables_to_constants_v2(tf.function(gradient).get_concrete_function(features, weights))
    # Weights that are shared would be gone with the Keras network, and what is then in their place would be taken for
    # them.
    return (
        convert_model(tf.function(forward).get_concrete_function(film), share_weights=False),
        convert_model(
            backward.graph,
            extension=[ConversionExtension(name, build) for name, build in _BACKWARD.items()],
            share_weights=False,
        ),
    )


def _converter() -> Any:
    """OpenVINO's converter. It would tell its maker of each conversion if it found the package that does so."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    return importlib.import_module("openvino.tools.ovc")


def _relu(node: Any) -> list[Any]:
    from openvino import opset13 as ops

    slope, features = node.get_input(0), node.get_input(1)
    zero = ops.constant(np.float32(0))
    return ops.select(ops.greater(features, zero), slope, zero).outputs()


def _max_pool(node: Any) -> list[Any]:
    """Each window's slope goes to its greatest value, the first of several."""
    from openvino import opset13 as ops

    before, slope = (ops.transpose(node.get_input(position), _TO_NCHW) for position in (0, 2))
    _, height, width, _ = node.get_attribute("ksize")
    _, down, right, _ = node.get_attribute("strides")
    _channels_last(node)
    pooled = ops.max_pool(
        before,
        strides=[down, right],
        dilations=[1, 1],
        pads_begin=[0, 0],
        pads_end=[0, 0],
        kernel_shape=[height, width],
        auto_pad="valid" if node.get_attribute("padding") == "VALID" else "same_upper",
        index_element_type="i64",
        axis=2,
    )
    rows = ops.constant(np.array([0, 0, -1]))
    flat = ops.reshape(ops.multiply(before, ops.constant(np.float32(0))), rows, special_zero=True)
    spread = ops.scatter_elements_update(
        flat,
        ops.reshape(pooled.output(1), rows, special_zero=True),
        ops.reshape(slope, rows, special_zero=True),
        ops.constant(2),
        reduction="sum",
    )
    return ops.transpose(ops.reshape(spread, ops.shape_of(before), special_zero=False), _TO_NHWC).outputs()


def _average_pool(node: Any) -> list[Any]:
    """Each window's slope is shared out among its values."""
    from openvino import opset13 as ops

    _channels_last(node)
    size, slope = node.get_input(0), ops.transpose(node.get_input(1), _TO_NCHW)
    _, height, width, _ = node.get_attribute("ksize")
    _, down, right, _ = node.get_attribute("strides")
    padded = node.get_attribute("padding") != "VALID"
    if padded and (down, right, height % 2, width % 2) != (1, 1, 1, 1):
        raise NotImplementedError("the backward step of average pooling with padding, unless it moves by one")
    # A pooling of every channel by itself is a convolution of one channel if the channels count as films.
    n_c = ops.gather(ops.shape_of(slope), ops.constant([0, 1]), ops.constant(0))
    singles = ops.reshape(
        slope,
        ops.concat([ops.constant([-1, 1]), ops.gather(ops.shape_of(slope), ops.constant([2, 3]), ops.constant(0))], 0),
        special_zero=False,
    )
    if padded:
        # Windows at the edge hold fewer values, and a window covers what covers it.
        ones, zero = ops.constant(np.ones((1, 1, height, width), np.float32)), ops.constant(np.float32(0))
        pads = [height // 2, width // 2]
        around = {"strides": [1, 1], "pads_begin": pads, "pads_end": pads, "dilations": [1, 1]}
        counts = ops.convolution(ops.add(ops.multiply(singles, zero), ops.constant(np.float32(1))), ones, **around)
        spread = ops.convolution(ops.divide(singles, counts), ones, **around)
        return ops.transpose(ops.reshape(spread, ops.shape_of(slope), special_zero=False), _TO_NHWC).outputs()
    share = ops.constant(np.full((1, 1, height, width), 1 / (height * width), np.float32))
    sides = ops.gather(ops.convert(size, "i64"), ops.constant([1, 2]), ops.constant(0))
    spread = ops.convolution_backprop_data(singles, share, strides=[down, right], output_shape=sides)
    return ops.transpose(ops.reshape(spread, ops.concat([n_c, sides], 0), special_zero=False), _TO_NHWC).outputs()


def _concatenation_offsets(node: Any) -> list[Any]:
    """Where each of several joined arrays begins: at the sum of the lengths before it, along the joining axis."""
    from openvino import opset13 as ops

    axis, zero = ops.convert(node.get_input(0), "i32"), ops.constant(np.int32(0))
    shapes = [ops.convert(node.get_input(position), "i32") for position in range(1, node.get_input_size())]
    rank = ops.squeeze(ops.shape_of(shapes[0], output_type="i32"), ops.constant(0))
    along = ops.equal(ops.range(zero, rank, ops.constant(np.int32(1)), output_type="i32"), axis)
    begin = ops.multiply(shapes[0], zero)
    offsets = []
    for shape in shapes:
        offsets += begin.outputs()
        begin = ops.add(begin, ops.select(along, shape, zero))
    return offsets


def _channels_last(node: Any) -> None:
    if (layout := node.get_attribute("data_format")) != "NHWC":
        raise NotImplementedError(f"the backward step of pooling on {layout}")


_BACKWARD: dict[str, Callable[[Any], list[Any]]] = {
    "ReluGrad": _relu,
    "MaxPoolGrad": _max_pool,
    "AvgPoolGrad": _average_pool,
    "ConcatOffset": _concatenation_offsets,
}
"""TensorFlow's name of an operation that OpenVINO does not know -> what stands in for it."""
