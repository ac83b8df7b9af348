"""The viewer's Python half: what is sent to the browser, and that it can be put on a page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from cxrmodels.radiograph import Floats, resize
from cxrmodels.ui import viewer
from cxrmodels.ui.components import asset


@pytest.fixture(autouse=True)
def _empty_caches() -> Iterator[None]:
    """Streamlit's caches outlive a test."""
    st.cache_data.clear()
    yield
    st.cache_data.clear()


def noise(rows: int, columns: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random((rows, columns), dtype=np.float32)


def decoded(film: viewer.Film) -> np.ndarray:
    """The 16-bit greys of a film as fractions of white."""
    with Image.open(io.BytesIO(film.png)) as image:
        assert image.format == "PNG"
        values = np.asarray(image)
    greys = values if film.levels is None else np.array(film.levels)[values]
    return greys.astype(np.float64) / 65535


@pytest.mark.parametrize("shape", [(1, 1), (64, 96), (97, 61), (1, 300), (1024, 700)])
def test_keeps_sixteen_bits(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    shown = decoded(viewer.film_png(pixels))
    assert shown.shape == shape
    assert np.abs(shown - pixels).max() <= 1 / 65535


@pytest.mark.parametrize("count", [1, 2, 256, 257, 65536])
def test_every_grey_level_survives(count: int) -> None:
    levels = np.linspace(0, 65535, count).astype(int)
    film = viewer.film_png((np.resize(levels, (256, 256)) / 65535).astype(np.float32))
    np.testing.assert_array_equal(np.rint(decoded(film) * 65535).astype(int), np.resize(levels, (256, 256)))
    assert (film.levels is None) == (count > 256)


@pytest.mark.parametrize("greys", [256, 257])
def test_is_the_kind_of_png_that_the_browser_side_reads(greys: int) -> None:
    film = viewer.film_png(np.resize(np.linspace(0, 1, greys, dtype=np.float32), (20, 30)))
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", film.png[16:29])
    assert (width, height, depth, colour, interlace) == (30, 20, 8 if film.levels else 16, 0, 0)


def test_few_greys_make_a_smaller_film() -> None:
    greys = np.rint(255 * noise(200, 200)) / 255
    few, many = viewer.film_png(greys.astype(np.float32)), viewer.film_png(noise(200, 200))
    assert len(few.png) < 0.6 * len(many.png)


@pytest.mark.parametrize(
    ("shape", "sent"),
    [
        ((500, 400), (400, 500)),
        ((1024, 1024), (1024, 1024)),
        ((2048, 1025), (512, 1024)),
        ((1500, 3000), (1024, 512)),
        ((1025, 1000), (999, 1024)),
        ((4, 9000), (1024, 1)),
    ],
)
def test_is_shrunk_to_the_limit_and_never_enlarged(shape: tuple[int, int], sent: tuple[int, int]) -> None:
    assert viewer.sent_size(np.zeros(shape, np.float32)) == sent
    assert decoded(viewer.film_png(np.zeros(shape, np.float32))).shape == (sent[1], sent[0])


def test_shrinks_by_the_library_s_resize() -> None:
    pixels = noise(1100, 1300)
    expected = resize(pixels, *viewer.sent_size(pixels))
    assert np.abs(decoded(viewer.film_png(pixels)) - expected).max() <= 1 / 65535


def test_the_payload_of_pure_noise_stays_below_three_megabytes() -> None:
    # Noise is the worst case: nothing larger than this can be sent.
    assert len(base64.b64encode(viewer.film_png(noise(1024, 1024)).png)) < 3_000_000


@pytest.mark.parametrize("shape", [(50, 40), (1200, 1100)])
def test_accepts_a_read_only_film_and_leaves_it_alone(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    before = pixels.copy()
    pixels.flags.writeable = False
    viewer.film_png(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_clips_what_lies_outside_the_grey_range() -> None:
    shown = decoded(viewer.film_png(np.array([[-0.5, 0.0, 1.0, 1.5]], np.float32)))
    np.testing.assert_array_equal(shown, [[0, 0, 1, 1]])


@pytest.mark.parametrize("shape", [(5,), (5, 6, 3), (0, 6)])
def test_says_what_it_cannot_show(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        viewer.film_png(np.zeros(shape, np.float32))


def page(seed: int = 0) -> None:
    """A page with a viewer on it. AppTest runs its source on its own, hence the imports."""
    import numpy as np
    import streamlit as st

    from cxrmodels.ui.viewer import radiograph_viewer

    st.button("again")
    pixels = np.random.default_rng(seed).random((30, 20), dtype=np.float32)
    line = np.array([[0.123456, 0.5], [0.75, 1]])
    radiograph_viewer(
        pixels, sha256=f"film {seed}", alt="Noise", name="<b>noise</b>.png", key="film", height=300, outline=[line]
    )


def sent(at: AppTest) -> dict[str, object]:
    """What the page gives to the one viewer on it."""
    (component,) = at.get("bidi_component")
    data = json.loads(component.proto.json)
    assert isinstance(data, dict)
    return data


def test_stands_on_a_page_and_sends_the_film() -> None:
    at = AppTest.from_function(page).run()
    assert not at.exception
    data = sent(at)
    film, levels = data.pop("film"), data.pop("levels")
    assert data == {
        "outline": [[[0.1235, 0.5], [0.75, 1]]],
        "key": "film",
        "sha256": "film 0",
        "name": "<b>noise</b>.png",
        "alt": "Noise",
        "height": 300,
        "columns": 20,
        "rows": 30,
    }
    assert isinstance(film, str)
    assert levels is None
    assert np.abs(decoded(viewer.Film(base64.b64decode(film), None)) - noise(30, 20)).max() <= 1 / 65535


def test_a_rerun_sends_the_very_same_message() -> None:
    # Streamlit then transmits a reference only, and the browser keeps what it shows.
    at = AppTest.from_function(page).run()
    first = at.get("bidi_component")[0].proto.SerializeToString(deterministic=True)
    at.button[0].click().run()
    again = at.get("bidi_component")[0].proto.SerializeToString(deterministic=True)
    assert hashlib.sha256(first).digest() == hashlib.sha256(again).digest()


def test_another_film_is_not_taken_from_the_cache() -> None:
    first = sent(AppTest.from_function(page, kwargs={"seed": 0}).run())
    other = sent(AppTest.from_function(page, kwargs={"seed": 1}).run())
    assert first["film"] != other["film"]


@pytest.mark.parametrize("part", ["viewer.html", "viewer.css", "viewer.js"])
def test_loads_nothing_from_elsewhere(part: str) -> None:
    text = asset(part)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|\bfetch\(|\bimport\b", text)
