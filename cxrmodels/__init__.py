"""Chest X-ray classifiers side by side: predictions, heat maps and how far each can be trusted.

For research and teaching. Never for diagnosis.
"""

__version__ = "0.1.0"

NOTICE = "Research and teaching only. Not for diagnosis."
"""The line that every result and every export carries."""
