"""The comparison: who takes part, on which films, and how each one does. Needs stored predictions only."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Condition, Lock
from typing import Any, TypeVar

import numpy as np

from cxrmodels import models
from cxrmodels.evaluation.curves import Curve, precision_recall, roc, thresholds
from cxrmodels.evaluation.failures import SourceCheck, source_check
from cxrmodels.evaluation.metrics import SEEN, UNSEEN, Estimate, Figures, figures, leading_figure
from cxrmodels.evaluation.predictions import Evaluation, PredictionsError, read_predictions
from cxrmodels.evaluation.questions import QUESTIONS, Answers, Question, answer, refusal, restricted, shared_films
from cxrmodels.evaluation.submitted import Submission
from cxrmodels.memory import weight
from cxrmodels.zoo import ModelCard, ModelError, file_sha256, shipped

RESAMPLES, SEED = 2000, 0
"""Of every interval of a comparison."""

EQUAL, SENSITIVE, SPECIFIC, COST = "equal", "sensitivity >= 95 %", "specificity >= 95 %", "cost"
"""Presets of the threshold, as `curves.thresholds` names them."""

CURVES: dict[str, Callable[[Answers], Curve | None]] = {"roc": roc, "precision_recall": precision_recall}
"""What each chart of curves shows of a standing's answers."""

SHARED = "_shared"
"""Ends the name of a figure that is of the films all were asked about."""

_BASE = 0.5
_KEPT = 1024
KEPT_BYTES = 128 * 2**20
"""Of what was computed of contenders, the arrays may take so much."""

_Kept = TypeVar("_Kept")


class Memory:
    """What was computed of a contender, so that it is not computed again: the least recently used goes first.

    Answers are kept once for all thresholds: a slider would fill the memory with copies of the films.

    Args:
        kept_bytes: see `KEPT_BYTES`. What is larger alone is not kept.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._held: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._weights: dict[Hashable, int] = {}
        self._kept_bytes = kept_bytes
        self._guard = Lock()

    def recall(self, name: Hashable, make: Callable[[], _Kept]) -> _Kept:
        """What bears this name; made when it is not there. Several who ask at once wait for one that makes it."""
        with self._guard:
            held: Future[_Kept] | None = self._held.get(name)
            if held is None:
                making: Future[_Kept] = Future()
                self._held[name] = making
                self._make_room()
            else:
                self._held.move_to_end(name)
        if held is not None:
            return held.result()
        try:
            made = make()
        except BaseException as error:
            with self._guard:
                self._held.pop(name, None)
            making.set_exception(error)
            raise
        making.set_result(made)
        size = weight(made)
        with self._guard:
            if size > self._kept_bytes:
                self._held.pop(name, None)
            elif name in self._held:  # It may have made room meanwhile.
                self._weights[name] = size
                self._make_room()
        return made

    def _make_room(self) -> None:
        while self._held and (len(self._held) > _KEPT or sum(self._weights.values()) > self._kept_bytes):
            oldest, _ = self._held.popitem(last=False)
            self._weights.pop(oldest, None)


_shared = Memory()

# NumPy lets other threads run while it computes: contenders are measured beside each other.
_hands = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="measure")


class _Viewers:
    """Those whose page is being made. What is computed ahead of any question waits while there are some."""

    def __init__(self) -> None:
        self._served, self._changed = 0, Condition()

    @contextmanager
    def served(self) -> Iterator[None]:
        """Around whatever somebody waits for."""
        with self._changed:
            self._served += 1
        try:
            yield
        finally:
            with self._changed:
                self._served -= 1
                self._changed.notify_all()

    def let_pass(self) -> None:
        """Wait until nobody waits for a page."""
        with self._changed:
            self._changed.wait_for(lambda: not self._served)


viewers = _Viewers()


@dataclass(frozen=True, slots=True)
class Contender:
    """A model that takes part in a comparison.

    Attributes:
        key: unique among the contenders.
        title: name shown to readers.
        evaluation: its stored predictions.
        temperature: what its logits are divided by.
        training_sources: what it learnt from; empty where nothing is known, so that all films count as unseen.
        sha256: of the file its predictions come from.
        card: of a shipped model, else None.
        memory: of its figures. All viewers share that of shipped models; what a reader brought has its own, and both
            are gone together.
    """

    key: str
    title: str
    evaluation: Evaluation
    temperature: float
    training_sources: tuple[str, ...]
    sha256: str
    card: ModelCard | None
    memory: Memory = field(default_factory=lambda: _shared, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Films:
    """Which films a comparison is made on. Seen and unseen sources are never pooled.

    Attributes:
        where: `SEEN`, `UNSEEN`, or one source.
        age_group, view: as data sets state them; empty for any.
    """

    where: str = UNSEEN
    age_group: str = ""
    view: str = ""

    def words(self) -> str:
        """The films, to follow "on"."""
        place = {SEEN: "films of seen sources", UNSEEN: "films of unseen sources"}
        narrowed = [part for part in (self.age_group, self.view and f"view {self.view}") if part]
        return ", ".join([place.get(self.where, f"films of {self.where}"), *narrowed])


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender's result.

    Attributes:
        answers: on the films asked for.
        figures: on the same; decided at `threshold`.
        threshold: probability from which a film is called positive; without meaning for more than two classes.
        seen, unseen: the headline figure on such films of the same age group and view, None where it cannot be had.
        learnt_here: which of the films' sources it learnt from.
        ranked: the headline figure on the films that all who answered were asked about: what they are ranked by. None
            where it cannot be had.
    """

    contender: Contender
    answers: Answers
    figures: Figures
    threshold: float
    seen: Estimate | None
    unseen: Estimate | None
    learnt_here: tuple[str, ...]
    ranked: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """A comparison: those who answered, best first, and why the others did not.

    They are ranked by the headline figure on the films that all of them were asked about. Where these do not allow it,
    each stands by its own films: first those whose films do, then the others by accuracy.

    Attributes:
        shared: how many films all who answered were asked about; not counting a reader's own, when these are other
            films altogether.
        even: whether all were asked about the same films.
    """

    question: Question
    films: Films
    standings: tuple[Standing, ...]
    unable: tuple[tuple[str, str], ...]
    shared: int
    even: bool

    def estimates(self, standing: Standing) -> dict[str, Estimate | None]:
        """A standing's figures; where not all were asked about the same films, what it is ranked by among them."""
        if self.even:
            return standing.figures.estimates
        return {headline(self.question) + SHARED: standing.ranked, **standing.figures.estimates}


def headline(question: Question) -> str:
    """The figure models are ranked by: free of any threshold, and not swayed by how common a class is."""
    return "auc" if question.positive is not None else "balanced_accuracy"


def contender(key: str) -> Contender:
    """A model, shipped or kept, from its card and stored predictions.

    Raises:
        ModelError: there is none of this key, or its card is missing or unreadable.
        PredictionsError: the predictions are.
    """
    about, path = models.card(key), models.predictions_file(key)
    return Contender(
        key,
        about.title,
        read_predictions(path),
        about.temperature,
        about.training_sources,
        file_sha256(path),
        about,
    )


def submitted(submission: Submission) -> Contender:
    """A reader's own predictions. Nothing is known of what the model learnt from: all its films count as unseen."""
    key = f"own/{submission.sha256[:12]}"
    return Contender(
        key, f"{submission.name} (yours)", submission.evaluation, 1.0, (), submission.sha256, None, Memory()
    )


def held_out(one: Contender) -> Evaluation:
    """The films nothing of the model was fitted to: neither training nor validation films."""
    return one.evaluation.where(~np.isin(one.evaluation.splits, ("train", "val")))


def select(one: Contender, films: Films) -> Evaluation:
    """A contender's held-out films that a comparison is made on."""
    evaluation = held_out(one)
    if films.where in (SEEN, UNSEEN):
        mask = np.isin(evaluation.sources, one.training_sources) == (films.where == SEEN)
    else:
        mask = evaluation.sources == films.where
    if films.age_group:
        mask &= evaluation.age_groups == films.age_group
    if films.view:
        mask &= evaluation.views == films.view
    return evaluation.where(mask)


def choices(contenders: Sequence[Contender]) -> dict[str, list[str]]:
    """What there is to choose from: `source`, `age_group` and `view`, each sorted, unknown ones left out."""
    columns = {"source": "sources", "age_group": "age_groups", "view": "views"}
    found: dict[str, set[str]] = {name: set() for name in columns}
    for one in contenders:
        for name, column in columns.items():
            found[name] |= _values(one, column)
    return {name: sorted(values - {""}) for name, values in found.items()}


def _values(one: Contender, column: str) -> set[str]:
    def make() -> set[str]:
        return set(np.unique(getattr(held_out(one), column)).tolist())

    return one.memory.recall((one.sha256, one.training_sources, column), make)


def measured(one: Contender, question: Question, films: Films, threshold: float) -> tuple[Answers, Figures]:
    """A contender's answers on films, and its figures; asked again, the same at once.

    Raises:
        CannotAnswer: its findings do not allow it.
    """
    asked, memory, answers = _asked(one, question, films), one.memory, _answers(one, question, films)
    base = memory.recall(("figures", asked), lambda: figures(answers, resamples=RESAMPLES, seed=SEED))
    memory.recall(("leading", asked), lambda: base.estimates[headline(question)])
    if threshold == _BASE:
        return answers, base
    found = memory.recall(
        ("figures", asked, threshold),
        lambda: figures(answers, threshold, resamples=RESAMPLES, seed=SEED, known=base),
    )
    return answers, found


def _answers(one: Contender, question: Question, films: Films) -> Answers:
    name = ("answers", _asked(one, question, films))
    return one.memory.recall(name, lambda: answer(question, select(one, films), one.temperature))


def leading(one: Contender, question: Question, films: Films) -> Estimate | None:
    """A contender's headline figure on films, without the others; asked again, the same at once.

    Raises:
        CannotAnswer: its findings do not allow it.
    """
    asked, memory, answers = _asked(one, question, films), one.memory, _answers(one, question, films)
    return memory.recall(("leading", asked), lambda: leading_figure(answers, resamples=RESAMPLES, seed=SEED))


def _asked(one: Contender, question: Question, films: Films) -> Hashable:
    # A model that is calibrated or described anew may have the predictions it had.
    return one.sha256, one.temperature, one.training_sources, question.key, films


def preset_threshold(one: Contender, question: Question, preset: str, cost_ratio: float = 1.0) -> float | None:
    """A contender's own threshold for a preset, chosen on its validation films, as it would have to be in use.

    Args:
        cost_ratio: for the preset `COST`, how much worse a missed film is than a false alarm.

    Returns:
        The threshold; None where it has no validation films of both classes, or no threshold does what is asked.
    """
    validation = one.evaluation.where(one.evaluation.splits == "val")
    return thresholds(answer(question, validation, one.temperature), cost_ratio).get(preset)


def compare_on(
    contenders: Sequence[Contender],
    question: Question,
    films: Films,
    *,
    threshold: float = 0.5,
    preset: str | None = None,
    cost_ratio: float = 1.0,
) -> Board:
    """All contenders' answers to a question.

    Args:
        threshold: the same for all, unless `preset` has each find its own.
    """
    name = headline(question)

    def stand(one: Contender) -> Standing | str:
        """How a contender does, or why it takes no part."""
        if reason := refusal(question, one.evaluation.findings):
            return reason
        level = threshold
        if preset:
            found_level = preset_threshold(one, question, preset, cost_ratio)
            if found_level is not None:
                level = found_level
            elif preset_threshold(one, question, COST) is None:
                # The one preset that any films of both classes allow.
                return "It has no validation films of both classes to choose such a threshold on."
            else:
                return "No threshold does this on its validation films."
        answers, found = measured(one, question, films, level)
        if not len(answers):
            return f"It has no {films.words()} with an answer to this question."
        apart = {where: leading(one, question, replace(films, where=where)) for where in (SEEN, UNSEEN)}
        here = set(np.unique(answers.films.sources).tolist())
        learnt_here = tuple(sorted(here & set(one.training_sources)))
        return Standing(one, answers, found, level, apart[SEEN], apart[UNSEEN], learnt_here)

    outcomes = list(zip(contenders, _hands.map(stand, contenders), strict=True))
    standings = [outcome for _, outcome in outcomes if isinstance(outcome, Standing)]
    unable = tuple((one.title, outcome) for one, outcome in outcomes if isinstance(outcome, str))
    standings, shared, even = _ranked(standings, question, films)

    def rank(standing: Standing) -> tuple[bool, bool, float]:
        # Accuracy on films of one class is another figure: it ranks those models among themselves, after the others.
        headlined = standing.ranked or standing.figures.estimates[name]
        figure = headlined or standing.figures.estimates["accuracy"]
        return standing.ranked is not None, headlined is not None, figure.value if figure else 0.0

    return Board(question, films, tuple(sorted(standings, key=rank, reverse=True)), unable, shared, even)


def _ranked(standings: Sequence[Standing], question: Question, films: Films) -> tuple[list[Standing], int, bool]:
    """The standings with what ranks them, how many films they share, and whether these are all.

    A model is not asked about sources that it learnt from: its unseen films are others than its neighbour's, and
    figures on different films rank nobody.
    """
    if not standings:
        return [], 0, True
    name = headline(question)
    shared = shared_films([one.answers for one in standings])
    ours = [one for one in standings if one.contender.card is not None]
    if not shared and 0 < len(ours) < len(standings):
        # What a reader brought is of other films: it leaves the others their ranking.
        found, count, _ = _ranked(ours, question, films)
        return [*found, *(one for one in standings if one.contender.card is None)], count, False
    digest = hashlib.sha256("\n".join(shared).encode()).digest()

    def ranked(standing: Standing) -> Standing:
        one = standing.contender
        if not shared:
            return standing
        if len(standing.answers) == len(shared):
            return replace(standing, ranked=standing.figures.estimates[name])
        found = one.memory.recall(
            ("shared", _asked(one, question, films), digest),
            lambda: leading_figure(restricted(standing.answers, shared), resamples=RESAMPLES, seed=SEED),
        )
        return replace(standing, ranked=found)

    even = all(len(one.answers) == len(shared) for one in standings)
    return list(_hands.map(ranked, standings)), len(shared), even


def prepare(contenders: Sequence[Contender]) -> None:
    """Compute what any question will need, so that whoever asks it does not wait: some seconds' work, which stands
    back whenever a viewer is served."""
    asked = [
        (one, question, Films(where))
        for question in QUESTIONS.values()
        for where in (UNSEEN, SEEN)
        for one in contenders
        if refusal(question, one.evaluation.findings) is None
    ]
    for one, question, films in asked:
        viewers.let_pass()
        measured(one, question, films, _BASE)
    for one, question, films in asked:
        for age_group in sorted(_values(one, "age_groups") - {""}):
            viewers.let_pass()
            measured(one, question, replace(films, age_group=age_group), _BASE)
    for one, question, films in asked:
        if question.positive is not None:
            viewers.let_pass()
            answers, _ = measured(one, question, films, _BASE)
            for name, curve in CURVES.items():
                _recalled(one, question, films, name, answers, curve)
    for one in contenders:
        viewers.let_pass()
        source_checks(one)


def prepare_shipped() -> None:
    """`prepare` for the shipped models; one that cannot be read is left to the page, which says so."""
    found = []
    for key in shipped():
        try:
            found.append(contender(key))
        except (ModelError, PredictionsError):
            continue
    prepare(found)


def source_checks(one: Contender) -> list[SourceCheck]:
    """Whether a contender's logits give the source of a film away, over all its held-out films, seen and unseen."""
    return one.memory.recall(("source checks", one.sha256), lambda: source_check(held_out(one)))


def _recalled(
    one: Contender, question: Question, films: Films, name: Hashable, answers: Answers, make: Callable[[Answers], _Kept]
) -> _Kept:
    return one.memory.recall((name, _asked(one, question, films)), lambda: make(answers))


def recalled(standing: Standing, board: Board, name: Hashable, make: Callable[[Answers], _Kept]) -> _Kept:
    """Something made of a standing's answers alone, made once."""
    return _recalled(standing.contender, board.question, board.films, name, standing.answers, make)


def all_recalled(
    standings: Sequence[Standing], board: Board, name: Hashable, make: Callable[[Answers], _Kept]
) -> list[_Kept]:
    """`recalled` of several standings, made beside each other."""
    return list(_hands.map(lambda standing: recalled(standing, board, name, make), standings))


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Positions of those that no other beats in both: cheaper and better; in order of cost."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -values[i]))
    front: list[int] = []
    for i in order:
        if not front or values[i] > values[front[-1]]:
            front.append(i)
    return front
