"""What there is and how good it is: `models`, `card`, `evaluate`, `benchmark`."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cxrmodels.cli.common import OK, SOME_FAILED, Command, UsageError, known_key
from cxrmodels.zoo import SPECS, ModelError, check_weights, read_card, shipped


def _models(arguments: argparse.Namespace) -> int:
    rows = []
    for key, model in SPECS.items():
        row: dict[str, Any] = {
            "key": key,
            "title": model.title,
            "findings": list(model.findings),
            "available": False,
            "weights_sha256": None,
            "parameters": None,
            "training_sources": None,
        }
        try:
            card, _ = check_weights(key)
        except ModelError as error:
            row["reason"] = str(error)
        else:
            row |= {
                "available": True,
                "weights_sha256": card.weights_sha256,
                "parameters": card.parameters,
                "training_sources": list(card.training_sources),
            }
        rows.append(row)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            state = f"{row['parameters']:>12,} parameters" if row["available"] else "       not shipped       "
            print(f"{row['key']:<16}{state}   {', '.join(row['findings'])}")
    return OK


def _check_report(arguments: argparse.Namespace) -> int:
    """Make a report's comparison again."""
    from cxrmodels import models
    from cxrmodels.evaluation.board import contender, submitted
    from cxrmodels.evaluation.report import ReportError, check, read_facts
    from cxrmodels.evaluation.submitted import SubmissionError, read_submission

    try:
        found = read_facts(Path(arguments.check).read_text(encoding="utf-8"))
        own = [
            submitted(read_submission(Path(name).read_bytes(), Path(name).name)) for name in arguments.predictions or []
        ]
    except (OSError, UnicodeDecodeError, ReportError, SubmissionError) as error:
        raise UsageError(str(error)) from None
    wanted = {model["key"] for model in found["models"]}
    differs = check(found, [*(contender(key) for key in models.available() if key in wanted), *own])
    print("\n".join(differs) if differs else f"equal: {len(found['models'])} models, every figure as the report has it")
    return SOME_FAILED if differs else OK


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.check:
        return _check_report(arguments)
    if arguments.predictions:
        raise UsageError("--predictions without --check: your own predictions are compared on the page.")
    from cxrmodels.evaluation.cards import recompute, write_card

    rows: list[dict[str, Any]] = []
    for key in [known_key(key) for key in arguments.keys] or shipped():
        card = recompute(key)
        if arguments.write:
            write_card(card)
        rows += [{"model": key, **summary} for summary in card.metrics]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return OK
    for row in rows:
        print(f"{row['model']}: {row['name']} ({row['films']} films, {'seen' if row['seen'] else 'unseen'})")
        for name, figure in row["metrics"].items():
            if figure:
                print(f"    {name:<28}{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})")
    return OK


def _benchmark(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keys = [known_key(key) for key in arguments.keys] or shipped()
    from cxrmodels.cost import measure
    from cxrmodels.evaluation.cards import write_card

    print(f"{'model':<16}{'parameters':>12}{'MB':>8}{'GFLOP':>9}{'load s':>8}{'ms a film':>11}{'films/s':>9}")
    for key in keys:
        cost = measure(key)
        card = replace(read_card(key), cost=asdict(cost))
        if arguments.write:
            write_card(card)
        print(
            f"{key:<16}{card.parameters:>12,}{cost.file_bytes / 2**20:>8.1f}{cost.flops / 1e9:>9.3f}"
            f"{cost.load_s:>8.1f}{cost.latency_ms:>11.1f}{cost.films_per_s:>9.0f}",
            flush=True,
        )
    return OK


def _card(arguments: argparse.Namespace) -> int:
    print(read_card(known_key(arguments.key)).to_json(), end="")
    return OK


def add(command: Command) -> None:
    """Commands on models: `models`, `card`, `evaluate`, `benchmark`."""
    models = command("models", _models, "List the models.")
    models.add_argument("--json", action="store_true", help="as JSON")

    card = command("card", _card, "Print a model's card.")
    card.add_argument("key", metavar="KEY")

    evaluate = command("evaluate", _evaluate, "Metrics with 95 % intervals from the stored predictions.")
    evaluate.add_argument("keys", nargs="*", metavar="KEY", help="model keys; by default all that are shipped")
    evaluate.add_argument("--json", action="store_true", help="as JSON")
    evaluate.add_argument("--write", action="store_true", help="write the figures into the models' cards")
    evaluate.add_argument("--check", metavar="REPORT.html", help="make an exported comparison again and compare")
    evaluate.add_argument(
        "--predictions", nargs="+", metavar="FILE.csv", help="with --check: your own predictions that took part"
    )

    benchmark = command("benchmark", _benchmark, "What the models cost: size, arithmetic, time on this machine.")
    benchmark.add_argument("keys", nargs="*", metavar="KEY", help="model keys; by default all that are shipped")
    benchmark.add_argument("--write", action="store_true", help="write the figures into the models' cards")
