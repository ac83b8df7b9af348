"""Where a model fails: groups of films, and whether its answers give the source away."""

from __future__ import annotations

import streamlit as st

from cxrmodels.charts import groups
from cxrmodels.evaluation.board import Board, recalled, source_checks
from cxrmodels.evaluation.failures import Subgroup, subgroups
from cxrmodels.evaluation.metrics import Estimate
from cxrmodels.evaluation.verdict import interval
from cxrmodels.markdown import plain
from cxrmodels.ui.comparison.pictures import show
from cxrmodels.ui.frame import ink

_KINDS = {
    "source": "Source",
    "age group": "Age group",
    "view": "View",
    "exposure": "Exposure (mean grey of the film)",
    "size": "Size of the film as it came",
}


def show_weaknesses(board: Board) -> None:
    """One model of the viewer's choice."""
    places = {standing.contender.key: place for place, standing in enumerate(board.standings)}
    key = st.selectbox(
        "Model", list(places), format_func=lambda key: board.standings[places[key]].contender.title, key="weak_model"
    )
    standing = board.standings[places[key]]
    one = standing.contender
    level = standing.threshold
    found = recalled(standing, board, ("subgroups", level), lambda answers: subgroups(answers, level))
    overall = standing.figures.estimates["accuracy"]
    assert overall is not None, "there are films"
    for kind, title in _KINDS.items():
        rows = [group for group in found if group.kind == kind]
        if len(rows) > 1:
            st.markdown(f"##### {title}")
            _kind(rows, kind, overall)
    st.caption(
        f"Share of {plain(board.films.words())} that {plain(one.title)} calls right, with 95 % intervals; the dotted "
        "line is all of them. Worst: the lowest of the groups with 20 films or more, if it lies below the rest by more "
        "than its own interval; groups are set against the rest class by class."
    )
    st.markdown("##### Does it give the source away?")
    with st.spinner("Looking for what gives the source away"):
        checks = source_checks(one)
    if not checks:
        st.caption("No finding has enough films of two sources to tell.")
    for check in checks:
        st.markdown(plain(check.sentence))
    if checks:
        st.caption(
            "A classifier is fitted, on other patients, to tell from the model's outputs alone which source a film "
            "comes from, among films of one finding. Age, severity and exposure differ between sources too: a sign "
            "of a shortcut, not a proof. Over all held-out films, seen and unseen."
        )


def _kind(rows: list[Subgroup], kind: str, overall: Estimate) -> None:
    names = [f"{group.name or 'not stated'} ({group.films})" for group in rows]
    show(
        groups(
            names,
            [(group.accuracy.value, group.accuracy.low, group.accuracy.high) for group in rows],
            [group.worst for group in rows],
            overall.value,
            "accuracy",
            ink(),
        ),
        f"by {kind}",
        alt=f"Accuracy by {kind}: "
        + "; ".join(
            f"{name} {interval(group.accuracy)}{', the worst' if group.worst else ''}"
            for name, group in zip(names, rows, strict=True)
        ),
    )
    if any(group.sensitivity or group.specificity for group in rows):
        with st.expander("Sensitivity and specificity"):
            st.dataframe(
                [
                    {
                        "Group": group.name or "not stated",
                        "Films": group.films,
                        "Patients": group.patients,
                        "Accuracy": interval(group.accuracy),
                        "Sensitivity": interval(group.sensitivity),
                        "Specificity": interval(group.specificity),
                    }
                    for group in rows
                ],
                hide_index=True,
                width="stretch",
                key=f"groups {kind}",
            )
