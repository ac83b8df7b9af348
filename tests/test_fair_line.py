"""The line in front of the models: whose turn it is, who is refused, and where one stands."""

from __future__ import annotations

import math
import threading

import pytest

from cxrmodels import fair_line
from cxrmodels.fair_line import FairLine, LineFullError, Task


def put(line: FairLine, viewer: str | None, film: str, done: list[str], *, counts: bool = True) -> Task:
    task = Task(lambda: done.append(f"{viewer}:{film}"))
    line.put(viewer, film, task, counts=counts)
    return task


def serve(line: FairLine, most: int = 10_000) -> None:
    for _ in range(most):
        task = line.take()
        if task is None:
            break
        task.run()


def test_one_viewers_films_are_served_in_the_order_asked_and_each_as_a_whole() -> None:
    line, done = FairLine(8), list[str]()
    for film in ("a", "b", "a", "c", "b"):
        put(line, "x", film, done)
    serve(line)
    assert done == ["x:a", "x:a", "x:b", "x:b", "x:c"]


def test_viewers_take_turns() -> None:
    line, done = FairLine(99), list[str]()
    for number in range(6):
        put(line, "greedy", f"g{number}", done)
    serve(line, 1)
    put(line, "late", "l", done)
    put(line, "later", "m", done)
    serve(line)
    # Both are served after at most one more film of whoever asked for six before them.
    assert done == ["greedy:g0", "greedy:g1", "late:l", "later:m", "greedy:g2", "greedy:g3", "greedy:g4", "greedy:g5"]


def test_what_follows_from_a_films_answers_is_part_of_its_turn() -> None:
    line, done = FairLine(2), list[str]()
    put(line, "x", "a", done)
    put(line, "y", "b", done)
    put(line, "y", "b", done)
    serve(line, 1)
    put(line, "x", "a", done)  # While it is being worked on,
    serve(line, 2)
    put(line, "z", "c", done)
    put(line, "x", "a", done)  # and when another film is, though as many wait as may wait.
    assert [line.place(film) for film in "abc"] == [1, 2, 3]
    serve(line, 1)
    put(line, "y", "b", done)
    serve(line)
    assert done == ["x:a", "x:a", "y:b", "x:a", "y:b", "y:b", "z:c"]


@pytest.mark.parametrize("constant", ["_TURN_SECONDS", "_FOLLOWS_SECONDS"])
def test_nobody_keeps_a_turn_for_good(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line, done = FairLine(8), list[str]()
    put(line, "x", "a", done)
    put(line, "y", "b", done)
    serve(line, 2)
    monkeypatch.setattr(fair_line, constant, 0.0)
    put(line, "y", "c", done)
    put(line, "x", "a", done)
    serve(line)
    assert done == ["x:a", "y:b", "y:c", "x:a"]


def test_a_turn_that_has_taken_its_time_gets_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_line, "_TURN_SECONDS", 0.0)
    line, done = FairLine(8), list[str]()
    put(line, "x", "a", done)
    serve(line, 1)
    put(line, "y", "b", done)
    put(line, "x", "a", done)
    serve(line)
    assert done == ["x:a", "y:b", "x:a"]


def test_places_count_what_is_before_and_move_up() -> None:
    line, done = FairLine(99), list[str]()
    assert line.place("a") is None
    put(line, "x", "a", done)
    assert line.place("a") == 1
    put(line, "x", "b", done)
    put(line, "y", "c", done)
    put(line, "z", "d", done)
    assert [line.place(film) for film in "acdb"] == [1, 2, 3, 4]
    serve(line, 1)
    # Being worked on is the first place still; x's second film comes after those of the others.
    assert [line.place(film) for film in "acdb"] == [1, 2, 3, 4]
    serve(line, 1)
    assert [line.place(film) for film in "acdb"] == [None, 1, 2, 3]
    serve(line)
    line.rest()
    assert [line.place(film) for film in "acdb"] == [None, None, None, None]


def test_places_agree_with_the_order_of_service() -> None:
    line, done = FairLine(99), list[str]()
    for number, viewer in enumerate("xxxyyzxzw"):
        put(line, viewer, f"{number}", done)
    told = {str(number): line.place(str(number)) for number in range(9)}
    serve(line)
    assert [told[entry.split(":")[1]] for entry in done] == list(range(1, 10))


def test_when_full_it_refuses_new_films_and_nothing_else() -> None:
    line, done = FairLine(2), list[str]()
    put(line, "x", "a", done)
    put(line, "y", "b", done)
    with pytest.raises(LineFullError, match=r"busy: 2 films wait .* Try again in about a second\.") as refused:
        put(line, "z", "c", done)
    assert refused.value.retry_after == 1
    put(line, "x", "a", done)  # More about a film that waits,
    put(line, "x", "job", done, counts=False)  # and the next piece of what was let in before.
    assert len(line) == 2
    serve(line, 1)
    put(line, "z", "c", done)
    serve(line)
    assert done == ["x:a", "x:a", "y:b", "x:job", "z:c"]


def test_the_programs_own_work_takes_no_place() -> None:
    line, done = FairLine(2), list[str]()
    put(line, None, "load", done, counts=False)
    serve(line, 1)
    put(line, None, "load more", done, counts=False)
    put(line, "x", "a", done)
    assert line.place("a") == 1


def test_the_programs_own_work_waits_for_everybody() -> None:
    line, done = FairLine(9), list[str]()
    put(line, None, "load", done, counts=False)
    put(line, "x", "a", done)
    put(line, "x", "b", done)
    put(line, "y", "job", done, counts=False)
    assert line.idle_seconds() == math.inf
    serve(line, 2)
    put(line, "y", "job", done, counts=False)
    serve(line, 2)
    assert line.idle_seconds() < 60
    serve(line)
    assert done == ["x:a", "y:job", "x:b", "y:job", "None:load"]


def test_those_who_left_take_no_place() -> None:
    line, done = FairLine(2), list[str]()
    tasks = [put(line, "x", "a", done), put(line, "x", "a", done), put(line, "y", "b", done)]
    tasks[0].answer.cancel()
    line.prune()
    assert len(line) == 2
    tasks[1].answer.cancel()
    line.prune()
    assert len(line) == 1
    assert line.place("b") == 1
    serve(line)
    assert done == ["y:b"]


def test_a_task_that_fails_tells_who_asked() -> None:
    def fail() -> None:
        raise KeyError("gone")

    task = Task(fail)
    task.run()
    assert isinstance(task.answer.exception(), KeyError)


def test_many_threads_lose_nothing() -> None:
    line, done = FairLine(10_000), list[str]()
    asked = threading.Event()

    def work() -> None:
        over = False
        while not over:
            over = asked.is_set()  # Looked at before the line, which is then served to its end.
            serve(line)

    worker = threading.Thread(target=work)
    worker.start()
    askers = [
        threading.Thread(target=lambda name=name: [put(line, name, str(at), done) for at in range(100)])
        for name in "abcdefgh"
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    asked.set()
    worker.join(60)
    assert sorted(done) == sorted(f"{name}:{at}" for name in "abcdefgh" for at in range(100))
