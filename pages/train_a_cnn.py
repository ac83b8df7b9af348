"""A small CNN learns while you watch, and you can steer it."""

import streamlit as st

from cxrmodels.ui.frame import ask_once, enter, foot
from cxrmodels.ui.lab.page import show_lab

enter()
st.header("Train a small CNN and watch it learn")
show_lab()
foot()
ask_once()
