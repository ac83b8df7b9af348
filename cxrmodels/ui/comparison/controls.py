"""What is compared: the question, and the films."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from cxrmodels.evaluation.board import Contender, Films, choices
from cxrmodels.evaluation.metrics import SEEN, UNSEEN
from cxrmodels.evaluation.questions import QUESTIONS, Question

_ANY = "any"
_PLACES = {UNSEEN: "all unseen sources", SEEN: "all seen sources"}


def ask(contenders: Sequence[Contender]) -> tuple[Question, Films]:
    """The question and the films that the viewer chose; both stand in the page's address."""
    there = choices(contenders)
    left, right, narrow = st.columns([5, 4, 3], vertical_alignment="bottom")
    key = left.selectbox(
        "Question",
        list(QUESTIONS),
        format_func=lambda name: QUESTIONS[name].title,
        key="question",
        bind="query-params",
        help="Models know different findings. Each answers by adding up the probabilities of those that belong "
        "together; one that lacks a finding is listed as unable, not counted as wrong.",
    )
    where = right.selectbox(
        "Films",
        [UNSEEN, SEEN, *there["source"]],
        format_func=lambda name: _PLACES.get(name, f"{name} only"),
        key="films",
        bind="query-params",
        help="Seen sources are collections a model learnt from (other patients of theirs), unseen ones hospitals that "
        "had no part in its training. The two are never pooled.",
    )
    with narrow.popover("Narrow down", width="stretch"):
        age = st.selectbox("Age group", [_ANY, *there["age_group"]], key="age", bind="query-params")
        view = st.selectbox("View", [_ANY, *there["view"]], key="view", bind="query-params")
    return QUESTIONS[key], Films(where, "" if age == _ANY else age, "" if view == _ANY else view)
