"""A film on its way through a network, layer by layer."""

import streamlit as st

from cxrmodels.ui.films import choose_film
from cxrmodels.ui.frame import ask_once, enter, foot, service

enter()
st.header("What happens inside the network?")
film = choose_film()

if film is None:
    st.info(
        "Drop a chest radiograph above, or click one of the ready films. Then follow it through a network: what each "
        "layer makes of it, what a single unit sees of it, and which picture would excite that unit most.",
        icon=":material/account_tree:",
    )
else:
    # Imported here: the page is painted before the charts and the networks' code are needed.
    from cxrmodels.ui.inside.page import show_inside

    show_inside(film)

foot()
ask_once()
# Last, so that the page is painted before the networks are loaded behind it.
service()
