"""Choosing films, models and labels; one click begins."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cxrmodels import models
from cxrmodels.batch.films import BatchError, folder_sources
from cxrmodels.batch.jobs import Asked, Job, JobError, create
from cxrmodels.batch.labels import read_labels
from cxrmodels.batch.uploads import hold
from cxrmodels.markdown import plain
from cxrmodels.ui.batch.places import may_name_folders, named_folder
from cxrmodels.zoo import ModelError

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

MOST_MB = 1000
"""Of one file that is dropped."""
MINE = "own_batches"
"""Key in the session of the ids of this viewer's batches."""

_FILES, _FOLDER, _SERVER = "Files or zip archives", "A folder of yours", "A folder on the server"


def show_setup() -> None:
    """Where the films are, who reads them, and the button."""
    ways = [_FILES, _FOLDER, *([_SERVER] if may_name_folders() else [])]
    way = st.segmented_control("Films from", ways, default=_FILES, required=True, key="batch_way")
    dropped: list[UploadedFile] = []
    path = ""
    if way == _SERVER:
        path = st.text_input("Path on the server", key="batch_folder", placeholder="/data/films")
    else:
        dropped = drop_zone(folder=way == _FOLDER, key=f"batch_films {way}")
    keys = models.available()
    left, right = st.columns(2, gap="medium")
    with left:
        chosen = st.multiselect("Read by", keys, list(keys), format_func=title_of, key="batch_models")
    with right:
        listed = st.file_uploader(
            "Labels, if you have them: a CSV with the columns file and label",
            type="csv",
            max_upload_size=50,
            key="batch_labels",
            help="A file is named as in the table or by its last part; a label is a finding, such as normal, covid19, "
            "bacterial_pneumonia. With labels the models are measured on your films at once.",
        )
    st.caption(
        "Without such a file, folders that are named after a finding (normal, covid19, ...) label the films in them. "
        "Films that you drop are held in memory until the batch is done or deleted, an hour at most while it is "
        "stopped; of the rest only the table is kept, until you delete it or nobody has touched it for 30 days."
    )
    ready = bool(chosen) and (bool(dropped) or bool(path.strip()))
    if st.button("Read them", type="primary", icon=":material/play_arrow:", key="begin_batch", disabled=not ready):
        try:
            labels = read_labels(listed.getvalue(), plain(listed.name)) if listed else None
            job = _begun(path, dropped, tuple(chosen), labels)
        except (BatchError, JobError) as error:
            st.error(plain(str(error)), icon=":material/error:")
        except OSError as error:
            st.error(f"The folder of batches cannot be written: {plain(str(error.strerror))}.", icon=":material/error:")
        else:
            st.session_state.setdefault(MINE, []).append(job.id)
            st.query_params["batch"] = job.id
            st.rerun()


def drop_zone(*, folder: bool, key: str) -> list[UploadedFile]:
    """Where films are dropped: files and zip archives, or a folder with all below it."""
    return st.file_uploader(
        "Choose a folder of radiographs" if folder else "Drop radiographs here, several at once, or zip archives",
        accept_multiple_files="directory" if folder else True,
        max_upload_size=MOST_MB,
        key=key,
        help="PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM. Folders within archives are read, too.",
    )


def title_of(key: str) -> str:
    """A model's name for readers; of one that is gone its key."""
    try:
        return models.card(key).title
    except ModelError:
        return key


def _begun(path: str, dropped: Sequence[UploadedFile], keys: tuple[str, ...], labels: dict[str, str] | None) -> Job:
    """A job with a worker at it.

    Raises:
        BatchError, JobError: it cannot be begun.
        OSError: its folder cannot be written.
    """
    by_folder = labels is None
    if path:
        folder = named_folder(path)
        count = len(folder_sources(folder))
        job = create(Asked(f"{count:,} films of {folder.name}", keys, str(folder), (), labels, by_folder))
        job.start()
        return job
    with ExitStack() as stack:
        uploads = stack.enter_context(hold(dropped))
        count = len(uploads.films())
        name = f" of {dropped[0].name}" if len(dropped) == 1 else ""
        job = create(Asked(f"{count:,} films{name}", keys, "", uploads.names, labels, by_folder))
        job.start(uploads)
    let_go(dropped)
    return job


def let_go(dropped: Sequence[UploadedFile]) -> None:
    """Drop the page's copy of films that a worker has now."""
    context = get_script_run_ctx()
    if context is None or not isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        return
    for file in dropped:
        # Streamlit would keep it as long as the session.
        context.uploaded_file_mgr.remove_file(session_id=context.session_id, file_id=file.file_id)
