"""Text that stands on pages, which read everything as Markdown."""

from __future__ import annotations

import re


def plain(text: str) -> str:
    """Text for Markdown that a file brought along: unescaped it could load a picture from another host."""
    return re.sub(r"([!\"#$%&'*+/<=>?@\[\\\]^_`{|}~])", r"\\\1", text)
