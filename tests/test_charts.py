"""The charts of a comparison: they show the numbers they were given, and nothing by colour alone."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import auc as area
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrmodels import charts
from cxrmodels.charts import NETWORK_COLOURS
from cxrmodels.evaluation import drawings
from cxrmodels.evaluation.board import Board, Films, Standing, compare_on
from cxrmodels.evaluation.drawings import Drawing, with_both_classes
from cxrmodels.evaluation.metrics import UNSEEN
from cxrmodels.evaluation.questions import QUESTIONS
from cxrmodels.evaluation.verdict import NAMES, interval
from cxrmodels.plots import COLOURS, OTHER_COLOUR
from tests.test_board import COVID_NORMAL, Rows, evaluation, made, rows
from tests.test_evaluation import FOUR
from tests.test_export_council_plots import CLEARLY, VISION, lab, linear

INK = "#123456"
"""A colour that nothing else has."""
COUNTS = (1, 2, 9)
ROOT = Path(__file__).resolve().parent.parent
Traces = list[dict[str, Any]]


def json_of(figure: Any) -> dict[str, Any]:
    """A figure as plain values, arrays as lists: what a browser is sent."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return value.tolist() if isinstance(value, np.ndarray) else value

    found: dict[str, Any] = plain(figure.to_dict())
    # plotly's template is what holds where nothing else is said.
    found["layout"].pop("template", None)
    return found


def traces(figure: Any) -> Traces:
    found: Traces = json_of(figure)["data"]
    return found


def titles(count: int) -> list[str]:
    return [f"Network {letter}" for letter in "ABCDEFGHI"[:count]]


def board(count: int, question: str = "covid_normal", where: str = UNSEEN) -> Board:
    """A comparison of so many networks, the best first."""
    films = rows(FOUR, 12)
    everybody = [
        made(evaluation(films, FOUR, signal=2.5 - 0.25 * n, seed=n), str(n), title=title)
        for n, title in enumerate(titles(count))
    ]
    return compare_on(everybody, QUESTIONS[question], Films(where), threshold=0.4)


# --- every builder, with values that can be found again ---------------------------------------------------------------


def some_bands(count: int) -> list[charts.Band]:
    rng = np.random.default_rng(count)
    return [(title, *rng.random((4, 11)).round(3)) for title in titles(count)]


def bands(count: int) -> Any:
    return charts.bands(some_bands(count), [(0.1, 0.9)] * count, ("across", "up"), INK, diagonal=True)


def some_bins(count: int) -> list[charts.Reliability]:
    return [
        (title, [0.1 + n / 100, 0.7], [(0.2, 0.1, 0.4), (0.6, 0.5, 0.9)], [3 + n, 40])
        for n, title in enumerate(titles(count))
    ]


def reliability(count: int) -> Any:
    return charts.reliability(some_bins(count), "COVID-19", INK)


def some_scores(count: int) -> list[charts.Scores]:
    return [
        (title, np.array([8, 2, n, 0, 0]), np.array([0, 1, 1, 2, 6]), 0.1 + n / 20)
        for n, title in enumerate(titles(count))
    ]


def histograms(count: int) -> Any:
    return charts.histograms(some_scores(count), ("Normal", "COVID-19"), INK)


def cost(count: int) -> Any:
    costs, values = [float(2**n) for n in range(count)], [0.6 + 0.03 * (n % 4) for n in range(count)]
    return charts.cost_chart(titles(count), costs, values, [0], "AUC", INK)


def agreement(count: int) -> Any:
    shares = np.linspace(0.5, 1, count * count).reshape(count, count)
    return charts.agreement(titles(count), shares, INK)


def groups(count: int) -> Any:
    values = [(0.5 + n / 30, 0.4, 0.9) for n in range(count)]
    return charts.groups(titles(count), values, [n == 0 for n in range(count)], 0.7, "accuracy", INK)


def answer(count: int) -> Any:
    return drawings.answer_chart(board(count), INK)[0]


BUILDERS: dict[str, Callable[[int], Any]] = {
    one.__name__: one for one in (bands, reliability, histograms, cost, agreement, groups, answer)
}


def written(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a figure under its name, with the name it stands under."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from written(inner, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from written(inner, key)
    else:
        yield key, value


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("count", COUNTS)
def test_text_is_in_the_colour_of_ink(name: str, count: int) -> None:
    """Streamlit's own colour of text is too faint; and another fixed one would vanish in one of the themes."""
    figure = json_of(BUILDERS[name](count))
    assert figure["layout"]["font"]["color"] == INK
    colours = [value for key, value in written(figure) if re.search(r"font\.color$", key)]
    assert set(colours) == {INK}
    for axis in ("xaxis", "yaxis"):
        assert figure["layout"][axis].get("tickfont", {}).get("color", INK) == INK


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("count", COUNTS)
def test_every_network_is_named_on_the_chart(name: str, count: int) -> None:
    text = " ".join(str(value) for _, value in written(json_of(BUILDERS[name](count))))
    assert all(title in text for title in titles(count))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_chart_does_not_catch_a_finger_that_scrolls(name: str) -> None:
    layout = json_of(BUILDERS[name](2))["layout"]
    assert layout["dragmode"] is False
    assert all(layout[axis]["fixedrange"] for axis in layout if re.fullmatch(r"[xy]axis\d*", axis))


@pytest.mark.parametrize("name", BUILDERS)
def test_more_networks_get_more_room(name: str) -> None:
    heights = [json_of(BUILDERS[name](count))["layout"]["height"] for count in COUNTS]
    assert heights == sorted(heights)
    assert heights[0] >= 100


# --- networks are told apart ------------------------------------------------------------------------------------------


def looks(figure: Any) -> dict[str, tuple[str, str, str]]:
    """Network -> colour, dash and marker of what is drawn for it."""
    found: dict[str, list[str]] = {}
    own = ""
    for trace in traces(figure):
        if "name" in trace:
            found[trace["name"]] = [trace["line"]["color"], trace["line"]["dash"], ""]
            own = trace["name"]
        if "markers" in str(trace.get("mode")):
            found[trace.get("name", own)][2] = trace["marker"]["symbol"]
    return {name: (colour, dash, symbol) for name, (colour, dash, symbol) in found.items()}


@pytest.mark.parametrize("build", [bands, reliability], ids=lambda build: build.__name__)
def test_nine_networks_are_told_apart_without_colour(build: Callable[[int], Any]) -> None:
    found = looks(build(9))
    assert list(found) == titles(9)
    assert len({(dash, symbol) for _, dash, symbol in found.values()}) == 9
    assert len({symbol for _, _, symbol in found.values()}) == 9
    # And without markers, which a curve lacks where its threshold has no place on it, by colour and dash.
    assert len({(colour, dash) for colour, dash, _ in found.values()}) == 9


@pytest.mark.parametrize("build", [bands, reliability], ids=lambda build: build.__name__)
@pytest.mark.parametrize("vision", VISION)
def test_equal_dashes_have_colours_far_apart(build: Callable[[int], Any], vision: str) -> None:
    for one, other in itertools.combinations(looks(build(9)).values(), 2):
        if one[1] == other[1]:
            gap = np.linalg.norm(lab(VISION[vision] @ linear(one[0])) - lab(VISION[vision] @ linear(other[0])))
            assert gap >= CLEARLY, (one, other)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(NETWORK_COLOURS, 2)))
def test_network_colours_are_told_apart(vision: str, one: str, other: str) -> None:
    first, second = (lab(VISION[vision] @ linear(colour)) for colour in (one, other))
    assert np.linalg.norm(first - second) >= CLEARLY


@pytest.mark.parametrize("colour", NETWORK_COLOURS)
def test_no_network_has_the_colour_of_a_finding(colour: str) -> None:
    for finding in (*COLOURS.values(), OTHER_COLOUR):
        # Side by side they do not stand, so that less will do than between networks.
        assert np.linalg.norm(lab(linear(colour)) - lab(linear(finding))) >= 10


def luminance(colour: str) -> float:
    return float(linear(colour) @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("colour", NETWORK_COLOURS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_network_colours_stand_out_in_both_themes(colour: str, theme: str) -> None:
    """WCAG 2.2, 1.4.11: parts of a chart need a contrast of 3 with what is beside them."""
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    ground = settings["theme"][theme]["backgroundColor"]
    dark, light = sorted((luminance(colour), luminance(ground)))
    assert (light + 0.05) / (dark + 0.05) >= 3


# --- what each builder shows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("diagonal", [False, True])
def test_bands(count: int, diagonal: bool) -> None:
    given = some_bands(count)
    points = [None if n % 3 == 1 else (n / 10, 1 - n / 10) for n in range(count)]
    found = traces(charts.bands(given, points, ("across", "up"), INK, diagonal=diagonal))
    if diagonal:
        guessing = found.pop(0)
        assert guessing["x"] == guessing["y"] == [0, 1]
    curves = {one["name"]: one for one in found if "name" in one}
    assert list(curves) == titles(count)
    for (title, x, y, low, high), point in zip(given, points, strict=True):
        own = [one for one in found if one["legendgroup"] == title]
        upper, lower, curve, *marker = own
        assert curve["x"] == upper["x"] == lower["x"] == x.tolist()
        assert curve["y"] == y.tolist()
        # The band is what lies between the two, filled from the one down to the other.
        assert (upper["y"], lower["y"]) == (high.tolist(), low.tolist())
        assert lower["fill"] == "tonexty"
        assert [(one["x"], one["y"]) for one in marker] == ([([point[0]], [point[1]])] if point else [])
        assert all(one["mode"] == "markers" for one in marker)
    layout = json_of(charts.bands(given, points, ("across", "up"), INK, diagonal=diagonal))["layout"]
    assert (layout["xaxis"]["title"]["text"], layout["yaxis"]["title"]["text"]) == ("across", "up")


@pytest.mark.parametrize("count", COUNTS)
def test_reliability(count: int) -> None:
    given = some_bins(count)
    diagonal, *found = traces(charts.reliability(given, "COVID-19", INK))
    assert diagonal["x"] == diagonal["y"] == [0, 1]
    for (title, predicted, observed, films), one in zip(given, found, strict=True):
        assert (one["name"], one["x"], one["customdata"]) == (title, list(predicted), list(films))
        assert one["y"] == [value for value, _, _ in observed]
        ends = zip(one["y"], one["error_y"]["arrayminus"], one["error_y"]["array"], strict=True)
        np.testing.assert_allclose(
            [(y, y - below, y + above) for y, below, above in ends], [(v, low, high) for v, low, high in observed]
        )


@pytest.mark.parametrize("count", COUNTS)
def test_histograms(count: int) -> None:
    given = some_scores(count)
    figure = json_of(charts.histograms(given, ("Normal", "COVID-19"), INK))
    bars, layout = figure["data"], figure["layout"]
    assert len(bars) == 2 * count
    domains = []
    for number, (title, negative, positive, threshold) in enumerate(given):
        up, down = bars[2 * number : 2 * number + 2]
        assert (up["name"], up["customdata"]) == ("COVID-19", positive.tolist())
        assert (down["name"], down["customdata"]) == ("Normal", negative.tolist())
        np.testing.assert_allclose(up["y"], positive / positive.sum())
        np.testing.assert_allclose(down["y"], -negative / negative.sum())
        np.testing.assert_allclose(up["x"], [0.1, 0.3, 0.5, 0.7, 0.9])
        # Direction and pattern repeat what colour says.
        assert up["marker"]["pattern"]["shape"] != down["marker"]["pattern"]["shape"]
        assert up["yaxis"] == down["yaxis"]
        bottom, top = layout["yaxis" + up["yaxis"][1:]]["domain"]
        domains.append((bottom, top))
        line, label = layout["shapes"][number], layout["annotations"][number]
        assert line["x0"] == line["x1"] == threshold
        # The line stands in its own network's row, which the label names.
        assert (line["y0"], line["y1"]) == (bottom, top)
        assert label["text"] == title
        assert bottom < label["y"] <= top
    assert all(0 <= bottom < top <= 1 for bottom, top in domains)
    assert all(one[0] > other[1] for one, other in itertools.pairwise(domains))
    assert sum(bar["showlegend"] for bar in bars) == 2


def test_a_histogram_of_one_class_is_not_divided_by_nothing() -> None:
    up, down = traces(charts.histograms([("A", np.zeros(3, int), np.array([1, 0, 1]), 0.5)], ("N", "P"), INK))
    assert up["y"] == [0.5, 0, 0.5]
    assert not any(down["y"])


@pytest.mark.parametrize("count", COUNTS)
def test_cost_chart(count: int) -> None:
    costs, values = [3.0 * (n + 1) for n in range(count)], [0.9 - 0.05 * (n % 3) for n in range(count)]
    front = list(range(0, count, 2))
    figure = json_of(charts.cost_chart(titles(count), costs, values, front, "AUC", INK))
    line, dots = figure["data"]
    assert (line["x"], line["y"]) == ([costs[i] for i in front], [values[i] for i in front])
    assert (dots["x"], dots["y"], dots["text"]) == (costs, values, titles(count))
    assert [symbol == "circle" for symbol in dots["marker"]["symbol"]] == [i in front for i in range(count)]
    assert figure["layout"]["xaxis"]["type"] == "log"
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < min(values) <= max(values) < high
    ticks = [tick for tick in figure["layout"]["yaxis"]["tickvals"] if low < tick < high]
    assert ticks
    assert max(ticks) <= 1


def test_names_of_networks_that_cost_and_reach_the_same_stand_apart() -> None:
    """At the left edge a name goes to the right, at the right edge to the left; two in one spot stand apart."""
    costs, values = [1.0, 1.1, 1000.0, 1000.0], [0.9, 0.9, 0.8, 0.8]
    figure = json_of(charts.cost_chart(["Multi-lung CNN"] * 4, costs, values, [0], "AUC", INK))
    places = figure["data"][1]["textposition"]
    assert len(set(places[:2])) == len(set(places[2:])) == 2
    assert all(place.endswith("right") for place in places[:2])
    assert all(place.endswith("left") for place in places[2:])


@pytest.mark.parametrize("count", COUNTS)
def test_agreement(count: int) -> None:
    shares = np.random.default_rng(1).uniform(0.5, 1, (count, count))
    (heat,) = traces(charts.agreement(titles(count), shares, INK))
    assert heat["x"] == heat["y"] == titles(count)
    np.testing.assert_array_equal(heat["z"], shares)
    # What the shade says stands in the cell, too.
    assert heat["text"] == [[f"{100 * share:.0f} %" for share in row] for row in shares]
    assert heat["texttemplate"] == "%{text}"


@pytest.mark.parametrize("count", COUNTS)
def test_groups(count: int) -> None:
    values = [(0.5 + n / 30, 0.4, 0.9 + n / 100) for n in range(count)]
    worst = [n == count - 1 for n in range(count)]
    figure = json_of(charts.groups(titles(count), values, worst, 0.71, "accuracy", INK))
    (dots,) = figure["data"]
    assert dots["x"] == [value for value, _, _ in values]
    bars = dots["error_x"]
    np.testing.assert_allclose(np.array(dots["x"]) - bars["arrayminus"], [low for _, low, _ in values])
    np.testing.assert_allclose(np.array(dots["x"]) + bars["array"], [high for _, _, high in values])
    # Shape and text repeat what colour says.
    assert [row.endswith("(worst)") for row in dots["y"]] == worst
    assert [symbol == "diamond" for symbol in dots["marker"]["symbol"]] == worst
    assert figure["layout"]["shapes"][0]["x0"] == 0.71


# --- charts of a comparison -------------------------------------------------------------------------------------------


def roc(shown: Board) -> Drawing:
    return drawings.roc_chart(shown, INK)


def precision_recall(shown: Board) -> Drawing:
    return drawings.precision_recall_chart(shown, INK)


def reliabilities(shown: Board) -> Drawing:
    return drawings.reliability_chart(shown, INK)


def scores(shown: Board) -> Drawing:
    return drawings.scores_chart(shown, INK)


def answers(shown: Board) -> Drawing:
    return drawings.answer_chart(shown, INK)


DRAWINGS: Sequence[Callable[[Board], Drawing]] = (roc, precision_recall, reliabilities, scores, answers)
TWO_CLASSES = [key for key, question in QUESTIONS.items() if question.positive]


@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("count", COUNTS)
def test_words_of_a_chart_name_every_model(draw: Callable[[Board], Drawing], count: int) -> None:
    figure, words = draw(board(count))
    assert all(title in words for title in titles(count))
    text = " ".join(str(value) for _, value in written(json_of(figure)))
    assert all(title in text for title in titles(count))
    assert figure.layout.font.color == INK


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_chart_shows_seen_and_unseen(question: str) -> None:
    shown = board(3, question)
    figure, words = answers(shown)
    name = "auc" if shown.question.positive else "balanced_accuracy"
    sides = {trace["name"]: trace for trace in traces(figure)}
    assert set(sides) == {"seen", "unseen"}
    for side, trace in sides.items():
        figures = [getattr(one, side) for one in shown.standings]
        assert trace["y"] == [one.contender.title for one in shown.standings]
        assert trace["x"] == [one.value for one in figures]
        np.testing.assert_allclose(np.array(trace["x"]) + trace["error_x"]["array"], [one.high for one in figures])
        np.testing.assert_allclose(np.array(trace["x"]) - trace["error_x"]["arrayminus"], [one.low for one in figures])
        assert all(interval(one) in words for one in figures)
        # The shape and a word repeat what colour says.
        assert all(text.startswith(side) for text in trace["text"])
    assert sides["seen"]["marker"]["symbol"] != sides["unseen"]["marker"]["symbol"]
    low, high = figure.layout.xaxis.range
    assert low < min(min(trace["x"]) for trace in sides.values())
    assert high >= 1
    assert NAMES[name] in figure.layout.xaxis.title.text
    guessing = 0.5 if name == "auc" else 1 / len(shown.question.classes)
    assert f"{guessing:.2g} is guessing" in figure.layout.xaxis.title.text
    assert low < guessing


def test_the_answer_chart_without_one_side() -> None:
    shown = compare_on([made(evaluation(), sources=())], COVID_NORMAL, Films())
    figure, words = answers(shown)
    sides = {trace["name"]: trace for trace in traces(figure)}
    assert sides["seen"]["x"] == []
    assert len(sides["unseen"]["x"]) == 1
    assert "seen sources cannot be said" in words


@pytest.mark.parametrize("question", TWO_CLASSES)
def test_the_roc_chart_is_the_roc(question: str) -> None:
    shown = board(3, question)
    drawn = {trace["name"]: trace for trace in traces(roc(shown)[0]) if "name" in trace}
    markers = [trace for trace in traces(roc(shown)[0]) if trace["mode"] == "markers"]
    for one, marker in zip(shown.standings, markers, strict=True):
        curve = drawn[one.contender.title]
        expected = roc_auc_score(one.answers.positive(), one.answers.score())
        # On a grid of a hundred steps; the figure itself is in the words.
        assert area(curve["x"], curve["y"]) == pytest.approx(expected, abs=0.02)
        assert interval(one.figures.estimates["auc"]) in roc(shown)[1]
        called, ill = one.answers.score() >= 0.4, one.answers.positive()
        assert marker["x"] == [pytest.approx(called[~ill].mean(), abs=6e-5)]
        assert marker["y"] == [pytest.approx(called[ill].mean(), abs=6e-5)]


@pytest.mark.parametrize("question", TWO_CLASSES)
def test_the_precision_recall_chart_is_that(question: str) -> None:
    shown = board(3, question)
    figure, words = precision_recall(shown)
    drawn = {trace["name"]: trace for trace in traces(figure) if "name" in trace}
    markers = [trace for trace in traces(figure) if trace["mode"] == "markers"]
    for one, marker in zip(shown.standings, markers, strict=True):
        curve = drawn[one.contender.title]
        expected = average_precision_score(one.answers.positive(), one.answers.score())
        assert np.mean(curve["y"][1:]) == pytest.approx(expected, abs=0.02)
        assert interval(one.figures.estimates["average_precision"]) in words
        called, ill = one.answers.score() >= 0.4, one.answers.positive()
        assert marker["x"] == [pytest.approx(called[ill].mean(), abs=6e-5)]
        assert marker["y"] == [pytest.approx(ill[called].mean(), abs=6e-5)]


def test_a_network_that_calls_nothing_positive_has_no_place_on_the_curve() -> None:
    shown = compare_on([made(evaluation())], COVID_NORMAL, Films(), threshold=1.0)
    assert not [trace for trace in traces(precision_recall(shown)[0]) if trace["mode"] == "markers"]
    (marker,) = [trace for trace in traces(roc(shown)[0]) if trace["mode"] == "markers"]
    assert (marker["x"], marker["y"]) == ([0], [0])


@pytest.mark.parametrize("question", TWO_CLASSES)
def test_the_reliability_chart_counts_films(question: str) -> None:
    shown = board(3, question)
    _, *networks = traces(reliabilities(shown)[0])
    for one, trace in zip(shown.standings, networks, strict=True):
        score, ill = one.answers.score(), one.answers.positive()
        assert sum(trace["customdata"]) == len(one.answers)
        # Films add up again to the mean probability said and the share that was so.
        assert np.average(trace["x"], weights=trace["customdata"]) == pytest.approx(score.mean())
        assert np.average(trace["y"], weights=trace["customdata"]) == pytest.approx(ill.mean())
        bins = np.minimum((score * 10).astype(int), 9)
        assert trace["customdata"] == [int((bins == number).sum()) for number in np.unique(bins)]


@pytest.mark.parametrize("question", TWO_CLASSES)
def test_the_scores_chart_counts_films(question: str) -> None:
    shown = board(3, question)
    bars = traces(scores(shown)[0])
    for number, one in enumerate(shown.standings):
        up, down = bars[2 * number : 2 * number + 2]
        ill = one.answers.positive()
        assert (sum(up["customdata"]), sum(down["customdata"])) == (ill.sum(), (~ill).sum())
        assert up["name"] == shown.question.positive
        above = [count for x, count in zip(up["x"], up["customdata"], strict=True) if x > 0.4]
        assert sum(above) == (one.answers.score()[ill] >= 0.4).sum()


def test_only_models_with_both_classes_have_curves() -> None:
    ill = evaluation([Rows("far", "external", "covid19")])
    everybody = [made(evaluation()), made(ill, "ill"), made(evaluation([Rows("far", "external", "normal")]), "well")]
    shown = compare_on(everybody, COVID_NORMAL, Films())
    assert len(shown.standings) == 3
    both: list[Standing] = with_both_classes(shown)
    assert [one.contender.key for one in both] == ["a"]
    assert with_both_classes(board(2, "which_of_three")) == []
    # The chart that answers the question is there all the same, for whom there is a figure.
    figure, words = answers(shown)
    assert "Model ill: seen sources cannot be said, unseen cannot be said" in words
    assert list(figure.layout.yaxis.categoryarray) == [one.contender.title for one in shown.standings]
