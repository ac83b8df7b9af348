"""What several commands need: words to the user, exit codes, models and data by what was typed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrmodels.datasets.manifest import DATA_VARIABLE, ManifestError, data_folder
from cxrmodels.radiograph import Radiograph, RadiographError, read_radiograph
from cxrmodels.zoo import SPECS, ModelError, shipped

if TYPE_CHECKING:
    from cxrmodels.engine import Engine
    from cxrmodels.zoo import LoadedModel

Command = Callable[[str, Any, str], argparse.ArgumentParser]
"""Adds a command: its name, what runs it, what it does."""

OK, SOME_FAILED, USAGE = 0, 1, 2


class UsageError(ValueError):
    """The words of a command make no sense together; the message says what would."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load_engines(names: str) -> dict[str, Engine]:
    """The models named, or all that are shipped, ready to run. Raises as `load_models`."""
    from cxrmodels.engine import Engine

    return {key: Engine(loaded) for key, loaded in load_models(names).items()}


def load_models(names: str) -> dict[str, LoadedModel]:
    """Load the models named, or all that are shipped.

    Raises:
        UsageError: none is named, or one that does not exist.
        ModelError: one of them cannot be had, or none is shipped.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from cxrmodels.zoo import load

    keys: Iterable[str] = shipped()
    if names != "all":
        keys = [known_key(name.strip()) for name in names.split(",") if name.strip()]
        if not keys:
            raise UsageError(f"--models names no model; expected all, or some of {', '.join(SPECS)}.")
    if not keys:
        raise ModelError(
            "No model is shipped here. Restore the weights folder from the repository, or make a model with "
            "'python -m cxrmodels train KEY'."
        )
    return {key: load(key) for key in keys}


def known_key(key: str) -> str:
    """A model key as given.

    Raises:
        UsageError: there is no such model.
    """
    if key not in SPECS:
        raise UsageError(f"Unknown model {key!r}; expected one of {', '.join(SPECS)}.")
    return key


def read_film(name: str) -> Radiograph:
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


def show_progress(done: int, total: int | None, what: str) -> None:
    if total and total > 1 and sys.stderr.isatty():
        print(f"\r{done}/{total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def folder_of(arguments: argparse.Namespace) -> Path:
    folder = Path(arguments.data) if arguments.data else data_folder()
    if folder is None:
        raise ManifestError(f"No data folder is named. Set {DATA_VARIABLE} to one, or give --data FOLDER.")
    return folder


_ROUGH_ARITHMETIC = ("TF_SET_ONEDNN_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE")


def refuse_rough_arithmetic() -> None:
    rough = [name for name in _ROUGH_ARITHMETIC if os.environ.get(name, "").upper() not in ("", "STRICT")]
    if rough:
        raise UsageError(
            f"{rough[0]} is set: the network would learn, and be measured, in rougher arithmetic than it is served in, "
            "and nobody could make it again by this command. Unset it."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
