"""Films through the models: `predict`, `batch`, `gate`, `explain`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from cxrmodels import NOTICE
from cxrmodels.cli.common import (
    OK,
    SOME_FAILED,
    Command,
    UsageError,
    load_engines,
    load_models,
    read_film,
    say,
    show_progress,
)
from cxrmodels.datasets.manifest import ManifestError, data_folder
from cxrmodels.findings import TITLES
from cxrmodels.radiograph import RadiographError
from cxrmodels.zoo import SPECS, ModelError

PREDICTION_COLUMNS = ("file", "model", "finding", "probability", "decision", "gate", "error")


def _predict(arguments: argparse.Namespace) -> int:
    engines = load_engines(arguments.models)
    from cxrmodels.gate import judge
    from cxrmodels.inference import predict

    failed = False
    with ExitStack() as stack:
        out = sys.stdout
        # A file name need not be UTF-8; it goes out with the bytes it came in with.
        if arguments.output:
            out = stack.enter_context(
                Path(arguments.output).open("w", encoding="utf-8", errors="surrogateescape", newline="")
            )
        elif isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="surrogateescape", newline="")
        writer = csv.writer(out)
        writer.writerow(PREDICTION_COLUMNS)
        for number, name in enumerate(arguments.files, start=1):
            try:
                radiograph = read_film(name)
            except RadiographError as error:
                failed = True
                writer.writerow((name, "", "", "", "", "", str(error)))
                say(f"{ascii(name)[1:-1][:200]}: {error}")
                continue
            gate = judge(radiograph)
            if not gate.passed:
                say(f"{ascii(name)[1:-1][:200]} {gate.cell} What the models say of it means nothing.")
            for key, engine in engines.items():
                prediction, _ = predict(engine, radiograph)
                for finding, probability in zip(prediction.findings, prediction.probabilities, strict=True):
                    writer.writerow((name, key, finding, f"{probability:.6f}", prediction.decision, gate.cell, ""))
            show_progress(number, len(arguments.files), "films")
    say(NOTICE)
    return SOME_FAILED if failed else OK


def _batch(arguments: argparse.Namespace) -> int:
    from cxrmodels.batch.command import batch
    from cxrmodels.batch.films import BatchError

    try:
        whole = batch(
            arguments.paths,
            Path(arguments.output),
            lambda: load_models(arguments.models),
            labels=Path(arguments.labels) if arguments.labels else None,
            folder_labels=arguments.folder_labels,
            engine=arguments.engine,
            gated=not arguments.no_gate,
            say=say,
        )
    except BatchError as error:
        raise UsageError(str(error)) from None
    say(NOTICE)
    return OK if whole else SOME_FAILED


def _gate(arguments: argparse.Namespace) -> int:
    from cxrmodels.evaluation.gatekeeping import as_facts, lines, stored_rates, verdicts

    if arguments.files:
        print("\n".join(verdicts([read_film(name) for name in arguments.files])))
    elif arguments.json:
        print(json.dumps(as_facts(stored_rates()), indent=1))
    else:
        print("\n".join(lines(stored_rates())))
    return OK


def _explain(arguments: argparse.Namespace) -> int:
    from cxrmodels.explain.methods import WAYS
    from cxrmodels.explain.sheet import sheet
    from cxrmodels.lungs import find

    if arguments.method not in WAYS:
        raise UsageError(f"Unknown method {arguments.method!r}; expected one of {', '.join(WAYS)}.")
    radiograph = read_film(arguments.file)
    engines = load_engines(arguments.models)
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lungs = find(radiograph, data_folder())
    except (ModelError, ManifestError) as error:
        lungs = None
        say(f"Maps without lungs: {error}")
    written = 0
    for key, engine in engines.items():
        findings, what = SPECS[key].findings, f"% of {WAYS[arguments.method].title}, {key}"
        if arguments.finding and arguments.finding not in findings:
            say(f"{key} does not answer {arguments.finding}; it answers {', '.join(findings)}.")
            continue

        def report(share: float, what: str = what) -> None:
            show_progress(round(100 * share), 100, what)

        try:
            made = sheet(
                engine,
                radiograph,
                arguments.method,
                arguments.finding,
                lungs.mask if lungs else None,
                report,
            )
        except ValueError as error:
            say(str(error))
            continue
        path = folder / f"{Path(radiograph.name).stem}-{key}-{made.finding}-{arguments.method}.png"
        path.write_bytes(made.picture)
        print(path)
        if made.where:
            say(f"{key}: {made.where}")
        written += 1
    say(NOTICE)
    return OK if written else SOME_FAILED


def add(command: Command) -> None:
    """Commands on films: `predict`, `batch`, `gate`, `explain`."""
    predict = command("predict", _predict, "What the models say of films, as CSV.")
    predict.add_argument("files", nargs="+", metavar="FILE")
    predict.add_argument("--models", default="all", metavar="KEY,KEY", help="model keys, or all (the default)")
    predict.add_argument("--output", metavar="FILE.csv", help="write there instead of to standard output")

    batch = command("batch", _batch, "Many films through the models: a table with a row a film. Stopped, it goes on.")
    batch.add_argument("paths", nargs="+", metavar="PATH", help="folders, zip archives or films")
    batch.add_argument("--output", required=True, metavar="FILE", help="the table, .csv or .parquet")
    batch.add_argument("--models", default="all", metavar="KEY,KEY", help="model keys, or all (the default)")
    batch.add_argument("--labels", metavar="FILE.csv", help="columns file and label: accuracy and AUC are printed")
    batch.add_argument("--folder-labels", action="store_true", help="films are labelled by their folders' names")
    batch.add_argument(
        "--no-gate",
        action="store_true",
        help="do not ask of each film whether it is a frontal chest film: several times as fast with a small model",
    )
    batch.add_argument(
        "--engine", choices=("here", "ray"), default="here", help="on this machine (the default), or on a Ray cluster"
    )

    gate = command(
        "gate", _gate, "Whether films are upright frontal chest films; without films, how often that is right."
    )
    gate.add_argument("files", nargs="*", metavar="FILE")
    gate.add_argument("--json", action="store_true", help="the rates as JSON")

    explain = command("explain", _explain, "Heat maps of a film over it, as PNG files.")
    explain.add_argument("file", metavar="FILE")
    explain.add_argument("--models", default="all", metavar="KEY,KEY", help="model keys, or all (the default)")
    explain.add_argument("--finding", choices=tuple(TITLES), help="by default each model's likeliest")
    explain.add_argument(
        "--method",
        default="grad_cam",
        metavar="METHOD",
        help="grad_cam (the default), grad_cam_plus_plus, layer_cam; slow: score_cam, smooth_grad, "
        "integrated_gradients, occlusion; random, as a control",
    )
    explain.add_argument("--output", default=".", metavar="FOLDER")
