"""Drop a film, see what every network makes of it."""

import streamlit as st

from cxrmodels.ui.films import choose_film
from cxrmodels.ui.frame import ask_once, foot, service
from cxrmodels.ui.results import show_results
from cxrmodels.ui.viewer import radiograph_viewer

st.title("What do the networks make of this film?")
film = choose_film()

if film is None:
    st.info(
        "Drop a chest radiograph above, or click one of the ready films. Every network answers by itself; "
        "where they disagree is the interesting part.",
        icon=":material/radiology:",
    )
else:
    radiograph = film.radiograph
    left, right = st.columns([2, 3], gap="medium")
    with left:
        radiograph_viewer(
            radiograph.pixels,
            sha256=radiograph.sha256,
            alt=f"Chest radiograph {radiograph.name}",
            name=radiograph.name,
            key="viewer",
        )
        width, height = radiograph.original_size
        about = [f"{radiograph.format}, {width} x {height} px", *radiograph.notes]
        if film.source:
            about.append(
                f"source {film.source}, labelled there as {film.label}" if film.label else f"source {film.source}"
            )
        st.caption(". ".join(about) + ".")
    with right:
        show_results(film)

foot()
ask_once()
# Last, so that the page is painted before the networks are loaded behind it.
service()
