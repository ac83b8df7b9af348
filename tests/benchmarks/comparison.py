"""The comparison page with nine models of 2,500 films each, and a large file of somebody's own predictions.

Alone: `python -m tests.benchmarks.comparison`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import streamlit as st
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score
from streamlit.testing.v1 import AppTest

from cxrmodels.datasets.manifest import DATA_VARIABLE
from cxrmodels.evaluation import board, metrics
from cxrmodels.evaluation.board import COST, EQUAL, SENSITIVE, SPECIFIC, contender
from cxrmodels.evaluation.metrics import UNSEEN, figures
from cxrmodels.evaluation.questions import QUESTIONS, Answers, answer
from cxrmodels.service import Service
from cxrmodels.ui.comparison.page import PARTS
from cxrmodels.zoo import SPECS, WEIGHTS_VARIABLE, shipped
from tests.benchmarks.page import ROOT
from tests.test_board import TWO, Rows, evaluation, put
from tests.test_evaluation import FOUR

FILMS, LARGE, LARGER = 2500, 200_000, 20_000
ROUNDS = 5
_TABLE, _CURVES, _PAIRS, _FAILS, _ = PARTS


def _rows() -> list[Rows]:
    """2,500 films of the two classes that every model knows, a few of the others, and validation films."""
    places = (("seen", "test"), ("also seen", "test"), ("far", "external"), ("farther", "external"))
    films = [Rows(source, split, label, FILMS // 8) for source, split in places for label in TWO]
    films += [Rows(source, split, label, 40) for source, split in places for label in FOUR[2:]]
    return [*films, *(Rows("seen", "val", label, 60) for label in FOUR)]


def _prepared() -> None:
    """All that is computed in the background has been."""
    for thread in threading.enumerate():
        if thread.name == "comparison":
            thread.join()


def _forget() -> None:
    """Nothing is remembered any more, as after a start, and nothing is prepared in the background."""
    _prepared()
    st.cache_data.clear()
    st.cache_resource.clear()
    board._shared._held.clear()
    metrics._weights_of.cache_clear()


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _opened() -> AppTest:
    """A session whose next run is the comparison's."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300)
    app.session_state["notice_accepted"] = True
    return app.run().switch_page("pages/compare_models.py")


def _checked(app: AppTest) -> AppTest:
    assert not app.exception, app.exception
    assert any("answers best" in str(one.value) for one in app.markdown)
    return app


def _page() -> list[tuple[str, str]]:
    _checked(_opened().run())  # libraries are imported: their time is the program's, once a start
    times = []
    for _ in range(ROUNDS):
        _forget()
        app = _opened()
        times.append(_seconds(app.run))
        _checked(app)
    found = [(f"the page opens, {len(SPECS)} models of {FILMS:,} films, nothing remembered", times)]
    found.append(("run again, all remembered", [_seconds(lambda: _checked(app.run())) for _ in range(ROUNDS)]))

    def ask(key: str) -> float:
        app.selectbox(key="question").set_value(key)
        taken = _seconds(app.run)
        _checked(app)
        return taken

    first, second, *others = QUESTIONS
    _forget()
    app = _opened()
    app.run()
    found.append(("another question at once, before it was prepared in the background", [ask(second)]))
    found.append(("until every question is prepared in the background, no viewer served", [_seconds(_prepared)]))
    found.append(("another question, asked for the first time", [ask(key) for key in others]))
    app.selectbox(key="question").set_value(first)
    app.session_state["part"] = _CURVES
    found.append(("to curves and matrices", [_seconds(lambda: _checked(app.run()))]))
    moved = []
    for step in range(ROUNDS):
        app.slider(key="threshold").set_value(0.61 + step / 100)
        moved.append(_seconds(app.run))
        _checked(app)
    found.append(("the threshold moves, each time to a new place", moved))
    charts = []
    for chart in ("Precision and recall", "Reliability", "Scores"):
        app.session_state["curve"] = chart
        charts.append(_seconds(lambda: _checked(app.run())))
    found.append(("another chart, the slowest of them", [max(charts)]))
    presets = []
    for preset in (EQUAL, SENSITIVE, SPECIFIC, COST):
        app.selectbox(key="preset").set_value(preset)
        presets.append(_seconds(lambda: _checked(app.run())))
    found.append(("another preset, the slowest of them", [max(presets)]))
    app.selectbox(key="films").set_value("far")
    found.append(("to one source, for the first time", [_seconds(lambda: _checked(app.run()))]))
    app.selectbox(key="films").set_value(UNSEEN)
    app.selectbox(key="age").set_value("adult")
    found.append(("to one age group, for the first time", [_seconds(lambda: _checked(app.run()))]))
    app.selectbox(key="age").set_value("any")
    app.run()
    for part, name in ((_PAIRS, "to model against model: 36 pairs"), (_FAILS, "to where it fails")):
        app.session_state["part"] = part
        found.append((name, [_seconds(lambda: _checked(app.run()))]))
    return [(f"{what} (script time)", f"{statistics.median(times):.2f} s") for what, times in found]


def _answers() -> list[Answers]:
    question = QUESTIONS[next(iter(QUESTIONS))]
    found = []
    for key in shipped():
        one = contender(key)
        # Seen and unseen films together: as many as a large comparison holds.
        found.append(answer(question, one.evaluation.where(one.evaluation.splits != "val"), one.temperature))
    return found


def _once_with_sklearn(answers: Answers, rng: np.random.Generator) -> None:
    """One resample's figures by scikit-learn: what a plain loop would repeat 2,000 times."""
    drawn = rng.integers(0, len(answers), len(answers))
    positive, score = answers.positive()[drawn], answers.score()[drawn]
    roc_auc_score(positive, score)
    average_precision_score(positive, score)
    confusion_matrix(positive, score >= 0.5)


def _resampling() -> list[tuple[str, str]]:
    everybody = _answers()

    def all_figures() -> None:
        metrics._weights_of.cache_clear()
        for answers in everybody:
            figures(answers, 0.5, resamples=board.RESAMPLES)

    taken = statistics.median(_seconds(all_figures) for _ in range(3))
    rng = np.random.default_rng(0)

    def once() -> None:
        for answers in everybody:
            _once_with_sklearn(answers, rng)

    plain = statistics.median(_seconds(once) for _ in range(ROUNDS))
    films = len(everybody[0])
    return [
        (
            f"{board.RESAMPLES:,} resamples of all metrics, {len(everybody)} models, {films:,} films each (target 2 s)",
            f"{taken:.2f} s",
        ),
        (
            "the same resample by resample with scikit-learn, three of its figures alone, would take",
            f"{plain * board.RESAMPLES / taken:.0f} x",
        ),
    ]


def write_large(path: Path, count: int) -> None:
    """A CSV of so many films with every column a submission may have."""
    rng = np.random.default_rng(0)
    p = rng.random(count).round(6)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("image_id,finding,source,split,group_id,age_group,view,width,height,exposure,p_normal,p_covid19\n")
        for number, value in enumerate(p.tolist()):
            label = "covid19" if value + rng.normal() / 2 > 0.5 else "normal"
            stream.write(
                f"hospital/2020/film-{number:07},{label},hospital {number % 5},external,patient-{number // 2},adult,"
                f"PA,2048,2500,0.{number % 1000:03},{1 - value:.6f},{value:.6f}\n"
            )


_READ = """
import re, sys, time
from pathlib import Path
from cxrmodels.evaluation.board import Films, compare_on, submitted
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.evaluation.submitted import read_submission
data = Path(sys.argv[1]).read_bytes()
started = time.perf_counter()
found = read_submission(data, "large.csv")
if sys.argv[2] == "compare":
    started = time.perf_counter()
    assert compare_on([submitted(found)], QUESTIONS["covid_normal"], Films()).standings
taken = time.perf_counter() - started
# Not the peak that getrusage tells: it is handed down by whoever starts a process.
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(len(found.evaluation), taken, int(peak) / 1024)
"""


def _own_file() -> list[tuple[str, str]]:
    """In processes of their own: what was measured before must not count as their memory."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        for count, what in ((LARGE, "read"), (LARGER, "compare")):
            write_large(path, count)
            done = subprocess.run(
                [sys.executable, "-c", _READ, str(path), what], cwd=ROOT, capture_output=True, text=True, check=True
            )
            films, taken, peak = done.stdout.split()
            assert int(films) == count
            name = (
                f"a CSV of {count:,} films is read (targets 10 s, 1,000 MB)"
                if what == "read"
                else f"one of {count:,} films, read already, gets its figures and intervals"
            )
            found.append((name, f"{float(taken):.1f} s, {float(peak):,.0f} MB at most"))
    return found


def measure_comparison() -> list[tuple[str, str]]:
    """(what, figure) of the comparison, on made-up films."""
    before = {name: os.environ.pop(name, None) for name in (WEIGHTS_VARIABLE, DATA_VARIABLE)}
    warm_up = Service.warm_up
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number, (key, model) in enumerate(SPECS.items()):
                put(Path(folder), key, evaluation(_rows(), model.findings, signal=1 + number / 8, seed=number))
            os.environ[WEIGHTS_VARIABLE] = folder
            # No network is there to be loaded, and none is needed.
            Service.warm_up = lambda self, keys, then: None  # type: ignore[method-assign]
            return [*_page(), *_resampling(), *_own_file()]
    finally:
        Service.warm_up = warm_up  # type: ignore[method-assign]
        os.environ.pop(WEIGHTS_VARIABLE, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})
        _forget()


if __name__ == "__main__":
    for what, figure in measure_comparison():
        print(f"{what}: {figure}")
