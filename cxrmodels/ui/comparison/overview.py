"""The answer first: one sentence and one chart; then every figure in a table, and what it costs."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cxrmodels.charts import cost_chart
from cxrmodels.evaluation.board import RESAMPLES, SHARED, Board, Standing, headline, pareto
from cxrmodels.evaluation.drawings import answer_chart
from cxrmodels.evaluation.verdict import NAMES, uneven, verdict
from cxrmodels.markdown import plain
from cxrmodels.ui.comparison.pictures import show
from cxrmodels.ui.frame import ink
from cxrmodels.zoo import SPECS

_ABOUT = {
    "auc": "how often the model gives a film of the class asked for a higher score than another; 0.5 is guessing",
    "balanced_accuracy": "the share recognised of each class, averaged over the classes",
}


def show_answer(board: Board) -> None:
    """The verdict, and a chart of seen against unseen sources."""
    said, *more = verdict(board)
    st.markdown(f"#### {said}")
    if more:
        st.markdown(" ".join(more))
    for title, reason in board.unable:
        st.caption(plain(f"{title} takes no part. {reason}"))
    if not board.standings:
        return
    if (caution := uneven(board)) is not None:
        st.caption(caution)
    figure, words = answer_chart(board, ink())
    show(figure, "seen and unseen", alt=words)
    name = headline(board.question)
    st.caption(f"{NAMES[name]}: {_ABOUT[name]}. With 95 % intervals from resampling patients {RESAMPLES:,} times.")


def _row(board: Board, standing: Standing) -> dict[str, Any]:
    one, card = standing.contender, standing.contender.card
    cost = card.cost if card else {}
    drop = standing.seen.value - standing.unseen.value if standing.seen and standing.unseen else None
    classes = [name for name, _ in board.question.classes]
    row: dict[str, Any] = {"Model": one.title, "Films": standing.figures.films, "Patients": standing.figures.patients}
    for name, figure in board.estimates(standing).items():
        title = NAMES.get(name) or f"Sensitivity, {classes[int(name.rpartition('_')[2])]}"
        row[title] = figure.value if figure else None
        row[f"{title}, 95 %"] = f"{figure.low:.2f} to {figure.high:.2f}" if figure else ""
    row["Drop, seen to unseen"] = drop
    row["Learnt from"] = ", ".join(one.training_sources) or "not known"
    row["Parameters"] = card.parameters if card else None
    row["Weights, MB"] = cost["file_bytes"] / 2**20 if cost else None
    row["ms a film"] = cost.get("latency_ms")
    row["The paper's own figures"] = SPECS[one.key].paper_figures if one.key in SPECS else ""
    return row


def table_rows(board: Board) -> list[dict[str, Any]]:
    """One row a model, every figure with its interval beside it."""
    return [_row(board, standing) for standing in board.standings]


def show_leaderboard(board: Board) -> None:
    """Every figure, sortable by a click on a column's head; then the headline figure against its cost."""
    rows = table_rows(board)
    numbers = [name for name, value in rows[0].items() if isinstance(value, float)]
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        key="leaderboard",
        column_config={
            **{name: st.column_config.NumberColumn(format="%.3f") for name in numbers},
            "Weights, MB": st.column_config.NumberColumn(format="%.1f"),
            "ms a film": st.column_config.NumberColumn(format="%.1f"),
            "Parameters": st.column_config.NumberColumn(format="localized"),
            "Model": st.column_config.TextColumn(pinned=True),
        },
    )
    st.caption(
        f"On {plain(board.films.words())}. Click a column's head to sort. Two-class decisions fall at a probability of "
        "0.50 here; under Curves and threshold you move it, and the files below then hold what it comes to. The "
        "papers' own figures are theirs, on their own films and rules: they are not comparable with ours."
    )
    priced = [standing for standing in board.standings if standing.contender.card and standing.contender.card.cost]
    said = NAMES[headline(board.question) + ("" if board.even else SHARED)]
    # Where nothing ranks them there is no front either.
    found = [(one, figure) for one in priced if (figure := one.ranked)]
    if not found:
        return
    costs = [one.contender.card.cost["latency_ms"] for one, _ in found if one.contender.card]
    values = [figure.value for _, figure in found]
    front = pareto(costs, values)
    titles = [one.contender.title for one, _ in found]
    st.markdown("##### What accuracy costs")
    show(
        cost_chart(titles, costs, values, front, said, ink()),
        "cost",
        alt=f"{said} against milliseconds a film: "
        + "; ".join(f"{t} {v:.2f} at {c:.1f} ms" for t, v, c in zip(titles, values, costs, strict=True)),
    )
    machine = found[0][0].contender.card.cost["machine"] if found[0][0].contender.card else ""
    st.caption(
        f"Filled: on the front, no other model is both quicker and better ({', '.join(titles[i] for i in front)}). "
        f"Times are of one machine ({machine}), one film at a time."
    )
