"""A viewer with a browser: how long it takes from a film that is dropped to its bars and its heat maps."""

from __future__ import annotations

import argparse
import io
import statistics
from collections.abc import Iterator

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from cxrmodels.phantom import FINDINGS, phantom
from cxrmodels.zoo import shipped
from tests.benchmarks.page import free_port, launch, open_page, served, settle

TRIES = 7
STUCK = 180.0

# Notes when all bars of the film that is dropped are there, and when all its heat maps are. The page shows none before.
_WATCH = """count => {
    const maps = () => [
        ...document.querySelectorAll('[class*="st-key-card_"] img[alt^="Grad-CAM for"]')
    ].filter(one => one.complete && one.naturalWidth).length;
    const bars = () => [
        ...document.querySelectorAll('[class*="st-key-bars_"] [data-testid="stBidiComponentIsolated"]')
    ].filter(one => one.shadowRoot?.querySelector('.bar')).length;
    window.seen = {};
    const look = () => {
        if (!window.seen.bars && bars() >= count) window.seen.bars = performance.now();
        if (!window.seen.maps && maps() >= count) window.seen.maps = performance.now();
        if (window.seen.bars && window.seen.maps) stop();
    };
    // When something has come, not with every frame: a browser that draws sixty a second for it is slower.
    const observer = new MutationObserver(look);
    observer.observe(document.body, { childList: true, subtree: true, attributeFilter: ['src'] });
    document.addEventListener('load', look, true);
    const again = setInterval(look, 250);
    const stop = () => {
        observer.disconnect();
        document.removeEventListener('load', look, true);
        clearInterval(again);
    };
}"""
_NOTE_DROP = "() => document.addEventListener('change', () => { window.dropped = performance.now(); }, true)"


def made_films(size: int) -> Iterator[bytes]:
    """Synthetic films as JPEG files, no two alike."""
    bases = [phantom(finding, seed=1, size=size).radiograph().pixels for finding in FINDINGS]
    number = 0
    while True:
        pixels = np.rint(255 * bases[number % len(bases)]).astype(np.uint8)
        for digit in range(4):  # large enough for the compression to keep it
            pixels[:16, 16 * digit : 16 * digit + 16] = 20 * (number // 12**digit % 12)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=90)
        number += 1
        yield out.getvalue()


def _drop(page: Page, film: bytes) -> None:
    page.evaluate(_WATCH, len(shipped()))
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(
        {"name": "film.jpg", "mimeType": "image/jpeg", "buffer": film}
    )


def _wait(page: Page) -> tuple[float, float]:
    """Seconds from the drop to all bars and to all heat maps."""
    page.wait_for_function("() => window.seen && window.seen.bars && window.seen.maps", timeout=1000 * STUCK)
    dropped, bars, maps = page.evaluate("() => [window.dropped, window.seen.bars, window.seen.maps]")
    return (bars - dropped) / 1000, (maps - dropped) / 1000


def _timed(page: Page, film: bytes) -> tuple[float, float]:
    """The same, of a film that is then taken off the page again."""
    _drop(page, film)
    taken = _wait(page)
    page.get_by_role("button", name="All heat maps (PNG)").wait_for()  # the last thing on the page
    page.get_by_role("button", name="Remove film.jpg").click()
    page.get_by_text("Drop a chest radiograph above", exact=False).wait_for()
    return taken


def _enter(browser: Browser, port: int) -> Page:
    page = open_page(browser, port)
    page.get_by_role("button", name="I understand").click()
    page.evaluate(_NOTE_DROP)
    return page


def measure_users(tries: int = TRIES) -> list[tuple[str, str]]:
    """(what, figure), medians of so many films. A film that is never answered ends it with an exception."""
    port = free_port()
    options = ("--server.disconnectedSessionTTL", "1", "--server.fileWatcherType", "none")
    with sync_playwright() as playwright, served(port, "app.py", *options) as process:
        browser = launch(playwright)
        made, large = made_films(320), made_films(1024)
        page = _enter(browser, port)
        for _ in range(3):  # all networks loaded and compiled, heat maps too; all of the page that the browser needs
            _timed(page, next(large))
        settle(process)
        figures = [("a film of 1024 px dropped, warm", [_timed(page, next(large)) for _ in range(tries)])]
        figures.append(("one of 320 px", [_timed(page, next(made)) for _ in range(tries)]))
        page.context.close()

        first = []
        for _ in range(tries):  # each in a browser that has loaded nothing yet of what shows a film
            page = _enter(browser, port)
            page.wait_for_timeout(500)
            first.append(_timed(page, next(large)))
            page.context.close()
        figures.append(("the first film of 1024 px in a browser that knows only the empty page", first))
        browser.close()
    rows = []
    for what, taken in figures:
        bars, maps = (statistics.median(one) for one in zip(*taken, strict=True))
        target = " (target 0.7 s; 1.2 s)" if what.endswith("warm") else ""
        rows.append((f"{what}: all bars in the browser; all Grad-CAMs{target}", f"{bars:.2f} s; {maps:.2f} s"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=TRIES, help="films of each kind")
    for what, figure in measure_users(parser.parse_args().tries):
        print(f"{what}: {figure}")


if __name__ == "__main__":
    main()
