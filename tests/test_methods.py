"""Ways to draw a heat map, against what can be known of them: other implementations, brute force, linear networks."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import keras
import numpy as np
import pytest
from keras import layers
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.scorecam import Scorecam

from cxrmodels.engine import Engine, Output
from cxrmodels.explain import methods
from cxrmodels.explain.methods import (
    COMPLETENESS,
    FILM_LAYER,
    WAYS,
    InputGradient,
    Subject,
    adding_up,
    draw,
    ways_of,
)
from cxrmodels.explain.saliency import METHODS, SaliencyMap, saliency
from cxrmodels.explain.steps import Steps, StoppedError, finish, part
from cxrmodels.inference import network_input, predict
from cxrmodels.networks import build
from cxrmodels.phantom import phantom
from cxrmodels.radiograph import Radiograph
from cxrmodels.zoo import load
from tests.bare import bare_engine
from tests.make_golden import golden_film

FINDINGS = ("normal", "covid19")
SIDE = 32
DRAWN_HERE = tuple(key for key in WAYS if key not in METHODS)


@cache
def film() -> Radiograph:
    return phantom("covid19", seed=11, size=128, difficulty=0.2).radiograph()


@cache
def linear() -> Engine:
    """Logits that are weighted sums of the film's pixels."""
    keras.utils.set_random_seed(1)
    inputs = layers.Input((SIDE, SIDE, 1), name="film")
    shown = layers.Activation("linear", name="shown")(inputs)
    flat = layers.Flatten(name="flat")(shown)
    logits = layers.Dense(2, name="logits", bias_initializer="ones")(flat)
    return bare_engine(keras.Model(inputs, logits, name="linear"), FINDINGS, "shown")


@cache
def grey() -> Engine:
    """A small CNN of one channel with seeded weights."""
    keras.utils.set_random_seed(2)
    return bare_engine(
        build("multi_lung_cnn", 96, 1, 4), (*FINDINGS, "bacterial_pneumonia", "viral_pneumonia"), "conv2"
    )


@cache
def kinked() -> Engine:
    """The same with biases: along the way from black its units switch on and off one after another."""
    keras.utils.set_random_seed(2)
    network, rng = build("multi_lung_cnn", 96, 1, 4), np.random.default_rng(3)
    network.set_weights(
        [rng.normal(0, 0.2, array.shape) if array.ndim == 1 else array for array in network.get_weights()]
    )
    return bare_engine(network, (*FINDINGS, "bacterial_pneumonia", "viral_pneumonia"), "conv2")


@cache
def shipped() -> Engine:
    return Engine(load("two_conv_cnn"))


def weights_of(engine: Engine, finding: int) -> np.ndarray:
    """Of a linear network, (SIDE, SIDE)."""
    kernel: np.ndarray = engine.loaded.network.get_layer("logits").get_weights()[0]
    return kernel[:, finding].reshape(SIDE, SIDE)


def subject(engine: Engine, finding: int = 1, seed: int = 0) -> Subject:
    _, output = predict(engine, film())
    return Subject(engine, network_input(film(), engine.loaded.spec), output, finding, seed)


def drawn(engine: Engine, method: str, seed: int = 0, finding: str = "covid19") -> SaliencyMap:
    _, output = predict(engine, film())
    return finish(draw(engine, film(), output, finding, method, seed=seed))


# --- what all have in common ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", WAYS)
def test_a_map_says_what_it_is_of(method: str) -> None:
    engine = shipped()
    found = drawn(engine, method)
    assert (found.model, found.method, found.finding) == ("two_conv_cnn", method, "covid19")
    assert found.layer == ("conv2" if WAYS[method].of_features else FILM_LAYER)
    assert found.heat.shape == film().pixels.shape
    assert found.heat.dtype == np.float32
    assert not found.heat.flags.writeable
    assert found.heat.max() == pytest.approx(1, abs=0.3)  # where resizing met the peak
    assert found.heat.min() >= 0
    assert found.raw_max > 0
    # Drawn again it is the same; nothing here may depend on chance that nobody seeded.
    np.testing.assert_array_equal(found.heat, drawn(engine, method).heat)


@pytest.mark.parametrize("method", WAYS)
def test_progress_only_grows_and_ends_at_one(method: str) -> None:
    _, output = predict(shipped(), film())
    shares: list[float] = []
    finish(draw(shipped(), film(), output, "covid19", method), shares.append)
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == pytest.approx(1)
    assert (len(shares) > 1) or not WAYS[method].slow or method == "score_cam"  # which has 32 maps here: one piece


@pytest.mark.parametrize("method", [key for key in WAYS if WAYS[key].slow])
def test_work_can_be_stopped(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "BATCH", 4)
    shares: list[float] = []

    def enough(share: float) -> bool:
        shares.append(share)
        return False

    _, output = predict(shipped(), film())
    with pytest.raises(StoppedError, match="%"):
        finish(draw(shipped(), film(), output, "covid19", method), enough)
    assert len(shares) == 1
    assert shares[0] < 1


def test_a_part_of_longer_work_takes_its_share_of_the_progress() -> None:
    def work() -> Steps[str]:
        yield 0.5
        yield 1.0
        return "done"

    shares: list[float] = []
    assert finish(part(work(), 0.2, 0.6), shares.append) == "done"
    assert shares == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize("method", METHODS)
def test_quick_methods_are_the_same_on_both_ways(method: str) -> None:
    _, output = predict(shipped(), film())
    np.testing.assert_array_equal(
        drawn(shipped(), method).heat, saliency(shipped(), film(), output, "covid19", method).heat
    )


def test_wrong_questions_are_refused() -> None:
    with pytest.raises(KeyError, match=r"rainbow.*grad_cam.*occlusion"):
        drawn(shipped(), "rainbow")
    with pytest.raises(ValueError, match=r"does not answer 'tuberculosis'"):
        drawn(shipped(), "occlusion", finding="tuberculosis")


def test_maps_of_a_layer_need_places_in_it() -> None:
    inputs = layers.Input((SIDE, SIDE, 1), name="film")
    pooled = layers.AveragePooling2D(SIDE, name="pooled")(inputs)
    logits = layers.Dense(2, name="logits")(layers.Flatten(name="flat")(pooled))
    engine = bare_engine(keras.Model(inputs, logits, name="placeless"), FINDINGS, "pooled")
    _, output = predict(engine, film())
    able = ways_of(engine, output)
    assert set(able) == {key for key in WAYS if not WAYS[key].of_features}
    assert set(ways_of(shipped(), predict(shipped(), film())[1])) == set(WAYS)
    with pytest.raises(ValueError, match="one position"):
        drawn(engine, "grad_cam")


@pytest.mark.parametrize("method", DRAWN_HERE)
def test_another_finding_is_another_map(method: str) -> None:
    one, other = drawn(grey(), method), drawn(grey(), method, finding="normal")
    assert np.array_equal(one.heat, other.heat) == (method == "random")


@pytest.mark.parametrize("method", ["smooth_grad", "random"])
def test_the_seed_decides_what_is_random(method: str) -> None:
    assert not np.array_equal(drawn(shipped(), method, seed=1).heat, drawn(shipped(), method, seed=2).heat)


# --- each against what is known of it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("finding", [0, 1])
def test_on_a_linear_network_everything_is_exact(finding: int) -> None:
    asked = subject(linear(), finding)
    pixels, weights = asked.film[..., 0].astype(np.float64), weights_of(linear(), finding)
    np.testing.assert_allclose(
        InputGradient.of(linear())(asked.film[None], finding)[0, ..., 0], weights, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(finish(WAYS["integrated_gradients"].draw(asked)), pixels * weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(finish(WAYS["smooth_grad"].draw(asked)), np.abs(weights), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("finding", [0, 1])
def test_integrated_gradients_add_up_to_the_change_of_the_score(finding: int) -> None:
    """On a film whose score is far from a black film's: where little changes, a share of little cannot be met."""
    seen = network_input(golden_film(), shipped().loaded.spec)
    asked = Subject(shipped(), seen, shipped().run(seen[None]), finding, 0)
    change = np.diff(asked.logits(np.stack([np.zeros_like(seen), seen])))[0]
    assert abs(change) > 2
    total = finish(WAYS["integrated_gradients"].draw(asked)).sum()
    assert total == pytest.approx(change, rel=COMPLETENESS)


def test_how_far_they_add_up_is_told() -> None:
    """On a network of many kinks: the more gradients, the nearer; and what is told is what a sum would find."""
    engine, found = kinked(), []
    _, output = predict(engine, film())
    for gradients in (8, 256, 1024):
        drawn_map = finish(draw(engine, film(), output, "covid19", "integrated_gradients", gradients=gradients))
        asked = replace(subject(engine), gradients=gradients)
        change = np.diff(asked.logits(np.stack([np.zeros_like(asked.film), asked.film])))[0]
        assert drawn_map.adds_up is not None
        assert drawn_map.adds_up[1] == pytest.approx(change, rel=1e-5)
        assert drawn_map.adds_up[0] == pytest.approx(finish(WAYS["integrated_gradients"].draw(asked)).sum(), rel=1e-5)
        found.append(abs(drawn_map.adds_up[0] - drawn_map.adds_up[1]) / abs(drawn_map.adds_up[1]))
    assert found[0] > 2 * found[1] >= 2 * found[2]
    assert found[2] <= COMPLETENESS


@pytest.mark.parametrize(
    ("sums", "words"), [((2.0, 2.001), ""), ((2.0, 2.05), r"They are 2\.4 % off"), ((1.0, 2.0), "too far apart")]
)
def test_a_gap_is_said_in_words(sums: tuple[float, float], words: str) -> None:
    found = replace(drawn(shipped(), "random"), adds_up=sums)
    assert adding_up(found).startswith(f"Its parts add up to {sums[0]:+.3f}")
    assert re.search(words, adding_up(found))
    assert adding_up(found).endswith("(logit).") == (not words)
    assert adding_up(drawn(shipped(), "random")) == ""


def test_occlusion_is_what_brute_force_finds() -> None:
    asked = subject(grey())
    found = finish(WAYS["occlusion"].draw(asked))
    side, patch, stride = 96, 14, 7
    corners = [*range(0, side - patch, stride), side - patch]
    rows, columns = 20, 71  # one pixel, asked about film by film
    drops = []
    for top in corners:
        for left in corners:
            if top <= rows < top + patch and left <= columns < left + patch:
                hidden = asked.film.copy()
                hidden[top : top + patch, left : left + patch] = 0
                both = np.asarray(grey().loaded.network(np.stack([asked.film, hidden]), training=False))
                drops.append(both[0, 1] - both[1, 1])
    assert len(drops) > 1
    assert found[rows, columns] == pytest.approx(np.mean(drops), abs=1e-5)
    # Every pixel is looked at, the last row and column too. A film that is white all over has something to hide there.
    assert np.isfinite(found).all()
    white = np.ones_like(asked.film)
    everywhere = replace(asked, film=white, output=asked.engine.run(white[None]))
    assert finish(WAYS["occlusion"].draw(everywhere))[-1, -1] != 0


def test_occlusion_asks_about_few_enough_films() -> None:
    """A network of 100 films a second is through within 3 s."""
    asked = subject(grey())
    asked_for = []

    class Counting(Engine):
        def run(self, batch: np.ndarray) -> Output:
            asked_for.append(len(batch))
            return super().run(batch)

    counting = Subject(Counting(grey().loaded), asked.film, asked.output, 1, 0)
    finish(WAYS["occlusion"].draw(counting))
    assert sum(asked_for) < 250
    assert max(asked_for) <= methods.BATCH


@pytest.mark.filterwarnings("ignore:(?s).*The structure of `inputs`")
def test_score_cam_is_that_of_tf_keras_vis() -> None:
    asked = subject(grey())
    expected = Scorecam(grey().loaded.network)(
        lambda probabilities: probabilities[:, asked.finding],
        asked.film[None],
        penultimate_layer=grey().loaded.network.get_layer("conv2"),
        seek_penultimate_conv_layer=False,
        expand_cam=False,
        normalize_cam=False,
    )[0]
    # The oracle enlarges a feature map from corner to corner, this program from edge to edge, as it does pictures.
    np.testing.assert_allclose(finish(WAYS["score_cam"].draw(asked)), expected, rtol=0.02)


@pytest.mark.filterwarnings("ignore:(?s).*The structure of `inputs`")
def test_smooth_grad_is_that_of_tf_keras_vis(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = subject(grey(), seed=5)
    found = finish(WAYS["smooth_grad"].draw(asked))
    monkeypatch.setattr(np.random, "normal", np.random.default_rng(5).normal)
    expected = Saliency(grey().loaded.network)(
        lambda logits: logits[:, asked.finding],
        asked.film[None],
        smooth_samples=24,
        smooth_noise=0.15,
        normalize_map=False,
    )[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
