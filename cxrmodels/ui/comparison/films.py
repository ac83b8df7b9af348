"""A list of films with what every model says of them; where the films are on this machine, their pictures too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from cxrmodels.datasets.ready import listed_as
from cxrmodels.evaluation.board import Board
from cxrmodels.findings import TITLES
from cxrmodels.ui.films import ready_folder, show_strip

_LISTED, _PICTURED = 200, 12


def probabilities(board: Board, image_ids: Sequence[str]) -> dict[str, list[float | None]]:
    """Model title -> its probability of each film's own class; None where it was not asked about the film."""
    found: dict[str, list[float | None]] = {}
    for standing in board.standings:
        answers = standing.answers
        where = {name: position for position, name in enumerate(answers.films.image_ids.tolist())}
        found[standing.contender.title] = [
            None if (place := where.get(name)) is None else float(answers.probabilities[place, answers.y_true[place]])
            for name in image_ids
        ]
    return found


def show_films(board: Board, image_ids: Sequence[str], key: str) -> None:
    """The films in the order given: what each is, and how probable each model finds that."""
    shown = list(image_ids[:_LISTED])
    if not shown:
        st.caption("No films here.")
        return
    facts: dict[str, dict[str, Any]] = {}
    for standing in board.standings:
        films = standing.answers.films
        for place in np.flatnonzero(np.isin(films.image_ids, shown)):
            facts.setdefault(
                str(films.image_ids[place]),
                {
                    "Film": str(films.image_ids[place]),
                    "Its data set calls it": TITLES.get(str(films.labels[place]), str(films.labels[place])),
                    "Source": str(films.sources[place]),
                    "Age group": str(films.age_groups[place]),
                    "View": str(films.views[place]),
                },
            )
    said = probabilities(board, shown)
    rows = [
        facts[name] | {f"{title} gives that": values[number] for title, values in said.items()}
        for number, name in enumerate(shown)
    ]
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        height=min(320, 38 + 35 * len(rows)),
        key=f"films {key}",
        column_config={
            f"{title} gives that": st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent")
            for title in said
        },
    )
    more = f" The first {_LISTED} of {len(image_ids)}." if len(image_ids) > _LISTED else ""
    st.caption(f"Percentages: how probable each model finds what the data set calls the film.{more}")
    folder = ready_folder()
    there = [film for name in shown[:_PICTURED] if (film := listed_as(folder, name))]
    if there:
        st.caption("Pick a film to open it with the answers and heat maps of all models:")
        show_strip(there, label="Films of this list", key=f"strip {key}", then="pages/read_a_film.py")
    else:
        st.caption("The films themselves are not on this machine; with a data folder their pictures would stand here.")
