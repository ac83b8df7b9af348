"""The API on the server of the pages: same models, same line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from cxrmodels.ui.frame import shared_service

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


def api_routes() -> list[BaseRoute]:
    """The API's addresses, for `st.App`. Whether they answer depends on where the server is bound, see `api.access`."""
    # Imported here: every viewer's script imports this module, and only the server needs the API.
    from cxrmodels.api.access import access_for
    from cxrmodels.api.routes import routes
    from cxrmodels.ui.sign_in import asked_for

    # Behind a proxy everybody comes from this machine: where pages ask for sign-in, the API asks for a token.
    # Without an address Streamlit binds to all there are.
    host = "" if asked_for() else st.get_option("server.address") or ""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return routes(shared_service, access_for(host), f"/{base}" if base else "")
