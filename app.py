"""The router: page settings and navigation, nothing else. Start it with `streamlit run app.py`."""

import streamlit as st

st.set_page_config(page_title="CXR Model Lab", page_icon=":material/radiology:", layout="wide")

st.navigation(
    [
        st.Page("pages/read_a_film.py", title="Read a film", icon=":material/radiology:", default=True),
        st.Page("pages/models.py", title="Models", icon=":material/neurology:"),
    ],
    position="top",
).run()
