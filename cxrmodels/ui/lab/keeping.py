"""Keeping a run's network: from then on it answers beside the shipped models."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from cxrmodels.datasets.manifest import ManifestError, read_manifest
from cxrmodels.evaluation.predictions import PredictionsError
from cxrmodels.inference import read_films
from cxrmodels.lab.kept import HELD_OUT_FILE, is_kept, keep, key_of, let_go, note_held_out, spec
from cxrmodels.lab.store import MODEL_FILE, REPORT_FILE, Run, RunError
from cxrmodels.markdown import plain
from cxrmodels.radiograph import RadiographError
from cxrmodels.ui.films import ready_folder
from cxrmodels.ui.frame import service
from cxrmodels.zoo import ModelError


def show_keeping(run: Run) -> None:
    """The button that puts a run's network beside the shipped ones, or takes it away again."""
    if not (run.folder / MODEL_FILE).is_file() or not (run.folder / REPORT_FILE).is_file():
        return
    if is_kept(run):
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.success("Kept: it answers beside the shipped networks, marked as yours.", icon=":material/bookmark_added:")
        with left.container(horizontal=True):
            st.page_link("pages/read_a_film.py", label="Read a film with it", icon=":material/radiology:")
            st.page_link("pages/compare_models.py", label="Compare it", icon=":material/compare_arrows:")
        if right.button("Let it go", key="let_go", width="stretch", help="The run stays, with all it holds."):
            let_go(run)
            st.rerun()
        if not (run.folder / HELD_OUT_FILE).is_file() and ready_folder() is not None:
            st.caption("The comparison needs its answers on the data folder's films; they were not read, or not all.")
            if st.button("Read them now", key="read_held_out"):
                _tried(run, lambda: _read_held_out(run))
    elif st.button(
        "Keep this network",
        key="keep",
        type="primary",
        icon=":material/bookmark_add:",
        help="It then stands on the X-ray page and in the comparison. With a data folder it first reads those films "
        "that nothing learns from.",
    ):

        def keep_and_read() -> None:
            keep(run)
            _read_held_out(run)

        _tried(run, keep_and_read)


def _tried(run: Run, act: Callable[[], object]) -> None:
    try:
        act()
    except (RunError, ModelError, ManifestError, PredictionsError, RadiographError) as error:
        st.error(plain(str(error)), icon=":material/error:")
    except OSError as error:
        st.error(f"Run {run.id}: {plain(str(error.strerror))}. See to the folder of runs.", icon=":material/error:")
    else:
        st.rerun()


def _read_held_out(run: Run) -> None:
    """What the comparison is made on: films of the data folder that nothing learnt from, the lab's runs included."""
    folder = ready_folder()
    if folder is None:
        return
    films = [film for film in read_manifest(folder) if film.split in ("test", "external")]
    if not films:
        return
    bar = st.progress(0.0, "Opening the network")
    key = key_of(run)
    engine = service().engine(key).result()

    def report(done: int) -> None:
        bar.progress(done / len(films), f"{done:,} of {len(films):,} films read")

    note_held_out(run, read_films(lambda batch: engine.run(batch).logits, spec(key), films, report=report))
