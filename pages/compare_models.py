"""Which model is better, by how much, and can one believe it?"""

import streamlit as st

from cxrmodels.ui.comparison.page import show_comparison
from cxrmodels.ui.frame import ask_once, enter, foot

enter()
st.header("Which model answers best, and can you believe it?")
show_comparison()
foot()
ask_once()
