"""Films on this machine: `data status`, `sources`, `fetch`, `build`, `sample`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cxrmodels.cli.common import OK, SOME_FAILED, folder_of, listed, say, show_progress
from cxrmodels.datasets.manifest import DATA_VARIABLE, ManifestError


def _data_status(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.manifest import read_manifest

    films = read_manifest(folder_of(arguments))
    counts: dict[tuple[str, str, str], int] = {}
    for film in films:
        place = (film.source, film.split, film.finding)
        counts[place] = counts.get(place, 0) + 1
    for (source, split, finding), count in sorted(counts.items()):
        print(f"{source:<14}{split:<11}{finding:<22}{count:>7,}")
    return OK


def _data_sources(_: argparse.Namespace) -> int:
    from cxrmodels.datasets.sources import SOURCES

    for source in SOURCES.values():
        print(f"{source.key:<14}{source.title}\n{'':<14}{source.licence}; {source.home}")
    return OK


def _data_fetch(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.fetch import FetchError, fetch
    from cxrmodels.datasets.sources import Source

    named = arguments.data or os.environ.get(DATA_VARIABLE)
    if not named:
        raise ManifestError(f"No data folder is named. Set {DATA_VARIABLE} to one, or give --data FOLDER.")

    def accept(source: Source) -> bool:
        say(source.terms())
        if arguments.accept_licence:
            return True
        if not sys.stdin.isatty():
            say("Nobody is here to be asked. Give --accept-licence if you accept these terms.")
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
            film_progress=lambda done, total: show_progress(done, total, "films"),
        )
    except FetchError as error:
        say(str(error))
        return SOME_FAILED
    print("\n".join(report.lines()))
    return OK


def _data_build(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.class_folder import DEFAULT_VIEWS, build_class_folder

    copied = build_class_folder(
        folder_of(arguments),
        arguments.out,
        findings=arguments.finding,
        views=arguments.view or DEFAULT_VIEWS,
        progress=lambda done, total: show_progress(done, total, "films"),
    )
    print("\n".join(copied.lines()))
    return OK


def _data_sample(arguments: argparse.Namespace) -> int:
    from cxrmodels.datasets.class_folder import sample_class_folder

    copied = sample_class_folder(
        arguments.source,
        arguments.out,
        per_class=arguments.per_class,
        seed=arguments.seed,
        progress=lambda done, total: show_progress(done, total, "films"),
    )
    print("\n".join(copied.lines()))
    return OK


def add(data: argparse.ArgumentParser) -> None:
    """What `data` does."""
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
    build.add_argument("--finding", type=listed, default=[], metavar="NAME,NAME", help="default: all there are")
    build.add_argument("--view", type=listed, default=[], metavar="VIEW,VIEW", help="default: PA; any: all frontal")
    build.set_defaults(run=_data_build)
    sample = actions.add_parser("sample", help="copy equally many films of each class, drawn at random")
    sample.add_argument("source", type=Path, metavar="SOURCE_DIR")
    sample.add_argument("out", type=Path, metavar="OUT")
    sample.add_argument("--per-class", type=int, default=25, metavar="N")
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(run=_data_sample)
