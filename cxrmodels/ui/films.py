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
_CHOSEN, _OPEN, _UPLOADS = "chosen_film", "open_film", "known_uploads"


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
    """The viewer's files by id. The newest is chosen by itself."""
    files = st.file_uploader(
        "Drop chest radiographs here",
        accept_multiple_files=True,
        max_upload_size=MAX_BYTES // 2**20,
        key="uploads",
        help="PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM. What a file is, is told from its content.",
    )
    found = {file.file_id: file for file in files}
    new = [key for key in found if key not in st.session_state.get(_UPLOADS, ())]
    st.session_state[_UPLOADS] = tuple(found)
    if new:
        _choose(new[-1])
    return found


def _gallery(films: dict[str, ReadyFilm]) -> None:
    st.caption("Or take one that is ready:")
    with st.container(horizontal=True, gap="small", key="gallery"):
        for film in films.values():
            with st.container(width=_THUMBNAIL + 2, gap=None):
                st.image(_thumbnail(film.key), width=_THUMBNAIL, alt=f"Chest radiograph. {film.title}. {film.detail}.")
                st.button(
                    film.title,
                    key=f"open {film.key}",
                    help=film.detail,
                    on_click=_choose,
                    args=(film.key,),
                    width="stretch",
                    type="primary" if st.session_state.get(_CHOSEN) == film.key else "secondary",
                )


def _open(key: str, uploads: dict[str, UploadedFile]) -> ChosenFilm | None:
    """The film of a key; None with a message on the page when it cannot be read."""
    ready, folder, _ = _ready()
    try:
        if key in uploads:
            radiograph = read_radiograph(uploads[key].getvalue(), uploads[key].name)
            return ChosenFilm(radiograph, source_of(folder, radiograph.sha256), "")
        film = ready[key]
        return ChosenFilm(film.open(), film.source, "" if film.source is None else film.title)
    except RadiographError as error:
        name = uploads[key].name if key in uploads else ready[key].title
        st.error(f"`{_plain(name)}` {error}", icon=":material/broken_image:")
    except OSError as error:
        st.error(f"The film cannot be read from the data folder ({error.strerror}).")
    return None


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
        film = _open(key, uploads)
        if film is None:
            st.session_state.pop(_OPEN, None)
            return None
        st.session_state[_OPEN] = held = (key, film)
    opened: ChosenFilm = held[1]
    return opened
