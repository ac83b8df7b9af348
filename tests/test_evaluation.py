"""Figures: each against scikit-learn or brute force, intervals against simulated truth, files against damage."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cxrmodels.evaluation.calibration import (
    ANSWERED_ACCURACY,
    NOT_SURE,
    decide,
    fit_decision_threshold,
    fit_offsets,
    fit_temperature,
    operating_points,
)
from cxrmodels.evaluation.metrics import (
    BINS,
    SEEN,
    UNSEEN,
    Summary,
    auc,
    average_precision,
    bootstrap_weights,
    figures,
    prevalence_counts,
    shared_weights,
    summaries,
    summarise,
)
from cxrmodels.evaluation.predictions import Evaluation, PredictionsError, read_predictions, write_predictions
from cxrmodels.evaluation.questions import QUESTIONS, Answers, answer
from cxrmodels.findings import TITLES, index_of

FOUR = ("normal", "covid19", "bacterial_pneumonia", "viral_pneumonia")
SETS: dict[str, tuple[str, ...]] = {
    "two": ("normal", "covid19"),
    "one against the rest": ("covid19", "non_covid19"),
    "three": ("normal", "covid19", "pneumonia"),
    "four": FOUR,
}


def evaluation(
    findings: tuple[str, ...] = FOUR,
    labels: tuple[str, ...] = FOUR,
    films: int = 300,
    seed: int = 0,
    signal: float = 1.5,
    group_size: int = 1,
) -> Evaluation:
    """Made-up answers: noise, raised by `signal` where the label is. Films of one group share half their noise."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(labels, films)
    positions = [index_of(str(label), findings) for label in drawn]
    groups = np.arange(films) // group_size
    shared = rng.normal(size=(films, len(findings)))[groups]
    logits = rng.normal(size=(films, len(findings))) + shared
    for film, position in enumerate(positions):
        if position is not None:
            logits[film, position] += signal
    return Evaluation(
        findings=findings,
        image_ids=np.array([f"here/{i}" for i in range(films)]),
        sources=np.array(["here" if i % 3 else "there" for i in range(films)]),
        splits=np.array(["val" if i % 5 == 0 else "test" for i in range(films)]),
        groups=np.array([f"g{group}" for group in groups]),
        labels=drawn,
        age_groups=np.full(films, "adult"),
        views=np.full(films, ""),
        widths=np.full(films, 320),
        heights=rng.integers(200, 320, films),
        exposures=rng.uniform(0.2, 0.8, films).round(3).astype(np.float32),
        logits=logits.round(4).astype(np.float32),
    )


def summary_of(data: Evaluation, temperature: float = 1.0, resamples: int = 20) -> Summary:
    found = summarise("made up", True, data, temperature, resamples=resamples)
    assert found is not None
    return found


def value(summary: Summary, name: str) -> float:
    estimate = summary.metrics[name]
    assert estimate is not None
    return estimate.value


# ----------------------------------------------------------------------------------------------------- metrics
@pytest.mark.parametrize("findings", SETS.values(), ids=SETS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_metrics_are_those_of_scikit_learn(findings: tuple[str, ...], temperature: float) -> None:
    data = evaluation(findings)
    summary = summary_of(data, temperature)
    known = np.array([index_of(str(label), findings) is not None for label in data.labels])
    y_true = np.array([index_of(str(label), findings) for label in data.labels[known]], dtype=int)
    probabilities = softmax(data.logits[known].astype(float) / temperature, axis=1)
    y_pred = probabilities.argmax(1)
    covid = findings.index("covid19")
    score = probabilities[:, covid]
    pair = np.isin(data.labels[known], ("covid19", "normal"))
    normal = probabilities[:, index_of("normal", findings)]
    expected = {
        "accuracy": accuracy_score(y_true, y_pred),
        "balanced_accuracy": balanced_accuracy_score(y_true, y_pred),
        "auc_covid19": roc_auc_score(y_true == covid, score),
        "auc_covid19_normal": roc_auc_score((y_true == covid)[pair], (score / (score + normal))[pair]),
        "sensitivity_covid19": np.mean(y_pred[y_true == covid] == covid),
        "specificity_covid19": np.mean(y_pred[y_true != covid] != covid),
        "brier": brier_score_loss(y_true, probabilities, labels=range(len(findings)), scale_by_half=False),
        "ece": _ece(probabilities.max(1), y_pred == y_true, np.ones(len(y_true))),
        "precision_covid19": precision_score(y_true == covid, y_pred == covid),
        "f1_covid19": f1_score(y_true == covid, y_pred == covid),
        "average_precision_covid19": average_precision_score(y_true == covid, score),
    }
    assert summary.films == known.sum()
    assert {name: value(summary, name) for name in summary.metrics} == pytest.approx(expected, abs=6e-5)
    np.testing.assert_array_equal(summary.confusion, confusion_matrix(y_true, y_pred, labels=range(len(findings))))


def _ece(confidence: np.ndarray, right: np.ndarray, times: np.ndarray) -> float:
    """Guo et al. 2017, eq. 3, film by film, each counted so many times."""
    error = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = [i for i, c in enumerate(confidence) if low <= c < high or (c == 1 and number == BINS - 1)]
        if films := sum(times[i] for i in inside):
            gap = sum(times[i] * (confidence[i] - right[i]) for i in inside) / films
            error += films / times.sum() * abs(gap)
    return error


@pytest.mark.parametrize("levels", [1, 2, 3, 10, 1000])
def test_auc_counts_ties_half(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(200) < 0.3
    score = np.floor(levels * np.clip(rng.random(200) + 0.2 * positive, 0, 0.999)) / levels
    wins = score[positive][:, None] - score[~positive][None]
    brute = np.mean((wins > 0) + 0.5 * (wins == 0))
    (found,) = auc(np.ones((1, 200)), positive, score)
    assert found == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    assert found == pytest.approx(brute, abs=1e-12)


def test_auc_of_weights_is_auc_of_repeated_films() -> None:
    rng = np.random.default_rng(1)
    positive, score = rng.random(60) < 0.5, np.round(rng.random(60), 1)
    weights = rng.integers(0, 4, (5, 60))
    found = auc(weights.astype(float), positive, score)
    for row, times in zip(found, weights, strict=True):
        assert row == pytest.approx(roc_auc_score(np.repeat(positive, times), np.repeat(score, times)), abs=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_rank_figures_are_those_of_scikit_learn_with_weights(levels: int, share: float) -> None:
    """Ties, films that a resample leaves out, and more rows than are worked on at a time."""
    rng = np.random.default_rng(levels)
    positive = np.r_[True, False, rng.random(150) < share]
    score = np.round(rng.random(152) + 0.3 * positive, 3) if levels == 1000 else rng.integers(0, levels, 152) / levels
    weights = np.vstack([np.ones(152), rng.integers(0, 3, (130, 152))])
    areas, precisions = auc(weights, positive, score), average_precision(weights, positive, score)
    for row in (0, 1, 63, 64, 65, 130):
        times = weights[row]
        if min(times[positive].sum(), times[~positive].sum()) == 0:
            assert np.isnan([areas[row], precisions[row]]).all()
            continue
        assert areas[row] == pytest.approx(roc_auc_score(positive, score, sample_weight=times), abs=1e-12)
        expected = average_precision_score(positive, score, sample_weight=times)
        assert precisions[row] == pytest.approx(expected, abs=1e-12)


BOTH = {
    *("auc_covid19", "auc_covid19_normal", "average_precision_covid19"),
    *("precision_covid19", "f1_covid19"),
}
"""Figures that need COVID-19 films and others."""

ONLY: dict[str, tuple[tuple[str, ...], set[str]]] = {
    # What the films are -> the figures they do not allow.
    "COVID-19 only": (("covid19",), {"specificity_covid19", *BOTH}),
    "normal only": (("normal",), {"sensitivity_covid19", *BOTH}),
    "neither": (("bacterial_pneumonia",), {"sensitivity_covid19", *BOTH}),
    "no normal": (("covid19", "viral_pneumonia"), {"auc_covid19_normal"}),
}


@pytest.mark.parametrize("name", ONLY)
def test_a_figure_the_films_do_not_allow_is_none(name: str) -> None:
    labels, missing = ONLY[name]
    summary = summary_of(evaluation(labels=labels, films=40))
    assert {key for key, estimate in summary.metrics.items() if estimate is None} == missing


def test_films_without_an_answer_take_no_part() -> None:
    mixed = evaluation(labels=(*FOUR, "tuberculosis", "other"))
    known = np.isin(mixed.labels, FOUR)
    assert summary_of(mixed).to_dict() == summary_of(mixed.where(known)).to_dict()
    assert summarise("made up", True, mixed.where(~known), 1.0) is None
    # To a network that only tells COVID-19 from the rest, tuberculosis is an answerable film.
    rest = evaluation(("covid19", "non_covid19"), ("covid19", "tuberculosis"))
    assert summary_of(rest).films == len(rest)


def test_summaries_keep_validation_out_and_sources_apart() -> None:
    data = evaluation()
    ages = np.where(np.arange(len(data)) % 7 == 0, "pediatric", "adult")
    ages[:40] = ""  # not stated: part of the whole, and of no age group
    found = summaries(replace(data, age_groups=ages), ("here",), 1.0, resamples=5)

    def films(source: str, age: str | None = None) -> int:
        chosen = (data.sources == source) & (data.splits != "val")
        return int((chosen & (ages == age) if age else chosen).sum())

    assert [(summary.name, summary.films, summary.seen) for summary in found] == [
        ("test films of seen sources", films("here"), True),
        ("films of unseen sources", films("there"), False),
        ("adult, test films of seen sources", films("here", "adult"), True),
        ("adult, films of unseen sources", films("there", "adult"), False),
        ("pediatric, test films of seen sources", films("here", "pediatric"), True),
        ("pediatric, films of unseen sources", films("there", "pediatric"), False),
        ("here", films("here"), True),
        ("there", films("there"), False),
    ]
    assert found[0].name == SEEN
    assert found[1].name == UNSEEN


# ------------------------------------------------------------------------------------------- figures of a question
def _two_class_oracle(answers: Answers, threshold: float, times: np.ndarray) -> dict[str, float]:
    score, truth = answers.probabilities[:, 1], answers.y_true
    called = (score >= threshold).astype(int)
    return {
        "auc": roc_auc_score(truth, score, sample_weight=times),
        "average_precision": average_precision_score(truth, score, sample_weight=times),
        "sensitivity": recall_score(truth, called, sample_weight=times),
        "specificity": recall_score(truth, called, pos_label=0, sample_weight=times),
        "precision": precision_score(truth, called, sample_weight=times),
        "negative_predictive_value": precision_score(truth, called, pos_label=0, sample_weight=times),
        "f1": f1_score(truth, called, sample_weight=times),
        "accuracy": accuracy_score(truth, called, sample_weight=times),
        "balanced_accuracy": balanced_accuracy_score(truth, called, sample_weight=times),
        "ece": _ece(np.maximum(score, 1 - score), (score > 0.5) == truth, times),
        "brier": brier_score_loss(truth, score, sample_weight=times, scale_by_half=False),
    }


def _many_class_oracle(answers: Answers, _: float, times: np.ndarray) -> dict[str, float]:
    probabilities, truth = answers.probabilities, answers.y_true
    called, labels = probabilities.argmax(1), range(probabilities.shape[1])
    each = recall_score(truth, called, average=None, sample_weight=times)
    return {
        "accuracy": accuracy_score(truth, called, sample_weight=times),
        "balanced_accuracy": balanced_accuracy_score(truth, called, sample_weight=times),
        "macro_f1": f1_score(truth, called, average="macro", sample_weight=times),
        "macro_auc": roc_auc_score(truth, probabilities, multi_class="ovr", sample_weight=times),
        "ece": _ece(probabilities.max(1), called == truth, times),
        "brier": brier_score_loss(truth, probabilities, labels=labels, sample_weight=times, scale_by_half=False),
        **{f"sensitivity_{label}": each[label] for label in labels},
    }


@pytest.mark.parametrize(("threshold", "tied"), [(0.3, False), (0.5, True)], ids=["no ties", "ties"])
@pytest.mark.parametrize("key", QUESTIONS)
def test_figures_are_those_of_scikit_learn(key: str, threshold: float, tied: bool) -> None:
    """Values and intervals: the percentiles of scikit-learn's figures with the resamples' weights."""
    data = evaluation(films=150, group_size=2, seed=3)
    if tied:
        data = replace(data, logits=data.logits.round())
    answers = answer(QUESTIONS[key], data, 1.3)
    oracle = _many_class_oracle if QUESTIONS[key].positive is None else _two_class_oracle
    rows = [oracle(answers, threshold, row) for row in bootstrap_weights(answers.films.groups, 4, seed=1)]
    found = figures(answers, threshold, resamples=4, seed=1)
    assert list(found.estimates) == list(rows[0])
    for name, estimate in found.estimates.items():
        assert estimate is not None, name
        of_rows = [row[name] for row in rows]
        expected = (of_rows[0], *np.percentile(of_rows, (2.5, 97.5)))
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx(expected, abs=6e-5), name
    assert (found.films, found.patients) == (len(answers), len(set(answers.films.groups)))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(answers.y_true, answers.called(threshold)))


def test_figures_that_one_class_does_not_allow() -> None:
    ill, well = (answer(QUESTIONS["covid_normal"], evaluation(labels=(one,)), 1.0) for one in ("covid19", "normal"))
    allowed = {"accuracy", "ece", "brier"}
    for answers, more in ((ill, "sensitivity"), (well, "specificity")):
        estimates = figures(answers, resamples=20).estimates
        assert {name for name, estimate in estimates.items() if estimate} == allowed | {more}
    three = answer(QUESTIONS["which_of_four"], evaluation(labels=FOUR[:3]), 1.0)
    estimates = figures(three, resamples=20).estimates
    assert {name for name, estimate in estimates.items() if not estimate} == {
        *("balanced_accuracy", "macro_f1", "macro_auc", "sensitivity_3")
    }


def test_figures_of_a_model_that_never_says_yes() -> None:
    answers = answer(QUESTIONS["covid_normal"], evaluation(), 1.0)
    estimates = figures(answers, 1.0, resamples=20).estimates
    assert estimates["precision"] is None
    assert [(e.value, e.low, e.high) for name in ("sensitivity", "f1") if (e := estimates[name])] == [(0, 0, 0)] * 2


@pytest.mark.parametrize("key", ["covid_normal", "which_of_four"])
def test_figures_of_one_film_and_of_none(key: str) -> None:
    answers = answer(QUESTIONS[key], evaluation(), 1.0)
    one = figures(answers.where(np.arange(len(answers)) == 0), resamples=10)
    assert (one.films, one.patients) == (1, 1)
    accuracy = one.estimates["accuracy"]
    assert accuracy is not None
    assert accuracy.low == accuracy.value == accuracy.high
    none = figures(answers.where(np.zeros(len(answers), bool)), resamples=10)
    assert (none.films, none.patients) == (0, 0)
    assert set(none.estimates.values()) == {None}
    assert not np.any(none.confusion)


def test_order_of_films_does_not_matter_to_values() -> None:
    answers = answer(QUESTIONS["covid_normal"], evaluation(group_size=3), 1.0)
    turned = answers.where(np.arange(len(answers))[::-1])
    first, second = figures(answers, resamples=10), figures(turned, resamples=10)
    assert first == second, "patients are drawn by name, not by place"


def test_shared_weights_are_those_of_the_cards() -> None:
    groups = np.array([f"p{i % 40}" for i in range(100)])
    shared = shared_weights(groups, 30, seed=2)
    np.testing.assert_array_equal(shared, bootstrap_weights(groups, 30, seed=2))
    renamed = np.array([f"q{i % 40}" for i in range(100)])
    assert shared_weights(renamed, 30, seed=2) is shared, "same patients under other names: drawn once"
    assert (shared_weights(groups, 30, seed=3) != shared).any()
    with pytest.raises(ValueError, match="read-only"):
        shared[0, 0] = 2


# ------------------------------------------------------------------------------------------------------ prevalence
def test_prevalence_of_a_published_example() -> None:
    """Gigerenzer et al. 2007 (Psychological Science in the Public Interest 8:53): of 1,000 women 10 have breast cancer,
    mammography finds 9 of them and alarms 89 of the others; 9 of 98 alarms are true."""
    counts = prevalence_counts(0.90, 0.91, 0.01)
    assert (counts.ill, counts.found, counts.missed) == (10, 9, 1)
    assert (counts.healthy, counts.false_alarms, counts.correctly_cleared) == (990, 89, 901)
    assert counts.ppv == pytest.approx(9 / 98, abs=1e-3)
    assert counts.npv == pytest.approx(901 / 902, abs=1e-3)


@pytest.mark.parametrize("people", [1, 7, 1000])
@pytest.mark.parametrize("prevalence", [0.0, 0.0003, 0.5, 1.0])
@pytest.mark.parametrize(("sensitivity", "specificity"), [(0, 0), (1, 1), (0.85, 0.333), (0.5, 1), (0, 1)])
def test_people_add_up(people: int, prevalence: float, sensitivity: float, specificity: float) -> None:
    counts = prevalence_counts(sensitivity, specificity, prevalence, people)
    assert counts.found + counts.missed == counts.ill
    assert counts.false_alarms + counts.correctly_cleared == counts.healthy
    assert counts.ill + counts.healthy == people
    parts = (counts.found, counts.missed, counts.false_alarms, counts.correctly_cleared)
    assert min(parts) >= 0
    alarms = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    assert (counts.ppv is None) == (alarms == 0)
    assert (counts.npv is None) == (alarms == 1)
    if prevalence in (0, 1):
        assert counts.ppv in (None, prevalence)
        assert counts.npv in (None, 1 - prevalence)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1.2, 0.5, 0.1), "sensitivity"), ((0.5, -0.1, 0.1), "specificity"), ((1, 1, float("nan")), "prevalence")],
)
def test_shares_are_shares(arguments: tuple[float, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prevalence_counts(*arguments)


def test_nobody_is_no_crowd() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        prevalence_counts(1, 1, 0.5, 0)


# --------------------------------------------------------------------------------------------------- intervals
def test_bootstrap_draws_whole_groups() -> None:
    groups = np.array(["a", "b", "a", "c", "b", "a"])
    weights = bootstrap_weights(groups, 50, seed=3)
    assert weights.shape == (51, 6)
    assert (weights[0] == 1).all()
    for name in "abc":
        assert (np.ptp(weights[:, groups == name], axis=1) == 0).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all(), "as many groups as there are, each time"
    np.testing.assert_array_equal(weights, bootstrap_weights(groups, 50, seed=3))
    assert (weights != bootstrap_weights(groups, 50, seed=4)).any()


def _accuracy_interval(right: np.ndarray, groups: np.ndarray, seed: int) -> tuple[float, float]:
    """The interval that a page would show: answers right or wrong by construction, through `summarise`."""
    films = len(right)
    labels = np.where(np.arange(films) % 2 == 0, "covid19", "normal")
    called_covid = (labels == "covid19") == right
    words = np.full(films, "x")
    logits = np.stack([np.where(called_covid, -1, 1), np.where(called_covid, 1, -1)], axis=1).astype(np.float32)
    data = replace(
        evaluation(("normal", "covid19"), films=films), image_ids=words, groups=groups, labels=labels, logits=logits
    )
    summary = summarise("made up", True, data, 1.0, resamples=300, seed=seed)
    assert summary is not None
    estimate = summary.metrics["accuracy"]
    assert estimate is not None
    assert estimate.low <= estimate.value <= estimate.high
    return estimate.low, estimate.high


def test_intervals_cover_the_truth() -> None:
    """Films of one patient stand or fall together: only drawing patients gives intervals worth their 95 %."""
    rng = np.random.default_rng(0)
    truth, patients, each = 0.8, 60, 5
    covered = {"patients": 0, "films": 0}
    widths: dict[str, list[float]] = {"patients": [], "films": []}
    repeats = 80
    for repeat in range(repeats):
        chance = rng.beta(4 * truth, 4 * (1 - truth), patients)
        right = rng.random((patients, each)) < chance[:, None]
        for name, groups in (
            ("patients", np.repeat(np.arange(patients), each)),
            ("films", np.arange(patients * each)),
        ):
            low, high = _accuracy_interval(right.ravel(), groups, repeat)
            covered[name] += low <= truth <= high
            widths[name].append(high - low)
    assert covered["patients"] / repeats >= 0.88
    assert covered["films"] < covered["patients"]
    assert np.mean(widths["patients"]) > 1.2 * np.mean(widths["films"])


def _simulated(rng: np.random.Generator, patients: int, each: int, signal: float) -> Answers:
    """Films of a patient share 60 % of their variance and their class; the score has unit variance within a class."""
    films = patients * each
    covid = np.repeat(rng.random(patients) < 0.4, each)
    noise = np.sqrt(0.6) * np.repeat(rng.normal(size=patients), each) + np.sqrt(0.4) * rng.normal(size=films)
    logit = signal * (covid - 0.5) + noise
    made = evaluation(("normal", "covid19"), films=1)
    filled = {
        name: np.repeat(getattr(made, name), films, axis=0) for name in Evaluation.__slots__ if name != "findings"
    }
    filled["groups"] = np.repeat(np.arange(patients), each)
    probabilities = np.stack([expit(-logit), expit(logit)], axis=1)
    return Answers(QUESTIONS["covid_normal"], Evaluation(made.findings, **filled), covid.astype(int), probabilities)


def test_figures_cover_the_truth() -> None:
    """400 data sets whose true accuracy and AUC are known: 93 to 97 % of the intervals hold them.

    That takes some hundred patients, as the stored predictions have; with 150 of them it is 92 to 94 % for the AUC.
    """
    rng = np.random.default_rng(0)
    signal, repeats = 1.5, 400
    truth = {"accuracy": norm.cdf(signal / 2), "auc": norm.cdf(signal / np.sqrt(2))}
    covered = dict.fromkeys(truth, 0)
    for repeat in range(repeats):
        answers = _simulated(rng, patients=400, each=2, signal=signal)
        estimates = figures(answers, resamples=300, seed=repeat).estimates
        for name, true in truth.items():
            estimate = estimates[name]
            assert estimate is not None
            covered[name] += estimate.low <= true <= estimate.high
    assert all(0.93 <= count / repeats <= 0.97 for count in covered.values()), covered


# ------------------------------------------------------------------------------------------------- calibration
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_temperature_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (20_000, 3))
    cumulative = softmax(honest, axis=1).cumsum(1)
    y_true = (rng.random((20_000, 1)) > cumulative).sum(1).clip(0, 2)
    assert fit_temperature(honest * temperature, y_true) == pytest.approx(temperature, rel=0.05)


def test_temperature_mends_calibration_and_keeps_the_order() -> None:
    data = evaluation(films=3000, signal=2.0)
    temperature = fit_temperature(data.logits.astype(float), data.y_true())
    before, after = summary_of(data, 0.2), summary_of(data, temperature)
    assert value(after, "ece") < value(before, "ece")
    assert value(after, "accuracy") == value(before, "accuracy")


@pytest.mark.parametrize("sign", [1, -1], ids=["always right", "always wrong"])
def test_temperature_stays_within_bounds(sign: int) -> None:
    y_true = np.arange(40) % 2
    logits = sign * 5 * np.eye(2)[y_true]
    assert 0.05 <= fit_temperature(logits, y_true) <= 20


def test_temperature_needs_films() -> None:
    with pytest.raises(ValueError, match="validation films"):
        fit_temperature(np.empty((0, 2)), np.empty(0, dtype=int))


def test_offsets_undo_even_drawing() -> None:
    """Logits of a perfect judge of three classes that come equally often, on films of which they come otherwise: what
    is missing is the logarithm of how often each comes, less the first one's. Temperature or not."""
    rng = np.random.default_rng(1)
    shares = np.array([0.6, 0.3, 0.1])
    y_true = rng.choice(3, 40_000, p=shares)
    middles = 2.0 * np.eye(3)
    seen = middles[y_true] + rng.normal(size=(len(y_true), 3))
    logits = -((seen[:, None] - middles) ** 2).sum(2) / 2
    expected = np.log(shares / shares[0])
    for temperature in (1.0, 2.5):
        np.testing.assert_allclose(fit_offsets(logits * temperature, y_true), expected * temperature, atol=0.15)
    corrected = logits + fit_offsets(logits, y_true)
    assert fit_temperature(corrected, y_true) == pytest.approx(1, rel=0.05)
    assert (corrected.argmax(1) == y_true).mean() > (logits.argmax(1) == y_true).mean()


def test_offsets_of_a_network_that_is_always_right_stay_within_bounds() -> None:
    y_true = np.arange(30) % 3
    offsets = fit_offsets(40 * np.eye(3)[y_true], y_true)
    assert np.abs(offsets).max() <= 10
    assert ((40 * np.eye(3)[y_true] + offsets).argmax(1) == y_true).all()


def test_offsets_need_films_of_every_class() -> None:
    with pytest.raises(ValueError, match=r"No validation film of class 1, 2"):
        fit_offsets(np.zeros((4, 3)), np.zeros(4, int))


@pytest.mark.parametrize("signal", [0.0, 1.0, 2.0, 4.0, 20.0])
def test_decision_threshold_is_the_least_that_does(signal: float) -> None:
    data = evaluation(films=2000, signal=signal)
    probabilities, y_true = data.probabilities(), data.y_true()
    threshold = fit_decision_threshold(probabilities, y_true)
    assert 0.6 <= threshold <= 0.95

    def accuracy(level: float) -> float:
        answered = probabilities.max(1) >= level
        return float((probabilities.argmax(1) == y_true)[answered].mean()) if answered.any() else 0.0

    if threshold < 0.95:
        assert accuracy(threshold) >= ANSWERED_ACCURACY
    assert all(accuracy(level / 100) < ANSWERED_ACCURACY for level in range(60, round(100 * threshold)))


@pytest.mark.parametrize(
    ("probabilities", "threshold", "expected"),
    [
        ((0.7, 0.3), 0.6, "normal"),
        ((0.3, 0.7), 0.6, "covid19"),
        ((0.6, 0.4), 0.6, "normal"),
        ((0.59, 0.41), 0.6, NOT_SURE),
        ((0.5, 0.5), 0.95, NOT_SURE),
    ],
)
def test_decide(probabilities: tuple[float, float], threshold: float, expected: str) -> None:
    assert decide(np.array(probabilities), ("normal", "covid19"), threshold) == expected


@pytest.mark.parametrize("seed", range(5))
def test_operating_points_do_what_they_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(400) < 0.3
    score = softmax(np.stack([rng.normal(size=400), rng.normal(size=400) + 1.5 * positive], axis=1), axis=1)[:, 1]
    score = score.round(3)  # thresholds are stored to four digits; ties among films on purpose

    def at(threshold: float) -> tuple[float, float]:
        called = score >= threshold
        return float(called[positive].mean()), float((~called[~positive]).mean())

    points = operating_points(score, positive)
    assert set(points) == {"balanced", "sensitivity_95", "specificity_95"}
    for point in points.values():
        assert at(point["threshold"]) == pytest.approx((point["sensitivity"], point["specificity"]), abs=6e-5)
    everywhere = {level: at(level) for level in np.unique(score)}
    assert sum(at(points["balanced"]["threshold"])) == pytest.approx(max(map(sum, everywhere.values())))
    sensitive = max(level for level, (sensitivity, _) in everywhere.items() if sensitivity >= 0.95)
    assert points["sensitivity_95"]["threshold"] == pytest.approx(sensitive)
    specific = min(level for level, (_, specificity) in everywhere.items() if specificity >= 0.95)
    assert points["specificity_95"]["threshold"] == pytest.approx(specific)


def test_operating_points_of_a_perfect_score() -> None:
    score = np.array([0.1, 0.2, 0.8, 0.9])
    points = operating_points(score, score > 0.5)
    assert points["balanced"] == {"threshold": 0.8, "sensitivity": 1.0, "specificity": 1.0}
    assert all(0 <= point["threshold"] <= 1 for point in points.values())


# -------------------------------------------------------------------------------------------- predictions file
@pytest.mark.parametrize("findings", SETS.values(), ids=SETS)
def test_predictions_come_back(findings: tuple[str, ...], tmp_path: Path) -> None:
    data = evaluation(findings, (*FOUR, "other"))
    data.image_ids[0] = 'a "quoted", comma\'d name with ü'
    write_predictions(data, tmp_path / "one.csv.gz")
    back = read_predictions(tmp_path / "one.csv.gz")
    assert back.findings == findings
    for name in Evaluation.__slots__[1:]:
        np.testing.assert_array_equal(getattr(back, name), getattr(data, name), err_msg=name)
    write_predictions(back, tmp_path / "two.csv.gz")
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()


def test_no_film_is_no_error(tmp_path: Path) -> None:
    data = evaluation()
    write_predictions(data.where(np.zeros(len(data), bool)), tmp_path / "empty.csv.gz")
    back = read_predictions(tmp_path / "empty.csv.gz")
    assert len(back) == 0
    assert back.logits.shape == (0, 4)
    assert summarise("none", True, back, 1.0) is None


def _text(change: Callable[[list[str]], None]) -> Callable[[bytes], bytes]:
    """Damage done to the lines of the table."""

    def damage(packed: bytes) -> bytes:
        lines = gzip.decompress(packed).decode().splitlines()
        change(lines)
        return gzip.compress("\n".join(lines).encode())

    return damage


def _last_cell(line: int, cell: str) -> Callable[[bytes], bytes]:
    def change(lines: list[str]) -> None:
        lines[line - 1] = lines[line - 1].rsplit(",", 1)[0] + "," + cell

    return _text(change)


def _header(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(lines: list[str]) -> None:
        lines[0] = lines[0].replace(old, new)

    return _text(change)


def _cut(lines: list[str]) -> None:
    lines[6] = lines[6].rsplit(",", 1)[0]


def _flip(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 255]) + packed[middle + 1 :]


NAME = "predictions.csv.gz"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "not packed": (gzip.decompress, NAME),
    "cut short": (lambda packed: packed[: len(packed) // 2], NAME),
    "a byte flipped": (_flip, NAME),
    "no bytes": (lambda packed: b"", NAME),
    "no lines": (lambda packed: gzip.compress(b""), f"{NAME}.*image_id"),
    "not text": (lambda packed: gzip.compress(b"\xff\xfe\xff"), NAME),
    "column missing": (_header("group_id,", ""), f"{NAME}.*group_id"),
    "unknown finding": (_header("logit_covid19", "logit_flu"), f"{NAME}.*flu"),
    "cell missing": (_text(_cut), f"{NAME}, row 7: 11 cells, expected 12"),
    "not a number": (_last_cell(5, "high"), f"{NAME}, row 5.*high"),
    "empty cell": (_last_cell(4, ""), f"{NAME}, row 4"),
    "not finite": (_last_cell(9, "nan"), f"{NAME}, row 9"),
    "infinite": (_last_cell(3, "-inf"), f"{NAME}, row 3"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_predictions(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGES[name]
    path = tmp_path / NAME
    write_predictions(evaluation(("normal", "covid19"), films=20), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PredictionsError, match=message):
        read_predictions(path)


def test_missing_predictions(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=NAME):
        read_predictions(tmp_path / NAME)


# ---------------------------------------------------------------------------------------------------- findings
@pytest.mark.parametrize("findings", SETS.values(), ids=SETS)
def test_every_finding_is_its_own_answer(findings: tuple[str, ...]) -> None:
    assert [index_of(finding, findings) for finding in findings] == list(range(len(findings)))


@pytest.mark.parametrize("finding", TITLES)
def test_what_covers_what(finding: str) -> None:
    """Written out once more, from the words: COVID-19 is never "pneumonia" here, though medicine calls it one."""
    lungs = {"pneumonia", "bacterial_pneumonia", "viral_pneumonia"}
    assert (index_of(finding, ("normal", "pneumonia")) == 1) == (finding in lungs)
    assert (index_of(finding, ("covid19", "non_covid19")) == 0) == (finding == "covid19")
    assert index_of(finding, ("covid19", "non_covid19")) is not None
    assert (index_of(finding, FOUR) is None) == (finding not in FOUR), "a general label answers no special question"


def test_exact_name_wins() -> None:
    assert index_of("viral_pneumonia", ("pneumonia", "viral_pneumonia")) == 1
    assert index_of("normal", ("non_covid19", "normal")) == 1
    assert index_of("tuberculosis", ("normal", "pneumonia")) is None
    assert index_of("normal", ()) is None
