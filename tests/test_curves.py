"""Curves and thresholds: scikit-learn's points, statsmodels' intervals, presets against every threshold there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc as area
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)
from statsmodels.stats.proportion import proportion_confint  # type: ignore[import-untyped]

from cxrmodels.evaluation import curves
from cxrmodels.evaluation.metrics import bootstrap_weights
from cxrmodels.evaluation.questions import QUESTIONS, Answers, answer
from tests.test_evaluation import evaluation


def answers_of(films: int = 300, tied: bool = False, labels: tuple[str, ...] = ("normal", "covid19")) -> Answers:
    data = evaluation(("normal", "covid19"), labels, films=films, group_size=2, seed=films)
    if tied:
        data = replace(data, logits=data.logits.round())
    return answer(QUESTIONS["covid_normal"], data, 1.5)


MADE = {"no ties": answers_of(), "ties": answers_of(tied=True), "few films": answers_of(films=12)}


@pytest.fixture(params=list(MADE.values()), ids=list(MADE))
def answers(request: pytest.FixtureRequest) -> Answers:
    return request.param


def curve_of(found: curves.Curve | None) -> curves.Curve:
    assert found is not None
    return found


# --------------------------------------------------------------------------------------------------------- curves
def test_roc_points_are_those_of_scikit_learn(answers: Answers) -> None:
    truth, score = answers.y_true, answers.probabilities[:, 1]
    curve = curve_of(curves.roc(answers, 20))
    expected = roc_curve(truth, score, drop_intermediate=False)
    for found, reference in zip((curve.step_x, curve.step_y, curve.thresholds), expected, strict=True):
        np.testing.assert_allclose(found, reference)
    assert area(curve.step_x, curve.step_y) == pytest.approx(roc_auc_score(truth, score))
    assert curve.x.tolist() == np.linspace(0, 1, 101).tolist()
    assert (np.diff(curve.y) >= 0).all()
    assert (curve.low <= curve.high).all()


def test_precision_recall_points_are_those_of_scikit_learn(answers: Answers) -> None:
    truth, score = answers.y_true, answers.probabilities[:, 1]
    curve = curve_of(curves.precision_recall(answers, 20))
    precision, recall, levels = precision_recall_curve(truth, score)
    np.testing.assert_allclose(curve.step_x, recall[-2::-1])
    np.testing.assert_allclose(curve.step_y, precision[-2::-1])
    np.testing.assert_allclose(curve.thresholds, levels[::-1])
    steps = (np.diff(curve.step_x, prepend=0) * curve.step_y).sum()
    assert steps == pytest.approx(average_precision_score(truth, score))


def _roc_on_grid(truth: np.ndarray, score: np.ndarray, times: np.ndarray) -> np.ndarray:
    false_positive, sensitivity, _ = roc_curve(truth, score, sample_weight=times, drop_intermediate=False)
    return np.interp(np.linspace(0, 1, 101), false_positive, sensitivity)


def _precision_on_grid(truth: np.ndarray, score: np.ndarray, times: np.ndarray) -> np.ndarray:
    """At each sensitivity the precision at the highest threshold that reaches it, threshold by threshold."""
    found = []
    for percent in range(101):
        for level in sorted(set(score[times > 0]), reverse=True):
            called = score >= level
            hits = times[called & (truth == 1)].sum()
            if 100 * hits >= percent * times[truth == 1].sum():
                found.append(hits / times[called].sum())
                break
    return np.array(found)


@pytest.mark.parametrize(
    ("draw", "oracle"), [(curves.roc, _roc_on_grid), (curves.precision_recall, _precision_on_grid)]
)
@pytest.mark.parametrize("name", ["ties", "few films"])
def test_grid_and_band_are_percentiles_over_patients(draw: type, oracle: type, name: str) -> None:
    answers = MADE[name]
    truth, score = answers.y_true, answers.probabilities[:, 1]
    rows = [oracle(truth, score, times) for times in bootstrap_weights(answers.films.groups, 4, seed=0)]
    curve = curve_of(draw(answers, 4))
    np.testing.assert_allclose(curve.y, rows[0], atol=1e-12)
    low, high = np.percentile(rows, (2.5, 97.5), axis=0)
    np.testing.assert_allclose(curve.low, low, atol=1e-12)
    np.testing.assert_allclose(curve.high, high, atol=1e-12)


def test_band_narrows_with_films() -> None:
    few, many = (curve_of(curves.roc(answers_of(films), 100)) for films in (60, 1500))
    assert (many.high - many.low).mean() < 0.5 * (few.high - few.low).mean()


# ---------------------------------------------------------------------------------------------------- calibration
def test_reliability_is_that_of_scikit_learn_and_statsmodels(answers: Answers) -> None:
    truth, score = answers.y_true, answers.probabilities[:, 1]
    bins = curves.reliability(answers)
    observed, predicted = calibration_curve(truth, score, n_bins=10)
    assert [one.observed.value for one in bins] == pytest.approx(observed.tolist())
    assert [one.predicted for one in bins] == pytest.approx(predicted.tolist())
    assert sum(one.films for one in bins) == len(answers)
    for one in bins:
        assert one.low <= one.predicted < one.high
        hits = round(one.observed.value * one.films)
        wilson = proportion_confint(hits, one.films, method="wilson")
        assert (one.observed.low, one.observed.high) == pytest.approx(wilson, abs=1e-9)


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    answers = MADE["no ties"].where(np.arange(2))
    certain = replace(answers, probabilities=np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert [(one.low, one.high, one.films) for one in curves.reliability(certain)] == [(0, 0.1, 1), (0.9, 1, 1)]
    counts = curves.histogram(certain)
    assert (counts.negative + counts.positive)[[0, -1]].tolist() == [1, 1]


def test_histogram_counts_every_film(answers: Answers) -> None:
    counts = curves.histogram(answers)
    assert counts.edges == pytest.approx(np.arange(26) / 25)
    assert (counts.negative.sum(), counts.positive.sum()) == tuple(np.bincount(answers.y_true))
    for number in (0, 12, 24):
        low, high = number / 25, (number + 1) / 25
        ill = [
            s
            for s, y in zip(answers.score(), answers.y_true, strict=True)
            if y and low <= s and (s < high or high == 1)
        ]
        assert counts.positive[number] == len(ill)


# ----------------------------------------------------------------------------------------------------- thresholds
@pytest.mark.parametrize("percent", [0, 7, 29, 50, 57, 100])
def test_sweep_is_the_confusion_at_each_threshold(answers: Answers, percent: int) -> None:
    swept = curves.sweep(answers)
    assert swept.thresholds[percent] == percent / 100
    called = answers.probabilities[:, 1] >= percent / 100
    (tn, fp), (fn, tp) = confusion_matrix(answers.y_true, called, labels=[0, 1])
    assert [int(getattr(swept, name)[percent]) for name in ("tn", "fp", "fn", "tp")] == [tn, fp, fn, tp]
    assert swept.sensitivity[percent] == pytest.approx(tp / (tp + fn))
    assert swept.specificity[percent] == pytest.approx(tn / (tn + fp))


@pytest.mark.parametrize("cost_ratio", [0.2, 1.0, 5.0])
def test_presets_are_the_best_of_all_thresholds(answers: Answers, cost_ratio: float) -> None:
    truth, score = answers.y_true == 1, answers.probabilities[:, 1]

    def at(level: float) -> tuple[float, float, float]:
        called = score >= level
        cost = cost_ratio * (truth & ~called).sum() + (~truth & called).sum()
        return float(called[truth].mean()), float((~called[~truth]).mean()), float(cost)

    everywhere = {level: at(level) for level in sorted({*score.tolist(), 1.0})}
    presets = curves.thresholds(answers, cost_ratio)
    assert list(presets) == ["equal", "sensitivity >= 95 %", "specificity >= 95 %", "cost"]
    assert set(presets.values()) <= set(everywhere)
    gap = {level: (round(abs(a - b), 12), -round(a + b, 12), -level) for level, (a, b, _) in everywhere.items()}
    assert presets["equal"] == min(gap, key=lambda level: gap[level])
    assert presets["sensitivity >= 95 %"] == max(level for level, (a, _, _) in everywhere.items() if a >= 0.95)
    assert presets["specificity >= 95 %"] == min(level for level, (_, b, _) in everywhere.items() if b >= 0.95)
    cheapest = min(cost for _, _, cost in everywhere.values())
    assert presets["cost"] == min(
        level for level, (_, _, cost) in everywhere.items() if cost == pytest.approx(cheapest)
    )


def test_presets_follow_the_cost() -> None:
    answers = MADE["no ties"]
    levels = [curves.thresholds(answers, ratio)["cost"] for ratio in (0, 0.1, 1, 10, 1000)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > levels[-1]
    with pytest.raises(ValueError, match="cost_ratio is -1"):
        curves.thresholds(answers, -1)


def test_a_preset_that_cannot_be_had_is_left_out() -> None:
    """Negative films at a probability of 1 are called positive at every threshold."""
    answers = MADE["no ties"]
    sure = replace(answers, probabilities=np.tile([0.0, 1.0], (len(answers), 1)))
    assert list(curves.thresholds(sure)) == ["equal", "sensitivity >= 95 %", "cost"]


def test_a_perfect_model() -> None:
    answers = MADE["no ties"]
    score = np.where(answers.positive(), 0.8, 0.2)
    perfect = replace(answers, probabilities=np.stack([1 - score, score], axis=1))
    assert curves.thresholds(perfect) == dict.fromkeys(
        ("equal", "sensitivity >= 95 %", "specificity >= 95 %", "cost"), 0.8
    )
    assert (curve_of(curves.roc(perfect, 10)).low == 1).all()
    assert (curve_of(curves.precision_recall(perfect, 10)).low == 1).all()


# ----------------------------------------------------------------------------------------------------------- edges
@pytest.mark.parametrize("labels", [("normal",), ("covid19",)])
@pytest.mark.parametrize("films", [0, 1, 30])
def test_films_of_one_class_have_no_curve(labels: tuple[str, ...], films: int) -> None:
    answers = answers_of(30, labels=labels).where(np.arange(films))
    assert curves.roc(answers) is None
    assert curves.precision_recall(answers) is None
    assert curves.thresholds(answers) == {}
    assert sum(one.films for one in curves.reliability(answers)) == films
    swept = curves.sweep(answers)
    known = swept.sensitivity if labels == ("covid19",) else swept.specificity
    missing = swept.specificity if labels == ("covid19",) else swept.sensitivity
    assert np.isnan(missing).all()
    assert np.isnan(known).all() == (films == 0)


@pytest.mark.parametrize(
    "function",
    [curves.roc, curves.precision_recall, curves.reliability, curves.histogram, curves.thresholds, curves.sweep],
)
def test_more_classes_have_no_curve(function: type) -> None:
    with pytest.raises(ValueError, match="positive class"):
        function(answer(QUESTIONS["which_of_four"], evaluation(films=30), 1.0))
