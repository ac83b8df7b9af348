"""The command `batch`: what it checks, runs and says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cxrmodels.batch.films import BatchError, sources
from cxrmodels.batch.labels import folder_label, label_finder, read_labels, submissions, summaries
from cxrmodels.batch.reading import read_films
from cxrmodels.batch.table import Progress, Reader, rows_of, run

if TYPE_CHECKING:
    from cxrmodels.evaluation.metrics import Summary
    from cxrmodels.zoo import LoadedModel

ENGINES = ("here", "ray")
_FIGURES = {
    "accuracy": "accuracy",
    "auc_covid19": "AUC of COVID-19 against the rest",
    "auc_covid19_normal": "AUC of COVID-19 against normal",
}


def batch(
    paths: list[str],
    output: Path,
    open_models: Callable[[], Mapping[str, LoadedModel]],
    *,
    labels: Path | None,
    folder_labels: bool,
    engine: str,
    say: Callable[[str], object],
) -> bool:
    """Read films and write their table; where there are labels, print what the models are worth on them.

    Args:
        open_models: called once films and labels are found to be well.
        engine: one of `ENGINES`.
        say: takes what is no result.

    Returns:
        Whether every film could be read.

    Raises:
        BatchError: what was asked for makes no sense together.
    """
    films = sources(paths)
    if labels and folder_labels:
        raise BatchError("Labels come from a file or from folders' names, not both: leave one of them out.")
    label_of = label_finder(_labels(labels)) if labels else folder_label if folder_labels else lambda file: ""
    reader = _reader(engine)
    models = open_models()
    done = run(films, models, output, label_of=label_of, report=_Rate(say), reader=reader)
    if labels or folder_labels:
        for key, summary in evaluate(output, models):
            figures = "; ".join(
                f"{title} {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
                for name, title in _FIGURES.items()
                if (found := summary.metrics[name])
            )
            print(f"{key}: {summary.films} labelled films; {figures or 'too few labels for figures'}")
    say(f"{output}: {done.total:,} films, {done.failed:,} of them could not be read.")
    return not done.failed


def evaluate(output: Path, models: Mapping[str, LoadedModel]) -> list[tuple[str, Summary]]:
    """Accuracy, AUC and more with 95 % intervals, of each model on the labelled films of a finished table."""
    findings = {key: one.spec.findings for key, one in models.items()}
    return summaries(submissions(rows_of(output), findings, {key: key for key in models}))


def _labels(path: Path) -> dict[str, str]:
    return read_labels(path.read_bytes(), str(path))


def _reader(engine: str) -> Reader:
    if engine == "ray":
        from cxrmodels.batch.on_ray import ray_reader

        return ray_reader()
    return read_films


class _Rate:
    """Tells how far work is, how fast it goes and how long it will take: on a terminal four times a second, else twice
    a minute."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._started, self._at_start, self._told = time.monotonic(), -1, 0.0
        self._screen = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        now, done, total = time.monotonic(), progress.done, progress.total
        if self._at_start < 0:
            self._started, self._at_start, self._told = now, done, now
            if done:
                self._say(f"{done:,} of {total:,} films were there already.")
            return
        if now - self._told < (0.25 if self._screen else 30) and done < total:
            return
        self._told = now
        rate = (done - self._at_start) / max(now - self._started, 1e-9)
        left = (total - done) / rate
        text = f"{done:,} of {total:,} films, {rate:.1f} a second, {left / 60:.1f} min left"
        if self._screen:
            print(f"\r{text}   ", end="\n" if done == total else "", file=sys.stderr, flush=True)
        else:
            self._say(text)
