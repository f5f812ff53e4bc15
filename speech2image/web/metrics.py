"""Figures for Prometheus, read at /metrics. Each server has a registry of its own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of one server; `text` shows them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "speech2image_requests",
            "Answers by path and status.",
            ("path", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "speech2image_request_seconds",
            "Time from the request's first byte to the answer's last.",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.pictures = Counter(
            "speech2image_pictures", "Pictures drawn, by model and route.", ("model", "route"),
            registry=self._registry,
        )  # fmt: skip
        self.speech = Counter(
            "speech2image_speech_seconds", "Seconds of speech translated.", registry=self._registry
        )
        self.updates = Counter(
            "speech2image_live_updates",
            "Updates of live streams: drawn, or dropped because the server or the client was busy.",
            ("outcome",),
            registry=self._registry,
        )
        self._accepted = Gauge(
            "speech2image_accepted", "Requests accepted and not finished.", registry=self._registry
        )
        self._streams = Gauge("speech2image_live_streams", "Live streams open.", registry=self._registry)

    def watch(self, accepted: Callable[[], float], streams: Callable[[], float]) -> None:
        """Show what the two return whenever the metrics are read."""
        self._accepted.set_function(accepted)
        self._streams.set_function(streams)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
