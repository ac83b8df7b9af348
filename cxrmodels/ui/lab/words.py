"""What the lab's pages say of states, networks and ways to break a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cxrmodels.evaluation.verdict import NAMES
from cxrmodels.findings import TITLES
from cxrmodels.lab.config import ConfigurableCnn, FolderData, ManifestData, PhantomData, RunConfig
from cxrmodels.lab.store import State

Colour = Literal["red", "orange", "blue", "green"]

STATES: dict[State, tuple[str, Colour, str]] = {
    State.QUEUED: ("waiting for its turn", "orange", ":material/hourglass:"),
    State.RUNNING: ("learning", "green", ":material/play_arrow:"),
    State.PAUSED: ("paused", "orange", ":material/pause:"),
    State.INTERRUPTED: ("interrupted", "red", ":material/power_off:"),
    State.STOPPED: ("stopped, with a report", "blue", ":material/stop:"),
    State.FINISHED: ("finished", "blue", ":material/check:"),
    State.FAILED: ("failed", "red", ":material/error:"),
}
"""State -> in words, colour of its badge, icon."""

ACTIVE = (State.QUEUED, State.RUNNING, State.PAUSED)

LOOK_FOR = {
    "leak patients": "Validation looks splendid, and better than it could be on other patients: compare it with the "
    "same run unbroken.",
    "flip 20 % labels": "Accuracy cannot pass about 80 %, and training slowly climbs above validation: it learns the "
    "wrong labels by heart.",
    "marker on one class": "Accuracy soars within an epoch. Then look at the heat maps: they sit on the letter in the "
    "corner, not on the lungs.",
    "shuffled labels": "Validation stays at guessing while training may still climb: noise can be learnt by heart.",
    "border only": "Whatever it reaches above guessing, it reaches without a lung in sight.",
}
"""Way of breaking a training -> what there is to see."""


def network_words(config: RunConfig) -> str:
    """A configuration's network in words."""
    chosen = config.network
    if isinstance(chosen, ConfigurableCnn):
        return f"CNN with {chosen.blocks} blocks of {', '.join(map(str, chosen.widths))} filters"
    return {"two_conv_cnn": "Two-layer CNN of the paper", "multi_lung_cnn": "Multi-lung CNN of the report"}[chosen]


def data_words(config: RunConfig) -> str:
    """A configuration's films in words."""
    data = config.data
    if isinstance(data, PhantomData):
        return f"{data.films:,} synthetic films"
    if isinstance(data, ManifestData):
        most = f", at most {data.per_class} a class" if data.per_class else ""
        return f"real films of {', '.join(data.sources) if data.sources else 'all sources'}{most}"
    assert isinstance(data, FolderData)
    return "your own films"


def class_title(name: str) -> str:
    """A class for readers: a finding's title, or what its folder is called."""
    return TITLES.get(name, name)


def figure_title(name: str, classes: Sequence[str]) -> str:
    """A figure of a report for readers; `sensitivity_2` is that of the third class."""
    kind, _, label = name.rpartition("_")
    if kind == "sensitivity" and label.isdecimal() and int(label) < len(classes):
        return f"Sensitivity, {class_title(classes[int(label)])}"
    return NAMES.get(name, name.replace("_", " "))
