"""A folder of films through every network, into one table."""

import streamlit as st

from cxrmodels.ui.batch.page import show_batch
from cxrmodels.ui.frame import ask_once, enter, foot

enter()
st.header("Many films into one table")
show_batch()
foot()
ask_once()
