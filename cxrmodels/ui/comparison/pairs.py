"""Model against model: who is right when they differ, and whether the difference is more than chance."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cxrmodels.charts import agreement
from cxrmodels.evaluation.board import RESAMPLES, SEED, Board
from cxrmodels.evaluation.metrics import SEEN, UNSEEN
from cxrmodels.evaluation.paired import Pair, compare, compare_all, sentence
from cxrmodels.evaluation.verdict import p_words
from cxrmodels.markdown import plain
from cxrmodels.ui.comparison.films import show_films
from cxrmodels.ui.comparison.pictures import show
from cxrmodels.ui.frame import ink


@st.cache_data(max_entries=64, show_spinner=False)
def _all_pairs(identity: tuple[object, ...], level: float, _board: Board) -> list[Pair]:
    answers = {standing.contender.key: standing.answers for standing in _board.standings}
    return compare_all(answers, level, RESAMPLES, SEED)


def _identity(board: Board) -> tuple[object, ...]:
    return (board.question.key, board.films, *(one.contender.sha256 for one in board.standings))


def show_pairs(board: Board, level: float) -> None:
    """Two models of the viewer's choice in detail, then all pairs.

    Args:
        level: threshold of both, for two-class questions.
    """
    if len(board.standings) < 2:
        st.info("Fewer than two models can answer this question here.", icon=":material/compare_arrows:")
        return
    if len({standing.contender.training_sources for standing in board.standings}) > 1 and board.films.where in (
        SEEN,
        UNSEEN,
    ):
        st.caption(
            "These models learnt from different sources, so what is unseen differs between them; they are compared on "
            "the films that are so for all."
        )
    titles = {one.contender.key: one.contender.title for one in board.standings}
    left, right = st.columns(2)
    a = left.selectbox("Model", list(titles), format_func=titles.__getitem__, key="pair_a")
    others = [key for key in titles if key != a]
    b = right.selectbox("against", others, format_func=titles.__getitem__, key="pair_b")
    answers = {standing.contender.key: standing.answers for standing in board.standings}
    try:
        pair = compare(answers[a], answers[b], level, RESAMPLES, SEED, names=(titles[a], titles[b]))
    except ValueError as error:
        st.info(plain(str(error)), icon=":material/compare_arrows:")
        return
    try:
        pairs = _all_pairs(_identity(board), level, board)
    except ValueError:
        # Two may share films where all of them together share none, for instance with films a viewer brought.
        pairs = []
    adjusted = next((one.p_adjusted for one in pairs if {one.a, one.b} == {a, b}), None)
    st.markdown(f"#### {plain(sentence(pair, titles[a], titles[b], board.films.words()))}")
    _two_by_two(pair, titles[a], titles[b], adjusted, len(pairs))
    st.markdown(f"##### The {len(pair.deciding)} films that decide it")
    st.caption("Exactly one of the two is right on these; first those they are furthest apart on.")
    show_films(board, pair.deciding, "deciding")
    if pairs:
        _matrix(pairs, titles)
    else:
        st.caption("There is no film that all these models can answer: only pairs can be compared.")


def _two_by_two(pair: Pair, a: str, b: str, adjusted: float | None, pairs: int) -> None:
    rows = [
        {"": f"{a} right", f"{b} right": pair.both_right, f"{b} wrong": pair.only_a},
        {"": f"{a} wrong", f"{b} right": pair.only_b, f"{b} wrong": pair.both_wrong},
    ]
    st.dataframe(rows, hide_index=True, width="content", key="two_by_two")
    alone = pair.only_a + pair.only_b
    text = f"McNemar's exact test on {alone} films that one of them alone has right: p {p_words(pair.p_mcnemar)}"
    if adjusted is not None and pairs > 1:
        text += f", p {p_words(adjusted)} after Holm's correction for {pairs} pairs"
    if pair.auc is not None:
        text += (
            f". AUC {pair.auc.auc_a:.3f} against {pair.auc.auc_b:.3f}: difference {pair.auc.difference:.3f} "
            f"({pair.auc.low:.3f} to {pair.auc.high:.3f}), DeLong p {p_words(pair.auc.p)}"
        )
    st.caption(f"{text}. {pair.films} films of {pair.patients} patients.")


def _matrix(pairs: list[Pair], titles: dict[str, str]) -> None:
    st.markdown("##### How often they say the same")
    keys = list(titles)
    shares = np.eye(len(keys))
    for pair in pairs:
        i, j = keys.index(pair.a), keys.index(pair.b)
        shares[i, j] = shares[j, i] = pair.agreement
    show(
        agreement(list(titles.values()), shares, ink()),
        "agreement",
        alt="Share of films called the same. "
        + "; ".join(f"{titles[pair.a]} and {titles[pair.b]} {pair.agreement:.0%}" for pair in pairs),
    )
    with st.expander(f"All {len(pairs)} pairs"):
        st.dataframe(
            [
                {
                    "Model": titles[pair.a],
                    "Against": titles[pair.b],
                    "Difference in accuracy": pair.difference.value,
                    "95 %": f"{pair.difference.low:.3f} to {pair.difference.high:.3f}",
                    "McNemar p": pair.p_mcnemar,
                    "After Holm": pair.p_adjusted,
                    "Kappa": pair.kappa,
                    "Films to settle it": pair.films_to_settle,
                }
                for pair in pairs
            ],
            hide_index=True,
            width="stretch",
            key="all_pairs",
            column_config={
                name: st.column_config.NumberColumn(format="%.3f")
                for name in ("Difference in accuracy", "McNemar p", "After Holm", "Kappa")
            },
        )
