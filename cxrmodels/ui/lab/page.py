"""The training lab, put together: a run when the address names one, else the way to start one."""

from __future__ import annotations

import streamlit as st

from cxrmodels.lab.process import warm_up
from cxrmodels.lab.store import RunError, find
from cxrmodels.markdown import plain
from cxrmodels.ui.lab.live import show_run
from cxrmodels.ui.lab.setup import show_schedule, show_setup
from cxrmodels.ui.lab.shelf import show_shelf


def show_lab() -> None:
    """What the address asks for."""
    asked = st.query_params.get("run")
    if asked:
        if st.button("All runs, or a new one", icon=":material/arrow_back:", key="leave_run"):
            st.query_params.clear()
            st.rerun()
        try:
            show_run(find(asked))
            return
        except RunError as error:
            st.error(plain(str(error)), icon=":material/link_off:")
    setup = show_setup()
    # Whoever is here may start a run, most likely with these settings: its first point is then seconds earlier.
    warm_up(setup and setup[0])
    st.divider()
    show_shelf()
    if setup:
        show_schedule(*setup)
