"""Networks of runs that were kept: they answer beside the shipped models, marked as the user's own.

A run's folder then also holds

| file | content |
|---|---|
| `kept.json` | what a spec and a card say of a shipped model |
| `held-out.csv.gz` | its answers on the data folder's films that nothing learnt from, if they were read |
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrmodels.evaluation.calibration import fit_decision_threshold, fit_temperature
from cxrmodels.evaluation.predictions import Evaluation, read_predictions, write_predictions
from cxrmodels.files import replace_file
from cxrmodels.findings import TITLES
from cxrmodels.lab.config import RunConfig
from cxrmodels.lab.store import MODEL_FILE, REPORT_FILE, Run, RunError, find, runs
from cxrmodels.zoo import PREDICTIONS_FILE, LoadedModel, ModelCard, ModelError, ModelSpec, file_sha256

if TYPE_CHECKING:
    from keras import Model

KEPT_FILE, HELD_OUT_FILE = "kept.json", "held-out.csv.gz"
_PREFIX = "run-"

_INTENDED_USE = "Teaching and trying things out. Never for diagnosis, triage or any decision about a person."
_LIMITS = (
    "Trained in the training lab on the films and settings of its run. Its figures come from films that were watched "
    "while it learnt; nobody has looked at what else it does."
)


def key_of(run: Run) -> str:
    """The key under which a run's network answers."""
    return f"{_PREFIX}{run.id}"


def is_own(key: str) -> bool:
    """Whether a key is that of a run's network, kept or not."""
    return key.startswith(_PREFIX)


def _run(key: str) -> Run:
    try:
        return find(key.removeprefix(_PREFIX))
    except RunError as error:
        raise ModelError(str(error)) from None


def is_kept(run: Run) -> bool:
    """Whether a run's network stands beside the shipped models."""
    return (run.folder / KEPT_FILE).is_file()


def kept() -> tuple[str, ...]:
    """Keys of all networks that were kept and can be read, in the order in which their runs were created."""
    found = []
    for run in runs():
        if is_kept(run):
            try:
                _read(key_of(run))
            except ModelError:
                continue
            found.append(key_of(run))
    return tuple(found)


def keep(run: Run) -> None:
    """Put a run's network beside the shipped models.

    Its probabilities are calibrated, and its "not sure" band is found, on the films its run held out: the way of the
    shipped models.

    Raises:
        RunError: the run has no network yet, or its classes are none that the other models could be asked about.
    """
    model, report = run.folder / MODEL_FILE, run.folder / REPORT_FILE
    if not model.is_file() or not report.is_file():
        raise RunError(f"Run {run.id} has no network yet; it is there once the run has ended with its report.")
    config = run.config()
    if strangers := [name for name in config.classes if name not in TITLES]:
        raise RunError(
            f"The classes {', '.join(strangers)} are none that the other networks know, so it cannot stand beside "
            f"them. It can be downloaded; or name the folders of your films after findings: {', '.join(TITLES)}."
        )
    spec, card = _described(run, config)
    text = json.dumps({"spec": asdict(spec), "card": asdict(card)}, indent=1)
    replace_file(run.folder / KEPT_FILE, text.encode())


def let_go(run: Run) -> None:
    """Take a run's network away from beside the shipped models. The run stays."""
    for name in (KEPT_FILE, HELD_OUT_FILE):
        (run.folder / name).unlink(missing_ok=True)


def spec(key: str) -> ModelSpec:
    """What code needs to know of a network that was kept.

    Raises:
        ModelError: there is none of this key, or its file was changed.
    """
    return _read(key)[0]


def card(key: str) -> ModelCard:
    """What a reader needs to know of a network that was kept.

    Raises:
        ModelError: as in `spec`.
    """
    return _read(key)[1]


def _read(key: str) -> tuple[ModelSpec, ModelCard]:
    path = _run(key).folder / KEPT_FILE
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise ModelError("This network is not kept any more.") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{KEPT_FILE} of run {_run(key).id} was changed ({error}). Keep its network again.") from error


# Pages ask several times a run of their script.
@lru_cache(maxsize=64)
def _parsed(path: Path, changed: int) -> tuple[ModelSpec, ModelCard]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    about = ModelSpec(**{**found["spec"], "findings": tuple(found["spec"]["findings"])})
    return about, ModelCard.from_json(json.dumps(found["card"]))


def load(key: str) -> LoadedModel:
    """A network that was kept, its file compared with what was kept. It is read when it is asked for; no code that
    the file might hold is run.

    Raises:
        ModelError: as in `spec`; its file is missing or was changed.
    """
    about, path = card(key), _run(key).folder / MODEL_FILE
    try:
        found = file_sha256(path)
    except OSError as error:
        raise _unreadable(about, error) from error
    if found != about.weights_sha256:
        raise ModelError(f"The network of {about.title} was changed since it was kept. Keep it again.")
    return LoadedModel(spec(key), about, lambda: _network(about, path), found)


def _network(about: ModelCard, path: Path) -> Model:
    import keras

    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(about, error) from error
    network.trainable = False
    return network


def _unreadable(about: ModelCard, error: Exception) -> ModelError:
    return ModelError(f"The network of {about.title} cannot be read ({type(error).__name__}).")


def predictions_file(key: str) -> Path:
    """Its answers on films that nothing learnt from; where none were read, those on the films its run held out.

    Raises:
        ModelError: there is no such run.
    """
    folder = _run(key).folder
    held_out = folder / HELD_OUT_FILE
    return held_out if held_out.is_file() else folder / PREDICTIONS_FILE


def note_held_out(run: Run, evaluation: Evaluation) -> None:
    """Store what the network answers on the data folder's held-out films, for the comparison."""
    partial = run.folder / f"{HELD_OUT_FILE}.part"
    write_predictions(evaluation, partial)
    partial.replace(run.folder / HELD_OUT_FILE)


def _described(run: Run, config: RunConfig) -> tuple[ModelSpec, ModelCard]:
    report = json.loads((run.folder / REPORT_FILE).read_text(encoding="utf-8"))
    held_out = read_predictions(run.folder / PREDICTIONS_FILE)
    truth = held_out.y_true()
    temperature = round(fit_temperature(held_out.logits.astype(np.float64), truth), 4)
    key, title = key_of(run), f"{config.name} (yours)"
    spec = ModelSpec(
        key=key,
        title=title,
        network="lab",
        findings=config.classes,
        input_size=report["input"]["size"],
        channels=report["input"]["channels"],
        preprocessing=report["input"]["preprocessing"],
        feature_layer=report["feature_layer"],
        paper="",
        paper_figures="",
        departures="",
    )
    card = ModelCard(
        key=key,
        title=title,
        findings=config.classes,
        parameters=report["parameters"],
        weights_sha256=report["model_sha256"],
        input_size=spec.input_size,
        training_sources=tuple(report["training_sources"]),
        training_films=report["films"]["training"],
        seed=config.seed,
        recipe=report["config"],
        versions=report["versions"],
        device=report["device"],
        data_sha256=report["data_sha256"],
        wall_time_s=report["seconds"],
        temperature=temperature,
        decision_threshold=fit_decision_threshold(held_out.probabilities(temperature), truth),
        operating_points={},
        metrics=(),
        paper="",
        paper_figures="",
        departures="",
        intended_use=_INTENDED_USE,
        limits=_LIMITS,
        licence="Yours, as far as the terms of the films allow.",
        calibration={},
    )
    return spec, card
