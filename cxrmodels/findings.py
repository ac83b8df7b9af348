"""The findings a film can carry and a network can answer, under the names used everywhere."""

from __future__ import annotations

from collections.abc import Sequence

TITLES: dict[str, str] = {
    "normal": "Normal",
    "covid19": "COVID-19",
    "bacterial_pneumonia": "Bacterial pneumonia",
    "viral_pneumonia": "Viral pneumonia",
    "pneumonia": "Pneumonia",
    "non_covid19": "Not COVID-19",
    "tuberculosis": "Tuberculosis",
    "other": "Other finding",
}
"""Finding key -> words shown to a reader. Viral means viral other than COVID-19."""

_COVERS: dict[str, frozenset[str]] = {
    "pneumonia": frozenset({"pneumonia", "bacterial_pneumonia", "viral_pneumonia"}),
    "non_covid19": frozenset(TITLES) - {"covid19"},
}


def index_of(finding: str, findings: Sequence[str]) -> int | None:
    """Which of a network's `findings` is the right answer for a film labelled `finding`.

    An exact name wins over one that covers it (`pneumonia` covers bacterial and viral, `non_covid19` all
    but COVID-19). None when the network has no answer for such a film: it then takes no part, which is not
    the same as being wrong.
    """
    if finding in findings:
        return findings.index(finding)
    for index, candidate in enumerate(findings):
        if finding in _COVERS.get(candidate, frozenset()):
            return index
    return None
