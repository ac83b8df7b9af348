"""One heat map as a picture that can be passed on: over its film, with the lungs outlined and all that it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrmodels.engine import Engine
from cxrmodels.explain.evidence import evidence, in_words
from cxrmodels.explain.methods import WAYS, draw
from cxrmodels.explain.steps import finish
from cxrmodels.findings import TITLES
from cxrmodels.inference import predict
from cxrmodels.lungs import contours
from cxrmodels.plots import contact_sheet_png, outlined, overlay, percent
from cxrmodels.radiograph import Radiograph

_OPACITY = 0.6


@dataclass(frozen=True, slots=True)
class Sheet:
    """A heat map's picture as PNG, the finding it is for, and where its evidence lies, in words (empty where no lungs
    are known, or the map is empty)."""

    picture: bytes
    finding: str
    where: str


def sheet(
    engine: Engine,
    radiograph: Radiograph,
    method: str,
    finding: str | None = None,
    lungs: np.ndarray | None = None,
    report: Callable[[float], object] = lambda share: None,
) -> Sheet:
    """Draw a model's heat map by any method.

    Args:
        method: a key of `methods.WAYS`.
        finding: by default the model's likeliest.
        lungs: bool (H, W), both lungs of the film, where they are known.
        report: called with the share that is done, 0-1.

    Raises:
        ValueError: the model does not answer the finding, or the method does not apply to it.
    """
    model = engine.loaded.spec
    prediction, output = predict(engine, radiograph)
    finding = finding or prediction.findings[prediction.top]
    heat = finish(draw(engine, radiograph, output, finding, method), report)
    picture, where = overlay(radiograph.pixels, heat.heat, _OPACITY), ""
    if lungs is not None:
        picture = outlined(picture, contours(lungs))
        where = in_words(evidence(heat.heat, lungs), finding) if heat.raw_max else ""
    title = f"{model.title}: {TITLES[finding]}, {percent(prediction.probability(finding) or 0.0)}"
    about = f"{WAYS[method].title}, layer {heat.layer}; weights {prediction.weights_sha256[:12]}"
    heading = f"{'synthetic film, ' if radiograph.synthetic else ''}{radiograph.name}"
    return Sheet(contact_sheet_png([(title, about, picture)], heading, cell=720), finding, where)
