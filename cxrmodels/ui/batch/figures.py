"""What the models are worth on the labelled films of a batch: the comparison's own figures, charts and report."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from cxrmodels import models
from cxrmodels.batch.jobs import Job
from cxrmodels.batch.labels import submissions
from cxrmodels.evaluation.board import Contender, Films, compare_on, submitted
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.evaluation.report import Setting
from cxrmodels.evaluation.submitted import SubmissionError
from cxrmodels.markdown import plain
from cxrmodels.ui.batch.live import rows_so_far
from cxrmodels.ui.batch.setup import title_of
from cxrmodels.ui.comparison.decisions import ask_threshold
from cxrmodels.ui.comparison.export import show_export
from cxrmodels.ui.comparison.overview import show_answer
from cxrmodels.ui.comparison.page import CURVES, PAIRS, TABLE, show_part
from cxrmodels.zoo import ModelError


@st.cache_resource(scope="session", max_entries=2, show_spinner="Measuring")
def _contenders(job_id: str, length: int, _job: Job) -> list[tuple[Contender, str]]:
    """Those who answered, and the file of predictions of each, which makes a report's figures again.

    Raises:
        ModelError: a model of the batch is gone.
        SubmissionError: the table was changed.
    """
    asked = _job.asked()
    findings = {key: models.spec(key).findings for key in asked.models}
    titles = {key: title_of(key) for key in asked.models}
    found = submissions(rows_so_far(job_id, length, _job).to_pylist(), findings, titles)
    return [(replace(submitted(one), title=titles[key]), text) for key, (one, text) in found.items()]


def show_figures(job: Job) -> None:
    """The comparison of the batch's models, where films have labels."""
    length = job.status().progress.length
    if not length:
        return
    try:
        found = _contenders(job.id, length, job)
    except (ModelError, SubmissionError) as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    if not found:
        return
    st.divider()
    st.subheader("What the models are worth on your labelled films")
    key = st.selectbox(
        "Question", list(QUESTIONS), format_func=lambda name: QUESTIONS[name].title, key="batch_question"
    )
    question, contenders = QUESTIONS[key], [one for one, _ in found]
    answer = st.container()
    part = st.segmented_control(
        "Look closer", (TABLE, CURVES, PAIRS), default=TABLE, required=True, key="batch_part", width="stretch"
    )
    level, preset, ratio = ask_threshold(question) if part == CURVES else (0.5, None, 1.0)
    board = compare_on(contenders, question, Films(), threshold=level, preset=preset, cost_ratio=ratio)
    with answer:
        show_answer(board)
        st.caption(
            "Nothing is known of where these films come from, so they count as unseen: of a collection that a network "
            "learnt from, its figures are too good. Each film counts as a patient of its own; with several of a "
            "patient, intervals are too narrow."
        )
    if not board.standings:
        return
    show_part(board, part, level)
    show_export(board, Setting(level, preset, ratio))
    with st.popover("Predictions, for checking a report", icon=":material/download:"):
        st.markdown("`python -m cxrmodels evaluate --check report.html --predictions FILE.csv ...` makes it again.")
        for one, text in found:
            name = f"{one.title}.csv"
            st.download_button(name, text, name, "text/csv", key=f"batch predictions {one.key}", on_click="ignore")
