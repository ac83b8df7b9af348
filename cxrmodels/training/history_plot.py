"""The picture that tutorials end with: loss and accuracy of training and validation, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxrmodels.training.fit import EpochReport

# Blue and vermilion of Okabe and Ito, told apart by any eye; and by the dashes, in print.
_TRAINING: dict[str, Any] = {"color": "#0072B2", "linestyle": "-", "marker": ".", "markersize": 4}
_VALIDATION: dict[str, Any] = {"color": "#D55E00", "linestyle": "--", "marker": ".", "markersize": 4}


def plot_history(histories: Sequence[Sequence[EpochReport]], path: Path, title: str) -> None:
    """Draw the curves of one training, or of several (folds) over each other, as a PNG file of 1500 x 600 pixels.

    Left the loss, right the accuracy (0-1); the horizontal axis counts epochs. pyplot is not used: its figures are
    global and need a display.

    Args:
        histories: the epochs of each training, in order.
        path: where the file goes; replaced if it is there.
        title: heading.
    """
    figure = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    faint = 1.0 if len(histories) == 1 else 0.5
    for place, name in ((1, "loss"), (2, "accuracy")):
        axes = figure.add_subplot(1, 2, place)
        for number, history in enumerate(histories):
            epochs = range(1, len(history) + 1)
            for part, style in (("training", _TRAINING), ("validation", _VALIDATION)):
                values = [getattr(epoch, f"{part}_{name}") for epoch in history]
                # A name with an underscore stays out of the legend: there, folds would repeat.
                axes.plot(epochs, values, label=part if number == 0 else f"_{part}", alpha=faint, **style)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0, top=1.02 if name == "accuracy" else None)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, format="png")
