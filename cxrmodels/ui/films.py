"""Choosing a film: the viewer's own uploads, and films that are ready."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from cxrmodels.datasets.manifest import ManifestError, data_folder
from cxrmodels.datasets.ready import ReadyFilm, listed, listed_as, phantom_films, real_films
from cxrmodels.markdown import plain
from cxrmodels.radiograph import MAX_BYTES, Radiograph, RadiographError, read_radiograph, resize, to_png
from cxrmodels.ui.gallery import Item, gallery

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

_THUMBNAIL = 128
# Session keys, none of them a widget's: what is chosen must outlive a visit to another page.
_CHOSEN, _OPEN, _PROBLEMS, _CHANGED = "chosen_film", "open_film", "upload_problems", "uploads_changed"
_LEAVE = "leave_for"


@dataclass(frozen=True, slots=True)
class ChosenFilm:
    """The film on the page; where it is known, the source it comes from and the finding its data set states."""

    radiograph: Radiograph
    source: str | None
    finding: str | None


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


def ready_folder() -> Path | None:
    """The data folder, where there is one that can be read."""
    return _ready()[1]


def _film(key: str) -> ReadyFilm | None:
    """A film that needs no upload: one of the ready ones, or any other of the data folder."""
    films, folder, _ = _ready()
    return films.get(key) or listed_as(folder, key)


@st.cache_data(max_entries=256, show_spinner=False)
def _thumbnail(key: str, _film: ReadyFilm) -> bytes:
    return to_png(resize(_film.small().pixels, _THUMBNAIL, _THUMBNAIL))


def _choose(key: str) -> None:
    st.session_state[_CHOSEN] = key


def _note_change() -> None:
    st.session_state[_CHANGED] = True


def _uploads() -> dict[str, UploadedFile]:
    """The viewer's readable files by id, the others named with what is wrong. The newest is chosen by itself."""
    files = st.file_uploader(
        "Drop chest radiographs here: PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM",
        accept_multiple_files=True,
        max_upload_size=MAX_BYTES // 2**20,
        key="uploads",
        help="What a file is, is told from its content, not from its name.",
        on_change=_note_change,
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


def _plain(name: str) -> str:
    """A file name that fits on the page and into a Markdown code span."""
    return "".join(letter if letter.isprintable() and letter != "`" else "?" for letter in name[:80])


def escaped(name: str) -> str:
    """A file name for a label, which Streamlit reads as Markdown: unescaped, a name could load a remote picture."""
    return re.sub(r"([^\w\s.-]|_)", r"\\\1", _plain(name))


def _pick_upload(uploads: dict[str, UploadedFile]) -> None:
    chosen = st.session_state.get(_CHOSEN)
    picked = st.pills(
        "Your films",
        list(uploads),
        default=chosen if chosen in uploads else None,
        format_func=lambda key: escaped(uploads[key].name),
        # A new key where the choice was made elsewhere: the pills then show it instead of their old state.
        key=f"pick {chosen if chosen in uploads else ''} {len(uploads)}",
    )
    if picked and picked != chosen:
        _choose(picked)


def show_strip(films: Iterable[ReadyFilm], *, label: str, key: str, then: str | None = None) -> None:
    """Films to choose from, each a picture.

    Args:
        films: of the data folder, or drawn.
        label: what the strip is, for readers who do not see it.
        key: identity on the page.
        then: the page that shows what is chosen, where it is not this one.
    """
    shown, lost = [], []
    for film in films:
        try:
            about = f"Open chest radiograph: {film.title}. {film.detail}."
            shown.append(Item(film.key, film.title, about, _thumbnail(film.key, film)))
        except (OSError, RadiographError):
            lost.append(film.title)
    if lost:
        st.warning(f"Not readable in the data folder: {plain(', '.join(lost))}.", icon=":material/broken_image:")

    def pick(film: str) -> None:
        _choose(film)
        st.session_state[_LEAVE] = then

    gallery(shown, label=label, chosen=st.session_state.get(_CHOSEN), on_pick=pick, key=key)
    # Not in the callback: the page can only be changed by the script.
    if page := st.session_state.pop(_LEAVE, None):
        st.switch_page(page)


def _open(key: str, uploads: dict[str, UploadedFile]) -> ChosenFilm:
    """The film of a key.

    Raises:
        OSError, RadiographError: a ready film is no longer what it was.
    """
    if key in uploads:
        radiograph = read_radiograph(uploads[key].getvalue(), uploads[key].name)
        film = listed(ready_folder(), radiograph.sha256)
        return ChosenFilm(radiograph, film.source if film else None, film.finding if film else None)
    ready = _film(key)
    assert ready is not None, "only films that exist are chosen"
    return ChosenFilm(ready.open(), ready.source, ready.finding)


def choose_film() -> ChosenFilm | None:
    """Drop zone, the list of uploads and the gallery; returns the film that is chosen, read once a choice."""
    # In one place, whatever stands in it: what follows would move, and show parts of its last film where it was.
    with st.container():
        return _choose_film()


def _choose_film() -> ChosenFilm | None:
    ready, _, problem = _ready()
    changed = st.session_state.pop(_CHANGED, False)
    uploads = _uploads()
    if problem:
        st.warning(plain(problem), icon=":material/folder_off:")
    if len(uploads) > 1:
        _pick_upload(uploads)
    st.caption("Or take one that is ready:")
    show_strip(ready.values(), label="Ready films", key="gallery")
    key, held = st.session_state.get(_CHOSEN), st.session_state.get(_OPEN)
    # After a visit to another page the drop zone is empty, but the film was not taken away: it stays.
    kept = held is not None and held[0] == key and not changed
    if key is None or not (key in uploads or _film(key) or kept):
        st.session_state.pop(_OPEN, None)
        return None
    if held is None or held[0] != key:
        try:
            held = (key, _open(key, uploads))
        except (OSError, RadiographError) as error:
            st.error(f"This film can no longer be read: {plain(str(error))}", icon=":material/broken_image:")
            return None
        st.session_state[_OPEN] = held
    opened: ChosenFilm = held[1]
    return opened
