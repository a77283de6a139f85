"""What Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._inspections = Counter(
            "blemish_inspections", "Images inspected", ["product", "verdict"], registry=registry
        )
        self._latency = Histogram(
            "blemish_inspection_seconds", "From arrival to result", ["product"], buckets=SECONDS, registry=registry
        )
        self._refused = Counter("blemish_refused", "Requests refused for a full queue", ["product"], registry=registry)
        self._missed = Counter(
            "blemish_unrecorded", "Results that could not be recorded", ["product"], registry=registry
        )
        self._waiting = Gauge("blemish_waiting", "Images that wait", ["product"], registry=registry)
        self._free = Gauge("blemish_disk_free_bytes", "Bytes free in the workspace", registry=registry)

    def inspected(self, product_id: int, verdict: str, seconds: float) -> None:
        """Counts an inspection."""
        self._inspections.labels(str(product_id), verdict).inc()
        self._latency.labels(str(product_id)).observe(seconds)

    def refused(self, product_id: int) -> None:
        """Counts a request that was told to come again."""
        self._refused.labels(str(product_id)).inc()

    def missed(self, product_id: int) -> None:
        """Counts a result that was answered, but could not be recorded."""
        self._missed.labels(str(product_id)).inc()

    def text(self, waiting: dict[int, int], free: int) -> bytes:
        """All numbers in the format of Prometheus."""
        for product_id, number in waiting.items():
            self._waiting.labels(str(product_id)).set(number)
        self._free.set(free)
        return generate_latest(self._registry)
