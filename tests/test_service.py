"""The shared worker: every question is worked on once, in turn, and a failure stays where it happened."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxrmodels import service as module
from cxrmodels.engine import Engine
from cxrmodels.explain.saliency import saliency
from cxrmodels.explain.steps import Steps
from cxrmodels.fair_line import LineFullError
from cxrmodels.inference import predict
from cxrmodels.memory import weight
from cxrmodels.phantom import PATTERNS, phantom
from cxrmodels.radiograph import Radiograph
from cxrmodels.service import Reading, Service, Viewer
from cxrmodels.zoo import LoadedModel, ModelError, load, shipped, spec

WAIT = 120
"""Seconds after which a future counts as stuck; nothing here measures time."""
SIZE = (60, 50)
Load = Callable[[str], LoadedModel]


@pytest.fixture(scope="module")
def loaded() -> dict[str, LoadedModel]:
    """Every shipped model, read from disk once for all tests here, and converted: that may take long."""
    found = {key: load(key) for key in shipped()}
    for one in found.values():
        Engine(one)
    return found


@pytest.fixture(scope="module")
def films() -> list[Radiograph]:
    return [phantom(finding, seed=index, size=128).radiograph() for index, finding in enumerate(PATTERNS)]


@pytest.fixture
def make(loaded: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """Makes services whose worker threads end with the test."""
    made: list[Service] = []
    monkeypatch.setattr(module, "load", loaded.__getitem__)

    def new(*arguments: Any) -> Service:
        made.append(Service(*arguments))
        return made[-1]

    yield new
    for service in made:
        service.close()


def same(one: Reading, other: Reading) -> bool:
    return bool(
        one.prediction.decision == other.prediction.decision
        and np.array_equal(one.prediction.logits, other.prediction.logits)
        and np.array_equal(one.prediction.probabilities, other.prediction.probabilities)
        and np.array_equal(one.output.features, other.output.features)
    )


@pytest.mark.parametrize("key", shipped())
def test_an_answer_is_kept_and_shared(key: str, make: Callable[..., Service], films: list[Radiograph]) -> None:
    service, film = make(), films[0]
    first = service.read(film, key)
    assert service.read(film, key) is first
    answer = first.result(WAIT)
    assert service.read(film, key) is first
    assert service.read(film, key).result() is answer
    finding = answer.prediction.findings[0]
    heat = service.heat(film, key, finding, "grad_cam", SIZE)
    assert service.heat(film, key, finding, "grad_cam", SIZE) is heat
    assert heat.result(WAIT).heat.shape == SIZE
    # Another film, method, finding or size is another question.
    others: list[Future[Any]] = [
        service.read(films[1], key),
        service.heat(films[1], key, finding, "grad_cam", SIZE),
        service.heat(film, key, finding, "layer_cam", SIZE),
        service.heat(film, key, answer.prediction.findings[1], "grad_cam", SIZE),
        service.heat(film, key, finding, "grad_cam", (30, 25)),
    ]
    assert len({id(future) for future in [first, heat, *others]}) == 7
    for future in others:
        future.result(WAIT)


def test_the_same_film_under_another_name_is_the_same_question(
    make: Callable[..., Service], films: list[Radiograph]
) -> None:
    service, key = make(), shipped()[0]
    again = phantom(next(iter(PATTERNS)), seed=0, size=128).radiograph()
    assert again is not films[0]
    assert service.read(films[0], key) is service.read(again, key)


def test_answers_equal_a_direct_run(
    make: Callable[..., Service], films: list[Radiograph], loaded: dict[str, LoadedModel]
) -> None:
    service = make()
    for key in shipped():
        engine = Engine(loaded[key])
        for film in films:
            prediction, output = predict(engine, film)
            assert same(service.read(film, key).result(WAIT), Reading(prediction, output))
            finding = prediction.findings[prediction.top]
            found = service.heat(film, key, finding, "grad_cam", SIZE).result(WAIT)
            expected = saliency(engine, film, output, finding, "grad_cam", SIZE)
            np.testing.assert_array_equal(found.heat, expected.heat)
            assert found.raw_max == expected.raw_max
            assert found.film_sha256 == film.sha256


def test_eight_callers_at_once_get_what_one_gets(
    make: Callable[..., Service], films: list[Radiograph], loaded: dict[str, LoadedModel]
) -> None:
    keys = shipped()
    expected = {
        (film.sha256, key): Reading(*predict(engine, film))
        for key in keys
        for engine in [Engine(loaded[key])]
        for film in films
    }
    # So little is kept that answers are forgotten and worked out anew all the time.
    for service in (make(), make(1)):
        start = threading.Barrier(8)

        def caller(number: int, service: Service = service, start: threading.Barrier = start) -> bool:
            start.wait(WAIT)
            right = True
            for turn in range(2 * len(films)):
                film = films[(number + turn) % len(films)]
                for key in keys:
                    answer = service.read(film, key).result(WAIT)
                    right &= same(answer, expected[film.sha256, key])
                    finding = answer.prediction.findings[number % 2]
                    heat = service.heat(film, key, finding, "grad_cam", SIZE).result(WAIT)
                    right &= heat.film_sha256 == film.sha256 and heat.finding == finding
            return right

        with ThreadPoolExecutor(8) as callers:
            assert all(callers.map(caller, range(8)))


def predicted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Films that were predicted, by their hash, as it happens."""
    done: list[str] = []

    def noting(engine: Engine, film: Radiograph, prepared: np.ndarray) -> Any:
        done.append(film.sha256)
        return predict(engine, film, prepared)

    monkeypatch.setattr(module, "predict", noting)
    return done


def test_work_is_done_in_the_order_asked(
    make: Callable[..., Service], films: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = predicted(monkeypatch)
    service, key = make(), shipped()[0]
    gate = threading.Event()
    service._worker.submit(gate.wait, WAIT)
    asked = [films[at] for at in (2, 0, 3, 1, 0, 2)]
    futures = [service.read(film, key) for film in asked]
    assert not any(future.done() for future in futures)
    gate.set()
    for future in futures:
        future.result(WAIT)
    assert done == list(dict.fromkeys(film.sha256 for film in asked))


def test_a_failure_is_forgotten_and_tried_anew(
    make: Callable[..., Service],
    films: list[Radiograph],
    loaded: dict[str, LoadedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = shipped()[0]
    broken = True

    def sometimes(name: str) -> LoadedModel:
        if broken:
            raise ModelError("The weights are gone.")
        return loaded[name]

    service = make()
    monkeypatch.setattr(module, "load", sometimes)
    failed = service.read(films[0], key)
    with pytest.raises(ModelError, match="gone"):
        failed.result(WAIT)
    with pytest.raises(ModelError, match="gone"):
        service.heat(films[0], key, "covid19", "grad_cam", SIZE).result(WAIT)
    # The callback that forgets runs on the worker, after the waiters have been told.
    service._worker.submit(lambda: None).result(WAIT)
    assert not service.ready(key)
    # Within the time that a page needs to look again and show it, the failure is the answer; then it is tried anew.
    assert service.read(films[0], key) is failed
    monkeypatch.setattr(module, "FAILURE_SECONDS", -1.0)
    broken = False
    mended = service.read(films[0], key)
    assert mended is not failed
    assert mended.result(WAIT).prediction.model == key
    assert service.ready(key)


def test_a_model_that_fails_stops_no_other(
    make: Callable[..., Service],
    films: list[Radiograph],
    loaded: dict[str, LoadedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = make()

    def all_but_one(name: str) -> LoadedModel:
        if name == "broken":
            raise ModelError("The weights are gone.")
        return loaded[name]

    monkeypatch.setattr(module, "load", all_but_one)
    done = threading.Event()
    service.warm_up(("broken", *shipped()), done.set)
    bad = service.read(films[0], "broken")
    good = [service.read(films[0], key) for key in shipped()]
    bad_heat = service.heat(films[0], "broken", "covid19", "grad_cam", SIZE)
    for key, future in zip(shipped(), good, strict=True):
        assert future.result(WAIT).prediction.model == key
    failed: list[Future[Any]] = [bad, bad_heat]
    for one in failed:
        with pytest.raises(ModelError, match="gone"):
            one.result(WAIT)
    assert done.wait(WAIT)


def test_who_asks_comes_before_models_that_are_not_loaded_yet(
    make: Callable[..., Service],
    films: list[Radiograph],
    loaded: dict[str, LoadedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, *_ = shipped()
    loading, go_on, done = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def slowly(key: str) -> LoadedModel:
        order.append(key)
        if len(order) == 1:
            loading.set()
            go_on.wait(WAIT)
        return loaded[key]

    monkeypatch.setattr(module, "load", slowly)
    service = make()
    service.warm_up((first, second), done.set)
    assert loading.wait(WAIT)
    asked = service.read(films[0], first)
    asked.add_done_callback(lambda _: order.append("answer"))
    go_on.set()
    asked.result(WAIT)
    # A page finds the answer there when it looks again, and goes on to long work.
    time.sleep(0.3)

    def in_pieces(_: Engine) -> Steps[str]:
        for piece in range(3):
            order.append(f"piece {piece}")
            yield piece / 3
        return "what it came to"

    service.work("long", first, in_pieces)
    assert done.wait(WAIT)
    assert order == [first, "answer", "piece 0", "piece 1", "piece 2", second]


def kept(service: Service) -> int:
    """Bytes of the answers still held."""
    with service._guard:
        return sum(weight(future.result()) for future in service._answers.values())


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(
    make: Callable[..., Service], films: list[Radiograph]
) -> None:
    key = shipped()[0]
    one = weight(make().read(films[0], key).result(WAIT))
    service = make(2 * one)
    futures = {film.sha256: service.read(film, key) for film in films[:2]}
    for future in futures.values():
        future.result(WAIT)
    # Looked at again, the first is younger than the second.
    assert service.read(films[0], key) is futures[films[0].sha256]
    service.read(films[2], key).result(WAIT)
    service._worker.submit(lambda: None).result(WAIT)
    assert kept(service) <= 2 * one
    assert service.read(films[0], key) is futures[films[0].sha256]
    assert service.read(films[1], key) is not futures[films[1].sha256]


def test_heat_maps_count_towards_the_bound(make: Callable[..., Service], films: list[Radiograph]) -> None:
    key = shipped()[0]
    limit = weight(make().read(films[0], key).result(WAIT)) + 10 * 4 * SIZE[0] * SIZE[1]
    service = make(limit)
    for rows in range(30, 60):
        service.heat(films[0], key, "covid19", "grad_cam", (rows, SIZE[1])).result(WAIT)
        service._worker.submit(lambda: None).result(WAIT)
        assert kept(service) <= limit


@pytest.fixture
def held(make: Callable[..., Service]) -> Iterator[tuple[Service, threading.Event]]:
    """A service with place for two films whose worker is busy until the event is set."""
    service, go_on = make(module.KEPT_BYTES, 2), threading.Event()
    service._worker.submit(go_on.wait, WAIT)
    yield service, go_on
    go_on.set()


def test_a_film_too_many_is_refused_in_a_plain_sentence_and_taken_later(
    held: tuple[Service, threading.Event], films: list[Radiograph]
) -> None:
    (service, go_on), key = held, shipped()[0]
    taken = [service.read(film, key, viewer) for film, viewer in zip(films[:2], "ab", strict=True)]
    refused = service.read(films[2], key, "c")
    problem = refused.exception(WAIT)
    assert isinstance(problem, LineFullError)
    assert isinstance(problem, ModelError)
    assert "2 films wait" in str(problem)
    assert problem.retry_after >= 1
    job = service.work("curves", key, lambda engine: iter(()), "c")  # type: ignore[arg-type, return-value]
    assert isinstance(job.answer.exception(WAIT), LineFullError)
    assert isinstance(service.engine(key, "c").exception(WAIT), LineFullError)
    assert service.known("curves") is None
    # Who has a film in line already may ask more about it.
    heat = service.heat(films[0], key, "covid19", "grad_cam", SIZE, "a")
    go_on.set()
    for future in taken:
        future.result(WAIT)
    heat.result(WAIT)
    assert service.read(films[2], key, "c").result(WAIT).prediction.film_sha256 == films[2].sha256


def test_viewers_see_their_place_and_take_turns(
    make: Callable[..., Service], films: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = predicted(monkeypatch)
    service, key, go_on = make(), shipped()[0], threading.Event()
    service._worker.submit(go_on.wait, WAIT)
    many, one = Viewer(service, "many films"), Viewer(service, "one film")
    asked = [many.read(film, key) for film in films[:3]]
    asked.append(one.read(films[3], key))
    assert [service.place(film) for film in films[:4]] == [1, 3, 4, 2]
    assert service.waiting == 4
    go_on.set()
    for future in asked:
        future.result(WAIT)
    service._worker.submit(lambda: None).result(WAIT)
    assert done == [films[at].sha256 for at in (0, 3, 1, 2)]
    assert [service.place(film) for film in films[:4]] == [None] * 4


def test_a_long_job_of_one_viewer_does_not_keep_another_waiting(
    make: Callable[..., Service], films: list[Radiograph]
) -> None:
    service, key = make(), shipped()[0]
    begun, pieces = threading.Event(), list[int]()

    def endless(engine: Engine) -> Iterator[float]:
        while True:
            begun.set()
            pieces.append(1)
            time.sleep(0.01)
            yield 0.5

    job = Viewer(service, "slow").work("endless", key, endless)  # type: ignore[arg-type]
    assert begun.wait(WAIT)
    for film in films[:3]:
        before = len(pieces)
        Viewer(service, "quick").read(film, key).result(WAIT)
        assert len(pieces) - before < 5
    job.stop()


def test_what_was_asked_by_those_who_left_alone_is_forgotten(
    make: Callable[..., Service], films: list[Radiograph]
) -> None:
    service, key = make(), shipped()[0]
    first, second = Viewer(service, "first"), Viewer(service, "second")
    alone = first.read(films[0], key)
    shared = first.read(films[1], key)
    assert second.read(films[1], key) is shared
    for future in (alone, shared, first.heat(films[0], key, "covid19", "grad_cam", SIZE)):
        future.result(WAIT)
    service._worker.submit(lambda: None).result(WAIT)
    first.leave()
    assert kept(service) == weight(shared.result())
    assert second.read(films[1], key) is shared
    second.leave()
    assert (service._answers, service._askers, service._failures, service.kept_bytes) == ({}, {}, {}, 0)


def test_who_leaves_takes_what_waits_along(held: tuple[Service, threading.Event], films: list[Radiograph]) -> None:
    (service, go_on), key = held, shipped()[0]
    film = replace(films[0], sha256="left", pixels=films[0].pixels.copy())
    pixels = weakref.ref(film.pixels)
    gone = service.read(film, key, "gone")
    job = service.work("a job", key, lambda engine: iter(()), "gone")  # type: ignore[arg-type, return-value]
    del film
    service.forget("gone")
    assert gone.cancelled()
    assert job.answer.cancelled()
    go_on.set()
    stays = service.read(films[1], key, "stays")
    assert stays.result(WAIT)
    service._worker.submit(lambda: None).result(WAIT)
    gc.collect()
    assert pixels() is None
    assert service.waiting == 0


def test_answers_of_long_work_are_bounded_in_bytes(make: Callable[..., Service]) -> None:
    service, key = make(1000), shipped()[0]

    def steps(number: int) -> Callable[[Engine], Any]:
        def run(engine: Engine) -> Iterator[float]:
            yield 0.5
            return {"curve": [np.zeros(100, np.float32)], "number": number}  # type: ignore[return-value]

        return run

    jobs = [service.work(number, key, steps(number)) for number in range(4)]
    for job in jobs:
        job.answer.result(WAIT)
    service._worker.submit(lambda: None).result(WAIT)
    assert service.kept_bytes <= 1000
    assert [service.known(number) is None for number in range(4)] == [True, True, False, False]
    assert jobs[3]._make is None
    assert jobs[3]._steps is None


def test_a_closed_service_lets_go_of_its_networks(
    make: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded:
        """As Keras' networks are: only the collector can free it."""

        def __init__(self, key: str) -> None:
            self.loaded, self.itself = SimpleNamespace(spec=spec(key)), self

    monkeypatch.setattr(module, "_ready_engine", Loaded)
    service = make()
    kept = weakref.ref(service.engine("two_conv_cnn").result(WAIT))
    gc.collect()
    assert kept() is not None
    service.close()
    assert kept() is None
