"""The comparison page as a viewer uses it, without a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest

from cxrmodels import NOTICE
from cxrmodels.datasets.manifest import COLUMNS
from cxrmodels.evaluation.board import Board, Contender, Films, compare_on, contender
from cxrmodels.evaluation.metrics import SEEN, UNSEEN
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.evaluation.submitted import read_submission
from cxrmodels.evaluation.verdict import verdict
from cxrmodels.markdown import plain
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import read_radiograph, to_png
from cxrmodels.service import Service
from cxrmodels.ui.comparison import own as own_part
from cxrmodels.ui.comparison import page
from cxrmodels.ui.comparison.decisions import SAME
from cxrmodels.ui.comparison.page import PARTS
from cxrmodels.zoo import PREDICTIONS_FILE, SPECS, shipped, weights_folder
from tests.test_board import HOSTILE, Tags, by_hand, evaluation, put, rows
from tests.test_evaluation import FOUR
from tests.test_pages import alts, check, components, words

ROOT = Path(__file__).resolve().parent.parent
APP, COMPARE = str(ROOT / "app.py"), "pages/compare_models.py"
TABLE, CURVES, PAIRS, FAILS, OWN = PARTS
TWO_CLASSES = [key for key, question in QUESTIONS.items() if question.positive]
FIRST = next(iter(QUESTIONS))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No cache or setting of one test reaches the next; no network is loaded, since none is needed here."""
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    monkeypatch.setattr(Service, "warm_up", lambda self, keys, then: None)
    # Stored predictions of all models take a second to read: it is done once, and again where a test changes them.
    monkeypatch.setattr(page, "contender", remembered)
    # What every question needs is not computed ahead behind each test.
    monkeypatch.setattr(page, "prepare", lambda contenders: None)
    for held_back in (st.cache_data, st.cache_resource):
        held_back.clear()
    yield
    for held_back in (st.cache_data, st.cache_resource):
        held_back.clear()


@cache
def _read(key: str, folder: str, stamps: tuple[int, ...]) -> Contender:
    return contender(key)


def remembered(key: str) -> Contender:
    """As `contender`; read anew when its files were changed."""
    return _read(key, str(weights_folder()), page._stamps(key))


def opened(part: str = TABLE, **address: str) -> AppTest:
    """The page at a part of it, in a session in which the notice is accepted."""
    at = AppTest.from_file(APP, default_timeout=120)
    at.session_state["notice_accepted"] = True
    check(at.run())
    for name, value in address.items():
        at.query_params[name] = value
    at.session_state["part"] = part
    return check(at.switch_page(COMPARE).run())


def to(at: AppTest, part: str) -> AppTest:
    at.session_state["part"] = part
    return check(at.run())


def ask(at: AppTest, question: str, films: str = UNSEEN, part: str | None = None) -> AppTest:
    """Ask, in another part of the page if one is named: in one run of it."""
    if part:
        at.session_state["part"] = part
    at.selectbox(key="question").set_value(question)
    at.selectbox(key="films").set_value(films)
    return check(at.run())


def here() -> list[Contender]:
    return [remembered(key) for key in shipped()]


def expected(question: str = FIRST, films: Films | None = None, **how: Any) -> Board:
    return compare_on(here(), QUESTIONS[question], films or Films(), **how)


def matrices(at: AppTest) -> dict[str, dict[str, Any]]:
    """Model -> what its matrix was given."""
    return {data["model"]: data for data in components(at) if "counts" in data}


def table(at: AppTest, column: str) -> Any:
    """The table that has such a column, as rows."""
    (found,) = (one.value for one in at.dataframe if column in one.value.columns)
    return found


def answer_of(at: AppTest) -> str:
    """The sentence that answers the question."""
    headings = [str(one.value) for one in at.markdown if str(one.value).startswith("#### ")]
    return headings[0].removeprefix("#### ")


# --- every question, every part ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_part_of_every_question_stands(question: str) -> None:
    at = opened()
    board = expected(question)
    assert board.standings, "some model answers every question"
    for part in PARTS:
        ask(at, question, part=part)
        assert not at.error
        assert not at.warning
        assert len(at.header) == 1
        said, *more = verdict(board)
        assert answer_of(at) == said
        assert " ".join(more) in words(at)
        assert NOTICE in words(at)
        assert len(at.get("download_button")) == 2 + (part == OWN)
        for title, _ in board.unable:
            assert f"{title} takes no part." in words(at)
        # Every chart has its words, and the first names all who answered.
        first, *_ = alts(at, "plotly_chart")
        assert all(one.contender.title in first for one in board.standings)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("films", [SEEN, "hannover", "kermany", "montgomery"])
def test_films_of_one_class_or_none_stand(part: str, films: str) -> None:
    """Some sources hold ill people alone, or healthy ones; for some questions none at all."""
    at = opened(part)
    for question in (FIRST, "pneumonia_normal", "which_of_three"):
        ask(at, question, films)
        assert not at.error
        assert answer_of(at) == verdict(expected(question, Films(films)))[0]


def test_another_question_has_another_answer() -> None:
    at = opened()
    answers = {question: answer_of(ask(at, question)) for question in QUESTIONS}
    assert answers == {question: verdict(expected(question))[0] for question in QUESTIONS}
    assert len(set(answers.values())) > 2
    ask(at, FIRST)
    assert answer_of(at) == answers[FIRST]
    assert answer_of(ask(at, FIRST, SEEN)) != answers[FIRST]


def test_narrowing_is_part_of_the_answer() -> None:
    at = opened()
    choices = at.selectbox(key="age").options[1:]
    assert choices
    for age in choices:
        check(at.selectbox(key="age").set_value(age).run())
        (said, *_) = verdict(expected(films=Films(UNSEEN, age)))
        assert answer_of(at) == said
        assert f", {age}" in said


def test_the_table_holds_every_figure() -> None:
    at = opened()
    board = expected()
    shown = table(at, "AUC")
    assert shown["Model"].tolist() == [one.contender.title for one in board.standings]
    for row, one in zip(shown.to_dict("records"), board.standings, strict=True):
        assert (row["Films"], row["Patients"]) == (one.figures.films, one.figures.patients)
        for name, figure in one.figures.estimates.items():
            if figure:
                assert figure.value in row.values(), name
                assert f"{figure.low:.2f} to {figure.high:.2f}" in row.values(), name
        assert one.seen is not None
        assert one.unseen is not None
        assert row["Drop, seen to unseen"] == pytest.approx(one.seen.value - one.unseen.value)
        assert row["The paper's own figures"] == SPECS[one.contender.key].paper_figures


def test_the_table_says_at_which_threshold_it_is() -> None:
    """Whatever was set elsewhere on the page."""
    at = opened(CURVES)
    check(at.slider(key="threshold").set_value(0.9).run())
    to(at, TABLE)
    (said,) = {float(one) for one in re.findall(r"\b[01]\.\d\d\b", words(at).split("Click a column's head")[1])}
    board = expected(threshold=said)
    for name, title in (("sensitivity", "Sensitivity"), ("specificity", "Specificity"), ("f1", "F1")):
        figures = [one.figures.estimates[name] for one in board.standings]
        assert table(at, "AUC")[title].tolist() == [figure.value for figure in figures if figure]


# --- thresholds, matrices and films -----------------------------------------------------------------------------------


def counted(one: Contender, question: str, threshold: float) -> list[list[int]]:
    """A matrix from the definition."""
    _, y_true, probabilities = by_hand(one, QUESTIONS[question])
    if QUESTIONS[question].positive is None:
        called = probabilities.argmax(1)
    else:
        at = QUESTIONS[question].positive_index()
        called = np.where(probabilities[:, at] >= threshold, at, 1 - at)
    classes = range(len(QUESTIONS[question].classes))
    return [[int(((y_true == row) & (called == column)).sum()) for column in classes] for row in classes]


@pytest.mark.parametrize("question", QUESTIONS)
def test_matrices_count_films(question: str) -> None:
    at = ask(opened(CURVES), question)
    shown = matrices(at)
    able = [one.contender for one in expected(question).standings]
    assert list(shown) == [one.title for one in able]
    for one in able:
        assert shown[one.title]["counts"] == counted(one, question, 0.5)
        assert shown[one.title]["classes"] == [name for name, _ in QUESTIONS[question].classes]
        assert shown[one.title]["chosen"] is None


@pytest.mark.parametrize("question", TWO_CLASSES)
def test_the_threshold_moves_the_matrices(question: str) -> None:
    at = ask(opened(CURVES), question)
    before = {model: data["counts"] for model, data in matrices(at).items()}
    for threshold in (0.05, 0.83, 1.0, 0.0):
        check(at.slider(key="threshold").set_value(threshold).run())
        for one in (one.contender for one in expected(question).standings):
            found = matrices(at)[one.title]["counts"]
            assert found == counted(one, question, threshold)
            # Where there are films of one class alone, a threshold may change nothing.
            assert (threshold == 0.83) or found != before[one.title] or not all(map(sum, found))
        assert f"Threshold {threshold:.2f}." in words(at)


@pytest.mark.parametrize("preset", ["equal", "sensitivity >= 95 %", "specificity >= 95 %", "cost"])
def test_each_preset_gives_each_model_its_own_threshold(preset: str) -> None:
    at = check(opened(CURVES).selectbox(key="preset").set_value(preset).run())
    assert not [slider for slider in at.slider if slider.key == "threshold"]
    board = expected(preset=preset, cost_ratio=5.0)
    assert len({one.threshold for one in board.standings}) > 1
    for one in board.standings:
        assert f"Threshold {one.threshold:.2f}." in words(at)
        found = matrices(at)[one.contender.title]["counts"]
        # A film whose score is the threshold itself may fall on either side of it in another order of arithmetic.
        assert found in [counted(one.contender, FIRST, one.threshold + nudge) for nudge in (-1e-9, 0, 1e-9)]
    if preset == "cost":
        check(at.slider(key="cost").set_value(20.0).run())
        dearer = expected(preset=preset, cost_ratio=20.0)
        for one in dearer.standings:
            found = matrices(at)[one.contender.title]["counts"]
            assert found in [counted(one.contender, FIRST, one.threshold + nudge) for nudge in (-1e-9, 0, 1e-9)]
    check(at.selectbox(key="preset").set_value(SAME).run())
    assert at.slider(key="threshold").value == 0.5


PEOPLE = re.compile(
    r"Of 1,000 people like these, (\d+) have (.+?): it finds (\d+), misses (\d+), and alarms (\d+) of the (\d+) others"
)


@pytest.mark.parametrize("question", TWO_CLASSES)
@pytest.mark.parametrize("common", [0.01, 0.1, 0.37, 0.9])
def test_what_it_means_for_people_adds_up(question: str, common: float) -> None:
    at = ask(opened(CURVES), question)
    check(at.slider(key="prevalence").set_value(common).run())
    # Of films of one class alone, as those that are unseen to a model may be, nothing can be said of people.
    standings = [one for one in expected(question).standings if all(map(sum, counted(one.contender, question, 0.5)))]
    found = PEOPLE.findall(words(at))
    assert len(found) == len(standings) > 1
    for numbers, one in zip(found, standings, strict=True):
        ill, finds, misses, alarms, others = (int(numbers[place]) for place in (0, 2, 3, 4, 5))
        assert numbers[1] == QUESTIONS[question].positive
        assert ill == round(1000 * common)
        assert ill + others == 1000
        assert finds + misses == ill
        table = counted(one.contender, question, 0.5)
        at_positive = QUESTIONS[question].positive_index()
        sick, well = table[at_positive], table[1 - at_positive]
        assert finds == pytest.approx(ill * sick[at_positive] / sum(sick), abs=1)
        assert alarms == pytest.approx(others * well[at_positive] / sum(well), abs=1)


CELLS = [("which_of_three", row, column) for row in range(3) for column in range(3)] + [
    (question, row, column) for question in (FIRST, "normal_or_not") for row in range(2) for column in range(2)
]


@pytest.mark.parametrize(("question", "row", "column"), CELLS)
def test_a_cell_lists_exactly_its_films(question: str, row: int, column: int) -> None:
    at = ask(opened(CURVES), question)
    threshold = 0.5
    if QUESTIONS[question].positive:
        threshold = 0.3
        check(at.slider(key="threshold").set_value(threshold).run())
    for one in (one.contender for one in expected(question).standings):
        at.session_state["comparison_cell"] = (one.key, question, row, column)
        check(at.run())
        image_ids, y_true, probabilities = by_hand(one, QUESTIONS[question])
        called = probabilities.argmax(1)
        if QUESTIONS[question].positive:
            place = QUESTIONS[question].positive_index()
            called = np.where(probabilities[:, place] >= threshold, place, 1 - place)
        inside = np.flatnonzero((y_true == row) & (called == column))
        classes = [name for name, _ in QUESTIONS[question].classes]
        assert f"##### {len(inside)} films that are {classes[row]}, called {classes[column]} by {one.title}" in words(
            at
        )
        chosen = {model: data["chosen"] for model, data in matrices(at).items()}
        assert chosen == {model: [row, column] if model == one.title else None for model in chosen}
        if not len(inside):
            assert "No films here." in words(at)
            continue
        shown = table(at, "Film")["Film"].tolist()
        sure = dict(zip(image_ids.tolist(), probabilities[:, column].tolist(), strict=True))
        assert len(shown) == min(200, len(inside))
        assert set(shown) <= set(image_ids[inside].tolist())
        assert len(set(shown)) == len(shown)
        # Surest first, and nobody left out is surer than the last.
        said = [sure[film] for film in shown]
        assert all(a >= b - 1e-12 for a, b in pairwise(said))
        left_out = [sure[film] for film in image_ids[inside].tolist() if film not in shown]
        assert not left_out or max(left_out) <= said[-1] + 1e-12
        given = table(at, "Film")[f"{one.title} gives that"].tolist()
        truly = dict(zip(image_ids.tolist(), probabilities[:, row].tolist(), strict=True))
        np.testing.assert_allclose(given, [truly[film] for film in shown], atol=1e-9)


def test_a_cell_of_another_question_is_closed() -> None:
    at = opened(CURVES)
    key = expected().standings[0].contender.key
    at.session_state["comparison_cell"] = (key, FIRST, 0, 1)
    check(at.run())
    assert "#####" in words(at)
    ask(at, "which_of_three")
    assert "films that are" not in words(at)
    assert "Pick a cell" in words(at)
    assert all(data["chosen"] is None for data in matrices(at).values())


def write_films(folder: Path, image_ids: Sequence[str]) -> Path:
    """A data folder that has films of these ids."""
    folder.mkdir()
    lines = [",".join(COLUMNS)]
    for number, image_id in enumerate(image_ids):
        data = to_png(phantom("normal", seed=number, size=64).pixels)
        (folder / f"{number}.png").write_bytes(data)
        cells = {"image_id": image_id, "path": f"{number}.png", "source": "clinic", "finding": "normal"}
        cells |= {"patient_id": str(number), "group_id": str(number), "split": "external"}
        cells |= {"sha256": read_radiograph(data).sha256[:16]}
        lines.append(",".join(cells.get(column, "") for column in COLUMNS))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_with_a_data_folder_films_have_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (standing.contender for standing in expected().standings):
        image_ids, y_true, probabilities = by_hand(one, QUESTIONS[FIRST])
        wrong = np.flatnonzero((y_true == 1) & (probabilities[:, 1] < 0.5))
        if len(wrong) > 2:
            break
    order = image_ids[wrong[np.argsort(probabilities[wrong, 1])]].tolist()
    # The first and the third of the list, and one that is not in it.
    there = [order[2], order[0], image_ids[y_true == 0][0]]
    monkeypatch.setenv("CXRMODELS_DATA", str(write_films(tmp_path / "data", there)))
    at = opened(CURVES)
    at.session_state["comparison_cell"] = (one.key, FIRST, 1, 0)
    check(at.run())
    (strip,) = (data for data in components(at) if "films" in data)
    assert [film["key"] for film in strip["films"]] == [order[0], order[2]]
    assert all(film["picture"].startswith("data:image/png;base64,") for film in strip["films"])
    assert "not on this machine" not in words(at)


# --- the address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_address_restores_the_question(question: str) -> None:
    at = AppTest.from_file(APP, default_timeout=120)
    at.session_state["notice_accepted"] = True
    check(at.run())
    at.query_params["question"] = QUESTIONS[question].title
    at.query_params["films"] = "all seen sources"
    at.query_params["part"] = CURVES
    check(at.switch_page(COMPARE).run())
    assert at.selectbox(key="question").value == question
    assert at.selectbox(key="films").value == SEEN
    assert answer_of(at) == verdict(expected(question, Films(SEEN)))[0]
    assert matrices(at)


@pytest.mark.parametrize("value", ["<script>alert(1)</script>", "9" * 5000])
@pytest.mark.parametrize("name", ["question", "films", "age", "view", "part", "preset", "threshold"])
def test_an_address_with_nonsense_is_the_usual_page(name: str, value: str) -> None:
    at = AppTest.from_file(APP, default_timeout=120)
    at.session_state["notice_accepted"] = True
    check(at.run())
    at.query_params["part"] = CURVES
    at.query_params[name] = value
    check(at.switch_page(COMPARE).run())
    assert answer_of(at) == verdict(expected())[0]
    assert "<script>" not in words(at)


# --- a viewer's own models --------------------------------------------------------------------------------------------


def own_csv(source: str = "my ward", signal: float = 1.0, split: str = "external") -> bytes:
    data = evaluation(rows(count=20), signal=signal, seed=4)
    lines = ["image_id,finding,source,split,group_id,age_group,view,p_normal,p_covid19"]
    for number, p in enumerate(data.probabilities()[:, 1]):
        place = f"ward/{number}", data.labels[number], f'"{source}"', split, f"p{number // 2}", "adult", "PA"
        lines.append(",".join([*place, f"{1 - round(p, 6):.6f}", f"{round(p, 6):.6f}"]))
    return "\n".join(lines).encode()


def brought(at: AppTest, name: str = "mine.csv", data: bytes | None = None) -> AppTest:
    """Add a file to the comparison."""
    to(at, OWN)
    check(at.file_uploader(key="own_csv").set_value((name, data or own_csv(), "text/csv")).run())
    return check(at.button(key="add csv").click().run())


def held(at: AppTest) -> list[Contender]:
    return list(at.session_state["own_contenders"].values())


def test_ones_own_csv_joins_and_leaves() -> None:
    at = brought(opened(OWN))
    (one,) = held(at)
    assert one.title == "mine (yours)"
    assert "**mine (yours)**: 320 films, in the comparison above." in words(at)
    board = compare_on([*here(), one], QUESTIONS[FIRST], Films())
    assert one.key in [standing.contender.key for standing in board.standings]
    assert answer_of(at) == verdict(board)[0]
    for part in PARTS:
        to(at, part)
        assert answer_of(at) == verdict(board)[0]
        assert "mine (yours)" in alts(at, "plotly_chart")[0]
    assert matrices(to(at, CURVES))["mine (yours)"]["counts"] == counted(one, FIRST, 0.5)
    # It cannot answer this one, and says so like any other.
    ask(at, "which_of_three")
    assert "mine (yours) takes no part." in words(at)
    ask(to(at, OWN), FIRST)
    check(at.button(key=f"remove {one.key}").click().run())
    assert held(at) == []
    assert "mine (yours)" not in words(at).replace("Add", "")
    assert answer_of(at) == verdict(expected())[0]
    # It can come again.
    assert held(brought(at))[0].sha256 == one.sha256


def test_what_was_chosen_of_it_may_go_with_it() -> None:
    at = brought(opened(OWN))
    (one,) = held(at)
    ask(to(at, CURVES), FIRST, "my ward")
    assert list(matrices(at)) == ["mine (yours)"]
    at.session_state["comparison_cell"] = (one.key, FIRST, 0, 0)
    check(at.run())
    to(at, OWN)
    check(at.button(key=f"remove {one.key}").click().run())
    for part in PARTS:
        to(at, part)
        assert answer_of(at).startswith(("On films of", "On the ", "No model can answer"))


def test_a_file_that_cannot_join_says_why() -> None:
    at = opened(OWN)
    for data, said in ((b"a,b\n1,2\n", "image\\_id"), (b"\x89PNG....", "PNG"), (own_csv()[:-3] + b"x", "Row")):
        check(at.file_uploader(key="own_csv").set_value(("bad.csv", data, "text/csv")).run())
        (error,) = at.error
        assert said in error.value
        assert "own_contenders" not in at.session_state
        assert answer_of(at) == verdict(expected())[0]


def test_two_files_of_one_name_are_two_models() -> None:
    at = brought(brought(opened(OWN)), data=own_csv(signal=0.2))
    first, second = held(at)
    assert first.title != second.title
    for part in PARTS:
        to(at, part)
        text = alts(at, "plotly_chart")[0]
        assert first.title in text
        assert second.title in text.replace(first.title, "", 1)
    assert {first.title, second.title} <= set(matrices(to(at, CURVES)))


def test_films_that_no_other_model_read_are_compared_where_they_can_be() -> None:
    """A ward's own films are in nobody else's predictions."""
    at = brought(opened(OWN))
    (one,) = held(at)
    to(at, PAIRS)
    titles = [SPECS[key].title for key in shipped()]
    check(at.selectbox(key="pair_a").set_value(one.key).run())
    assert any("No film that both" in info.value for info in at.info)
    # Two that share films can still be compared.
    a, b = shipped()[:2]
    at.selectbox(key="pair_a").set_value(a)
    check(at.run())
    check(at.selectbox(key="pair_b").set_value(b).run())
    assert not at.info
    assert any(titles[0] in text and titles[1] in text for text in words(at).splitlines() if text.startswith("#### "))


def markup(at: AppTest) -> list[frozenset[str]]:
    """The kinds of Markdown on the page, text by text."""
    texts = [str(one.value) for kind in (at.markdown, at.caption, at.info, at.error) for one in kind]
    texts += [button.label for button in at.button]
    return [frozenset(Tags(MarkdownIt("gfm-like", {"linkify": False}).render(text)).tags) for text in texts]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder of two models: a page that is drawn a hundred times need not hold all of them."""
    folder = tmp_path_factory.mktemp("weights")
    for key in ("two_conv_cnn", "multi_lung_cnn"):
        (folder / key).symlink_to(weights_folder() / key)
    return folder


def marks(name: str, source: str) -> list[list[frozenset[str]]]:
    """The Markdown of every part of the page with a reader's model of this name, on its films and on unseen ones."""
    at = brought(opened(OWN), f"{name}.csv", own_csv(source.replace('"', "")))
    found = []
    for part in PARTS:
        for films in (UNSEEN, source):
            ask(at, FIRST, films, part)
            found.append(markup(at))
            for mark in (r"(?<!\\)\$x", r":red\[", r"(?<!\\):material/(?!check_circle|cancel)"):
                assert not re.search(mark, words(at))
    return found


@pytest.fixture(scope="module")
def harmless(few: Path) -> Callable[[], list[list[frozenset[str]]]]:
    """The same with a name that means nothing; drawn once."""
    return cache(lambda: marks("harmless", "ward"))


# A name's folders are cut off: what stands behind the last slash is all that arrives of these.
@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_a_name_with_markup_in_it_stays_text(
    hostile: str, few: Path, harmless: Callable[[], list[list[frozenset[str]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """File names and cells come from whoever sent the file. A picture in one would be fetched from their host."""
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(few))
    assert marks(hostile.replace("/", "\u2215"), hostile) == harmless()


class Passed:
    """A network that passed its probes, as far as the page looks at it."""

    sha256 = "c" * 64
    scaling = "0-1"
    passed = True
    probes = ()
    findings = ("normal", "covid19")


def test_another_reading_by_ones_own_network_has_its_own_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's file is the same, its answers are not: figures must not be those of the first reading."""
    monkeypatch.setenv("CXRMODELS_DATA", str(write_films(tmp_path / "data", ["x/1"])))
    readings = iter((evaluation(rows(count=10), seed=1, signal=3.0), evaluation(rows(count=20), seed=2, signal=0.5)))
    monkeypatch.setattr(own_part, "_contract", lambda *_: Passed())
    monkeypatch.setattr("cxrmodels.evaluation.contract.to_evaluation", lambda *_: next(readings))
    at = opened(OWN)
    check(at.file_uploader(key="own_keras").set_value(("net.keras", b"zip", "application/zip")).run())
    check(at.multiselect(key="own_findings").set_value(["normal", "covid19"]).run())
    figures = []
    for _ in range(2):
        check(at.button(key="own_run").click().run())
        one = held(at)[-1]
        (standing,) = compare_on([one], QUESTIONS[FIRST], Films()).standings
        assert standing.figures.films == len(one.evaluation.where(np.isin(one.evaluation.splits, ("test", "external"))))
        figures.append(standing.figures)
        # What the viewer can take along makes a report with this network again.
        taken = at.session_state[own_part._READ_HERE][one.key].encode()
        assert read_submission(taken, "taken.csv").sha256 == one.sha256
        assert at.get_by_key(f"predictions {one.key}") is not None
    assert figures[0] != figures[1]


# --- models that are missing or damaged -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_without_a_model_it_says_what_to_do(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(tmp_path))
    at = opened(part)
    (error,) = at.error
    assert "No model is shipped here" in error.value
    assert "Restore" in error.value
    assert NOTICE in words(at)


@pytest.mark.parametrize("harm", ["cut short", "not gzip", "gone", "card"])
def test_a_damaged_model_says_so_and_the_others_go_on(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights_folder(), folder, ignore=shutil.ignore_patterns("*.h5"))
    for key in shipped():
        (folder / key / "model.weights.h5").write_bytes(b"not looked at")
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(folder))
    bad, *rest = shipped()
    path = folder / bad / PREDICTIONS_FILE
    if harm == "cut short":
        path.write_bytes(path.read_bytes()[:2000])
    elif harm == "not gzip":
        path.write_bytes(b"image_id,finding\n")
    elif harm == "gone":
        path.unlink()
    else:
        (folder / bad / "card.json").write_text('{"key": ')
    board = compare_on([remembered(key) for key in rest], QUESTIONS[FIRST], Films())
    at = opened()
    for part in PARTS:
        to(at, part)
        (error,) = at.error
        assert plain(bad) in error.value
        assert answer_of(at) == verdict(board)[0]


def test_a_model_trained_anew_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    put(folder, "multi_lung_cnn", evaluation(rows(FOUR), FOUR, signal=2.0, seed=1))
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(folder))
    at = opened()
    before = answer_of(at)
    put(folder, "multi_lung_cnn", evaluation(rows(FOUR), FOUR, signal=0.5, seed=2))
    check(at.run())
    assert answer_of(at) == verdict(expected())[0] != before


def test_one_model_alone_is_compared_with_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "multi_lung_cnn", evaluation(rows(FOUR), FOUR))
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(tmp_path))
    at = opened()
    for part in PARTS:
        to(at, part)
        assert "No other model here can answer this question." in words(at)
    to(at, PAIRS)
    assert any("Fewer than two models" in info.value for info in at.info)


# --- what it takes ----------------------------------------------------------------------------------------------------


def python(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200, check=True
    )
    return done.stdout.split()


HEAVY = ("tensorflow", "keras", "torch", "jax")


def test_opening_the_page_loads_no_network_library() -> None:
    """Stored predictions are all it needs; TensorFlow takes seconds to import and hundreds of megabytes."""
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
from cxrmodels.service import Service
Service.warm_up = lambda self, keys, then: None
at = AppTest.from_file("app.py", default_timeout=120)
at.session_state["notice_accepted"] = True
at.run()
at.switch_page("pages/compare_models.py")
for part in {PARTS!r}:
    at.session_state["part"] = part
    at.run()
    assert not at.exception
    assert at.header[0].value.startswith("Which model")
    print(*(f"{{name}}:{{part}}".replace(" ", "_") for name in {HEAVY!r} if name in sys.modules))
"""
    assert python(code) == []


def test_importing_the_page_is_light() -> None:
    heavy = (*HEAVY, "sklearn", "plotly", "scipy.stats")
    code = "import sys, streamlit\nbefore = set(sys.modules)\nimport cxrmodels.ui.comparison.page\n"
    code += f"print(*sorted(set({heavy!r}) & set(sys.modules) - before))"
    assert python(code) == []


def test_another_viewer_does_not_see_ones_own_models() -> None:
    at = brought(opened(OWN))
    assert held(at)
    other = opened(OWN)
    assert "own_contenders" not in other.session_state
    assert answer_of(other) == verdict(expected())[0]


def test_contenders_in_a_session_are_those_of_the_page() -> None:
    """What stands in the session takes part, whichever way it came there."""
    at = opened()
    one = replace(here()[0], key="own/x", title="Twin (yours)", training_sources=(), card=None)
    at.session_state["own_contenders"] = {one.key: one}
    check(at.run())
    assert "Twin (yours)" in table(at, "AUC")["Model"].tolist()
    row = table(at, "AUC").set_index("Model").loc["Twin (yours)"]
    assert row["Learnt from"] == "not known"
