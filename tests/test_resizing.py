"""Resizing against Pillow, which does the same in another way."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cxrmodels import resizing
from cxrmodels.resizing import bilinear


@pytest.mark.parametrize(
    ("shape", "width", "height"),
    [
        ((1024, 1024), 128, 128),
        ((777, 1033), 224, 150),  # neither side a multiple of anything
        ((3000, 70), 64, 64),  # one side shrinks by fifty, the other hardly
        ((40, 6000), 2, 3),  # so much that a band makes one row
        ((7, 7), 420, 401),  # heat maps grow
        ((100, 3), 2, 50),  # one side grows, the other shrinks
        ((300, 200), 201, 299),
        ((1, 1), 5, 3),
        ((80, 96), 1, 1),
    ],
)
def test_it_is_what_pillow_gives(shape: tuple[int, int], width: int, height: int) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    oracle = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
    found = bilinear(values, width, height)
    assert found.dtype == np.float32
    assert found.shape == (height, width)
    assert np.abs(found - oracle).max() < 1e-6


def test_parts_and_other_kinds_of_pictures() -> None:
    values = np.random.default_rng(1).random((200, 300), np.float32)
    part = values[20:160, 50:290]
    assert np.array_equal(bilinear(part, 64, 64), bilinear(part.copy(), 64, 64))
    turned = np.asfortranarray(values)
    assert np.allclose(bilinear(turned, 64, 64), bilinear(values, 64, 64), atol=1e-6)
    drawn = values > 0.5
    assert np.array_equal(bilinear(drawn, 30, 20), bilinear(drawn.astype(np.float32), 30, 20))


def test_the_same_size_is_the_same_picture() -> None:
    values = np.random.default_rng(2).random((90, 77), np.float32)
    assert np.array_equal(bilinear(values, 77, 90), values)


def test_what_is_kept_for_the_longest_sides_is_bounded() -> None:
    starts, weights = resizing._bands(2**16, 256)
    assert weights.nbytes < 4 * 2**20
    assert len(starts) == len(weights)
    kept = resizing._bands.cache_info().maxsize
    assert kept is not None
    assert kept * 4 <= 64


@pytest.mark.parametrize(("shape", "width"), [((0, 5), 4), ((5, 5), 0), ((5,), 4), ((5, 5, 3), 4)])
def test_no_pixels_no_picture(shape: tuple[int, ...], width: int) -> None:
    with pytest.raises(ValueError, match="expected two sides"):
        bilinear(np.zeros(shape, np.float32), width, 4)
