"""What stands on every page: the notice to accept once, and what all viewers of a server share."""

from __future__ import annotations

import streamlit as st

from cxrmodels import NOTICE
from cxrmodels.service import Service
from cxrmodels.zoo import shipped

_ACCEPTED = "notice_accepted"


@st.cache_resource(show_spinner=False)
def service() -> Service:
    """The models, one copy for everybody. The first call starts loading them in the background."""
    shared = Service()
    shared.warm_up(shipped())
    return shared


@st.dialog("Before you start", dismissible=False)
def _notice() -> None:
    st.markdown(
        f"**{NOTICE}**\n\n"
        "The networks here are re-implementations of published systems. They are wrong often, and most of all on "
        "films of hospitals they never saw. Nothing they say is medical advice.\n\n"
        "Films stay on the machine that runs this program, in memory, and are forgotten when you leave. "
        "Do not load films of people who did not agree to it."
    )
    if st.button("I understand", type="primary", width="stretch", key="accept_notice"):
        st.session_state[_ACCEPTED] = True
        st.rerun()


def ink() -> str:
    """The colour of text in charts, which Streamlit's own theme would show too faint to read."""
    return "#E8E8E6" if st.context.theme.type == "dark" else "#1C1E21"


def ask_once() -> None:
    """Ask the viewer to accept the notice, once a session. The page behind it is drawn already."""
    if not st.session_state.get(_ACCEPTED):
        _notice()


def foot() -> None:
    """The line at the end of every page."""
    st.caption(f"{NOTICE} Films stay in this machine's memory; nothing is sent anywhere.")
