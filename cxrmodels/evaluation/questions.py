"""Questions that models with different findings can all be asked, and their answers to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrmodels.evaluation.predictions import Evaluation
from cxrmodels.findings import TITLES, index_of

_NORMAL, _COVID = frozenset({"normal"}), frozenset({"covid19"})
_PNEUMONIA = frozenset({"pneumonia", "bacterial_pneumonia", "viral_pneumonia"})
_CORE = ("normal", "covid19", "bacterial_pneumonia", "viral_pneumonia")
"""Labels that make up most of every data set: a model that has no answer for one of them in a question would be
scored on another question. The rarer labels drop out of the films of a model that cannot answer them."""


class CannotAnswer(ValueError):  # noqa: N818 - it is no error of the program: pages show the model as unable
    """A model's findings do not allow it to answer a question; the message is `refusal`'s sentence."""


@dataclass(frozen=True, slots=True)
class Question:
    """What films are sorted into.

    Attributes:
        key: name used by programs.
        title: name shown to readers.
        classes: name shown to readers and the labels of the films that belong to it, class by class. A film with any
            other label takes no part.
        positive: name of the class that is looked for when there are two, else None.
    """

    key: str
    title: str
    classes: tuple[tuple[str, frozenset[str]], ...]
    positive: str | None

    def class_of(self, label: str) -> int | None:
        """Position of the class that films with this label belong to; None when they take no part."""
        return next((index for index, (_, labels) in enumerate(self.classes) if label in labels), None)

    def positive_index(self) -> int:
        """Position of the positive class.

        Raises:
            ValueError: the question has no positive class.
        """
        names = [name for name, _ in self.classes]
        if self.positive is None:
            raise ValueError(
                f'"{self.title}" has the classes {_listed(names)}, none of which is looked for; choose a question '
                "with a positive class."
            )
        return names.index(self.positive)


QUESTIONS: dict[str, Question] = {
    question.key: question
    for question in (
        Question(
            "covid_normal",
            "COVID-19 or normal?",
            (("Normal", _NORMAL), ("COVID-19", _COVID)),
            "COVID-19",
        ),
        Question(
            "covid_or_not",
            "COVID-19 or not?",
            (("Not COVID-19", frozenset(TITLES) - _COVID), ("COVID-19", _COVID)),
            "COVID-19",
        ),
        Question(
            "pneumonia_normal",
            "Pneumonia other than COVID-19, or normal?",
            (("Normal", _NORMAL), ("Pneumonia", _PNEUMONIA)),
            "Pneumonia",
        ),
        Question(
            "covid_pneumonia",
            "COVID-19 or another pneumonia?",
            (("Other pneumonia", _PNEUMONIA), ("COVID-19", _COVID)),
            "COVID-19",
        ),
        Question(
            "normal_or_not",
            "Normal or not?",
            # "Not COVID-19" as a label says nothing about normal.
            (("Normal", _NORMAL), ("Not normal", frozenset(TITLES) - _NORMAL - {"non_covid19"})),
            "Not normal",
        ),
        Question(
            "which_of_three",
            "Normal, COVID-19 or another pneumonia?",
            (("Normal", _NORMAL), ("COVID-19", _COVID), ("Other pneumonia", _PNEUMONIA)),
            None,
        ),
        Question(
            "which_of_four",
            "Normal, COVID-19, bacterial or viral pneumonia?",
            (
                ("Normal", _NORMAL),
                ("COVID-19", _COVID),
                ("Bacterial pneumonia", frozenset({"bacterial_pneumonia"})),
                ("Viral pneumonia", frozenset({"viral_pneumonia"})),
            ),
            None,
        ),
    )
}
"""Key -> question; the first is the one to start with."""


def _members(question: Question, findings: Sequence[str]) -> list[list[int]]:
    """For each class, which of a model's findings answer for its labels."""
    return [
        sorted({index for label in labels if (index := index_of(label, findings)) is not None})
        for _, labels in question.classes
    ]


def _listed(names: Sequence[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


def refusal(question: Question, findings: Sequence[str]) -> str | None:
    """Why a model with these findings cannot answer the question, in a sentence; None if it can.

    It can when it has an answer for each common label of the question (normal, COVID-19, bacterial and viral
    pneumonia), something to say for each class, and no finding that would stand for two classes.
    """
    members = _members(question, findings)
    asked = frozenset().union(*(labels for _, labels in question.classes))
    missing = [TITLES[label] for label in _CORE if label in asked and index_of(label, findings) is None]
    missing = missing or [name for (name, _), found in zip(question.classes, members, strict=True) if not found]
    if missing:
        return f"It has no answer for {_listed(missing)}: it knows {_listed([TITLES[own] for own in findings])}."
    for index, finding in enumerate(findings):
        served = [name for (name, _), found in zip(question.classes, members, strict=True) if index in found]
        if len(served) > 1:
            return f'Its finding "{TITLES[finding]}" stands for {_listed(served)} alike.'
    return None


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers to a question, on the films that belong to it and that the model can answer.

    Attributes:
        films: the N films, with the model's own logits.
        y_true: int64 (N,), position of each film's class.
        probabilities: float64 (N, C), rows sum to one.
    """

    question: Question
    films: Evaluation
    y_true: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.y_true)

    def where(self, chosen: np.ndarray) -> Answers:
        """The films that `chosen` selects: bool (N,), or positions in the order wanted."""
        return Answers(self.question, self.films.where(chosen), self.y_true[chosen], self.probabilities[chosen])

    def positive(self) -> np.ndarray:
        """Whether each film is of the positive class, bool (N,).

        Raises:
            ValueError: the question has no positive class.
        """
        return self.y_true == self.question.positive_index()

    def score(self) -> np.ndarray:
        """Probability of the positive class, float64 (N,), 0 to 1.

        Raises:
            ValueError: the question has no positive class.
        """
        return self.probabilities[:, self.question.positive_index()]

    def called(self, threshold: float = 0.5) -> np.ndarray:
        """Position of the class each film is called, int64 (N,).

        Of two classes the positive one where its probability is at least `threshold`; of more the likeliest,
        whatever the threshold.
        """
        if self.question.positive is None:
            return self.probabilities.argmax(1)
        positive = self.question.positive_index()
        return np.where(self.score() >= threshold, positive, 1 - positive)


def answer(question: Question, evaluation: Evaluation, temperature: float) -> Answers:
    """A model's answers to a question: its calibrated probabilities, summed class by class and made to sum to one.

    Args:
        evaluation: stored predictions; films whose label does not belong to the question, or for which the model has
            no finding, are left out.
        temperature: what the logits are divided by (see `calibration.fit_temperature`), above 0.

    Raises:
        CannotAnswer: the model's findings do not allow it, see `refusal`.
    """
    from scipy.special import logsumexp, softmax

    if reason := refusal(question, evaluation.findings):
        raise CannotAnswer(reason)
    classes = {
        label: question.class_of(str(label))
        for label in np.unique(evaluation.labels)
        if index_of(str(label), evaluation.findings) is not None
    }
    belongs = np.array([classes.get(label) is not None for label in evaluation.labels], dtype=bool)
    films = evaluation.where(belongs)
    # Sums of probabilities as sums of exponents: a film whose probabilities are all beside the question does not
    # end in 0 / 0.
    scaled = films.logits.astype(np.float64) / temperature
    sums = [logsumexp(scaled[:, found], axis=1) for found in _members(question, evaluation.findings)]
    return Answers(
        question,
        films,
        np.array([classes[label] for label in films.labels], dtype=np.int64),
        softmax(np.stack(sums, axis=1), axis=1),
    )


def shared_films(answers: Sequence[Answers]) -> list[str]:
    """`image_id`s of the films that all models can answer, sorted."""
    # Sets of Python's strings: a hundred times as fast as NumPy's sorting of its own.
    return sorted(set.intersection(*(set(one.films.image_ids.tolist()) for one in answers))) if answers else []


def restricted(answers: Answers, films: Sequence[str]) -> Answers:
    """The answers on these films, in their order.

    Raises:
        KeyError: one of them is not among the answers.
    """
    places = {film: place for place, film in enumerate(answers.films.image_ids.tolist())}
    return answers.where(np.array([places[film] for film in films], dtype=np.int64))


def common(answers: Sequence[Answers]) -> list[Answers]:
    """The same answers on the films that all models can answer, in the order of their `image_id`s.

    Raises:
        ValueError: the answers are to different questions.
    """
    if len(asked := {one.question.key for one in answers}) > 1:
        raise ValueError(f"Answers to {', '.join(sorted(asked))}; only answers to one question can be compared.")
    if not answers:
        return []
    ids = answers[0].films.image_ids
    if all(np.array_equal(one.films.image_ids, ids) for one in answers) and (ids[:-1] < ids[1:]).all():
        return list(answers)
    shared = shared_films(answers)
    return [restricted(one, shared) for one in answers]
