"""Many films in a browser: dropped, read, looked at again after a reload and by somebody else, taken along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from cxrmodels.batch.jobs import jobs
from cxrmodels.phantom import phantom
from cxrmodels.zoo import read_card
from tests.browser.conftest import PATIENCE, Visit
from tests.browser.test_read_a_film import too_wide

MODEL = "two_conv_cnn"


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    for job in jobs():
        job.delete()


def test_dropped_films_become_a_table_that_outlives_the_page(visit: Visit, chromium: Browser, tmp_path: Path) -> None:
    for finding in ("normal", "covid19"):
        (tmp_path / "films" / finding).mkdir(parents=True)
        for seed in range(6):
            content = phantom(finding, seed=seed, size=128).png()
            (tmp_path / "films" / finding / f"{seed}.png").write_bytes(content)
    (tmp_path / "films" / "normal" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    page = visit.enter("many_films")
    page.get_by_role("radio", name="A folder of yours").click()
    page.locator("input[webkitdirectory]").set_input_files(tmp_path / "films")
    expect(page.get_by_text("broken.png")).to_be_visible(timeout=PATIENCE)
    models = page.locator(".st-key-batch_models")
    models.get_by_role("button", name="Clear all").click()
    models.get_by_role("combobox").fill(read_card(MODEL).title)
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Read them").click()
    page.wait_for_url("**batch=*")
    ended = page.locator(".stMarkdownBadge").filter(has_text="finished")
    expect(ended.first).to_be_visible(timeout=4 * PATIENCE)
    expect(page.get_by_text("13 of 13 films; 1 could not be read")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("What the models are worth on your labelled films")).to_be_visible(timeout=PATIENCE)
    with page.expect_download() as download:
        page.get_by_role("button", name="Table (CSV)").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 14
    assert lines[1].startswith("films/covid19/0.png,covid19,"), lines[1]

    page.reload()
    expect(page.get_by_text("13 of 13 films; 1 could not be read")).to_be_visible(timeout=PATIENCE)
    other = chromium.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    try:
        second = other.new_page()
        second.goto(page.url)
        second.get_by_role("button", name="I understand").click(timeout=PATIENCE)
        expect(second.get_by_text("13 of 13 films; 1 could not be read")).to_be_visible(timeout=PATIENCE)
        expect(second.get_by_text("What the models are worth on your labelled films")).to_be_visible(timeout=PATIENCE)
        assert too_wide(second) == []
    finally:
        other.close()
