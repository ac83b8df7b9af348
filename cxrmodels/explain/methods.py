"""Every way to draw a heat map: those that come free with a prediction, and those that ask the network again and again.

All are steps (`explain.steps`), so that the long ones can say how far they are and be stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from cxrmodels.engine import Engine, Output
from cxrmodels.explain.saliency import METHODS, SaliencyMap, as_map, position
from cxrmodels.explain.steps import Steps
from cxrmodels.inference import network_input
from cxrmodels.radiograph import Floats, Radiograph, resize

FILM_LAYER = "film"
"""What maps of the network's input say of themselves in place of a layer's name."""

BATCH = 32
"""Films that are asked about at once; a piece of work takes as long as they do."""
_GRADIENT_BATCH = 8

_SAMPLES, _NOISE = 24, 0.15  # of SmoothGrad: the paper finds 10-20 % noise best, and little gain beyond 50 samples
_NODES = 2  # of Gauss and Legendre, on each segment of the way of integrated gradients
GRADIENTS, THOROUGH = 256, 1024
"""Gradients that integrated gradients may take, for a map that is only compared, and for one that is looked at."""
COMPLETENESS = 1e-3
"""How far, as a share of the score's whole change, the parts of integrated gradients may be from adding up to it; a
network of many kinks can use up its gradients before it gets there."""
_PATCH, _STRIDE = 1 / 7, 1 / 14  # of a film's side: some 170 positions


@dataclass(frozen=True, slots=True)
class Subject:
    """One question: which parts of this film speak for this finding?

    Attributes:
        film: float32 (size, size, channels), 0-1, as the network sees it.
        output: the network's output for it, one row.
        finding: position among the model's findings.
        seed: of whatever is drawn at random.
        gradients: most that integrated gradients may take.
    """

    engine: Engine
    film: np.ndarray
    output: Output
    finding: int
    seed: int
    gradients: int = GRADIENTS

    def logits(self, films: np.ndarray) -> np.ndarray:
        """The finding's logit, float32 (n,), for films (n, size, size, channels)."""
        return self.engine.run(films).logits[:, self.finding]


class InputGradient:
    """Gradient of a finding's logit by the film, compiled once for a network."""

    _made: ClassVar[WeakKeyDictionary[Engine, InputGradient]] = WeakKeyDictionary()

    def __init__(self, engine: Engine) -> None:
        import tensorflow as tf

        network, model = engine.loaded.network, engine.loaded.spec
        self._lock, self._findings = engine.loaded.lock, len(model.findings)
        shape = (None, model.input_size, model.input_size, model.channels)

        def gradient(films: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(films)
                score = tf.reduce_sum(network(films, training=False) * weights)
            return tape.gradient(score, films)

        # Any number of films, so that it is compiled once and not for every number anew.
        signature = [tf.TensorSpec(shape, tf.float32), tf.TensorSpec((self._findings,), tf.float32)]
        self._gradient = tf.function(gradient, input_signature=signature)

    @classmethod
    def of(cls, engine: Engine) -> InputGradient:
        """The one of this engine, made when it is first asked for."""
        if engine not in cls._made:
            cls._made[engine] = cls(engine)
        return cls._made[engine]

    def __call__(self, films: np.ndarray, finding: int) -> np.ndarray:
        """Gradients for films, float32 (n, size, size, channels), each by its own film; the same shape."""
        import tensorflow as tf

        weights = np.zeros(self._findings, np.float32)
        weights[finding] = 1
        with self._lock:
            found: np.ndarray = self._gradient(tf.constant(films), tf.constant(weights)).numpy()
        return found


def _batches(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


# --- the methods: a question -> a raw map (h, w), whatever its size; what is negative speaks against the finding ------


def _quick(key: str, subject: Subject) -> Steps[np.ndarray]:
    gradient = subject.engine.gradient(subject.output.features, subject.finding)
    yield 1.0
    return METHODS[key].weigh(subject.output.features[0], gradient[0])


def _score_cam(subject: Subject) -> Steps[np.ndarray]:
    # Imported here: it takes half a second, which the first paint of a page need not wait for.
    from scipy.special import softmax

    features = subject.output.features[0]
    side, channels = subject.film.shape[0], features.shape[-1]
    weights = np.empty(channels, np.float32)
    for these in _batches(channels, BATCH):
        chosen = features[..., these]
        low, high = chosen.min((0, 1)), chosen.max((0, 1))
        scaled = (chosen - low) / (high - low + 1e-7)
        masks = np.stack([resize(mask, side, side) for mask in np.moveaxis(scaled, -1, 0)])
        logits = subject.engine.run(subject.film[None] * masks[..., None]).logits
        weights[these] = softmax(logits, axis=1)[:, subject.finding]
        yield these.stop / channels
    return np.einsum("hwc,c->hw", features, weights)


def _smooth_grad(subject: Subject) -> Steps[np.ndarray]:
    gradient, rng = InputGradient.of(subject.engine), np.random.default_rng(subject.seed)
    sigma = _NOISE * float(np.ptp(subject.film))
    total = np.zeros(subject.film.shape[:2])
    for these in _batches(_SAMPLES, _GRADIENT_BATCH):
        # One grey noise for all channels: the film is grey, and so is its noise.
        noise = rng.normal(0, sigma, (these.stop - these.start, *subject.film.shape[:2], 1))
        films = (subject.film + noise).astype(np.float32)
        total += np.abs(gradient(films, subject.finding).sum(-1)).sum(0)
        yield these.stop / _SAMPLES
    return total / _SAMPLES


def _integrated_gradients(subject: Subject) -> Steps[np.ndarray]:
    """Along the straight way from a black film, in segments. Those whose parts add up least to the change of the score
    are cut in two, until what is wrong altogether is allowed: the score moves in jerks near black, and hardly later."""
    gradient, film = InputGradient.of(subject.engine), subject.film
    nodes, shares = np.polynomial.legendre.leggauss(_NODES)

    def integrated(segments: np.ndarray, scores: np.ndarray) -> list[_Segment]:
        """(n, 2) ends on the way, 0-1, and the scores there."""
        middles, halves = segments.mean(1), np.diff(segments)[:, 0] / 2
        at = (middles[:, None] + halves[:, None] * nodes).ravel()
        slopes = gradient((at[:, None, None, None] * film).astype(np.float32), subject.finding)
        parts = np.einsum("nhwc,hwc->nhw", slopes, film, dtype=np.float64).reshape(-1, _NODES, *film.shape[:2])
        found = np.einsum("snhw,n,s->shw", parts, shares, halves)
        return [
            _Segment(abs(float(part.sum() - np.diff(ends)[0])), where, ends, part.astype(np.float32))
            for where, ends, part in zip(segments, scores, found, strict=True)
        ]

    marks = np.linspace(0, 1, _GRADIENT_BATCH // _NODES + 1)
    scores = _along(subject, marks)
    segments = integrated(*(np.stack([values[:-1], values[1:]], axis=1) for values in (marks, scores)))
    # Where the score is the same at both ends, a share of what it changes on the way.
    allowed, spent = COMPLETENESS * max(abs(scores[-1] - scores[0]), float(np.ptp(scores)) / 10), _GRADIENT_BATCH
    while sum(segment.wrong for segment in segments) > allowed and spent < subject.gradients:
        yield spent / subject.gradients
        segments.sort(key=lambda segment: segment.wrong)
        cut = [segments.pop() for _ in range(_GRADIENT_BATCH // _NODES // 2)]
        marks = np.stack([[one.where[0], one.where.mean(), one.where[1]] for one in cut])
        middles = _along(subject, marks[:, 1])
        values = np.stack([[one.scores[0], middle, one.scores[1]] for one, middle in zip(cut, middles, strict=True)])
        segments += integrated(*(np.concatenate([rows[:, :2], rows[:, 1:]]) for rows in (marks, values)))
        spent += _GRADIENT_BATCH
    yield 1.0
    return np.sum([segment.part for segment in segments], axis=0)


class _Segment(NamedTuple):
    """A piece of the way of integrated gradients."""

    wrong: float  # how far `part` is from adding up to the change of the score
    where: np.ndarray  # (2,)
    scores: np.ndarray  # (2,), at its ends
    part: np.ndarray  # (h, w), what each pixel has of the change


def _along(subject: Subject, at: np.ndarray) -> np.ndarray:
    """Scores on the way from a black film (0) to this one (1)."""
    return subject.logits((at[:, None, None, None] * subject.film).astype(np.float32)).astype(np.float64)


def _occlusion(subject: Subject) -> Steps[np.ndarray]:
    side = subject.film.shape[0]
    patch = max(1, round(_PATCH * side))
    corners = np.unique(np.append(np.arange(0, side - patch, max(1, round(_STRIDE * side))), side - patch))
    places = [(top, left) for top in corners for left in corners]
    score = subject.output.logits[0, subject.finding]
    drop, covered = np.zeros((side, side)), np.zeros((side, side))
    for these in _batches(len(places), BATCH):
        films = np.repeat(subject.film[None], these.stop - these.start, axis=0)
        for film, (top, left) in zip(films, places[these], strict=True):
            film[top : top + patch, left : left + patch] = 0
        for (top, left), hidden in zip(places[these], subject.logits(films), strict=True):
            drop[top : top + patch, left : left + patch] += score - hidden
            covered[top : top + patch, left : left + patch] += 1
        yield these.stop / len(places)
    return drop / covered


def random_raw(seed: int, cells: int = 8) -> Floats:
    """A map that knows nothing, float32 (64, 64), 0-1: as coarse as a class activation map, so as fair a rival."""
    noise = np.random.default_rng(seed).random((cells, cells), np.float32)
    return resize(noise, 64, 64)


def _random(subject: Subject) -> Steps[np.ndarray]:
    yield 1.0
    return random_raw(subject.seed)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to draw a heat map.

    Attributes:
        title: its name.
        assumes: what it does and takes for granted, for a reader.
        draw: the steps that end in a raw map.
        of_features: it is a map of the feature layer, so needs one with more than one position; otherwise of the film.
        slow: it asks the network many times.
        shares_out: it shares out the score's change from a black film to this one, so that its parts should add up.
    """

    title: str
    assumes: str
    draw: Callable[[Subject], Steps[np.ndarray]]
    of_features: bool = False
    slow: bool = True
    shares_out: bool = False


WAYS: dict[str, Way] = {
    **{
        key: Way(method.title, method.assumes, partial(_quick, key), of_features=True, slow=False)
        for key, method in METHODS.items()
    },
    "score_cam": Way(
        "Score-CAM",
        "Shows the network the film through each feature map and weighs the map by the probability that remains "
        "(Wang et al. 2020). Assumes that a film darkened elsewhere is still one the network can judge.",
        _score_cam,
        of_features=True,
    ),
    "smooth_grad": Way(
        "SmoothGrad",
        "Mean size of the gradient over 24 noisy copies of the film (Smilkov et al. 2017). Shows where small changes "
        "would move the score, up or down alike; edges often look important.",
        _smooth_grad,
    ),
    "integrated_gradients": Way(
        "Integrated gradients",
        "Shares out the score's change from a black film to this one among the pixels (Sundararajan et al. 2017). "
        "Assumes that black means no evidence; dark places can therefore get none.",
        _integrated_gradients,
        shares_out=True,
    ),
    "occlusion": Way(
        "Occlusion",
        "Covers one place after another with black, as air is, and notes how far the score falls (Zeiler and Fergus "
        "2014). Assumes that evidence lies in one place; where two places say the same, neither seems to matter.",
        _occlusion,
    ),
    "random": Way(
        "Random map (control)",
        "Knows neither film nor network. A map that fares no better than this one tells nothing.",
        _random,
        slow=False,
    ),
}
"""Method key -> way, in the order offered."""


def ways_of(engine: Engine, output: Output) -> tuple[str, ...]:
    """Keys of the methods that apply to a model: maps of a layer with a single position would show no place."""
    height, width = output.features.shape[1:3]
    return tuple(key for key, way in WAYS.items() if not way.of_features or height * width > 1)


def draw(
    engine: Engine,
    radiograph: Radiograph,
    output: Output,
    finding: str,
    method: str,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    gradients: int = GRADIENTS,
) -> Steps[SaliencyMap]:
    """Steps to a heat map for one finding of one film, by any method.

    Args:
        engine: the model's engine.
        radiograph: the film.
        output: what `inference.predict` returned for this film (one row).
        finding: one of the model's findings.
        method: a key of `WAYS`.
        size: (height, width) of the heat map; by default the radiograph's.
        seed: of methods that draw at random.
        gradients: most that integrated gradients may take; the more, the nearer it comes to adding up.

    Raises:
        KeyError: unknown method.
        ValueError: the model does not answer the finding, or the method does not apply to it.
    """
    model = engine.loaded.spec
    if method not in WAYS:
        raise KeyError(f"Unknown method {method!r}; expected one of {', '.join(WAYS)}.")
    if method not in ways_of(engine, output):
        raise ValueError(
            f"{WAYS[method].title} shows no place on {model.key}: its feature layer has one position only."
        )
    way = WAYS[method]
    subject = Subject(engine, network_input(radiograph, model), output, position(model, finding), seed, gradients)
    raw = yield from way.draw(subject)
    layer = model.feature_layer if way.of_features else FILM_LAYER
    found = as_map(raw, model, radiograph, finding, method, layer, size)
    if not way.shares_out:
        return found
    black, score = _along(subject, np.array([0.0, 1.0]))
    return replace(found, adds_up=(float(raw.sum()), float(score - black)))


def adding_up(found: SaliencyMap) -> str:
    """For a map of a method that shares out the score's change, how near its parts come to adding up to that, in words;
    empty for other maps."""
    if found.adds_up is None:
        return ""
    parts, change = found.adds_up
    said = (
        f"Its parts add up to {parts:+.3f}; from a black film to this one the score changes by {change:+.3f} (logit)."
    )
    if abs(parts - change) <= COMPLETENESS * abs(change):
        return said
    if abs(parts - change) <= 0.05 * abs(change):
        return f"{said} They are {100 * abs(parts - change) / abs(change):.1f} % off: good enough to look at."
    return f"{said} That is too far apart to call the map complete: along the way the score moves in jerks."
