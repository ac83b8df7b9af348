"""A model's card as a reader sees it, from `card.json`."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cxrmodels.findings import TITLES
from cxrmodels.zoo import ModelCard, ModelError, read_card

_METRICS = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "auc_covid19_normal": "AUC, COVID-19 against normal",
    "sensitivity_covid19": "Sensitivity, COVID-19",
    "specificity_covid19": "Specificity, COVID-19",
    "ece": "Calibration error",
}


def _cell(figure: dict[str, float] | None) -> str:
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})" if figure else "no such films"


def _table(card: ModelCard) -> list[dict[str, Any]]:
    """One row a set of films, seen and unseen never pooled."""
    return [
        {
            "Films": summary["name"],
            "Source": "seen" if summary["seen"] else "unseen",
            "Number": summary["films"],
            **{title: _cell(summary["metrics"][name]) for name, title in _METRICS.items()},
        }
        for summary in card.metrics
    ]


def show_card(key: str) -> None:
    """What a model is, what it learnt from, how good it is and where it fails."""
    try:
        card = read_card(key)
    except ModelError as error:
        st.error(str(error), icon=":material/error:")
        return
    with st.container(border=True):
        st.subheader(card.title)
        st.markdown(
            f"Answers: {', '.join(TITLES[finding] for finding in card.findings)}. {card.parameters:,} parameters, "
            f"films of {card.input_size} x {card.input_size} px."
        )
        st.dataframe(_table(card), hide_index=True, width="stretch", key=f"table {key}")
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
