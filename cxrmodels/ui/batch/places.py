"""Which folders of the server a viewer may name. A name is as good as looking: what is there shows in the table."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from cxrmodels.api.access import is_loopback
from cxrmodels.batch.films import BatchError

FOLDERS_VARIABLE = "CXRMODELS_BATCH_FOLDERS"
"""Folders, parted as in PATH, below which every viewer may name one."""

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")


def is_own_machine() -> bool:
    """Whether only people at this machine can be at the page: it listens on loopback, and this request came by a
    loopback name with no proxy between. A page of somebody else's that resolves to here comes by its own name."""
    headers = st.context.headers
    host = (headers.get("Host") or "").rpartition("@")[2]
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    listens = str(st.get_option("server.address") or "")
    return is_loopback(listens) and is_loopback(name) and not any(headers.get(one) for one in _FORWARDED)


def _roots() -> list[Path]:
    named = os.environ.get(FOLDERS_VARIABLE, "")
    return [Path(part).expanduser().resolve() for part in named.split(os.pathsep) if part.strip()]


def may_name_folders() -> bool:
    """Whether this viewer may name a folder of the server at all."""
    return bool(_roots()) or is_own_machine()


def named_folder(text: str) -> Path:
    """The folder that a viewer named.

    Raises:
        BatchError: it is not there, or not one this viewer may name; which of the two is not told.
    """
    folder = Path(text.strip()).expanduser().resolve()
    inside = is_own_machine() or any(folder.is_relative_to(root) for root in _roots())
    if not inside or not folder.is_dir():
        raise BatchError(
            "There is no such folder here that may be read. Give its whole path on the server"
            + ("." if is_own_machine() else f", below one of {', '.join(map(str, _roots()))}.")
        )
    return folder
