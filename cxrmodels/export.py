"""What a reader takes along from the X-ray page: all numbers as CSV, all heat maps as one picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from cxrmodels import NOTICE
from cxrmodels.gate import Gate
from cxrmodels.inference import Prediction
from cxrmodels.radiograph import Radiograph

COLUMNS = (
    "file",
    "film_sha256",
    "synthetic",
    "source",
    "model",
    "weights_sha256",
    "training_sources",
    "source_seen_in_training",
    "finding",
    "logit",
    "probability",
    "decision",
    "threshold",
    "gate",
    "error",
    "notice",
)


def seen(training_sources: Iterable[str], source: str | None) -> str:
    """`yes`, `no`, or `unknown` when it is not known where a film comes from."""
    if source is None:
        return "unknown"
    return "yes" if source in training_sources else "no"


def harmless(cell: str) -> str:
    """Text for a CSV cell: a spreadsheet runs one that begins like a formula, unless a quote stands in front of it
    (OWASP, CSV injection)."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def predictions_csv(
    radiograph: Radiograph,
    source: str | None,
    predictions: Iterable[Prediction],
    failures: dict[str, str],
    gate: Gate | None = None,
) -> str:
    """All numbers of one film: a row for every model and finding, and one for every model that failed.

    Args:
        radiograph: the film.
        source: where the film comes from, if that is known.
        failures: model key -> its error.
        gate: what it says of the film; None where nobody asked it.
    """
    verdict = gate.cell if gate else ""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    film = (
        harmless(radiograph.name),
        radiograph.sha256,
        "yes" if radiograph.synthetic else "no",
        harmless(source or ""),
    )
    for one in predictions:
        about = (
            *film,
            one.model,
            one.weights_sha256,
            " ".join(one.training_sources),
            seen(one.training_sources, source),
        )
        for finding, logit, probability in zip(one.findings, one.logits, one.probabilities, strict=True):
            writer.writerow(
                (
                    *(*about, finding, f"{logit:.4f}", f"{probability:.6f}", one.decision, one.threshold),
                    *(verdict, "", NOTICE),
                )
            )
    for model, error in failures.items():
        writer.writerow((*film, model, *[""] * 8, verdict, error, NOTICE))
    return stream.getvalue()
