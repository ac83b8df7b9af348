"""The synthetic films: repeatable, plausible, and with nothing outside the lungs that tells the finding."""

from __future__ import annotations

import hashlib
import io
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cxrmodels.findings import TITLES
from cxrmodels.phantom import FINDINGS, PATTERNS, Phantom, phantom, phantoms
from cxrmodels.radiograph import SYNTHETIC_MARK, read_radiograph

ILL = tuple(finding for finding in FINDINGS if finding != "normal")
PATIENTS = range(12)


@cache
def film(finding: str, index: int, difficulty: float = 0.3, noise: float = 0.3) -> Phantom:
    return phantom(finding, seed=7, index=index, size=128, difficulty=difficulty, noise=noise)


def change(finding: str, index: int, difficulty: float = 0.3, noise: float = 0.0) -> NDArray[np.float32]:
    """What the finding adds to the film of the same patient in good health, in grey (128 x 128)."""
    return film(finding, index, difficulty, noise).pixels - film("normal", index, difficulty, noise).pixels


def test_findings_are_findings_of_the_program() -> None:
    assert set(FINDINGS) <= set(TITLES)
    assert set(PATTERNS) == set(FINDINGS)


@pytest.mark.parametrize("finding", FINDINGS)
def test_same_arguments_same_film(finding: str) -> None:
    one, two = (phantom(finding, seed=3, index=5, size=96) for _ in range(2))
    assert one.png() == two.png()
    assert one.pixels.tobytes() == two.pixels.tobytes()
    assert np.array_equal(one.finding_mask, two.finding_mask)
    assert np.array_equal(one.lung_mask, two.lung_mask)


def test_seed_and_index_make_another_patient() -> None:
    films = [phantom("normal", seed=s, index=i, size=64).png() for s, i in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len(set(films)) == 4


def test_a_prefix_of_a_series_is_stable() -> None:
    few, many = (list(phantoms(n, seed=11, size=64)) for n in (5, 9))
    assert [p.png() for p in few] == [p.png() for p in many[:5]]
    assert many[6].png() == phantom(many[6].finding, seed=11, index=6, size=64).png()


def test_a_series_takes_the_findings_in_turn() -> None:
    assert [p.finding for p in phantoms(8, seed=0, size=64)] == [*FINDINGS, *FINDINGS]
    two = ("covid19", "normal")
    assert [p.finding for p in phantoms(3, seed=0, findings=two, size=64)] == ["covid19", "normal", "covid19"]
    assert list(phantoms(0, seed=0)) == []


@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("size", [64, 150, 300])
def test_arrays(finding: str, size: int) -> None:
    p = phantom(finding, seed=1, size=size, noise=1.0)
    assert p.pixels.dtype == np.float32
    assert p.pixels.min() >= 0
    assert p.pixels.max() <= 1
    masks = (p.finding_mask, p.lung_mask, p.right_lung_mask, p.left_lung_mask)
    assert all(mask.dtype == np.bool_ for mask in masks)
    assert all(array.shape == (size, size) for array in (p.pixels, *masks))
    assert not any(array.flags.writeable for array in (p.pixels, p.finding_mask, p.lung_mask, p.right_lung_mask))


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("finding", ILL)
def test_the_finding_lies_inside_the_lungs(finding: str, difficulty: float) -> None:
    for index in PATIENTS:
        p = film(finding, index, difficulty)
        assert p.finding_mask.any()
        assert not (p.finding_mask & ~p.lung_mask).any()
        assert not film("normal", index, difficulty).finding_mask.any()


@pytest.mark.parametrize("finding", ILL)
def test_the_finding_changes_nothing_but_its_place(finding: str) -> None:
    for index in PATIENTS:
        p, healthy = film(finding, index), film("normal", index)
        assert np.array_equal(p.lung_mask, healthy.lung_mask)
        # Bit for bit, noise and all: there is nothing to learn outside the lungs.
        assert np.array_equal(p.pixels[~p.lung_mask], healthy.pixels[~p.lung_mask])
        difference = np.abs(change(finding, index))
        assert difference[p.finding_mask].sum() > 0.85 * difference.sum()
        assert np.median(difference[p.finding_mask]) > 0.01


@pytest.mark.parametrize("finding", ILL)
def test_findings_are_bright(finding: str) -> None:
    for index in PATIENTS:
        assert change(finding, index)[film(finding, index).finding_mask].mean() > 0.02
        assert change(finding, index).min() >= 0


@pytest.mark.parametrize("finding", ILL)
def test_difficulty_takes_contrast_away(finding: str) -> None:
    for index in PATIENTS:
        sums = [change(finding, index, difficulty).sum() for difficulty in (0.0, 0.35, 0.7, 1.0)]
        means = [change(finding, index, d)[film(finding, index, d).finding_mask].mean() for d in (0.0, 0.35, 0.7, 1.0)]
        assert sums == sorted(sums, reverse=True)
        assert means == sorted(means, reverse=True)
        assert sums[-1] > 0


def test_noise_adds_noise() -> None:
    for index in PATIENTS:
        rough = []
        for noise in (0.0, 0.5, 1.0):
            p = film("normal", index, 0.3, noise).pixels
            rough.append(np.abs(np.diff(p[40:100, 40:90], n=2)).mean())
        assert rough[0] < rough[1] < rough[2]


def test_patterns_are_where_they_belong() -> None:
    def sides(p: Phantom) -> tuple[float, float]:
        right = (p.finding_mask & p.right_lung_mask).sum() / p.right_lung_mask.sum()
        return float(right), float((p.finding_mask & p.left_lung_mask).sum() / p.left_lung_mask.sum())

    rows = np.arange(128)[:, None]
    for index in PATIENTS:
        assert min(sides(film("covid19", index))) > 0
        assert min(sides(film("viral_pneumonia", index))) > 0.3
        assert min(sides(film("bacterial_pneumonia", index))) == 0
    lower = [
        (rows * film("covid19", i).finding_mask).sum() / film("covid19", i).finding_mask.sum()
        > (rows * film("covid19", i).lung_mask).sum() / film("covid19", i).lung_mask.sum()
        for i in PATIENTS
    ]
    assert np.mean(lower) > 0.7


@pytest.mark.parametrize("index", PATIENTS)
def test_anatomy(index: int) -> None:
    p = film("normal", index)
    right, left = p.right_lung_mask, p.left_lung_mask
    lungs = p.pixels[p.lung_mask].mean()
    rows, columns = np.nonzero(p.lung_mask)
    middle = slice(int(np.quantile(rows, 0.3)), int(np.quantile(rows, 0.7)))
    # The corners above the shoulders are air; the mediastinum is brighter than the lungs beside it.
    assert p.pixels[:4, [0, 1, 2, -3, -2, -1]].mean() < 0.15 < lungs
    between = int((np.nonzero(right)[1].max() + np.nonzero(left)[1].min()) / 2)
    assert p.pixels[middle, between - 3 : between + 4].mean() > lungs + 0.15
    assert 0.1 < p.lung_mask.mean() < 0.45
    # The patient's right is on the left; the heart takes room from the left lung.
    assert np.nonzero(right)[1].mean() < 64 < np.nonzero(left)[1].mean()
    assert right.sum() > left.sum()
    assert rows.min() > 2
    assert columns.max() - columns.min() > 64


def test_the_right_dome_is_the_higher_one() -> None:
    # A tilted patient may turn it round on one film, so it is a matter of the average.
    higher = [_dome(p.left_lung_mask) - _dome(p.right_lung_mask) for p in (film("normal", i) for i in PATIENTS)]
    assert np.mean(higher) > 0.5


def _dome(lung: NDArray[np.bool_]) -> float:
    """The row where the middle of this lung ends, in pixels from the top."""
    columns = np.nonzero(lung.any(axis=0))[0]
    span = columns[int(len(columns) * 0.35) : int(len(columns) * 0.65)]
    return float(np.mean([np.nonzero(lung[:, c])[0].max() for c in span]))


def _accuracy(features: NDArray[Any], labels: NDArray[Any]) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, tol=0.01, max_iter=500))
    return float(cross_val_score(model, features, labels, cv=3).mean())


def test_findings_can_be_learnt_from_the_lungs_and_from_nothing_else() -> None:
    inside, outside, corners, labels = [], [], [], []
    corner = (slice(8), slice(-8, None))
    for seed in (21, 22, 23):
        for p in phantoms(240, seed=seed, size=64, difficulty=0.2, noise=0.3):
            inside.append((p.pixels * p.lung_mask).reshape(32, 2, 32, 2).mean(axis=(1, 3)).ravel())
            outside.append((p.pixels * ~p.lung_mask).reshape(16, 4, 16, 4).mean(axis=(1, 3)).ravel())
            corners.append([p.pixels[rows, columns].mean() for rows in corner for columns in corner])
            labels.append(p.finding)
    truth = np.array(labels)
    assert _accuracy(np.array(inside), truth) > 0.6
    # One in four is chance; with 720 films three standard errors are 0.05.
    assert _accuracy(np.array(outside), truth) < 0.31
    assert _accuracy(np.array(corners), truth) < 0.31


def test_png_is_read_back_as_the_same_synthetic_film() -> None:
    p = film("covid19", 3)
    data = p.png()
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "L"
        assert picture.info["Software"] == SYNTHETIC_MARK
    read = read_radiograph(data, "download.png")
    assert read.synthetic
    assert read.sha256 == p.radiograph().sha256
    assert np.abs(read.pixels - p.pixels).max() < 1e-6


def test_radiograph() -> None:
    p = film("covid19", 3)
    radiograph = p.radiograph()
    assert radiograph.name == "phantom 0003"
    assert radiograph.sha256 == hashlib.sha256(p.png()).hexdigest()
    assert radiograph.synthetic
    assert radiograph.format == "synthetic"
    assert radiograph.original_size == (128, 128)
    assert radiograph.notes[0].startswith("synthetic film: bilateral peripheral ground glass")
    assert radiograph.pixels is p.pixels


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"finding": "tuberculosis"}, "finding is 'tuberculosis'; expected one of normal, covid19"),
        ({"size": 63}, "size is 63; expected a whole number from 64 to 1024"),
        ({"size": 1025}, "size is 1025"),
        ({"size": 224.0}, "size is 224.0"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0"),
        ({"seed": True}, "seed is True"),
        ({"index": "3"}, "index is '3'"),
        ({"difficulty": 1.1}, "difficulty is 1.1; expected a number from 0 to 1"),
        ({"difficulty": float("nan")}, "difficulty is nan"),
        ({"noise": -0.1}, "noise is -0.1; expected a number from 0 to 1"),
        ({"noise": "much"}, "noise is 'much'"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        phantom(**{"finding": "normal", "seed": 0, **wrong})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"count": -1}, "count is -1; expected a whole number"),
        ({"count": 2.0}, "count is 2.0"),
        ({"findings": ()}, r"findings is \(\); expected a list"),
        ({"findings": "normal"}, "findings is 'normal'"),
        ({"findings": ("normal", "flu")}, "finding is 'flu'"),
        ({"size": 8}, "size is 8"),
    ],
)
def test_a_series_complains_before_its_first_film(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        phantoms(**{"count": 1, "seed": 0, **wrong})
