"""One batch: how far it is, its table, what to take along."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from cxrmodels.batch.films import BatchError
from cxrmodels.batch.jobs import Asked, Job, JobError, State, Status, Wish
from cxrmodels.batch.table import read_csv
from cxrmodels.batch.uploads import hold
from cxrmodels.findings import TITLES
from cxrmodels.markdown import plain
from cxrmodels.ui.batch.setup import drop_zone, let_go, title_of
from cxrmodels.ui.batch.words import ACTIVE, STATES, time_left

if TYPE_CHECKING:
    import pyarrow

_REFRESH_SECONDS, _TABLE_SECONDS = 1.0, 5.0
SHOWN = 500
"""Rows on the page; the files hold all."""

_AS_READ, _NOT_READ = "As they came", "Not read"
_ORDERS = {_AS_READ: "", "Most doubt": "doubt", "Most disagreement": "disagreement", _NOT_READ: "error"}
"""Order -> the column it goes by."""
_GONE = "batch_gone"


def leave_if_deleted() -> None:
    """Back to the list once the viewer has deleted the batch; a button's callback cannot do it."""
    if st.session_state.pop(_GONE, False):
        st.query_params.clear()
        st.rerun()


def show_job(job: Job) -> None:
    """The batch, looked at again by itself as long as films are being read."""
    if problem := st.session_state.pop("batch_problem", None):
        st.error(plain(problem), icon=":material/error:")
    active = job.status().state in ACTIVE
    st.fragment(_progress, run_every=_REFRESH_SECONDS if active else None)(job, active)
    st.fragment(_table, run_every=_TABLE_SECONDS if active else None)(job)


def _progress(job: Job, polling: bool) -> None:
    leave_if_deleted()
    try:
        asked, status = job.asked(), job.status()
    except JobError as error:
        st.warning(plain(str(error)), icon=":material/delete:")
        return
    if (status.state in ACTIVE) != polling:
        # Whether the page looks again by itself is decided when the whole script runs.
        st.rerun()
    words, colour, icon = STATES[status.state]
    left, right = st.columns([3, 2], vertical_alignment="center")
    left.subheader(plain(asked.title))
    right.badge(words, color=colour, icon=icon)
    st.caption(f"Read by {plain(', '.join(map(title_of, asked.models)))}. Begun {job.created:%d %B %Y, %H:%M} UTC.")
    _bar(status)
    if status.state is State.FAILED:
        st.error(plain(status.message), icon=":material/error:")
    elif status.state is State.INTERRUPTED:
        st.warning(
            "Its worker is gone: killed, out of memory, or the machine was switched off. No row that was written is "
            "lost.",
            icon=":material/power_off:",
        )
    _controls(job, asked, status)


def _bar(status: Status) -> None:
    progress = status.progress
    if not progress.total:
        st.progress(0.0, "Opening the networks" if status.state is State.RUNNING else "Waiting for its turn")
        return
    said = f"{progress.done:,} of {progress.total:,} films"
    if status.state is State.RUNNING and status.rate:
        said += f", {status.rate:.1f} a second; about {time_left((progress.total - progress.done) / status.rate)} left"
    elif status.state is State.RUNNING:
        said += "; opening the networks"
    if progress.failed:
        said += f"; {progress.failed:,} could not be read"
    st.progress(min(1.0, progress.done / progress.total), said)


def _stop(job: Job) -> None:
    job.want(Wish.STOP)


def _go_on(job: Job) -> None:
    try:
        job.start()
    except JobError as error:
        st.session_state["batch_problem"] = str(error)


def _delete(job: Job) -> None:
    try:
        job.delete()
    except (JobError, OSError) as error:
        st.session_state["batch_problem"] = str(error)
    else:
        st.session_state[_GONE] = True


def _controls(job: Job, asked: Asked, status: Status) -> None:
    with st.container(horizontal=True):
        if status.state in ACTIVE:
            st.button("Stop", icon=":material/pause:", key="stop_batch", on_click=_stop, args=(job,))
        elif status.state is not State.FINISHED and (asked.folder or job.alive()):
            st.button(
                "Go on", type="primary", icon=":material/play_arrow:", key="go_on_batch", on_click=_go_on, args=(job,)
            )
        with st.popover("Delete", icon=":material/delete:"):
            st.markdown("The table goes, and the films that were dropped.")
            st.button("Delete it now", key="delete_batch", on_click=_delete, args=(job,))
    if status.state not in (*ACTIVE, State.FINISHED) and not asked.folder and not job.alive():
        _ask_again(job)


def _ask_again(job: Job) -> None:
    """Films that were dropped are gone with their worker; what was read of them is not."""
    st.markdown(
        "The films were held in memory only and are gone. Drop the same ones to go on; those in the table are not read "
        "again."
    )
    folder = st.toggle("They are in a folder", key="batch_again_folder")
    dropped = drop_zone(folder=folder, key=f"batch_again {folder}")
    if dropped and st.button("Go on", type="primary", icon=":material/play_arrow:", key="go_on_batch"):
        try:
            with hold(dropped) as uploads:
                uploads.films()
                job.start(uploads)
        except (BatchError, JobError) as error:
            st.error(plain(str(error)), icon=":material/error:")
            return
        let_go(dropped)
        st.rerun()


# ------------------------------------------------------------------------------------------------------- its table
@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def rows_so_far(job_id: str, length: int, _job: Job) -> pyarrow.Table:
    """A batch's rows, up to so many bytes of its table."""
    return read_csv(_job.table, length)


def _table(job: Job) -> None:
    length = job.status().progress.length
    if not length or not (table := rows_so_far(job.id, length, job)).num_rows:
        return
    filled = {name for name in table.schema.names if ":" in name or not _is_empty(table[name])}
    orders = [one for one, column in _ORDERS.items() if not column or column in filled]
    order = st.segmented_control("Order", orders, default=_AS_READ, required=True, key="batch_order")
    shown = _ordered(table, _ORDERS[order])
    st.dataframe(
        _readable(shown.slice(0, SHOWN)),
        hide_index=True,
        width="stretch",
        height=min(460, 38 + 35 * max(1, min(SHOWN, shown.num_rows))),
        key=f"batch rows {order}",
        column_order=_columns(table.schema.names, filled, order == _NOT_READ),
        column_config=_heads(table.schema.names),
    )
    counted = f"{shown.num_rows:,} rows" if shown.num_rows <= SHOWN else f"The first {SHOWN} of {shown.num_rows:,} rows"
    st.caption(
        f"{counted}. Doubt: 0 where every model is certain, 1 where none favours any finding. Disagreement: the "
        "greatest difference between two models' probability of COVID-19. Click a column's head to sort what is shown."
    )
    _take_along(job, length)


def _is_empty(column: pyarrow.ChunkedArray) -> bool:
    return all(value in ("", None) for value in column.unique().to_pylist())


def _ordered(table: pyarrow.Table, column: str) -> pyarrow.Table:
    """All rows, the greatest values of a column first; or those that hold an error."""
    import pyarrow.compute as arrow

    if column == "error":
        return table.filter(arrow.not_equal(table["error"], ""))
    return table.take(arrow.sort_indices(table, sort_keys=[(column, "descending")])) if column else table


def _readable(table: pyarrow.Table) -> pyarrow.Table:
    """The same with findings as they are called, not by their keys."""
    import pyarrow

    for place, name in enumerate(table.schema.names):
        if name == "label" or name.endswith(":decision"):
            called = [TITLES.get(value, value) for value in table[name].to_pylist()]
            table = table.set_column(place, name, pyarrow.array(called, pyarrow.string()))
    return table


def _heads(names: list[str]) -> dict[str, Any]:
    """Columns with their names for readers."""
    heads: dict[str, Any] = {}
    for name in names:
        key, _, what = name.rpartition(":")
        if not key:
            heads[name] = name.capitalize()
            if name in ("doubt", "disagreement"):
                heads[name] = st.column_config.NumberColumn(heads[name], format="%.2f")
        elif what == "decision":
            heads[name] = f"{title_of(key)}: says"
        else:
            heads[name] = st.column_config.NumberColumn(f"{title_of(key)}: {TITLES.get(what, what)}", format="percent")
    return heads


def _columns(names: list[str], filled: set[str], errors: bool) -> list[str]:
    """Names of the columns, those first that somebody looks for first; empty ones left out."""
    says = [name for name in names if name.endswith(":decision")]
    first = ["file", *(["error"] if errors else []), "label", "doubt", "disagreement", *says]
    rest = [name for name in names if name not in (*first, "models")]
    return [name for name in [*first, *rest] if name in filled]


def as_csv(job: Job, length: int) -> bytes:
    """The rows so far, as they were written."""
    with job.table.open("rb") as stream:
        return stream.read(length)


def as_parquet(job: Job, length: int) -> bytes:
    """The rows so far, with a type for each column."""
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(read_csv(job.table, length), sink)
    return sink.getvalue()


def _take_along(job: Job, length: int) -> None:
    name = f"films-{job.id[:15]}"
    kinds = (
        ("Table (CSV)", "csv", "text/csv", as_csv),
        ("Table (Parquet)", "parquet", "application/vnd.apache.parquet", as_parquet),
    )
    with st.container(horizontal=True):
        for label, ending, mime, make in kinds:
            # Made when it is asked for: the rows of a large batch are megabytes.
            st.download_button(
                label,
                partial(make, job, length),
                f"{name}.{ending}",
                mime,
                key=f"batch_{ending}",
                on_click="ignore",
            )
