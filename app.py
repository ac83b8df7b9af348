"""The router: page settings and navigation, nothing else. Start it with `streamlit run app.py`."""

from pathlib import Path

import streamlit as st

# A file of our own: the icon fonts that Streamlit offers here would be fetched from another host.
ICON = Path(__file__).parent / "cxrmodels" / "ui" / "assets" / "icon.svg"
st.set_page_config(page_title="CXR Model Lab", page_icon=str(ICON), layout="wide")

st.navigation(
    [
        st.Page("pages/read_a_film.py", title="Read a film", icon=":material/radiology:", default=True),
        st.Page("pages/models.py", title="Models", icon=":material/neurology:"),
    ],
    position="top",
).run()
