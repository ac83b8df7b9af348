"""Does a heat map tell of the network, and of what it learnt? Three checks that need no ground truth.

Covering what a faithful map calls hot lowers the score (Petsiuk et al. 2018, RISE). A map worth looking at hardly moves
when the film hardly changes. And it must not survive that the network's weights are shuffled (Adebayo et al. 2018).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from cxrmodels.engine import Engine
from cxrmodels.explain.methods import BATCH, draw, random_raw
from cxrmodels.explain.saliency import SaliencyMap, position
from cxrmodels.explain.similarity import Likeness, likeness
from cxrmodels.explain.steps import Steps, part
from cxrmodels.inference import interpret, network_input, predict
from cxrmodels.radiograph import Floats, Radiograph, resize
from cxrmodels.zoo import LoadedModel

FIFTH = 0.2
SHARES = np.unique(np.append(np.linspace(0, 1, 25), FIFTH))
"""Shares of the film that are covered: 24 steps, and a fifth, which the sentence is about."""

RANDOM_MAPS = 3
"""Random maps that a map is compared with."""

_BLUR = 1 / 20  # of the film's side: what insertion starts from
MAP_SIZE = (96, 96)
"""(height, width) at which maps are drawn that are only compared."""
MOST_LAYERS = 12
"""Steps in which a network's weights are shuffled, whatever its depth."""


# --- covering ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curves:
    """The finding's calibrated probability while the film is covered and uncovered in the order of a map.

    Attributes:
        deletion: (S,), covered with black from the hottest place on, by `SHARES`.
        insertion: (S,), a blurred film that gets its detail back from the hottest place on.
        random_deletion, random_insertion: (R, S), the same in the order of R random maps.
    """

    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray

    @property
    def gain(self) -> float:
        """By how much the map does better than random ones: what it lowers the area under the deletion curve and
        raises that under the insertion curve by, on average; -1 to 1."""
        return self._score(self.deletion, self.insertion) - float(np.mean(self._randoms()))

    @property
    def beats_all(self) -> bool:
        """Whether it does better than each of the random maps."""
        return self._score(self.deletion, self.insertion) > max(self._randoms())

    def _randoms(self) -> list[float]:
        return [self._score(*pair) for pair in zip(self.random_deletion, self.random_insertion, strict=True)]

    @staticmethod
    def _score(deletion: np.ndarray, insertion: np.ndarray) -> float:
        return (area(insertion) - area(deletion)) / 2

    def sentence(self) -> str:
        """What covering a fifth does."""
        at = int(np.flatnonzero(SHARES == FIFTH)[0])
        before, after, other = self.deletion[0], self.deletion[at], self.random_deletion[:, at].mean()
        moves = "lowers" if after < before - 0.005 else "raises" if after > before + 0.005 else "leaves"
        change = f"at {after:.2f}" if moves == "leaves" else f"from {before:.2f} to {after:.2f}"
        return f"Covering the hottest fifth {moves} the score {change}; a random fifth, to {other:.2f}."


def area(curve: np.ndarray) -> float:
    """Area under a curve over `SHARES`, trapezoids; 0-1."""
    return float(np.trapezoid(curve, SHARES))


def _blurred(film: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma = _BLUR * film.shape[0]
    blurred: np.ndarray = gaussian_filter(film, (sigma, sigma, 0))
    return blurred


def ranks(heat: np.ndarray, side: int, seed: int) -> np.ndarray:
    """Which share of the film is hotter than each pixel, (side, side), 0 to below 1; equal heat in a random order."""
    flat = resize(heat.astype(np.float32), side, side).ravel()
    order = np.lexsort((np.random.default_rng(seed).random(flat.size), -flat))
    hotter = np.empty(flat.size)
    hotter[order] = np.arange(flat.size) / flat.size
    return hotter.reshape(side, side)


def cover(engine: Engine, radiograph: Radiograph, finding: str, heat: np.ndarray, seed: int = 0) -> Steps[Curves]:
    """Steps to the deletion and insertion curves of a heat map.

    Args:
        heat: float (h, w), 0-1.
        seed: of the random maps.
    """
    from scipy.special import softmax

    model, side = engine.loaded.spec, engine.loaded.spec.input_size
    film, place = network_input(radiograph, model), position(model, finding)
    # Black, as air is: the film's mean grey in a lung would look like an opacity, and raise the score.
    blurred, black = _blurred(film), np.zeros_like(film)
    rivals = [random_raw(seed + number) for number in range(RANDOM_MAPS)]
    orders = [ranks(one, side, seed) for one in (heat, *rivals)]

    def films() -> Iterator[np.ndarray]:
        for order in orders:
            for share in SHARES:
                yield np.where((order < share)[..., None], black, film)
            for share in SHARES:
                yield np.where((order < share)[..., None], film, blurred)

    scores: list[float] = []
    total, source = 2 * len(orders) * len(SHARES), films()
    while len(scores) < total:
        batch = np.stack([next(source) for _ in range(min(BATCH, total - len(scores)))])
        scores += softmax(engine.run(batch).logits / engine.loaded.card.temperature, axis=1)[:, place].tolist()
        yield len(scores) / total
    curves = np.array(scores).reshape(len(orders), 2, len(SHARES))
    return Curves(curves[0, 0], curves[0, 1], curves[1:, 0], curves[1:, 1])


# --- small changes ----------------------------------------------------------------------------------------------------


def _turned(degrees: float) -> Callable[[Floats], Floats]:
    return lambda pixels: np.asarray(Image.fromarray(pixels).rotate(degrees, Image.Resampling.BILINEAR))


def _exposed(gamma: float) -> Callable[[Floats], Floats]:
    return lambda pixels: pixels ** np.float32(gamma)


def _as_jpeg(quality: int) -> Callable[[Floats], Floats]:
    def saved(pixels: Floats) -> Floats:
        stream = io.BytesIO()
        Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(stream, "JPEG", quality=quality)
        return np.asarray(Image.open(stream), np.float32) / np.float32(255)

    return saved


@dataclass(frozen=True, slots=True)
class _Nudge:
    """A change that no reader would mind; `back` undoes what it does to places."""

    make: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats] = lambda heat: heat


NUDGES: dict[str, _Nudge] = {
    "turned by 3 degrees": _Nudge(_turned(3), _turned(-3)),
    "turned back by 3 degrees": _Nudge(_turned(-3), _turned(3)),
    "exposed longer": _Nudge(_exposed(1.15)),
    "exposed shorter": _Nudge(_exposed(0.87)),
    "saved as JPEG, quality 60": _Nudge(_as_jpeg(60)),
}
"""Words for a small change -> the change."""


@dataclass(frozen=True, slots=True)
class Stability:
    """What a small change does to the finding's probability, 0-1, and how alike the map stays."""

    change: str
    probability: float
    likeness: Likeness


def nudge(
    engine: Engine, radiograph: Radiograph, finding: str, method: str, heat: np.ndarray, seed: int = 0
) -> Steps[tuple[Stability, ...]]:
    """Steps to how stable a map is under `NUDGES`.

    Args:
        method: a key of `methods.WAYS`, the map's.
        heat: float (h, w), 0-1, the map of the film as it is.
    """
    place = position(engine.loaded.spec, finding)
    found = []
    for number, (words, change) in enumerate(NUDGES.items()):
        pixels = np.ascontiguousarray(change.make(radiograph.pixels), np.float32)
        film = replace(radiograph, sha256=f"{radiograph.sha256} {words}", pixels=pixels)
        prediction, output = predict(engine, film)
        begin, end = number / len(NUDGES), (number + 1) / len(NUDGES)
        again = yield from part(draw(engine, film, output, finding, method, MAP_SIZE, seed), begin, end)
        alike = likeness(heat, change.back(again.heat))
        found.append(Stability(words, float(prediction.probabilities[place]), alike))
    return tuple(found)


# --- shuffled weights -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shuffled:
    """A map of the network with its last layers' weights shuffled.

    Attributes:
        layers: how many of its layers with weights are shuffled, from the last one on.
        of: how many it has.
        last: name of the first of them on the film's way.
        probability: of the finding, 0-1, as the shuffled network says it.
        map: at `MAP_SIZE`.
        likeness: to the map of the network as it is.
    """

    layers: int
    of: int
    last: str
    probability: float
    map: SaliencyMap
    likeness: Likeness


_copies: WeakKeyDictionary[Engine, Engine] = WeakKeyDictionary()


def _copy(engine: Engine) -> Engine:
    """An engine of a copy of the network whose weights may be changed; compiled once, then used again. TensorFlow's, as
    one that takes the weights over when it compiles would not see them change."""
    if engine not in _copies:
        from keras.models import clone_model

        loaded = engine.loaded
        _copies[engine] = Engine(LoadedModel(loaded.spec, loaded.card, lambda: clone_model(loaded.network)))
    return _copies[engine]


def shuffle(
    engine: Engine, radiograph: Radiograph, finding: str, method: str, heat: np.ndarray, seed: int = 0
) -> Steps[tuple[Shuffled, ...]]:
    """Steps to maps of the network with ever more of its weights shuffled, from the last layer to the first.

    Each layer's arrays keep their values, in another order: what was learnt is gone, their scale is not. The network
    itself is not touched. It starts from the weights as they are.

    Args:
        method: a key of `methods.WAYS`, the map's.
        heat: float (h, w), 0-1, the map of the network as it is.

    Returns:
        At most `MOST_LAYERS` maps; the last one is of a network that learnt nothing.
    """
    copy, rng = _copy(engine), np.random.default_rng(seed)
    yield 0.0
    copy.loaded.network.set_weights(engine.loaded.network.get_weights())
    network, place = copy.loaded.network, position(engine.loaded.spec, finding)
    layers = [layer for layer in reversed(network.layers) if layer.weights]
    stops = np.unique(np.linspace(1, len(layers), min(MOST_LAYERS, len(layers))).round().astype(int))
    film, done = network_input(radiograph, engine.loaded.spec)[None], 0
    found = []
    for number, stop in enumerate(stops):
        for layer in layers[done:stop]:
            layer.set_weights([rng.permutation(array.ravel()).reshape(array.shape) for array in layer.get_weights()])
        done = int(stop)
        output = copy.run(film)
        begin, end = number / len(stops), (number + 1) / len(stops)
        again = yield from part(draw(copy, radiograph, output, finding, method, MAP_SIZE, seed), begin, end)
        probability = float(interpret(copy, radiograph, output.logits[0]).probabilities[place])
        last = layers[done - 1].name
        found.append(Shuffled(done, len(layers), last, probability, again, likeness(heat, again.heat)))
    return tuple(found)
