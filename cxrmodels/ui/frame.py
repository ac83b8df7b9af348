"""What stands on every page: the notice to accept once, and what all viewers of a server share."""

from __future__ import annotations

import sys
from threading import Thread
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cxrmodels import NOTICE
from cxrmodels.ui.sign_in import require_sign_in, show_who

if TYPE_CHECKING:
    from cxrmodels.service import Service, Viewer

_ACCEPTED, _ROUTED = "notice_accepted", "came_by_router"


@st.cache_resource(show_spinner=False)
def shared_service() -> Service:
    """The models, one copy for everybody. The first call starts loading them in the background."""
    # Imported here, so that the first page is painted before what only answers need.
    from cxrmodels.service import Service
    from cxrmodels.zoo import shipped

    shared = Service()
    shared.warm_up(shipped(), _look_ahead)
    return shared


@st.cache_resource(scope="session", show_spinner=False, on_release=lambda viewer: viewer.leave())
def service() -> Viewer:
    """The models as this viewer has them; what was asked by this viewer alone is forgotten with the session."""
    from cxrmodels.service import Viewer

    context = get_script_run_ctx()
    return Viewer(shared_service(), f"page {context.session_id}" if context else "page")


def _look_ahead() -> None:
    """Compute what the comparison will be asked for, in the background."""
    from cxrmodels.evaluation.board import prepare_shipped
    from cxrmodels.processes import step_back

    def prepare() -> None:
        step_back()
        prepare_shipped()

    Thread(target=prepare, name="comparison", daemon=True).start()


def note_router() -> None:
    """Called by the router: the page that follows stands in its frame."""
    _keep_films_off_the_disk()
    st.session_state[_ROUTED] = True


def _keep_films_off_the_disk() -> None:
    """Uploads stay in memory, as the notice says: the server's form reader would put whatever has more than 1 MB into a
    file without a name. How large they may be is each uploader's to say."""
    from starlette.formparsers import MultiPartParser

    MultiPartParser.spool_max_size = sys.maxsize


def enter() -> None:
    """Called by every page first: makes sure that the router ran, and that the viewer may be here.

    Where the first address that anybody opens after a start is a page's own, Streamlit, finding a folder `pages`,
    runs that page without the router: no title, no navigation, another width. `st.navigation` ends that way of
    working, by this very switch; called here it would also take the page's address for an unknown one.
    """
    if _ROUTED not in st.session_state:
        from streamlit.runtime.pages_manager import PagesManager

        PagesManager.uses_pages_directory = False
        st.rerun()
    require_sign_in()


@st.dialog("Before you start", dismissible=False)
def _notice() -> None:
    st.markdown(
        f"**{NOTICE}**\n\n"
        "The networks here are re-implementations of published systems. They are wrong often, and most of all on "
        "films of hospitals they never saw. Nothing they say is medical advice.\n\n"
        "Films stay on the machine that runs this program, in memory, and are forgotten when you leave, those of a "
        "batch when it is done. Only a zip of films to train on is copied to its disk, until somebody deletes it. "
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
    show_who()
