"""The page of many films without a browser. Tables are written as a worker would write them; workers have tests of
their own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from pyarrow import parquet
from streamlit.testing.v1 import AppTest

from cxrmodels.batch.films import BatchError, Source, folder_sources
from cxrmodels.batch.jobs import Asked, Job, State, Status, Wish, create, jobs
from cxrmodels.batch.labels import folder_label, label_finder, submissions
from cxrmodels.batch.table import Progress, read_csv, run
from cxrmodels.batch.uploads import Uploads
from cxrmodels.evaluation.board import Films, compare_on, submitted
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.evaluation.verdict import verdict
from cxrmodels.phantom import PATTERNS, phantom
from cxrmodels.ui.batch import live, places
from cxrmodels.zoo import SPECS, LoadedModel, load, shipped
from tests.test_pages import check, words

APP = str(Path(__file__).resolve().parent.parent / "app.py")
PAGE = "pages/many_films.py"
KEYS = ("two_conv_cnn", "multi_lung_cnn")
HOSTILE = "![x](https://example.org/x.png)<b>"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    monkeypatch.setenv("CXRMODELS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("cxrmodels.service.Service.warm_up", lambda self, keys, then: None)
    for cache in (st.cache_data, st.cache_resource):
        cache.clear()
    yield
    for cache in (st.cache_data, st.cache_resource):
        cache.clear()


@pytest.fixture(scope="module")
def models() -> dict[str, LoadedModel]:
    return {key: load(key) for key in KEYS}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 films in folders named after findings, and one that is none."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(24):
        finding = tuple(PATTERNS)[number % len(PATTERNS)]
        (folder / finding).mkdir(exist_ok=True)
        (folder / finding / f"{number:02}.png").write_bytes(phantom(finding, seed=number, size=96).png())
    (folder / "normal" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Job, list[Source]]]:
    """Jobs that the page would have put a worker to, and the films that it would have handed over."""
    found: list[tuple[Job, list[Source]]] = []

    def start(job: Job, uploads: Uploads | None = None) -> None:
        read = {one.name: one.read() for one in uploads.films()} if uploads else {}
        found.append((job, [Source(name, partial(read.__getitem__, name)) for name in read]))

    monkeypatch.setattr(Job, "start", start)
    return found


def opened(job: Job | None = None) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=120)
    at.session_state["notice_accepted"] = True
    check(at.run())
    if job:
        at.query_params["batch"] = job.id
    return check(at.switch_page(PAGE).run())


def as_worker(job: Job, films: list[Source], models: dict[str, LoadedModel], count: int | None = None) -> None:
    """Read so many films, or all, and say so."""
    asked = job.asked()
    label_of = label_finder(asked.labels) if asked.labels else folder_label
    done = run(films[:count], models, job.table, label_of=label_of)
    progress = Progress(done.done, len(films), done.failed, done.length)
    job.note(Status(State.FINISHED if count is None else State.STOPPED, progress))


def test_dropped_films_are_handed_over_with_their_labels(
    launched: list[tuple[Job, list[Source]]], models: dict[str, LoadedModel]
) -> None:
    at = opened()
    assert at.button(key="begin_batch").disabled, "nothing was dropped yet"
    assert list(at.text_input) == [], "nobody here may name a folder of the server"
    content = phantom("normal", seed=1, size=96).png()
    at.file_uploader[0].set_value([("a.png", content, "image/png"), ("b.png", content, "image/png")])
    at.file_uploader(key="batch_labels").upload("l.csv", b"file,label\na.png,COVID-19\nb.png,normal\n")
    at.multiselect(key="batch_models").set_value(list(KEYS))
    check(at.run())
    check(at.button(key="begin_batch").click().run())
    ((job, held),) = launched
    assert [(one.name, one.read()) for one in held] == [("a.png", content), ("b.png", content)]
    asked = job.asked()
    assert (asked.models, asked.labels, asked.folder) == (KEYS, {"a.png": "covid19", "b.png": "normal"}, "")
    assert at.query_params["batch"] == job.id
    as_worker(job, held, models)
    check(at.run())
    assert at.dataframe[0].value["label"].tolist() == ["COVID-19", "Normal"]
    assert "finished" in words(at)


def test_bad_labels_and_folders_are_told(
    launched: list[tuple[Job, list[Source]]], films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.FOLDERS_VARIABLE, str(films))
    at = opened()
    at.segmented_control(key="batch_way").set_value("A folder on the server")
    check(at.run())
    for text in (str(tmp_path), str(films / "missing"), str(films / ".."), "/"):
        check(at.text_input(key="batch_folder").set_value(text).run())
        check(at.button(key="begin_batch").click().run())
        assert "no such folder" in at.error[0].value
    at.file_uploader(key="batch_labels").upload("l.csv", f"file,label\na.png,{HOSTILE}\n".encode())
    check(at.text_input(key="batch_folder").set_value(str(films)).run())
    check(at.button(key="begin_batch").click().run())
    assert "is no finding" in at.error[0].value
    assert "![x]" not in at.error[0].value
    assert launched == []
    at.file_uploader(key="batch_labels").set_value(None)
    check(at.run())
    check(at.button(key="begin_batch").click().run())
    ((job, _),) = launched
    assert job.asked().folder == str(films)


@pytest.mark.parametrize(
    ("address", "headers", "own"),
    [
        ("127.0.0.1", {"Host": "127.0.0.1:8501"}, True),
        ("localhost", {"Host": "localhost:8501"}, True),
        ("::1", {"Host": "[::1]:8501"}, True),
        ("127.0.0.1", {"Host": "lab.example.org"}, False),
        ("127.0.0.1", {"Host": "localhost", "X-Forwarded-For": "10.0.0.9"}, False),
        ("127.0.0.1", {}, False),
        ("0.0.0.0", {"Host": "127.0.0.1:8501"}, False),
        (None, {"Host": "127.0.0.1:8501"}, False),
    ],
)
def test_who_may_name_any_folder(
    address: str | None, headers: dict[str, str], own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(places.FOLDERS_VARIABLE, raising=False)
    monkeypatch.setattr(st, "get_option", lambda name: address)
    monkeypatch.setattr(st, "context", type("Context", (), {"headers": headers}))
    assert places.is_own_machine() is places.may_name_folders() is own
    if own:
        assert places.named_folder(str(tmp_path)) == tmp_path.resolve()
    else:
        with pytest.raises(BatchError, match="no such folder"):
            places.named_folder(str(tmp_path))


def test_the_table_is_sorted_shown_and_taken_along(films: Path, models: dict[str, LoadedModel]) -> None:
    job = create(Asked(HOSTILE, KEYS, str(films), folder_labels=True))
    as_worker(job, folder_sources(films), models)
    at = opened(job)
    assert "![x]" not in words(at)
    plain = at.dataframe[0].value
    assert len(plain) == 25
    for order, column in (("Most doubt", "doubt"), ("Most disagreement", "disagreement")):
        check(at.segmented_control(key="batch_order").set_value(order).run())
        values = at.dataframe[0].value[column].dropna().tolist()
        assert values == sorted(plain[column].dropna().tolist(), reverse=True)
        assert len(set(values)) > 5
    check(at.segmented_control(key="batch_order").set_value("Not read").run())
    assert at.dataframe[0].value["file"].tolist() == ["normal/broken.png"]
    stored = parquet.read_table(io.BytesIO(live.as_parquet(job, job.status().progress.length)))
    assert stored["file"].to_pylist() == plain["file"].tolist()
    assert stored["two_conv_cnn:covid19"].to_pylist() == [
        None if np.isnan(value) else value for value in plain["two_conv_cnn:covid19"]
    ]


def test_labels_give_the_comparisons_figures(films: Path, models: dict[str, LoadedModel]) -> None:
    job = create(Asked("25 films", KEYS, str(films), folder_labels=True))
    as_worker(job, folder_sources(films), models)
    at = opened(job)
    rows = read_csv(job.table).to_pylist()
    found = submissions(rows, {key: SPECS[key].findings for key in KEYS}, {key: SPECS[key].title for key in KEYS})
    key = next(iter(QUESTIONS))
    board = compare_on([submitted(one) for one, _ in found.values()], QUESTIONS[key], Films())
    said = verdict(board)[0].replace(" (yours)", "")
    assert said.replace("\\", "") in words(at).replace("\\", "")
    table = at.dataframe[1].value
    assert table["Films"].tolist() == [standing.figures.films for standing in board.standings]
    check(at.selectbox(key="batch_question").set_value(list(QUESTIONS)[1]).run())
    for part in ("Curves and threshold", "Model against model"):
        check(at.segmented_control(key="batch_part").set_value(part).run())


def test_every_state_has_its_way_on(
    films: Path,
    models: dict[str, LoadedModel],
    launched: list[tuple[Job, list[Source]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = create(Asked("25 films", KEYS, str(films)))
    listed = folder_sources(films)
    as_worker(job, listed, models, 10)
    at = opened(job)
    assert "10 of 25 films" in at.get("progress")[0].proto.text
    check(at.button(key="go_on_batch").click().run())
    assert [one for one, _ in launched] == [job]
    # A worker that was killed had said that it runs.
    job.note(Status(State.RUNNING, Progress(9, 25, 0, 0), rate=5.0))
    check(at.run())
    assert "No row that was written is lost" in at.warning[0].value
    assert "10 of 25 films" in at.get("progress")[0].proto.text
    monkeypatch.setattr(Job, "alive", lambda self: True)
    check(at.run())
    assert "5.0 a second; about 3 s left" in at.get("progress")[0].proto.text
    check(at.button(key="stop_batch").click().run())
    assert job.wanted() is Wish.STOP
    monkeypatch.setattr(Job, "alive", lambda self: False)
    job.note(Status(State.FAILED, Progress(9, 25, 0, 0), message=HOSTILE))
    check(at.run())
    assert "![x]" not in at.error[0].value
    check(at.button(key="delete_batch").click().run())
    assert jobs() == ()
    assert "batch" not in at.query_params
    # An address that leads nowhere any more.
    gone = opened(job)
    assert "no such batch" in gone.error[0].value


def test_films_that_were_dropped_and_are_gone_are_asked_for_again(
    models: dict[str, LoadedModel], launched: list[tuple[Job, list[Source]]]
) -> None:
    content = phantom("normal", seed=1, size=96).png()
    films = [Source(f"{number}.png", lambda: content) for number in range(4)]
    job = create(Asked("4 films", KEYS, archives=("",)))
    as_worker(job, films, models, 2)
    at = opened(job)
    at.file_uploader[0].set_value([(film.name, content, "image/png") for film in films])
    check(at.run())
    check(at.button(key="go_on_batch").click().run())
    ((again, held),) = launched
    assert again == job
    assert [one.name for one in held] == [film.name for film in films]


def test_others_batches_are_not_listed(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = create(Asked("secret films", KEYS, str(films)))
    assert "secret films" not in words(opened())
    assert "secret films" in words(opened(job)), "whoever has the address sees it"
    monkeypatch.setattr("cxrmodels.ui.batch.page.is_own_machine", lambda: True)
    assert "secret films" in words(opened())
    assert set(KEYS) <= set(shipped())
