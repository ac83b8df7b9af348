"""A film -> what the models say of it, as plain values."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams

from cxrmodels import NOTICE
from cxrmodels.api.problems import ProblemError, busy
from cxrmodels.explain.saliency import METHODS, SaliencyMap
from cxrmodels.fair_line import LineFullError
from cxrmodels.findings import TITLES
from cxrmodels.gate import Gate
from cxrmodels.inference import Prediction
from cxrmodels.lab.kept import is_own
from cxrmodels.models import available, card, spec
from cxrmodels.plots import overlay_png
from cxrmodels.radiograph import Radiograph, resize
from cxrmodels.service import Service, Viewer
from cxrmodels.zoo import ModelError

ENFORCE, REPORT = "enforce", "report"
"""What `gate=` may be: no model answers for a film that the gate refuses; or they do, and it is told."""

_OPACITY = 0.6
LONGEST_SIDE = 1024
"""Of a heat map, in pixels; one of a smaller film has the film's size."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a film.

    Attributes:
        models: their keys.
        saliency: a heat map by this method from each; empty for none.
        finding: what the heat maps are of; empty for each model's likeliest.
        gate: `enforce` or `report`.
    """

    models: tuple[str, ...]
    saliency: str
    finding: str
    gate: str

    @classmethod
    def of(cls, query: QueryParams) -> Question:
        """A question as an address has it.

        Raises:
            ProblemError: it names what does not exist.
        """
        known = available()
        named = [key.strip() for text in query.getlist("models") for key in text.split(",")]
        keys = known if named in ([], ["all"]) else tuple(dict.fromkeys(named))
        for key in keys:
            _one_of("models", key, ("all", *known))
        return cls(
            keys,
            _one_of("saliency", query.get("saliency", ""), ("", *METHODS)),
            _one_of("finding", query.get("finding", ""), ("", *TITLES)),
            _one_of("gate", query.get("gate", ENFORCE), (ENFORCE, REPORT)),
        )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"{name} is {value[:80]!r}; expected one of {', '.join(filter(None, known))}.",
        )
    return value


class Answers:
    """Asks the service on behalf of requests, and has it forget their films when they are answered."""

    def __init__(self) -> None:
        self._asked: Counter[tuple[str, str]] = Counter()

    async def answer(self, service: Service, radiograph: Radiograph, question: Question, client: str) -> dict[str, Any]:
        """What the models say.

        Args:
            client: who asks; their films stand in one row of the line.

        Raises:
            ProblemError: too much waits, or no model could answer.
        """
        mine = (f"api {client}", radiograph.sha256)
        self._asked[mine] += 1
        try:
            return await _answer(Viewer(service, mine[0]), radiograph, question)
        except LineFullError as full:
            raise busy(str(full), full.retry_after) from None
        finally:
            self._asked[mine] -= 1
            if not self._asked[mine]:  # The same film may be in another request of theirs.
                del self._asked[mine]
                service.forget(mine[0], radiograph)


async def _answer(viewer: Viewer, radiograph: Radiograph, question: Question) -> dict[str, Any]:
    gate: Gate = await asyncio.wrap_future(viewer.gate(radiograph))
    models: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    if gate.passed or question.gate == REPORT:
        reads = {key: viewer.read(radiograph, key) for key in question.models}
        for key, future in reads.items():
            try:
                prediction = (await asyncio.wrap_future(future)).prediction
                heat = await _heat(viewer, radiograph, key, prediction, question)
            except LineFullError:
                raise
            except ModelError as error:
                errors.append({"model": key, "detail": str(error)})
                continue
            models.append(_model(prediction) | {"heat_map": heat})
        if errors and not models:
            raise ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, f"No model could answer. {errors[0]['detail']}")
    width, height = radiograph.original_size
    return {
        "notice": NOTICE,
        "film": {
            "name": radiograph.name,
            "sha256": radiograph.sha256,
            "width": width,
            "height": height,
            "format": radiograph.format,
            "synthetic": radiograph.synthetic,
            "notes": list(radiograph.notes),
        },
        "gate": {
            "state": gate.state,
            "passed": gate.passed,
            "reason": gate.reason,
            "notes": list(gate.notes),
            "measures": {name: float(value) for name, value in gate.measures.items()},
        },
        "models": models,
        "errors": errors,
    }


def _model(prediction: Prediction) -> dict[str, Any]:
    return {
        "model": prediction.model,
        "title": spec(prediction.model).title,
        "weights_sha256": prediction.weights_sha256,
        "training_sources": list(prediction.training_sources),
        "decision": prediction.decision,
        "threshold": float(prediction.threshold),
        "findings": [
            {"finding": finding, "title": TITLES.get(finding, finding), "probability": float(value), "logit": float(z)}
            for finding, value, z in zip(prediction.findings, prediction.probabilities, prediction.logits, strict=True)
        ],
    }


async def _heat(
    viewer: Viewer, radiograph: Radiograph, key: str, prediction: Prediction, question: Question
) -> dict[str, Any] | None:
    finding = question.finding or prediction.findings[prediction.top]
    if not question.saliency or finding not in prediction.findings:
        return None
    height, width = radiograph.pixels.shape
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    heat = await asyncio.wrap_future(viewer.heat(radiograph, key, finding, question.saliency, size))
    picture = await run_in_threadpool(_drawn, radiograph, heat)
    return {
        "method": heat.method,
        "finding": heat.finding,
        "layer": heat.layer,
        "empty": not heat.raw_max,
        "png": base64.b64encode(picture).decode("ascii"),
    }


def _drawn(radiograph: Radiograph, heat: SaliencyMap) -> bytes:
    height, width = heat.heat.shape
    return overlay_png(resize(radiograph.pixels, width, height), heat.heat, _OPACITY)


def listing(service: Service) -> dict[str, Any]:
    """The models that can be asked."""
    rows = []
    for key in available():
        model, about = spec(key), card(key)
        rows.append(
            {
                "model": key,
                "title": model.title,
                "findings": list(model.findings),
                "weights_sha256": about.weights_sha256,
                "parameters": about.parameters,
                "input_size": model.input_size,
                "training_sources": list(about.training_sources),
                "threshold": float(about.decision_threshold),
                "own": is_own(key),
                "loaded": service.ready(key),
            }
        )
    return {"notice": NOTICE, "models": rows}
