"""What the tests of ``providers_sync.otel`` share: spans and metrics in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from providers_sync import OpenAICompatible, otel


class Memory:
    """The finished spans and the metrics of an instrumented process."""

    def __init__(self, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(**settings)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.tracers.get_tracer("tests")
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])

    def instrument(self, **settings: Any) -> None:
        otel.instrument(tracer_provider=self.tracers, meter_provider=self.meters, **settings)

    def shutdown(self) -> None:
        otel.uninstrument()
        self.tracers.shutdown()
        self.meters.shutdown()

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return the finished spans whose names begin so, in the order of their ends."""
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(name)]

    def call(self) -> ReadableSpan:
        """Return the span of the only call."""
        (span,) = self.spans("chat m")
        return span

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return the points of each metric: their attributes, and a count or a histogram's."""
        data = self._reader.get_metrics_data()
        scopes = [] if data is None else data.resource_metrics[0].scope_metrics
        return {
            metric.name: [
                (dict(point.attributes or {}), getattr(point, "value", None) or point)
                for point in metric.data.data_points
            ]
            for scope in scopes
            for metric in scope.metrics
        }


def openai(url: str, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=f"{url}/v1", **settings)


def said(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of a span."""
    assert span.attributes is not None
    return span.attributes


def span_id(span: ReadableSpan) -> int:
    return span.get_span_context().span_id


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]
