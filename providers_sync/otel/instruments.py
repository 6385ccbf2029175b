"""``Instruments``: the metrics.

Their names and buckets are those of OpenTelemetry's conventions for generative AI, as its own
instrumentations (opentelemetry-util-genai 1.3) emit them; two counters of ours are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.metrics import Meter

from ..stream import Stream

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(4**power for power in range(14))


class Instruments:
    """The metrics of all calls."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, description: str) -> Any:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=SECONDS
            )

        self._duration = seconds("gen_ai.client.operation.duration", "Duration of a call.")
        self._first_chunk = seconds(
            "gen_ai.client.operation.time_to_first_chunk",
            "Time from the start of a call to the first event of its answer.",
        )
        self._tool_duration = seconds("gen_ai.execute_tool.duration", "Duration of a tool call.")
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of a call, as counted by the server.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._outcomes = meter.create_counter(
            "providers_sync.client.outcomes", "{call}", "Calls by the outcome of their answer."
        )
        self._retries = meter.create_counter(
            "providers_sync.client.retries", "{retry}", "Repeated requests by their reason."
        )

    def record_call(
        self,
        stream: Stream,
        first_event_s: float | None,
        names: Mapping[str, Any],
        error: str | None,
    ) -> None:
        """Record how a call has ended; ``names`` are its attributes."""
        with_error = names if error is None else {**names, "error.type": error}
        self._duration.record(stream.stats.duration_s, with_error)
        if first_event_s is not None:
            self._first_chunk.record(first_event_s, names)
        if (usage := stream.usage) is not None:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if tokens is not None:
                    self._tokens.record(tokens, {**names, "gen_ai.token.type": kind})
        self._outcomes.add(1, {**names, "providers_sync.outcome": str(stream.outcome)})

    def record_retry(self, names: Mapping[str, Any], error: str) -> None:
        """Record that a request is repeated."""
        self._retries.add(1, {**names, "error.type": error})

    def record_tool(self, name: str, seconds: float, error: str | None) -> None:
        """Record the call of a function."""
        names = {"gen_ai.tool.name": name, "gen_ai.tool.type": "function"}
        self._tool_duration.record(
            seconds, names if error is None else {**names, "error.type": error}
        )
