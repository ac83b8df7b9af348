"""Viewers with browsers of their own: how long a film takes one of them, how long it takes ten at once, and what is
left in the server's memory when they have gone.

`python -m tests.benchmarks.users --films 200` is the whole soak, of ten browsers with 200 films each.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from cxrmodels.phantom import FINDINGS, phantom
from cxrmodels.zoo import shipped
from tests.benchmarks.page import free_port, launch, memory, open_page, served

BROWSERS, FILMS, ALONE = 10, 20, 5
GONE = 20.0
"""Seconds after the browsers have gone in which their sessions are to end."""
STUCK = 180.0

# Notes when all bars of the film that is dropped next are there, and when all its heat maps are: those of the film
# before have other addresses.
_WATCH = """count => {
    const maps = () => [...document.querySelectorAll('[class*="st-key-card_"] img[alt^="Grad-CAM for"]')];
    const bars = () => [
        ...document.querySelectorAll('[class*="st-key-bars_"] [data-testid="stBidiComponentIsolated"]')
    ].filter(one => one.shadowRoot?.querySelector('.bar')).length;
    const before = new Set(maps().map(one => one.src));
    const first = before.size === 0;
    window.seen = {};
    const look = () => {
        const fresh = maps().filter(one => one.complete && one.naturalWidth && !before.has(one.src)).length;
        if (!window.seen.bars && (first ? bars() >= count : fresh > 0)) window.seen.bars = performance.now();
        if (!window.seen.maps && fresh >= count) window.seen.maps = performance.now();
        // In a fresh browser what draws the bars may come later than the maps.
        if (window.seen.bars && window.seen.maps) stop();
    };
    // When something has come, not with every frame: ten browsers that look all the time leave none for anything else.
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


def _enter(browser: Browser, port: int) -> Page:
    page = open_page(browser, port)
    page.get_by_role("button", name="I understand").click()
    page.evaluate(_NOTE_DROP)
    return page


def measure_users(browsers: int = BROWSERS, films: int = FILMS, tries: int = ALONE) -> list[tuple[str, str]]:
    """(what, figure). An error on a page, or a film that is never answered, ends it with an exception.

    Args:
        films: in each browser.
        tries: films of which the median is told, where one browser is alone.
    """
    port = free_port()
    options = ("--server.disconnectedSessionTTL", "1", "--server.fileWatcherType", "none")
    with sync_playwright() as playwright, served(port, "app.py", *options) as process:
        browser = launch(playwright)
        made, large = made_films(320), made_films(1024)
        first = _enter(browser, port)
        for _ in range(3):  # all networks loaded and compiled, heat maps too
            _drop(first, next(large))
            _wait(first)
        first.context.close()

        drops = []
        for _ in range(tries):  # each in a session that shows no film yet
            page = _enter(browser, port)
            page.wait_for_timeout(500)
            _drop(page, next(large))
            drops.append(_wait(page))
            page.context.close()

        page = _enter(browser, port)
        alone = []
        for _ in range(tries):
            _drop(page, next(made))
            alone.append(_wait(page)[1])
        page.context.close()

        time.sleep(GONE)
        began = memory(process)
        pages = [_enter(browser, port) for _ in range(browsers)]
        together: list[float] = []
        most = began
        for number in range(films):
            for page in pages:
                _drop(page, next(made))
            together += [_wait(page)[1] for page in pages]
            most = max(most, memory(process))
            print(f"film {number + 1} of {films}: {most - began:+.0f} MB at most", file=sys.stderr, flush=True)
        errors = sum(page.get_by_test_id("stException").count() for page in pages)
        assert not errors, f"{errors} pages show an error"
        browser.close()
        time.sleep(GONE)
        ended = memory(process)

    single, late = statistics.median(alone), float(np.percentile(together, 95))
    bars, maps = (statistics.median(one) for one in zip(*drops, strict=True))
    return [
        ("a film of 1024 px dropped, warm: all bars in the browser (target 0.7 s)", f"{bars:.2f} s"),
        ("the same: all Grad-CAMs (target 1.2 s)", f"{maps:.2f} s"),
        ("a film of 320 px after another, one browser: all Grad-CAMs", f"{single:.2f} s"),
        (
            f"{browsers} browsers at once, no error: 95th percentile (target: under 3 x one browser's)",
            f"{late:.2f} s ({late / single:.1f} x)",
        ),
        (f"server memory during {browsers} browsers x {films} films, at most", f"{most - began:+.0f} MB"),
        ("the same when they have gone (target: within 200 MB)", f"{ended - began:+.0f} MB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browsers", type=int, default=BROWSERS)
    parser.add_argument("--films", type=int, default=FILMS, help="films in each browser")
    parser.add_argument("--tries", type=int, default=ALONE, help="films of one browser alone")
    arguments = parser.parse_args()
    for what, figure in measure_users(arguments.browsers, arguments.films, arguments.tries):
        print(f"{what}: {figure}")


if __name__ == "__main__":
    main()
