"""Class activation maps that come free with a prediction: all need only the features and one gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrmodels.engine import Engine, Output
from cxrmodels.inference import seen_part
from cxrmodels.radiograph import Radiograph, resize
from cxrmodels.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class SaliencyMap:
    """Where evidence for a finding lies.

    Attributes:
        model, method, finding, layer: what it is a map of.
        film_sha256: the film it belongs to.
        heat: float32 (H, W) over the whole radiograph, 0-1, the greatest value 1 unless there is nothing to show.
        raw_max: the greatest value before scaling; 0 means that the map is empty.
        adds_up: of a method that shares out a change of the score: what the shares add up to, and the change, both in
            logits. How far they are apart is how far the map is from what the method promises.
    """

    model: str
    method: str
    finding: str
    layer: str
    film_sha256: str
    heat: np.ndarray
    raw_max: float
    adds_up: tuple[float, float] | None = None


def _grad_cam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return np.einsum("hwc,c->hw", features, gradient.mean((0, 1)))


def _grad_cam_plus_plus(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    # The two terms of the denominator can all but cancel: single precision would show in the map.
    features, gradient = features.astype(np.float64), gradient.astype(np.float64)
    squared, cubed = gradient**2, gradient**3
    below = 2 * squared + features.sum((0, 1)) * cubed
    alpha = squared / np.where(below != 0, below, 1)
    total = alpha.sum((0, 1))
    alpha = alpha / np.where(total != 0, total, 1)
    return np.einsum("hwc,c->hw", features, (np.maximum(gradient, 0) * alpha).sum((0, 1)))


def _layer_cam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return (features * np.maximum(gradient, 0)).sum(-1)


@dataclass(frozen=True, slots=True)
class Method:
    """A saliency method: its name, what it does and assumes in one line, and how it weighs the features.

    `weigh` takes features and the logit's gradient, both float32 (h, w, C), and gives (h, w); what is negative
    in it speaks against the finding and is cut off.
    """

    title: str
    assumes: str
    weigh: Callable[[np.ndarray, np.ndarray], np.ndarray]


METHODS: dict[str, Method] = {
    "grad_cam": Method(
        "Grad-CAM",
        "Adds up the feature maps, each weighted by how much the finding's score rises with it on average "
        "(Selvaraju et al. 2017). Assumes that a feature matters alike wherever it occurs.",
        _grad_cam,
    ),
    "grad_cam_plus_plus": Method(
        "Grad-CAM++",
        "Like Grad-CAM, but positions where the score rises count more (Chattopadhyay et al. 2018). Made for "
        "several places at once; it hardly tells findings apart.",
        _grad_cam_plus_plus,
    ),
    "layer_cam": Method(
        "Layer-CAM",
        "Weighs every position by its own gradient (Jiang et al. 2021). Sharper, and noisier.",
        _layer_cam,
    ),
}
"""Method key -> method, in the order offered."""


def saliency(
    engine: Engine,
    radiograph: Radiograph,
    output: Output,
    finding: str,
    method: str,
    size: tuple[int, int] | None = None,
) -> SaliencyMap:
    """A heat map for one finding of one film.

    Args:
        engine: the model's engine.
        radiograph: the film.
        output: what `inference.predict` returned for this film (one row).
        finding: one of the model's findings.
        method: a key of `METHODS`.
        size: (height, width) of the heat map; by default the radiograph's.

    Raises:
        KeyError: unknown method.
        ValueError: the model does not answer the finding.
    """
    if method not in METHODS:
        raise KeyError(f"Unknown method {method!r}; expected one of {', '.join(METHODS)}.")
    gradient = engine.gradient(output.features, position(engine.loaded.spec, finding))
    raw = METHODS[method].weigh(output.features[0], gradient[0])
    return as_map(raw, engine.loaded.spec, radiograph, finding, method, engine.loaded.spec.feature_layer, size)


def position(model: ModelSpec, finding: str) -> int:
    """Where a finding stands among a model's.

    Raises:
        ValueError: the model does not answer it.
    """
    if finding not in model.findings:
        raise ValueError(f"{model.key} does not answer {finding!r}; it answers {', '.join(model.findings)}.")
    return model.findings.index(finding)


def as_map(
    raw: np.ndarray,
    model: ModelSpec,
    radiograph: Radiograph,
    finding: str,
    method: str,
    layer: str,
    size: tuple[int, int] | None,
) -> SaliencyMap:
    """What a method found, float (h, w), as a heat map of `size` (by default the radiograph's): what speaks against
    the finding cut off, the rest scaled to 0-1, and laid where the network looked."""
    raw = np.maximum(raw, 0)
    raw_max = float(raw.max())
    heat = np.zeros(size or radiograph.pixels.shape, np.float32)
    if raw_max > 0:
        heat = on_film((raw / raw_max).astype(np.float32), model, radiograph, size)
    heat.setflags(write=False)
    return SaliencyMap(model.key, method, finding, layer, radiograph.sha256, heat, raw_max)


def on_film(
    values: np.ndarray, model: ModelSpec, radiograph: Radiograph, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Values over what the network saw, float32 (h, w), 0-1, laid where it looked: float32 (height, width) over the
    whole film, of `size` or by default the radiograph's, 0 where the network saw nothing."""
    height, width = size or radiograph.pixels.shape
    left, top, right, bottom = seen_part(radiograph, model)
    x, y = round(left * width), round(top * height)
    wide, high = max(1, round(right * width) - x), max(1, round(bottom * height) - y)
    laid = np.zeros((height, width), np.float32)
    laid[y : y + high, x : x + wide] = resize(values, wide, high)
    return laid
