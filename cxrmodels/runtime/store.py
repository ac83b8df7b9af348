"""Converted networks on disk, so that a model is converted once on a machine and later starts need no TensorFlow.

One file a model, in the user's cache folder or the one `CXRMODELS_CACHE` names: a line of JSON with the sha256 and the
lengths of what follows, then topology and weights of each of its networks. A file's name holds a hash of all that the
conversion depends on; what another version wrote is not found, and goes when it was not used for some weeks. A folder
that cannot be read or written costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cxrmodels.zoo import LoadedModel

CACHE_VARIABLE = "CXRMODELS_CACHE"
KEPT_DAYS = 60
"""Files that nobody has used for so long are removed when another is written."""

_SUFFIX, _MAKING = ".openvino", ".making-"
_log = logging.getLogger(__name__)


def folder() -> Path:
    """Where converted networks are."""
    named = os.environ.get(CACHE_VARIABLE, "").strip()
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("cxrmodels", appauthor=False) / "networks"


def holds(loaded: LoadedModel) -> bool:
    """Whether there is a file for a model; whether it is whole shows when it is read."""
    path = _path(loaded)
    return path is not None and path.is_file()


def read(loaded: LoadedModel) -> list[Any] | None:
    """A model's converted networks, as `openvino.Model`; None where there are none, or the file is damaged."""
    path = _path(loaded)
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _log.info("%s cannot be read (%s): converting anew.", path.name, error.strerror)
        return None
    import openvino

    line, _, rest = content.partition(b"\n")
    try:
        head = json.loads(line)
        if hashlib.sha256(rest).hexdigest() != head["sha256"]:
            raise ValueError("another sha256")
        ends = np.cumsum([0, *head["lengths"]])
        parts = [memoryview(rest)[begin:end] for begin, end in pairwise(ends)]
    except (ValueError, LookupError, TypeError) as error:
        _log.warning("%s is damaged (%s): converting anew.", path.name, error)
        return None
    with suppress(OSError):  # It may be somebody else's: then it stays as old as it is.
        os.utime(path)
    core = openvino.Core()
    return [
        core.read_model(bytes(topology), openvino.Tensor(np.frombuffer(weights, np.uint8)))
        for topology, weights in zip(parts[::2], parts[1::2], strict=True)
    ]


def write(loaded: LoadedModel, networks: list[Any]) -> None:
    """Keep a model's converted networks. Where that cannot be, they are converted again at the next start."""
    path = _path(loaded)
    if path is None:
        return
    import openvino

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_old(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=_MAKING) as work:
            parts = []
            for network in networks:
                topology, weights = Path(work) / "network.xml", Path(work) / "network.bin"
                openvino.serialize(network, topology, weights)
                parts += [topology.read_bytes(), weights.read_bytes()]
            rest = b"".join(parts)
            head = {"sha256": hashlib.sha256(rest).hexdigest(), "lengths": [len(part) for part in parts]}
            whole = Path(work) / path.name
            with whole.open("wb") as stream:
                stream.write(json.dumps(head).encode() + b"\n" + rest)
                stream.flush()
                os.fsync(stream.fileno())
            whole.replace(path)
    except (OSError, RuntimeError) as error:  # RuntimeError is what OpenVINO raises when it cannot write.
        _log.info("The converted network of %s cannot be kept in %s (%s).", loaded.spec.key, path.parent, error)


def _path(loaded: LoadedModel) -> Path | None:
    """None for a network that is from no file: nothing would tell one from another."""
    if not loaded.weights_sha256:
        return None
    import openvino

    depends = [loaded.weights_sha256, asdict(loaded.spec), openvino.__version__, _code_sha256()]
    digest = hashlib.sha256(json.dumps(depends).encode()).hexdigest()
    return folder() / f"{loaded.spec.key}-{digest[:32]}{_SUFFIX}"


@cache
def _code_sha256() -> str:
    """Of the code that makes a network from weights, and of that which converts it."""
    home = Path(__file__).resolve().parent
    sources = [home / "conversion.py", home / "on_tensorflow.py", *sorted((home.parent / "networks").glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _remove_old(where: Path) -> None:
    """What has not been used for long, and what a killed process left half made."""
    for path in where.glob(f"*{_SUFFIX}"):
        if time.time() - path.stat().st_mtime > KEPT_DAYS * 86400:
            path.unlink(missing_ok=True)
    for path in where.glob(f"{_MAKING}*"):
        if time.time() - path.stat().st_mtime > 86400:
            shutil.rmtree(path, ignore_errors=True)
