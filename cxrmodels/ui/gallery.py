"""The strip of ready films: each picture is a button.

A Streamlit component (v2, inline), because Streamlit's own pictures cannot be clicked and its buttons show none.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from cxrmodels.datasets.ready import ReadyFilm

_ASSETS = Path(__file__).parent / "assets"

_mount = st.components.v2.component(
    "cxr_gallery",
    html='<div class="strip" role="group"></div>',
    css=(_ASSETS / "gallery.css").read_text(encoding="utf-8"),
    js=(_ASSETS / "gallery.js").read_text(encoding="utf-8"),
)


def gallery(
    films: Iterable[tuple[ReadyFilm, bytes]],
    *,
    label: str,
    chosen: str | None,
    on_pick: Callable[[str], None],
    key: str,
) -> None:
    """Show films to pick from, by mouse, finger or keyboard.

    Args:
        films: each film with its thumbnail, a PNG.
        label: what the strip is, for readers who do not see it.
        chosen: key of the film that is open, or None.
        on_pick: called with a film's key when it is picked, before the script runs again.
        key: identity of the strip on the page.
    """

    def picked() -> None:
        on_pick(st.session_state[key].picked)

    data = {
        "label": label,
        "chosen": chosen,
        # A tuple, not a list: Streamlit would import pandas (half a second) to see whether a list is a data frame.
        "films": tuple(
            {
                "key": film.key,
                "title": film.title,
                "about": f"Open chest radiograph: {film.title}. {film.detail}.",
                "picture": f"data:image/png;base64,{base64.b64encode(thumbnail).decode('ascii')}",
            }
            for film, thumbnail in films
        ),
    }
    _mount(key=key, data=data, on_picked_change=picked)
