"""The command `batch`: what it checks, runs and says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cxrmodels.batch.films import BatchError, sources
from cxrmodels.batch.labels import folder_label, label_finder, read_labels, submissions, summaries
from cxrmodels.batch.reading import read_films
from cxrmodels.batch.table import Reader, rows_of, run
from cxrmodels.rate import Rate

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
    gated: bool,
    say: Callable[[str], object],
) -> bool:
    """Read films and write their table; where there are labels, print what the models are worth on them.

    Args:
        open_models: called once films and labels are found to be well.
        engine: one of `ENGINES`.
        gated: whether the gate judges each film.
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
    rate = Rate("films", say)
    done = run(
        films,
        models,
        output,
        label_of=label_of,
        report=lambda progress: rate(progress.done, progress.total),
        reader=reader,
        gated=gated,
    )
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
