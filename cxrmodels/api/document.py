"""The OpenAPI document, made from what the program knows: models, findings, methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cxrmodels import NOTICE, __version__
from cxrmodels.api.answers import ENFORCE, LONGEST_SIDE, REPORT
from cxrmodels.api.problems import MEDIA_TYPE as PROBLEM
from cxrmodels.api.upload import PART
from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.explain.saliency import METHODS
from cxrmodels.findings import TITLES
from cxrmodels.gate import PASSED, REFUSED, SYNTHETIC, UNAVAILABLE
from cxrmodels.radiograph import MAX_BYTES

_Schema = dict[str, Any]

_TEXT: _Schema = {"type": "string"}
_NUMBER: _Schema = {"type": "number"}
_PROBABILITY: _Schema = {"type": "number", "minimum": 0, "maximum": 1}
_FLAG: _Schema = {"type": "boolean"}
_COUNT: _Schema = {"type": "integer", "minimum": 0}
_SHA256: _Schema = {"type": "string", "pattern": "^([0-9a-f]{64})?$"}
_TEXTS: _Schema = {"type": "array", "items": _TEXT}
_FINDING: _Schema = {"type": "string", "enum": list(TITLES)}
_NOTICE: _Schema = {"const": NOTICE}

_WORDS = {
    "400": "The address asks for something that does not exist, or the body is incomplete",
    "401": "A token is needed",
    "403": "The API is off on this server, or it was asked under a foreign name",
    "413": "The body is too large",
    "422": "The body is no radiograph that can be read",
    "429": "Too many requests; `Retry-After` says when to ask again",
    "500": "The program failed",
    "503": "Too many films wait; `Retry-After` says when to ask again",
}


def _object(**properties: _Schema) -> _Schema:
    """An object that has all of these, and nothing else."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, _Schema]:
    finding = _object(finding=_FINDING, title=_TEXT, probability=_PROBABILITY, logit=_NUMBER)
    heat_map = _object(
        method={"type": "string", "enum": list(METHODS)},
        finding=_FINDING,
        layer=_TEXT,
        empty={**_FLAG, "description": "Nothing in the layer speaks for the finding"},
        png={
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/png",
            "description": f"The film with the map over it, its longer side at most {LONGEST_SIDE} pixels",
        },
    )
    answer = _object(
        model=_TEXT,
        title=_TEXT,
        weights_sha256=_SHA256,
        training_sources=_TEXTS,
        decision={
            "type": "string",
            "enum": [*TITLES, NOT_SURE],
            "description": f"The likeliest finding, or '{NOT_SURE}' where its probability is below the threshold",
        },
        threshold=_PROBABILITY,
        findings=_list(finding),
        heat_map={
            "oneOf": [_ref("HeatMap"), {"type": "null"}],
            "description": "null where none was asked for, or the model does not answer the finding",
        },
    )
    film = _object(
        name={**_TEXT, "description": "As it was sent, shortened: to be escaped where it is shown"},
        sha256=_SHA256,
        width=_COUNT,
        height=_COUNT,
        format=_TEXT,
        synthetic=_FLAG,
        notes={**_TEXTS, "description": "What was done to the stored values"},
    )
    gate = _object(
        state={"type": "string", "enum": [PASSED, REFUSED, SYNTHETIC, UNAVAILABLE]},
        passed={**_FLAG, "description": "Nothing speaks against the film, or it was not judged"},
        reason=_TEXT,
        notes=_TEXTS,
        measures={"type": "object", "additionalProperties": _NUMBER},
    )
    model = _object(
        model=_TEXT,
        title=_TEXT,
        findings=_list(_FINDING),
        weights_sha256=_SHA256,
        parameters=_COUNT,
        input_size=_COUNT,
        training_sources=_TEXTS,
        threshold=_PROBABILITY,
        own={**_FLAG, "description": "Trained and kept on this machine"},
        loaded=_FLAG,
    )
    return {
        "HeatMap": heat_map,
        "ModelAnswer": answer,
        "Answer": _object(
            notice=_NOTICE,
            film=film,
            gate=gate,
            models=_list(_ref("ModelAnswer")),
            errors=_list(_object(model=_TEXT, detail=_TEXT)),
        ),
        "Models": _object(notice=_NOTICE, models=_list(model)),
        "Health": _object(
            status={"type": "string", "enum": ["ok", "no models"]}, version=_TEXT, models=_COUNT, notice=_NOTICE
        ),
        "Problem": _object(
            type=_TEXT,
            title=_TEXT,
            status={"type": "integer", "minimum": 400, "maximum": 599},
            detail=_TEXT,
            notice=_NOTICE,
        ),
    }


def _responses(words: str, media_type: str, schema: _Schema, *problems: str) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": words, "content": {media_type: {"schema": schema}}}}
    for status in problems:
        found[status] = {"description": _WORDS[status], "content": {PROBLEM: {"schema": _ref("Problem")}}}
        if status in ("429", "503"):
            found[status]["headers"] = {"Retry-After": {"schema": {"type": "string", "pattern": "^[0-9]+$"}}}
    return found


def _query(name: str, words: str, schema: _Schema, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": words, "schema": schema, **more}


def document(server: str, models: Sequence[str]) -> dict[str, Any]:
    """The document of this server.

    Args:
        server: address that the paths stand behind.
        models: keys of those that can answer.
    """
    binary = {"schema": {"type": "string", "format": "binary"}}
    predict = {
        "operationId": "predict",
        "summary": "What the models say of a film",
        "description": "The film is the whole body, or the part `file` of a multipart one. What it is, is told from "
        "its content: PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM. It stays in memory and is forgotten with the answer.",
        "parameters": [
            _query(
                "models",
                "Keys, separated by commas; all of them unless given",
                {"type": "array", "items": {"type": "string", "enum": list(models)}, "minItems": 1},
                style="form",
                explode=False,
            ),
            _query(
                "saliency",
                "Have heat maps drawn, by this method",
                {"type": "string", "enum": list(METHODS)},
            ),
            _query(
                "finding",
                "What heat maps are of; each model's likeliest unless given",
                _FINDING,
            ),
            _query(
                "gate",
                f"`{ENFORCE}`: no model answers for what is no frontal chest radiograph. `{REPORT}`: they do, and the "
                "verdict stands beside it",
                {"type": "string", "enum": [ENFORCE, REPORT], "default": ENFORCE},
            ),
        ],
        "requestBody": {
            "required": True,
            "description": f"At most {MAX_BYTES // 2**20} MB",
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {PART: {"type": "string", "format": "binary"}},
                        "required": [PART],
                    }
                },
                **dict.fromkeys(("image/png", "image/jpeg", "application/dicom", "application/octet-stream"), binary),
            },
        },
        "responses": _responses("What they say", "application/json", _ref("Answer"), *_WORDS),
    }
    text = {"type": "string"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CXR Model Lab",
            "version": __version__,
            "description": f"**{NOTICE}** Several networks' readings of a chest radiograph, side by side. Every answer "
            "carries that notice; whoever passes an answer on passes it on too.",
        },
        "servers": [{"url": server}],
        # Either: whether a token is needed is settled where the server is started.
        "security": [{}, {"token": []}],
        "paths": {
            "/api/v1/predict": {"post": predict},
            "/api/v1/models": {
                "get": {
                    "operationId": "models",
                    "summary": "The models that can answer",
                    "responses": _responses(
                        "The models", "application/json", _ref("Models"), "401", "403", "429", "500"
                    ),
                }
            },
            "/healthz": {
                "get": {
                    "operationId": "health",
                    "summary": "Whether the server can answer",
                    "security": [],
                    "responses": _responses("It can", "application/json", _ref("Health"), "500")
                    | {
                        "503": {
                            "description": "There is no model",
                            "content": {"application/json": {"schema": _ref("Health")}},
                        }
                    },
                }
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Counts and times, in Prometheus' text format",
                    "responses": _responses("They are", "text/plain", text, "401", "403", "429", "500"),
                }
            },
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
