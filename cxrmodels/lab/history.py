"""A run's events as what a page draws."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cxrmodels.lab.events import (
    Batch,
    Changed,
    EpochEnd,
    Event,
    Failed,
    Filters,
    Finished,
    Logged,
    Mistakes,
    Obeyed,
    PinnedFilms,
    Prepared,
    Queued,
    Stopped,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its epoch (from 1), loss (nats), accuracy (0-1) and the learning rate."""

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float


@dataclass(slots=True)
class History:
    """What is known of a run; `add` it what a reader gives. A step or epoch told of twice counts as told last.

    Attributes:
        prepared: what the last worker made ready.
        steps: step (from 1) -> what it gave, in order of steps.
        epochs, pinned, filters, mistakes: epoch (from 1) -> event, in order of epochs.
        changes: changes that hold, by step. One that was made at a step cancels those at later steps that an earlier
            worker had made before it was killed.
        obeyed: number of the last command carried out, 0 for none.
        outcome: how the run ended, unless a worker has gone on since.
        generations: workers launched.
        began: when the first worker was launched, in seconds since 1970.
    """

    prepared: Prepared | None = None
    steps: dict[int, Step] = field(default_factory=dict)
    epochs: dict[int, EpochEnd] = field(default_factory=dict)
    pinned: dict[int, PinnedFilms] = field(default_factory=dict)
    filters: dict[int, Filters] = field(default_factory=dict)
    mistakes: dict[int, Mistakes] = field(default_factory=dict)
    changes: list[Changed] = field(default_factory=list)
    obeyed: int = 0
    outcome: Stopped | Finished | Failed | None = None
    generations: int = 0
    began: float | None = None

    def add(self, logged: Iterable[Logged]) -> None:
        """Take in further events, in the order of the file."""
        for one in logged:
            if self.began is None:
                self.began = one.time
            self.generations = one.generation + 1
            self._add(one.event)

    def _add(self, event: Event) -> None:
        match event:
            case Batch():
                pairs = zip(event.losses, event.accuracies, strict=True)
                for step, (loss, accuracy) in enumerate(pairs, start=event.first):
                    self.steps[step] = Step(event.epoch, loss, accuracy, event.learning_rate)
            case EpochEnd():
                self.epochs[event.epoch] = event
            case PinnedFilms():
                self.pinned[event.epoch] = event
            case Filters():
                self.filters[event.epoch] = event
            case Mistakes():
                self.mistakes[event.epoch] = event
            case Changed():
                self.changes = [change for change in self.changes if change.step <= event.step] + [event]
            case Obeyed():
                self.obeyed = max(self.obeyed, event.command)
            case Prepared():
                self.prepared = event
            case Stopped() | Finished():
                self.outcome = event
                self.forget_after(event.step)
            case Failed():
                self.outcome = event
            case Queued():
                self.outcome = None

    def forget_after(self, step: int) -> None:
        """Drop what an earlier worker did after `step` where the last one ended there."""
        self.steps = {number: one for number, one in self.steps.items() if number <= step}
        self.epochs = {epoch: ended for epoch, ended in self.epochs.items() if ended.step <= step}
        self.pinned = {epoch: event for epoch, event in self.pinned.items() if epoch in self.epochs}
        self.filters = {epoch: event for epoch, event in self.filters.items() if epoch in self.epochs}
        self.mistakes = {epoch: event for epoch, event in self.mistakes.items() if epoch in self.epochs}
