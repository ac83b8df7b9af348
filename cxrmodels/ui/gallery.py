"""A strip of pictures, each of which is a button: the ready films, and what a network makes of one.

A Streamlit component (v2, inline), because Streamlit's own pictures cannot be clicked and its buttons show none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import streamlit as st

from cxrmodels.ui.components import component
from cxrmodels.ui.pictures import address

_mount = component("gallery", '<div class="strip" role="group"></div>')


class Item(NamedTuple):
    """A picture to pick.

    Attributes:
        key: what it is picked by.
        title: the line below it.
        about: what picking it does, for readers who do not see it.
        picture: PNG.
        detail: a second, quieter line.
    """

    key: str
    title: str
    about: str
    picture: bytes
    detail: str = ""


def gallery(
    items: Iterable[Item],
    *,
    label: str,
    chosen: str | None,
    on_pick: Callable[[str], None],
    key: str,
    small: bool = False,
) -> None:
    """Show pictures to pick from, by mouse, finger or keyboard.

    Args:
        items: the pictures.
        label: what the strip is, for readers who do not see it.
        chosen: key of the picture that is open, or None.
        on_pick: called with a picture's key when it is picked, before the script runs again.
        key: identity of the strip on the page.
        small: many small pictures in rows, their pixels to be told apart, instead of one row of large ones.
    """

    def picked() -> None:
        on_pick(st.session_state[key].picked)

    data = {
        "label": label,
        "chosen": chosen,
        "small": small,
        "films": [
            {
                "key": item.key,
                "title": item.title,
                "detail": item.detail,
                "about": item.about,
                "picture": address(item.picture),
            }
            for item in items
        ],
    }
    _mount(key=key, data=data, on_picked_change=picked)
