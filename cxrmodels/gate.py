"""Is this a frontal chest radiograph, upright and not inverted? What is not is refused, with the measured reason."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrmodels import lungs
from cxrmodels.layout import describe_aligned
from cxrmodels.quality import measure, notes
from cxrmodels.zoo import ModelError, file_sha256, weights_folder

if TYPE_CHECKING:
    from cxrmodels.radiograph import Radiograph

KEY, CARD_FILE, NUMBERS_FILE = "gate", "card.json", "gate.npz"
"""The gate's folder among the weights, and its files there."""

PASSED, REFUSED, SYNTHETIC, UNAVAILABLE = "passed", "refused", "synthetic", "unavailable"

CLASSES = ("frontal", "upside_down", "turned_left", "turned_right", "inverted", "other")
"""What a picture can be, in the order of the gate's numbers."""

_MEANS = {
    "upside_down": "It seems to be upside down: turn it by 180 degrees",
    "turned_left": "It seems to lie on its side: turn it by 90 degrees with the clock",
    "turned_right": "It seems to lie on its side: turn it by 90 degrees against the clock",
    "inverted": "Light and dark seem to be exchanged: invert it, so that air is dark",
    "other": "It does not look like a frontal chest film",
}
_LONGEST = 2.5
"""Longer side over the shorter one. The longest frontal film of the public sources has 2.2."""
_BLANK = 0.04
"""Range of greys below which nothing is to be seen, of 1."""
_CLIP = 6.0
_NAMED = 0.4
"""Probability from which a refused film is said to be turned or inverted: the viewer can mend that and try again."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate says of a film.

    Attributes:
        state: `passed`, `refused`; `synthetic` for a film that this program drew, `unavailable` where the gate itself
            is missing: neither is judged.
        reason: in plain words, why it was refused or not judged; empty when it passed.
        notes: what is unusual about a film without being a reason to refuse it, each a sentence.
        measures: name -> what was measured on it; empty when it was not judged.
    """

    state: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the film: also where it was not judged."""
        return self.state != REFUSED

    @property
    def cell(self) -> str:
        """For a column of a table: `pass`, `refused: REASON`, or `not judged: REASON`."""
        if self.state == PASSED:
            return "pass"
        return f"{'refused' if self.state == REFUSED else 'not judged'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Rate:
    """How often the gate is right about one source of films, or one kind of pictures that are none.

    Attributes:
        title: the source or kind, for a reader.
        passes: whether passing is right.
        held_out: whether the gate was built without any of it.
        count: pictures measured.
        value, low, high: share that was judged right, with its 95 % interval.
    """

    title: str
    passes: bool
    held_out: bool
    count: int
    value: float
    low: float
    high: float


def _odds(logits: np.ndarray) -> np.ndarray:
    """Log odds of the first class, (..., K) -> (...), at most 20 either way: what is surer than that is no surer."""
    from scipy.special import logsumexp

    return np.clip(logits[..., 0] - logsumexp(logits[..., 1:], axis=-1), -20, 20)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the gate has learnt, about the F numbers of `layout.describe_aligned` and the K = 6 `CLASSES`.

    Attributes:
        mean, spread: float32 (F,), of all pictures.
        linear, constant: float32 (F, K) and (K,): a logistic regression on the standardised numbers.
        inner, shift: float32 (E, F, H) and (E, 1, H), of the hidden units, rectified, of E small networks on the same.
        weights, bias: float32 (E, H, K) and (E, 1, K), of their outputs.
        middle, width: float32 (F,), of frontal films.
        ways: float32 (F, D): what frontal films differ by; scaled so that each way's coordinate has variance one.
        leftover: the mean squared rest that these ways do not explain, of frontal films.
        scale: float32 (2, 5): weights of the four kinds of evidence, and a constant; of kinds of pictures that the
            networks know, and of those they do not. The lower sum is the score.
    """

    mean: np.ndarray
    spread: np.ndarray
    linear: np.ndarray
    constant: np.ndarray
    inner: np.ndarray
    shift: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    middle: np.ndarray
    width: np.ndarray
    ways: np.ndarray
    leftover: np.ndarray
    scale: np.ndarray

    def evidence(self, described: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and distances.

        Args:
            described: float32 (N, F).

        Returns:
            Probabilities (N, K), the mean of the networks'; and (N, 4): log odds of frontal by the networks, in the
            mean, and by the regression; log of the distance along the ways and across them, both 0 for a usual frontal
            film.
        """
        from scipy.special import softmax

        limit = _CLIP * self.spread
        near = np.clip(described - self.mean, -limit, limit) / self.spread
        logits = np.maximum(near @ self.inner + self.shift, 0) @ self.weights + self.bias
        odds = np.stack([_odds(logits).mean(0), _odds(near @ self.linear + self.constant)], 1)
        away = (described - self.middle) / self.width
        along = (away @ self.ways) ** 2
        # The ways are orthogonal but for their scale: what they explain is taken off before the rest is measured.
        lengths = (self.ways**2).sum(0)
        across = np.maximum((away**2).sum(1) - (along / lengths).sum(1), 1e-6) / self.leftover
        distances = np.log(along.mean(1) + 1e-6), np.log(across + 1e-6)
        return softmax(logits, axis=-1).mean(0), np.concatenate([odds, np.stack(distances, 1)], 1)

    def score(self, evidence: np.ndarray) -> np.ndarray:
        """Evidence (N, 4) -> (N,), the higher the more like a frontal film."""
        sums: np.ndarray = evidence @ self.scale[:, :-1].T + self.scale[:, -1]
        return sums.min(axis=1)


def _damaged(what: str) -> ModelError:
    return ModelError(
        f"{what} Restore weights/{KEY} from the repository, or make it with 'python -m cxrmodels train {KEY}'."
    )


def read_card() -> dict[str, Any]:
    """The gate's card: threshold, usual ranges of quality, measured rates, and how it came about.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        card: dict[str, Any] = json.loads((weights_folder() / KEY / CARD_FILE).read_text(encoding="utf-8"))
        float(card["threshold"]), str(card["sha256"]), dict(card["usual"]), list(card["rates"])
    except FileNotFoundError:
        raise _damaged(f"There is no {KEY}/{CARD_FILE} in the weights folder.") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(f"{KEY}/{CARD_FILE} is damaged ({type(error).__name__}).") from error
    return card


@cache
def _load() -> tuple[Numbers, float, dict[str, tuple[float, float]]]:
    card = read_card()
    path = weights_folder() / KEY / NUMBERS_FILE
    try:
        if file_sha256(path) != card["sha256"]:
            raise _damaged(f"{KEY}/{NUMBERS_FILE} is not the file that its card describes.")
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            numbers = Numbers(**{name: stored[name].astype(np.float32) for name in Numbers.__slots__})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(f"{KEY}/{NUMBERS_FILE} cannot be read ({type(error).__name__}).") from error
    return numbers, float(card["threshold"]), {name: (low, high) for name, (low, high) in card["usual"].items()}


def figures() -> tuple[Rate, ...]:
    """The gate's measured rates, from its card; none where it is missing."""
    try:
        return tuple(Rate(**rate) for rate in read_card()["rates"])
    except (ModelError, TypeError):
        return ()


def forget() -> None:
    """Drop what was read, so that another weights folder is looked into."""
    _load.cache_clear()


def judge(
    radiograph: Radiograph,
    *,
    quality: bool = True,
    outlined: Callable[[Radiograph, np.ndarray], np.ndarray] | None = None,
) -> Gate:
    """Whether the networks can say anything of a film. Without its files the gate says so, and judges nothing.

    Args:
        quality: whether to measure that of a film that passes, too.
        outlined: film, and what `lungs.network_film` makes of it -> its lungs; `lungs.outline` unless given.
    """
    if radiograph.synthetic:
        return Gate(SYNTHETIC, "this program drew it.")
    try:
        numbers, threshold, usual = _load()
    except ModelError as error:
        return Gate(UNAVAILABLE, str(error))
    reason = unfit(radiograph.pixels)
    if reason:
        return Gate(REFUSED, reason)
    film = lungs.network_film(radiograph.pixels)
    try:
        outline = (outlined or lungs.outline)(radiograph, film)
    except ModelError as error:
        return Gate(UNAVAILABLE, str(error))
    return _judge(radiograph, film, outline, numbers, threshold, usual if quality else None)


def _judge(
    radiograph: Radiograph,
    film: np.ndarray,
    outline: np.ndarray,
    numbers: Numbers,
    threshold: float,
    usual: Mapping[str, tuple[float, float]] | None,
) -> Gate:
    probabilities, evidence = numbers.evidence(describe_aligned(film[..., 0], outline)[None])
    score = float(numbers.score(evidence)[0])
    measured = {"score": score, "threshold": threshold}
    measured |= {name: float(value) for name, value in zip(CLASSES, probabilities[0], strict=True)}
    if score < threshold:
        return Gate(REFUSED, _reason(probabilities[0], evidence[0]), (), measured)
    if usual is None:
        return Gate(PASSED, "", (), measured)
    found = measure(radiograph.pixels, outline)
    return Gate(PASSED, "", notes(found, usual), measured | found)


def unfit(pixels: np.ndarray) -> str:
    """Why no film can have this shape or these greys; empty where one can.

    Args:
        pixels: float32 (H, W), 0-1.
    """
    height, width = pixels.shape
    if max(height, width) > _LONGEST * min(height, width):
        shape, times = (
            ("wide as it is high", width / height) if width > height else ("high as it is wide", height / width)
        )
        return f"It is {times:.1f} times as {shape}; chest films are at most {_LONGEST:g} times."
    low, high = np.percentile(pixels[:: max(1, height // 256), :: max(1, width // 256)], (1, 99))
    if high - low < _BLANK:
        return f"It is all but blank: its greys span {high - low:.1%} of the range from black to white."
    return ""


def _reason(probabilities: np.ndarray, evidence: np.ndarray) -> str:
    turned = 1 + int(probabilities[1:-1].argmax())
    if probabilities[turned] > _NAMED:
        return f"{_MEANS[CLASSES[turned]]} ({probabilities[turned]:.0%} sure)."
    further = float(np.exp(max(evidence[2:]) / 2))
    return (
        f"{_MEANS['other']}: by its light, dark and edges it is {probabilities[0]:.0%} likely to be one, and "
        f"{further:.1f} times as far from the usual as frontal films are in the mean."
    )
