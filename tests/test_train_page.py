"""The training lab's page without a browser. Runs are written as a worker would write them; workers have tests of
their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cxrmodels.evaluation.predictions import read_predictions
from cxrmodels.lab.config import BREAKAGES, PhantomData, RunConfig, cross_validation
from cxrmodels.lab.events import (
    EpochEnd,
    Event,
    EventWriter,
    Failed,
    Finished,
    Mistakes,
    Paused,
    PinnedFilms,
    Prepared,
    Queued,
    Started,
    Stopped,
)
from cxrmodels.lab.imports import DataError, import_archive, read_import
from cxrmodels.lab.kept import HELD_OUT_FILE, is_kept
from cxrmodels.lab.pictures import VALIDATION_FILE, write_arrays
from cxrmodels.lab.presets import PRESETS
from cxrmodels.lab.store import Run, State, create, runs
from cxrmodels.phantom import PATTERNS
from cxrmodels.ui.lab.words import LOOK_FOR, STATES
from tests.test_lab_imports import GOOD, zipped
from tests.test_lab_kept import ended as trained
from tests.test_pages import write_data

APP = str(Path(__file__).resolve().parent.parent / "app.py")
PAGE = "pages/train_a_cnn.py"
CONFIG = RunConfig(name="Two epochs", data=PhantomData(films=40, findings=("normal", "covid19")), epochs=2)


warmed: list[tuple[RunConfig | None, bool]] = []
"""What workers were asked to be kept warm for, and whether aside."""


def _note_warm_up(likely: RunConfig | None = None, *, aside: bool = False) -> None:
    warmed.append((likely, aside))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CXRMODELS_DATA", raising=False)
    monkeypatch.setenv("CXRMODELS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("cxrmodels.service.Service.warm_up", lambda self, keys, then: None)
    for module in ("page", "live"):
        monkeypatch.setattr(f"cxrmodels.ui.lab.{module}.warm_up", _note_warm_up)
    warmed.clear()
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Runs that the page would have put a worker to."""
    found: list[Run] = []
    for module in ("setup", "live", "shelf"):
        monkeypatch.setattr(f"cxrmodels.ui.lab.{module}.start", found.append)
    return found


def check(at: AppTest) -> AppTest:
    assert not at.exception, [one.value for one in at.exception]
    return at


def opened(**query: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=60)
    at.session_state["notice_accepted"] = True
    at.switch_page(PAGE)
    for name, value in query.items():
        at.query_params[name] = value
    return check(at.run())


def words(at: AppTest) -> str:
    kinds = (at.markdown, at.caption, at.error, at.info, at.warning, at.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def ended(epoch: int) -> EpochEnd:
    return EpochEnd(epoch, 10 * epoch, 0.5, 0.75, 0.6, 0.7, ((3, 1), (2, 4)), (0.75, 0.66), (0.66, 0.75), 100, 2, 300)


def written(*events: Event) -> Run:
    """A run whose worker left these events and is gone."""
    run = create(CONFIG)
    rng = np.random.default_rng(0)
    films = rng.integers(0, 255, (10, 64, 64), dtype=np.uint8)
    names = np.array([f"film {number}" for number in range(10)])
    write_arrays(run.folder / VALIDATION_FILE, films=films, labels=np.arange(10) % 2, ids=names)
    for epoch in (1, 2):
        write_arrays(run.folder / f"pinned-{epoch}.npz", heat=rng.random((2, 8, 8)).astype(np.float16))
    writer = EventWriter(run.events)
    for event in events:
        writer.write(event)
    writer.close()
    return run


def learnt(*more: Event) -> Run:
    prepared = Prepared("CPU", "tensorflow", 1234, 30, 10, 10, 20, "conv2_act", ("film 0", "film 1"))
    return written(
        Queued(),
        Started(),
        prepared,
        ended(1),
        PinnedFilms(1, ((0.9, 0.1), (0.2, 0.8)), "pinned-1.npz"),
        Mistakes(1, ("film 2", "film 3"), (0, 1), (1, 0), (0.99, 0.8)),
        *more,
    )


def test_a_first_visit_has_one_button_to_press(launched: list[Run]) -> None:
    at = opened()
    assert "No runs yet" in words(at)
    check(at.button(key="start_run").click().run())
    (run,) = launched
    assert run.config() == next(iter(PRESETS.values())).config
    assert at.query_params["run"] in (run.id, [run.id])


@pytest.mark.parametrize("key", PRESETS)
def test_every_preset_starts_as_it_is(key: str, launched: list[Run]) -> None:
    at = opened()
    at.session_state["preset_run"] = key
    check(at.run())
    assert PRESETS[key].shows in words(at)
    check(at.button(key="start_run").click().run())
    assert launched[0].config() == PRESETS[key].config


@pytest.mark.parametrize("way", [way for way in BREAKAGES if way != "none"])
def test_every_way_of_breaking_says_what_to_look_for(way: str, launched: list[Run]) -> None:
    at = opened()
    base = next(iter(PRESETS.values())).config
    at.session_state[f"breakage {base.name}"] = way
    check(at.run())
    assert LOOK_FOR[way] in words(at)
    check(at.button(key="start_run").click().run())
    assert launched[0].config().breakage == way
    assert way in launched[0].config().name


def test_the_address_gives_the_same_run(launched: list[Run]) -> None:
    at = opened(config=CONFIG.to_query())
    check(at.button(key="start_run").click().run())
    assert launched[0].config() == CONFIG


def test_settings_stand_in_the_address(launched: list[Run]) -> None:
    at = opened()
    assert "config" not in at.query_params
    seed = next(widget for widget in at.number_input if widget.label == "Seed")
    check(seed.set_value(7).run())
    again = opened(config=str(at.query_params["config"]))
    check(again.button(key="start_run").click().run())
    assert launched[0].config() == replace(PRESETS["phantoms"].config, seed=7)


def test_settings_are_saved_and_opened_as_a_file(launched: list[Run]) -> None:
    at = opened()
    check(at.file_uploader(key="open_settings").set_value(("s.json", CONFIG.to_json().encode(), "x/json")).run())
    check(at.button(key="start_run").click().run())
    assert launched[0].config() == CONFIG


@pytest.mark.parametrize("content", [b"no JSON", b"\xff\xfe", b'{"epochs": 0}', b'{"colour": "red"}'])
def test_a_settings_file_that_is_none_is_said(content: bytes, launched: list[Run]) -> None:
    at = opened()
    check(at.file_uploader(key="open_settings").set_value(("s.json", content, "application/json")).run())
    assert at.error
    assert at.button(key="start_run")


def test_folds_come_to_mean_and_spread(launched: list[Run]) -> None:
    values = (0.8, 0.9, 0.7)
    for fold, value in zip(cross_validation(CONFIG, 3), values, strict=True):
        run = create(fold)
        estimates = {"accuracy": {"value": value, "low": 0.0, "high": 1.0}, "auc": None}
        (run.folder / "report.json").write_text(json.dumps({"validation": {"estimates": estimates}}))
    create(replace(CONFIG, folds=3, fold=1, seed=5))  # of another one, which has no second fold
    at = opened()
    (table,) = (one.value for one in at.dataframe if "Standard deviation" in one.value.columns)
    assert table["Figure"].tolist() == ["Accuracy"]
    assert table["Mean"].tolist() == [pytest.approx(np.mean(values))]
    assert table["Standard deviation"].tolist() == [pytest.approx(np.std(values, ddof=1))]
    assert table["Fold 2"].tolist() == [0.9]


def test_a_broken_address_is_an_error_and_the_page_goes_on(launched: list[Run]) -> None:
    at = opened(config=CONFIG.to_query()[:-9])
    assert "Copy the whole address again" in words(at)
    assert at.button(key="start_run")


def test_films_of_ones_own_can_be_deleted() -> None:
    report = import_archive(zipped(GOOD))
    at = opened()
    (kind,) = [one for one in at.selectbox if one.label == "Where from"]
    check(kind.set_value("Your own films").run())
    assert "8 films" in words(at)
    check(at.button(key="delete_import").click().run())
    assert "No films of your own yet" in words(at)
    with pytest.raises(DataError):
        read_import(report.name)


def test_an_unknown_run_is_said() -> None:
    at = opened(run="20200101-000000-000000")
    assert "no run" in words(at)
    assert at.button(key="start_run")


OUTCOMES: dict[State, tuple[Event, ...]] = {
    State.INTERRUPTED: (),
    State.FINISHED: (ended(2), Finished(2, 20)),
    State.STOPPED: (Stopped("stopped by a viewer", 1, 10),),
    State.FAILED: (Failed("The disk with the runs is full. Make room, then resume the run."),),
}


@pytest.mark.parametrize("state", OUTCOMES)
def test_every_outcome_is_told(state: State, launched: list[Run]) -> None:
    run = learnt(*OUTCOMES[state])
    at = opened(run=run.id)
    said = words(at)
    assert STATES[state][0] in said
    assert CONFIG.name in said
    if state in (State.INTERRUPTED, State.FAILED):
        check(at.button(key="go_on").click().run())
        assert launched == [run]
    if state is State.FAILED:
        assert "Make room" in said
    assert "pause" not in [button.key for button in at.button]


def test_what_it_gets_wrong_is_shown_surest_first_and_by_cell(launched: list[Run]) -> None:
    run = learnt(ended(2), PinnedFilms(2, ((0.5, 0.5), (0.5, 0.5)), "pinned-2.npz"), Finished(2, 20))
    at = opened(run=run.id)
    check(at.toggle(key=f"follow {run.id}").set_value(False).run())
    check(at.slider(key=f"epoch {run.id}").set_value(1).run())

    def captions() -> list[str]:
        said = [image.proto.imgs[0].caption for image in at.get("image")]
        return [caption for caption in said if ", called " in caption]

    assert captions() == ["Normal, called COVID-19 (99 %)", "COVID-19, called Normal (80 %)"]
    at.session_state["lab_cell"] = (run.id, 1, 0)
    check(at.run())
    assert captions() == ["COVID-19, called Normal (80 %)"]


def test_a_worker_can_be_told_what_to_do(launched: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = learnt(Paused(1, 10))
    sent: list[tuple[str, float | None]] = []
    monkeypatch.setattr(Run, "alive", lambda self: True)

    def send(_: Run, action: str, value: float | None = None) -> int:
        sent.append((action, value))
        return len(sent)

    monkeypatch.setattr(Run, "send", send)
    at = opened(run=run.id)
    assert STATES[State.PAUSED][0] in words(at)
    for key in ("resume", "one_step", "one_epoch", "stop", "set_rate"):
        check(at.button(key=key).click().run())
    assert [action for action, _ in sent] == ["resume", "one_step", "one_epoch", "stop", "learning_rate"]
    assert sent[-1][1] == CONFIG.learning_rate


def test_runs_are_listed_compared_and_deleted(launched: list[Run]) -> None:
    first, second = learnt(ended(2), Finished(2, 20)), learnt(Stopped("stopped by a viewer", 1, 10))
    at = opened()
    assert "Tick two or more" in words(at)
    for run in (first, second):
        at.checkbox(key=f"tick {run.id}").set_value(True)
    check(at.run())
    assert "Against each other" in words(at)
    assert "Their settings are the same" in words(at)
    assert at.button(key=f"delete {first.id}").disabled
    check(at.checkbox(key=f"sure {first.id}").set_value(True).run())
    check(at.button(key=f"delete {first.id}").click().run())
    assert [run.id for run in runs()] == [second.id]
    check(at.button(key=f"open {second.id}").click().run())
    assert "stopped by a viewer" in words(at)


def test_cross_validation_queues_a_run_a_fold(launched: list[Run]) -> None:
    run = learnt(Finished(1, 10))
    at = opened()
    check(at.number_input(key=f"folds {run.id}").set_value(3).run())
    check(at.button(key=f"cross {run.id}").click().run())
    assert [(one.config().fold, one.config().folds) for one in launched] == [(1, 3), (2, 3), (3, 3)]


def test_a_setting_that_cannot_be_is_said_at_once(launched: list[Run]) -> None:
    at = opened()
    findings = next(widget for widget in at.multiselect if widget.label == "Findings")
    check(findings.set_value(["normal"]).run())
    assert at.error
    assert "start_run" not in [button.key for button in at.button]


def test_nothing_starts_by_itself(launched: list[Run]) -> None:
    opened()
    assert launched == []
    assert runs() == ()


def test_a_network_is_kept_reads_the_films_and_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_DATA", str(write_data(tmp_path / "data")))
    run = trained()
    writer = EventWriter(run.events)
    writer.write(Finished(1, 1))
    at = opened(run=run.id)
    check(at.button(key="keep").click().run())
    assert is_kept(run)
    assert len(read_predictions(run.folder / HELD_OUT_FILE)) == len(PATTERNS)
    assert at.success
    check(at.switch_page("pages/compare_models.py").run())
    assert "Two blocks (yours)" in at.dataframe[0].value["Model"].tolist()
    at = opened(run=run.id)
    check(at.button(key="let_go").click().run())
    assert not is_kept(run)
    assert at.button(key="keep")


def test_why_a_network_cannot_be_kept_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained()
    EventWriter(run.events).write(Finished(1, 1))
    (run.folder / "predictions.csv.gz").write_bytes(b"no predictions")
    at = opened(run=run.id)
    check(at.button(key="keep").click().run())
    assert any("damaged" in error.value for error in at.error)
    assert not is_kept(run)


def test_a_worker_is_told_what_the_page_shows(launched: list[Run]) -> None:
    at = opened(config=CONFIG.to_query())
    seed = next(widget for widget in at.number_input if widget.label == "Seed")
    check(seed.set_value(7).run())
    assert warmed == [(CONFIG, False), (replace(CONFIG, seed=7), False)]


def test_the_next_worker_is_there_when_a_run_ends(launched: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = learnt()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "alive", lambda self: True)
        at = opened(run=run.id)
        check(at.run())
        assert warmed == [(None, True)], "once, and behind the training"
    check(at.run())
    assert warmed == [(None, True), (CONFIG, False)]
