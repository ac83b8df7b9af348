"""The shortcut lab: what each change does to a film, and what is made of the answers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cxrmodels.engine import Engine
from cxrmodels.explain.changes import CHANGES, changed, possible, with_marker
from cxrmodels.explain.shortcuts import Trial, signs, trials
from cxrmodels.explain.steps import finish
from cxrmodels.inference import predict
from cxrmodels.phantom import Phantom, phantom
from cxrmodels.zoo import load

SIDE = 128


@cache
def drawn(finding: str = "covid19") -> Phantom:
    return phantom(finding, seed=5, size=SIDE)


@cache
def engine() -> Engine:
    return Engine(load("two_conv_cnn"))


def after(change: str) -> np.ndarray:
    return changed(drawn().radiograph(), change, drawn().lung_mask).pixels


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_another_film_and_leaves_the_first(change: str) -> None:
    film = drawn().radiograph()
    before = film.pixels.copy()
    one = changed(film, change, drawn().lung_mask)
    np.testing.assert_array_equal(film.pixels, before)
    assert one.sha256 != film.sha256
    assert one.sha256 == changed(film, change, drawn().lung_mask).sha256
    assert len({changed(film, key, drawn().lung_mask).sha256 for key in CHANGES}) == len(CHANGES)
    assert one.pixels.dtype == np.float32
    assert not one.pixels.flags.writeable
    assert 0 <= one.pixels.min() <= one.pixels.max() <= 1
    assert min(one.pixels.shape) > 0.8 * SIDE
    assert one.notes[-1] == CHANGES[change].title.lower()
    assert not np.array_equal(one.pixels, before)


def test_lungs_are_what_is_painted_or_kept() -> None:
    film, lungs = drawn().pixels, drawn().lung_mask
    np.testing.assert_array_equal(after("no_lungs")[~lungs], film[~lungs])
    assert not after("no_lungs")[lungs].any()
    np.testing.assert_array_equal(after("lungs_only")[lungs], film[lungs])
    assert not after("lungs_only")[~lungs].any()


@pytest.mark.parametrize("change", ["no_corners", "marker", "text"])
def test_marks_leave_the_middle_of_the_film_alone(change: str) -> None:
    differs = after(change) != drawn().pixels
    quarter = slice(SIDE // 4, -SIDE // 4)
    assert differs.any()
    assert not differs[quarter, quarter].any()


def test_the_marker_stands_where_the_patients_right_is() -> None:
    rows, columns = np.nonzero(after("marker") != drawn().pixels)
    assert rows.max() < SIDE / 3
    assert columns.max() < SIDE / 3
    assert with_marker(np.zeros((70, 70), np.uint8), np.uint8(255)).max() == 255


def test_the_border_is_a_frame() -> None:
    kept = after("border_only") == drawn().pixels
    assert kept[0].all()
    assert kept[:, -1].all()
    assert not after("border_only")[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4].any()


def test_changes_of_shape() -> None:
    assert not after("squashed")[:, 0].any()
    assert after("squashed").shape == (SIDE, SIDE)
    np.testing.assert_array_equal(after("cropped"), drawn().pixels[10:-10, 10:-10])
    np.testing.assert_allclose(after("inverted"), 1 - drawn().pixels)


def test_without_a_mask_some_cannot_be_made() -> None:
    assert set(possible(None)) == set(CHANGES) - {"no_lungs", "lungs_only"}
    assert possible(drawn().lung_mask) == tuple(CHANGES)
    for mask in (None, drawn().lung_mask[:-1], drawn().lung_mask.astype(np.uint8)):
        with pytest.raises(ValueError, match="mask of the lungs"):
            changed(drawn().radiograph(), "no_lungs", mask)
    with pytest.raises(KeyError, match=r"mirrored.*no_lungs"):
        changed(drawn().radiograph(), "mirrored")


@pytest.mark.parametrize("masked", [True, False])
def test_trials_are_what_the_model_says_of_the_changed_films(masked: bool) -> None:
    film, lungs = drawn().radiograph(), drawn().lung_mask if masked else None
    prediction, _ = predict(engine(), film)
    shares: list[float] = []
    found = finish(trials(engine(), film, prediction, "covid19", lungs), shares.append)
    assert [trial.change for trial in found] == list(possible(lungs))
    assert len(shares) == len(found)
    for trial in found:
        expected, _ = predict(engine(), changed(film, trial.change, lungs))
        assert trial.after == expected.probability("covid19")
        assert trial.before == prediction.probability("covid19")
        assert trial.decision == expected.decision


@pytest.mark.parametrize(
    ("change", "before", "after", "finding", "found"),
    [
        ("marker", 0.1, 0.9, "covid19", "R pasted in"),
        ("marker", 0.9, 0.8, "covid19", ""),
        ("no_corners", 0.9, 0.3, "normal", "Hiding the corners"),
        ("text", 0.5, 0.8, "covid19", "PORTABLE"),
        ("no_lungs", 0.9, 0.8, "covid19", "lungs painted black"),
        ("no_lungs", 0.9, 0.2, "covid19", ""),
        ("no_lungs", 0.9, 0.9, "normal", ""),
        ("no_lungs", 0.1, 0.9, "covid19", ""),
        ("border_only", 0.9, 0.7, "covid19", "border alone"),
        ("inverted", 0.9, 0.1, "covid19", ""),
        ("cropped", 0.9, 0.1, "covid19", ""),
    ],
)
def test_signs(change: str, before: float, after: float, finding: str, found: str) -> None:
    said = signs([Trial(change, before, after, "not sure")], finding)
    assert len(said) == bool(found)
    assert found in "".join(said)
