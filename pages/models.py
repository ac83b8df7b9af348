"""A card for every model, made from its files."""

import streamlit as st

from cxrmodels.ui.cards import show_cards
from cxrmodels.ui.frame import ask_once, enter, foot
from cxrmodels.zoo import SPECS, shipped

enter()
st.header("The models, and how far to trust them")
st.markdown(
    "Each network was measured on films it never learnt from: of **seen** sources (other patients of the same "
    "collections) and of **unseen** ones (hospitals that had no part in its training). The distance between the two "
    "is what published figures leave out. Every figure is computed from stored predictions, with its 95 % interval."
)
keys = shipped()
show_cards(keys)
missing = [SPECS[key].title for key in SPECS if key not in keys]
if missing:
    st.caption(f"Built and tested, not trained yet: {', '.join(missing)}.")
foot()
ask_once()
