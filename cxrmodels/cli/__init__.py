"""The command line: `python -m cxrmodels`. Thin: every command calls what the pages call too.

One module a group of commands: each adds its own to the parser. `common` has what they share.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from cxrmodels import NOTICE, __version__
from cxrmodels.cli import data, films, models, serving, shortcuts, training
from cxrmodels.cli.common import SOME_FAILED, USAGE, UsageError, say
from cxrmodels.cli.films import PREDICTION_COLUMNS
from cxrmodels.cli.shortcuts import SURVIVAL_COLUMNS
from cxrmodels.zoo import ModelError

__all__ = ["PREDICTION_COLUMNS", "SURVIVAL_COLUMNS", "main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cxrmodels", description=f"Chest X-ray classifiers. {NOTICE}")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        # argparse formats help texts, but not descriptions, with "%": a per cent sign would be taken for a field.
        sub = commands.add_parser(name, help=text.replace("%", "%%"), description=text)
        sub.set_defaults(run=run)
        return sub

    for group in (models, films, serving, shortcuts, training):
        group.add(command)
    about = "The films on this machine."
    data.add(commands.add_parser("data", help=about, description=about))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 some or all of it failed, 2 wrong usage."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except UsageError as error:
        say(str(error))
        return USAGE
    except BrokenPipeError:  # Whoever read the output has had enough.
        return SOME_FAILED
    except (ModelError, ValueError, OSError) as error:
        say(str(error))
        return SOME_FAILED
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
