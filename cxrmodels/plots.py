"""Numbers in, pictures out: plotly figures, and heat maps laid over radiographs. Knows values only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxrmodels import NOTICE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS: dict[str, str] = {
    "normal": "#009E73",
    "covid19": "#D55E00",
    "bacterial_pneumonia": "#0072B2",
    "viral_pneumonia": "#E69F00",
    "pneumonia": "#56B4E9",
}
"""Finding -> colour everywhere (Okabe and Ito 2008: told apart with any colour vision)."""

OTHER_COLOUR = "#686868"
"""Anything else; far enough from the green of normal for every kind of colour vision."""
_FILM_BLACK = (10, 10, 12)
_OUTLINE, _OUTLINE_EDGE = "#7FE0F0", "#10282E"
"""Of lungs: no colour of a heat map, nor of a film."""
FRAME = (86, 180, 233)
"""What is pointed at in a picture: sky blue of Okabe and Ito, told from every grey and from magma."""


def percent(probability: float) -> str:
    """A probability, 0-1, as a reader wants it: whole per cent, never a false 0 or 100."""
    if probability < 0.01:
        return "< 1 %"
    if probability > 0.99:
        return "> 99 %"
    return f"{100 * probability:.0f} %"


@lru_cache(maxsize=1)
def _magma() -> np.ndarray:
    """The perceptual colour map magma: float32 (256, 3), 0-255."""
    from plotly.colors import hex_to_rgb, sequential

    anchors = np.array([hex_to_rgb(colour) for colour in sequential.Magma], np.float32)
    positions = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(positions, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.float32)


@lru_cache(maxsize=8)
def _mixtures(opacity: float) -> np.ndarray:
    """Every grey under every heat: uint8 (256, 256, 3), by heat and then grey. A picture is looked up here, pixel by
    pixel, which takes a tenth of the time of working each of them out."""
    grey, heat = np.arange(256, dtype=np.float32), np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    # The power, and leaving out the map's black end, lift weak evidence to where it can be seen on a film; nothing
    # stays nothing.
    alpha = (opacity * heat**0.7)[..., None]
    colour = _magma()[np.rint(64 + heat * 191).astype(int)]
    return np.rint((1 - alpha) * grey[None, :, None] + alpha * colour).astype(np.uint8)


def greys(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1, clipped there, as uint8 from 0 to 255."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def overlay(pixels: np.ndarray, heat: np.ndarray, opacity: float) -> np.ndarray:
    """A heat map over its film: transparent where there is nothing, up to `opacity` where it is hottest.

    Args:
        pixels: float (H, W), 0-1.
        heat: float (H, W), 0-1.
        opacity: 0 to 1.

    Returns:
        uint8 (H, W, 3).
    """
    place = greys(heat).astype(np.intp) << 8 | greys(pixels)
    return np.take(_mixtures(opacity).reshape(-1, 3), place, axis=0)


def outlined(picture: np.ndarray, lines: Sequence[np.ndarray]) -> np.ndarray:
    """A picture with closed lines drawn into it, dark under light so that they show on any grey and any heat.

    Args:
        picture: uint8 (H, W, 3); not changed.
        lines: float (P, 2) each, x and y as shares of width and height, 0-1.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    drawn = [(line * (image.width, image.height)).ravel().tolist() for line in lines]
    for colour, wide in ((_OUTLINE_EDGE, 3), (_OUTLINE, 1)):
        for line in drawn:
            draw.line(line, fill=colour, width=wide, joint="curve")
    return np.asarray(image)


def png(picture: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) as PNG."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def overlay_png(pixels: np.ndarray, heat: np.ndarray, opacity: float) -> bytes:
    """`overlay` as PNG."""
    return png(overlay(pixels, heat, opacity))


def framed(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture with the edge of a region drawn in, bright between two dark lines, and all else dimmed.

    Args:
        picture: uint8 (H, W) or (H, W, 3).
        mask: bool (H, W), the region; empty or full it leaves the picture as it is.

    Returns:
        uint8 (H, W, 3).
    """
    from scipy.ndimage import binary_dilation, binary_erosion

    coloured = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
    if mask.all() or not mask.any():
        return coloured
    # What lies at the picture's edge has its edge there.
    inner = binary_erosion(mask, iterations=2)
    found = np.where(mask[..., None], coloured, np.rint(0.6 * coloured).astype(np.uint8))
    found[binary_dilation(mask) & ~binary_erosion(mask, iterations=3)] = _FILM_BLACK
    found[mask & ~inner] = FRAME
    return found


def heat_legend_png(opacity: float, width: int = 240, height: int = 12) -> bytes:
    """A heat map's colours over mid grey, from nothing (left) to its strongest place (right), as PNG."""
    return overlay_png(np.full((height, width), 0.5), np.tile(np.linspace(0, 1, width), (height, 1)), opacity)


def contact_sheet_png(pictures: Sequence[tuple[str, str, np.ndarray]], heading: str, cell: int = 360) -> bytes:
    """Pictures in a grid, each over its two lines of text, the notice at the foot.

    Args:
        pictures: (first line, second line, uint8 (h, w, 3)) each.
        heading: line at the top.
        cell: width of a picture in pixels.
    """
    columns = min(3, max(1, len(pictures)))
    rows = -(-len(pictures) // columns)
    margin, text = 16, 44
    sheet = Image.new(
        "RGB", (columns * (cell + margin) + margin, rows * (cell + text + margin) + margin + 2 * text), _FILM_BLACK
    )
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    draw.text((margin, margin), _drawable(heading), fill="white", font=large)
    for number, (first, second, picture) in enumerate(pictures):
        left = margin + (number % columns) * (cell + margin)
        top = text + (number // columns) * (cell + text + margin)
        image = Image.fromarray(picture)
        image.thumbnail((cell, cell))
        sheet.paste(image, (left + (cell - image.width) // 2, top + (cell - image.height) // 2))
        draw.text((left, top + cell + 4), _drawable(first), fill="white", font=large)
        draw.text((left, top + cell + 24), _drawable(second), fill="#B8B8BC", font=small)
    draw.text((margin, sheet.height - text + 8), NOTICE, fill="white", font=large)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _drawable(text: str) -> str:
    """Pillow's own font knows Latin letters only; anything else becomes a question mark instead of a box."""
    return text.encode("latin-1", "replace").decode("latin-1")


def chart(traces: list[dict[str, Any]], height: int, ink: str, **layout: Any) -> Figure:
    """Traces without chart junk; `ink` is the colour of text.

    Built from plain values in one go: plotly's updates cost milliseconds each.
    """
    from plotly.graph_objects import Figure

    quiet = {
        "height": height,
        "margin": {"l": 0, "r": 36, "t": 4, "b": 4},
        "showlegend": False,
        "bargap": 0.35,
        "dragmode": False,
        "font": {"color": ink},
    }
    return Figure({"data": traces, "layout": quiet | layout})


def axis(ink: str, **options: Any) -> dict[str, Any]:
    """An axis that does not zoom: on a page a finger that scrolls would."""
    return {"fixedrange": True, "ticks": "", "automargin": True, "tickfont": {"color": ink}} | options


_PER_CENT = {"tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": ["0 %", "25 %", "50 %", "75 %", "100 %"]}


def unit_bars(names: Sequence[str], values: Sequence[float], said: Sequence[str], ink: str) -> Figure:
    """Activations of units without places, one horizontal bar each, labelled with what is `said` of it."""
    bars = {
        "type": "bar",
        "x": list(values),
        "y": list(names),
        "orientation": "h",
        "marker": {"color": COLOURS["bacterial_pneumonia"]},
        "text": list(said),
        "textposition": "outside",
        "textfont": {"color": ink},
        "cliponaxis": False,
        "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
    }
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.15 * ((high - low) or 1)
    return chart(
        [bars],
        24 * len(names) + 16,
        ink,
        xaxis={"range": [low - (room if low else 0), high + room], "visible": False, "fixedrange": True},
        # Names may look like numbers: they are none.
        yaxis=axis(ink, autorange="reversed", showgrid=False, type="category"),
    )


def covering_curves(
    shares: Sequence[float],
    deletion: tuple[Sequence[float], Sequence[float]],
    insertion: tuple[Sequence[float], Sequence[float]],
    ink: str,
) -> Figure:
    """A finding's probability while a film is covered, and while it is uncovered, in the order of a map and of chance.

    Args:
        shares: of the film, 0-1.
        deletion, insertion: probabilities by the map, and by random maps, each as long as `shares`.
        ink: colour of text.
    """

    def line(name: str, values: Sequence[float], colour: str, dash: str, at: float) -> dict[str, Any]:
        place = round(at * (len(shares) - 1))
        return {
            "type": "scatter",
            "name": name,
            "x": list(shares),
            "y": list(values),
            "mode": "lines+text",
            "line": {"color": colour, "dash": dash, "width": 2},
            "text": [name if number == place else "" for number in range(len(shares))],
            "textposition": "top center",
            "textfont": {"color": ink},
            "cliponaxis": False,
            "hovertemplate": f"{name}, %{{x:.0%}}: %{{y:.2f}}<extra></extra>",
        }

    # Names side by side: the curves themselves often lie on each other.
    return chart(
        [
            line("covered", deletion[0], COLOURS["covid19"], "solid", 0.15),
            line("covered at random", deletion[1], COLOURS["covid19"], "dot", 0.6),
            line("uncovered", insertion[0], COLOURS["bacterial_pneumonia"], "solid", 0.35),
            line("uncovered at random", insertion[1], COLOURS["bacterial_pneumonia"], "dot", 0.8),
        ],
        280,
        ink,
        margin={"l": 0, "r": 36, "t": 16, "b": 40},
        xaxis=axis(ink, range=[0, 1], title={"text": "share of the film"}, **_PER_CENT),
        yaxis=axis(ink, range=[-0.02, 1.08], title={"text": "score"}),
    )


def shuffled_curve(layers: Sequence[int], ssim: Sequence[float], rank: Sequence[float], ink: str) -> Figure:
    """How alike the map stays while ever more layers' weights are shuffled: SSIM and rank correlation.

    Args:
        layers: how many are shuffled, from none on.
        ssim, rank: as long as `layers`.
    """

    def line(name: str, values: Sequence[float], colour: str, symbol: str, place: str) -> dict[str, Any]:
        return {
            "type": "scatter",
            "name": name,
            "x": list(layers),
            "y": list(values),
            "mode": "lines+markers+text",
            "line": {"color": colour, "width": 2},
            "marker": {"symbol": symbol, "size": 8},
            "text": ["" if number != len(layers) - 1 else name for number in range(len(layers))],
            "textposition": place,
            "textfont": {"color": ink},
            "cliponaxis": False,
            "hovertemplate": f"{name}, %{{x}} layers shuffled: %{{y:.2f}}<extra></extra>",
        }

    return chart(
        [
            line("rank correlation", rank, COLOURS["bacterial_pneumonia"], "circle", "bottom left"),
            line("SSIM", ssim, OTHER_COLOUR, "square", "top left"),
        ],
        240,
        ink,
        margin={"l": 0, "r": 36, "t": 16, "b": 40},
        xaxis=axis(ink, title={"text": "layers shuffled, from the last one on"}, rangemode="tozero"),
        yaxis=axis(ink, range=[-1.05, 1.1], title={"text": "likeness"}),
    )


Interval = tuple[float, float, float]
"""A value and the ends of its 95 % interval."""


def _intervals(
    name: str,
    titles: Sequence[str],
    known: Sequence[Interval | None],
    symbol: str,
    colour: str,
    ink: str,
    what: str,
    *,
    below: bool = False,
) -> dict[str, Any]:
    """A mark with its interval in the row of every title that has one; `name` stands above each or `below` it, so that
    those of two marks that are close do not lie on each other, `what` on hover."""
    rows = [title for title, one in zip(titles, known, strict=True) if one]
    figures = [one for one in known if one]
    return {
        "type": "scatter",
        "name": name,
        "x": [value for value, _, _ in figures],
        "y": rows,
        "mode": "markers+text",
        "marker": {"size": 12, "symbol": symbol, "color": colour, "line": {"width": 2}},
        "error_x": {
            "array": [high - value for value, _, high in figures],
            "arrayminus": [value - low for value, low, _ in figures],
            "color": colour,
            "thickness": 1.5,
        },
        "text": [f"{name} {value:.2f}" for value, _, _ in figures],
        "textposition": "bottom center" if below else "top center",
        "textfont": {"color": ink},
        "cliponaxis": False,
        "hovertemplate": f"%{{y}}, {what}: %{{x:.2f}}<extra></extra>",
    }


def seen_unseen(
    titles: Sequence[str],
    seen: Sequence[Interval | None],
    unseen: Sequence[Interval | None],
    ink: str,
    figure: str = "AUC, COVID-19 against normal (0.5 is guessing)",
    low: float = 0.45,
) -> Figure:
    """A figure of every network on films of sources it learnt from and of others, with intervals.

    Args:
        seen, unseen: value and interval, None where there is none.
        figure: its name.
        low: where its axis begins.
    """
    return chart(
        [
            _intervals("seen", titles, seen, "circle", COLOURS["bacterial_pneumonia"], ink, "seen sources"),
            _intervals("unseen", titles, unseen, "diamond-open", ink, ink, "unseen sources", below=True),
        ],
        58 * len(titles) + 60,
        ink,
        margin={"l": 0, "r": 36, "t": 16, "b": 40},
        xaxis=axis(ink, range=[low, 1.03], title={"text": figure}),
        # The order of the titles, also where one of them has a figure of the other kind only.
        yaxis=axis(ink, autorange="reversed", categoryorder="array", categoryarray=list(titles)),
    )


def lungs_hidden(
    titles: Sequence[str], whole: Sequence[Interval], hidden: Sequence[Interval], chance: Sequence[float], ink: str
) -> Figure:
    """Balanced accuracy of every network on films as they are and with the lungs painted black, and that of guessing.

    Args:
        whole, hidden: value and interval, 0-1.
        chance: 0-1.
    """
    guessing = {
        "type": "scatter",
        "name": "guessing",
        "x": list(chance),
        "y": list(titles),
        "mode": "markers",
        "marker": {"size": 22, "symbol": "line-ns", "color": ink, "line": {"width": 2, "color": ink}},
        "hovertemplate": "%{y}, guessing: %{x:.2f}<extra></extra>",
    }
    return chart(
        [
            guessing,
            _intervals(
                "hidden", titles, hidden, "diamond-open", COLOURS["covid19"], ink, "lungs painted black", below=True
            ),
            _intervals("as it is", titles, whole, "circle", COLOURS["bacterial_pneumonia"], ink, "films as they are"),
        ],
        58 * len(titles) + 60,
        ink,
        margin={"l": 0, "r": 36, "t": 16, "b": 40},
        xaxis=axis(ink, range=[0, 1.05], title={"text": "balanced accuracy; the upright stroke is guessing"}),
        yaxis=axis(ink, autorange="reversed", categoryorder="array", categoryarray=list(titles)),
    )
