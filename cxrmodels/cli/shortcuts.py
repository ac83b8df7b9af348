"""How much of the accuracy survives: `shortcuts`."""

from __future__ import annotations

import argparse
import csv
import sys
from contextlib import ExitStack
from pathlib import Path

from cxrmodels import NOTICE
from cxrmodels.cli.common import OK, Command, UsageError, folder_of, listed, load_engines, say
from cxrmodels.datasets.manifest import DATA_VARIABLE, ManifestError
from cxrmodels.rate import Rate
from cxrmodels.zoo import SPECS

SURVIVAL_COLUMNS = ("model", "change", "films", "chance", "before", "after", "survives", "low", "high")


def _shortcuts(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.manifest import read_manifest
    from cxrmodels.evaluation.cards import keep_shortcuts
    from cxrmodels.evaluation.survival import survivals
    from cxrmodels.explain.survival import drawn, lungs_of, named

    held_out = [film for film in read_manifest(folder_of(arguments)) if film.split in arguments.split]
    if not held_out:
        raise ManifestError(f"The data folder has no films of the split {', '.join(arguments.split)}. Name another.")
    if arguments.write and arguments.split != ["test"]:
        raise UsageError("--write keeps figures on the test films in the cards; it does not go with another --split.")
    engines = load_engines(arguments.models)
    with ExitStack() as stack:
        out = sys.stdout
        if arguments.output:
            out = stack.enter_context(Path(arguments.output).open("w", encoding="utf-8", newline=""))
        writer = csv.writer(out)
        writer.writerow(SURVIVAL_COLUMNS)
        for key, engine in engines.items():
            films = drawn(held_out, SPECS[key].findings, arguments.films)
            answers = named(engine, films, lungs_of(films), Rate(f"films, {key}", say))
            for one in survivals(answers):
                estimates = (one.before.value, one.after.value, one.survives.value, one.survives.low, one.survives.high)
                writer.writerow(
                    (key, one.change, one.films, f"{one.chance:.3f}", *(f"{value:.3f}" for value in estimates))
                )
            if arguments.write:
                keep_shortcuts(key, answers)
    say(NOTICE)
    return OK


def add(command: Command) -> None:
    """The command `shortcuts`."""
    shortcuts = command(
        "shortcuts", _shortcuts, "How much of each model's accuracy survives changes beside the disease, as CSV."
    )
    shortcuts.add_argument("--models", default="all", metavar="KEY,KEY", help="model keys, or all (the default)")
    shortcuts.add_argument("--data", metavar="FOLDER", help=f"folder with manifest.csv (default: {DATA_VARIABLE})")
    shortcuts.add_argument("--films", type=int, default=240, metavar="N", help="films at most (default: 240)")
    shortcuts.add_argument(
        "--split", type=listed, default=["test"], metavar="NAME,NAME", help="splits of the films (default: test)"
    )
    shortcuts.add_argument("--output", metavar="FILE.csv", help="write there instead of to standard output")
    shortcuts.add_argument("--write", action="store_true", help="write the figures into the models' cards")
