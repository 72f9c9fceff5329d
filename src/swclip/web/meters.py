"""What the service counts, in Prometheus' terms; nothing about photographs but how many there were."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """The meters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "swclip_requests", "Requests served.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "swclip_request_seconds", "Time from a request's headers to its last byte.", ["route"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._photographs = Counter(
            "swclip_photographs", "Photographs asked about, by what became of them.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._batch = Histogram(
            "swclip_batch_photographs", "Photographs that the model saw at once.", buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )  # fmt: skip

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(f"swclip_{name}", words, registry=self.registry).set_function(value)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request that was served."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def photograph(self, outcome: str) -> None:
        """A photograph: "answered", or the kind of problem."""
        self._photographs.labels(outcome).inc()

    def batch(self, photographs: int) -> None:
        """A batch that the model saw."""
        self._batch.observe(photographs)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)
