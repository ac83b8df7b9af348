"""What a unit of a network can see of the film: its receptive field, exactly, from how the layers are wired.

A unit is one position of one channel of a layer. Its field is walked back layer by layer: through every branch, and
only through the branch that makes its channel where branches are put side by side. A gate of squeeze-and-excite looks
at the whole map, so that behind one every unit depends on the whole film, if weakly: such gates are followed only where
that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cxrmodels.explain.layers import ALL, UNKNOWN, Layer, Window


class UnknownReachError(ValueError):
    """A network holds a layer of which it is not known what its positions depend on."""


@dataclass(frozen=True, slots=True)
class Field:
    """A receptive field by number.

    Attributes:
        size: rows and columns of the film as the network gets it, where nothing cuts it off; it may exceed the film.
            None: the whole film, wherever the unit is.
        step: by how many rows and columns of the film the fields of neighbouring units are apart; None as above.
        gated: whether squeeze-and-excite gates look at the whole film besides.
    """

    size: tuple[int, int] | None
    step: tuple[int, int] | None
    gated: bool


_Span = tuple[int, int]
_Spans = tuple[_Span, _Span]
_Mask = npt.NDArray[np.bool_]
_Place = TypeVar("_Place", _Spans, _Mask)


def field_of(layers: Sequence[Layer], name: str, channel: int | None = None) -> Field:
    """The receptive field of a layer's units by number.

    Args:
        layers: of the network, in order (`layers.describe`).
        name: of one of them.
        channel: of the unit; None for the field of all channels together.

    Raises:
        KeyError: there is no such layer.
        UnknownReachError: some layer before it is of an unknown kind.
    """

    def window(spans: _Spans, layer: Layer, reach: Window) -> _Spans:
        rows, columns = (
            (
                first * reach.stride[axis] - reach.before[axis],
                last * reach.stride[axis] - reach.before[axis] + (reach.kernel[axis] - 1) * reach.dilation[axis],
            )
            for axis, (first, last) in enumerate(spans)
        )
        return rows, columns

    def join(one: _Spans, other: _Spans) -> _Spans:
        rows, columns = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
        return rows, columns

    def walk(position: int) -> tuple[_Spans | None, bool]:
        start = ((position, position), (position, position))
        return _walk(layers, name, channel, start, window, join, None, gates=False)

    here, gated = walk(0)
    beside, _ = walk(1)
    if here is None or beside is None:
        return Field(None, None, gated)
    height, width = (last - first + 1 for first, last in here)
    down, right = (after[0] - before[0] for before, after in zip(here, beside, strict=True))
    return Field((height, width), (down, right), gated)


def mask_of_unit(
    layers: Sequence[Layer], name: str, position: tuple[int, int], channel: int | None = None, *, gates: bool = False
) -> _Mask:
    """Which pixels of the film a unit depends on.

    Args:
        layers: of the network, in order (`layers.describe`).
        name: of one of them, with places: its output is (h, w, C).
        position: row and column of the unit.
        channel: of the unit; None for all channels of the position.
        gates: whether squeeze-and-excite gates are followed: then the field behind one is the whole film.

    Returns:
        bool (size, size), over the film as the network gets it.

    Raises:
        KeyError: there is no such layer.
        ValueError: the position is outside the layer.
        UnknownReachError: some layer before it is of an unknown kind.
    """
    shapes = {layer.name: layer.shape for layer in layers}
    if len(shapes[name]) != 3 or not all(0 <= at < size for at, size in zip(position, shapes[name], strict=False)):
        raise ValueError(f"{name} has no position {position}: its output is {shapes[name]}.")

    def window(mask: _Mask, layer: Layer, reach: Window) -> _Mask:
        for axis in (0, 1):
            mask = _widened(mask, axis, reach, shapes[layer.inputs[0]][axis])
        return mask

    start: _Mask = np.zeros(shapes[name][:2], bool)
    start[position] = True

    def join(one: _Mask, other: _Mask) -> _Mask:
        return one | other

    def whole(mask: _Mask, layer: Layer) -> _Mask:
        # What is on padding depends on nothing, whatever its layer does.
        return np.full(layer.shape[:2] if len(layer.shape) == 3 else (1, 1), bool(mask.any()))

    found, _ = _walk(layers, name, channel, start, window, join, whole, gates=gates)
    film = next(layer.shape for layer in layers if not layer.inputs)
    return np.zeros(film[:2], bool) if found is None else found


def _widened(mask: _Mask, axis: int, reach: Window, size: int) -> _Mask:
    """A mask of a layer's positions -> mask of those of its input, `size` along `axis`, that they depend on."""
    mask = np.moveaxis(mask, axis, 0)
    kernel, stride, dilation, before = (
        pair[axis] for pair in (reach.kernel, reach.stride, reach.dilation, reach.before)
    )
    length = (len(mask) - 1) * stride + 1
    padded = np.zeros((max(length + (kernel - 1) * dilation, before + size), mask.shape[1]), bool)
    for tap in range(kernel):
        padded[tap * dilation : tap * dilation + length : stride] |= mask
    return np.moveaxis(padded[before : before + size], 0, axis)


def _walk(
    layers: Sequence[Layer],
    name: str,
    channel: int | None,
    start: _Place,
    window: Callable[[_Place, Layer, Window], _Place],
    join: Callable[[_Place, _Place], _Place],
    whole: Callable[[_Place, Layer], _Place] | None,
    *,
    gates: bool,
) -> tuple[_Place | None, bool]:
    """Follow what a unit depends on back to the film.

    Args:
        start: where the unit is in its layer.
        window: what that becomes in the input of a layer with a window.
        join: of what came by two ways.
        whole: all of a layer's output, where the place is one at all; without it the walk ends there.
        gates: whether gates are followed.

    Returns:
        Where it arrived on the film, None where the walk ended early or met padding only; and whether there were gates.
    """
    by_name = {layer.name: layer for layer in layers}
    # What is asked of a layer depends on the channel, as long as no layer has mixed the channels.
    asked: dict[str, dict[int | None, _Place]] = {name: {channel: start}}
    gated = False

    def ask(before: str, which: int | None, place: _Place) -> None:
        held = asked.setdefault(before, {})
        held[which] = join(held[which], place) if which in held else place

    for layer in reversed(layers[: layers.index(by_name[name]) + 1]):
        for which, place in asked.pop(layer.name, {}).items():
            if not layer.inputs:
                ask("", None, place)
                continue
            if layer.reach == UNKNOWN:
                raise UnknownReachError(
                    f"{layer.name} is of a kind that is not known here, so what {name} sees cannot be told."
                )
            gated |= layer.kind == "gate"
            for before, mine in _asked_of(layer, [by_name[one] for one in layer.inputs], which):
                if layer.kind == "gate" and not before.has_places and not gates:
                    continue
                moved = _moved(layer, before, place, window, whole)
                if moved is None:
                    return None, gated
                ask(before.name, mine, moved)
    arrived = asked.get("", {})
    return (next(iter(arrived.values())) if arrived else None), gated


def _asked_of(layer: Layer, entering: list[Layer], which: int | None) -> Iterator[tuple[Layer, int | None]]:
    """The inputs that a channel of a layer depends on, and which of their channels; None for all."""
    if layer.kind != "concatenate" or which is None:
        yield from ((before, None if layer.mixes else which) for before in entering)
        return
    first = 0
    for before in entering:
        if first <= which < first + before.shape[-1]:
            yield before, which - first
        first += before.shape[-1]


def _moved(
    layer: Layer,
    before: Layer,
    place: _Place,
    window: Callable[[_Place, Layer, Window], _Place],
    whole: Callable[[_Place, Layer], _Place] | None,
) -> _Place | None:
    if isinstance(layer.reach, Window):
        return window(place, layer, layer.reach)
    single = not before.has_places and layer.has_places
    if layer.reach == ALL or single:
        return whole(place, before) if whole else None
    return place
