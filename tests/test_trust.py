"""What heat maps are checked for, and that a network with a planted shortcut is found out."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from cxrmodels.engine import Engine
from cxrmodels.explain import trust
from cxrmodels.explain.evidence import Evidence, evidence
from cxrmodels.explain.faithfulness import (
    FIFTH,
    MAP_SIZE,
    MOST_LAYERS,
    NUDGES,
    RANDOM_MAPS,
    SHARES,
    Curves,
    Shuffled,
    Stability,
    area,
    cover,
    nudge,
    shuffle,
)
from cxrmodels.explain.methods import draw
from cxrmodels.explain.saliency import SaliencyMap
from cxrmodels.explain.shortcuts import signs, trials
from cxrmodels.explain.similarity import Likeness, likeness, ssim
from cxrmodels.explain.steps import finish
from cxrmodels.explain.trust import BAD, DO_NOT_TRUST, DOUBTFUL, GOOD, HOLDS_UP, WEAK, Badge, Check, judge
from cxrmodels.inference import network_input, predict
from cxrmodels.phantom import Phantom, phantom
from tests.bare import bare_engine
from tests.planted import FINDINGS, SIZE, held_out, learnt, shown

FINDING = FINDINGS[1]

# --- how alike two maps are -------------------------------------------------------------------------------------------


def _published(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13, for two pictures of the window's size: every weighted moment written out."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    mean_x, mean_y = (window * one).sum(), (window * other).sum()
    var_x, var_y = (window * (one - mean_x) ** 2).sum(), (window * (other - mean_y) ** 2).sum()
    covariance = (window * (one - mean_x) * (other - mean_y)).sum()
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))


@pytest.mark.parametrize("seed", range(4))
def test_ssim_is_the_published_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random((11, 11)), rng.random((11, 11))
    assert ssim(one, other) == pytest.approx(_published(one, other), abs=1e-9)
    assert ssim(one, one) == pytest.approx(1)
    # Of larger pictures, the mean over all windows.
    wide, also = rng.random((11, 13)), rng.random((11, 13))
    parts = [_published(wide[:, i : i + 11], also[:, i : i + 11]) for i in range(3)]
    assert ssim(wide, also) == pytest.approx(np.mean(parts), abs=1e-9)


def test_ssim_refuses_what_it_cannot_compare() -> None:
    for shapes in (((11, 11), (12, 11)), ((9, 20), (9, 20))):
        with pytest.raises(ValueError, match="11 x 11"):
            ssim(np.ones(shapes[0]), np.ones(shapes[1]))


def test_likeness() -> None:
    slope = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (60, 1))
    # Resized, greys that were equal come out a millionth apart, which ranks tell.
    assert likeness(slope, slope**3).rank == pytest.approx(1, abs=1e-3)
    assert likeness(slope, slope**3).ssim < 0.95
    assert likeness(slope, 1 - slope).rank == pytest.approx(-1, abs=1e-3)
    assert likeness(slope, slope[:30, :30]).rank > 0.99, "sizes need not agree"
    assert likeness(slope, np.zeros((60, 60), np.float32)) == Likeness(0, 0)


# --- covering, on a network that is known -----------------------------------------------------------------------------


def spot_engine() -> Engine:
    """A network that asks for one thing: how bright the upper left quarter is."""
    film = layers.Input((64, 64, 1), name="film")
    x = layers.Activation("linear", name="shown")(film)
    logits = layers.Dense(2, use_bias=False, name="logits")(layers.Flatten(name="flat")(x))
    network = keras.Model(film, logits, name="spot")
    weights = np.zeros((64, 64, 2), np.float32)
    weights[:32, :32, 1] = 6 / 32**2
    network.set_weights([weights.reshape(-1, 2)])
    return bare_engine(network, ("normal", "covid19"), "shown")


def test_curves_of_a_perfect_map_fall_and_rise_at_once() -> None:
    engine, film = spot_engine(), phantom("covid19", seed=1, size=64).radiograph()
    perfect = np.zeros((64, 64), np.float32)
    perfect[:32, :32] = 1
    shares: list[float] = []
    good = finish(cover(engine, film, "covid19", perfect), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert good.deletion.shape == good.insertion.shape == SHARES.shape
    assert good.random_deletion.shape == (RANDOM_MAPS, len(SHARES))
    prediction, _ = predict(engine, film)
    assert good.deletion[0] == pytest.approx(prediction.probability("covid19"), abs=1e-6)
    assert good.insertion[-1] == pytest.approx(good.deletion[0], abs=1e-6)
    # All that mattered is a quarter of the film: covered, nothing is left, and the rest changes nothing.
    np.testing.assert_allclose(good.deletion[SHARES >= 0.25], 0.5, atol=1e-6)
    assert (np.diff(good.deletion) <= 1e-6).all()
    assert good.gain > 0.05
    assert good.beats_all
    bad = finish(cover(engine, film, "covid19", 1 - perfect))
    assert bad.gain < 0
    assert not bad.beats_all
    assert area(good.deletion) < area(bad.deletion)
    same = finish(cover(engine, film, "covid19", perfect))
    np.testing.assert_array_equal(same.deletion, good.deletion)


def test_what_a_fifth_does_is_said() -> None:
    at = SHARES == FIFTH
    deletion = np.where(at, 0.31, 0.94)
    curves = Curves(deletion, deletion, np.tile(np.where(at, 0.88, 0.94), (3, 1)), np.tile(deletion, (3, 1)))
    assert curves.sentence() == (
        "Covering the hottest fifth lowers the score from 0.94 to 0.31; a random fifth, to 0.88."
    )
    assert at.sum() == 1
    assert len(SHARES) == 26


# --- the planted shortcut ---------------------------------------------------------------------------------------------


def found_out(film: Phantom, planted: bool) -> tuple[Badge, Evidence, tuple[str, ...]]:
    engine, radiograph = learnt(planted), shown(film, planted)
    prediction, output = predict(engine, radiograph)
    heat = finish(draw(engine, radiograph, output, FINDING, "occlusion", MAP_SIZE)).heat
    where = evidence(heat, film.lung_mask)
    said = signs(finish(trials(engine, radiograph, prediction, FINDING, film.lung_mask)), FINDING)
    badge = judge(
        [
            trust.check_covering(finish(cover(engine, radiograph, FINDING, heat))),
            trust.check_stability(finish(nudge(engine, radiograph, FINDING, "occlusion", heat))),
            trust.check_shuffled(finish(shuffle(engine, radiograph, FINDING, "occlusion", heat))),
            trust.check_lungs(where),
            trust.check_shortcuts(said),
        ]
    )
    return badge, where, said


@pytest.mark.parametrize("planted", [True, False])
def test_both_networks_are_right(planted: bool) -> None:
    """Accuracy tells nothing of the shortcut: that is why there are other checks."""
    answers = [predict(learnt(planted), shown(film, planted))[0] for film in held_out()]
    right = [FINDINGS[one.top] == film.finding for one, film in zip(answers, held_out(), strict=True)]
    assert np.mean(right) > 0.9


def test_a_planted_marker_is_found_out() -> None:
    for film in held_out()[1:6:2]:
        badge, where, said = found_out(film, planted=True)
        assert badge.word == DO_NOT_TRUST
        assert where.inside < 0.3
        assert any("corners, where markers stand" in sentence for sentence in said)
        assert any("lungs painted black" in sentence for sentence in said)
    # And on a film without a marker it is named.
    clear = held_out()[0]
    prediction, _ = predict(learnt(True), clear.radiograph())
    said = signs(finish(trials(learnt(True), clear.radiograph(), prediction, FINDING, clear.lung_mask)), FINDING)
    assert any(sentence.startswith("A marker, an R pasted in, moves it from 0.0") for sentence in said)


def test_the_same_network_without_it_passes() -> None:
    badges = [found_out(film, planted=False) for film in held_out()[1:6:2]]
    assert [badge.word for badge, _, _ in badges].count(HOLDS_UP) >= 2
    for badge, where, said in badges:
        assert badge.word != DO_NOT_TRUST
        assert where.inside > 0.4
        assert said == ()


def test_shuffling_leaves_the_network_alone_and_ends_with_nothing_learnt() -> None:
    engine, film = learnt(False), held_out()[1].radiograph()
    before = [weight.copy() for weight in engine.loaded.network.get_weights()]
    prediction, output = predict(engine, film)
    heat = finish(draw(engine, film, output, FINDING, "grad_cam", MAP_SIZE)).heat
    found = finish(shuffle(engine, film, FINDING, "grad_cam", heat))
    assert [one.layers for one in found] == [1, 2, 3, 4]
    assert [one.last for one in found] == ["logits", "conv3", "conv2", "conv1"]
    assert {one.of for one in found} == {4}
    assert len(found) <= MOST_LAYERS
    for mine, now in zip(before, engine.loaded.network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, now)
    again, _ = predict(engine, film)
    np.testing.assert_array_equal(again.logits, prediction.logits)
    # Asked again it starts from the weights as they are, not from the shuffled ones.
    for one, other in zip(found, finish(shuffle(engine, film, FINDING, "grad_cam", heat)), strict=True):
        assert one.likeness == other.likeness
        assert one.probability == other.probability
    assert found[-1].likeness.rank < 0.5


def test_a_map_of_nothing_learnt_is_told_by_shuffling() -> None:
    """A map that does not ask the network stays what it is, whatever becomes of the weights."""
    engine, film = learnt(False), held_out()[1].radiograph()
    _, output = predict(engine, film)
    heat = finish(draw(engine, film, output, FINDING, "random", MAP_SIZE)).heat
    found = finish(shuffle(engine, film, FINDING, "random", heat))
    assert found[-1].likeness.rank == pytest.approx(1)
    assert trust.check_shuffled(found).grade == BAD


def test_places_are_turned_back_before_they_are_compared() -> None:
    engine, film = learnt(False), held_out()[1].radiograph()
    _, output = predict(engine, film)
    heat = finish(draw(engine, film, output, FINDING, "occlusion", MAP_SIZE)).heat
    found = finish(nudge(engine, film, FINDING, "occlusion", heat))
    assert [one.change for one in found] == list(NUDGES)
    assert all(one.likeness.rank > 0.6 for one in found)
    for change in NUDGES.values():
        pixels = change.make(film.pixels)
        assert pixels.shape == (SIZE, SIZE)
        back = change.back(network_input(film, engine.loaded.spec)[..., 0])
        assert back.shape == (SIZE, SIZE)
        assert np.abs(pixels - film.pixels).mean() < 0.1


# --- the rules --------------------------------------------------------------------------------------------------------


def curves(gain: float, beats_all: bool) -> Curves:
    """With a given gain over three random maps."""
    flat = np.full(len(SHARES), 0.5)
    randoms = np.stack([flat, flat, flat + (0 if beats_all else 3 * gain + 0.3) * np.array(1)])
    mean = float(np.mean([0, 0, (area(randoms[2]) - 0.5) / 2]))
    return Curves(flat, flat + 2 * (gain + mean), np.tile(flat, (3, 1)), randoms)


def shuffled(rank: float) -> list[Shuffled]:
    empty = SaliencyMap("m", "grad_cam", "covid19", "conv", "", np.zeros((2, 2), np.float32), 0.0)
    return [Shuffled(1, 1, "logits", 0.5, empty, Likeness(0.0, rank))]


def lungs(inside: float, share: float) -> Evidence:
    return Evidence(inside, share, inside, 0.0, 0.1, 0.0, "right")


@pytest.mark.parametrize(
    ("check", "grade"),
    [
        (trust.check_covering(curves(0.06, True)), GOOD),
        (trust.check_covering(curves(0.06, False)), DOUBTFUL),
        (trust.check_covering(curves(0.02, True)), DOUBTFUL),
        (trust.check_covering(curves(-0.01, True)), BAD),
        (trust.check_stability([Stability("x", 0.5, Likeness(0, 0.9)), Stability("y", 0.5, Likeness(0, 0.75))]), GOOD),
        (trust.check_stability([Stability("x", 0.5, Likeness(0, 0.7))]), DOUBTFUL),
        (trust.check_stability([Stability("x", 0.5, Likeness(0, 0.4))]), BAD),
        (trust.check_shuffled(shuffled(-0.9)), GOOD),
        (trust.check_shuffled(shuffled(0.49)), GOOD),
        (trust.check_shuffled(shuffled(0.5)), DOUBTFUL),
        (trust.check_shuffled(shuffled(0.74)), DOUBTFUL),
        (trust.check_shuffled(shuffled(0.75)), BAD),
        (trust.check_lungs(lungs(0.6, 0.25)), GOOD),
        (trust.check_lungs(lungs(0.4, 0.25)), DOUBTFUL),
        (trust.check_lungs(lungs(0.29, 0.25)), BAD),
        (trust.check_lungs(lungs(0.38, 0.40)), BAD),
        (trust.check_shortcuts(()), GOOD),
        (trust.check_shortcuts(("A marker moves it.",)), BAD),
    ],
)
def test_grades(check: Check, grade: str) -> None:
    assert check.grade == grade
    assert check.says


@pytest.mark.parametrize(
    ("grades", "word"),
    [
        ((GOOD, GOOD), HOLDS_UP),
        ((GOOD, DOUBTFUL), WEAK),
        ((DOUBTFUL, BAD), DO_NOT_TRUST),
        ((GOOD, BAD), DO_NOT_TRUST),
    ],
)
def test_the_worst_check_decides(grades: tuple[str, ...], word: str) -> None:
    assert judge([Check("a check", grade, "why") for grade in grades]).word == word


def test_no_badge_without_a_check() -> None:
    with pytest.raises(ValueError, match="Nothing was checked"):
        judge([])
