"""An engineer's way through the comparison, in a browser: ask, decide, look at films, bring a model, take a report."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from cxrmodels import NOTICE
from cxrmodels.datasets.manifest import data_folder, read_manifest
from cxrmodels.evaluation.board import Board, Contender, Films, compare_on, contender, held_out, submitted
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.evaluation.submitted import read_submission
from cxrmodels.evaluation.verdict import verdict
from cxrmodels.ui.comparison.page import PARTS
from cxrmodels.zoo import shipped
from tests.browser.conftest import PATIENCE, ROOT, Visit, Watch, _answers, _free_port
from tests.browser.test_read_a_film import PHONE, check_focus_is_seen, focused, tab_to, too_wide, unnamed

TABLE, CURVES, PAIRS, FAILS, OWN = PARTS
COVID_NORMAL, THREE = QUESTIONS["covid_normal"], QUESTIONS["which_of_three"]

expect.set_options(timeout=PATIENCE)


def here() -> list[Contender]:
    return [contender(key) for key in shipped()]


def spoken(board: Board) -> str:
    """The sentence that answers, as it reads on the page."""
    return re.sub(r"\*\*|\\(?=\W)", "", verdict(board)[0])


def answer(page: Page, board: Board) -> Locator:
    return page.get_by_role("heading", name=spoken(board), exact=True)


def ask(page: Page, title: str) -> None:
    page.get_by_role("combobox", name="Question").click()
    page.get_by_role("option", name=title, exact=True).click()


def to(page: Page, part: str) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text(part, exact=True).click()


def cell(page: Page, model: str, row: str, column: str) -> Locator:
    """A cell of a model's matrix, by what it is called for those who do not see it."""
    name = re.compile(rf"^[\d,]+ films? that (is|are) {row}, called {column} by {re.escape(model)}:")
    return page.get_by_role("button", name=name)


def count_of(label: str | None) -> int:
    assert label is not None
    return int(label.split()[0].replace(",", ""))


def own_csv(one: Contender) -> bytes:
    """A reader's own model: a shipped one's answers on unseen films, turned a little, as a CSV."""
    films = held_out(one)
    films = films.where(~np.isin(films.sources, one.training_sources) & np.isin(films.labels, ("normal", "covid19")))
    covid, normal = (films.logits[:, films.findings.index(name)] for name in ("covid19", "normal"))
    p = 1 / (1 + np.exp(-(covid - normal + 0.3).astype(float)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "finding", "source", "group_id", "age_group", "view", "p_normal", "p_covid19"])
    for number, value in enumerate(p):
        names = ("image_ids", "labels", "sources", "groups", "age_groups", "views")
        place = [getattr(films, name)[number] for name in names]
        writer.writerow([*place, f"{1 - round(value, 6):.6f}", f"{round(value, 6):.6f}"])
    return text.getvalue().encode()


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cxrmodels", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def downloaded(page: Page, button: str, path: Path) -> Path:
    """Take what a button offers, once the page stands: one that is still running replaces its buttons."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    with page.expect_download(timeout=PATIENCE) as coming:
        page.get_by_role("button", name=button).click()
    coming.value.save_as(path)
    return path


@pytest.fixture
def page(visit: Visit) -> Page:
    """The comparison, its answer on it, the notice accepted."""
    entered = visit.enter("compare_models")
    expect(answer(entered, compare_on(here(), COVID_NORMAL, Films()))).to_be_visible()
    return entered


# --- the first address ------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[str]:
    """Address of a program that nobody has opened yet."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    options = {"port": port, "headless": "true", "address": "127.0.0.1", "fileWatcherType": "none"}
    arguments = [part for name, value in options.items() for part in (f"--server.{name}", str(value))]
    with (
        (tmp_path / "log.txt").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", *arguments], cwd=ROOT, stdout=log, stderr=log
        ) as process,
    ):
        try:
            for _ in range(PATIENCE // 200):
                if _answers(address):
                    break
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
    assert "Traceback" not in (tmp_path / "log.txt").read_text(errors="replace")


def test_the_first_address_may_be_the_comparison(chromium: Browser, fresh_server: str) -> None:
    """Streamlit, started with a folder of pages, would show this one without the router: no navigation."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE)
    watch = Watch(context, fresh_server)
    page = context.new_page()
    page.goto(f"{fresh_server}/compare_models")
    page.get_by_role("button", name="I understand").click()
    expect(answer(page, compare_on(here(), COVID_NORMAL, Films()))).to_be_visible()
    for name in ("Read a film", "Compare models", "Models"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    # The router's, where Streamlit alone would have made one of the file's name.
    expect(page).to_have_title("CXR Model Lab")
    assert page.url.startswith(f"{fresh_server}/compare_models")
    context.close()
    watch.check()


# --- questions, thresholds, films -------------------------------------------------------------------------------------


def expect_counts(page: Page, board: Board) -> None:
    """Every model's matrix holds the board's counts."""
    names = [name for name, _ in board.question.classes]
    for one in board.standings:
        for row, counts in zip(names, one.figures.confusion, strict=True):
            for column, count in zip(names, counts, strict=True):
                found = cell(page, one.contender.title, row, column)
                expect(found).to_have_attribute("aria-label", re.compile(rf"^{count:,}|^{count} "))
                assert count_of(found.get_attribute("aria-label")) == count


def listed(page: Page, board: Board, place: int, row: int, column: int) -> list[str]:
    """Wait for the list of a cell's films and return their ids, surest first."""
    one = board.standings[place]
    names = [name for name, _ in board.question.classes]
    inside = np.flatnonzero((one.answers.y_true == row) & (one.answers.called(one.threshold) == column))
    order = inside[np.argsort(-one.answers.probabilities[inside, column], kind="stable")]
    what = f"{len(order)} films that are {names[row]}, called {names[column]} by {one.contender.title}"
    expect(page.get_by_role("heading", name=what, exact=True)).to_be_visible()
    ids: list[str] = one.answers.films.image_ids[order].tolist()
    # The table is painted on a canvas; what stands in it is there for those who do not see it.
    expect(page.get_by_test_id("stDataFrame").locator("td", has_text=ids[0]).first).to_be_attached()
    return ids


def expect_pictures(page: Page, ids: list[str]) -> None:
    """Films that are on this machine have their pictures; with none of them, the page says so."""
    folder = data_folder()
    known = {film.image_id for film in read_manifest(folder)} if folder else set()
    there = [name for name in ids[:12] if name in known]
    for name in there:
        expect(page.locator(f"button[data-key='{name}']")).to_be_visible()
    if not there:
        expect(page.get_by_text("The films themselves are not on this machine")).to_be_visible()


def test_questions_threshold_and_films(page: Page) -> None:
    first = compare_on(here(), COVID_NORMAL, Films())
    expect(page.locator(".js-plotly-plot").first).to_be_visible()

    ask(page, THREE.title)
    expect(answer(page, compare_on(here(), THREE, Films()))).to_be_visible()
    expect(page).to_have_url(re.compile(r"[?&]question=Normal"))
    expect(page.get_by_text("takes no part.").first).to_be_visible()

    # The address is enough to come back to what was asked.
    page.reload()
    page.get_by_role("button", name="I understand").click()
    expect(answer(page, compare_on(here(), THREE, Films()))).to_be_visible()

    ask(page, COVID_NORMAL.title)
    expect(answer(page, first)).to_be_visible()
    to(page, CURVES)
    expect_counts(page, first)

    slider = page.get_by_role("slider", name="Called positive from")
    slider.focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_value("0.57")
    moved = compare_on(here(), COVID_NORMAL, Films(), threshold=0.57)
    assert [one.figures.confusion for one in moved.standings] != [one.figures.confusion for one in first.standings]
    expect(page.get_by_text("Threshold 0.57.").first).to_be_visible()
    expect_counts(page, moved)
    expect(page).to_have_url(re.compile("threshold=0.57"))

    # The best may miss none at all, and none can be picked that is not there.
    counts = [one.figures.confusion for one in moved.standings]
    first_place = next(place for place, one in enumerate(counts) if one[1][0] > 1)
    next_place = next(place for place, one in enumerate(counts) if place > first_place and one[0][1] > 1)
    titles = [one.contender.title for one in moved.standings]
    missed = cell(page, titles[first_place], "COVID-19", "Normal")
    missed.click()
    ids = listed(page, moved, first_place, 1, 0)
    expect(missed).to_have_attribute("aria-pressed", "true")
    expect_pictures(page, ids)
    # Another one, by keys alone.
    tab_to(page, f"^BUTTON [0-9,]+ films? that are Normal, called COVID-19 by {re.escape(titles[next_place])}")
    page.keyboard.press("Enter")
    listed(page, moved, next_place, 0, 1)
    expect(missed).to_have_attribute("aria-pressed", "false")


def test_keys_reach_a_cell_and_show_where_they_are(page: Page) -> None:
    to(page, CURVES)
    expect(page.get_by_role("slider", name="Called positive from")).to_be_visible()
    tab_to(page, "^BUTTON .*List them")
    check_focus_is_seen(page)
    count = count_of(focused(page).removeprefix("BUTTON "))
    page.keyboard.press("Space")
    expect(page.get_by_role("heading", name=re.compile(f"^{count} films that are"))).to_be_visible()


# --- one's own model, and the report ----------------------------------------------------------------------------------


def test_own_predictions_and_a_report_that_can_be_checked(page: Page, chromium: Browser, tmp_path: Path) -> None:
    data = own_csv(here()[0])
    to(page, OWN)
    upload = page.get_by_test_id("stFileUploader").filter(has_text="Your predictions").locator("input[type=file]")
    upload.set_input_files([FilePayload(name="mine.csv", mimeType="text/csv", buffer=data)])
    page.get_by_role("button", name="Add mine to the comparison").click()
    one = submitted(read_submission(data, "mine.csv"))
    board = compare_on([*here(), one], COVID_NORMAL, Films())
    expect(page.get_by_text("films, in the comparison above.")).to_be_visible()
    expect(answer(page, board)).to_be_visible()
    to(page, CURVES)
    expect_counts(page, board)

    text = downloaded(page, "Every figure (CSV)", tmp_path / "figures.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["Model"] for row in rows] == [standing.contender.title for standing in board.standings]
    assert {row["Notice"] for row in rows} == {NOTICE}
    for row, standing in zip(rows, board.standings, strict=True):
        figure = standing.figures.estimates["auc"]
        assert figure is not None
        assert float(row["AUC"]) == figure.value

    report = downloaded(page, "Report (HTML)", tmp_path / "report.html")
    (tmp_path / "mine.csv").write_bytes(data)
    done = command("evaluate", "--check", report, "--predictions", tmp_path / "mine.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"equal: {len(board.standings)} models")
    done = command("evaluate", "--check", report)
    assert done.returncode == 1
    assert "mine (yours): its predictions are not here" in done.stdout

    read_offline(chromium, report, len(board.standings))


def read_offline(chromium: Browser, report: Path, models: int) -> None:
    """The report shows its charts with nothing but the file itself."""
    context = chromium.new_context(offline=True)
    watch = Watch(context, "file://")
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    expect(page.locator("tbody tr")).to_have_count(models)
    for number in range(5):
        expect(page.locator(f"#chart-{number} .main-svg").first).to_be_visible()
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    context.close()
    assert watch.errors == []


# --- looks ------------------------------------------------------------------------------------------------------------

LOOKS: dict[str, dict[str, Any]] = {
    "phone": {**PHONE, "color_scheme": "dark"},
    "desktop": {"viewport": {"width": 1400, "height": 1000}, "color_scheme": "light"},
}


@pytest.mark.parametrize("visit", LOOKS.values(), indirect=True, ids=LOOKS)
def test_every_part_is_named_and_fits(page: Page) -> None:
    signs = {
        TABLE: page.get_by_text("What accuracy costs").or_(page.get_by_text("Click a column's head to sort")).first,
        CURVES: page.get_by_text("Pick a cell of a matrix to see its films."),
        PAIRS: page.get_by_text("How often they say the same"),
        FAILS: page.get_by_text("Does it give the source away?"),
        OWN: page.get_by_text("Predictions, as CSV"),
    }
    for part in PARTS:
        to(page, part)
        expect(signs[part]).to_be_visible()
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
        assert unnamed(page) == [], part
        assert too_wide(page) == [], part
