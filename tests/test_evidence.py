"""Evidence in the lungs, against phantoms whose lungs and findings are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from cxrmodels.explain.evidence import evidence, in_words, sides
from cxrmodels.phantom import phantom

INDICES = range(6)


@pytest.mark.parametrize("index", INDICES)
def test_the_patients_right_lung_is_on_the_left_of_the_picture(index: int) -> None:
    drawn = phantom("normal", seed=3, index=index, size=160)
    right, left = sides(drawn.lung_mask)
    assert (right & drawn.right_lung_mask).sum() > 0.97 * right.sum()
    assert (left & drawn.left_lung_mask).sum() > 0.97 * left.sum()
    assert np.array_equal(right | left, drawn.lung_mask)
    assert not (right & left).any()


def test_lungs_that_touch_are_parted_in_the_middle() -> None:
    drawn = phantom("normal", seed=3, size=160)
    joined = drawn.lung_mask.copy()
    joined[70:76, 40:120] = True
    right, left = sides(joined)
    assert (right & drawn.right_lung_mask).sum() > 0.9 * drawn.right_lung_mask.sum()
    assert (left & drawn.left_lung_mask).sum() > 0.9 * drawn.left_lung_mask.sum()


@pytest.mark.parametrize("finding", ["covid19", "bacterial_pneumonia", "viral_pneumonia"])
@pytest.mark.parametrize("index", INDICES)
def test_a_perfect_map_is_told_from_where_the_finding_is(finding: str, index: int) -> None:
    drawn = phantom(finding, seed=3, index=index, size=160, difficulty=0.2)
    found = evidence(drawn.finding_mask.astype(np.float32), drawn.lung_mask)
    assert found.inside == pytest.approx(1)
    right = (drawn.finding_mask & drawn.right_lung_mask).sum() / drawn.finding_mask.sum()
    assert found.right == pytest.approx(right, abs=0.02)
    assert found.left == pytest.approx(1 - right, abs=0.02)
    expected = "both" if 0.25 < right < 0.75 else ("right" if right > 0.5 else "left")
    if min(abs(right - 0.25), abs(right - 0.75)) > 0.02:
        assert found.side == expected
    for share, lung in ((found.affected_right, drawn.right_lung_mask), (found.affected_left, drawn.left_lung_mask)):
        assert share == pytest.approx((drawn.finding_mask & lung).sum() / lung.sum(), abs=0.02)


def test_a_map_that_knows_nothing_has_inside_what_the_lungs_have_of_the_film() -> None:
    drawn = phantom("normal", seed=3, size=160)
    found = evidence(np.ones((40, 40), np.float32), drawn.lung_mask)
    assert found.inside == pytest.approx(found.lung_share)
    assert found.lung_share == pytest.approx(drawn.lung_mask.mean(), abs=0.02)
    assert found.side == "both"


def test_evidence_outside_is_no_lungs() -> None:
    drawn = phantom("normal", seed=3, size=160)
    outside = ~binary_dilation(drawn.lung_mask, iterations=3)
    found = evidence(outside.astype(np.float32), drawn.lung_mask)
    assert (found.inside, found.side) == (0, "neither")
    assert evidence(np.zeros((160, 160), np.float32), drawn.lung_mask).side == "neither"
    assert in_words(found).startswith("0 % of the evidence lies inside the lungs")


@pytest.mark.parametrize(("lung", "picture"), [("right", "left"), ("left", "right")])
def test_words_name_the_patients_side_and_the_pictures(lung: str, picture: str) -> None:
    drawn = phantom("normal", seed=3, size=160)
    mask = drawn.right_lung_mask if lung == "right" else drawn.left_lung_mask
    said = in_words(evidence(mask.astype(np.float32), drawn.lung_mask))
    assert f"the patient's {lung} lung ({picture} in the picture)" in said
    assert said.endswith(
        {"right": "100 % of the right lung, 0 % of the left.", "left": "0 % of the right lung, 100 % of the left."}[
            lung
        ]
    )


@pytest.mark.parametrize(
    "mask",
    [np.zeros((9, 9), bool), np.ones((9, 9), np.float32), np.ones((9, 9, 1), bool)],
    ids=["empty", "float", "3d"],
)
def test_what_is_no_mask_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"mask of the lungs"):
        evidence(np.ones((9, 9), np.float32), mask)
