"""Pairs of models: published examples, other libraries, and the formulas written out the slow way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar  # type: ignore[import-untyped]
from statsmodels.stats.inter_rater import cohens_kappa  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from cxrmodels.evaluation.metrics import Estimate, bootstrap_weights
from cxrmodels.evaluation.paired import (
    AucDifference,
    Pair,
    compare,
    compare_all,
    delong,
    films_needed,
    holm,
    kappa,
    mcnemar,
    sentence,
)
from cxrmodels.evaluation.questions import QUESTIONS, Answers, answer
from tests.test_evaluation import FOUR, evaluation


def answers_of(
    seed: int, key: str = "covid_normal", signal: float = 1.5, films: int = 300, skill: float = 0.0
) -> Answers:
    """Made-up models with the same films: `seed` and `skill` change their answers alone."""
    data = evaluation(films=films, group_size=2, signal=signal)
    rng = np.random.default_rng(seed)
    right = np.eye(4)[[FOUR.index(str(label)) for label in data.labels]]
    logits = data.logits + rng.normal(size=data.logits.shape) + skill * right
    return answer(QUESTIONS[key], replace(data, logits=logits.astype(np.float32)), 1.0)


# -------------------------------------------------------------------------------------------------------- McNemar
@pytest.mark.parametrize(
    ("only_a", "only_b", "p", "digits"),
    [
        # Agresti 1990, approval of the prime minister in two surveys (the example of R's mcnemar.test: 86 and 150).
        (86, 150, 3.716e-5, 8),
        # Fagerland et al. 2013 (BMC Med Res Methodol 13:91), complete response before and after transplantation.
        (6, 16, 0.0525, 4),
        # Same paper, airway hyper-responsiveness before and after transplantation (Bentur et al. 2009).
        (1, 7, 0.0703, 4),
    ],
)
def test_mcnemar_of_published_examples(only_a: int, only_b: int, p: float, digits: int) -> None:
    assert round(mcnemar(only_a, only_b), digits) == pytest.approx(p)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (0, 6), (5, 5), (3, 9), (40, 61), (700, 650)])
def test_mcnemar_is_that_of_statsmodels(only_a: int, only_b: int) -> None:
    expected = reference_mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)


# --------------------------------------------------------------------------------------------------------- DeLong
OVARIAN = """
3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0   3.2 5.8  3 1   0.9 4.0  5 0   2.5 5.7  8 0   1.6 5.6  5 1
3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1   4.1 6.6  5 1   3.6 5.7  5 1   4.3 7.0  4 1   3.6 6.7  4 0
2.3 4.4  6 1   4.2 7.6  4 0   4.0 6.6  6 0   3.5 5.8  6 1   3.8 6.8  7 1   3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1
3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1   3.2 5.1  5 1   2.6 4.7  6 1   3.3 6.8  6 0   1.7 4.0  7 0
3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1   3.5 6.2  5 1   2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1
3.3 5.7  6 1   3.7 6.9  5 1   3.6 6.6  5 1
"""
"""The 43 complete records of DeLong et al. 1988 as the SAS/STAT User's Guide prints them (PROC LOGISTIC, "Comparing
Receiver Operating Characteristic Curves"): albumin, total protein, K-G score, outcome."""


@pytest.mark.parametrize(
    ("marker", "auc", "difference", "low", "high", "p"),
    # The guide's tables of association statistics and contrasts, each marker against the K-G score.
    [("albumin", 0.7366, 0.0108, -0.1761, 0.1976, 0.9102), ("protein", 0.6478, -0.0780, -0.2830, 0.1271, 0.4561)],
)
def test_delong_of_the_published_example(
    marker: str, auc: float, difference: float, low: float, high: float, p: float
) -> None:
    albumin, protein, kg, outcome = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4).T
    found = delong(outcome == 1, {"albumin": albumin, "protein": protein}[marker], 10 - kg)
    assert found.auc_b == pytest.approx(0.7258, abs=5e-5)
    assert (found.auc_a, found.difference) == pytest.approx((auc, difference), abs=5e-5)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, p), abs=1e-4)


def _delong(positive: np.ndarray, scores: tuple[np.ndarray, np.ndarray]) -> AucDifference:
    """Equations 3 to 6 of DeLong et al. 1988, pair by pair."""
    wins = [
        np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in score[~positive]] for x in score[positive]])
        for score in scores
    ]
    area_a, area_b = (float(win.mean()) for win in wins)
    of_sick, of_well = np.cov([win.mean(1) for win in wins]), np.cov([win.mean(0) for win in wins])
    covariance = of_sick / positive.sum() + of_well / (~positive).sum()
    error = np.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    difference = area_a - area_b
    reach = norm.ppf(0.975) * error
    p = 2 * norm.sf(abs(difference) / error)
    return AucDifference(area_a, area_b, difference, difference - reach, difference + reach, p)


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_delong_is_the_formula_written_out(levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(70) < 0.4
    a, b = (np.floor(levels * np.clip(rng.random(70) + 0.3 * positive, 0, 1.3)) for _ in range(2))
    found, expected = delong(positive, a, b), _delong(positive, (a, b))
    for name in AucDifference.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-10), name
    assert found.auc_a == pytest.approx(roc_auc_score(positive, a))


def test_delong_without_variance() -> None:
    positive = np.array([True, True, False, False])
    score = np.array([0.9, 0.8, 0.2, 0.1])
    same, opposite = delong(positive, score, score), delong(positive, score, -score)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert (opposite.difference, opposite.low, opposite.high, opposite.p) == (1, 1, 1, 0)


@pytest.mark.parametrize("ill", [0, 1, 4, 5])
def test_delong_needs_two_films_of_each_class(ill: int) -> None:
    with pytest.raises(ValueError, match=f"{ill} positive and {5 - ill} negative films"):
        delong(np.arange(5) < ill, np.arange(5.0), np.arange(5.0))


# --------------------------------------------------------------------------------------------------- Holm and kappa
@pytest.mark.parametrize("count", [0, 1, 2, 5, 36])
def test_holm_is_that_of_statsmodels(count: int) -> None:
    p_values = np.random.default_rng(count).beta(0.3, 2, count).round(3).tolist()
    expected = multipletests(p_values, method="holm")[1].tolist() if count else []
    assert holm(p_values) == pytest.approx(expected)


def test_holm_of_a_worked_example() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2, and 0.04 x 1 raised to its forerunner, in the order given."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]


@pytest.mark.parametrize("classes", [2, 4])
def test_kappa_is_that_of_statsmodels(classes: int) -> None:
    rng = np.random.default_rng(classes)
    a = rng.integers(0, classes, 200)
    b = np.where(rng.random(200) < 0.6, a, rng.integers(0, classes, 200))
    table = np.zeros((classes, classes))
    np.add.at(table, (a, b), 1)
    assert kappa(a, b) == pytest.approx(cohens_kappa(table).kappa)


def test_kappa_without_variety() -> None:
    zeros, ones = np.zeros(5, int), np.ones(5, int)
    assert kappa(zeros, zeros) is None
    assert kappa(zeros, ones) == 0
    assert kappa(np.arange(4), np.arange(4)) == 1


# ----------------------------------------------------------------------------------------------------- films needed
@pytest.mark.parametrize(("only_a", "only_b", "films"), [(30, 15, 300), (12, 4, 400), (50, 38, 120)])
def test_films_needed_give_the_power_promised(only_a: int, only_b: int, films: int) -> None:
    """McNemar's test on many made-up data sets of that size finds the difference in 80 % of them."""
    needed = films_needed(only_a, only_b, films)
    assert needed is not None
    rng = np.random.default_rng(only_a)
    rest = films - only_a - only_b
    a, b, _ = rng.multinomial(needed, np.array([only_a, only_b, rest]) / films, size=20_000).T
    power = np.mean(np.abs(a - b) / np.sqrt(a + b) > norm.ppf(0.975))
    assert power == pytest.approx(0.8, abs=0.03)
    assert films_needed(only_b, only_a, films) == needed


def test_no_number_of_films_shows_what_is_not_there() -> None:
    assert films_needed(7, 7, 100) is None
    assert films_needed(0, 0, 100) is None


# ------------------------------------------------------------------------------------------------------------ pairs
@pytest.mark.parametrize("threshold", [0.3, 0.5])
@pytest.mark.parametrize("key", ["covid_normal", "which_of_four"])
def test_a_pair_film_by_film(key: str, threshold: float) -> None:
    a, b = answers_of(1, key), answers_of(2, key)
    pair = compare(a, b, threshold, resamples=4, seed=1)
    two_classes = a.probabilities.shape[1] == 2
    called = [
        (one.probabilities[:, 1] >= threshold).astype(int) if two_classes else one.probabilities.argmax(1)
        for one in (a, b)
    ]
    right = [[int(c == t) for c, t in zip(calls, a.y_true, strict=True)] for calls in called]
    table = [sum((x, y) == cell for x, y in zip(*right, strict=True)) for cell in ((1, 1), (1, 0), (0, 1), (0, 0))]
    assert [pair.both_right, pair.only_a, pair.only_b, pair.both_wrong] == table
    assert min(table) > 0, "or this test shows little"
    assert (pair.films, pair.patients) == (len(a), len(set(a.films.groups)))
    assert pair.agreement == pytest.approx(np.mean(called[0] == called[1]))
    assert pair.kappa == pytest.approx(cohen_kappa_score(*called))
    assert pair.p_mcnemar == mcnemar(pair.only_a, pair.only_b)
    assert pair.p_adjusted is None
    # common() orders films by name; the weights follow.
    order = np.argsort(a.films.image_ids)
    rows = [
        accuracy_score(a.y_true[order], called[0][order], sample_weight=times)
        - accuracy_score(a.y_true[order], called[1][order], sample_weight=times)
        for times in bootstrap_weights(a.films.groups[order], 4, seed=1)
    ]
    expected = (rows[0], *np.percentile(rows, (2.5, 97.5)))
    assert (pair.difference.value, pair.difference.low, pair.difference.high) == pytest.approx(expected, abs=6e-5)
    if two_classes:
        assert pair.auc is not None
        assert pair.auc.auc_a == pytest.approx(roc_auc_score(a.y_true, a.probabilities[:, 1]))
        assert pair.auc == delong(a.positive()[order], a.score()[order], b.score()[order])
    else:
        assert pair.auc is None


def test_deciding_films_come_surest_first() -> None:
    a, b = answers_of(1), answers_of(2)
    pair = compare(a, b, resamples=5)
    right_a, right_b = ((one.called() == one.y_true) for one in (a, b))
    decided = right_a != right_b
    assert sorted(pair.deciding) == sorted(a.films.image_ids[decided])
    places = {name: place for place, name in enumerate(a.films.image_ids)}
    apart = [abs(a.probabilities[places[name], 1] - b.probabilities[places[name], 1]) for name in pair.deciding]
    assert len(apart) > 5
    assert apart == sorted(apart, reverse=True)


def test_a_model_and_itself() -> None:
    a = answers_of(1)
    pair = compare(a, a, resamples=50, names=("x", "y"))
    assert (pair.a, pair.b) == ("x", "y")
    assert pair.difference == Estimate(0, 0, 0)
    assert (pair.agreement, pair.kappa, pair.p_mcnemar) == (1, 1, 1)
    assert (pair.only_a, pair.only_b, pair.films_to_settle, pair.deciding) == (0, 0, None, ())


def test_only_films_that_both_can_answer_are_compared() -> None:
    a, b = answers_of(1), answers_of(2)
    pair = compare(a.where(np.arange(len(a)) < 60), b.where(np.arange(len(b)) >= 40), resamples=5)
    assert pair.films == 20
    with pytest.raises(ValueError, match="No film that both one and two can answer"):
        compare(a.where(np.arange(len(a)) < 5), b.where(np.arange(len(b)) >= 5), names=("one", "two"))


def test_one_film() -> None:
    a, b = (answers_of(seed).where(np.arange(1)) for seed in (1, 2))
    pair = compare(a, b, resamples=5)
    assert (pair.films, pair.auc) == (1, None)
    assert pair.difference.low == pair.difference.value == pair.difference.high


def test_settled_or_not() -> None:
    """A clear difference is settled; a small one on few films asks for more films than there are."""
    clear = compare(answers_of(1, skill=3), answers_of(2), resamples=300)
    assert clear.difference.low > 0
    assert clear.films_to_settle is None
    close = compare(answers_of(1, films=90), answers_of(3, films=90), resamples=300)
    assert close.difference.low <= 0 <= close.difference.high
    assert close.only_a != close.only_b
    assert close.films_to_settle == films_needed(close.only_a, close.only_b, close.films)
    assert close.films_to_settle is not None
    assert close.films_to_settle > close.films


def test_all_pairs_stand_on_the_same_films_and_are_adjusted_together() -> None:
    models = {"a": answers_of(1), "b": answers_of(2, skill=0.6), "c": answers_of(3, skill=2)}
    models["c"] = models["c"].where(np.arange(len(models["c"])) % 3 > 0)
    pairs = compare_all(models, resamples=50)
    assert [(pair.a, pair.b) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert {pair.films for pair in pairs} == {len(models["c"])}
    expected = multipletests([pair.p_mcnemar for pair in pairs], method="holm")[1]
    assert [pair.p_adjusted for pair in pairs] == pytest.approx(expected.tolist())
    assert compare_all({}) == compare_all({"a": models["a"]}) == []


# -------------------------------------------------------------------------------------------------------- sentences
BASE = compare(answers_of(1, films=60), answers_of(2, films=60), resamples=5)


def pair_of(value: float, low: float, high: float, more: int | None = None, p_adjusted: float | None = None) -> Pair:
    needed = None if more is None else BASE.films + more
    return replace(BASE, difference=Estimate(value, low, high), films_to_settle=needed, p_adjusted=p_adjusted)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (pair_of(0.04, 0.01, 0.07), "A is better than B on unseen films by 4 points of accuracy (95 % 1 to 7)."),
        (pair_of(-0.04, -0.07, -0.01), "B is better than A on unseen films by 4 points of accuracy (95 % 1 to 7)."),
        (pair_of(0.01, 0.002, 0.0184), "A is better than B on unseen films by 1 point of accuracy (95 % 0.2 to 1.8)."),
        (
            pair_of(0.04, 0.01, 0.07, p_adjusted=0.2),
            "A is better than B on unseen films by 4 points of accuracy (95 % 1 to 7). "
            "Among so many comparisons one like this may come by chance.",
        ),
        (
            pair_of(0.01, -0.03, 0.05, more=304),
            "A and B cannot be told apart on unseen films (difference 1 point of accuracy, 95 % -3 to 5); "
            "about 300 more films would settle it.",
        ),
        (
            pair_of(-0.01, -0.03, 0.0, more=1),
            "A and B cannot be told apart on unseen films (difference -1 point of accuracy, 95 % -3 to 0); "
            "about 1 more film would settle it.",
        ),
        (
            pair_of(-0.0004, -0.03, 0.02, more=12_345, p_adjusted=1.0),
            "A and B cannot be told apart on unseen films (difference 0 points of accuracy, 95 % -3 to 2); "
            "about 12,000 more films would settle it.",
        ),
        (
            pair_of(0.0, 0.0, 0.0),
            "A and B cannot be told apart on unseen films (difference 0 points of accuracy, 95 % 0 to 0).",
        ),
    ],
)
def test_sentences(pair: Pair, expected: str) -> None:
    assert sentence(pair, "A", "B", "unseen films") == expected
