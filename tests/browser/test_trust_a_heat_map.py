"""A heat map is put to the test in a browser."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE, Visit


def test_a_viewer_gets_a_badge_and_can_look_at_shuffled_weights(visit: Visit) -> None:
    page = visit.enter("trust_a_heat_map")
    page.locator("button[data-key='phantom/covid19']").click()
    badge = page.locator(".st-key-trust_badge")
    # Every network is loaded and compiled for this, and its copy with shuffled weights, too.
    expect(badge).to_be_visible(timeout=4 * PATIENCE)
    expect(badge).to_contain_text("Shuffled weights")
    expect(page.get_by_text("Covering the hottest fifth").first).to_be_visible()
    slider = page.locator(".st-key-trust_layers").get_by_role("slider")
    slider.press("End")
    expect(page.get_by_text("the network now says")).to_be_visible()
    expect(page.get_by_text("Shortcut lab")).to_be_visible()
