"""What several heat maps have in common, on maps whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxrmodels.explain.consensus import CHANCE, consensus
from cxrmodels.explain.methods import random_raw
from cxrmodels.explain.saliency import SaliencyMap
from cxrmodels.radiograph import resize

SIDE = 96


def a_map(heat: np.ndarray, model: str = "a") -> SaliencyMap:
    return SaliencyMap(model, "grad_cam", "covid19", "layer", "f" * 64, heat.astype(np.float32), float(heat.max()))


def spot(rows: slice, columns: slice) -> np.ndarray:
    heat = np.zeros((SIDE, SIDE))
    heat[rows, columns] = 1
    return heat


LEFT, RIGHT = spot(slice(20, 60), slice(0, 40)), spot(slice(20, 60), slice(50, 90))


def test_maps_that_agree_have_all_in_common() -> None:
    found = consensus([a_map(LEFT, name) for name in "abc"])
    assert found.models == ("a", "b", "c")
    np.testing.assert_array_equal(found.agreed, LEFT)
    assert not found.disputed.any()
    np.testing.assert_allclose(found.overlap, 1)
    assert found.mean_overlap == pytest.approx(1)


def test_maps_that_disagree_have_nothing_in_common() -> None:
    found = consensus([a_map(LEFT), a_map(RIGHT, "b"), a_map(LEFT, "c"), a_map(RIGHT, "d")])
    # Half of the models, and no more, have their evidence in either place.
    np.testing.assert_allclose(found.agreed, (LEFT + RIGHT) / 2)
    np.testing.assert_allclose(found.disputed, LEFT + RIGHT)
    assert found.overlap[0].tolist() == [1, 0, 1, 0]
    assert found.mean_overlap == pytest.approx(2 / 6)
    majority = consensus([a_map(LEFT), a_map(LEFT, "b"), a_map(RIGHT, "c")])
    np.testing.assert_array_equal(majority.agreed, LEFT)
    assert majority.disputed[RIGHT > 0] == pytest.approx(2 * np.std([0, 0, 1]))


def test_overlap_is_the_share_of_the_hottest_fifths() -> None:
    # A fifth of the film is 1,843 of 9,216 px: bands of 20 of 96 rows hold it, moved by half their width.
    ramp = np.tile(np.linspace(0.5, 1, SIDE), (SIDE, 1)).T
    lower = np.roll(ramp, 10, axis=0)
    lower[:10] = 0
    found = consensus([a_map(ramp), a_map(lower, "b")])
    assert found.overlap[0, 1] == pytest.approx(found.overlap[1, 0])
    assert found.overlap[0, 1] > 0.9
    found = consensus([a_map(ramp), a_map(np.roll(ramp, -10, axis=0), "b")])
    assert found.overlap[0, 1] == pytest.approx(0.5, abs=0.06)


def test_maps_that_know_nothing_have_a_fifth_in_common() -> None:
    maps = [a_map(resize(random_raw(seed), SIDE, SIDE), str(seed)) for seed in range(24)]
    assert consensus(maps).mean_overlap == pytest.approx(CHANCE, abs=0.02)


def test_an_empty_map_has_nothing_in_common_and_counts_in_the_consensus() -> None:
    empty = a_map(np.zeros((SIDE, SIDE)), "b")
    found = consensus([a_map(LEFT), empty, replace(empty, model="c")])
    assert found.overlap.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert not found.agreed.any()


def test_only_maps_of_one_kind_are_compared() -> None:
    one = a_map(LEFT)
    others = [
        replace(one, finding="normal"),
        replace(one, method="layer_cam"),
        replace(one, film_sha256="0" * 64),
        a_map(LEFT[:50]),
    ]
    for other in others:
        with pytest.raises(ValueError, match="got 2 of 2 kinds"):
            consensus([one, other])
    with pytest.raises(ValueError, match="got 1 of 1 kinds"):
        consensus([one])
    found = consensus([one, one])
    for array in (found.agreed, found.disputed, found.overlap):
        assert not array.flags.writeable
