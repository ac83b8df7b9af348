"""Sign-in by Streamlit's own OpenID Connect: asked for where `secrets.toml` has a section `[auth]`, only there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from cxrmodels import NOTICE
from cxrmodels.markdown import plain

_ALONE = "default"
"""Where settings stand in `[auth]` itself, there is one provider without a name."""


def providers() -> tuple[str, ...]:
    """Names of those who vouch for viewers, as `secrets.toml` has them; none where nobody has to sign in.

    Raises:
        StreamlitSecretNotFoundError: there is a file of secrets, but it cannot be read.
    """
    try:
        section = st.secrets.get("auth")
    except StreamlitSecretNotFoundError:
        # One that is there and damaged may have asked for sign-in: nobody gets in by that.
        if any(Path(path).expanduser().exists() for path in st.get_option("secrets.files")):
            raise
        return ()
    if section is None:
        return ()
    named = tuple(name for name, value in section.items() if isinstance(value, Mapping))
    return named or (_ALONE,)


def asked_for() -> bool:
    """Whether viewers have to sign in, or may have to: the file of secrets cannot be read."""
    try:
        return bool(providers())
    except StreamlitSecretNotFoundError:
        return True


def require_sign_in() -> None:
    """Where sign-in is set up, end the page here for whoever is not signed in."""
    try:
        known = providers()
    except StreamlitSecretNotFoundError:
        st.error(
            "The file of secrets cannot be read, so nobody can be let in. Mend secrets.toml, or take it away.",
            icon=":material/lock:",
        )
        st.stop()
    if not known or st.user.is_logged_in:
        return
    st.header("Sign in to look at films")
    st.caption(NOTICE)
    for name in known:
        label = "Sign in" if name == _ALONE else f"Sign in with {plain(name.replace('_', ' ').capitalize())}"
        st.button(
            label,
            icon=":material/login:",
            type="primary",
            key=f"sign_in {name}",
            on_click=st.login,
            args=(None if name == _ALONE else name,),
        )
    st.stop()


def show_who() -> None:
    """Who is signed in, and the way out; nothing where nobody has to sign in."""
    if not providers():
        return
    who = st.user.get("name") or st.user.get("email") or "somebody without a name"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Signed in as {plain(str(who))}.")
        st.button("Sign out", icon=":material/logout:", type="tertiary", key="sign_out", on_click=st.logout)
