"""Is a heat map more than a convincing picture?"""

import streamlit as st

from cxrmodels.ui.films import choose_film
from cxrmodels.ui.frame import ask_once, enter, foot, service

enter()
st.header("Can this heat map be trusted?")
film = choose_film()

if film is None:
    st.info(
        "Drop a chest radiograph above, or click one of the ready films. One network's map of it is then put to the "
        "test: is it about this network, this film, and the lungs?",
        icon=":material/fact_check:",
    )
else:
    # Imported here: the page is painted before the charts and the networks' code are needed.
    from cxrmodels.ui.trust import show_trust

    show_trust(film)

foot()
ask_once()
# Last, so that the page is painted before the networks are loaded behind it.
service()
