"""The comparison: who takes part on which films, at which threshold, in which order, and what is said of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import pytest
from markdown_it import MarkdownIt
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score, roc_auc_score

from cxrmodels.evaluation import board as board_module
from cxrmodels.evaluation.board import (
    COST,
    CURVES,
    EQUAL,
    RESAMPLES,
    SEED,
    SENSITIVE,
    SPECIFIC,
    Board,
    Contender,
    Films,
    Memory,
    choices,
    compare_on,
    contender,
    headline,
    held_out,
    measured,
    pareto,
    prepare,
    prepare_shipped,
    preset_threshold,
    recalled,
    select,
    source_checks,
    submitted,
    viewers,
)
from cxrmodels.evaluation.cards import describe, recompute
from cxrmodels.evaluation.metrics import SEEN, UNSEEN, Estimate, Figures, figures
from cxrmodels.evaluation.paired import compare
from cxrmodels.evaluation.predictions import Evaluation, PredictionsError, joined, write_predictions
from cxrmodels.evaluation.questions import QUESTIONS, CannotAnswer, Question, refusal
from cxrmodels.evaluation.submitted import Submission, read_submission
from cxrmodels.evaluation.verdict import p_words, uneven, verdict
from cxrmodels.findings import index_of
from cxrmodels.markdown import plain
from cxrmodels.zoo import CARD_FILE, PREDICTIONS_FILE, SPECS, WEIGHTS_FILE, ModelError, file_sha256, read_card, shipped
from tests.bare import bare_card
from tests.test_evaluation import FOUR, SETS

TWO = ("normal", "covid19")
COVID_NORMAL, THREE, OF_FOUR = (QUESTIONS[key] for key in ("covid_normal", "which_of_three", "which_of_four"))
PLACES = (UNSEEN, SEEN, "seen", "also seen", "far", "farther")


class Rows(NamedTuple):
    """So many films alike."""

    source: str
    split: str
    label: str
    films: int = 30
    age: str = "adult"
    view: str = "PA"


def rows(labels: Sequence[str] = TWO, count: int = 30) -> list[Rows]:
    """Films of two sources to learn from and of two others, of both ages and views."""
    found = [
        Rows(source, split, label, count)
        for source in ("seen", "also seen")
        for split in ("train", "val", "test")
        for label in labels
    ]
    for source in ("far", "farther"):
        found += [Rows(source, "external", label, count // 2, "adult", "PA") for label in labels]
        found += [Rows(source, "external", label, count - count // 2, "child", "AP") for label in labels]
    return found


def evaluation(
    films: Sequence[Rows] | None = None,
    findings: tuple[str, ...] = TWO,
    *,
    signal: float = 2.0,
    seed: int = 0,
    name: str = "film",
) -> Evaluation:
    """A made-up model's answers: noise, raised by `signal` where the label is. Two films a patient."""
    films = rows() if films is None else films
    total = sum(one.films for one in films)
    spread = [one for one in films for _ in range(one.films)]
    logits = np.random.default_rng(seed).normal(size=(total, len(findings)))
    for number, one in enumerate(spread):
        if (place := index_of(one.label, findings)) is not None:
            logits[number, place] += signal

    def column(values: Sequence[str]) -> np.ndarray:
        return np.array(values, dtype=np.str_)

    return Evaluation(
        findings=findings,
        image_ids=column([f"{one.source}/{name}-{number}" for number, one in enumerate(spread)]),
        sources=column([one.source for one in spread]),
        splits=column([one.split for one in spread]),
        groups=column([f"{one.source}/patient-{number // 2}" for number, one in enumerate(spread)]),
        labels=column([one.label for one in spread]),
        age_groups=column([one.age for one in spread]),
        views=column([one.view for one in spread]),
        widths=np.full(total, 512),
        heights=np.full(total, 400),
        exposures=np.full(total, 0.5, np.float32),
        # Four decimals, as predictions files have.
        logits=logits.round(4).astype(np.float32),
    )


def made(
    answers: Evaluation,
    key: str = "a",
    *,
    title: str = "",
    sources: tuple[str, ...] = ("seen", "also seen"),
    temperature: float = 1.0,
) -> Contender:
    """A contender that is nowhere on disk."""
    digest = hashlib.sha256("".join(answers.image_ids.tolist()).encode() + answers.logits.tobytes())
    digest.update("".join([*answers.labels.tolist(), *answers.splits.tolist()]).encode())
    return Contender(key, title or f"Model {key}", answers, temperature, sources, digest.hexdigest(), None)


def put(folder: Path, key: str, answers: Evaluation, sources: tuple[str, ...] = ("seen", "also seen")) -> None:
    """Put a model on disk as a training would, but for its weights, which a comparison does not read."""
    there = folder / key
    there.mkdir(parents=True, exist_ok=True)
    write_predictions(answers, there / PREDICTIONS_FILE)
    card = describe(
        SPECS[key],
        answers,
        training_sources=sources,
        parameters=1000,
        weights_sha256=hashlib.sha256(key.encode()).hexdigest(),
        training_films={},
        seed=0,
        recipe={},
        versions={},
        device="",
        data_sha256="",
        wall_time_s=1.0,
        cost={"file_bytes": 10**6, "flops": 1, "load_s": 1.0, "latency_ms": 2.0, "films_per_s": 9.0, "machine": "none"},
    )
    (there / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    (there / WEIGHTS_FILE).write_bytes(b"not looked at")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with three models of different findings."""
    folder = tmp_path_factory.mktemp("shelf")
    for number, key in enumerate(("two_conv_cnn", "multi_lung_cnn", "inception_v3")):
        put(folder, key, evaluation(rows(FOUR), SPECS[key].findings, seed=number))
    return folder


def ids(of: Evaluation) -> set[str]:
    return set(of.image_ids.tolist())


def value(figure: Estimate | None) -> float:
    assert figure is not None
    return figure.value


# --- contenders -------------------------------------------------------------------------------------------------------


def test_a_contender_is_what_is_on_disk(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(shelf))
    assert len(shipped()) == 3
    for key in shipped():
        one = contender(key)
        card = read_card(key)
        assert (one.key, one.title) == (key, SPECS[key].title)
        assert (one.temperature, one.training_sources) == (card.temperature, card.training_sources)
        assert one.card == card
        data = (shelf / key / PREDICTIONS_FILE).read_bytes()
        assert one.sha256 == hashlib.sha256(data).hexdigest()
        assert ids(one.evaluation) == ids(evaluation(rows(FOUR)))


def test_what_is_missing_is_said(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(tmp_path))
    with pytest.raises(ModelError, match="two_conv_cnn is not shipped"):
        contender("two_conv_cnn")
    (tmp_path / "two_conv_cnn").mkdir()
    (tmp_path / "two_conv_cnn" / CARD_FILE).write_bytes((shelf / "two_conv_cnn" / CARD_FILE).read_bytes())
    with pytest.raises(PredictionsError, match=PREDICTIONS_FILE):
        contender("two_conv_cnn")


CSV = (
    b"image_id,finding,source,split,p_normal,p_covid19\n"
    b"a,normal,seen,external,0.9,0.1\n"
    b"b,covid19,seen,external,0.2,0.8\n"
    b"c,covid19,here,train,0.2,0.8\n"
    b"d,normal,here,val,0.7,0.3\n"
    b"e,normal,here,,0.6,0.4\n"
)


def test_a_readers_own_predictions() -> None:
    one = submitted(read_submission(CSV, "folder/mine.csv"))
    assert one.title == "mine (yours)"
    assert one.sha256 == hashlib.sha256(CSV).hexdigest()
    assert one.card is None
    # A probability that was given is the one that is compared.
    np.testing.assert_allclose(
        one.evaluation.probabilities(one.temperature)[:, 1], [0.1, 0.8, 0.8, 0.3, 0.4], atol=1e-6
    )
    # Nothing is known of its training: no film is seen, whatever a column says.
    assert len(select(one, Films(SEEN))) == 0
    assert select(one, Films(UNSEEN)).image_ids.tolist() == ["a", "b", "e"]
    other = submitted(read_submission(CSV.replace(b"0.9,0.1", b"0.8,0.2"), "mine.csv"))
    assert other.key != one.key
    assert one.key not in SPECS


# --- films ------------------------------------------------------------------------------------------------------------

TRAINED: dict[str, tuple[str, ...]] = {"a": ("seen", "also seen"), "b": ("seen",), "c": ()}


@pytest.mark.parametrize("key", TRAINED)
def test_seen_and_unseen_are_never_pooled(key: str) -> None:
    one = made(evaluation(), key, sources=TRAINED[key])
    seen, unseen = select(one, Films(SEEN)), select(one, Films(UNSEEN))
    assert set(seen.sources) <= set(TRAINED[key])
    assert not set(unseen.sources) & set(TRAINED[key])
    assert not ids(seen) & ids(unseen)
    assert ids(seen) | ids(unseen) == ids(held_out(one))


def test_each_contender_has_its_own_unseen_sources() -> None:
    board = compare_on(
        [made(evaluation(), key, sources=trained) for key, trained in TRAINED.items()], COVID_NORMAL, Films()
    )
    for standing in board.standings:
        assert not set(standing.answers.films.sources) & set(standing.contender.training_sources)
        assert set(standing.answers.films.sources) | set(standing.contender.training_sources) == {
            "seen",
            "also seen",
            "far",
            "farther",
        }
        # The two figures side by side are of different films, too.
        alone = {
            where: compare_on([standing.contender], COVID_NORMAL, Films(where)).standings for where in (SEEN, UNSEEN)
        }
        for where, figure in ((SEEN, standing.seen), (UNSEEN, standing.unseen)):
            assert figure == (alone[where][0].figures.estimates["auc"] if alone[where] else None)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("age", ["", "adult", "child"])
@pytest.mark.parametrize("view", ["", "PA", "AP"])
def test_films_are_those_asked_for(where: str, age: str, view: str) -> None:
    one = made(evaluation(), sources=("seen",))
    chosen = select(one, Films(where, age, view))
    expected = set()
    data = one.evaluation
    for number, image_id in enumerate(data.image_ids.tolist()):
        source = data.sources[number]
        place = {SEEN: source == "seen", UNSEEN: source != "seen"}.get(where, source == where)
        # Whoever was learnt from, or chosen by, is no test.
        judge = data.splits[number] in ("test", "external")
        if place and judge and age in ("", data.age_groups[number]) and view in ("", data.views[number]):
            expected.add(image_id)
    assert ids(chosen) == expected


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("key", QUESTIONS)
def test_no_film_of_training_or_validation_is_scored(where: str, key: str) -> None:
    four = evaluation(rows(FOUR), FOUR)
    everybody = [made(four, sources=sources) for sources in TRAINED.values()]
    for standing in compare_on(everybody, QUESTIONS[key], Films(where)).standings:
        assert set(standing.answers.films.splits) <= {"test", "external"}


def test_narrowing_narrows_both_sides_of_the_chart() -> None:
    """Otherwise a drop between hospitals would be one between adults and children."""
    data = evaluation([*rows(), *(Rows("seen", "test", label, 20, "child", "AP") for label in TWO)])
    for films in (Films(UNSEEN, "child"), Films(UNSEEN, "", "AP"), Films(SEEN, "child")):
        (standing,) = compare_on([made(data)], COVID_NORMAL, films).standings
        for where, figure in ((SEEN, standing.seen), (UNSEEN, standing.unseen)):
            chosen = select(made(data), replace(films, where=where))
            score = softmax(chosen.logits.astype(float), axis=1)[:, 1]
            assert value(figure) == pytest.approx(roc_auc_score(chosen.labels == "covid19", score), abs=6e-5)


def test_choices_are_what_there_is_to_score() -> None:
    hidden = Rows("never scored", "train", "normal", 4, "newborn", "L")
    unknown = Rows("far", "external", "normal", 4, "", "")
    found = choices([made(evaluation([hidden, unknown])), made(evaluation())])
    assert found == {
        "source": ["also seen", "far", "farther", "seen"],
        "age_group": ["adult", "child"],
        "view": ["AP", "PA"],
    }


@pytest.mark.parametrize(
    ("films", "said"),
    [
        (Films(), "films of unseen sources"),
        (Films(SEEN), "films of seen sources"),
        (Films("far"), "films of far"),
        (Films(UNSEEN, "child", "AP"), "films of unseen sources, child, view AP"),
    ],
)
def test_films_in_words(films: Films, said: str) -> None:
    assert films.words() == said


# --- figures ----------------------------------------------------------------------------------------------------------


def by_hand(one: Contender, question: Question) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, classes and class probabilities of the unseen films that belong to a question, from the definition."""
    data = one.evaluation
    known = ~np.isin(data.splits, ("train", "val")) & ~np.isin(data.sources, one.training_sources)
    answered = [index_of(str(label), data.findings) is not None for label in data.labels]
    belongs = [question.class_of(str(label)) is not None for label in data.labels]
    films = data.where(known & answered & belongs)
    probabilities = softmax(films.logits.astype(float) / one.temperature, axis=1)
    # A finding's probability goes to the class of the labels it answers for.
    members = [
        sorted({place for label in labels if (place := index_of(label, data.findings)) is not None})
        for _, labels in question.classes
    ]
    sums = np.stack([probabilities[:, own].sum(1) for own in members], axis=1)
    y_true = np.array([question.class_of(str(label)) for label in films.labels], dtype=int)
    return films.image_ids, y_true, sums / sums.sum(1, keepdims=True)


@pytest.mark.parametrize("key", QUESTIONS)
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_figures_are_those_of_scikit_learn(key: str, threshold: float) -> None:
    question = QUESTIONS[key]
    one = made(evaluation(rows(FOUR), FOUR), temperature=1.7)
    (standing,) = compare_on([one], question, Films(), threshold=threshold).standings
    _, y_true, sums = by_hand(one, question)
    if question.positive is None:
        called = sums.argmax(1)
        expected = balanced_accuracy_score(y_true, called)
    else:
        at = question.positive_index()
        called = np.where(sums[:, at] >= threshold, at, 1 - at)
        expected = roc_auc_score(y_true == at, sums[:, at])
        assert value(standing.figures.estimates["sensitivity"]) == pytest.approx(
            recall_score(y_true == at, called == at), abs=6e-5
        )
    assert value(standing.figures.estimates[headline(question)]) == pytest.approx(expected, abs=6e-5)
    assert value(standing.figures.estimates["accuracy"]) == pytest.approx(accuracy_score(y_true, called), abs=6e-5)
    np.testing.assert_array_equal(standing.figures.confusion, confusion_matrix(y_true, called))
    assert standing.figures.films == len(y_true)


# --- presets ----------------------------------------------------------------------------------------------------------

PRESETS = (EQUAL, SENSITIVE, SPECIFIC, COST)


def outside(answers: Evaluation) -> np.ndarray:
    return answers.splits != "val"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_looks_at_validation_films_alone(preset: str) -> None:
    data = evaluation(signal=1.0)
    level = preset_threshold(made(data), COVID_NORMAL, preset, 3.0)
    assert level is not None
    # Other labels and other answers on the films that are scored: the threshold must not know.
    turned = np.where(outside(data), np.where(data.labels == "normal", "covid19", "normal"), data.labels)
    other = np.where(outside(data)[:, None], data.logits[::-1], data.logits)
    for changed in (replace(data, labels=turned), replace(data, logits=other)):
        assert preset_threshold(made(changed), COVID_NORMAL, preset, 3.0) == level
        board = compare_on([made(data), made(changed, "b")], COVID_NORMAL, Films(), preset=preset, cost_ratio=3.0)
        assert [one.threshold for one in board.standings] == [level, level]
        first, second = (one.figures for one in board.standings)
        assert first != second
    # And it must follow the validation films.
    shifted = np.where(outside(data)[:, None], data.logits, data.logits + np.array([0, 2], np.float32))
    assert preset_threshold(made(replace(data, logits=shifted)), COVID_NORMAL, preset, 3.0) != level


@pytest.mark.parametrize(("preset", "positive"), [(SENSITIVE, True), (SPECIFIC, False)])
def test_a_preset_gives_what_it_promises_and_no_more(preset: str, positive: bool) -> None:
    data = evaluation(signal=1.0)
    level = preset_threshold(made(data, temperature=2.0), COVID_NORMAL, preset)
    assert level is not None
    validation = data.where(~outside(data))
    score, ill = softmax(validation.logits.astype(float) / 2.0, axis=1)[:, 1], validation.labels == "covid19"

    def share(threshold: float) -> float:
        return float(recall_score(ill == positive, (score >= threshold) == positive))

    assert share(level - 1e-9) >= 0.95
    further = score[score > level + 1e-9].min() if positive else score[score < level - 1e-9].max()
    assert share(float(further)) < 0.95


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_applied_to_the_films_asked_for(preset: str) -> None:
    one = made(evaluation(signal=1.0))
    (standing,) = compare_on([one], COVID_NORMAL, Films(), preset=preset, cost_ratio=2.0).standings
    assert standing.threshold == preset_threshold(one, COVID_NORMAL, preset, 2.0)
    assert standing.figures == measured(one, COVID_NORMAL, Films(), standing.threshold)[1]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("labels", [(), ("normal",), ("covid19",)], ids=str)
def test_without_both_classes_in_validation_there_is_no_preset(preset: str, labels: tuple[str, ...]) -> None:
    films = [one for one in rows() if one.split != "val" or one.label in labels]
    able = made(evaluation(), "able")
    board = compare_on([made(evaluation(films)), able], COVID_NORMAL, Films(), preset=preset)
    assert [one.contender.key for one in board.standings] == ["able"]
    ((title, reason),) = board.unable
    assert title == "Model a"
    assert "validation films of both classes" in reason


def test_a_preset_that_no_threshold_gives_is_told_apart_from_missing_films() -> None:
    data = evaluation()
    # A third of the normal validation films is called COVID-19 with a probability of exactly 1.
    sure = (data.splits == "val") & (data.labels == "normal") & (np.arange(len(data)) % 3 == 0)
    data = replace(data, logits=np.where(sure[:, None], np.array([-60, 60], np.float32), data.logits))
    assert preset_threshold(made(data), COVID_NORMAL, SPECIFIC) is None
    board = compare_on([made(data)], COVID_NORMAL, Films(), preset=SPECIFIC)
    assert not board.standings
    ((_, reason),) = board.unable
    assert reason.startswith("No threshold")
    assert compare_on([made(data)], COVID_NORMAL, Films(), preset=SENSITIVE).standings


# --- who takes part, in which order -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", QUESTIONS)
def test_those_who_cannot_answer_are_listed_with_the_reason(key: str) -> None:
    everybody = [made(evaluation(rows(FOUR), findings), name) for name, findings in SETS.items()]
    board = compare_on(everybody, QUESTIONS[key], Films())
    refused = {f"Model {name}": refusal(QUESTIONS[key], findings) for name, findings in SETS.items()}
    assert dict(board.unable) == {title: reason for title, reason in refused.items() if reason}
    assert {one.contender.title for one in board.standings} == {
        title for title, reason in refused.items() if not reason
    }
    assert len(board.unable) + len(board.standings) == len(everybody)


def test_a_model_without_such_films_is_listed_with_the_reason() -> None:
    board = compare_on([made(evaluation())], COVID_NORMAL, Films("nowhere", "child"))
    assert board.standings == ()
    assert board.unable == (("Model a", "It has no films of nowhere, child with an answer to this question."),)


@pytest.mark.parametrize("key", QUESTIONS)
def test_the_best_comes_first(key: str) -> None:
    signals = {"fair": 1.0, "best": 3.0, "worst": 0.0, "good": 2.0}
    everybody = [made(evaluation(rows(FOUR), FOUR, signal=s, seed=3), name) for name, s in signals.items()]
    board = compare_on(everybody, QUESTIONS[key], Films())
    assert [one.contender.key for one in board.standings] == ["best", "good", "fair", "worst"]
    found = [value(one.figures.estimates[headline(QUESTIONS[key])]) for one in board.standings]
    assert found == sorted(found, reverse=True)


def test_on_films_of_one_class_the_most_often_right_comes_first() -> None:
    films = [one for one in rows() if one.source != "far" or one.label == "covid19"]
    everybody = [made(evaluation(films, signal=s), str(s)) for s in (0.0, 3.0, 1.0)]
    board = compare_on(everybody, COVID_NORMAL, Films("far"))
    assert [one.contender.key for one in board.standings] == ["3.0", "1.0", "0.0"]
    for one in board.standings:
        assert one.figures.estimates["auc"] is None
        assert value(one.figures.estimates["accuracy"]) == np.mean(one.answers.called() == 1).round(4)


def test_accuracy_on_one_class_does_not_beat_an_auc() -> None:
    """It is another figure: somebody's films of one class alone, all called right, are no lead."""
    ill = made(evaluation([Rows("far", "external", "covid19")], signal=9), "ill alone")
    usual = made(evaluation(signal=1.0), "usual")
    board = compare_on([ill, usual], COVID_NORMAL, Films())
    assert [one.contender.key for one in board.standings] == ["usual", "ill alone"]


def test_what_a_model_learnt_from_is_known_film_by_film() -> None:
    one = made(evaluation(), sources=("seen", "far", "elsewhere"))
    for where, learnt in ((SEEN, ("far", "seen")), (UNSEEN, ()), ("far", ("far",)), ("farther", ())):
        assert compare_on([one], COVID_NORMAL, Films(where)).standings[0].learnt_here == learnt


# --- the front of those that nobody beats -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_pareto_against_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    # Few levels: ties in one of the two are common, equals in both are left out.
    points = list({(int(cost), int(v)) for cost, v in rng.integers(0, 6, (count, 2))})
    costs, values = [float(cost) for cost, _ in points], [float(v) for _, v in points]
    expected = [
        i
        for i, (cost, v) in enumerate(points)
        if not any(other != (cost, v) and other[0] <= cost and other[1] >= v for other in points)
    ]
    assert pareto(costs, values) == sorted(expected, key=lambda i: costs[i])


def test_pareto_of_none_and_of_equals() -> None:
    assert pareto([], []) == []
    assert len(pareto([1, 1], [0.5, 0.5])) >= 1


# --- figures are remembered, but never for something else -------------------------------------------------------------


def test_figures_are_made_once() -> None:
    one = made(evaluation(seed=50))
    first = measured(one, COVID_NORMAL, Films(), 0.5)
    again = measured(replace(one, key="other", title="Renamed"), COVID_NORMAL, Films(), 0.5)
    assert again[1] is first[1]


def test_films_are_held_once_for_all_thresholds() -> None:
    """A slider has a hundred positions, and a reader's own file up to a million films."""
    one = made(evaluation(seed=51))
    assert len({id(measured(one, COVID_NORMAL, Films(), level / 10)[0]) for level in range(10)}) == 1


def other_predictions(one: Contender) -> Contender:
    return made(replace(one.evaluation, logits=one.evaluation.logits[::-1]), one.key)


def other_temperature(one: Contender) -> Contender:
    return replace(one, temperature=one.temperature * 3)


def other_training(one: Contender) -> Contender:
    return replace(one, training_sources=("seen", "far"))


@pytest.mark.parametrize("change", [other_predictions, other_temperature, other_training])
def test_a_changed_model_has_new_figures(change: Callable[[Contender], Contender]) -> None:
    one = made(evaluation(seed=52))
    before = measured(one, COVID_NORMAL, Films(), 0.5)[1]
    assert measured(change(one), COVID_NORMAL, Films(), 0.5)[1].estimates != before.estimates
    assert measured(one, COVID_NORMAL, Films(), 0.5)[1] == before


def test_changed_predictions_on_disk_have_new_figures(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(tmp_path))
    put(tmp_path, "two_conv_cnn", evaluation(seed=60))
    first = contender("two_conv_cnn")
    before = measured(first, COVID_NORMAL, Films(), 0.5)[1]
    write_predictions(evaluation(seed=61), tmp_path / "two_conv_cnn" / PREDICTIONS_FILE)
    second = contender("two_conv_cnn")
    assert second.sha256 == file_sha256(tmp_path / "two_conv_cnn" / PREDICTIONS_FILE) != first.sha256
    assert measured(second, COVID_NORMAL, Films(), 0.5)[1] != before


def test_another_threshold_question_or_choice_of_films_has_its_own_figures() -> None:
    one = made(evaluation(rows(FOUR), FOUR, seed=53))
    asked = [
        (question, films, level)
        for question in ("covid_normal", "covid_or_not")
        for films in (Films(), Films(SEEN), Films("far"), Films(UNSEEN, "child"), Films("far", "", "AP"))
        for level in (0.5, 0.9)
    ]
    twice = []
    for _ in range(2):
        twice.append([asdict(measured(one, QUESTIONS[q], films, level)[1]) for q, films, level in asked])
    assert twice[0] == twice[1]
    assert all(a != b for n, a in enumerate(twice[0]) for b in twice[0][:n])


def test_the_memory_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "_KEPT", 5)
    memory = Memory()
    one = replace(made(evaluation(seed=54)), memory=memory)
    for level in range(20):
        measured(one, COVID_NORMAL, Films(), level / 20)
    assert len(memory._held) <= 5


def test_the_memory_has_an_end_in_bytes() -> None:
    memory, made = Memory(1000), []

    def array(number: int, size: int) -> np.ndarray:
        made.append(number)
        return np.full(size, number, np.uint8)

    for number in range(10):
        memory.recall(number, partial(array, number, 300))
    assert [memory.recall(number, lambda: array(-1, 300))[0] for number in (7, 8, 9)] == [7, 8, 9], "they fit"
    assert memory.recall("large", lambda: array(10, 2000)).size == 2000, "answered all the same"
    assert [memory.recall(number, lambda: array(-1, 300))[0] for number in (7, 8, 9)] == [7, 8, 9], "none went for it"
    memory.recall("large", lambda: array(10, 2000))
    memory.recall(0, lambda: array(0, 300))
    assert made == [*range(10), 10, 10, 0]


def test_what_a_reader_brought_is_remembered_by_nobody_else() -> None:
    """A reader's own films are to be gone when the reader is."""
    brought = Submission("mine", evaluation(seed=56), (), "f" * 64)
    mine, again = submitted(brought), submitted(brought)
    first = measured(mine, COVID_NORMAL, Films(), 0.5)
    assert measured(mine, COVID_NORMAL, Films(), 0.5)[1] is first[1]
    assert measured(again, COVID_NORMAL, Films(), 0.5)[1] is not first[1]


@pytest.mark.parametrize("level", [0.0, 0.2, 0.5, 0.77, 1.0])
def test_a_moved_threshold_gives_what_it_would_have_given_alone(level: float) -> None:
    one = made(evaluation(seed=57))
    measured(one, COVID_NORMAL, Films(), 0.5)
    answers, moved = measured(one, COVID_NORMAL, Films(), level)
    assert moved == figures(answers, level, resamples=RESAMPLES, seed=SEED)


def test_refusals_are_not_remembered_as_answers() -> None:
    one = made(evaluation(rows(FOUR), TWO, seed=55))
    for _ in range(2):
        with pytest.raises(CannotAnswer):
            measured(one, THREE, Films(), 0.5)


# --- in words ---------------------------------------------------------------------------------------------------------


def told(*contenders: Contender, question: str = "covid_normal", films: Films | None = None) -> tuple[list[str], Board]:
    board = compare_on(contenders, QUESTIONS[question], films or Films())
    return verdict(board), board


STRONG = evaluation(signal=3.0, seed=1)


def test_verdict_of_nobody() -> None:
    said, _ = told(made(STRONG), films=Films("nowhere"))
    assert said == ["No model can answer this question on films of nowhere."]
    assert verdict(compare_on([], COVID_NORMAL, Films())) == [
        "No model can answer this question on films of unseen sources."
    ]


def test_verdict_of_one_model() -> None:
    said, board = told(made(STRONG))
    figure = board.standings[0].figures.estimates["auc"]
    assert figure is not None
    assert said[0] == (
        "On films of unseen sources, **Model a** answers best: "
        f"AUC {figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})."
    )
    assert said[1] == "No other model here can answer this question."


def test_verdict_of_a_lead_beyond_chance() -> None:
    said, board = told(made(evaluation(signal=0.0), "weak"), made(STRONG, "strong"))
    first, second = board.standings
    gap = value(first.figures.estimates["auc"]) - value(second.figures.estimates["auc"])
    assert "**Model strong** answers best" in said[0]
    assert said[1] == f"Its lead over **Model weak** ({gap:.2f}) is more than chance (p < 0.001)."


def test_verdict_of_a_lead_that_may_be_chance() -> None:
    # The same answers but for a few films: hardly a lead.
    near = replace(STRONG, logits=np.where((np.arange(len(STRONG)) % 40 == 7)[:, None], np.float32(0), STRONG.logits))
    said, board = told(made(STRONG), made(near, "near"))
    first, second = (one.answers for one in board.standings)
    pair = compare(first, second)
    assert pair.auc is not None
    assert pair.auc.p > 0.05
    assert said[1].startswith("Its lead over **Model ")
    assert said[1].endswith(f"may be chance (p {p_words(pair.auc.p)}).")


@pytest.mark.parametrize(("signal", "chance"), [(0.0, False), (2.8, True)], ids=["beyond chance", "perhaps chance"])
def test_verdict_where_there_is_no_auc(signal: float, chance: bool) -> None:
    films = rows(FOUR)
    best = made(evaluation(films, FOUR, signal=3.0, seed=1), "best")
    other = made(evaluation(films, FOUR, signal=signal, seed=2), "other")
    said, board = told(best, other, question="which_of_three")
    assert "Balanced accuracy" in said[0]
    first, second = (one.answers for one in board.standings)
    right = [np.mean(one.called() == one.y_true) for one in (first, second)]
    if right[0] > right[1]:
        assert f"({100 * (right[0] - right[1]):.0f} points of accuracy)" in said[1]
    assert ("may be chance" in said[1] or "no less accuracy" in said[1]) == chance


def test_verdict_on_films_of_one_class() -> None:
    films = [one for one in rows() if one.source != "far" or one.label == "covid19"]
    one = made(evaluation(films, signal=2.0))
    said, board = told(one, films=Films("far"))
    right = np.mean(board.standings[0].answers.called() == 1)
    assert said[0].startswith(f"On films of far, **Model a** is right most often: {right:.2f} (")
    assert said[1] == "Only one of the classes occurs there, so AUC cannot be said."


def dropping(signal: float) -> Evaluation:
    """A model that answers with another certainty where it has never been."""
    films = rows()
    near = evaluation([one for one in films if one.split != "external"], signal=2.0)
    return joined(
        [near, evaluation([one for one in films if one.split == "external"], signal=signal, seed=9, name="out")]
    )


def test_verdict_says_what_is_gone_elsewhere() -> None:
    said, board = told(made(dropping(0.5)))
    seen, unseen = board.standings[0].seen, board.standings[0].unseen
    assert seen is not None
    assert unseen is not None
    assert said[-1] == (
        f"On sources it learnt from it has {seen.value:.2f} ({seen.low:.2f} to {seen.high:.2f}): "
        f"{seen.value - unseen.value:.2f} of that is gone in a new hospital."
    )


@pytest.mark.parametrize("signal", [2.0, 4.0])
def test_verdict_claims_no_loss_where_there_is_none(signal: float) -> None:
    said, board = told(made(dropping(signal)))
    lost = round(value(board.standings[0].seen) - value(board.standings[0].unseen), 2)
    assert said[-1].startswith("On sources it learnt from it has")
    assert ("gone" in said[-1]) == (lost > 0)
    assert ": 0.00" not in said[-1]


def test_verdict_on_seen_films_warns_of_unseen_ones() -> None:
    said, board = told(made(dropping(0.0)), films=Films(SEEN))
    unseen = board.standings[0].unseen
    assert unseen is not None
    assert (
        said[-1] == f"On sources it never saw it has only {unseen.value:.2f} ({unseen.low:.2f} to {unseen.high:.2f})."
    )
    # Where it does as well, there is nothing to warn of.
    assert not any("never saw" in sentence for sentence in told(made(dropping(3.0)), films=Films(SEEN))[0])


def test_verdict_of_a_model_whose_training_is_not_known() -> None:
    said, _ = told(made(STRONG, sources=()))
    assert not any("learnt" in sentence for sentence in said)


@pytest.mark.parametrize(("where", "learnt"), [("seen", True), ("far", False)])
def test_verdict_on_one_source_says_if_it_was_learnt_from(where: str, learnt: bool) -> None:
    """A result always says whether the source was seen; of one source by name it is not plain."""
    said, _ = told(made(STRONG), films=Films(where))
    assert any("learnt from this source" in sentence for sentence in said) == learnt


def test_verdict_on_models_that_share_no_film() -> None:
    """Whoever brings films of their own hospital shares none with the models here."""
    said, board = told(made(STRONG), made(evaluation(name="elsewhere"), "own", sources=()))
    assert len(board.standings) == 2
    assert not board.even
    assert [one.ranked for one in board.standings] == [None, None]
    assert "different films, which do not rank them" in said[0]
    assert "on its own 120" in said[1]
    assert "shares no film" in said[2]
    assert not re.search(r"p [=<]", " ".join(said))
    caution = uneven(board)
    assert caution is not None
    assert "The 0 that all were asked about do not allow a ranking" in caution


def test_films_of_ones_own_leave_the_others_their_ranking() -> None:
    """A shipped model has a card. Whoever brings films that none of them knows is not ranked, and unranks nobody."""
    better, worse = (
        replace(made(evaluation(signal=signal, seed=seed), key), card=bare_card(SPECS["two_conv_cnn"]))
        for signal, seed, key in ((2.5, 1, "better"), (1.0, 2, "worse"))
    )
    own = made(evaluation(signal=9.0, name="elsewhere"), "own", sources=())
    said, board = told(own, worse, better)
    assert [one.contender.key for one in board.standings] == ["better", "worse", "own"]
    assert "the 120 films of unseen sources that all were asked about, **Model better** answers best" in said[0]
    caution = uneven(board)
    assert caution is not None
    assert "Model own, with other films altogether, cannot be ranked among them" in caution


@pytest.mark.parametrize("question", ["covid_normal", "which_of_three"])
def test_easy_films_of_ones_own_are_no_lead(question: str) -> None:
    """Who learnt from a source is not asked about it. What ranks is what all were asked about."""
    labels = FOUR if question == "which_of_three" else TWO
    shared = [Rows("far", "external", label, 40) for label in labels]
    alone = [Rows("farther", "external", label, 200) for label in labels]
    weak = evaluation(shared, FOUR, signal=1.0, seed=2)
    first = joined([weak, evaluation(alone, FOUR, signal=9.0, name="alone")])
    second = evaluation(shared, FOUR, signal=2.5, seed=3)
    said, board = told(made(first, "wide"), made(second, "narrow"), question=question)
    wide, narrow = (next(one for one in board.standings if one.contender.key == key) for key in ("wide", "narrow"))
    name = headline(board.question)
    assert value(wide.figures.estimates[name]) > value(narrow.figures.estimates[name])
    assert board.standings == (narrow, wide)
    assert board.shared == len(narrow.answers)
    (alike,) = compare_on([made(weak, "wide")], QUESTIONS[question], Films()).standings
    assert wide.ranked == alike.figures.estimates[name]
    assert f"On the {board.shared} films of unseen sources that all were asked about, **Model narrow**" in said[0]
    assert f"{value(narrow.ranked):.2f} (" in said[0]
    caution = uneven(board)
    assert caution is not None
    assert f"ranked by the {board.shared} that all were asked about" in caution
    assert f"Model wide on {len(wide.answers)}" in caution


def test_verdict_never_states_a_lead_that_is_none() -> None:
    """Ahead on the films that all share, a model need not be on those it shares with the next."""
    both = [Rows("far", "external", label, 60) for label in TWO]
    few = [Rows("farther", "external", label, 30) for label in TWO]
    first = joined([evaluation(both, signal=0.5, seed=4), evaluation(few, signal=6.0, name="few", seed=5)])
    second = joined([evaluation(both, signal=3.0, seed=6), evaluation(few, signal=2.0, name="few", seed=7)])
    third = evaluation(few, signal=0.0, name="few", seed=8)
    said, board = told(made(first, "first"), made(second, "second"), made(third, "third"))
    assert [one.contender.key for one in board.standings] == ["first", "second", "third"]
    assert said[1].startswith("On the 180 films that both can answer, **Model second** has no less AUC")


HOSTILE = (
    "![p](https://example.org/x.png)",
    "<img src=x onerror=alert(1)>",
    "</strong><script>alert(1)</script>",
    "**loud** _em_ `code` ~~gone~~",
    "[a link](javascript:alert(1))",
    "$x^2$ :red[red] :material/home:",
    "\\*\\*two\\\\ backslashes",
    "my_model_v2 (100 %)",
)


class Tags(HTMLParser):
    """Tags, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_in_a_verdict_stay_text(hostile: str) -> None:
    """Titles are file names, and sources are cells of somebody's file: a picture in one would be fetched."""
    data = evaluation([Rows(hostile, "external", label) for label in TWO], signal=2.0)
    noise = evaluation([Rows(hostile, "external", label) for label in TWO], signal=0.0)
    said, _ = told(made(data, title=hostile), made(noise, "b", title=f"b {hostile}"), films=Films(hostile))
    said += told(made(data), films=Films(f"no {hostile}"))[0]
    for sentence in said:
        shown = Tags(MarkdownIt("gfm-like", {"linkify": False}).render(sentence))
        assert shown.tags <= {"p", "strong"}
        for marks in (r"(?<!\\)\$", r"(?<!\\)\]", r":material/"):
            assert not re.search(marks, sentence)
    assert hostile in Tags(MarkdownIt().render(said[0])).text


@pytest.mark.parametrize("text", ["肺 – “ward” × 3", "A-1 (yours), 95.5: x; y", *HOSTILE])
def test_plain_text_reads_as_it_was(text: str) -> None:
    assert Tags(MarkdownIt().render(f"x {plain(text)}")).text.strip() == f"x {text}"


@pytest.mark.parametrize(
    ("p", "said"), [(0.0004, "< 0.001"), (0.001, "= 0.001"), (0.0496, "= 0.050"), (1.0, "= 1.000")]
)
def test_p_in_words(p: float, said: str) -> None:
    assert p_words(p) == said


# --- the cards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", shipped())
def test_a_shipped_card_is_what_its_predictions_give(key: str) -> None:
    assert recompute(key).to_json() == read_card(key).to_json()


def test_a_card_recomputed_from_other_predictions_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(tmp_path))
    put(tmp_path, "two_conv_cnn", evaluation())
    assert recompute("two_conv_cnn").to_json() == read_card("two_conv_cnn").to_json()
    write_predictions(evaluation(seed=5), tmp_path / "two_conv_cnn" / PREDICTIONS_FILE)
    assert recompute("two_conv_cnn").to_json() != read_card("two_conv_cnn").to_json()


def test_what_was_prepared_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = replace(made(evaluation(rows(FOUR), FOUR, seed=58)), memory=Memory())
    prepare([one])

    def again(*_: object, **__: object) -> None:
        pytest.fail("computed again")

    monkeypatch.setattr(board_module, "figures", again)
    monkeypatch.setattr(board_module, "source_check", again)
    for question in QUESTIONS.values():
        for where in (SEEN, UNSEEN):
            for age_group in ("", "adult"):
                if refusal(question, FOUR) is None:
                    measured(one, question, Films(where, age_group), 0.5)
        board = compare_on([one], question, Films())
        for name in CURVES if question.positive else ():
            recalled(board.standings[0], board, name, again)
    source_checks(one)


def test_who_asks_for_what_is_being_made_gets_the_same() -> None:
    memory, begun, go_on = Memory(), Event(), Event()
    count = 0

    def slowly() -> list[int]:
        nonlocal count
        count += 1
        begun.set()
        assert go_on.wait(10)
        return [count]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(memory.recall, "it", slowly)
        assert begun.wait(10)
        second = pool.submit(memory.recall, "it", slowly)
        go_on.set()
        assert first.result() is second.result()
    assert count == 1


def test_what_could_not_be_made_is_tried_again() -> None:
    memory = Memory()
    with pytest.raises(ZeroDivisionError):
        memory.recall("it", lambda: 1 // 0)
    assert memory.recall("it", lambda: 2) == 2


def test_preparing_stands_back_while_somebody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    one, begun = replace(made(evaluation(seed=59)), memory=Memory()), Event()

    def noted(*given: Any, **named: Any) -> Figures:
        begun.set()
        return figures(*given, **named)

    monkeypatch.setattr(board_module, "figures", noted)
    with ThreadPoolExecutor(1) as pool:
        with viewers.served():
            work = pool.submit(prepare, [one])
            assert not begun.wait(0.3)
        work.result(60)
    assert begun.is_set()


def test_a_damaged_model_does_not_keep_the_others_from_being_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRMODELS_WEIGHTS", str(tmp_path))
    for key in ("two_conv_cnn", "multi_lung_cnn"):
        put(tmp_path, key, evaluation(seed=60))
    (tmp_path / "two_conv_cnn" / PREDICTIONS_FILE).write_bytes(b"no predictions")
    given: list[str] = []
    monkeypatch.setattr(board_module, "prepare", lambda found: given.extend(one.key for one in found))
    prepare_shipped()
    assert given == ["multi_lung_cnn"]
