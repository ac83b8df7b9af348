"""Trainings: `train`, `fivefold`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrmodels import NOTICE
from cxrmodels.cli.common import (
    OK,
    Command,
    UsageError,
    folder_of,
    known_key,
    refuse_rough_arithmetic,
    say,
    show_progress,
)
from cxrmodels.datasets.manifest import DATA_VARIABLE
from cxrmodels.gate import KEY as GATE
from cxrmodels.rate import Rate
from cxrmodels.training.recipes import FRESH, IMAGENET
from cxrmodels.zoo import LUNGS, SPECS, weights_folder

if TYPE_CHECKING:
    from cxrmodels.training.fit import EpochReport
    from cxrmodels.training.papers import CrossValidation, Trial


def _train(arguments: argparse.Namespace) -> int:
    refuse_rough_arithmetic()
    from platformdirs import user_data_path

    if arguments.key == LUNGS.key:
        return _train_lungs(arguments)
    if arguments.key == GATE:
        return _train_gate(arguments)
    known_key(arguments.key)
    if arguments.dataset:
        if arguments.without:
            raise UsageError("--without leaves a source of the data folder out; it does not go with --dataset.")
        return _train_on_folder(arguments)
    given = [f"--{name.replace('_', '-')}" for name in _PAPER_OPTIONS if getattr(arguments, name) is not None]
    if given:
        raise UsageError(f"{', '.join(given)} without --dataset: a shipped model is trained by its recipe alone.")
    folder = folder_of(arguments)
    name = f"{arguments.key}-without-{arguments.without}" if arguments.without else arguments.key
    work = Path(arguments.work) if arguments.work else user_data_path("cxrmodels") / "training" / name
    say(f"Training {name}. Killed, it goes on from {work} when started again.")
    from cxrmodels.training.ship import train

    def report(epoch: EpochReport) -> None:
        left = (epoch.epochs - epoch.epoch) * epoch.seconds
        say(
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
    return OK


def _train_lungs(arguments: argparse.Namespace) -> int:
    from platformdirs import user_data_path

    from cxrmodels.training.lungs import EPOCHS, train_lungs

    name = f"{LUNGS.key}-without-{arguments.without}" if arguments.without else LUNGS.key
    work = Path(arguments.work) if arguments.work else user_data_path("cxrmodels") / "training" / name
    say(f"Training {name}. Killed, it goes on from {work} when started again.")

    def report(epoch: int, loss: float, dice: float, seconds: float) -> None:
        say(f"epoch {epoch}/{EPOCHS}: loss {loss:.4f}, validation Dice {dice:.4f} ({seconds:.0f} s)")

    card = train_lungs(
        data=folder_of(arguments),
        weights=Path(arguments.output) if arguments.output else weights_folder(),
        work=work,
        seed=arguments.seed,
        init=arguments.init or IMAGENET,
        without=arguments.without or "",
        report=report,
    )
    for summary in card.metrics:
        value = summary["metrics"]["dice"]
        print(
            f"{summary['name']} ({summary['films']} films): Dice {value['value']:.3f} "
            f"({value['low']:.3f} to {value['high']:.3f})"
        )
    return OK


def _train_gate(arguments: argparse.Namespace) -> int:
    from cxrmodels.evaluation.gatekeeping import lines
    from cxrmodels.training.gate import train_gate

    rates: dict[str, Rate] = {}
    found = train_gate(
        data=folder_of(arguments),
        weights=Path(arguments.output) if arguments.output else weights_folder(),
        seed=arguments.seed,
        report=lambda what, done, total: rates.setdefault(what, Rate(what, say))(done, total),
    )
    print("\n".join(lines(found)))
    return OK


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
        return OK
    refuse_rough_arithmetic()
    from platformdirs import user_data_path

    from cxrmodels.training.fivefold import PLANS, run_fivefold

    if arguments.name not in PLANS:
        raise UsageError(f"{arguments.name or 'Nothing'} cannot be compared; expected one of {', '.join(PLANS)}.")
    name, classes = arguments.name, arguments.classes or 3
    folder = folder_of(arguments)
    work = Path(arguments.work or user_data_path("cxrmodels") / "training" / f"fivefold-{name}-{classes}")
    result = run_fivefold(name, classes, data=folder, weights=weights, work=work, seed=arguments.seed, report=say)
    print("\n".join(result.lines()))
    return OK


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
    dataset = read_class_folder(folder, lambda done, total: show_progress(done, total, "films"))
    say("\n".join(dataset.lines()))
    work = Path(arguments.work or user_data_path("cxrmodels") / "training" / f"{key}-{folder.resolve().name}")
    say(f"Training {key}. Killed, it goes on from {work} when started again.")
    common: dict[str, Any] = {"seed": arguments.seed, "work": work, "report": say, "plot": arguments.plot}
    result: Trial | CrossValidation
    if arguments.folds is None:
        result = train_on_folder(key, dataset, recipe, model=arguments.model, **common)
    else:
        result = cross_validate(key, dataset, recipe, arguments.folds, **common)
    print("\n".join(result.lines()))
    say(NOTICE)
    return OK


def _add_paper_options(train: argparse.ArgumentParser) -> None:
    papers = train.add_argument_group("on a folder of classes, as the papers' programs do")
    papers.add_argument("--dataset", metavar="DIR", help="folder with one subfolder of films a class")
    papers.add_argument("--plot", type=Path, metavar="FILE.png", help="write the curves of loss and accuracy there")
    papers.add_argument("--model", type=Path, metavar="FILE.keras", help="write the network there")
    papers.add_argument("--folds", type=int, metavar="K", help="cross-validate, patients kept together")
    papers.add_argument("--epochs", type=int, metavar="N", help="default: 25")
    papers.add_argument("--batch-size", type=int, metavar="N", help="default: 8")
    papers.add_argument("--learning-rate", type=float, metavar="X", help="its peak (default: the model's own recipe)")


def add(command: Command) -> None:
    """Commands that train: `train`, `fivefold`."""
    train = command("train", _train, "Train a model by its recipe and write weights, card and predictions.")
    train.add_argument("key", metavar="KEY", help=f"one of {', '.join([*SPECS, LUNGS.key, GATE])}")
    train.add_argument("--data", metavar="FOLDER", help=f"folder with manifest.csv (default: {DATA_VARIABLE})")
    train.add_argument("--output", metavar="FOLDER", help="weights folder (default: the one that is served)")
    train.add_argument("--work", metavar="FOLDER", help="where an unfinished training is kept")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--init",
        choices=(IMAGENET, FRESH),
        help="start from ImageNet weights, downloaded once, or from fresh ones (default: as the recipe says)",
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
