"""One unit of a layer: its channel over the film, what it can see of the film, and the picture that excites it most."""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from cxrmodels import NOTICE
from cxrmodels.engine import Engine
from cxrmodels.explain.excite import STEPS, Excited, excite
from cxrmodels.explain.feature_maps import Maps, Network
from cxrmodels.explain.layers import SOFTMAX, Layer
from cxrmodels.explain.receptive_field import UnknownReachError, mask_of_unit
from cxrmodels.explain.saliency import on_film
from cxrmodels.explain.steps import Steps
from cxrmodels.models import spec
from cxrmodels.plots import framed, overlay, percent, png
from cxrmodels.radiograph import Radiograph, resize
from cxrmodels.ui.desk import Desk
from cxrmodels.ui.films import escaped
from cxrmodels.ui.inside.drawing import enlarged, marked
from cxrmodels.ui.inside.layer import names_of
from cxrmodels.ui.pictures import address, photo

PAGE = "inside"
_SIDE = 420
_OPACITY = 0.6
_ON_FILM, _EXCITES = "On the film", "What excites it most"


def show_unit(radiograph: Radiograph, key: str, network: Network, layer: Layer, maps: Maps, channel: int) -> bool:
    """The chosen channel or unit; returns whether it waits for something."""
    views = [_ON_FILM, _EXCITES] if layer.has_places else [_EXCITES]
    if not layer.inputs:
        views = [_ON_FILM]
    view = st.segmented_control(
        "Look at",
        views,
        default=views[0],
        required=True,
        key=f"inside_view {' '.join(views)}",
        label_visibility="collapsed",
    )
    if view == _EXCITES:
        return _excited(key, layer, maps, channel)
    _over_film(radiograph, key, network, layer, maps, channel)
    return False


def _over_film(radiograph: Radiograph, key: str, network: Network, layer: Layer, maps: Maps, channel: int) -> None:
    film, own = st.columns(2, gap="medium")
    rows, columns, _ = layer.shape
    with own:
        peak = maps.peak[channel]
        row = _slider("Row of the unit", rows, int(peak[0]), f"inside_row {key} {layer.name} {channel}")
        column = _slider("Column of the unit", columns, int(peak[1]), f"inside_column {key} {layer.name} {channel}")
        st.image(
            address(png(marked(maps.pictures[channel], (row, column), (rows, columns), _SIDE))),
            width=_SIDE,
            alt=f"Map of channel {channel} of {layer.name}, the unit in row {row} and column {column} framed",
        )
        st.caption(
            f"Channel {channel}: {maps.low[channel]:.3g} (black) to {maps.high[channel]:.3g} (white), mean "
            f"{maps.mean[channel]:.3g}. The frame is the unit; it starts where the channel is strongest."
        )
    with film:
        try:
            mask = mask_of_unit(network.layers, layer.name, (row, column), channel)
        except UnknownReachError as error:
            mask, said = np.ones(spec(key).input_size * np.ones(2, int), bool), str(error)
        else:
            said = _seen(mask)
        height, width = radiograph.pixels.shape
        scale = _SIDE / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        model = spec(key)
        heat = on_film(maps.positive(channel), model, radiograph, size)
        field = on_film(mask.astype(np.float32), model, radiograph, size) >= 0.5
        picture = overlay(resize(radiograph.pixels, size[1], size[0]), heat, _OPACITY)
        st.image(
            photo(picture if mask.all() else framed(picture, field)),
            width="stretch",
            alt=f"Channel {channel} of {layer.name} over the film; receptive field: {said}",
        )
        st.caption(
            f"Colour: where channel {channel} of {escaped(layer.name)} is above zero. The bright part: all that the "
            f"framed unit can see. {said} {NOTICE}"
        )


def _slider(label: str, count: int, start: int, key: str) -> int:
    if count == 1:
        return 0
    return int(st.slider(label, 0, count - 1, start, key=key))


def _seen(mask: np.ndarray) -> str:
    """What a unit sees, in words."""
    if mask.all():
        return "It can see the whole film."
    if not mask.any():
        return "It sees nothing of the film: all it gets is padding."
    high, wide = (int(np.ptp(np.flatnonzero(mask.any(axis)))) + 1 for axis in (1, 0))
    holes = "" if mask.sum() == high * wide else ", with gaps"
    film = f"{mask.shape[0]} x {mask.shape[1]}"
    return f"It sees {high} x {wide} pixels{holes} of the {film} that the network gets: {percent(float(mask.mean()))}."


def _excited(key: str, layer: Layer, maps: Maps, channel: int) -> bool:
    desk = Desk(PAGE, ("excite", key, layer.name, channel))
    named = names_of(key, layer)
    what = f"finding {named[channel]}" if named else f"{'channel' if layer.has_places else 'unit'} {channel}"
    control = st.empty()
    found: Excited | None = desk.ask(
        "excite", key, partial(_steps, layer.name, channel), f"Drawing what excites {what} most"
    )
    desk.control(control)
    if found is None:
        return desk.waiting
    picture, words = st.columns(2, gap="medium")
    picture.image(
        address(png(enlarged(found.picture, _SIDE))),
        width="stretch",
        alt=f"A picture that excites {what} of {layer.name}: {found.before:.3g} for noise, {found.after:.3g} for this",
    )
    with words:
        if found.after <= found.before:
            st.markdown(
                f"**No picture was found that excites {what} more than noise does** ({found.before:.3g}). It may look "
                "for something that noise gives no hint of, or for nothing at all."
            )
        else:
            score = "Score" if named else "Activation" + (", mean over its map" if layer.has_places else "")
            own = "" if layer.name == SOFTMAX else f"; on the film {maps.mean[channel]:.3g}"
            st.markdown(f"**{score}: {found.after:.3g}** for this picture; {found.before:.3g} for noise{own}.")
        st.markdown(
            f"Nobody drew this. It began as noise; in {STEPS} small steps each grey was changed so that {what} of "
            f"**{escaped(layer.name)}** answers more strongly. It shows what the network looks for, which need not "
            "look like anything in a chest."
        )
        st.caption(
            "Activation maximisation (Erhan et al. 2009) by tf-keras-vis, from seeded noise: drawn again it stays so. "
            "It is what the network would be given, not a film."
        )
    return desk.waiting


def _steps(layer: str, channel: int, engine: Engine) -> Steps[Excited]:
    return excite(engine, layer, channel)
