"""The viewer's own models: a CSV of predictions, or a Keras file that passes the contract."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from cxrmodels.datasets.manifest import Film, read_manifest
from cxrmodels.evaluation.board import Contender, submitted
from cxrmodels.evaluation.predictions import joined, predictions_csv
from cxrmodels.evaluation.submitted import MAX_BYTES, Submission, SubmissionError, read_submission, template
from cxrmodels.findings import TITLES
from cxrmodels.markdown import plain
from cxrmodels.ui.films import ready_folder

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from cxrmodels.evaluation.contract import Contract

_OWN, _ANY_SCALING = "own_contenders", "whatever fits best"
_READ_HERE = "own_read_here"
"""Key in the session of key -> predictions, as CSV, of the networks that were read here."""
_CHUNK = 64
_PROBE_FILMS = 40


def own_contenders() -> list[Contender]:
    """What this viewer brought in this session."""
    held: dict[str, Contender] = st.session_state.get(_OWN, {})
    return list(held.values())


def _add(submission: Submission) -> str:
    """The key under which it takes part."""
    held: dict[str, Contender] = st.session_state.setdefault(_OWN, {})
    one = submitted(submission)
    others = {other.title for key, other in held.items() if key != one.key}
    # Lists and charts go by title: two files of the same name would be one line in them.
    titles = (one.title if number == 1 else f"{one.title} {number}" for number in count(1))
    held[one.key] = replace(one, title=next(title for title in titles if title not in others))
    return one.key


def show_own() -> None:
    """Two ways to bring a model, and what was brought so far."""
    for one in own_contenders():
        left, middle, right = st.columns([6, 2, 1], vertical_alignment="center")
        left.markdown(f"**{plain(one.title)}**: {len(one.evaluation):,} films, in the comparison above.")
        text = st.session_state.get(_READ_HERE, {}).get(one.key)
        if text is not None:
            middle.download_button(
                "Its predictions (CSV)",
                text,
                f"predictions-{one.key[-12:]}.csv",
                "text/csv",
                on_click="ignore",
                key=f"predictions {one.key}",
                help="With this file `evaluate --check report.html --predictions FILE.csv` makes a report again in "
                "which the network took part.",
            )
        if right.button("Remove", key=f"remove {one.key}"):
            del st.session_state[_OWN][one.key]
            st.session_state.get(_READ_HERE, {}).pop(one.key, None)
            st.rerun()
    predictions, network = st.columns(2, gap="large")
    with predictions:
        _ask_csv()
    with network:
        _ask_network()
    st.caption("What you bring is kept in memory for this session, seen by nobody else, and forgotten when you leave.")


def _ask_csv() -> None:
    st.markdown("##### Predictions, as CSV")
    st.markdown(
        "One row a film: `image_id`, `finding` (what it is) and a column `p_FINDING` for each finding the model knows; "
        "`source`, `group_id` (patient), `age_group` and `view` if you have them."
    )
    st.download_button(
        "Example CSV", template(), "predictions-example.csv", "text/csv", on_click="ignore", key="own_template"
    )
    file = st.file_uploader("Your predictions", max_upload_size=MAX_BYTES // 1000**2, key="own_csv")
    if file is None:
        return
    try:
        submission = _submission(file.file_id, file)
    except SubmissionError as error:
        st.error(plain(str(error)), icon=":material/table_chart:")
        return
    for note in submission.notes:
        st.caption(plain(note))
    _offer(submission, "csv")


def _offer(submission: Submission, key: str) -> None:
    if submitted(submission).key in st.session_state.get(_OWN, {}):
        return
    if st.button(f"Add {plain(submission.name)} to the comparison", type="primary", key=f"add {key}"):
        _add(submission)
        st.rerun()


@st.cache_resource(scope="session", max_entries=4, show_spinner="Reading the file")
def _submission(file_id: str, _file: UploadedFile) -> Submission:
    return read_submission(_file.getvalue(), _file.name)


def _ask_network() -> None:
    st.markdown("##### A network, as .keras")
    st.markdown(
        "A Keras 3 file with one film as input and one score a finding as output. It is opened without running any "
        "code from it, and probed before it takes part."
    )
    file = st.file_uploader("Your network", max_upload_size=1000, key="own_keras")
    findings = st.multiselect(
        "What its outputs mean, in their order", list(TITLES), format_func=TITLES.__getitem__, key="own_findings"
    )
    from cxrmodels.evaluation.contract import SCALINGS

    scaling = st.selectbox("Grey levels it expects", [_ANY_SCALING, *SCALINGS], key="own_scaling")
    if file is None or len(findings) < 2:
        st.caption("Choose a file and at least two findings.")
        return
    contract = _contract(file, tuple(findings), None if scaling == _ANY_SCALING else scaling)
    if contract is None:
        return
    for probe in contract.probes:
        icon = ":material/check_circle:" if probe.passed else ":material/cancel:"
        st.markdown(f"{icon} **{probe.name}**: {plain(probe.detail)}")
    if not contract.passed:
        st.error("It cannot take part until the failed probes pass.", icon=":material/cancel:")
        return
    folder = ready_folder()
    if folder is None:
        st.info(
            "It passed. To take part it needs labelled films, and there is no data folder on this machine: run it "
            "yourself and bring its predictions as CSV.",
            icon=":material/folder_off:",
        )
        return
    films = [film for film in read_manifest(folder) if film.split in ("test", "external")]
    count = st.select_slider("Films to read with it", [200, 500, 1000, len(films)], 200, key="own_count")
    if st.button("Read the films and add it to the comparison", type="primary", key="own_run"):
        _run(contract, _spread(films, count), file.name)


@st.cache_resource(scope="session", max_entries=2, show_spinner="Opening and probing the network")
def _checked(file_id: str, findings: tuple[str, ...], scaling: str | None, _file: UploadedFile) -> Contract:
    from cxrmodels.evaluation.contract import SYNTHETIC_FILMS, check_model
    from cxrmodels.phantom import phantoms
    from cxrmodels.radiograph import read_radiograph

    folder = ready_folder()
    if folder is None:
        made = phantoms(_PROBE_FILMS, seed=1)
        films, what = [(one.pixels, one.finding) for one in made], SYNTHETIC_FILMS
    else:
        chosen = _spread([film for film in read_manifest(folder) if film.split == "val"], _PROBE_FILMS)
        films = [(read_radiograph(film.path.read_bytes(), film.path.name).pixels, film.finding) for film in chosen]
        what = "real validation films"
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "network.keras"
        path.write_bytes(_file.getvalue())
        return check_model(path, films, findings=findings, films_are=what, scaling=scaling)


def _contract(file: UploadedFile, findings: tuple[str, ...], scaling: str | None) -> Contract | None:
    from cxrmodels.evaluation.keras_file import ContractError

    try:
        return _checked(file.file_id, findings, scaling, file)
    except ContractError as error:
        st.error(plain(str(error)), icon=":material/extension_off:")
        return None


def _spread(films: Sequence[Film], count: int) -> list[Film]:
    """So many films, evenly over findings and sources, always the same ones."""
    places: dict[tuple[str, str], list[Film]] = {}
    for film in sorted(films, key=lambda film: film.sha256):
        places.setdefault((film.finding, film.source), []).append(film)
    rounds = (members[turn] for turn in range(len(films)) for members in places.values() if turn < len(members))
    return [film for film, _ in zip(rounds, range(count), strict=False)]


def _run(contract: Contract, films: list[Film], name: str) -> None:
    from cxrmodels.evaluation.contract import to_evaluation

    bar = st.progress(0.0, "Reading films")
    parts = []
    for start in range(0, len(films), _CHUNK):
        parts.append(to_evaluation(contract, films[start : start + _CHUNK]))
        done = min(start + _CHUNK, len(films))
        bar.progress(done / len(films), f"{done} of {len(films)} films read")
    # By way of the file that the viewer can take along: whoever checks a report later has that, not the network.
    text = predictions_csv(joined(parts))
    key = _add(read_submission(text.encode(), name))
    st.session_state.setdefault(_READ_HERE, {})[key] = text
    st.rerun()
