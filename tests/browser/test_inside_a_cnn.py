"""A film is followed through a network in a browser."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE, Visit


def test_a_viewer_goes_from_block_to_channel_to_what_excites_it(visit: Visit) -> None:
    page = visit.enter("inside_a_cnn")
    page.locator("button[data-key='phantom/covid19']").click()
    block = page.locator("button[data-key='conv2']")
    # TensorFlow is imported for this, and the networks that are being converted have their turns in between.
    block.wait_for(timeout=5 * PATIENCE)
    block.click()
    expect(block).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_text("8 x 8 pixels of the film's 64 x 64")).to_be_visible()
    # By keyboard: the second strongest channel.
    channel = page.get_by_role("group", name=re.compile("^Strongest channels")).get_by_role("button").nth(1)
    number = channel.get_attribute("data-key")
    channel.press("Enter")
    expect(channel).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("img", name=f"Map of channel {number} of conv2")).to_be_visible()
    page.get_by_text("What excites it most", exact=True).click()
    expect(page.get_by_text("Nobody drew this.")).to_be_visible(timeout=3 * PATIENCE)
    expect(page.get_by_role("img", name=f"A picture that excites channel {number} of conv2")).to_be_visible()
