"""Cross-validations among the runs: which folds belong together, and what they come to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cxrmodels.lab.config import ConfigError, RunConfig
from cxrmodels.lab.store import REPORT_FILE, Run


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the folds that have ended: mean, standard deviation (n - 1; None of one fold), and each fold's
    value, None where it has none yet."""

    mean: float
    deviation: float | None
    folds: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Crossed:
    """The runs of one cross-validation.

    Attributes:
        name: of the configuration that was cross-validated.
        runs: fold -> its run; folds that were deleted are missing.
        folds: how many there are to be.
        classes: of the configuration.
    """

    name: str
    runs: dict[int, Run]
    folds: int
    classes: tuple[str, ...]

    def figures(self) -> dict[str, Spread]:
        """Figure on the films held out -> what the folds have of it; those that no fold has are left out."""
        found: dict[str, dict[int, float]] = {}
        for fold, run in self.runs.items():
            for name, value in _figures(run).items():
                found.setdefault(name, {})[fold] = value
        return {
            name: Spread(
                statistics.fmean(values.values()),
                statistics.stdev(values.values()) if len(values) > 1 else None,
                tuple(values.get(fold) for fold in range(1, self.folds + 1)),
            )
            for name, values in found.items()
        }


def cross_validations(runs: Sequence[Run]) -> list[Crossed]:
    """Those of which two folds or more are among the runs, the newest first.

    Args:
        runs: in the order in which they were created.
    """
    open_ones: dict[str, Crossed] = {}
    found: list[Crossed] = []
    for run in runs:
        try:
            config = run.config()
        except (ConfigError, FileNotFoundError):
            continue
        if config.folds == 1:
            continue
        asked = _asked(config)
        crossed = open_ones.get(asked)
        # The same configuration may have been cross-validated again.
        if crossed is None or config.fold in crossed.runs:
            name = config.name.removesuffix(f", fold {config.fold} of {config.folds}")
            crossed = open_ones[asked] = Crossed(name, {}, config.folds, config.classes)
            found.append(crossed)
        crossed.runs[config.fold] = run
    return [crossed for crossed in reversed(found) if len(crossed.runs) > 1]


def _asked(config: RunConfig) -> str:
    return replace(config, name="-", fold=1).to_json()


def _figures(run: Run) -> dict[str, float]:
    try:
        report = json.loads((run.folder / REPORT_FILE).read_text(encoding="utf-8"))
        estimates = report["validation"]["estimates"]
        return {name: float(figure["value"]) for name, figure in estimates.items() if figure}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
