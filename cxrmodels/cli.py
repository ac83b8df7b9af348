"""The command line: `python -m cxrmodels`. Thin: every command calls what the pages call too."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrmodels import NOTICE, __version__
from cxrmodels.datasets.manifest import DATA_VARIABLE, ManifestError, data_folder
from cxrmodels.findings import TITLES
from cxrmodels.radiograph import Radiograph, RadiographError, read_radiograph
from cxrmodels.zoo import PREDICTIONS_FILE, SPECS, ModelError, check_weights, read_card, shipped, weights_folder

if TYPE_CHECKING:
    from cxrmodels.engine import Engine
    from cxrmodels.training.fit import EpochReport

PREDICTION_COLUMNS = ("file", "model", "finding", "probability", "decision", "gate", "error")

_OK, _SOME_FAILED, _USAGE = 0, 1, 2


class UsageError(ValueError):
    """The words of a command make no sense together; the message says what would."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
    return _OK


def _engines(names: str) -> dict[str, Engine]:
    """Load the models named, or all that are shipped.

    Raises:
        UsageError: none is named, or one that does not exist.
        ModelError: one of them cannot be had, or none is shipped.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from cxrmodels.engine import Engine
    from cxrmodels.zoo import load

    keys: Iterable[str] = shipped()
    if names != "all":
        keys = [_known(name.strip()) for name in names.split(",") if name.strip()]
        if not keys:
            raise UsageError(f"--models names no model; expected all, or some of {', '.join(SPECS)}.")
    if not keys:
        raise ModelError(
            "No model is shipped here. Restore the weights folder from the repository, or make a model with "
            "'python -m cxrmodels train KEY'."
        )
    return {key: Engine(load(key)) for key in keys}


def _known(key: str) -> str:
    """A model key as given.

    Raises:
        UsageError: there is no such model.
    """
    if key not in SPECS:
        raise UsageError(f"Unknown model {key!r}; expected one of {', '.join(SPECS)}.")
    return key


def _read(name: str) -> Radiograph:
    """Read a film from disk.

    Raises:
        RadiographError: it cannot be read, for whatever reason.
    """
    try:
        data = Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RadiographError(
            f"The file cannot be opened ({reason}). Check its name and that you may read it."
        ) from None
    return read_radiograph(data, name)


def _progress(done: int, total: int | None, what: str) -> None:
    if total and total > 1 and sys.stderr.isatty():
        print(f"\r{done}/{total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _predict(arguments: argparse.Namespace) -> int:
    engines = _engines(arguments.models)
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
                radiograph = _read(name)
            except RadiographError as error:
                failed = True
                writer.writerow((name, "", "", "", "", "", str(error)))
                _say(f"{ascii(name)[1:-1][:200]}: {error}")
                continue
            for key, engine in engines.items():
                prediction, _ = predict(engine, radiograph)
                for finding, probability in zip(prediction.findings, prediction.probabilities, strict=True):
                    writer.writerow((name, key, finding, f"{probability:.6f}", prediction.decision, "", ""))
            _progress(number, len(arguments.files), "films")
    _say(NOTICE)
    return _SOME_FAILED if failed else _OK


def _explain(arguments: argparse.Namespace) -> int:
    from cxrmodels.explain.saliency import METHODS, saliency
    from cxrmodels.inference import predict
    from cxrmodels.plots import contact_sheet_png, overlay, percent

    radiograph = _read(arguments.file)
    engines = _engines(arguments.models)
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for key, engine in engines.items():
        prediction, output = predict(engine, radiograph)
        finding = arguments.finding or prediction.findings[prediction.top]
        if finding not in prediction.findings:
            _say(f"{key} does not answer {finding}; it answers {', '.join(prediction.findings)}.")
            continue
        heat = saliency(engine, radiograph, output, finding, arguments.method)
        path = folder / f"{Path(radiograph.name).stem}-{key}-{finding}-{arguments.method}.png"
        probability = percent(prediction.probability(finding) or 0.0)
        about = f"{METHODS[heat.method].title}, layer {heat.layer}; weights {prediction.weights_sha256[:12]}"
        picture = overlay(radiograph.pixels, heat.heat, opacity=0.6)
        heading = f"{'synthetic film, ' if radiograph.synthetic else ''}{radiograph.name}"
        title = f"{SPECS[key].title}: {TITLES[finding]}, {probability}"
        path.write_bytes(contact_sheet_png([(title, about, picture)], heading, cell=720))
        print(path)
        written += 1
    _say(NOTICE)
    return _OK if written else _SOME_FAILED


def _data_folder(arguments: argparse.Namespace) -> Path:
    folder = Path(arguments.data) if arguments.data else data_folder()
    if folder is None:
        raise ManifestError(f"No data folder is named. Set {DATA_VARIABLE} to one, or give --data FOLDER.")
    return folder


def _train(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from platformdirs import user_data_path

    _known(arguments.key)
    folder = _data_folder(arguments)
    work = Path(arguments.work) if arguments.work else user_data_path("cxrmodels") / "training" / arguments.key
    _say(f"Training {arguments.key}. Killed, it goes on from {work} when started again.")
    from cxrmodels.training.ship import train

    def report(epoch: EpochReport) -> None:
        left = (epoch.epochs - epoch.epoch) * epoch.seconds
        _say(
            f"stage {epoch.stage + 1}, epoch {epoch.epoch}/{epoch.epochs}: loss {epoch.training_loss:.4f}, "
            f"validation loss {epoch.validation_loss:.4f}, validation balanced accuracy "
            f"{epoch.validation_accuracy:.4f} ({epoch.seconds:.0f} s; {left / 60:.0f} min left in this stage)"
        )

    card = train(
        arguments.key,
        data=folder,
        weights=Path(arguments.output) if arguments.output else weights_folder(),
        work=work,
        seed=arguments.seed,
        report=report,
    )
    for summary in card.metrics:
        figures = ", ".join(
            f"{name} {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
            for name, value in summary["metrics"].items()
            if value
        )
        print(f"{summary['name']} ({summary['films']} films): {figures}")
    return _OK


def _data_status(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.manifest import read_manifest

    films = read_manifest(_data_folder(arguments))
    counts: dict[tuple[str, str, str], int] = {}
    for film in films:
        place = (film.source, film.split, film.finding)
        counts[place] = counts.get(place, 0) + 1
    for (source, split, finding), count in sorted(counts.items()):
        print(f"{source:<14}{split:<11}{finding:<22}{count:>7,}")
    return _OK


def _data_sources(_: argparse.Namespace) -> int:
    from cxrmodels.datasets.sources import SOURCES

    for source in SOURCES.values():
        print(f"{source.key:<14}{source.title}\n{'':<14}{source.licence}; {source.home}")
    return _OK


def _data_fetch(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.fetch import FetchError, fetch
    from cxrmodels.datasets.sources import Source

    named = arguments.data or os.environ.get(DATA_VARIABLE)
    if not named:
        raise ManifestError(f"No data folder is named. Set {DATA_VARIABLE} to one, or give --data FOLDER.")

    def accept(source: Source) -> bool:
        _say(source.terms())
        if arguments.accept_licence:
            return True
        if not sys.stdin.isatty():
            _say("Nobody is here to be asked. Give --accept-licence if you accept these terms.")
            return False
        return input("Do you accept these terms? [y/N] ").strip().lower() in ("y", "yes")

    def received(done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            whole = f" of {total / 2**20:.0f}" if total else ""
            print(f"\r{done / 2**20:.0f}{whole} MB", end="", file=sys.stderr, flush=True)

    try:
        report = fetch(
            arguments.source,
            Path(named),
            accept_licence=accept,
            archive=Path(arguments.archive) if arguments.archive else None,
            progress=received,
            film_progress=lambda done, total: _progress(done, total, "films"),
        )
    except FetchError as error:
        _say(str(error))
        return _SOME_FAILED
    print("\n".join(report.lines()))
    return _OK


def _evaluate(arguments: argparse.Namespace) -> int:
    from cxrmodels.evaluation.metrics import summaries
    from cxrmodels.evaluation.predictions import read_predictions

    rows = []
    for key in [_known(key) for key in arguments.keys] or shipped():
        card = read_card(key)
        evaluation = read_predictions(weights_folder() / key / PREDICTIONS_FILE)
        for summary in summaries(evaluation, card.training_sources, card.temperature):
            rows.append({"model": key, **summary.to_dict()})
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return _OK
    for row in rows:
        print(f"{row['model']}: {row['name']} ({row['films']} films, {'seen' if row['seen'] else 'unseen'})")
        for name, figure in row["metrics"].items():
            if figure:
                print(f"    {name:<24}{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})")
    return _OK


def _card(arguments: argparse.Namespace) -> int:
    print(read_card(_known(arguments.key)).to_json(), end="")
    return _OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cxrmodels", description=f"Chest X-ray classifiers. {NOTICE}")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        # argparse formats help texts, but not descriptions, with "%": a per cent sign would be taken for a field.
        sub = commands.add_parser(name, help=text.replace("%", "%%"), description=text)
        sub.set_defaults(run=run)
        return sub

    models = command("models", _models, "List the models.")
    models.add_argument("--json", action="store_true", help="as JSON")

    card = command("card", _card, "Print a model's card.")
    card.add_argument("key", metavar="KEY")

    predict = command("predict", _predict, "What the models say of films, as CSV.")
    predict.add_argument("files", nargs="+", metavar="FILE")
    predict.add_argument("--models", default="all", metavar="KEY,KEY", help="model keys, or all (the default)")
    predict.add_argument("--output", metavar="FILE.csv", help="write there instead of to standard output")

    explain = command("explain", _explain, "Heat maps of a film over it, as PNG files.")
    explain.add_argument("file", metavar="FILE")
    explain.add_argument("--models", default="all", metavar="KEY,KEY", help="model keys, or all (the default)")
    explain.add_argument("--finding", choices=tuple(TITLES), help="by default each model's likeliest")
    explain.add_argument("--method", default="grad_cam", choices=("grad_cam", "grad_cam_plus_plus", "layer_cam"))
    explain.add_argument("--output", default=".", metavar="FOLDER")

    evaluate = command("evaluate", _evaluate, "Metrics with 95 % intervals from the stored predictions.")
    evaluate.add_argument("keys", nargs="*", metavar="KEY", help="model keys; by default all that are shipped")
    evaluate.add_argument("--json", action="store_true", help="as JSON")

    train = command("train", _train, "Train a model by its recipe and write weights, card and predictions.")
    train.add_argument("key", metavar="KEY", help=f"one of {', '.join(SPECS)}")
    train.add_argument("--data", metavar="FOLDER", help=f"folder with manifest.csv (default: {DATA_VARIABLE})")
    train.add_argument("--output", metavar="FOLDER", help="weights folder (default: the one that is served)")
    train.add_argument("--work", metavar="FOLDER", help="where an unfinished training is kept")
    train.add_argument("--seed", type=int, default=0)

    data = commands.add_parser("data", help="The films on this machine.", description="The films on this machine.")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    status = actions.add_parser("status", help="what the data folder holds")
    status.add_argument("--data", metavar="FOLDER")
    status.set_defaults(run=_data_status)
    sources = actions.add_parser("sources", help="the public sources and their licences")
    sources.set_defaults(run=_data_sources)
    fetch = actions.add_parser("fetch", help="download a public source, its licence shown first")
    fetch.add_argument("source", metavar="SOURCE")
    fetch.add_argument("--data", metavar="FOLDER", help=f"where the films go (default: {DATA_VARIABLE})")
    fetch.add_argument("--archive", metavar="FILE", help="an archive downloaded by hand")
    fetch.add_argument("--accept-licence", action="store_true", help="do not ask")
    fetch.set_defaults(run=_data_fetch)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 some or all of it failed, 2 wrong usage."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except UsageError as error:
        _say(str(error))
        return _USAGE
    except BrokenPipeError:  # Whoever read the output has had enough.
        return _SOME_FAILED
    except (ModelError, ValueError, OSError) as error:
        _say(str(error))
        return _SOME_FAILED
    except KeyboardInterrupt:
        _say("Stopped.")
        return 130
