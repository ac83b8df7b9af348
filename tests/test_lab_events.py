"""Events of a run: written so that nothing on screen is ever lost, read as they come, folded after kills."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from cxrmodels.lab.events import (
    Batch,
    Changed,
    Checkpoint,
    EpochEnd,
    Event,
    EventReader,
    EventsError,
    EventWriter,
    Failed,
    Filters,
    Finished,
    Logged,
    Mistakes,
    Obeyed,
    Paused,
    PinnedFilms,
    Prepared,
    Queued,
    Resumed,
    Started,
    Stopped,
    read_backwards,
)
from cxrmodels.lab.history import History


def epoch_end(epoch: int, step: int, loss: float = 1.0) -> EpochEnd:
    return EpochEnd(epoch, step, loss, 0.5, loss, 0.5, ((3, 1), (0, 4)), (0.75, 1.0), (1.0, 0.75), 99.5, 1.5, 400.0)


ALL: tuple[Event, ...] = (
    Queued(),
    Started(),
    Prepared("CPU", "tensorflow", 10, 8, 4, 2, 4, "conv1_act", ("a", 'b "é"\n')),
    Batch(1, 1, (0.1 + 0.2, math.inf), (0.5, 1.0), 0.25, 1e-3),
    epoch_end(1, 2),
    PinnedFilms(1, ((0.25, 0.75),), "pinned-1.npz"),
    Filters(1, "filters-1.npz"),
    Mistakes(1, ("a",), (0,), (1,), (0.9,)),
    Obeyed(1, "pause", 2),
    Changed("learning_rate", 1e-4, 2),
    Checkpoint(1, 2),
    Paused(1, 2),
    Resumed(1, 2),
    Stopped("why", 2, 3),
    Failed("an error"),
    Finished(2, 4),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_event_comes_back(tmp_path: Path) -> None:
    assert {type(event) for event in ALL} == set(Event.__args__)
    writer = EventWriter(tmp_path / "events.jsonl")
    for event in ALL:
        writer.write(event)
    writer.close()
    logged = EventReader(tmp_path / "events.jsonl").read()
    assert tuple(one.event for one in logged) == ALL
    assert {one.generation for one in logged} == {0}
    assert [one.event for one in read_backwards(tmp_path / "events.jsonl")] == list(reversed(ALL))


def test_two_readers_see_the_same_whenever_they_look(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    eager, lazy = EventReader(path), EventReader(path)
    assert eager.read() == []
    writer = EventWriter(path)
    seen: list[Logged] = []
    for event in ALL:
        writer.write(event)
        seen += (new := eager.read())
        assert [one.event for one in new] == [event], "there as soon as it is written"
    writer.close()
    assert lazy.read() == seen
    assert lazy.read() == []


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_torn_last_line_waits_and_is_cut_off_on_going_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.write(Paused(1, 7))
    writer.write(Checkpoint(1, 7))
    writer.close()
    os.truncate(path, path.stat().st_size - cut)
    reader = EventReader(path)
    before = reader.read()
    assert [one.event for one in before] == [Paused(1, 7)]
    assert [one.event for one in read_backwards(path)] == [Paused(1, 7)]
    again = EventWriter(path)
    assert again.generation == 1
    again.write(Resumed(1, 7))
    again.close()
    assert [one.event for one in reader.read()] == [Resumed(1, 7)], "a reader from before the kill goes on"
    assert [(one.event, one.generation) for one in EventReader(path).read()] == [(Paused(1, 7), 0), (Resumed(1, 7), 1)]


def test_file_of_nothing_but_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "que')
    assert EventReader(path).read() == []
    assert list(read_backwards(path)) == []
    assert list(read_backwards(tmp_path / "none")) == []
    EventWriter(path).close()
    assert path.read_bytes() == b""


def test_reading_backwards_over_many_blocks(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    for number in range(3000):
        writer.write(Failed(f"{number} " + "x" * (number % 97)))
    writer.write(Failed("long " + "y" * 200_000))
    writer.close()
    assert list(read_backwards(path)) == EventReader(path).read()[::-1]


@pytest.mark.parametrize("line", [b"no json\n", b'{"event": "nonsense"}\n', b'{"event": "paused"}\n', b"[1]\n"])
def test_line_that_is_no_event_is_told(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line)
    with pytest.raises(EventsError, match="no event"):
        EventReader(path).read()


def write_steps(path: Path, each: float, steps: int) -> list[Batch]:
    clock = Clock()
    writer = EventWriter(path, clock)
    reader = EventReader(path)
    for step in range(1, steps + 1):
        clock.now += each
        writer.batch(step, 1, step / 7, 0.5, each, 1e-3)
    writer.close()
    return [one.event for one in reader.read() if isinstance(one.event, Batch)]


def test_fast_steps_share_lines_and_none_is_left_out(tmp_path: Path) -> None:
    lines = write_steps(tmp_path / "events.jsonl", 0.001, 2000)
    assert len(lines) <= 20 * 2 + 2
    assert [loss for line in lines for loss in line.losses] == [step / 7 for step in range(1, 2001)]
    assert [line.first for line in lines] == [1 + sum(len(one.losses) for one in lines[:i]) for i in range(len(lines))]
    assert sum(line.seconds for line in lines) == pytest.approx(2.0, abs=0.01)


def test_slow_steps_have_a_line_each(tmp_path: Path) -> None:
    assert [line.first for line in write_steps(tmp_path / "events.jsonl", 0.2, 5)] == [1, 2, 3, 4, 5]


def test_slow_step_is_not_held_back(tmp_path: Path) -> None:
    """A step is written at once unless the next one is due within a twentieth of a second."""
    path, clock = tmp_path / "events.jsonl", Clock()
    writer, reader = EventWriter(path, clock), EventReader(path)
    for step, seconds in enumerate((0.01, 0.01, 3.0, 3.0), start=1):
        clock.now += seconds
        writer.batch(step, 1, 1.0, 0.5, seconds, 1e-3)
    written = [loss for one in reader.read() if isinstance(one.event, Batch) for loss in one.event.losses]
    assert len(written) == 4
    writer.close()


def test_other_events_push_out_the_steps_before_them(tmp_path: Path) -> None:
    path, clock = tmp_path / "events.jsonl", Clock()
    writer = EventWriter(path, clock)
    for step in (1, 2, 3):
        writer.batch(step, 1, 1.0, 0.5, 0.001, 1e-3)
    writer.write(Paused(1, 3))
    *batches, last = [one.event for one in EventReader(path).read()]
    assert last == Paused(1, 3)
    assert sum(len(batch.losses) for batch in batches if isinstance(batch, Batch)) == 3
    writer.close()


# ------------------------------------------------------------------------------------------------------- folding
def fold(*told: tuple[int, Event]) -> History:
    history = History()
    history.add(Logged(event, generation, 100.0 + generation) for generation, event in told)
    return history


def batch(first: int, *losses: float, epoch: int = 1) -> Batch:
    return Batch(first, epoch, losses, tuple(0.5 for _ in losses), 0.1, 1e-3)


def test_after_a_kill_the_later_line_counts_and_no_point_leaves() -> None:
    before = fold((0, Started()), (0, batch(1, 3.0, 2.0)), (0, Checkpoint(1, 2)), (0, batch(3, 1.5, 1.2)))
    assert [step.loss for step in before.steps.values()] == [3.0, 2.0, 1.5, 1.2]
    before.add([Logged(Resumed(1, 2), 1, 1.0)])
    assert list(before.steps) == [1, 2, 3, 4], "what was on screen stays"
    before.add([Logged(batch(3, 1.5), 1, 1.0)])
    before.add([Logged(batch(4, 1.1, 1.0), 1, 1.0)])
    assert {number: step.loss for number, step in before.steps.items()} == {1: 3.0, 2: 2.0, 3: 1.5, 4: 1.1, 5: 1.0}
    assert before.generations == 2
    assert before.began == 100.0


def test_stopped_before_it_got_as_far_as_the_killed_worker() -> None:
    history = fold(
        (0, batch(1, 3.0, 2.0)),
        (0, epoch_end(1, 2)),
        (0, batch(3, 1.0, 0.9, epoch=2)),
        (0, epoch_end(2, 4)),
        (0, Filters(2, "filters-2.npz")),
        (1, Resumed(1, 2)),
        (1, batch(3, 1.0, epoch=2)),
        (1, Stopped("a reason", 2, 3)),
    )
    assert list(history.steps) == [1, 2, 3]
    assert list(history.epochs) == [1]
    assert history.filters == {}
    assert history.outcome == Stopped("a reason", 2, 3)


def test_change_cancels_what_a_killed_worker_was_told_for_later() -> None:
    history = fold((0, Changed("learning_rate", 0.1, 5)), (0, Changed("learning_rate", 0.2, 57)))
    assert [change.step for change in history.changes] == [5, 57]
    history.add([Logged(Changed("learning_rate", 0.3, 53), 1, 1.0)])
    assert [(change.step, change.value) for change in history.changes] == [(5, 0.1), (53, 0.3)]


def test_failed_run_that_goes_on_has_not_ended() -> None:
    history = fold((0, Started()), (0, Failed("disk full")))
    assert history.outcome == Failed("disk full")
    history.add([Logged(Queued(), 1, 1.0)])
    assert history.outcome is None


def test_history_knows_the_last_command() -> None:
    assert fold((0, Obeyed(2, "pause", 1)), (0, Obeyed(3, "resume", 1))).obeyed == 3
    assert fold((0, Started())).obeyed == 0
