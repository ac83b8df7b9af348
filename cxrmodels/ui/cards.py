"""Model cards as a reader sees them, from `card.json`: each has its own address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from cxrmodels.evaluation.metrics import SEEN, UNSEEN
from cxrmodels.explain.changes import CHANGES
from cxrmodels.findings import TITLES
from cxrmodels.markdown import plain
from cxrmodels.plots import Interval, lungs_hidden, seen_unseen
from cxrmodels.ui.frame import ink
from cxrmodels.zoo import OWN, ModelCard, ModelError, read_card

_METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc_covid19_normal": "AUC, COVID-19 against normal",
    "sensitivity_covid19": "Sensitivity, COVID-19",
    "specificity_covid19": "Specificity, COVID-19",
    "precision_covid19": "Precision, COVID-19",
    "f1_covid19": "F1, COVID-19",
    "average_precision_covid19": "Average precision, COVID-19",
    "ece": "Calibration error",
    "brier": "Brier score",
}
_POINTS = {
    "balanced": "greatest sum of both",
    "sensitivity_95": "sensitivity at least 95 %",
    "specificity_95": "specificity at least 95 %",
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
    """One chart of how the models fare on seen and unseen sources, then the card of the one that is chosen."""
    cards: dict[str, ModelCard] = {}
    for key in keys:
        try:
            cards[key] = read_card(key)
        except ModelError as error:
            st.error(plain(str(error)), icon=":material/error:")
    if not cards:
        return
    rows = [(card.title, _auc(card, SEEN), _auc(card, UNSEEN)) for card in cards.values()]
    st.plotly_chart(
        seen_unseen([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], ink()),
        config={"displayModeBar": False},
        key="seen_unseen",
        alt="AUC of COVID-19 against normal films. "
        + "; ".join(f"{title}: seen sources {_said(seen)}, unseen {_said(unseen)}" for title, seen, unseen in rows),
    )
    if more := _taught_more(list(cards.values())):
        st.caption(" ".join(more))
    _show_hidden(list(cards.values()))
    chosen = st.pills(
        "Card of",
        list(cards),
        format_func=lambda key: cards[key].title,
        default=next(iter(cards)),
        required=True,
        key="model",
        bind="query-params",
    )
    _show(cards[chosen])


_HIDDEN = "no_lungs"
_UNMEASURED = "Not measured yet: `python -m cxrmodels shortcuts --write` does it."


def _interval(figure: dict[str, float]) -> Interval:
    return figure["value"], figure["low"], figure["high"]


def _share(figure: dict[str, float]) -> str:
    return f"{100 * figure['value']:.0f} % ({100 * figure['low']:.0f} to {100 * figure['high']:.0f} %)"


def _show_hidden(cards: Sequence[ModelCard]) -> None:
    """One chart of what the models still know with the lungs painted black."""
    found = [(card, one) for card in cards for one in card.shortcuts if one["change"] == _HIDDEN]
    if not found:
        return
    st.markdown("##### What they still know with the lungs painted black")
    st.plotly_chart(
        lungs_hidden(
            [card.title for card, _ in found],
            [_interval(one["before"]) for _, one in found],
            [_interval(one["after"]) for _, one in found],
            [one["chance"] for _, one in found],
            ink(),
        ),
        config={"displayModeBar": False},
        key="lungs_hidden",
        alt="Share of what each network knows beyond guessing that survives with the lungs painted black: "
        + "; ".join(f"{card.title} {_share(one['survives'])}" for card, one in found),
    )
    worst, of_worst = max(found, key=lambda pair: float(pair[1]["survives"]["value"]))
    st.caption(
        "Without lungs nothing should be left but guessing. What is left was read off the rest of the film, or off the "
        f"shape of the hole. Most is left to {plain(worst.title)}: {_share(of_worst['survives'])} of what it knows "
        "beyond guessing. On test films of seen sources, as many of each finding, drawn by patient."
    )


def _survival_rows(card: ModelCard) -> list[dict[str, Any]]:
    return [
        {
            "The film": CHANGES[one["change"]].title if one["change"] in CHANGES else one["change"],
            "Films": one["films"],
            "Accuracy before": _cell(one["before"]),
            "after": _cell(one["after"]),
            "Guessing": f"{one['chance']:.2f}",
            "Survives": _share(one["survives"]),
        }
        for one in card.shortcuts
    ]


def _taught_more(cards: Sequence[ModelCard]) -> list[str]:
    """A sentence for each model that learnt from sources that others have not seen: its unseen ones are fewer."""
    common = set.intersection(*(set(card.training_sources) for card in cards))
    return [
        f"{plain(card.title)} learnt from {' and '.join(more)} too: what is unseen to it are other, fewer films than "
        "to the rest, and its figure on them does not compare with theirs."
        for card in cards
        if (more := sorted(set(card.training_sources) - common))
    ]


def _show(card: ModelCard) -> None:
    with st.container(border=True):
        st.subheader(card.title)
        st.markdown(
            f"Answers: {', '.join(TITLES[finding] for finding in card.findings)}. {card.parameters:,} parameters, "
            f"films of {card.input_size} x {card.input_size} px.\n\n"
            f"AUC of COVID-19 against normal: {_said(_auc(card, SEEN))} on seen sources, "
            f"**{_said(_auc(card, UNSEEN))} on unseen ones**."
        )
        left, right = st.columns(2, gap="large")
        left.markdown(f"{_origin(card)}\n\n{_training(card)}")
        right.markdown(_decisions(card))
        right.dataframe(_points(card), hide_index=True, width="stretch", key=f"points {card.key}")
        right.markdown(_cost(card))
        _show_aims(card)
        st.markdown("##### Every source and age group apart")
        st.dataframe(
            [_row(summary) for summary in card.metrics], hide_index=True, width="stretch", key=f"table {card.key}"
        )
        if card.left_out:
            st.markdown("##### Trained again without one of its sources")
            st.caption(
                "The same recipe with one source left out, on every hospital that network had not seen: what to expect "
                "of this way of training where nobody has measured it."
            )
            st.dataframe(
                [_row(summary) for summary in card.left_out],
                hide_index=True,
                width="stretch",
                key=f"left out {card.key}",
            )
        st.markdown("##### What survives changes beside the disease")
        if card.shortcuts:
            st.dataframe(_survival_rows(card), hide_index=True, width="stretch", key=f"shortcuts {card.key}")
            st.caption(
                "Balanced accuracy on a sample of its test films, drawn by patient, before and after each change of "
                "the shortcut lab, with 95 % intervals over patients. Survives: the part of what it knows beyond "
                "guessing that is left. Of hidden lungs and of the border alone nothing should be; of the rest all."
            )
        else:
            st.caption(_UNMEASURED)
        st.markdown(
            f"**Meant for**: {card.intended_use}\n\n**Limits**: {card.limits}\n\n**Licence**: {card.licence}\n\n"
            f"Weights sha256 `{card.weights_sha256}`, data sha256 `{card.data_sha256[:16]}`."
        )


def _show_aims(card: ModelCard) -> None:
    """What it was to reach, and what was tried where it does not."""
    if not card.aims:
        return
    # A list and no table: on a phone a table would show what was asked for and hide what came.
    st.markdown("##### What it was to reach\n" + "\n".join(f"- {_outcome(aim)}" for aim in card.aims))


def _outcome(aim: dict[str, Any]) -> str:
    sentence = f"{plain(aim['what'])}: {_cell(aim)}, asked for {aim['least']:.2f}"
    if aim["reached"]:
        return f":green[:material/check:] {sentence}."
    return f":orange[:material/close:] {sentence}: **not reached**. {plain(aim['tried'])}"


def _origin(card: ModelCard) -> str:
    if card.paper == OWN:
        return f"##### Where it comes from\n{card.departures}"
    return (
        f"##### Where it comes from\n**Follows** {card.paper}. It reports: {card.paper_figures}. These figures are the "
        f"paper's own, on its own films.\n\n**Departs from it**: {card.departures}"
    )


def _training(card: ModelCard) -> str:
    films = ", ".join(f"{count:,} {TITLES[name]}" for name, count in card.training_films.items())
    stages = ", then ".join(f"{stage['epochs']} epochs at {stage['size']} px" for stage in card.recipe["stages"])
    versions = ", ".join(f"{name} {number}" for name, number in card.versions.items())
    return (
        f"##### What it learnt from\nFilms of {', '.join(card.training_sources)}: {films}. {stages}; "
        f"{card.recipe['optimizer']}, batches of {card.recipe['batch_size']}, seed {card.seed}. "
        f"{card.wall_time_s / 60:.0f} minutes on {card.device} with {versions}."
    )


def _decisions(card: ModelCard) -> str:
    before, after = card.calibration["before"], card.calibration["after"]
    return (
        f"##### How it decides\nLogits are divided by {card.temperature:.2f}, fitted on validation films. On test "
        f"films of seen sources the calibration error is then {after['ece']:.3f} ({before['ece']:.3f} before) and the "
        f"Brier score {after['brier']:.3f} ({before['brier']:.3f} before). "
        f'Below {100 * card.decision_threshold:.0f} % it says "not sure".'
    )


def _points(card: ModelCard) -> list[dict[str, Any]]:
    """Thresholds worth choosing."""
    return [
        {
            "COVID-19, validation films": _POINTS.get(name, name),
            "Threshold": f"{point['threshold']:.2f}",
            "Sensitivity": f"{point['sensitivity']:.2f}",
            "Specificity": f"{point['specificity']:.2f}",
        }
        for name, point in card.operating_points.items()
    ]


def _cost(card: ModelCard) -> str:
    if not card.cost:
        return "##### What it costs\nNot measured yet: `python -m cxrmodels benchmark --write` does it."
    cost = card.cost
    return (
        f"##### What it costs\n{cost['file_bytes'] / 2**20:.1f} MB of weights, {cost['flops'] / 1e9:.2f} GFLOP a film. "
        f"{cost['latency_ms']:.1f} ms for one film, {cost['films_per_s']:.0f} films a second in batches of 32, loaded "
        f"in {cost['load_s']:.1f} s ({cost['machine']})."
    )
