"""The page inside a network, as a viewer uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from cxrmodels.explain.excite import Excited, excite
from cxrmodels.explain.layers import KINDS
from cxrmodels.explain.steps import Steps
from cxrmodels.lab.kept import keep, key_of
from cxrmodels.lab.store import RUNS_VARIABLE
from cxrmodels.service import Service
from cxrmodels.zoo import read_card
from tests.page_service import fresh_pages, shared_service
from tests.test_lab_kept import CONFIG, ended
from tests.test_pages import alts, answered, check, components, pick, started, words

PAGE = "pages/inside_a_cnn.py"


@pytest.fixture(scope="module")
def warm() -> Iterator[Service]:
    yield from shared_service()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, warm: Service) -> Iterator[None]:
    # Only what a test asks for is loaded.
    monkeypatch.setattr(warm, "warm_up", lambda keys, then: None)
    yield from fresh_pages(monkeypatch, warm)


def opened(finding: str = "covid19") -> AppTest:
    at = check(started().switch_page(PAGE).run())
    return answered(pick(at, f"phantom/{finding}"))


def strip(at: AppTest, label: str) -> list[dict[str, Any]]:
    """The pictures of a strip: AppTest shows what a component is given, but cannot click in it."""
    (found,) = (data for data in components(at) if data.get("label", "").startswith(label))
    return list(found["films"])


def choose(at: AppTest, block: str, layer: str, network: str = "two_conv_cnn") -> AppTest:
    at.session_state[f"inside_block {network}"] = block
    answered(check(at.run()))
    box = at.selectbox(key=f"inside_layer {network} {block}")
    return answered(check(box.set_value(layer).run()))


def test_the_page_says_what_it_is_for() -> None:
    at = check(started().switch_page(PAGE).run())
    assert at.header[0].value == "What happens inside the network?"
    assert "follow it through a network" in words(at)


def test_a_film_goes_through_a_network() -> None:
    at = opened()
    blocks = strip(at, "Blocks of the network")
    assert [block["title"] for block in blocks] == ["film", "conv1", "conv2", "answer"]
    assert f"{read_card('two_conv_cnn').parameters:,} learnt numbers" in words(at)
    assert "896 learnt" in blocks[1]["detail"]
    # The first convolution is open, with its filters and its field.
    assert KINDS["convolution"].does in words(at)
    assert len(strip(at, "Filters of conv1")) == 32
    assert len(strip(at, "Strongest channels of conv1")) == 24
    assert "3 x 3 pixels of the film's 64 x 64" in words(at)
    assert "It sees 3 x 3 pixels of the 64 x 64 that the network gets" in words(at)
    assert any(alt.startswith("Map of channel") for alt in alts(at, "image"))
    # Everything is there: the page no longer looks by itself.
    assert not at.session_state["inside_polling"]
    # Another film is another picture of every block.
    other = strip(answered(pick_again(at, "phantom/normal")), "Blocks of the network")
    assert all(a["picture"] != b["picture"] for a, b in zip(blocks[:-1], other[:-1], strict=True))


def pick_again(at: AppTest, key: str) -> AppTest:
    at.session_state["chosen_film"] = key
    return check(at.run())


def test_a_unit_is_chosen_by_number_and_place() -> None:
    at = choose(opened(), "conv2", "pool2")
    channels = strip(at, "Strongest channels of pool2")
    number = at.number_input(key="inside_channel two_conv_cnn pool2")
    assert str(number.value) == channels[0]["key"]
    answered(check(number.set_value(7).run()))
    row, column = at.slider
    answered(check(row.set_value(0).run()))
    answered(check(at.slider[1].set_value(0).run()))
    assert any("Map of channel 7 of pool2, the unit in row 0 and column 0" in alt for alt in alts(at, "image"))
    assert "It sees 10 x 10 pixels of the 64 x 64" in words(at)
    assert column.max == 13


def test_a_layer_without_places_shows_its_units_and_the_findings() -> None:
    at = choose(opened(), "answer", "softmax")
    assert KINDS["softmax"].does in words(at)
    assert "the whole film" in words(at)
    (bars,) = alts(at, "plotly_chart")
    assert "Normal" in bars
    assert "%" in bars
    at = choose(at, "answer", "dense")
    assert "strongest of 256 units" in words(at)


def test_what_excites_a_finding_is_drawn_and_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()

    def waits(*arguments: Any) -> Steps[Excited]:
        while not held.is_set():
            time.sleep(0.02)
            yield 0.25
        return (yield from excite(*arguments))

    monkeypatch.setattr("cxrmodels.ui.inside.unit.excite", waits)
    at = check(started().switch_page(PAGE).run())
    at.session_state["inside_block two_conv_cnn"] = "answer"
    # A layer that no other test asks about: what was drawn once is kept.
    at.session_state["inside_layer two_conv_cnn answer"] = "logits"
    pick(at, "phantom/covid19")
    for _ in range(200):
        if any(button.key == "inside_stop" for button in at.button):
            break
        time.sleep(0.1)
        check(at.run())
    check(at.button(key="inside_stop").click().run())
    check(at.run())
    assert "most: stopped." in words(at)
    assert not at.get("progress")
    held.set()
    answered(check(at.button(key="inside_go_on").click().run()))
    assert "Nobody drew this" in words(at)
    assert any(alt.startswith("A picture that excites finding") for alt in alts(at, "image"))


def test_a_network_kept_from_the_lab_can_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    run = ended(CONFIG)
    keep(run)
    key = key_of(run)
    at = check(started().switch_page(PAGE).run())
    at.session_state["inside_network"] = key
    answered(pick(at, "phantom/covid19"))
    titles = [block["title"] for block in strip(at, "Blocks of the network")]
    assert titles[0] == "film"
    assert titles[-1] == "answer"
    assert "Receptive field" in words(at)
    assert strip(at, "Filters of")
