"""Questions: who can answer which, on which films, and with probabilities that are sums of softmax outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from cxrmodels.evaluation.questions import QUESTIONS, CannotAnswer, Question, answer, common, refusal
from cxrmodels.findings import TITLES, index_of
from tests.test_evaluation import FOUR, SETS, evaluation

ALL_LABELS = tuple(TITLES)
ABLE: dict[str, set[str]] = {
    "two": {"covid_normal"},
    "one against the rest": {"covid_normal", "covid_or_not", "covid_pneumonia"},
    "three": set(QUESTIONS) - {"which_of_four"},
    "four": set(QUESTIONS),
}
"""Finding set -> the questions it can answer, from the words of the design."""

PAIRS = [(findings, key) for findings, keys in ABLE.items() for key in sorted(keys)]


@pytest.mark.parametrize("key", QUESTIONS)
def test_a_question_is_well_formed(key: str) -> None:
    question = QUESTIONS[key]
    assert question.key == key
    labels = [label for _, members in question.classes for label in members]
    assert len(labels) == len(set(labels)), "no label belongs to two classes"
    assert set(labels) <= set(TITLES)
    names = [name for name, _ in question.classes]
    assert len(set(names)) == len(names)
    assert (question.positive in names) == (len(names) == 2)


def test_the_first_question_is_the_default() -> None:
    assert next(iter(QUESTIONS)) == "covid_normal"
    assert len({question.title for question in QUESTIONS.values()}) == len(QUESTIONS)


@pytest.mark.parametrize("findings", ABLE)
def test_who_can_answer(findings: str) -> None:
    assert {key for key, question in QUESTIONS.items() if refusal(question, SETS[findings]) is None} == ABLE[findings]


@pytest.mark.parametrize(
    ("key", "findings", "words"),
    [
        ("covid_or_not", "two", ('"Bacterial pneumonia" and "Viral pneumonia"', '"Normal" and "COVID-19"')),
        ("pneumonia_normal", "one against the rest", ('"Not COVID-19"', '"Normal" and "Pneumonia"')),
        ("which_of_four", "three", ('"Pneumonia"', '"Bacterial pneumonia" and "Viral pneumonia"')),
        ("normal_or_not", "one against the rest", ('"Not COVID-19"', '"Normal" and "Not normal"')),
    ],
)
def test_a_refusal_says_why(key: str, findings: str, words: tuple[str, ...]) -> None:
    reason = refusal(QUESTIONS[key], SETS[findings])
    assert reason is not None
    assert reason.endswith(".")
    assert all(word in reason for word in words), reason
    with pytest.raises(CannotAnswer) as raised:
        answer(QUESTIONS[key], evaluation(SETS[findings]), 1.0)
    assert str(raised.value) == reason


def test_a_class_without_an_answer_is_refused() -> None:
    """Tuberculosis is rare enough to drop out of a class, but not to be a class of its own that nobody answers."""
    lungs = (("Normal", frozenset({"normal"})), ("Tuberculosis", frozenset({"tuberculosis"})))
    reason = refusal(Question("made_up", "Tuberculosis?", lungs, "Tuberculosis"), FOUR)
    assert reason is not None
    assert "Tuberculosis" in reason
    assert refusal(Question("made_up", "Tuberculosis?", lungs, "Tuberculosis"), ("normal", "tuberculosis")) is None


@pytest.mark.parametrize(("findings", "key"), PAIRS)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_probabilities_are_sums_over_findings(findings: str, key: str, temperature: float) -> None:
    """Film by film and class by class, from the definition."""
    data, question = evaluation(SETS[findings], ALL_LABELS, films=120), QUESTIONS[key]
    answers = answer(question, data, temperature)
    kept = []
    for position, label in enumerate(data.labels):
        belongs = [number for number, (_, labels) in enumerate(question.classes) if label in labels]
        if not belongs or index_of(str(label), data.findings) is None:
            continue
        kept.append(position)
        row = len(kept) - 1
        assert answers.y_true[row] == belongs[0]
        finding_probabilities = softmax(data.logits[position].astype(float) / temperature)
        sums = [
            sum(finding_probabilities[i] for i in {index_of(one, data.findings) for one in labels} if i is not None)
            for _, labels in question.classes
        ]
        np.testing.assert_allclose(answers.probabilities[row], np.array(sums) / sum(sums), rtol=1e-10)
    np.testing.assert_array_equal(answers.films.image_ids, data.image_ids[kept])
    np.testing.assert_allclose(answers.probabilities.sum(1), 1)
    assert len(answers) == len(kept) > 0


def test_rare_labels_drop_out_of_a_models_films() -> None:
    mixed = evaluation(FOUR, (*FOUR, "tuberculosis", "pneumonia", "other", "non_covid19"))
    assert set(answer(QUESTIONS["covid_or_not"], mixed, 1.0).films.labels) == set(FOUR)
    # A model that knows COVID-19 from all else has an answer for every one of them.
    rest = replace(mixed, findings=("covid19", "non_covid19"), logits=mixed.logits[:, :2])
    assert set(answer(QUESTIONS["covid_or_not"], rest, 1.0).films.labels) == set(mixed.labels)


def test_normal_films_may_hide_under_not_covid() -> None:
    assert QUESTIONS["normal_or_not"].class_of("non_covid19") is None
    assert QUESTIONS["covid_or_not"].class_of("non_covid19") == 0


def test_a_film_whose_findings_are_all_beside_the_question() -> None:
    """Softmax gives both classes 0 here; their ratio is still known."""
    data = evaluation(FOUR, ("covid19",), films=1)
    data.logits[0] = (-2000, -1999, 0, 0)
    (row,) = answer(QUESTIONS["covid_normal"], data, 1.0).probabilities
    np.testing.assert_allclose(row, softmax([0.0, 1.0]))


def test_no_film() -> None:
    answers = answer(QUESTIONS["covid_normal"], evaluation(labels=("tuberculosis",)), 1.0)
    assert len(answers) == 0
    assert answers.probabilities.shape == (0, 2)
    assert answers.called().shape == answers.score().shape == answers.positive().shape == (0,)


# ------------------------------------------------------------------------------------------------------ decisions
def test_two_classes_are_decided_by_the_threshold() -> None:
    answers = answer(QUESTIONS["covid_normal"], evaluation(), 1.0)
    threshold = float(np.sort(answers.score())[20])
    assert (answers.called(threshold) == 1).sum() == len(answers) - 20, "at the threshold a film is called positive"
    np.testing.assert_array_equal(answers.called(threshold), (answers.score() >= threshold).astype(int))
    np.testing.assert_array_equal(answers.positive(), answers.films.labels == "covid19")


def test_more_classes_are_decided_by_the_likeliest() -> None:
    answers = answer(QUESTIONS["which_of_four"], evaluation(), 1.0)
    np.testing.assert_array_equal(answers.called(0.9), answers.films.logits.argmax(1))
    for ask in (answers.positive, answers.score):
        with pytest.raises(ValueError, match=r"Normal, COVID-19, bacterial or viral.*positive class"):
            ask()


# --------------------------------------------------------------------------------------------------- common films
def test_common_films_are_the_same_and_in_one_order() -> None:
    data = evaluation((*FOUR,), films=80)
    shuffled = data.where(np.random.default_rng(1).permutation(80)[:60])
    narrow = replace(data.where(np.arange(80) % 2 == 0), findings=("normal", "covid19"))
    narrow = replace(narrow, logits=narrow.logits[:, :2])
    question = QUESTIONS["covid_normal"]
    before = [answer(question, one, 1.0) for one in (data, shuffled, narrow)]
    after = common(before)
    shared = set.intersection(*(set(one.films.image_ids) for one in before))
    assert len(shared) > 5
    for old, new in zip(before, after, strict=True):
        assert new.films.image_ids.tolist() == sorted(shared)
        places = {name: place for place, name in enumerate(old.films.image_ids)}
        expected = np.stack([old.probabilities[places[name]] for name in new.films.image_ids])
        np.testing.assert_array_equal(new.probabilities, expected)
        np.testing.assert_array_equal(new.y_true, (new.films.labels == "covid19").astype(int))


def test_common_of_nothing() -> None:
    assert common([]) == []
    data = evaluation(films=40)
    question = QUESTIONS["covid_normal"]
    halves = [answer(question, data.where(np.arange(40) % 2 == half), 1.0) for half in (0, 1)]
    assert [len(one) for one in common(halves)] == [0, 0]


def test_answers_to_different_questions_are_not_compared() -> None:
    data = evaluation(films=40)
    with pytest.raises(ValueError, match="covid_normal, which_of_four"):
        common([answer(QUESTIONS[key], data, 1.0) for key in ("which_of_four", "covid_normal")])
