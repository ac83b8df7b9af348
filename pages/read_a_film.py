"""Drop a film, see what every network makes of it."""

import streamlit as st

from cxrmodels.ui.films import choose_film
from cxrmodels.ui.frame import ask_once, enter, foot, service

enter()
st.header("What do the networks make of this film?")
film = choose_film()

if film is None:
    st.info(
        "Drop a chest radiograph above, or click one of the ready films. Every network answers by itself; "
        "where they disagree is the interesting part.",
        icon=":material/radiology:",
    )
else:
    # Imported here: the page is painted before the charts and the networks' code are needed.
    from cxrmodels.ui.results import show_results

    show_results(film)

foot()
ask_once()
# Last, so that the page is painted before the networks are loaded behind it.
service()
