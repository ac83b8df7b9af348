"""Sign-in: nothing changes where it is not set up; where it is, no page shows anything to whoever is not signed in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cxrmodels.api.access import Access
from cxrmodels.ui.server import api_routes
from cxrmodels.ui.sign_in import asked_for

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path.name for path in (ROOT / "pages").glob("*.py"))
ALONE = {"redirect_uri": "http://localhost:8501/oauth2callback", "cookie_secret": "x", "client_id": "y"}
NAMED: dict[str, Any] = {**ALONE, "clinic": {"client_id": "a"}, "university_of_x": {"client_id": "b"}}


class User(dict[str, Any]):
    """What `st.user` is, as far as the program looks at it."""

    @property
    def is_logged_in(self) -> bool:
        return bool(self["is_logged_in"])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    monkeypatch.setenv("CXRMODELS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("cxrmodels.service.Service.warm_up", lambda self, keys, then: None)
    monkeypatch.setattr("cxrmodels.ui.lab.page.warm_up", lambda likely=None, aside=False: None)


def opened(page: str, auth: dict[str, Any] | None) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    if auth is not None:
        at.secrets["auth"] = auth
    at.switch_page(f"pages/{page}").run()
    assert not at.exception
    return at


def signed_in(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    monkeypatch.setattr(st, "user", User(fields))


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_shows_anything_to_a_stranger(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in(monkeypatch, is_logged_in=False)
    at = opened(page, ALONE)
    assert [header.value for header in at.header] == ["Sign in to look at films"]
    assert labels(at) == ["Sign in"]
    assert not at.get("file_uploader")
    assert len(at.main.children) == 3  # header, notice, button


def test_each_provider_has_its_button(monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in(monkeypatch, is_logged_in=False)
    asked: list[str | None] = []
    monkeypatch.setattr(st, "login", asked.append)
    at = opened("models.py", NAMED)
    assert labels(at) == ["Sign in with Clinic", "Sign in with University of x"]
    at.button(key="sign_in university_of_x").click().run()
    at = opened("models.py", ALONE)
    at.button(key="sign_in default").click().run()
    assert asked == ["university_of_x", None]


def test_who_is_signed_in_sees_the_page_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in(monkeypatch, is_logged_in=True, name="![A](https://example.org/x.png)")
    left: list[bool] = []
    monkeypatch.setattr(st, "logout", lambda: left.append(True))
    at = opened("models.py", ALONE)
    assert "Sign in to look at films" not in [header.value for header in at.header]
    (said,) = [one.value for one in at.caption if one.value.startswith("Signed in as")]
    assert r"\!\[A\](" in said
    at.button(key="sign_out").click().run()
    assert left == [True]


def test_without_sign_in_nothing_of_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened("models.py", None)
    assert not {"Sign in", "Sign out"} & set(labels(at))
    assert not any("Signed in" in one.value for one in at.caption)


@pytest.mark.parametrize("asked", [False, True])
def test_the_api_wants_a_token_where_pages_want_a_sign_in(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy the server is bound to this machine alone, where the API would answer anybody."""
    given: list[Access] = []

    def routes(service: object, access: Access, base: str) -> list[object]:
        given.append(access)
        return []

    monkeypatch.setattr("cxrmodels.api.routes.routes", routes)
    monkeypatch.setattr("cxrmodels.ui.sign_in.providers", lambda: ("clinic",) if asked else ())
    monkeypatch.setattr(st, "get_option", lambda name: "127.0.0.1" if name == "server.address" else "")
    monkeypatch.delenv("CXRMODELS_API_TOKEN", raising=False)
    api_routes()
    assert [access.off for access in given] == [asked]


def test_damaged_secrets_let_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".streamlit").mkdir()
    secrets = tmp_path / ".streamlit" / "secrets.toml"
    secrets.write_text("[auth\n", encoding="utf-8")
    before = st.get_option("secrets.files")
    st.secrets._reset()
    st._config.set_option("secrets.files", [str(secrets)])
    try:
        assert asked_for()
        at = opened("models.py", None)
        assert ["cannot be read" in one.value for one in at.error] == [True]
        assert not at.header
        secrets.unlink()
        at.run()
        assert not at.error
    finally:
        st._config.set_option("secrets.files", before)
        st.secrets._reset()
