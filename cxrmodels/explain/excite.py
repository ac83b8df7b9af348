"""The picture that excites a unit most: activation maximisation (Erhan et al. 2009), by tf-keras-vis.

From noise, the most exciting one of several, the picture climbs the gradient of the unit's activation. As is usual, it
is kept from becoming mere noise (Yosinski et al. 2015; Olah et al. 2017): before each step it is moved by a pixel or
two and blurred a little, less and less, and what the gradient says of coarse and fine structure counts alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrmodels.engine import Engine
from cxrmodels.explain.layers import SOFTMAX, open_network
from cxrmodels.explain.steps import Steps

if TYPE_CHECKING:
    from keras import Model

STEPS = 64
"""Steps of the climb."""
_AT_ONCE = 2  # steps in a piece of work
_STRIDE = 0.03  # of the range of greys, by which a step changes a picture's pixels on average
_BLUR = 0.8  # pixels, at the first step; none at the last
_SHIFT = 1 / 64  # of the side
_SCALES = (0.5, 1.5, 4.0)  # pixels: a gradient's fine structure is not to drown what is larger
_STARTS = (1.0, 2.0, 4.0, 8.0)  # pixels: grain of the noises of which the most exciting one is the start


@dataclass(frozen=True, slots=True)
class Excited:
    """A picture that excites a unit.

    Attributes:
        picture: uint8 (size, size), a grey film as the network would be given it.
        before, after: the unit's activation for the noise it began with, and for the picture, the best on the way: the
            mean over its map where it has one.
    """

    picture: np.ndarray
    before: float
    after: float


class _Unsteady:
    """Moves and blurs the picture before each step, as input modifiers of tf-keras-vis do, seeded."""

    def __init__(self, side: int, seed: int) -> None:
        self._rng, self._most = np.random.default_rng(seed), max(1, round(_SHIFT * side))
        self._at, self._done = np.zeros(2, int), 0

    def __call__(self, picture: Any) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        to = self._rng.integers(-self._most, self._most + 1, 2)
        sigma = _BLUR * (1 - self._done / STEPS)
        moved = np.roll(np.asarray(picture), to - self._at, (1, 2))
        self._at, self._done = to, self._done + 1
        blurred: np.ndarray = gaussian_filter(moved, (0, sigma, sigma, 0), mode="nearest")
        return blurred

    def back(self, picture: np.ndarray) -> np.ndarray:
        """The picture where it was before it was moved."""
        return np.roll(picture, -self._at, (1, 2))


def excite(engine: Engine, layer: str, channel: int, seed: int = 0) -> Steps[Excited]:
    """Steps to the picture that excites a channel, a unit of a dense layer, or a finding most.

    Args:
        layer: name of one of the network's layers; of `SOFTMAX`, which saturates, the scores before it are meant.
        channel: number of the channel, of the unit, or of the finding.
        seed: of the noise it begins with, and of its moves.

    Raises:
        ValueError: there is no such layer, or no such channel in it.
    """
    import keras
    import tensorflow as tf
    from tf_keras_vis.activation_maximization import ActivationMaximization

    yield 0.0
    model = _of_grey(open_network(engine), layer)
    count = model.outputs[0].shape[-1]
    if not 0 <= channel < count:
        raise ValueError(f"{layer} has no channel {channel}; it has {count}, counted from 0.")
    side = engine.loaded.spec.input_size
    rng, unsteady = np.random.default_rng(seed), _Unsteady(side, seed)

    def score(outputs: Any) -> Any:
        return tf.reduce_mean(tf.reshape(outputs[..., channel], (1, -1)), axis=1)

    def measured(pictures: np.ndarray) -> list[float]:
        with engine.loaded.lock:
            return [float(score(model([one[None]], training=False))[0]) for one in pictures]

    climb = ActivationMaximization(model)
    starts = np.stack([_noise(rng, side, grain) for grain in _STARTS])
    scores = measured(starts)
    before = after = max(scores)
    best = picture = starts[scores.index(before)][None]
    for done in range(0, STEPS, _AT_ONCE):
        with engine.loaded.lock:
            picture = np.asarray(
                climb(
                    score,
                    seed_input=picture,
                    input_range=(0.0, 1.0),
                    input_modifiers=[unsteady],
                    regularizers=None,
                    steps=_AT_ONCE,
                    optimizer=keras.optimizers.SGD(_STRIDE),
                    gradient_modifier=_even,
                )
            )
        still = unsteady.back(picture)
        (now,) = measured(still)
        if now > after:
            best, after = still, now
        yield (done + _AT_ONCE) / STEPS
    return Excited(np.rint(255 * best[0, ..., 0]).astype(np.uint8), before, after)


def _noise(rng: np.random.Generator, side: int, grain: float) -> np.ndarray:
    """Noise of a grain in pixels around mid grey, float32 (side, side, 1), 0-1."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal((side, side)), grain, mode="wrap")
    grey: np.ndarray = np.clip(0.5 + 0.15 * noise / noise.std(), 0, 1)
    return grey[..., None].astype(np.float32)


def _even(gradient: Any) -> Any:
    """Coarse and fine structure of a gradient, (1, h, w, 1), in equal shares, and of the same size whatever the unit:
    layers differ in scale by orders of magnitude."""
    import tensorflow as tf
    from scipy.ndimage import gaussian_filter

    raw = np.asarray(gradient)
    scales = [gaussian_filter(raw, (0, sigma, sigma, 0), mode="nearest") for sigma in _SCALES]
    return tf.constant(np.mean([one / (np.abs(one).mean() + 1e-12) for one in scales], axis=0))


def _of_grey(network: Model, layer: str) -> Model:
    """A network up to a layer, for films of one channel: X-rays have no colour, so the picture gets none either."""
    import keras
    import tensorflow as tf

    size, channels = network.inputs[0].shape[1], network.inputs[0].shape[-1]
    output = network.outputs[0] if layer == SOFTMAX else network.get_layer(layer).output
    part = tf.function(keras.Model(network.inputs[0], output, name="part"), reduce_retracing=True)

    class Compiled(keras.layers.Layer):
        """A deep network spends most of its time between its layers otherwise."""

        def call(self, grey: Any) -> Any:
            return part(tf.repeat(grey, channels, axis=-1), training=False)

    grey = keras.layers.Input((size, size, 1), batch_size=1, name="grey")
    return keras.Model([grey], Compiled(name="compiled")(grey), name="of_grey")
