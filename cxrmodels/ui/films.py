"""Choosing a film: the viewer's own uploads, and films that are ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from cxrmodels.datasets.manifest import ManifestError, data_folder
from cxrmodels.datasets.ready import ReadyFilm, phantom_films, real_films, source_of
from cxrmodels.radiograph import MAX_BYTES, Radiograph, RadiographError, read_radiograph, resize, to_png

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

_THUMBNAIL = 128
# Session keys, none of them a widget's: what is chosen must outlive a visit to another page.
_CHOSEN, _OPEN, _PROBLEMS = "chosen_film", "open_film", "upload_problems"


@dataclass(frozen=True, slots=True)
class ChosenFilm:
    """The film on the page; the source it is known to come from, and what its data set calls it."""

    radiograph: Radiograph
    source: str | None
    label: str


@st.cache_resource(show_spinner=False)
def _ready() -> tuple[dict[str, ReadyFilm], Path | None, str]:
    """Ready films by key, the data folder, and what is wrong with it, if anything is."""
    films, folder, problem = list(phantom_films()), None, ""
    try:
        folder = data_folder()
        if folder:
            films = [*real_films(folder), *films]
    except ManifestError as error:
        problem = str(error)
    return {film.key: film for film in films}, folder, problem


@st.cache_data(max_entries=64, show_spinner=False)
def _thumbnail(key: str) -> bytes:
    return to_png(resize(_ready()[0][key].open().pixels, _THUMBNAIL, _THUMBNAIL))


def _choose(key: str) -> None:
    st.session_state[_CHOSEN] = key


def _uploads() -> dict[str, UploadedFile]:
    """The viewer's readable files by id, the others named with what is wrong. The newest is chosen by itself."""
    files = st.file_uploader(
        "Drop chest radiographs here",
        accept_multiple_files=True,
        max_upload_size=MAX_BYTES // 2**20,
        key="uploads",
        help="PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM. What a file is, is told from its content.",
    )
    found = {file.file_id: file for file in files}
    problems: dict[str, str] = st.session_state.setdefault(_PROBLEMS, {})
    for key in [key for key in problems if key not in found]:
        del problems[key]
    for key, file in found.items():
        if key not in problems:
            problems[key] = _problem(file)
            if not problems[key]:
                _choose(key)
    for key, problem in problems.items():
        if problem:
            st.error(f"`{_plain(found[key].name)}` {problem}", icon=":material/broken_image:")
    return {key: file for key, file in found.items() if not problems[key]}


def _problem(file: UploadedFile) -> str:
    """Why a file cannot be read as a radiograph; empty when it can."""
    try:
        read_radiograph(file.getvalue(), file.name)
    except RadiographError as error:
        return str(error)
    return ""


def _gallery(films: dict[str, ReadyFilm]) -> None:
    st.caption("Or take one that is ready")
    with st.container(horizontal=True, wrap=False, gap="small", key="gallery"):
        for film in films.values():
            with st.container(width=_THUMBNAIL + 2, gap=None):
                st.image(
                    _thumbnail(film.key),
                    width=_THUMBNAIL,
                    alt=f"Chest radiograph. {film.title}: {film.label}. {film.detail}.",
                )
                st.button(
                    film.title,
                    key=f"open {film.key}",
                    help=film.detail,
                    on_click=_choose,
                    args=(film.key,),
                    width="stretch",
                    type="primary" if st.session_state.get(_CHOSEN) == film.key else "secondary",
                )


def _open(key: str, uploads: dict[str, UploadedFile]) -> ChosenFilm:
    """The film of a key.

    Raises:
        OSError, RadiographError: a ready film is no longer what it was.
    """
    ready, folder, _ = _ready()
    if key in uploads:
        radiograph = read_radiograph(uploads[key].getvalue(), uploads[key].name)
        return ChosenFilm(radiograph, source_of(folder, radiograph.sha256), "")
    film = ready[key]
    return ChosenFilm(film.open(), film.source, film.label)


def _plain(name: str) -> str:
    """A file name that Markdown shows as it is, and that fits on the page."""
    return "".join(letter if letter.isprintable() and letter != "`" else "?" for letter in name[:80])


def choose_film() -> ChosenFilm | None:
    """Drop zone, the list of uploads and the gallery; returns the film that is chosen, read once a choice."""
    ready, _, problem = _ready()
    uploads = _uploads()
    if problem:
        st.warning(problem, icon=":material/folder_off:")
    if len(uploads) > 1:
        chosen = st.session_state.get(_CHOSEN)
        names = list(uploads)
        picked = st.pills(
            "Your films",
            names,
            default=chosen if chosen in uploads else None,
            format_func=lambda key: _plain(uploads[key].name),
            # A new key where the choice was made elsewhere: the pills then show it instead of their old state.
            key=f"pick {chosen if chosen in uploads else ''} {len(names)}",
        )
        if picked and picked != chosen:
            _choose(picked)
    _gallery(ready)
    key = st.session_state.get(_CHOSEN)
    if key is None or (key not in uploads and key not in ready):
        st.session_state.pop(_OPEN, None)
        return None
    held = st.session_state.get(_OPEN)
    if held is None or held[0] != key:
        try:
            held = (key, _open(key, uploads))
        except (OSError, RadiographError) as error:
            st.error(f"This film can no longer be read: {error}", icon=":material/broken_image:")
            return None
        st.session_state[_OPEN] = held
    opened: ChosenFilm = held[1]
    return opened
