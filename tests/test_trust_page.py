"""The page that puts a heat map to the test, as a viewer uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from cxrmodels import service as module
from cxrmodels.explain.changes import CHANGES
from cxrmodels.explain.methods import WAYS
from cxrmodels.explain.steps import Steps
from cxrmodels.phantom import phantom
from cxrmodels.service import Service
from cxrmodels.zoo import ModelError, shipped, spec
from tests.page_service import fresh_pages, shared_service
from tests.test_pages import alts, answered, check, pick, started, words

PAGE = "pages/trust_a_heat_map.py"
WAIT = 120


@pytest.fixture(scope="module")
def warm() -> Iterator[Service]:
    yield from shared_service()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, warm: Service) -> Iterator[None]:
    yield from fresh_pages(monkeypatch, warm)


def opened(finding: str = "covid19") -> AppTest:
    at = check(started().switch_page(PAGE).run())
    return answered(pick(at, f"phantom/{finding}"))


def badge(at: AppTest) -> str:
    return "\n".join(str(one.value) for one in at.get_by_key("trust_badge").markdown)


def test_the_page_says_what_it_is_for() -> None:
    at = check(started().switch_page(PAGE).run())
    assert at.header[0].value == "Can this heat map be trusted?"
    assert "put to the test" in words(at)


def test_a_film_is_put_to_the_test() -> None:
    at = opened()
    assert "Covering the hottest fifth" in words(at)
    assert any(word in badge(at) for word in ("Holds up", "Weak", "Do not trust"))
    for title in ("Covering", "Small changes", "Shuffled weights", "Lungs", "Shortcuts"):
        assert f"**{title}**" in badge(at)
    assert len(alts(at, "plotly_chart")) == 2
    table = at.dataframe[-1].value
    assert len(table) == len(CHANGES) + 1
    assert set(table.columns) > {spec(key).title for key in shipped()}
    # Everything is there: the page no longer looks by itself, and there is nothing to stop.
    assert not at.session_state["trust_polling"]
    assert "trust_stop" not in [button.key for button in at.button]


def test_weights_are_shuffled_by_a_slider() -> None:
    at = opened()
    slider = at.select_slider(key="trust_layers")
    check(slider.set_value(4).run())
    assert any("Heat map with" in alt for alt in alts(at, "image"))


@pytest.mark.parametrize("method", ["occlusion", "random"])
def test_another_method_is_another_map(method: str) -> None:
    at = opened()
    answered(check(at.selectbox(key="trust_method").set_value(method).run()))
    assert any(alt.startswith(f"{WAYS[method].title} for ") for alt in alts(at, "image"))
    if method == "random":
        assert "Do not trust" in badge(at)


def test_long_work_can_be_stopped_and_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    def endless(subject: Any) -> Steps[Any]:
        while not held.is_set():
            time.sleep(0.02)
            yield 0.25
        yield 1.0
        return subject.film[..., 0]

    at = opened()
    monkeypatch.setitem(WAYS, "score_cam", module_way(endless))
    check(at.selectbox(key="trust_method").set_value("score_cam").run())
    assert at.get("progress")
    check(at.button(key="trust_stop").click().run())
    check(at.run())
    assert "Drawing the map: stopped." in words(at)
    assert not at.get("progress")
    held.set()
    answered(check(at.button(key="trust_go_on").click().run()))
    assert "stopped" not in words(at)
    assert badge(at)


def module_way(draw: Any) -> Any:
    from dataclasses import replace

    return replace(WAYS["score_cam"], draw=draw)


# --- work in pieces ---------------------------------------------------------------------------------------------------


def test_work_in_pieces_lets_others_through(warm: Service) -> None:
    key, film = shipped()[0], phantom("normal", seed=1, size=96).radiograph()
    go_on = threading.Event()

    def work(engine: Any) -> Steps[str]:
        while not go_on.is_set():
            time.sleep(0.01)
            yield 0.5
        return "done"

    job = warm.work("long", key, work)
    assert warm.work("long", key, work) is job
    # Answered while the long work is at it, on the same thread.
    assert warm.read(film, key).result(WAIT).prediction.model == key
    assert not job.answer.done()
    go_on.set()
    assert job.answer.result(WAIT) == "done"
    assert job.share == 1
    assert warm.work("long", key, work) is job
    assert warm.known("long") is job
    assert warm.known("never asked for") is None


def test_stopped_work_ends_and_can_be_begun_anew(warm: Service) -> None:
    began = []

    def work(engine: Any) -> Steps[str]:
        began.append(1)
        for _ in range(500):
            time.sleep(0.01)
            yield 0.1
        return "done"

    job = warm.work("stopped", shipped()[0], work)
    job.stop()
    with pytest.raises(CancelledError):
        job.answer.result(WAIT)
    assert warm.work("stopped", shipped()[0], work) is not job
    warm.known("stopped").stop()  # type: ignore[union-attr]


def test_work_that_nobody_watches_is_given_up(warm: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNWATCHED_SECONDS", 0.2)

    def work(engine: Any) -> Steps[str]:
        while True:
            time.sleep(0.01)
            yield 0.1

    with pytest.raises(CancelledError):
        warm.work("unwatched", shipped()[0], work).answer.result(WAIT)


@pytest.mark.parametrize(("failures", "problem"), [(2, None), (99, RuntimeError), (99, ModelError)])
def test_work_that_fails_is_begun_anew_a_few_times(warm: Service, failures: int, problem: Any) -> None:
    began: list[int] = []

    def work(engine: Any) -> Steps[str]:
        began.append(1)
        yield 0.5
        if len(began) <= failures:
            raise (problem or RuntimeError)("no")
        return "done"

    job = warm.work(("fails", failures, problem), shipped()[0], work)
    if problem is None:
        assert job.answer.result(WAIT) == "done"
        assert len(began) == 3
    else:
        with pytest.raises(problem):
            job.answer.result(WAIT)
        assert len(began) == (1 if problem is ModelError else module._ATTEMPTS)
