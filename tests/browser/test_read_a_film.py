"""A viewer's way through the pages, in a browser: with a mouse, with keys alone, on a phone, in both themes."""

from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import Error, FilePayload, Locator, Page, expect

from cxrmodels import NOTICE
from cxrmodels.export import COLUMNS
from cxrmodels.findings import TITLES
from cxrmodels.models import card, spec
from cxrmodels.phantom import PATTERNS, phantom
from cxrmodels.radiograph import read_radiograph, to_png
from cxrmodels.zoo import SPECS, shipped
from tests.broken_inputs import dicom
from tests.browser.conftest import PATIENCE, Visit
from tests.test_caches import OF_THE_SESSION

PHONE = {"viewport": {"width": 360, "height": 740}}
# At 200 % zoom a window of 1400 x 900 has half as many CSS pixels, each drawn twice as large.
ZOOMED = {"viewport": {"width": 700, "height": 450}, "device_scale_factor": 2}
SIZES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1400, "height": 1000}},
    "phone": PHONE,
    "zoomed": ZOOMED,
}

GREYS = """(canvas) => {
  const film = Math.min(canvas.width, canvas.height), cell = film / 16, found = [];
  const left = (canvas.width - film) / 2, top = (canvas.height - film) / 2, context = canvas.getContext("2d");
  for (let row = 0; row < 16; row++) for (let column = 0; column < 16; column++) {
    const { data } = context.getImageData(left + column * cell, top + row * cell, Math.ceil(cell), Math.ceil(cell));
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) sum += data[i];
    found.push((4 * sum) / data.length);
  }
  return found;
}"""
"""The mean grey, 0-255, of each of 16 x 16 cells of a square film on the viewer's canvas."""

expect.set_options(timeout=PATIENCE)


def to_models(page: Page) -> None:
    """By its link; a narrow page keeps the links behind a button."""
    link = page.get_by_role("link", name="Models", exact=True)
    menu = page.get_by_test_id("stExpandSidebarButton")
    expect(link.or_(menu).first).to_be_visible()
    if menu.is_visible():
        menu.click()
    link.click()


def containing(part: str) -> re.Pattern[str]:
    return re.compile(re.escape(part))


def heat_map(page: Page, key: str) -> Locator:
    return page.locator(f".st-key-card_{key} img[alt*=', layer ']")


def gallery_button(page: Page, finding: str) -> Locator:
    """A ready film's button."""
    return page.locator(f"button[data-key='phantom/{finding}']")


def read(page: Page) -> None:
    """Wait until every network has its chart and its heat map on the page. The first time on a machine they are
    converted before."""
    for key in shipped():
        expect(heat_map(page, key)).to_be_visible(timeout=8 * PATIENCE)
        expect(page.locator(f".st-key-bars_{key} .bar").first).to_be_visible()
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)


def open_film(page: Page, finding: str = "covid19") -> None:
    gallery_button(page, finding).click()
    expect(viewer(page)).to_have_attribute("aria-label", "Chest radiograph phantom 0000")
    read(page)


def viewer(page: Page) -> Locator:
    return page.get_by_label("Chest radiograph", exact=False).and_(page.locator("canvas"))


def choose(page: Page, label: str, option: str) -> None:
    """Take an option of a list. The list shuts when the page is drawn anew, as it is once more when the last network
    has answered: whoever is that quick opens it again."""
    wanted = page.get_by_role("option", name=option, exact=True)
    for _ in range(5):
        page.get_by_role("combobox", name=label).click()
        try:
            wanted.click(timeout=5_000)
        except Error:
            continue
        return
    raise AssertionError(f"{label} offers no {option}")


def upload(page: Page, *files: tuple[str, bytes]) -> None:
    page.locator("input[type=file]").set_input_files(
        [FilePayload(name=name, mimeType="application/octet-stream", buffer=data) for name, data in files]
    )


def real_or_drawn(request: pytest.FixtureRequest) -> list[tuple[str, bytes]]:
    """A PNG and a MONOCHROME1 DICOM: real ones where there is a data folder."""
    try:
        folder: Path = request.getfixturevalue("data_dir")
    except pytest.skip.Exception:
        pixels = phantom("covid19", seed=3, size=256).pixels
        stored = np.rint((1 - pixels) * 4095).astype(np.uint16)
        return [
            ("film.png", to_png(pixels)),
            ("film.dcm", dicom(stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1")),
        ]
    paths = (folder / "originals" / "MCUCXR_0001_0.png", folder / "dicom" / "RG1_J2KI.dcm")
    return [(path.name, path.read_bytes()) for path in paths]


def unnamed(page: Page) -> list[str]:
    """Pictures, charts, canvases and controls on the page that have no accessible name."""
    found: list[str] = page.evaluate(
        """() => {
          const visible = (e) => e.getClientRects().length > 0;
          const roots = [document];
          for (const e of document.querySelectorAll("*")) if (e.shadowRoot) roots.push(e.shadowRoot);
          const all = (css) => roots.flatMap((root) => [...root.querySelectorAll(css)]).filter(visible);
          const label = (e) => (e.getAttribute("alt") || e.getAttribute("aria-label")
            || e.labels?.[0]?.textContent || e.textContent || e.title || "").trim();
          const labelledBy = (e) => (e.getAttribute("aria-labelledby") || "").split(" ")
            .some((id) => id && document.getElementById(id)?.textContent.trim());
          const bad = [];
          for (const e of all("img")) if (!(e.getAttribute("alt") || "").trim()) bad.push(e);
          for (const e of all("canvas, button, a, input, select, [role=slider], [role=img]"))
            if (!e.closest("[aria-hidden=true], .js-plotly-plot, [data-testid=stDataFrame]") && !label(e)
                && !labelledBy(e)) bad.push(e);
          for (const e of all("[data-testid=stPlotlyChart]"))
            if (!label(e.closest("[aria-label]") || e.querySelector("[aria-label]") || document.createElement("i")))
              bad.push(e);
          return bad.map((e) => e.outerHTML.slice(0, 200));
        }"""
    )
    return found


def check_focus_is_seen(page: Page) -> None:
    outline: str = page.evaluate(
        """() => {
          let e = document.activeElement;
          while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
          const s = getComputedStyle(e);
          return s.outlineStyle + s.boxShadow;
        }"""
    )
    assert outline != "nonenone", "the focus cannot be seen"


def too_wide(page: Page) -> list[str]:
    """What makes the page itself scroll sideways; strips that scroll within themselves are meant to."""
    found: list[str] = page.evaluate(
        """() => {
          const main = document.querySelector("[data-testid=stMain]") || document.documentElement;
          const over = [];
          for (const e of [document.documentElement, document.body, main])
            if (e.scrollWidth > e.clientWidth + 1) over.push(`${e.tagName} ${e.scrollWidth} > ${e.clientWidth}`);
          return over;
        }"""
    )
    return found


# --- the way of most viewers ------------------------------------------------------------------------------------------


def test_notice_film_finding_and_downloads(visit: Visit) -> None:
    page = visit.enter()
    open_film(page)
    expect(page.get_by_text("This film is synthetic")).to_be_visible()
    expect(page.get_by_text(NOTICE).first).to_be_visible()

    finding = next(finding for finding in SPECS[shipped()[0]].findings if finding != "covid19")
    choose(page, "Heat map of", TITLES[finding])
    for key in shipped():
        if finding in SPECS[key].findings:
            expect(heat_map(page, key)).to_have_attribute("alt", containing(f" for {TITLES[finding]}, layer"))
        else:
            card = page.locator(f".st-key-card_{key}")
            expect(card.get_by_text(f"does not answer {TITLES[finding]}")).to_be_visible()

    with page.expect_download() as coming:
        page.get_by_role("button", name="All numbers (CSV)").click()
    text = Path(coming.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    drawn = phantom("covid19", seed=2020, size=512, difficulty=0.2).radiograph()
    assert coming.value.suggested_filename == f"cxr-{drawn.sha256[:12]}.csv"
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert [(row["model"], row["finding"]) for row in rows] == [
        (key, finding) for key in shipped() for finding in SPECS[key].findings
    ]
    assert {row["film_sha256"] for row in rows} == {drawn.sha256}
    assert {row["notice"] for row in rows} == {NOTICE}
    for key in shipped():
        assert sum(float(row["probability"]) for row in rows if row["model"] == key) == pytest.approx(1, abs=1e-5)

    with page.expect_download() as coming:
        page.get_by_role("button", name="All heat maps (PNG)").click()
    assert coming.value.suggested_filename == f"cxr-{drawn.sha256[:12]}.png"
    with Image.open(coming.value.path()) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width >= 360


def test_uploads(visit: Visit, request: pytest.FixtureRequest) -> None:
    page = visit.enter()
    for name, data in real_or_drawn(request):
        upload(page, (name, data))
        expect(viewer(page)).to_have_attribute("aria-label", f"Chest radiograph {name}")
        read(page)
        expect(page.get_by_text("This film is synthetic")).to_have_count(0)
        for note in read_radiograph(data).notes:
            expect(page.get_by_text(note, exact=False).first).to_be_visible()
    # Both are kept, and the first can be had again.
    page.get_by_test_id("stButtonGroup").get_by_text("png").click()
    expect(viewer(page)).to_have_attribute("aria-label", containing(".png"))


def test_the_viewer_shows_a_films_own_greys(visit: Visit) -> None:
    """Of 8 and of 16 bits, which reach the browser in two ways."""
    pixels = phantom("covid19", seed=7, size=256).pixels
    page = visit.enter()
    shown = {}
    for name, stored in (("eight", np.uint8), ("sixteen", np.uint16)):
        stream = io.BytesIO()
        Image.fromarray(np.rint(pixels * np.iinfo(stored).max).astype(stored)).save(stream, "PNG")
        upload(page, (f"{name}.png", stream.getvalue()))
        canvas = page.get_by_label(f"Chest radiograph {name}.png").and_(page.locator("canvas"))
        expect(canvas).to_have_attribute("aria-busy", "false")
        read(page)
        page.get_by_role("button", name="Lungs", exact=True).click()  # without their outline
        page.wait_for_timeout(300)
        shown[name] = np.array(canvas.evaluate(GREYS), np.float64).reshape(16, 16)
    # A canvas may be somewhat narrower than its place: whole cells of the film are compared, not single pixels.
    expected = 255 * pixels.reshape(16, 16, 16, 16).mean((1, 3))
    for greys in shown.values():
        np.testing.assert_allclose(greys, expected, atol=4)


def test_a_refused_picture_can_be_looked_at_anyway(visit: Visit, tmp_path: Path) -> None:
    page = visit.enter()
    upload(page, ("noise.png", to_png(np.random.default_rng(0).random((200, 200)))))
    expect(page.get_by_role("alert").get_by_text("Refused: no upright frontal chest film.")).to_be_visible()
    expect(page.get_by_text("It does not look like a frontal chest film")).to_be_visible()
    expect(page.get_by_text("Would claim")).to_have_count(0)
    expect(page.locator(f".st-key-card_{shipped()[0]}")).to_have_count(0)
    expect(page.get_by_role("combobox", name="Heat map of")).to_have_count(0)
    page.get_by_role("button", name="About this check").click()
    expect(page.get_by_text("hannover: ")).to_be_visible()
    page.keyboard.press("Escape")

    page.get_by_text("Look anyway").click()
    # Not `read`: a bar of nothing at all, as noise gets from some, counts as hidden.
    expect(heat_map(page, shipped()[-1])).to_be_visible(timeout=180_000)
    expect(page.get_by_text("The answers below mean nothing.")).to_be_visible()
    expect(page.get_by_role("heading", name="Would claim: ")).to_have_count(len(shipped()))
    expect(page.get_by_text("Not sure: this film was refused", exact=False).first).to_be_visible()
    with page.expect_download() as coming:
        page.get_by_role("button", name="All numbers (CSV)").click()
    rows = list(csv.DictReader(io.StringIO(Path(coming.value.path()).read_text(encoding="utf-8"))))
    assert all(row["gate"].startswith("refused: It does not look like") for row in rows)
    page.screenshot(path=tmp_path / "refused.png", full_page=True)


def test_a_real_film_passes(visit: Visit, data_dir: Path) -> None:
    page = visit.enter()
    path = data_dir / "originals" / "MCUCXR_0001_0.png"
    upload(page, (path.name, path.read_bytes()))
    expect(page.get_by_text("Passed as an upright frontal chest film.")).to_be_visible()
    expect(page.get_by_text("Refused")).to_have_count(0)
    expect(page.get_by_role("button", name="About this check")).to_be_visible()
    expect(heat_map(page, shipped()[0])).to_be_visible()


def test_a_broken_file_among_others(visit: Visit) -> None:
    page = visit.enter()
    good = to_png(phantom("normal", seed=1, size=128).pixels)
    hostile = "**loud** <b>bold<b> $x^2$ :red[red].png"
    upload(page, ("broken.png", good[:200]), (hostile, good), ("second.png", good[:-1] + b"\0" + good[-1:]))
    expect(page.get_by_role("alert").get_by_text("broken.png")).to_be_visible()
    read(page)


def test_names_are_shown_as_text(visit: Visit) -> None:
    page = visit.enter()
    hostile = "**loud** <b>bold</b> $x^2$ :red[red] ![p](https:x).png".replace("/", "")
    films = [to_png(phantom("normal", seed=seed, size=128).pixels) for seed in (1, 2)]
    upload(page, (hostile, films[0]), ("second.png", films[1]), (f"no film {hostile}", b"no picture"))
    read(page)
    expect(page.get_by_test_id("stButtonGroup").get_by_text(hostile, exact=True)).to_be_visible()
    expect(page.get_by_role("alert").get_by_text(f"no film {hostile}")).to_be_visible()
    assert page.locator(".katex").count() == 0


def test_the_chosen_film_outlives_a_visit_to_models(visit: Visit) -> None:
    page = visit.enter()
    open_film(page, "viral_pneumonia")
    to_models(page)
    expect(page.get_by_role("heading", name=SPECS[shipped()[0]].title)).to_be_visible()
    assert unnamed(page) == []
    page.get_by_role("link", name="Read a film").click()
    read(page)
    expect(page.get_by_text(PATTERNS["viral_pneumonia"]).first).to_be_visible()


def test_an_uploaded_film_outlives_a_visit_to_models(visit: Visit) -> None:
    page = visit.enter()
    upload(page, ("mine.png", to_png(phantom("normal", seed=1, size=128).pixels)))
    read(page)
    to_models(page)
    expect(page.get_by_role("heading", name=SPECS[shipped()[0]].title)).to_be_visible()
    page.get_by_role("link", name="Read a film").click()
    expect(page.get_by_text("Or take one that is ready")).to_be_visible()
    expect(viewer(page)).to_have_attribute("aria-label", "Chest radiograph mine.png", timeout=15_000)


# --- keys alone -------------------------------------------------------------------------------------------------------


def focused(page: Page) -> str:
    """What has the focus: visible text or label, looking into shadow trees."""
    found: str = page.evaluate(
        """() => {
          let e = document.activeElement;
          while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
          return e ? `${e.tagName} ${(e.getAttribute("aria-label") || e.textContent || "").trim()}` : "";
        }"""
    )
    return found


def tab_to(page: Page, wanted: str, limit: int = 120) -> None:
    passed = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        passed.append(focused(page))
        if re.search(wanted, passed[-1]):
            return
    pytest.fail(f"Tab never came to {wanted!r}; it came to {passed}")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_with_keys_alone(visit: Visit, key: str) -> None:
    page = visit.page
    page.goto(visit.address)
    page.get_by_role("button", name="I understand").wait_for()
    tab_to(page, "I understand")
    page.keyboard.press(key)
    page.get_by_role("dialog").wait_for(state="detached")
    tab_to(page, "Upload")
    tab_to(page, "^BUTTON Open chest radiograph: Synthetic, ground glass")
    check_focus_is_seen(page)
    page.keyboard.press(key)
    read(page)
    expect(page.get_by_text(PATTERNS["covid19"]).first).to_be_visible()
    tab_to(page, "^CANVAS Chest radiograph")
    tab_to(page, "All numbers")


# --- looks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "visit",
    [{**size, "color_scheme": scheme} for scheme in ("light", "dark") for size in SIZES.values()],
    indirect=True,
    ids=[f"{scheme}-{name}" for scheme in ("light", "dark") for name in SIZES],
)
def test_every_size_and_theme(visit: Visit, tmp_path: Path) -> None:
    page = visit.enter()
    open_film(page)
    assert unnamed(page) == []
    assert too_wide(page) == []
    upload_button = page.get_by_role("button", name="Upload").first
    upload_button.scroll_into_view_if_needed()
    expect(upload_button).to_be_in_viewport()
    background = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    red = int(background.split("(")[1].split(",")[0])
    assert (red < 128) == (page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches"))
    page.screenshot(path=tmp_path / "read.png", full_page=True)
    to_models(page)
    expect(page.get_by_role("heading", name=SPECS[shipped()[0]].title)).to_be_visible()
    assert too_wide(page) == []
    page.screenshot(path=tmp_path / "models.png", full_page=True)


# --- lungs, and what the networks have in common ----------------------------------------------------------------------


def test_lungs_are_outlined_and_the_networks_maps_compared(visit: Visit, request: pytest.FixtureRequest) -> None:
    page = visit.enter()
    upload(page, real_or_drawn(request)[0])
    read(page)
    expect(page.get_by_text(re.compile("^Together they (say|are not sure)")).first).to_be_visible()
    expect(page.get_by_role("heading", name="Where they look")).to_be_visible()
    for name in ("Consensus", "Disagreement"):
        # Of those that answer what most call likeliest: not all of them know every finding.
        expect(page.get_by_alt_text(re.compile(rf"{name} of \d networks"))).to_be_visible()
    for key in shipped():
        card = page.locator(f".st-key-card_{key}")
        expect(
            card.get_by_text("of the evidence lies inside the lungs").or_(card.get_by_text("map is empty"))
        ).to_be_visible()

    lungs = page.get_by_role("button", name="Lungs", exact=True)
    expect(lungs).to_have_attribute("aria-pressed", "true")
    assert outline_pixels(page) > 500
    lungs.click()
    expect(lungs).to_have_attribute("aria-pressed", "false")
    page.wait_for_function("() => new Promise((done) => requestAnimationFrame(() => done(true)))")
    assert outline_pixels(page) == 0
    viewer(page).press("l")
    expect(lungs).to_have_attribute("aria-pressed", "true")
    assert unnamed(page) == []


def test_what_a_network_saw(visit: Visit) -> None:
    page = visit.enter()
    open_film(page)
    for key in (shipped()[0], "lung_aware"):
        model = spec(key)
        opener = page.locator(f".st-key-card_{key}").get_by_role("button", name="What the network saw")
        opener.click()
        seen = page.get_by_alt_text(f"The film as {model.title} got it: {model.input_size} by {model.input_size}")
        expect(seen).to_be_visible()
        expect(page.get_by_text(re.compile(f"Model {key}, weights {card(key).weights_sha256[:12]}"))).to_be_visible()
        # The answers stay where they are: only what was opened is asked for.
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
        page.keyboard.press("Escape")
        expect(seen).to_be_hidden()


def outline_pixels(page: Page) -> int:
    """Pixels of the viewer's canvas that have the colour of the outline; a film is grey."""
    count: int = viewer(page).evaluate(
        """(canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let found = 0;
          for (let i = 0; i < data.length; i += 4) if (data[i + 2] - data[i] > 60) found++;
          return found;
        }"""
    )
    return count


def test_a_film_is_forgotten_with_its_viewer(visit: Visit) -> None:
    """What the server counts itself: uploads, pictures and answers are there, and gone once the page is closed."""

    def held() -> dict[str, float]:
        text = "".join(
            requests.get(f"{visit.address}/{path}", timeout=60).text for path in ("metrics", "_stcore/metrics")
        )
        # Bytes alone: how often a cache was of use is counted too, and for good.
        bytes_of = r"^(cache_memory_bytes\S*|cxrmodels_kept_bytes) (\d\S*)$"
        counted = {name: float(value) for name, value in re.findall(bytes_of, text, re.MULTILINE)}
        of_films = ("cxrmodels_kept_bytes", "UploadedFileManager", "st_memory_media_file_storage", *OF_THE_SESSION)
        return {part: sum(value for name, value in counted.items() if part in name) for part in of_films}

    page = visit.enter()
    film = phantom("viral_pneumonia", seed=11, size=300)
    upload(page, ("mine.png", film.png()))
    read(page)
    with_it = held()
    assert (
        min(with_it[part] for part in ("cxrmodels_kept_bytes", "UploadedFileManager", "cxrmodels.ui.viewer._sent")) > 0
    )
    page.close()
    # What is kept for a session goes at once; the uploads when nobody has come back to it for a while. Streamlit looks
    # for such sessions when another one ends.
    time.sleep(3)
    for _ in range(10):
        other = visit.page.context.new_page()
        other.goto(visit.address)
        other.get_by_role("button", name="I understand").wait_for()
        other.close()
        left = {part: value for part, value in held().items() if value and part != "st_memory_media_file_storage"}
        if not left:
            break
        time.sleep(1)
    assert left == {}
