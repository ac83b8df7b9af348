"""The command line: `python -m cxrmodels`. Thin: every command calls what the pages call too."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrmodels import NOTICE, __version__
from cxrmodels.datasets.manifest import DATA_VARIABLE, ManifestError, data_folder
from cxrmodels.findings import TITLES
from cxrmodels.radiograph import Radiograph, RadiographError, read_radiograph
from cxrmodels.rate import Rate
from cxrmodels.zoo import LUNGS, SPECS, ModelError, check_weights, read_card, shipped, weights_folder

if TYPE_CHECKING:
    from cxrmodels.engine import Engine
    from cxrmodels.training.fit import EpochReport
    from cxrmodels.training.papers import CrossValidation, Trial
    from cxrmodels.zoo import LoadedModel

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
    """The models named, or all that are shipped, ready to run. Raises as `_loaded`."""
    from cxrmodels.engine import Engine

    return {key: Engine(loaded) for key, loaded in _loaded(names).items()}


def _loaded(names: str) -> dict[str, LoadedModel]:
    """Load the models named, or all that are shipped.

    Raises:
        UsageError: none is named, or one that does not exist.
        ModelError: one of them cannot be had, or none is shipped.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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
    return {key: load(key) for key in keys}


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


def _batch(arguments: argparse.Namespace) -> int:
    from cxrmodels.batch.command import batch
    from cxrmodels.batch.films import BatchError

    try:
        whole = batch(
            arguments.paths,
            Path(arguments.output),
            lambda: _loaded(arguments.models),
            labels=Path(arguments.labels) if arguments.labels else None,
            folder_labels=arguments.folder_labels,
            engine=arguments.engine,
            say=_say,
        )
    except BatchError as error:
        raise UsageError(str(error)) from None
    _say(NOTICE)
    return _OK if whole else _SOME_FAILED


def _explain(arguments: argparse.Namespace) -> int:
    from cxrmodels.explain.methods import WAYS
    from cxrmodels.explain.sheet import sheet
    from cxrmodels.lungs import find

    if arguments.method not in WAYS:
        raise UsageError(f"Unknown method {arguments.method!r}; expected one of {', '.join(WAYS)}.")
    radiograph = _read(arguments.file)
    engines = _engines(arguments.models)
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lungs = find(radiograph, data_folder())
    except (ModelError, ManifestError) as error:
        lungs = None
        _say(f"Maps without lungs: {error}")
    written = 0
    for key, engine in engines.items():
        findings, what = SPECS[key].findings, f"% of {WAYS[arguments.method].title}, {key}"
        if arguments.finding and arguments.finding not in findings:
            _say(f"{key} does not answer {arguments.finding}; it answers {', '.join(findings)}.")
            continue

        def report(share: float, what: str = what) -> None:
            _progress(round(100 * share), 100, what)

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
            _say(str(error))
            continue
        path = folder / f"{Path(radiograph.name).stem}-{key}-{made.finding}-{arguments.method}.png"
        path.write_bytes(made.picture)
        print(path)
        if made.where:
            _say(f"{key}: {made.where}")
        written += 1
    _say(NOTICE)
    return _OK if written else _SOME_FAILED


def _data_folder(arguments: argparse.Namespace) -> Path:
    folder = Path(arguments.data) if arguments.data else data_folder()
    if folder is None:
        raise ManifestError(f"No data folder is named. Set {DATA_VARIABLE} to one, or give --data FOLDER.")
    return folder


_ROUGH_ARITHMETIC = ("TF_SET_ONEDNN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE")


def _refuse_rough_arithmetic() -> None:
    rough = [name for name in _ROUGH_ARITHMETIC if os.environ.get(name, "").upper() not in ("", "STRICT")]
    if rough:
        raise UsageError(
            f"{rough[0]} is set: the network would learn, and be measured, in rougher arithmetic than it is served in, "
            "and nobody could make it again by this command. Unset it."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _train(arguments: argparse.Namespace) -> int:
    _refuse_rough_arithmetic()
    from platformdirs import user_data_path

    if arguments.key == LUNGS.key:
        return _train_lungs(arguments)
    _known(arguments.key)
    if arguments.dataset:
        if arguments.without:
            raise UsageError("--without leaves a source of the data folder out; it does not go with --dataset.")
        return _train_on_folder(arguments)
    given = [f"--{name.replace('_', '-')}" for name in _PAPER_OPTIONS if getattr(arguments, name) is not None]
    if given:
        raise UsageError(f"{', '.join(given)} without --dataset: a shipped model is trained by its recipe alone.")
    folder = _data_folder(arguments)
    name = f"{arguments.key}-without-{arguments.without}" if arguments.without else arguments.key
    work = Path(arguments.work) if arguments.work else user_data_path("cxrmodels") / "training" / name
    _say(f"Training {name}. Killed, it goes on from {work} when started again.")
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
        init=arguments.init,
        without=arguments.without or "",
        report=report,
    )
    for summary in card.left_out if arguments.without else card.metrics:
        figures = ", ".join(
            f"{name} {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
            for name, value in summary["metrics"].items()
            if value
        )
        print(f"{summary['name']} ({summary['films']} films): {figures}")
    return _OK


def _train_lungs(arguments: argparse.Namespace) -> int:
    from platformdirs import user_data_path

    from cxrmodels.training.lungs import EPOCHS, train_lungs

    name = f"{LUNGS.key}-without-{arguments.without}" if arguments.without else LUNGS.key
    work = Path(arguments.work) if arguments.work else user_data_path("cxrmodels") / "training" / name
    _say(f"Training {name}. Killed, it goes on from {work} when started again.")

    def report(epoch: int, loss: float, dice: float, seconds: float) -> None:
        _say(f"epoch {epoch}/{EPOCHS}: loss {loss:.4f}, validation Dice {dice:.4f} ({seconds:.0f} s)")

    card = train_lungs(
        data=_data_folder(arguments),
        weights=Path(arguments.output) if arguments.output else weights_folder(),
        work=work,
        seed=arguments.seed,
        without=arguments.without or "",
        report=report,
    )
    for summary in card.metrics:
        value = summary["metrics"]["dice"]
        print(
            f"{summary['name']} ({summary['films']} films): Dice {value['value']:.3f} "
            f"({value['low']:.3f} to {value['high']:.3f})"
        )
    return _OK


def _fivefold(arguments: argparse.Namespace) -> int:
    from cxrmodels.evaluation.fivefold import kept_fivefolds

    weights = Path(arguments.output) if arguments.output else weights_folder()
    if arguments.show:
        shown = [
            result
            for result in kept_fivefolds(weights)
            if arguments.name in (None, result.facts.name) and arguments.classes in (None, len(result.classes))
        ]
        if not shown:
            raise UsageError(f"No such comparison is kept in {weights}; make it with 'python -m cxrmodels fivefold'.")
        print("\n\n".join("\n".join(result.lines()) for result in shown))
        return _OK
    _refuse_rough_arithmetic()
    from platformdirs import user_data_path

    from cxrmodels.training.fivefold import PLANS, run_fivefold

    if arguments.name not in PLANS:
        raise UsageError(f"{arguments.name or 'Nothing'} cannot be compared; expected one of {', '.join(PLANS)}.")
    name, classes = arguments.name, arguments.classes or 3
    folder = _data_folder(arguments)
    work = Path(arguments.work or user_data_path("cxrmodels") / "training" / f"fivefold-{name}-{classes}")
    _say(f"Training {name} once a fold. Killed, it goes on from {work} when started again.")
    result = run_fivefold(name, classes, data=folder, weights=weights, work=work, seed=arguments.seed, report=_say)
    print("\n".join(result.lines()))
    return _OK


_PAPER_OPTIONS = ("plot", "model", "folds", "epochs", "batch_size", "learning_rate")
"""Options of `train` that go with --dataset only."""


def _train_on_folder(arguments: argparse.Namespace) -> int:
    if arguments.data or arguments.output:
        raise UsageError("--data and --output do not go with --dataset, which ships nothing; --model names a file.")
    if arguments.folds is not None and arguments.model:
        raise UsageError("--folds trains a network a fold and keeps none; for --model train again without --folds.")
    from platformdirs import user_data_path

    from cxrmodels.datasets.class_folder import read_class_folder
    from cxrmodels.training.papers import cross_validate, paper_recipe, train_on_folder

    key, folder = arguments.key, Path(arguments.dataset)
    numbers = {name: getattr(arguments, name) for name in ("epochs", "batch_size", "learning_rate")}
    recipe = paper_recipe(key, **{name: number for name, number in numbers.items() if number is not None})
    recipe = replace(recipe, init=arguments.init or recipe.init)
    dataset = read_class_folder(folder, lambda done, total: _progress(done, total, "films"))
    _say("\n".join(dataset.lines()))
    work = Path(arguments.work or user_data_path("cxrmodels") / "training" / f"{key}-{folder.resolve().name}")
    _say(f"Training {key}. Killed, it goes on from {work} when started again.")
    common: dict[str, Any] = {"seed": arguments.seed, "work": work, "report": _say, "plot": arguments.plot}
    result: Trial | CrossValidation
    if arguments.folds is None:
        result = train_on_folder(key, dataset, recipe, model=arguments.model, **common)
    else:
        result = cross_validate(key, dataset, recipe, arguments.folds, **common)
    print("\n".join(result.lines()))
    _say(NOTICE)
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


SURVIVAL_COLUMNS = ("model", "change", "films", "chance", "before", "after", "survives", "low", "high")


def _shortcuts(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.manifest import read_manifest
    from cxrmodels.evaluation.cards import keep_shortcuts
    from cxrmodels.evaluation.survival import survivals
    from cxrmodels.explain.survival import drawn, lungs_of, named

    held_out = [film for film in read_manifest(_data_folder(arguments)) if film.split in arguments.split]
    if not held_out:
        raise ManifestError(f"The data folder has no films of the split {', '.join(arguments.split)}. Name another.")
    if arguments.write and arguments.split != ["test"]:
        raise UsageError("--write keeps figures on the test films in the cards; it does not go with another --split.")
    engines = _engines(arguments.models)
    with ExitStack() as stack:
        out = sys.stdout
        if arguments.output:
            out = stack.enter_context(Path(arguments.output).open("w", encoding="utf-8", newline=""))
        writer = csv.writer(out)
        writer.writerow(SURVIVAL_COLUMNS)
        for key, engine in engines.items():
            films = drawn(held_out, SPECS[key].findings, arguments.films)
            answers = named(engine, films, lungs_of(films), Rate(f"films, {key}", _say))
            for one in survivals(answers):
                estimates = (one.before.value, one.after.value, one.survives.value, one.survives.low, one.survives.high)
                writer.writerow(
                    (key, one.change, one.films, f"{one.chance:.3f}", *(f"{value:.3f}" for value in estimates))
                )
            if arguments.write:
                keep_shortcuts(key, answers)
    _say(NOTICE)
    return _OK


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
    return _SOME_FAILED if differs else _OK


def _data_build(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.class_folder import DEFAULT_VIEWS, build_class_folder

    copied = build_class_folder(
        _data_folder(arguments),
        arguments.out,
        findings=arguments.finding,
        views=arguments.view or DEFAULT_VIEWS,
        progress=lambda done, total: _progress(done, total, "films"),
    )
    print("\n".join(copied.lines()))
    return _OK


def _data_sample(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.class_folder import sample_class_folder

    copied = sample_class_folder(
        arguments.source,
        arguments.out,
        per_class=arguments.per_class,
        seed=arguments.seed,
        progress=lambda done, total: _progress(done, total, "films"),
    )
    print("\n".join(copied.lines()))
    return _OK


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.check:
        return _check_report(arguments)
    if arguments.predictions:
        raise UsageError("--predictions without --check: your own predictions are compared on the page.")
    from cxrmodels.evaluation.cards import recompute, write_card

    rows: list[dict[str, Any]] = []
    for key in [_known(key) for key in arguments.keys] or shipped():
        card = recompute(key)
        if arguments.write:
            write_card(card)
        rows += [{"model": key, **summary} for summary in card.metrics]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return _OK
    for row in rows:
        print(f"{row['model']}: {row['name']} ({row['films']} films, {'seen' if row['seen'] else 'unseen'})")
        for name, figure in row["metrics"].items():
            if figure:
                print(f"    {name:<28}{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})")
    return _OK


def _benchmark(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keys = [_known(key) for key in arguments.keys] or shipped()
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
    return _OK


def _serve(arguments: argparse.Namespace) -> int:
    from cxrmodels.api.access import AccessError
    from cxrmodels.api.server import serve

    _say(f"http://{arguments.host}:{arguments.port}/api/v1/openapi.json says what can be asked. {NOTICE}")
    try:
        serve(arguments.host, arguments.port, arguments.rate)
    except AccessError as error:
        raise UsageError(str(error)) from None
    return _OK


def _card(arguments: argparse.Namespace) -> int:
    print(read_card(_known(arguments.key)).to_json(), end="")
    return _OK


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _add_paper_options(train: argparse.ArgumentParser) -> None:
    papers = train.add_argument_group("on a folder of classes, as the papers' programs do")
    papers.add_argument("--dataset", metavar="DIR", help="folder with one subfolder of films a class")
    papers.add_argument("--plot", type=Path, metavar="FILE.png", help="write the curves of loss and accuracy there")
    papers.add_argument("--model", type=Path, metavar="FILE.keras", help="write the network there")
    papers.add_argument("--folds", type=int, metavar="K", help="cross-validate, patients kept together")
    papers.add_argument("--epochs", type=int, metavar="N", help="default: 25")
    papers.add_argument("--batch-size", type=int, metavar="N", help="default: 8")
    papers.add_argument("--learning-rate", type=float, metavar="X", help="its peak (default: the model's own recipe)")


def _add_data_actions(data: argparse.ArgumentParser) -> None:
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
    build = actions.add_parser("build", help="copy films by finding and view into a folder of classes")
    build.add_argument("out", type=Path, metavar="OUT")
    build.add_argument(
        "--data",
        metavar="PATH",
        help=f"ieee8023's covid-chestxray-dataset, folder or zip, or a data folder (default: {DATA_VARIABLE})",
    )
    build.add_argument("--finding", type=_listed, default=[], metavar="NAME,NAME", help="default: all there are")
    build.add_argument("--view", type=_listed, default=[], metavar="VIEW,VIEW", help="default: PA; any: all frontal")
    build.set_defaults(run=_data_build)
    sample = actions.add_parser("sample", help="copy equally many films of each class, drawn at random")
    sample.add_argument("source", type=Path, metavar="SOURCE_DIR")
    sample.add_argument("out", type=Path, metavar="OUT")
    sample.add_argument("--per-class", type=int, default=25, metavar="N")
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(run=_data_sample)


def _add_shortcuts(command: Callable[[str, Any, str], argparse.ArgumentParser]) -> None:
    shortcuts = command(
        "shortcuts", _shortcuts, "How much of each model's accuracy survives changes beside the disease, as CSV."
    )
    shortcuts.add_argument("--models", default="all", metavar="KEY,KEY", help="model keys, or all (the default)")
    shortcuts.add_argument("--data", metavar="FOLDER", help=f"folder with manifest.csv (default: {DATA_VARIABLE})")
    shortcuts.add_argument("--films", type=int, default=240, metavar="N", help="films at most (default: 240)")
    shortcuts.add_argument(
        "--split", type=_listed, default=["test"], metavar="NAME,NAME", help="splits of the films (default: test)"
    )
    shortcuts.add_argument("--output", metavar="FILE.csv", help="write there instead of to standard output")
    shortcuts.add_argument("--write", action="store_true", help="write the figures into the models' cards")


def _add_trainings(command: Callable[[str, Any, str], argparse.ArgumentParser]) -> None:
    train = command("train", _train, "Train a model by its recipe and write weights, card and predictions.")
    train.add_argument("key", metavar="KEY", help=f"one of {', '.join([*SPECS, LUNGS.key])}")
    train.add_argument("--data", metavar="FOLDER", help=f"folder with manifest.csv (default: {DATA_VARIABLE})")
    train.add_argument("--output", metavar="FOLDER", help="weights folder (default: the one that is served)")
    train.add_argument("--work", metavar="FOLDER", help="where an unfinished training is kept")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--init", choices=("imagenet",), help="start from ImageNet weights, downloaded once (default: fresh weights)"
    )
    train.add_argument(
        "--without",
        metavar="SOURCE",
        help="leave a source out and measure what the network is worth there; it is not kept",
    )
    _add_paper_options(train)

    fivefold = command("fivefold", _fivefold, "Cross-validate on the films of DarkCovidNet's paper, by patient.")
    fivefold.add_argument("name", nargs="?", metavar="NAME", help="darkcovidnet (as published) or ours")
    fivefold.add_argument("--classes", type=int, choices=(3, 2), help="default: 3")
    fivefold.add_argument("--data", metavar="FOLDER", help=f"folder with manifest.csv (default: {DATA_VARIABLE})")
    fivefold.add_argument("--output", metavar="FOLDER", help="weights folder, whose benchmark folder gets the answers")
    fivefold.add_argument("--work", metavar="FOLDER", help="where unfinished trainings are kept")
    fivefold.add_argument("--seed", type=int, default=0)
    fivefold.add_argument("--show", action="store_true", help="only show the figures of what was trained")


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

    batch = command("batch", _batch, "Many films through the models: a table with a row a film. Stopped, it goes on.")
    batch.add_argument("paths", nargs="+", metavar="PATH", help="folders, zip archives or films")
    batch.add_argument("--output", required=True, metavar="FILE", help="the table, .csv or .parquet")
    batch.add_argument("--models", default="all", metavar="KEY,KEY", help="model keys, or all (the default)")
    batch.add_argument("--labels", metavar="FILE.csv", help="columns file and label: accuracy and AUC are printed")
    batch.add_argument("--folder-labels", action="store_true", help="films are labelled by their folders' names")
    batch.add_argument(
        "--engine", choices=("here", "ray"), default="here", help="on this machine (the default), or on a Ray cluster"
    )

    serve = command("serve", _serve, "Answer other programs over HTTP, without pages. See docs/api.md.")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine alone)")
    serve.add_argument("--port", type=int, default=8502)
    serve.add_argument("--rate", type=int, metavar="N", help="requests a minute from one address")

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

    _add_shortcuts(command)
    _add_trainings(command)
    data = commands.add_parser("data", help="The films on this machine.", description="The films on this machine.")
    _add_data_actions(data)
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
