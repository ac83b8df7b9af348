"""What is left of a run when it ends: `report.json`, and `predictions.csv.gz` as the shipped models have it."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.special import softmax

from cxrmodels import NOTICE
from cxrmodels.evaluation.metrics import figures
from cxrmodels.evaluation.predictions import Evaluation, write_predictions
from cxrmodels.evaluation.questions import Answers, Question
from cxrmodels.files import replace_file
from cxrmodels.lab.data import LabData
from cxrmodels.lab.history import History
from cxrmodels.lab.network import CHANNELS
from cxrmodels.lab.store import MODEL_FILE, REPORT_FILE, Run
from cxrmodels.zoo import PREDICTIONS_FILE


def confusion_of(labels: np.ndarray, called: np.ndarray, classes: int) -> np.ndarray:
    """Films by class (rows) and answer (columns): int64 (classes, classes)."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, called), 1)
    return counts


def rates(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity and specificity of each class against the rest, float (K,), 0-1; NaN where there are no films."""
    right, of_class, as_class = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    others = confusion.sum() - of_class
    with np.errstate(invalid="ignore"):
        return right / of_class, 1 - (as_class - right) / others


def write_report(
    run: Run, data: LabData, logits: np.ndarray, *, step: int, outcome: str, extra: dict[str, Any]
) -> None:
    """Write what the network, as it is at the end, makes of the films held out.

    Args:
        run: the run; its model's file is there, its events tell of all its epochs.
        data: its films.
        logits: float32 (validation films, K).
        step: the last one.
        outcome: `finished`, or why it was stopped.
        extra: further fields.
    """
    config = run.config()
    history = History()
    history.add(run.follow().read())
    history.forget_after(step)
    evaluation = _evaluation(data, logits)
    write_predictions(evaluation, run.folder / PREDICTIONS_FILE)
    truth = data.labels[data.validation]
    question = Question(
        "run", config.name, tuple((name, frozenset({name})) for name in data.classes), _positive(data.classes)
    )
    found = figures(Answers(question, evaluation, truth, softmax(logits.astype(np.float64), axis=1)))
    sensitivity, specificity = rates(confusion_of(truth, logits.argmax(1), len(data.classes)))
    report = {
        "notice": NOTICE,
        "run": run.id,
        "created": run.created.isoformat(timespec="seconds"),
        "outcome": outcome,
        "config": json.loads(config.to_json()),
        **extra,
        "model_sha256": hashlib.sha256((run.folder / MODEL_FILE).read_bytes()).hexdigest(),
        "input": {"size": config.input_size, "channels": CHANNELS, "preprocessing": "unit"},
        "classes": data.classes,
        "positive": question.positive,
        "training_sources": sorted(set(data.sources[~data.validation].tolist())),
        "films": {
            side: dict(
                zip(data.classes, np.bincount(data.labels[held], minlength=len(data.classes)).tolist(), strict=True)
            )
            for side, held in (("training", ~data.validation), ("validation", data.validation))
        },
        "validation": asdict(found),
        "sensitivity": sensitivity.tolist(),
        "specificity": specificity.tolist(),
        "epochs": [asdict(ended) for ended in history.epochs.values()],
        "changes": [asdict(change) for change in history.changes],
        "steps": step,
        "seconds": round(sum(ended.seconds for ended in history.epochs.values()), 1),
        "workers": history.generations,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "numpy", "pillow", extra["backend"])},
        },
    }
    replace_file(run.folder / REPORT_FILE, json.dumps(_finite(report), indent=1, allow_nan=False).encode())


def _positive(classes: tuple[str, ...]) -> str | None:
    """Of two classes the one looked for: COVID-19 where it is one, else the second."""
    if len(classes) != 2:
        return None
    return "covid19" if "covid19" in classes else classes[1]


def _evaluation(data: LabData, logits: np.ndarray) -> Evaluation:
    held = data.validation
    films, count = data.films[held], int(held.sum())
    empty = np.full(count, "", np.str_)
    return Evaluation(
        findings=data.classes,
        image_ids=data.ids[held],
        sources=data.sources[held],
        splits=np.full(count, "val"),
        groups=data.patients[held],
        labels=np.array(data.classes)[data.labels[held]],
        age_groups=empty,
        views=empty,
        widths=np.full(count, films.shape[2], np.int64),
        heights=np.full(count, films.shape[1], np.int64),
        exposures=(films.mean((1, 2)) / 255).astype(np.float32),
        logits=logits.astype(np.float32),
    )


def _finite(value: Any) -> Any:
    """JSON knows no NaN; what cannot be told is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
