"""Counts and times of requests, and how the service is, in Prometheus' text format."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from cxrmodels import NOTICE
from cxrmodels.models import available
from cxrmodels.service import Service

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Numbers:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        labels = ("route", "status")
        self._requests = Counter("cxrmodels_requests", "Requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            "cxrmodels_request_seconds",
            "Time from request to answer",
            ("route",),
            registry=self._registry,
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, float("inf")),
        )

    @contextmanager
    def timed(self, route: str) -> Iterator[list[int]]:
        """Counts what happens within as one request; the status is put into the list."""
        status, started = [500], time.perf_counter()
        try:
            yield status
        finally:
            self._requests.labels(route, str(status[0])).inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)

    def text(self, service: Service) -> bytes:
        """All of it, with how the service is at this moment."""
        now = CollectorRegistry()
        now.register(_Collected(service))
        return f"# {NOTICE}\n".encode() + generate_latest(self._registry) + generate_latest(now)


class _Collected:
    """How the service is when somebody asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[GaugeMetricFamily]:
        service, keys = self._service, available()
        for name, words, value in (
            ("cxrmodels_waiting", "Films and pieces of long work that wait for the models", service.waiting),
            ("cxrmodels_kept_bytes", "Bytes of the answers that are kept", service.kept_bytes),
            ("cxrmodels_models", "Models that can answer", len(keys)),
            ("cxrmodels_models_loaded", "Models in memory", sum(map(service.ready, keys))),
        ):
            yield GaugeMetricFamily(name, words, value)
