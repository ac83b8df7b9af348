"""The page of many films, put together: a batch when the address names one, else the way to begin one."""

from __future__ import annotations

import streamlit as st

from cxrmodels.batch.jobs import Job, JobError, find, jobs
from cxrmodels.markdown import plain
from cxrmodels.ui.batch.live import leave_if_deleted, show_job
from cxrmodels.ui.batch.places import is_own_machine
from cxrmodels.ui.batch.setup import MINE, show_setup
from cxrmodels.ui.batch.words import ACTIVE, STATES

_LISTED = 20


def show_batch() -> None:
    """What the address asks for."""
    leave_if_deleted()
    asked = st.query_params.get("batch")
    if asked:
        if st.button("All batches, or a new one", icon=":material/arrow_back:", key="leave_batch"):
            st.query_params.clear()
            st.rerun()
        try:
            job = find(asked)
        except JobError as error:
            st.error(plain(str(error)), icon=":material/link_off:")
        else:
            show_job(job)
            if job.status().state not in ACTIVE:
                # Imported here: charts and measures take a while, and most batches have no labels.
                from cxrmodels.ui.batch.figures import show_figures

                show_figures(job)
            return
    show_setup()
    if there := _mine():
        st.divider()
        st.markdown("#### Batches")
        for job in there:
            _row(job)


def _mine() -> list[Job]:
    """The viewer's own, newest first; who sits at the machine sees all. File names may tell who was examined, so that
    others are shown none, unless they were given the address."""
    own = set(st.session_state.get(MINE, ()))
    return [job for job in jobs()[::-1] if job.id in own or is_own_machine()][:_LISTED]


def _row(job: Job) -> None:
    try:
        asked, status = job.asked(), job.status()
    except JobError:
        return
    name, state, open_ = st.columns([5, 3, 2], vertical_alignment="center")
    done = f"{status.progress.done:,} of {status.progress.total:,} films read"
    name.markdown(f"**{plain(asked.title)}**  \n:small[{job.created:%d %B %Y, %H:%M} UTC; {done}]")
    words, colour, icon = STATES[status.state]
    state.badge(words, color=colour, icon=icon)
    if open_.button("Open", key=f"open {job.id}", width="stretch"):
        st.query_params["batch"] = job.id
        st.rerun()
