"""Numbers of a comparison in, plotly figures out. Knows values only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrmodels.plots import COLOURS, OTHER_COLOUR, Interval, axis, chart

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NETWORK_COLOURS = ("#6977BF", "#E36363", "#178229", "#A58E1D", "#209DB6", "#A83883", "#8F8F8F")
"""Paul Tol's bright scheme, moved until any two are told apart with any colour vision and each stands out from light
and dark (contrast of 3 with both themes); none of them is one of the findings' colours."""

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon", "triangle-down")
_SHARES = {"range": [-0.02, 1.02], "tickvals": [0, 0.25, 0.5, 0.75, 1]}


def _style(number: int) -> dict[str, Any]:
    """Colour, line and marker of a network: no two of 35 share colour and line."""
    return {
        "colour": NETWORK_COLOURS[number % len(NETWORK_COLOURS)],
        "dash": _DASHES[number % len(_DASHES)],
        "symbol": _SYMBOLS[number % len(_SYMBOLS)],
    }


def _fill(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.14)"


def _legend(ink: str, rows: int) -> dict[str, Any]:
    """Above the chart, so that it takes no width from it on a phone."""
    return {
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"color": ink}},
        "margin": {"l": 0, "r": 12, "t": 26 + 22 * rows, "b": 44},
    }


Band = tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Title, x, y, low and high."""


def bands(
    curves: Sequence[Band],
    points: Sequence[tuple[float, float] | None],
    titles: tuple[str, str],
    ink: str,
    *,
    diagonal: bool,
) -> Figure:
    """Curves of all networks over each other with their 95 % bands; a marker where each one decides.

    Args:
        curves: title, x, y, low, high each.
        points: where each network's threshold puts it, None where it cannot be said.
        titles: of the x and y axis.
        diagonal: draw the line of guessing.
    """
    traces: list[dict[str, Any]] = []
    if diagonal:
        line = {"color": OTHER_COLOUR, "width": 1, "dash": "dot"}
        traces.append(
            {"type": "scatter", "x": [0, 1], "y": [0, 1], "mode": "lines", "line": line}
            | {"showlegend": False, "hoverinfo": "skip"}
        )
    for number, (name, x, y, low, high) in enumerate(curves):
        look = _style(number)
        shared: dict[str, Any] = {"type": "scatter", "legendgroup": name, "mode": "lines"}
        edge = {"line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
        traces.append(shared | edge | {"x": x.tolist(), "y": high.tolist()})
        traces.append(
            shared | edge | {"x": x.tolist(), "y": low.tolist(), "fill": "tonexty", "fillcolor": _fill(look["colour"])}
        )
        traces.append(
            shared
            | {
                "name": name,
                "x": x.tolist(),
                "y": y.tolist(),
                "line": {"color": look["colour"], "dash": look["dash"], "width": 2.4},
                "hovertemplate": f"{name}<br>{titles[0]} %{{x:.2f}}<br>{titles[1]} %{{y:.2f}}<extra></extra>",
            }
        )
        point = points[number]
        if point is not None:
            marker = {"size": 12, "color": look["colour"], "symbol": look["symbol"], "line": {"width": 2, "color": ink}}
            traces.append(
                shared
                | {
                    "x": [point[0]],
                    "y": [point[1]],
                    "mode": "markers",
                    "marker": marker,
                    "showlegend": False,
                    "hovertemplate": f"{name} at its threshold<br>{titles[0]} %{{x:.2f}}<br>{titles[1]} %{{y:.2f}}"
                    "<extra></extra>",
                }
            )
    return chart(
        traces,
        430,
        ink,
        **_legend(ink, -(-len(curves) // 2)),
        xaxis=axis(ink, title={"text": titles[0]}, **_SHARES),
        yaxis=axis(ink, title={"text": titles[1]}, **_SHARES),
    )


Reliability = tuple[str, Sequence[float], Sequence[Interval], Sequence[int]]
"""Title; and bin by bin the mean probability, the share observed with its interval, the number of films."""


def reliability(networks: Sequence[Reliability], positive: str, ink: str) -> Figure:
    """What each network said against what was so: on the diagonal, 70 % means seven in ten."""
    line = {"color": OTHER_COLOUR, "width": 1, "dash": "dot"}
    traces: list[dict[str, Any]] = [
        {"type": "scatter", "x": [0, 1], "y": [0, 1], "mode": "lines", "line": line, "showlegend": False}
        | {"hoverinfo": "skip"}
    ]
    for number, (name, predicted, observed, films) in enumerate(networks):
        look = _style(number)
        traces.append(
            {
                "type": "scatter",
                "name": name,
                "x": list(predicted),
                "y": [value for value, _, _ in observed],
                "mode": "lines+markers",
                "line": {"color": look["colour"], "dash": look["dash"], "width": 1.6},
                "marker": {"size": 9, "symbol": look["symbol"], "color": look["colour"]},
                "error_y": {
                    "array": [high - value for value, _, high in observed],
                    "arrayminus": [value - low for value, low, _ in observed],
                    "color": look["colour"],
                    "thickness": 1,
                    "width": 3,
                },
                "customdata": list(films),
                "hovertemplate": f"{name}<br>said %{{x:.0%}}, was so in %{{y:.0%}} of %{{customdata}} films"
                "<extra></extra>",
            }
        )
    return chart(
        traces,
        430,
        ink,
        **_legend(ink, -(-len(networks) // 2)),
        xaxis=axis(ink, title={"text": f"probability of {positive} said"}, **_SHARES),
        yaxis=axis(ink, title={"text": f"share that was {positive}"}, **_SHARES),
    )


Scores = tuple[str, np.ndarray, np.ndarray, float]
"""Title, negative and positive films in each bin, threshold."""


def histograms(networks: Sequence[Scores], names: tuple[str, str], ink: str) -> Figure:
    """For each network, one below the other: films of the positive class upwards, the others downwards.

    Args:
        names: of the negative and the positive class.
    """
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"annotations": [], "shapes": []}
    rows, gap = len(networks), 0.06
    for number, (name, negative, positive, threshold) in enumerate(networks):
        suffix = "" if number == 0 else str(number + 1)
        top = 1 - number / rows
        bottom = 1 - (number + 1) / rows + gap
        centres = (np.arange(len(negative)) + 0.5) / len(negative)
        for label, counts, sign, colour in (
            (names[1], positive, 1, COLOURS["covid19"]),
            (names[0], negative, -1, COLOURS["normal"]),
        ):
            share = counts / max(1, int(counts.sum()))
            traces.append(
                {
                    "type": "bar",
                    "name": label,
                    "legendgroup": label,
                    "showlegend": number == 0,
                    "x": centres.tolist(),
                    "y": (sign * share).tolist(),
                    "yaxis": f"y{suffix}",
                    "marker": {"color": colour, "pattern": {"shape": "" if sign > 0 else "/", "size": 4}},
                    "customdata": counts.tolist(),
                    "hovertemplate": f"{name}<br>{label}: %{{customdata}} films<extra></extra>",
                }
            )
        layout[f"yaxis{suffix}"] = axis(ink, domain=[bottom, top], showticklabels=False, showgrid=False)
        layout["annotations"].append(
            {"text": name, "x": 0, "xref": "paper", "y": top, "yref": "paper", "showarrow": False}
            | {"xanchor": "left", "yanchor": "top", "font": {"color": ink}}
        )
        layout["shapes"].append(
            {"type": "line", "x0": threshold, "x1": threshold, "y0": bottom, "y1": top, "yref": "paper"}
            | {"line": {"color": ink, "width": 1.5, "dash": "dash"}}
        )
    return chart(
        traces,
        90 * rows + 80,
        ink,
        **_legend(ink, 1),
        **layout,
        barmode="overlay",
        bargap=0.08,
        xaxis=axis(ink, title={"text": f"probability of {names[1]}"}, **_SHARES),
    )


def cost_chart(
    titles: Sequence[str], costs: Sequence[float], values: Sequence[float], front: Sequence[int], name: str, ink: str
) -> Figure:
    """A figure against what it costs, on a logarithmic axis; the front of those that no other beats in both.

    Args:
        costs: milliseconds a film.
        front: positions of the networks on the front, cheapest first.
        name: of the figure.
    """
    line = {
        "type": "scatter",
        "x": [costs[i] for i in front],
        "y": [values[i] for i in front],
        "mode": "lines",
        "line": {"color": OTHER_COLOUR, "width": 1.5, "dash": "dot", "shape": "hv"},
        "hoverinfo": "skip",
    }
    spread = max(values) - min(values) if len(values) else 0.0
    low, high = min(values, default=0) - 0.1 * spread - 0.01, max(values, default=1) + 0.2 * spread + 0.02
    cheap = np.log10(np.maximum(costs, 1e-3))
    across = (cheap - cheap.min()) / max(float(np.ptp(cheap)), 1e-9) if len(cheap) else cheap
    step = 0.01 if spread < 0.08 else 0.05 if spread < 0.4 else 0.1
    dots = {
        "type": "scatter",
        "x": list(costs),
        "y": list(values),
        "text": list(titles),
        "mode": "markers+text",
        "textposition": _apart(titles, across, (np.asarray(values) - low) / (high - low)),
        "textfont": {"color": ink},
        "cliponaxis": False,
        "marker": {
            "size": 12,
            "color": NETWORK_COLOURS[0],
            "symbol": ["circle" if i in front else "circle-open" for i in range(len(titles))],
            "line": {"width": 2},
        },
        "hovertemplate": f"%{{text}}<br>%{{x:.1f}} ms a film<br>{name} %{{y:.3f}}<extra></extra>",
    }
    return chart(
        [line, dots],
        330,
        ink,
        margin={"l": 0, "r": 40, "t": 24, "b": 44},
        xaxis=axis(
            ink,
            type="log",
            title={"text": "milliseconds a film (batch of one)"},
            tickvals=[digit * 10.0**power for power in range(-2, 5) for digit in (1, 3)],
        ),
        # Room for names above the best, but no figure beyond one.
        yaxis=axis(
            ink, title={"text": name}, range=[low, high], tickvals=np.arange(0, 1 + step / 2, step).round(2).tolist()
        ),
    )


_LETTER, _LINE, _MARK = 0.028, 0.065, 0.025
"""Of a chart as narrow as a phone's: width of a letter, height of a line, half of a mark."""
_PLACES = (
    ("top center", 0.5, 1.0),
    ("bottom center", 0.5, -1.0),
    ("top right", 0.0, 1.0),
    ("bottom right", 0.0, -1.0),
    ("top left", 1.0, 1.0),
    ("bottom left", 1.0, -1.0),
)
"""Plotly's places of a text; the share of its width that is left of its mark; whether it is above or below."""


def _apart(titles: Sequence[str], x: np.ndarray, y: np.ndarray) -> list[str]:
    """Places of names beside marks: no name lies on another or on a mark and none leaves the chart, if there are such.

    Args:
        x, y: of the marks, 0-1 of the chart.
    """
    boxes = [(a - _MARK, a + _MARK, b - _MARK, b + _MARK) for a, b in zip(x, y, strict=True)]
    chosen = []
    for title, across, up in zip(titles, x, y, strict=True):
        width, best = _LETTER * len(title), (np.inf, "", (0.0, 0.0, 0.0, 0.0))
        for place, left, above in _PLACES:
            start, centre = across - left * width, up + 1.1 * above * _LINE
            box = (start, start + width, centre - _LINE / 2, centre + _LINE / 2)
            clash = sum(
                max(0.0, min(box[1], other[1]) - max(box[0], other[0]))
                * max(0.0, min(box[3], other[3]) - max(box[2], other[2]))
                for other in boxes
            )
            outside = max(0.0, -box[0]) + max(0.0, box[1] - 1.1) + max(0.0, -box[2])
            if clash + outside < best[0] - 1e-9:
                best = (clash + outside, place, box)
        chosen.append(best[1])
        boxes.append(best[2])
    return chosen


def agreement(titles: Sequence[str], shares: np.ndarray, ink: str, low: float = 0.5, words: str = "the same") -> Figure:
    """How often two networks call a film the same, or whatever else two may have in common: (N, N), 0-1.

    Args:
        low: where the colours begin.
        words: what the shares are of.
    """
    percents = [[f"{100 * value:.0f} %" for value in row] for row in shares]
    heat = {
        "type": "heatmap",
        "z": shares.tolist(),
        "x": list(titles),
        "y": list(titles),
        "text": percents,
        "texttemplate": "%{text}",
        "colorscale": [[0, "#F7FBFF"], [1, "#2A5B8C"]],
        "zmin": low,
        "zmax": 1,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": f"%{{y}} and %{{x}}: %{{text}} {words}<extra></extra>",
    }
    return chart(
        [heat],
        60 * len(titles) + 90,
        ink,
        margin={"l": 0, "r": 12, "t": 4, "b": 80},
        xaxis=axis(ink, showgrid=False),
        yaxis=axis(ink, autorange="reversed", showgrid=False),
    )


def groups(
    names: Sequence[str], values: Sequence[Interval], worst: Sequence[bool], overall: float, title: str, ink: str
) -> Figure:
    """A figure for each group of films with its interval; the worst group filled and marked, the whole as a line."""
    rows = [f"{name} (worst)" if bad else name for name, bad in zip(names, worst, strict=True)]
    dots = {
        "type": "scatter",
        "x": [value for value, _, _ in values],
        "y": rows,
        "mode": "markers",
        "marker": {
            "size": 11,
            "symbol": ["diamond" if bad else "circle-open" for bad in worst],
            "color": [COLOURS["covid19"] if bad else ink for bad in worst],
            "line": {"width": 2},
        },
        "error_x": {
            "array": [high - value for value, _, high in values],
            "arrayminus": [value - low for value, low, _ in values],
            "color": OTHER_COLOUR,
            "thickness": 1.5,
        },
        "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
    }
    return chart(
        [dots],
        30 * len(rows) + 70,
        ink,
        margin={"l": 0, "r": 24, "t": 4, "b": 44},
        xaxis=axis(ink, title={"text": title}, **_SHARES),
        yaxis=axis(ink, autorange="reversed"),
        shapes=[
            {"type": "line", "x0": overall, "x1": overall, "y0": 0, "y1": 1, "yref": "paper"}
            | {"line": {"color": OTHER_COLOUR, "width": 1, "dash": "dot"}}
        ],
    )


Curve = tuple[str, Sequence[float], Sequence[float]]
"""Title, x and y."""

_MOST_POINTS = 800
_MOST_MARKED = 60
"""Epochs that get a mark each; of more, the line alone: marks would touch, and take the browser long to draw."""


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most so many points, each the mean of its neighbours: a chart is some hundred pixels wide."""
    if len(x) <= _MOST_POINTS:
        return list(x), list(y)
    starts = np.linspace(0, len(x), _MOST_POINTS, endpoint=False).astype(int)
    counts = np.diff([*starts, len(x)])
    xs, ys = (np.add.reduceat(np.asarray(values, float), starts) / counts for values in (x, y))
    return xs.tolist(), ys.tolist()


def schedule(epochs: Sequence[float], rates: Sequence[float], ink: str) -> Figure:
    """The learning rate over the epochs, before anything is learnt."""
    line = {"type": "scatter", "x": list(epochs), "y": list(rates), "mode": "lines", "hoverinfo": "skip"}
    return chart(
        [line | {"line": {"color": NETWORK_COLOURS[0], "width": 2.4}}],
        120,
        ink,
        xaxis=axis(ink, title={"text": "epoch"}, rangemode="tozero"),
        yaxis=axis(ink, title={"text": "learning rate"}, rangemode="tozero", exponentformat="e", nticks=3),
    )


def learning(
    batches: Curve | None, epochs: Sequence[Curve], marks: Sequence[tuple[float, str]], title: str, ink: str
) -> Figure:
    """Learning curves: each batch as a faint line, what is known per epoch as marked ones.

    Args:
        batches: over epochs as a number (1.5: half-way through the second); None leaves them out.
        epochs: training and validation of one run, or one figure of several runs.
        marks: where something was changed, and what.
        title: of the y axis.
    """
    traces: list[dict[str, Any]] = []
    if batches:
        x, y = _thinned(batches[1], batches[2])
        traces.append(
            {"type": "scatter", "name": batches[0], "x": x, "y": y, "mode": "lines", "opacity": 0.35}
            | {"line": {"color": NETWORK_COLOURS[0], "width": 1}, "hoverinfo": "skip"}
        )
    for number, (name, xs, ys) in enumerate(epochs):
        look = _style(number)
        traces.append(
            {
                "type": "scatter",
                "name": name,
                "x": list(xs),
                "y": list(ys),
                "mode": "lines+markers" if len(xs) <= _MOST_MARKED else "lines",
                "line": {"color": look["colour"], "dash": look["dash"], "width": 2.4},
                "marker": {"size": 8, "symbol": look["symbol"], "color": look["colour"]},
                "hovertemplate": f"{name}, epoch %{{x:.0f}}: %{{y:.3f}}<extra></extra>",
            }
        )
    shapes = [
        {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper"}
        | {"line": {"color": OTHER_COLOUR, "width": 1, "dash": "dot"}}
        for at, _ in marks
    ]
    notes = [
        {"x": at, "y": 1, "yref": "paper", "text": what, "showarrow": False, "textangle": -90}
        | {"xanchor": "right", "yanchor": "top", "font": {"color": ink, "size": 11}}
        for at, what in marks
    ]
    return chart(
        traces,
        300,
        ink,
        **_legend(ink, -(-len(epochs) // 2)),
        shapes=shapes,
        annotations=notes,
        xaxis=axis(ink, title={"text": "epoch"}, rangemode="tozero"),
        yaxis=axis(ink, title={"text": title}, rangemode="tozero"),
    )
