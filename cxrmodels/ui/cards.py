"""A model's card as a reader sees it, from `card.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from cxrmodels.evaluation.metrics import SEEN, UNSEEN
from cxrmodels.findings import TITLES
from cxrmodels.plots import Interval, seen_unseen
from cxrmodels.ui.frame import ink
from cxrmodels.zoo import ModelCard, ModelError, read_card

_METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc_covid19_normal": "AUC, COVID-19 against normal",
    "sensitivity_covid19": "Sensitivity, COVID-19",
    "specificity_covid19": "Specificity, COVID-19",
    "ece": "Calibration error",
}


def _cell(figure: dict[str, float] | None) -> str:
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})" if figure else "one class only"


def _row(summary: dict[str, Any]) -> dict[str, Any]:
    figures = dict(summary["metrics"])
    if sum(any(row) for row in summary["confusion"]) < 2:
        figures["balanced_accuracy"] = None  # Of one class it would be that class' recall under another name.
    return {
        "Films": summary["name"],
        "Source": "seen" if summary["seen"] else "unseen",
        "Number": summary["films"],
        **{title: _cell(figures[name]) for name, title in _METRICS.items()},
    }


def _auc(card: ModelCard, name: str) -> Interval | None:
    for summary in card.metrics:
        figure = summary["metrics"]["auc_covid19_normal"]
        if summary["name"] == name and figure:
            return figure["value"], figure["low"], figure["high"]
    return None


def _said(figure: Interval | None) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*figure) if figure else "not known"


def show_cards(keys: Sequence[str]) -> None:
    """One chart of how the models fare on seen and unseen sources, then a card for each."""
    cards = []
    for key in keys:
        try:
            cards.append(read_card(key))
        except ModelError as error:
            st.error(str(error), icon=":material/error:")
    rows = [
        (card.title, seen, unseen) for card in cards if (seen := _auc(card, SEEN)) and (unseen := _auc(card, UNSEEN))
    ]
    if rows:
        st.plotly_chart(
            seen_unseen([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], ink()),
            config={"displayModeBar": False},
            key="seen_unseen",
            alt="AUC of COVID-19 against normal films. "
            + "; ".join(f"{title}: seen sources {_said(seen)}, unseen {_said(unseen)}" for title, seen, unseen in rows),
        )
    for card in cards:
        _show(card)


def _show(card: ModelCard) -> None:
    with st.container(border=True):
        st.subheader(card.title)
        st.markdown(
            f"Answers: {', '.join(TITLES[finding] for finding in card.findings)}. {card.parameters:,} parameters, "
            f"films of {card.input_size} x {card.input_size} px.\n\n"
            f"AUC of COVID-19 against normal: {_said(_auc(card, SEEN))} on seen sources, "
            f"**{_said(_auc(card, UNSEEN))} on unseen ones**."
        )
        with st.expander("Every source apart"):
            st.dataframe(
                [_row(summary) for summary in card.metrics], hide_index=True, width="stretch", key=f"table {card.key}"
            )
        with st.expander("Paper, training, limits"):
            films = ", ".join(f"{count:,} {TITLES[name]}" for name, count in card.training_films.items())
            st.markdown(
                f"**Follows** {card.paper}. It reports: {card.paper_figures}.\n\n"
                f"**Departs from it**: {card.departures}\n\n"
                f"**Learnt from** {', '.join(card.training_sources)}: {films}. Seed {card.seed}, "
                f"{card.wall_time_s / 60:.0f} minutes on {card.device}.\n\n"
                f"**Calibration**: temperature {card.temperature:.2f}; not sure below "
                f"{100 * card.decision_threshold:.0f} %.\n\n"
                f"**Meant for**: {card.intended_use}\n\n**Limits**: {card.limits}\n\n**Licence**: {card.licence}\n\n"
                f"Weights sha256 `{card.weights_sha256}`, data sha256 `{card.data_sha256[:16]}`."
            )
