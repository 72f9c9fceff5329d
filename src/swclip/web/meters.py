"""Prometheus metrics of the service. About photographs, only their number is recorded."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """The metrics of one service, in a separate registry."""

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
            "swclip_photographs", "Photographs in requests, by outcome.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._batch = Histogram(
            "swclip_batch_photographs", "Photographs per batch of the model.", buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )  # fmt: skip

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a gauge that calls `value` when it is read."""
        Gauge(f"swclip_{name}", description, registry=self.registry).set_function(value)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def photograph(self, outcome: str) -> None:
        """Count a photograph by outcome: "usable", or the kind of problem."""
        self._photographs.labels(outcome).inc()

    def batch(self, photographs: int) -> None:
        """Count a batch of the model."""
        self._batch.observe(photographs)

    def text(self) -> bytes:
        """The metrics in the Prometheus text format."""
        return generate_latest(self.registry)
