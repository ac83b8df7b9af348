"""A confusion matrix whose cells can be picked: a Streamlit component (v2, inline), since plotly's heat maps cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from cxrmodels.ui.components import component

_mount = component("matrix", "<table></table>")


def matrix(
    counts: Sequence[Sequence[int]],
    classes: Sequence[str],
    *,
    model: str,
    caption: str,
    chosen: tuple[int, int] | None,
    on_pick: Callable[[int, int], None],
    key: str,
) -> None:
    """Show a matrix to pick cells from, by mouse, finger or keyboard.

    Args:
        counts: films, rows true and columns called.
        classes: their names.
        model: whose answers they are.
        caption: said under it.
        chosen: row and column of the cell that is open.
        on_pick: called with row and column when a cell is picked, before the script runs again.
        key: identity on the page.
    """

    def picked() -> None:
        row, column = st.session_state[key].picked
        on_pick(int(row), int(column))

    data = {
        # Tuples, not lists: Streamlit would import pandas to see whether a list is a data frame.
        "counts": tuple(tuple(int(count) for count in row) for row in counts),
        "classes": tuple(classes),
        "model": model,
        "caption": caption,
        "chosen": chosen,
    }
    _mount(key=key, data=data, on_picked_change=picked)
