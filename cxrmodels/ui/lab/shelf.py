"""All runs: how each one is; two or more against each other; away with those nobody needs."""

from __future__ import annotations

import streamlit as st

from cxrmodels.charts import learning
from cxrmodels.lab.config import ConfigError, cross_validation, differences
from cxrmodels.lab.crossed import Crossed, cross_validations
from cxrmodels.lab.events import EventsError
from cxrmodels.lab.process import start
from cxrmodels.lab.store import Run, RunError, State, create, runs
from cxrmodels.markdown import plain
from cxrmodels.ui.comparison.pictures import show
from cxrmodels.ui.frame import ink
from cxrmodels.ui.lab.live import age, history_of
from cxrmodels.ui.lab.words import STATES, figure_title

_SHOWN = 30


def show_shelf() -> None:
    """The list, newest first; then the comparison of those that are ticked."""
    there = runs()[::-1][:_SHOWN]
    if not there:
        st.caption("No runs yet. The first one will stand here, also after the page was closed.")
        return
    st.markdown("#### Runs")
    ticked = [run for run in there if _row(run)]
    if len(ticked) > 1:
        _against(ticked)
    elif len(there) > 1:
        st.caption("Tick two or more to compare them.")
    for number, crossed in enumerate(cross_validations(there[::-1])):
        _crossed(crossed, number)


def _row(run: Run) -> bool:
    tick, name, state, open_, more = st.columns([1, 6, 4, 2, 2], vertical_alignment="center")
    try:
        config, now = run.config(), run.state()
    except (ConfigError, EventsError, FileNotFoundError) as error:
        name.caption(f"{run.id}: {plain(str(error))}")
        return False
    words, colour, icon = STATES[now]
    chosen = tick.checkbox(f"Compare {config.name}", key=f"tick {run.id}", label_visibility="collapsed")
    name.markdown(f"**{plain(config.name)}**  \n:small[{age(run)}]")
    state.badge(words, color=colour, icon=icon)
    if open_.button("Open", key=f"open {run.id}", width="stretch"):
        st.query_params.clear()
        st.query_params["run"] = run.id
        st.rerun()
    with more.popover("More", width="stretch"):
        folds = st.number_input("Folds", 2, 10, 5, key=f"folds {run.id}")
        if st.button(
            "Cross-validate", key=f"cross {run.id}", help="So many runs queue up, each holding out other patients."
        ):
            try:
                for fold in cross_validation(config, folds):
                    start(create(fold))
            except (RunError, OSError) as error:
                st.error(plain(str(error)), icon=":material/error:")
            else:
                st.rerun()
        if now in (State.STOPPED, State.FINISHED, State.FAILED, State.INTERRUPTED):
            sure = st.checkbox("Yes, delete it with all it holds", key=f"sure {run.id}")
            if st.button("Delete", key=f"delete {run.id}", disabled=not sure):
                try:
                    run.delete()
                except (RunError, OSError) as error:
                    st.error(plain(str(error)), icon=":material/error:")
                else:
                    st.rerun()
    return bool(chosen)


def _crossed(crossed: Crossed, number: int) -> None:
    st.markdown(f"#### Cross-validation of {plain(crossed.name)}")
    figures = crossed.figures()
    ended = max((sum(value is not None for value in one.folds) for one in figures.values()), default=0)
    if not figures:
        st.caption(f"{crossed.folds} folds; none has ended yet.")
        return
    st.dataframe(
        [
            {
                "Figure": figure_title(name, crossed.classes),
                "Mean": one.mean,
                "Standard deviation": one.deviation,
                **{f"Fold {fold}": value for fold, value in enumerate(one.folds, start=1)},
            }
            for name, one in figures.items()
        ],
        hide_index=True,
        width="stretch",
        key=f"crossed {number}",
        column_config={
            name: st.column_config.NumberColumn(format="%.3f")
            for name in ("Mean", "Standard deviation", *(f"Fold {fold}" for fold in range(1, crossed.folds + 1)))
        },
    )
    st.caption(
        f"{ended} of {crossed.folds} folds have ended. Each patient is held out in one fold; the deviation is over "
        "folds (n - 1) and says how much the figure hangs on who was held out."
    )


def _against(chosen: list[Run]) -> None:
    names: dict[str, Run] = {}
    for run in chosen:
        name = run.config().name
        names[name if name not in names else f"{name} ({run.id})"] = run
    st.markdown("#### Against each other")
    found = {name: list(history_of(run).epochs.values()) for name, run in names.items()}
    columns = st.columns(2)
    for column, title, field in (
        (columns[0], "validation loss", "validation_loss"),
        (columns[1], "validation accuracy", "validation_accuracy"),
    ):
        lines = [
            (name, [float(one.epoch) for one in epochs], [float(getattr(one, field)) for one in epochs])
            for name, epochs in found.items()
        ]
        last = "; ".join(f"{name} {ys[-1]:.3f}" for name, _, ys in lines if ys)
        with column:
            show(
                learning(None, lines, [], title, ink()), f"runs {title}", alt=f"{title} of each run, at its end: {last}"
            )
    differ = differences({name: run.config() for name, run in names.items()})
    if differ:
        st.dataframe(
            [{"Setting": setting, **dict(zip(names, values, strict=True))} for setting, values in differ.items()],
            hide_index=True,
            width="stretch",
            key="run_differences",
        )
    else:
        st.caption("Their settings are the same.")
