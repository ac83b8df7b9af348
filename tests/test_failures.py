"""Where a model fails: planted failures are found, chance ones are not, and what was measured is scikit-learn's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import accuracy_score, recall_score

from cxrmodels.evaluation.failures import Subgroup, source_check, subgroups
from cxrmodels.evaluation.predictions import Evaluation
from cxrmodels.evaluation.questions import QUESTIONS, Answers, answer
from tests.test_evaluation import FOUR, evaluation

KINDS = ("source", "age group", "view", "exposure", "size")


def films_of(films: int = 600, seed: int = 0, labels: tuple[str, ...] = ("normal", "covid19")) -> Evaluation:
    """Films of three sources, two age groups, three views and sizes from small to large."""
    rng = np.random.default_rng((seed, 1))  # not the stream that draws the labels
    return replace(
        evaluation(("normal", "covid19"), labels, films=films, seed=seed, signal=2.0),
        sources=rng.choice(["north", "south", "west"], films),
        age_groups=rng.choice(["adult", "pediatric"], films),
        views=rng.choice(["", "AP", "PA"], films),
        widths=rng.choice([224, 400, 1024, 3000], films),
        heights=rng.choice([224, 300], films),
    )


def answers_of(data: Evaluation) -> Answers:
    return answer(QUESTIONS["covid_normal"], data, 1.0)


def failing(data: Evaluation, mask: np.ndarray) -> Evaluation:
    """The same films, answered at random where `mask` is."""
    noise = np.random.default_rng(9).normal(size=data.logits.shape)
    return replace(data, logits=np.where(mask[:, None], noise, data.logits).astype(np.float32))


def worst(groups: list[Subgroup]) -> set[tuple[str, str]]:
    return {(group.kind, group.name) for group in groups if group.worst}


# ------------------------------------------------------------------------------------------------------- subgroups
def test_every_film_is_in_one_group_of_each_kind() -> None:
    data = films_of()
    groups = subgroups(answers_of(data), resamples=10)
    assert list(dict.fromkeys(group.kind for group in groups)) == list(KINDS)
    films: Counter[str] = Counter()
    for group in groups:
        assert group.films >= group.patients > 0
        films[group.kind] += group.films
    assert films == dict.fromkeys(KINDS, len(data))
    names = {kind: [group.name for group in groups if group.kind == kind] for kind in KINDS}
    assert names["source"] == ["north", "south", "west"]
    assert names["view"] == ["not stated", "AP", "PA"]
    assert [name.split()[0] for name in names["exposure"]] == ["dark", "middle", "bright"]
    assert names["size"] == [
        "longer side up to 256 pixels",
        "longer side 257 to 512 pixels",
        "longer side 513 to 1,024 pixels",
        "longer side above 1,024 pixels",
    ]


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_figures_of_a_group_are_those_of_its_films(threshold: float) -> None:
    answers = answers_of(films_of())
    called = (answers.probabilities[:, 1] >= threshold).astype(int)
    sides = np.maximum(answers.films.widths, answers.films.heights)
    masks = {
        ("source", "south"): answers.films.sources == "south",
        ("age group", "pediatric"): answers.films.age_groups == "pediatric",
        ("view", "not stated"): answers.films.views == "",
        ("size", "longer side 513 to 1,024 pixels"): sides == 1024,
        ("size", "longer side up to 256 pixels"): sides == 224,
        ("exposure", "dark"): answers.films.exposures <= np.quantile(answers.films.exposures, 1 / 3),
    }
    found = {(g.kind, g.name.split(" (")[0]): g for g in subgroups(answers, threshold, resamples=10)}
    for key, mask in masks.items():
        group, truth, calls = found[key], answers.y_true[mask], called[mask]
        assert group.sensitivity is not None
        assert group.specificity is not None
        values = (group.accuracy.value, group.sensitivity.value, group.specificity.value)
        expected = (accuracy_score(truth, calls), recall_score(truth, calls), recall_score(truth, calls, pos_label=0))
        assert values == pytest.approx(expected, abs=6e-5), key
        assert group.films == mask.sum()
        assert group.accuracy.low <= group.accuracy.value <= group.accuracy.high


def test_exposure_is_named_by_its_limits() -> None:
    answers = answers_of(films_of())
    names = [group.name for group in subgroups(answers, resamples=5) if group.kind == "exposure"]
    lower, upper = (f"{limit:.2f}" for limit in np.quantile(answers.films.exposures, (1 / 3, 2 / 3)))
    assert names == [
        f"dark (mean grey up to {lower})",
        f"middle (mean grey {lower} to {upper})",
        f"bright (mean grey above {upper})",
    ]


@pytest.mark.parametrize("kind", ["source", "age group", "view", "size", "exposure"])
def test_a_planted_failure_is_found(kind: str) -> None:
    data = films_of()
    masks = {
        "source": (data.sources == "west", "west"),
        "age group": (data.age_groups == "pediatric", "pediatric"),
        "view": (data.views == "AP", "AP"),
        "size": (data.widths == 3000, "longer side above 1,024 pixels"),
        "exposure": (data.exposures > np.quantile(data.exposures, 2 / 3), "bright"),
    }
    mask, name = masks[kind]
    found = worst(subgroups(answers_of(failing(data, mask)), resamples=200))
    assert (kind, name) in {(of_kind, of_name.split(" (")[0]) for of_kind, of_name in found}


def test_a_model_that_fails_nowhere_is_rarely_blamed() -> None:
    """The lowest of some groups may be low by chance: as often as the docstring says."""
    blamed: Counter[str] = Counter()
    for seed in range(30):
        blamed.update(kind for kind, _ in worst(subgroups(answers_of(films_of(300, seed)), resamples=60)))
    assert sum(blamed.values()) <= 0.25 * 30 * len(KINDS), blamed


def test_one_class_is_set_against_the_same_class() -> None:
    """A source with ill people alone is set against the ill elsewhere, not against everybody."""
    data = films_of()
    south = (data.sources == "south") & (data.labels == "covid19")
    data = data.where((data.sources != "south") | south)
    lenient = answers_of(data)
    ill_only = next(group for group in subgroups(lenient, 0.9, resamples=100) if group.name == "south")
    assert ill_only.specificity is None
    assert ill_only.sensitivity is not None
    assert not ill_only.worst, "sensitivity is as low in the other sources"
    missed = failing(data, data.sources == "south")
    assert ("source", "south") in worst(subgroups(answers_of(missed), resamples=100))


def test_few_films_are_never_the_worst() -> None:
    data = films_of()
    west = np.flatnonzero(data.sources == "west")
    for kept, blamed in ((19, False), (60, True)):
        mask = (data.sources != "west") | np.isin(np.arange(len(data)), west[:kept])
        wrong = data.where(mask)
        upside_down = np.where((wrong.sources == "west")[:, None], -wrong.logits, wrong.logits)
        found = worst(subgroups(answers_of(replace(wrong, logits=upside_down)), resamples=100))
        assert (("source", "west") in found) == blamed


def test_two_wrong_films_of_a_class_do_not_make_a_group_the_worst() -> None:
    """An interval of two films that are both wrong has no width; it is no evidence."""
    data = films_of()
    west = data.sources == "west"
    normals = np.flatnonzero(west & (data.labels == "normal"))
    data = data.where(~np.isin(np.arange(len(data)), normals[2:]))
    sure = np.where(data.labels == "covid19", 3.0, -3.0)
    sure[(data.sources == "west") & (data.labels == "normal")] = 3.0
    found = subgroups(answers_of(replace(data, logits=np.stack([-sure, sure], 1).astype(np.float32))), resamples=50)
    west_group = next(group for group in found if group.name == "west")
    assert west_group.specificity is not None
    assert (west_group.specificity.value, west_group.specificity.high) == (0, 0)
    assert not west_group.worst


def test_films_all_alike_make_one_group() -> None:
    data = films_of(60)
    alike = replace(
        data,
        widths=np.full(60, 224),
        heights=np.full(60, 224),
        exposures=np.full(60, 0.5, np.float32),
        sources=np.full(60, "north"),
    )
    groups = subgroups(answers_of(failing(alike, np.ones(60, bool))), resamples=20)
    names = {group.kind: group.name for group in groups}
    assert names["size"] == "longer side up to 256 pixels"
    assert names["exposure"] == "all alike (mean grey 0.50)"
    single = [group for group in groups if group.kind in ("size", "exposure", "source")]
    assert [group.films for group in single] == [60, 60, 60]
    assert not any(group.worst for group in single), "there is no rest to be worse than"


def test_more_classes_have_accuracy_alone() -> None:
    answers = answer(QUESTIONS["which_of_four"], evaluation(), 1.0)
    groups = subgroups(answers, resamples=10)
    assert {(group.sensitivity, group.specificity) for group in groups} == {(None, None)}
    by_source = {group.name: group.accuracy.value for group in groups if group.kind == "source"}
    for source, value in by_source.items():
        mask = answers.films.sources == source
        expected = np.mean(answers.films.logits.argmax(1)[mask] == answers.y_true[mask])
        assert value == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("films", [0, 1])
def test_subgroups_of_hardly_any_film(films: int) -> None:
    groups = subgroups(answers_of(films_of(5).where(np.arange(5) < films)), resamples=10)
    assert [group.kind for group in groups] == list(KINDS) * films
    assert not any(group.worst for group in groups)


# ---------------------------------------------------------------------------------------------------- source check
def leaking(shift: float, sources: int = 2, films: int = 600, each: int = 1, seed: int = 0) -> Evaluation:
    """Normal films whose logits carry the source: one finding is raised by `shift` in every further source."""
    rng = np.random.default_rng(seed)
    patients = np.arange(films) // each
    number = patients % sources
    logits = rng.normal(size=(films, 4))
    logits[:, 2] += shift * number
    return replace(
        evaluation(FOUR, ("normal",), films=films),
        sources=np.array([f"hospital {i}" for i in number]),
        groups=np.array([f"p{i}" for i in patients]),
        logits=logits.astype(np.float32),
    )


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_a_leak_is_measured(shift: float) -> None:
    """Two normal distributions `shift` standard deviations apart are told apart with an AUC of Phi(shift / sqrt 2)."""
    (check,) = source_check(leaking(shift, films=2000), resamples=100)
    assert (check.label, check.sources, check.films, check.patients) == (
        "normal",
        ("hospital 0", "hospital 1"),
        2000,
        2000,
    )
    assert check.auc.value == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=0.02)
    assert check.auc.low < check.auc.value < check.auc.high


@pytest.mark.parametrize("sources", [2, 3])
def test_no_leak_is_no_finding(sources: int) -> None:
    checks = [source_check(leaking(0, sources=sources, seed=seed), resamples=100)[0] for seed in range(8)]
    assert np.mean([check.auc.value for check in checks]) == pytest.approx(0.5, abs=0.03)
    assert sum("do not tell" in check.sentence for check in checks) > 4
    for check in checks:
        assert "do not tell" in check.sentence or "hardly tell" in check.sentence
        assert "shortcut" not in check.sentence


def test_three_sources_are_each_set_against_the_rest() -> None:
    (check,) = source_check(leaking(4.0, sources=3), resamples=50)
    assert check.sources == ("hospital 0", "hospital 1", "hospital 2")
    # The middle one lies between the others: a straight line cannot cut it out, but three scores can.
    assert check.auc.value > 0.9
    assert "hospital 0, hospital 1 and hospital 2" in check.sentence


@pytest.mark.parametrize(
    ("shift", "words", "sign"),
    [
        (0.3, "hardly tell hospital 0 and hospital 1 apart", False),
        (0.7, "tell hospital 0 and hospital 1 apart in part", True),
        (3.0, "tell hospital 0 and hospital 1 apart well", True),
    ],
)
def test_the_verdict_is_in_words(shift: float, words: str, sign: bool) -> None:
    (check,) = source_check(leaking(shift, films=2000), resamples=50)
    assert f"the model's answers {words} (" in check.sentence
    assert ("a sign of a shortcut, not a proof" in check.sentence) == sign
    assert f"AUC {check.auc.value:.2f}, 95 % {check.auc.low:.2f} to {check.auc.high:.2f}" in check.sentence
    assert "0.5 = cannot tell, 1 = gives away the scanner" in check.sentence
    assert '"Normal"' in check.sentence


def test_a_patient_is_not_on_both_sides() -> None:
    """Ten films a patient with the same noise: with a patient's films in fit and test, noise would look like a leak."""
    data = leaking(0, films=400, each=10)
    rng = np.random.default_rng(0)
    own = rng.normal(size=(40, 4)).repeat(10, axis=0)
    wide = np.concatenate([own, rng.normal(size=(40, 26)).repeat(10, axis=0)], axis=1)
    check = source_check(replace(data, logits=wide.astype(np.float32)), resamples=50)
    assert len(check) == 1
    assert check[0].patients == 40
    assert check[0].auc.value < 0.75


def test_what_has_too_few_patients_is_not_checked() -> None:
    data = leaking(2.0, films=80)
    assert len(source_check(data, resamples=10)) == 1
    assert source_check(leaking(2.0, films=38), resamples=10) == []
    # Many films of few patients are few.
    assert source_check(leaking(2.0, films=80, each=4), resamples=10) == []
    assert source_check(data.where(data.sources == "hospital 0"), resamples=10) == []
    assert source_check(data.where(np.zeros(80, bool)), resamples=10) == []


def test_each_label_is_checked_by_itself() -> None:
    data = leaking(2.0, films=300)
    labels = np.where(np.arange(300) % 4 < 2, "normal", "covid19")
    both = source_check(replace(data, labels=labels), resamples=10)
    assert [check.label for check in both] == ["covid19", "normal"]
    assert [check.films for check in both] == [150, 150]
    again = source_check(replace(data, labels=labels), resamples=10)
    assert both == again, "fixed seeds"
