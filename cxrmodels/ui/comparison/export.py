"""Taking the comparison along: CSV, and a report that can be checked."""

from __future__ import annotations

import csv
import io

import streamlit as st

from cxrmodels import NOTICE
from cxrmodels.evaluation.board import Board
from cxrmodels.evaluation.report import Setting, report_html
from cxrmodels.export import harmless
from cxrmodels.ui.comparison.overview import table_rows


def _csv(board: Board) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = table_rows(board)
    writer.writerow(["Question", "Films are", *rows[0], "Notice"])
    for row in rows:
        cells = [board.question.title, board.films.words(), *row.values(), NOTICE]
        writer.writerow([harmless(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def show_export(board: Board, setting: Setting) -> None:
    """Both downloads, made when they are asked for."""
    left, right = st.columns(2)
    name = f"cxr-model-lab-{board.question.key}"
    left.download_button(
        "Every figure (CSV)",
        lambda: _csv(board),
        f"{name}.csv",
        "text/csv",
        on_click="ignore",
        key="compare_csv",
        width="stretch",
    )
    right.download_button(
        "Report (HTML)",
        lambda: report_html(board, setting),
        f"{name}.html",
        "text/html",
        on_click="ignore",
        key="compare_report",
        width="stretch",
        help="One file with charts, figures, data hashes, versions and seed. "
        "`python -m cxrmodels evaluate --check report.html` makes it again and says what differs.",
    )
