"""Lungs on the pages: their outline, and where a heat map's evidence lies, each worked out once."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cxrmodels.explain.evidence import Evidence, evidence_between, sides_at
from cxrmodels.lungs import Lungs, contours


@st.cache_data(scope="session", max_entries=64, show_spinner=False)
def _outline(film: str, drawn: bool, _mask: np.ndarray) -> tuple[np.ndarray, ...]:
    return contours(_mask)


def outline(film: str, lungs: Lungs | None) -> tuple[np.ndarray, ...]:
    """Closed lines around the lungs of the film with this sha256, as `lungs.contours` gives them."""
    return _outline(film, lungs.drawn, lungs.mask) if lungs else ()


@st.cache_resource(scope="session", max_entries=8, show_spinner=False)
def _sides(film: str, drawn: bool, height: int, width: int, _mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return sides_at(_mask, height, width)


@st.cache_data(scope="session", max_entries=512, show_spinner=False)
def _evidence(film: str, map_of: tuple[str, ...], drawn: bool, _heat: np.ndarray, _mask: np.ndarray) -> Evidence:
    height, width = _heat.shape
    return evidence_between(_heat, *_sides(film, drawn, height, width, _mask))


def evidence_of(film: str, map_of: tuple[str, ...], heat: np.ndarray, lungs: Lungs) -> Evidence:
    """Where the evidence of a heat map lies.

    Args:
        film: sha256 of its film.
        map_of: what tells the map from others of that film.
        heat: float (h, w), 0-1.
    """
    return _evidence(film, map_of, lungs.drawn, heat, lungs.mask)


def whose(lungs: Lungs) -> str:
    """Who drew the outline, for a reader."""
    return "as the data set has them drawn" if lungs.drawn else "as a small network finds them, not always rightly"
