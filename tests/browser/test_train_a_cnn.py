"""A teacher's lesson in a browser: start a training, steer it, stop it, look at it with somebody else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cxrmodels.lab.config import ConfigurableCnn, ManifestData, PhantomData, RunConfig
from cxrmodels.lab.kept import key_of
from cxrmodels.lab.process import terminate
from cxrmodels.lab.store import State, runs
from cxrmodels.ui.lab.words import STATES
from tests.browser.conftest import PATIENCE, Visit, viewer_of
from tests.browser.test_read_a_film import PHONE, heat_map, open_film, too_wide

SMALL = ConfigurableCnn(blocks=2, filters=8, dense=16)
LONG = RunConfig(name="A long lesson", data=PhantomData(films=240), network=SMALL, input_size=48, epochs=400)
"""Longer than any test: it ends when it is told to."""


@pytest.fixture(scope="module", autouse=True)
def _runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs folder of this module's own, for the server too. No worker outlives it."""
    before = os.environ["CXRMODELS_RUNS"]
    home = tmp_path_factory.mktemp("runs")
    os.environ["CXRMODELS_RUNS"] = str(home)
    yield home
    for run in runs():
        terminate(run)
    os.environ["CXRMODELS_RUNS"] = before


def begin(visit: Visit, config: RunConfig) -> Page:
    page = visit.enter(f"train_a_cnn?config={config.to_query()}")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", name=config.name)).to_be_visible(timeout=PATIENCE)
    return page


def says(page: Page, state: State, patience: int = PATIENCE) -> None:
    words = re.compile(f"{re.escape(STATES[state][0])}$")
    expect(page.locator(".stMarkdownBadge").filter(has_text=words).first).to_be_visible(timeout=patience)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(LONG, id="synthetic"),
        pytest.param(
            replace(
                LONG,
                name="A long lesson on real films",
                data=ManifestData(findings=("normal", "covid19"), per_class=30),
                batch_size=8,
            ),
            id="real",
            marks=pytest.mark.skipif("CXRMODELS_DATA" not in os.environ, reason="CXRMODELS_DATA is not set: no films."),
        ),
    ],
)
def test_a_lesson(config: RunConfig, visit: Visit, chromium: Browser) -> None:
    page = begin(visit, config)
    says(page, State.RUNNING)
    expect(page.locator(".js-plotly-plot").nth(1)).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Validation films after epoch")).to_be_visible(timeout=PATIENCE)

    page.get_by_role("button", name="Pause").click()
    says(page, State.PAUSED)
    page.get_by_role("button", name="One step").click()
    page.get_by_role("button", name="Learning rate").click()
    page.get_by_role("spinbutton", name="New learning rate").fill("0.0002")
    page.get_by_role("spinbutton", name="New learning rate").press("Enter")
    page.get_by_role("button", name="Set", exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Resume").click()
    says(page, State.RUNNING)

    # Somebody else follows the same run, by its address alone.
    with viewer_of(chromium, visit.address, {**PHONE, "color_scheme": "dark"}) as other:
        second = other.enter(page.url.removeprefix(f"{visit.address}/"))
        expect(second.get_by_role("heading", name=config.name)).to_be_visible(timeout=PATIENCE)
        says(second, State.RUNNING)
        assert too_wide(second) == []
        second.get_by_test_id("stMain").get_by_role("button", name="Stop").click()
        says(second, State.STOPPED)
    says(page, State.STOPPED)
    expect(page.get_by_role("button", name="Report (JSON)")).to_be_visible(timeout=PATIENCE)
    with page.expect_download() as download:
        page.get_by_role("button", name="Network (.keras)").click()
    assert Path(download.value.path()).stat().st_size > 10_000

    assert runs()[-1].state() is State.STOPPED


def test_what_was_learnt_is_kept_and_let_go(visit: Visit) -> None:
    config = RunConfig(name="Soon over", data=PhantomData(films=80), network=SMALL, input_size=48, epochs=1)
    page = begin(visit, config)
    says(page, State.FINISHED)
    run = runs()[-1]
    # It reads the data folder's films first, where there are any.
    page.get_by_role("button", name="Keep this network").click()
    link = page.get_by_test_id("stMain").get_by_role("link", name="Read a film with it")
    expect(link).to_be_visible(timeout=5 * PATIENCE)
    link.click()
    open_film(page)
    expect(page.locator(f".st-key-card_{key_of(run)}").get_by_text("Trained by you")).to_be_visible(timeout=PATIENCE)
    expect(heat_map(page, key_of(run))).to_be_visible(timeout=PATIENCE)
    page.get_by_role("link", name="Compare models").click()
    expect(page.get_by_test_id("stMain").get_by_text(f"{config.name} (yours)").first).to_be_visible(timeout=PATIENCE)
    visit.enter(f"train_a_cnn?run={run.id}")
    page.get_by_role("button", name="Let it go").click()
    expect(page.get_by_role("button", name="Keep this network")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="All runs, or a new one").click()
    expect(page.get_by_text(config.name, exact=True).first).to_be_visible(timeout=PATIENCE)


def test_a_closed_tab_loses_nothing(visit: Visit, chromium: Browser) -> None:
    config = RunConfig(name="Alone", data=PhantomData(films=80), network=SMALL, input_size=48, epochs=3)
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{visit.address}/train_a_cnn?config={config.to_query()}")
    page.get_by_role("button", name="I understand").click(timeout=PATIENCE)
    page.get_by_role("button", name="Start training").click(timeout=PATIENCE)
    expect(page.get_by_role("heading", name=config.name)).to_be_visible(timeout=PATIENCE)
    address = page.url
    context.close()
    page = visit.enter(address.removeprefix(f"{visit.address}/"))
    says(page, State.FINISHED)
    expect(page.get_by_text("Validation films after epoch 3")).to_be_visible(timeout=PATIENCE)


@pytest.mark.parametrize("visit", [PHONE], indirect=True, ids=["phone"])
def test_the_setup_fits_a_phone(visit: Visit) -> None:
    page = visit.enter("train_a_cnn")
    expect(page.get_by_role("button", name="Start training")).to_be_visible(timeout=PATIENCE)
    page.get_by_text("Every setting").click()
    expect(page.get_by_text("Optimiser")).to_be_visible(timeout=PATIENCE)
    assert too_wide(page) == []
