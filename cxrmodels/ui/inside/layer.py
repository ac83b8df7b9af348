"""One layer: what it does in a sentence, its size, its filters, and its strongest channels."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from cxrmodels.explain.feature_maps import Maps, Network
from cxrmodels.explain.layers import KINDS, SOFTMAX, Layer
from cxrmodels.explain.receptive_field import UnknownReachError, field_of
from cxrmodels.findings import TITLES
from cxrmodels.models import spec
from cxrmodels.plots import percent, png, unit_bars
from cxrmodels.ui.films import escaped
from cxrmodels.ui.frame import ink
from cxrmodels.ui.gallery import Item, gallery
from cxrmodels.ui.inside.drawing import enlarged, filter_picture

_SHOWN = 24
_SMALL = 96


def show_layer(key: str, network: Network, layer: Layer, maps: Maps) -> int:
    """The layer and its channels; returns the channel that is chosen."""
    chosen = f"inside_channel {key} {layer.name}"
    channel: int = st.session_state.setdefault(chosen, int(maps.strongest[0]))

    def pick(name: str) -> None:
        st.session_state[chosen] = int(name)

    about, shown = st.columns([2, 3], gap="medium")
    with about:
        _about(key, network, layer)
    with shown:
        if layer.has_places:
            gallery(
                [_item(maps, int(number)) for number in maps.strongest[:_SHOWN]],
                label=f"Strongest channels of {layer.name}",
                chosen=str(channel),
                on_pick=pick,
                key=f"inside_channels {key} {layer.name}",
                small=True,
            )
            st.caption(_silent(maps))
        else:
            _bars(key, layer, maps)
    if layer.name == network.filtered:
        _filters(key, network, layer, str(channel), pick)
    return _number(key, layer, chosen)


def _number(key: str, layer: Layer, widget: str) -> int:
    """The channel, by number; where units stand for findings, by name."""
    if named := names_of(key, layer):
        return int(st.selectbox("Finding", range(len(named)), format_func=named.__getitem__, key=widget))
    most = layer.shape[-1] - 1
    label = f"{'Channel' if layer.has_places else 'Unit'}, 0 to {most}"
    return int(st.number_input(label, 0, most, key=widget, width=220))


def names_of(key: str, layer: Layer) -> list[str]:
    """Findings that the units of a layer stand for, as their titles; empty for other layers."""
    findings = spec(key).findings
    ends = layer.name in (SOFTMAX, "logits") and layer.shape == (len(findings),)
    return [TITLES.get(finding, finding) for finding in findings] if ends else []


def size_of(layer: Layer) -> str:
    """A layer's output in words."""
    if len(layer.shape) == 3:
        height, width, channels = layer.shape
        return f"{height} x {width}, {channels} channel{'s' * (channels > 1)}"
    return f"{layer.shape[0]} number{'s' * (layer.shape[0] > 1)}"


def _about(key: str, network: Network, layer: Layer) -> None:
    st.markdown(f"##### {KINDS[layer.kind].title}")
    st.markdown(layer.sentences())
    learnt = f"{layer.parameters:,} learnt numbers" if layer.parameters else "nothing learnt"
    settings = f"{layer.settings}; " if layer.settings else ""
    st.markdown(f"**{escaped(layer.name)}**: {settings}output {size_of(layer)}; {learnt}.")
    st.markdown(_field(key, network, layer))


def _field(key: str, network: Network, layer: Layer) -> str:
    size = spec(key).input_size
    try:
        field = field_of(network.layers, layer.name)
    except UnknownReachError as error:
        return f"**Receptive field**: not known. {error}"
    if field.size is None or field.step is None:
        return f"**Receptive field**: the whole film of {size} x {size} pixels."
    (height, width), (down, right) = field.size, field.step
    larger = " That is more than the film: what lies outside is padding." if max(height, width) > size else ""
    gates = " Squeeze-and-excite gates before it look at the whole film besides." if field.gated else ""
    step = f"{down} pixel{'s' * (down > 1)}" if down == right else f"{down} and {right} pixels"
    return (
        f"**Receptive field**: {height} x {width} pixels of the film's {size} x {size}; those of neighbouring units "
        f"are {step} apart.{larger}{gates}"
    )


def _item(maps: Maps, number: int) -> Item:
    value = float(maps.mean[number])
    mean = "mean 0" if not maps.strength[number] else f"mean {value:.2g}" if abs(value) >= 0.001 else "mean < 0.001"
    return Item(
        str(number),
        f"{number}",
        f"Choose channel {number}, {mean}",
        png(enlarged(maps.pictures[number], _SMALL)),
        mean,
    )


def _silent(maps: Maps) -> str:
    count = len(maps.pictures)
    quiet = f" {maps.silent} of {count} channels are zero everywhere on this film." if maps.silent else ""
    shown = f"The {_SHOWN} strongest of {count} channels" if count > _SHOWN else f"All {count} channels"
    return (
        f"{shown}, by the mean size of their activations, whatever the sign; the mean stands below. Each is drawn from "
        f"its own least (black) to its greatest value (white).{quiet} Choose one."
    )


def _bars(key: str, layer: Layer, maps: Maps) -> None:
    named = names_of(key, layer)
    units = range(len(named)) if named else sorted(int(number) for number in maps.strongest[:_SHOWN])
    values = [float(maps.mean[number]) for number in units]
    names = [named[number] if named else str(number) for number in units]
    said = [percent(value) if layer.name == SOFTMAX else f"{value:.3g}" for value in values]
    st.plotly_chart(
        unit_bars(names, values, said, ink()),
        config={"displayModeBar": False},
        key=f"inside_bars {layer.name}",
        alt=f"Activations of {layer.name}: "
        + ", ".join(f"{one} {text}" for one, text in zip(names, said, strict=True)),
    )
    if len(maps.mean) > len(names):
        st.caption(
            f"The {len(names)} strongest of {len(maps.mean)} units, in their order. They have no place on the film."
        )


def _filters(key: str, network: Network, layer: Layer, chosen: str, pick: Callable[[str], None]) -> None:
    st.markdown("##### The patterns it looks for")
    gallery(
        [
            Item(str(number), f"{number}", f"Choose filter {number}", png(enlarged(filter_picture(kernel), _SMALL)))
            for number, kernel in enumerate(network.filters)
        ],
        label=f"Filters of {layer.name}",
        chosen=chosen,
        on_pick=pick,
        key=f"inside_filters {key}",
        small=True,
    )
    height, width = network.filters.shape[1:]
    st.caption(
        f"The {len(network.filters)} learnt filters of the first convolution, {height} x {width}, as they act on a "
        "grey film. White counts for a pattern, black against it, mid grey not at all; each is drawn to its own scale."
    )
