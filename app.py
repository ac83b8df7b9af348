"""The router: page settings and navigation, nothing else. Start it with `streamlit run app.py`.

Streamlit meets this file twice. As a script, run for every viewer, it is the router. Imported once by the server, it
gives the application: this same script, and the addresses for other programs beside it.
"""

from pathlib import Path

import streamlit as st

from cxrmodels.ui.frame import note_router
from cxrmodels.ui.server import api_routes

if __name__ == "__main__":
    # A file of our own: the icon fonts that Streamlit offers here would be fetched from another host.
    ICON = Path(__file__).parent / "cxrmodels" / "ui" / "assets" / "icon.svg"
    st.set_page_config(page_title="CXR Model Lab", page_icon=str(ICON), layout="wide")

    note_router()
    st.navigation(
        [
            st.Page("pages/read_a_film.py", title="Read a film", icon=":material/radiology:", default=True),
            st.Page("pages/many_films.py", title="Many films", icon=":material/stacks:"),
            st.Page("pages/trust_a_heat_map.py", title="Trust a heat map", icon=":material/fact_check:"),
            st.Page("pages/inside_a_cnn.py", title="Inside a CNN", icon=":material/account_tree:"),
            st.Page("pages/compare_models.py", title="Compare models", icon=":material/compare_arrows:"),
            st.Page("pages/train_a_cnn.py", title="Train a CNN", icon=":material/model_training:"),
            st.Page("pages/models.py", title="Models", icon=":material/neurology:"),
        ],
        position="top",
    ).run()
else:
    app = st.App(__file__, routes=api_routes())
