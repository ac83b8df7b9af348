"""How charts of a comparison are put on the page: downloadable as vector graphics, described in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def show(figure: Figure, name: str, *, alt: str) -> None:
    """A chart with a download button (SVG) in its corner.

    Args:
        name: of the download, and the chart's identity on the page.
        alt: what it shows, for readers who do not see it.
    """
    st.plotly_chart(
        figure,
        key=f"chart {name}",
        alt=alt,
        config={
            "displaylogo": False,
            "modeBarButtons": [["toImage"]],
            "toImageButtonOptions": {"format": "svg", "filename": f"cxr-model-lab {name}"},
        },
    )
