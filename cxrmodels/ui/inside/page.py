"""Inside a network: the strip of its blocks, the layer that is chosen, and one of its units."""

from __future__ import annotations

from functools import partial

import streamlit as st

from cxrmodels.engine import Engine
from cxrmodels.explain import feature_maps
from cxrmodels.explain.feature_maps import Maps, Network, Walk
from cxrmodels.explain.layers import KINDS, Block, Layer, blocks_of
from cxrmodels.explain.steps import Steps
from cxrmodels.models import available, spec
from cxrmodels.plots import png
from cxrmodels.ui.desk import Desk, look_again
from cxrmodels.ui.films import ChosenFilm
from cxrmodels.ui.gallery import Item, gallery
from cxrmodels.ui.inside.drawing import enlarged, no_places_png
from cxrmodels.ui.inside.layer import show_layer, size_of
from cxrmodels.ui.inside.unit import show_unit

PAGE = "inside"
_THUMBNAIL = 128


def show_inside(film: ChosenFilm) -> None:
    """The film's way through a network, layer by layer."""
    look_again(PAGE, _board, film)


def _board(film: ChosenFilm) -> bool:
    """Shows everything; returns whether it waits for something."""
    keys = available()
    if not keys:
        st.error("No network is shipped here. Restore the weights folder, or train one on the command line.")
        return False
    key = st.selectbox("Network", keys, format_func=lambda one: spec(one).title, key="inside_network")
    sha256 = film.radiograph.sha256
    desk = Desk(PAGE, (sha256, key))
    network: Network | None = desk.ask("look", key, feature_maps.look, "Opening the network", key)
    if network is None:
        st.skeleton(height=240)
        return desk.waiting
    layers = network.layers
    walked: Walk | None = desk.ask(
        "walk", key, lambda engine: feature_maps.walk(engine, film.radiograph, layers), "The film on its way"
    )
    if walked is None:
        st.skeleton(height=240)
        return desk.waiting
    layer = _choose_layer(key, network, walked)
    maps: Maps | None = desk.ask(
        "maps", key, partial(_maps, film, layer), "What the layer makes of it", sha256, layer.name
    )
    if maps is None:
        st.skeleton(height=320)
        return desk.waiting
    channel = show_layer(key, network, layer, maps)
    waiting = show_unit(film.radiograph, key, network, layer, maps, channel)
    return desk.waiting or waiting


def _maps(film: ChosenFilm, layer: Layer, engine: Engine) -> Steps[Maps]:
    return feature_maps.maps(engine, film.radiograph, layer.name)


def _choose_layer(key: str, network: Network, walked: Walk) -> Layer:
    """The strip of blocks, and the layers of the one that is chosen."""
    blocks = {block.name: block for block in blocks_of(network.layers)}
    learnt = sum(layer.parameters for layer in network.layers)
    st.caption(
        f"The film on its way, {len(network.layers)} layers in {len(blocks)} blocks, {learnt:,} learnt numbers. Each "
        "picture: how active the block is at each place, all channels together, from its least (black) to its most "
        "active place (white). Choose a block."
    )
    chosen = f"inside_block {key}"
    first = next((layer.block for layer in network.layers if layer.name == network.filtered), network.layers[0].block)
    if st.session_state.setdefault(chosen, first) not in blocks:
        st.session_state[chosen] = first

    def pick(block: str) -> None:
        st.session_state[chosen] = block

    gallery(
        [_item(block, walked) for block in blocks.values()],
        label="Blocks of the network",
        chosen=st.session_state[chosen],
        on_pick=pick,
        key=f"inside_strip {key}",
    )
    block = blocks[st.session_state[chosen]]
    layers = {layer.name: layer for layer in block.layers}
    name: str = st.selectbox(
        f"Layer of {block.name}, in the film's order",
        list(layers),
        index=next((number for number, layer in enumerate(layers) if layer == network.filtered), 0),
        format_func=lambda one: f"{one}: {KINDS[layers[one].kind].title}, {size_of(layers[one])}",
        key=f"inside_layer {key} {block.name}",
    )
    with st.expander(f"All {len(layers)} layers of {block.name}" if len(layers) > 1 else "As a table"):
        _table(block)
    return layers[name]


def _item(block: Block, walked: Walk) -> Item:
    size = " x ".join(map(str, block.end.shape)) if len(block.end.shape) > 1 else size_of(block.end)
    picture = walked.blocks.get(block.name)
    detail = f"{size}; {block.parameters:,} learnt" if block.parameters else size
    about = f"Open block {block.name}: output {size}, {block.parameters:,} learnt numbers"
    if picture is None:
        return Item(
            block.name, block.name, f"{about}; it has no places left to draw", no_places_png(_THUMBNAIL), detail
        )
    return Item(block.name, block.name, about, png(enlarged(picture, _THUMBNAIL)), detail)


def _table(block: Block) -> None:
    st.dataframe(
        [
            {
                "Layer": layer.name,
                "Kind": KINDS[layer.kind].title,
                "Size": layer.settings,
                "Then": KINDS[layer.activation].title if layer.activation else "",
                "From": ", ".join(layer.inputs),
                "Output": " x ".join(map(str, layer.shape)),
                "Learnt numbers": layer.parameters,
            }
            for layer in block.layers
        ],
        hide_index=True,
        width="stretch",
        key="inside_table",
    )
