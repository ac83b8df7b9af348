"""What a reader takes along: numbers as CSV, the sentence on agreement, pictures and the colours in them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from cxrmodels import NOTICE
from cxrmodels.council import agreement, call, common_finding, judge
from cxrmodels.evaluation.calibration import NOT_SURE
from cxrmodels.export import COLUMNS, predictions_csv, seen
from cxrmodels.gate import PASSED, REFUSED, SYNTHETIC, Gate
from cxrmodels.inference import Prediction
from cxrmodels.plots import (
    COLOURS,
    OTHER_COLOUR,
    contact_sheet_png,
    heat_legend_png,
    outlined,
    overlay,
    overlay_png,
    percent,
)
from cxrmodels.radiograph import Radiograph
from cxrmodels.zoo import SPECS

FILM = "f" * 64


def prediction(
    decision: str = "covid19",
    findings: Sequence[str] = ("normal", "covid19"),
    logits: Sequence[float] = (-1.25, 1.5),
    model: str = "two_conv_cnn",
) -> Prediction:
    numbers = np.array(logits, np.float32)
    return Prediction(
        model=model,
        weights_sha256="a" * 64,
        film_sha256=FILM,
        findings=tuple(findings),
        logits=numbers,
        probabilities=softmax(numbers.astype(np.float64)),
        decision=decision,
        threshold=0.7,
        training_sources=("kermany", "radiography"),
    )


def radiograph(name: str = "a.png", *, synthetic: bool = False) -> Radiograph:
    return Radiograph(name, FILM, np.zeros((64, 64), np.float32), (64, 64), "PNG", (), synthetic)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_refused_film_gets_no_answer_however_much_the_models_agree() -> None:
    both = [prediction(), prediction()]
    assert "COVID-19" in agreement(["A", "B"], both, Gate(PASSED))
    refused = agreement(["A", "B"], both, Gate(REFUSED, "it lies on its side."))
    assert refused.startswith("Not sure")
    assert "COVID-19" not in refused


@pytest.mark.parametrize(
    ("gate", "cell"),
    [
        (None, ""),
        (Gate(PASSED), "pass"),
        (Gate(REFUSED, "it lies on its side."), "refused: it lies on its side."),
        (Gate(SYNTHETIC, "this program drew it."), "not judged: this program drew it."),
    ],
)
def test_the_gate_stands_in_every_row(gate: Gate | None, cell: str) -> None:
    rows = table(predictions_csv(radiograph(), None, [prediction()], {"vgg16": "It failed."}, gate))
    assert [row["gate"] for row in rows] == [cell] * 3
    assert rows[-1]["error"] == "It failed."


# --- the CSV ---------------------------------------------------------------------------------------------------------


def test_a_row_for_every_model_and_finding() -> None:
    shown = [prediction(), prediction(NOT_SURE, list(SPECS["mobilenet_v3"].findings), [1, 2, 3, 4], "mobilenet_v3")]
    text = predictions_csv(radiograph("film.png"), "kermany", shown, {})
    assert text.splitlines()[0] == ",".join(COLUMNS)
    rows = table(text)
    assert [(row["model"], row["finding"]) for row in rows] == [
        (one.model, finding) for one in shown for finding in one.findings
    ]
    for row in rows:
        one = next(one for one in shown if one.model == row["model"])
        at = one.findings.index(row["finding"])
        assert float(row["probability"]) == pytest.approx(float(one.probabilities[at]), abs=5e-7)
        assert float(row["logit"]) == pytest.approx(float(one.logits[at]), abs=5e-5)
        assert row["decision"] == one.decision
        assert float(row["threshold"]) == one.threshold
        assert row["weights_sha256"] == one.weights_sha256
        assert row["training_sources"].split() == list(one.training_sources)
        assert (row["file"], row["film_sha256"], row["source"]) == ("film.png", FILM, "kermany")
        assert row["error"] == ""


@pytest.mark.parametrize("synthetic", [False, True])
def test_a_synthetic_film_is_marked(synthetic: bool) -> None:
    rows = table(predictions_csv(radiograph(synthetic=synthetic), None, [prediction()], {"vgg16": "It broke."}))
    assert {row["synthetic"] for row in rows} == {"yes" if synthetic else "no"}


def test_every_row_carries_the_notice() -> None:
    rows = table(predictions_csv(radiograph(), None, [prediction()], {"vgg16": "It broke."}))
    assert [row["notice"] for row in rows] == [NOTICE] * 3


def test_a_model_that_failed_has_one_row_with_its_error() -> None:
    text = predictions_csv(radiograph(), None, [], {"vgg16": 'It said "no",\nthen broke.'})
    (row,) = table(text)
    assert (row["model"], row["error"]) == ("vgg16", 'It said "no",\nthen broke.')
    assert not any(row[name] for name in ("finding", "logit", "probability", "decision", "gate"))


@pytest.mark.parametrize(
    ("source", "said"), [(None, "unknown"), ("kermany", "yes"), ("hannover", "no"), ("radiography", "yes")]
)
def test_says_whether_the_source_was_seen(source: str | None, said: str) -> None:
    assert seen(prediction().training_sources, source) == said
    rows = table(predictions_csv(radiograph(), source, [prediction()], {}))
    assert {row["source_seen_in_training"] for row in rows} == {said}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
@pytest.mark.parametrize("where", ["file", "source"])
def test_no_cell_runs_as_a_formula(start: str, where: str) -> None:
    # Whoever names a film, or a source in a manifest, must not run a command in the reader's spreadsheet.
    evil = f"{start}HYPERLINK(1)"
    names = {"file": "a.png", "source": "kermany"} | {where: evil}
    text = predictions_csv(radiograph(names["file"]), names["source"], [prediction()], {"vgg16": "broke"})
    for row in table(text):
        assert row[where] != evil
        assert row[where].endswith(evil)


@pytest.mark.parametrize("name", ['a,"b".png', "two\nlines.png", "肺.png", "<script>alert(1)</script>", ""])
def test_names_come_back_as_they_went_in(name: str) -> None:
    rows = table(predictions_csv(radiograph(name), None, [prediction()], {}))
    assert {row["file"] for row in rows} == {name}


# --- agreement -------------------------------------------------------------------------------------------------------

COVID = prediction("covid19")
NORMAL = prediction("normal")
VIRAL = prediction("viral_pneumonia", SPECS["mobilenet_v3"].findings, (0, 0, 0, 3), "mobilenet_v3")
REST = prediction("non_covid19", ("covid19", "non_covid19"), (0, 3), "resnet50")
UNSURE = prediction(NOT_SURE, logits=(0, 0.1))


@pytest.mark.parametrize(
    ("one", "side"), [(COVID, "covid19"), (NORMAL, "other"), (VIRAL, "other"), (REST, "other"), (UNSURE, NOT_SURE)]
)
def test_every_decision_is_called_for_one_side(one: Prediction, side: str) -> None:
    assert call(one) == side


@pytest.mark.parametrize(
    ("predictions", "sentence"),
    [
        ([], "No network has answered."),
        ([COVID], "A says COVID-19. One network alone shows no agreement."),
        ([REST], "A says not COVID-19. One network alone shows no agreement."),
        ([UNSURE], "A is not sure."),
        ([UNSURE] * 3, "No network is sure."),
        ([COVID] * 3, "All three networks say COVID-19."),
        ([NORMAL, VIRAL, REST], "All three networks say not COVID-19."),
        ([COVID] * 12, "All 12 networks say COVID-19."),
        ([COVID, UNSURE], "One of two networks says COVID-19. B is not sure."),
        ([NORMAL, REST, UNSURE, UNSURE], "Two of four networks say not COVID-19. C and D are not sure."),
        ([COVID, COVID, NORMAL], "The networks disagree: two of three say COVID-19, C says not COVID-19."),
        (
            [COVID, NORMAL, VIRAL, NORMAL, COVID, UNSURE],
            "The networks disagree: three of six say not COVID-19, A and E say COVID-19. F is not sure.",
        ),
        (
            [COVID, NORMAL, NORMAL, UNSURE, UNSURE, UNSURE],
            "The networks disagree: two of six say not COVID-19, A says COVID-19. D, E and F are not sure.",
        ),
    ],
)
def test_agreement_in_a_sentence(predictions: list[Prediction], sentence: str) -> None:
    assert agreement("ABCDEFGHIJKL"[: len(predictions)], predictions) == sentence


def test_every_shape_of_the_vote_names_all_who_stand_apart() -> None:
    sides = {"c": COVID, "n": NORMAL, "u": UNSURE}
    for size in range(2, 6):
        titles = [f"Network {letter}" for letter in "ABCDE"[:size]]
        for vote in itertools.product("cnu", repeat=size):
            sentence = agreement(titles, [sides[side] for side in vote])
            assert sentence.endswith(".")
            assert "  " not in sentence
            if set(vote) == {"u"}:
                continue
            for title, side in zip(titles, vote, strict=True):
                assert side != "u" or title in sentence
            assert ("disagree" in sentence) == ({"c", "n"} <= set(vote))


@pytest.mark.parametrize(
    ("predictions", "answer"),
    [
        ([COVID, COVID], "covid19"),
        ([NORMAL, VIRAL, REST], "other"),
        ([COVID, COVID, UNSURE, UNSURE], "covid19"),
        ([COVID, UNSURE, UNSURE], NOT_SURE),
        ([COVID] * 6 + [NORMAL], NOT_SURE),
        ([COVID], NOT_SURE),
        ([UNSURE] * 3, NOT_SURE),
    ],
)
def test_together_they_answer_where_half_are_sure_and_none_says_the_opposite(
    predictions: list[Prediction], answer: str
) -> None:
    for order in (predictions, predictions[::-1]):
        assert judge(order).answer == answer
    assert judge(predictions, Gate(PASSED)).answer == answer
    assert judge(predictions, Gate(SYNTHETIC, "drawn.")).answer == answer
    refused = judge(predictions, Gate(REFUSED, "it is a hand."))
    assert (refused.answer, refused.why) == (NOT_SURE, "This film was refused: it is a hand.")


def test_together_says_mean_and_spread() -> None:
    predictions = [COVID, NORMAL, VIRAL, REST]
    values = [float(one.probability("covid19") or 0) for one in predictions]
    found = judge(predictions)
    assert (found.mean, found.spread) == pytest.approx((np.mean(values), np.std(values)))
    assert (found.low, found.high) == (min(values), max(values))
    assert judge([COVID, UNSURE, UNSURE]).why == "Fewer than half of them are sure."
    without = prediction("normal", ("normal", "pneumonia"))
    for wrong in ([], [COVID, without]):
        with pytest.raises(ValueError, match=rf"of {len(wrong)} predictions have a probability of COVID-19"):
            judge(wrong)


def test_maps_are_compared_for_the_finding_that_most_call_likeliest() -> None:
    assert common_finding([VIRAL, VIRAL, COVID]) == "viral_pneumonia"
    # Only one network knows it, so there is nothing to compare its map with.
    assert common_finding([VIRAL, COVID, COVID]) == "covid19"
    assert common_finding([REST, REST, COVID]) == "non_covid19"
    assert common_finding([prediction("normal", ("normal", "pneumonia")), REST]) is None
    assert common_finding([]) is None


# --- pictures --------------------------------------------------------------------------------------------------------


def test_overlay_is_the_film_itself_where_there_is_no_heat() -> None:
    pixels = np.linspace(0, 1, 60 * 40, dtype=np.float32).reshape(60, 40)
    heat = np.zeros_like(pixels)
    heat[20:40, 10:30] = 0.7
    shown = overlay(pixels, heat, 0.8)
    grey = np.rint(255 * pixels).astype(np.uint8)
    clear = heat == 0
    for channel in range(3):
        np.testing.assert_array_equal(shown[..., channel][clear], grey[clear])
    assert (shown[~clear] != grey[~clear][:, None]).any(axis=1).all()
    assert shown.dtype == np.uint8


def test_no_opacity_shows_the_film_alone() -> None:
    pixels = np.random.default_rng(1).random((30, 20), dtype=np.float32)
    shown = overlay(pixels, np.ones_like(pixels), 0.0)
    np.testing.assert_array_equal(shown, np.rint(255 * pixels).astype(np.uint8)[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("opacity", [0.25, 0.5, 1.0])
def test_more_heat_is_never_less_visible(opacity: float) -> None:
    # On black, what is seen is the map's colour alone: its lightness has to rise with the heat.
    heat = np.linspace(0, 1, 256, dtype=np.float32)[None]
    shown = overlay(np.zeros_like(heat), heat, opacity).astype(float)
    luminance = (shown @ (0.2126, 0.7152, 0.0722))[0]
    assert (np.diff(luminance) >= -1).all()  # rounding to whole greys
    assert luminance[0] == 0
    assert luminance[-1] == luminance.max() > 50 * opacity


def test_overlay_leaves_its_inputs_alone() -> None:
    pixels, heat = np.full((8, 8), 0.5, np.float32), np.full((8, 8), 0.5, np.float32)
    for array in (pixels, heat):
        array.flags.writeable = False
    overlay(pixels, heat, 0.5)
    assert (pixels == 0.5).all()
    assert (heat == 0.5).all()


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def test_overlay_png_is_the_overlay() -> None:
    rng = np.random.default_rng(2)
    pixels, heat = rng.random((31, 17)), rng.random((31, 17))
    np.testing.assert_array_equal(decoded(overlay_png(pixels, heat, 0.4)), overlay(pixels, heat, 0.4))


def test_legend_runs_from_nothing_to_the_most() -> None:
    legend = decoded(heat_legend_png(0.8, 200, 10)).astype(float)
    assert legend.shape == (10, 200, 3)
    np.testing.assert_array_equal(legend, legend[:1].repeat(10, axis=0))
    # Nothing is the bare film, and the colours are those of a film that is mid grey: what it says is what is seen.
    assert (legend[0, 0] == 128).all()
    np.testing.assert_array_equal(legend[0], overlay(np.full((1, 200), 0.5), np.linspace(0, 1, 200)[None], 0.8)[0])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 9])
@pytest.mark.parametrize("shape", [(420, 350), (200, 420)])
def test_contact_sheet_has_room_for_every_picture(count: int, shape: tuple[int, int]) -> None:
    white = np.full((*shape, 3), 255, np.uint8)
    sheet = decoded(contact_sheet_png([("A", "b", white)] * count, "film", cell=120))
    columns, rows = min(3, max(1, count)), -(-count // 3)
    height, width = sheet.shape[:2]
    assert width >= columns * 120
    assert height >= rows * 120
    shrink = 120 / max(shape)
    expected = count * round(shape[0] * shrink) * round(shape[1] * shrink)
    # Letters are white, too: a little more than the pictures themselves.
    assert expected * 0.97 <= (sheet == 255).all(axis=-1).sum() <= expected + 3000 * (count + 1)


def test_contact_sheet_keeps_pictures_whole_and_apart() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    pictures = [("A", "b", np.full((100, 100, 3), colour, np.uint8)) for colour in colours]
    sheet = decoded(contact_sheet_png(pictures, "film", cell=100))
    for colour in colours:
        places = np.argwhere((sheet == colour).all(axis=-1))
        assert len(places) == 100 * 100
        np.testing.assert_array_equal(np.ptp(places, axis=0), [99, 99])


@pytest.mark.parametrize(
    "name",
    ["肺の写真.png", "рентген.png", "صدر.png", "🫁.png", "a\nb.png", "\u202egnp.exe", "\udcff", "", "x" * 5000, "\0"],
    ids=ascii,
)
def test_contact_sheet_takes_any_name(name: str) -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    sheet = decoded(contact_sheet_png([(name, name, picture)], name, cell=200))
    plain = decoded(contact_sheet_png([("A", "b", picture)], "film", cell=200))
    assert sheet.shape == plain.shape


# --- numbers in words and charts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.0, "< 1 %"),
        (0.0099, "< 1 %"),
        (0.01, "1 %"),
        (0.494, "49 %"),
        (0.876, "88 %"),
        (0.99, "99 %"),
        (0.9901, "> 99 %"),
        (1.0, "> 99 %"),
    ],
)
def test_percent(probability: float, words: str) -> None:
    assert percent(probability) == words


def test_percent_never_says_nothing_or_all() -> None:
    assert not {"0 %", "100 %"} & {percent(value) for value in np.linspace(0, 1, 5001)}


# --- colours ---------------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# CIE76 in CIELAB: 2.3 is just noticeable side by side; bars on two cards are apart, so several times as much.
CLEARLY = 15.0


def linear(colour: str) -> np.ndarray:
    """ "#RRGGBB" -> linear sRGB, float (3,)."""
    encoded = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear sRGB, float (3,), -> CIELAB under D65."""
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(to_xyz) @ rgb.clip(0, 1) / (0.95047, 1, 1.08883)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations([*COLOURS, "other"], 2)))
def test_finding_colours_are_told_apart(vision: str, one: str, other: str) -> None:
    first, second = (lab(VISION[vision] @ linear(COLOURS.get(finding, OTHER_COLOUR))) for finding in (one, other))
    assert np.linalg.norm(first - second) >= CLEARLY


def test_outlines_are_drawn_into_a_copy() -> None:
    picture = np.full((50, 80, 3), 90, np.uint8)
    square = np.array([[0.25, 0.2], [0.75, 0.2], [0.75, 0.8], [0.25, 0.8], [0.25, 0.2]])
    drawn = outlined(picture, [square])
    assert (picture == 90).all()
    assert drawn.shape == picture.shape
    changed = (drawn != picture).any(-1)
    assert changed[10, 20:60].all()
    assert changed[10:40, 20].all()
    assert not changed[15:35, 25:55].any()
    assert not changed[:5].any()
    np.testing.assert_array_equal(outlined(picture, []), picture)
