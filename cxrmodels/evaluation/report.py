"""A comparison as one HTML file that says how to make it again, and the check that does so."""

from __future__ import annotations

import html
import json
import math
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import cycle
from typing import TYPE_CHECKING, Any

from cxrmodels import NOTICE, __version__
from cxrmodels.evaluation.board import RESAMPLES, SEED, Board, Contender, Films, compare_on
from cxrmodels.evaluation.drawings import (
    answer_chart,
    precision_recall_chart,
    reliability_chart,
    roc_chart,
    scores_chart,
    with_both_classes,
)
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.evaluation.verdict import NAMES, interval, uneven, verdict

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_BLOCK = "cxr-model-lab-report"
_TOLERANCE = 1e-9
_LONGEST = 400
_INK = "#1C1E21"
"""Charts stand on white: a report is printed, or sent to somebody whose theme nobody knows."""

_STYLE = """
body { color: #1c1e21; background: #fff; font: 16px/1.5 system-ui, sans-serif; max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { padding: 0.3rem 0.6rem; text-align: left; border-bottom: 1px solid #8886; white-space: nowrap; }
figure { margin: 1.5rem 0; }
code { overflow-wrap: anywhere; }
"""


class ReportError(ValueError):
    """A file is not a report that can be checked; the message says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How the decisions of a comparison fell; see `board.compare_on`."""

    threshold: float = 0.5
    preset: str | None = None
    cost_ratio: float = 1.0


def facts(board: Board, setting: Setting) -> dict[str, Any]:
    """All that a comparison was made from and what it gave, as plain values."""
    return {
        "program": __version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "question": board.question.key,
        "films": asdict(board.films),
        "setting": asdict(setting),
        "resamples": RESAMPLES,
        "seed": SEED,
        "models": [
            {
                "key": one.contender.key,
                "title": one.contender.title,
                "predictions_sha256": one.contender.sha256,
                "weights_sha256": one.contender.card.weights_sha256 if one.contender.card else None,
                "temperature": one.contender.temperature,
                "training_sources": list(one.contender.training_sources),
                "threshold": one.threshold,
                "films": one.figures.films,
                "patients": one.figures.patients,
                "figures": {name: asdict(e) if e else None for name, e in board.estimates(one).items()},
                "confusion": [list(row) for row in one.figures.confusion],
            }
            for one in board.standings
        ],
        "unable": [list(pair) for pair in board.unable],
    }


def _charts(board: Board) -> list[tuple[str, Figure]]:
    found = [("Seen and unseen sources", answer_chart(board, _INK)[0])] if board.standings else []
    if with_both_classes(board):
        found += [
            ("ROC", roc_chart(board, _INK)[0]),
            ("Precision and recall", precision_recall_chart(board, _INK)[0]),
            ("Reliability", reliability_chart(board, _INK)[0]),
            ("Scores", scores_chart(board, _INK)[0]),
        ]
    return found


def report_html(board: Board, setting: Setting) -> str:
    """The comparison as one file: nothing in it is loaded from elsewhere."""
    found = facts(board, setting)
    drawn = []
    for number, (title, figure) in enumerate(_charts(board)):
        inner = figure.to_html(
            full_html=False, include_plotlyjs=number == 0, div_id=f"chart-{number}", config={"displaylogo": False}
        )
        drawn.append(f"<h2>{html.escape(title)}</h2><figure>{inner}</figure>")
    # A "<" in a title could end the block early, or keep it from ending.
    block = json.dumps(found, indent=1).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>CXR Model Lab: {html.escape(board.question.title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{html.escape(board.question.title)}</h1><p>{_bold(' '.join(verdict(board)))}</p>{_uneven(board)}"
        f"<p>{html.escape(NOTICE)}</p>{_table(board)}{_unable(board)}{''.join(drawn)}{_made(found)}"
        f'<script type="application/json" id="{_BLOCK}">{block}</script></body></html>\n'
    )


def _bold(markdown: str) -> str:
    """The verdict's Markdown as HTML: bold, and characters behind a backslash."""
    parts = re.findall(r"\\.|\*\*|[^\\*]+|.", markdown, re.DOTALL)
    tags = cycle(("<strong>", "</strong>"))
    return "".join(
        next(tags) if part == "**" else html.escape(part[1:] if part[0] == "\\" and len(part) > 1 else part)
        for part in parts
    )


def _uneven(board: Board) -> str:
    caution = uneven(board)
    return f"<p>{_bold(caution)}</p>" if caution else ""


def _table(board: Board) -> str:
    if not board.standings:
        return ""
    names = list(board.estimates(board.standings[0]))
    classes = [name for name, _ in board.question.classes]
    heads = [NAMES.get(name) or f"Sensitivity, {classes[int(name.rpartition('_')[2])]}" for name in names]
    rows = "".join(
        f'<tr><th scope="row">{html.escape(one.contender.title)}</th><td>{one.figures.films}</td>'
        f"<td>{one.figures.patients}</td>"
        + "".join(f"<td>{interval(board.estimates(one)[name])}</td>" for name in names)
        + "</tr>"
        for one in board.standings
    )
    titles = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in ("Model", "Films", "Patients", *heads))
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"


def _unable(board: Board) -> str:
    return "".join(
        f"<p>{html.escape(title)} takes no part. {html.escape(reason)}</p>" for title, reason in board.unable
    )


def _made(found: dict[str, Any]) -> str:
    models = "".join(
        f"<li>{html.escape(one['title'])}: predictions sha256 <code>{one['predictions_sha256']}</code>"
        + (f", weights sha256 <code>{one['weights_sha256']}</code>" if one["weights_sha256"] else "")
        + "</li>"
        for one in found["models"]
    )
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"<h2>How this was made</h2><p>CXR Model Lab {found['program']}, Python {found['python']}, {versions}. "
        f"95 % intervals: {found['resamples']} resamples of patients, seed {found['seed']}. "
        "To make it again: <code>python -m cxrmodels evaluate --check this-file.html</code></p>"
        f"<ul>{models}</ul>"
    )


def _expect(what: str, right: bool) -> None:
    if not right:
        raise ValueError(f"{what} is not what a report holds")


def _number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    return isinstance(value, int | float) and low <= value <= high and math.isfinite(value)


def _text(value: object) -> bool:
    # Printed when it differs: a terminal obeys what it is sent.
    return isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST


def _check_asked(question: object, films: Films, setting: Setting) -> None:
    _expect("question", isinstance(question, str))
    _expect("films", all(_text(value) for value in asdict(films).values()))
    _expect("threshold", _number(setting.threshold, 0, 1))
    _expect("cost ratio", _number(setting.cost_ratio, 0))
    _expect("preset", setting.preset is None or _text(setting.preset))
    two_classes = question in QUESTIONS and QUESTIONS[str(question)].positive is not None
    _expect("preset", not setting.preset or two_classes)


def _check_model(model: dict[str, Any]) -> None:
    _expect("model", all(_text(model[name]) for name in ("key", "title", "predictions_sha256")))
    _expect("number of films", isinstance(model["films"], int) and isinstance(model["patients"], int))
    _expect("confusion", all(isinstance(count, int) for row in model["confusion"] for count in row))
    for name, figure in model["figures"].items():
        known = figure is None or (
            figure.keys() == {"value", "low", "high"} and all(_number(value) for value in figure.values())
        )
        _expect("figure", _text(name) and known)


def read_facts(text: str) -> dict[str, Any]:
    """What a report says it was made from.

    Raises:
        ReportError: it is no report of this program.
    """
    match = re.search(rf'<script type="application/json" id="{_BLOCK}">(.*?)</script>', text, re.DOTALL)
    if not match:
        raise ReportError("This file is no report of CXR Model Lab: its data block is missing. Export it again.")
    try:
        found = json.loads(match[1])
        _check_asked(found["question"], Films(**found["films"]), Setting(**found["setting"]))
        _expect("resamples or seed", isinstance(found["resamples"], int) and isinstance(found["seed"], int))
        for model in found["models"]:
            _check_model(model)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ReportError(
            f"The report's data block is damaged ({type(error).__name__}: {str(error)[:200]}). Export it again."
        ) from error
    if found["question"] not in QUESTIONS or not found["models"]:
        raise ReportError("The report asks a question this version does not know, or holds no model. Export it again.")
    checked: dict[str, Any] = found
    return checked


def check(found: dict[str, Any], contenders: Sequence[Contender]) -> list[str]:
    """Make a report's comparison again, and say what differs. No line: all is equal.

    Args:
        found: from `read_facts`.
        contenders: the models that are here now, the reader's own included.
    """
    here = {one.key: one for one in contenders} | {one.sha256: one for one in contenders}
    differs: list[str] = []
    taking_part: list[Contender] = []
    for model in found["models"]:
        one = here.get(model["predictions_sha256"]) or here.get(model["key"])
        if one is None:
            differs.append(f"{model['title']}: its predictions are not here; give them with --predictions.")
            continue
        if one.sha256 != model["predictions_sha256"]:
            differs.append(
                f"{model['title']}: its predictions changed (sha256 {one.sha256[:12]}..., the report has "
                f"{model['predictions_sha256'][:12]}...)."
            )
        taking_part.append(one)
    if (found["resamples"], found["seed"]) != (RESAMPLES, SEED):
        before = f"{found['resamples']} resamples and seed {found['seed']}"
        differs.append(f"The report used {before}; this version {RESAMPLES} and {SEED}.")
    board = compare_on(taking_part, QUESTIONS[found["question"]], Films(**found["films"]), **found["setting"])
    again = {one.contender.sha256: one for one in board.standings} | {one.contender.key: one for one in board.standings}
    for model in found["models"]:
        standing = again.get(model["predictions_sha256"]) or again.get(model["key"])
        if standing is None:
            if any(one.sha256 == model["predictions_sha256"] or one.key == model["key"] for one in taking_part):
                reasons = " ".join(reason for title, reason in board.unable if title == model["title"])
                differs.append(f"{model['title']}: it takes no part now. {reasons}".rstrip())
            continue
        counted = standing.figures.films, standing.figures.patients
        if (model["films"], model["patients"]) != counted:
            was = f"{model['films']:,} films of {model['patients']:,} patients"
            differs.append(f"{model['title']}: it was on {was}, is on {counted[0]:,} of {counted[1]:,}.")
        estimates = board.estimates(standing)
        for name in dict.fromkeys([*model["figures"], *estimates]):
            figure, now = model["figures"].get(name), estimates.get(name)
            if not _same(figure, asdict(now) if now else None):
                differs.append(f"{model['title']}: {NAMES.get(name, name)} was {_words(figure)}, is {interval(now)}.")
        if [list(row) for row in standing.figures.confusion] != model["confusion"]:
            differs.append(f"{model['title']}: its confusion matrix is another one now.")
    return differs


def _words(figure: dict[str, float] | None) -> str:
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})" if figure else "not to be said"


def _same(before: dict[str, float] | None, now: dict[str, float] | None) -> bool:
    if before is None or now is None:
        return before is now
    return before.keys() == now.keys() and all(abs(before[key] - now[key]) <= _TOLERANCE for key in before)
