"""Compare what calls cost without OpenTelemetry, with it but not turned on, and turned on.

    python benchmarks/telemetry.py

Each way runs in processes of its own, which take turns and ask a server in this one. The results
are CPU time per call (of 1 chunk) and per chunk (of 1000 in one call), and its ratio to the first
way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 9
CALLS, LONG_CALLS, CHUNKS = 300, 20, 1000

SDK = """
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from providers_sync import otel
class Nothing(SpanExporter):
    def export(self, spans):
        return SpanExportResult.SUCCESS
provider = TracerProvider(sampler=sampling.{sampler})
provider.add_span_processor(BatchSpanProcessor(Nothing()))
meters = MeterProvider([InMemoryMetricReader()])
"""
ON = "otel.instrument(tracer_provider=provider, meter_provider=meters)\n"
WAYS = {
    "not installed": "sys.modules['opentelemetry'] = None\n",
    "not turned on": SDK.format(sampler="ALWAYS_ON"),
    "no call sampled": SDK.format(sampler="ALWAYS_OFF") + ON,
    "every call sampled": SDK.format(sampler="ALWAYS_ON") + ON,
}
MEASURE = """
import gc
from time import process_time
from providers_sync import OpenAICompatible
ask = OpenAICompatible(sys.argv[2], base_url=sys.argv[1]).complete
for _ in range(20):
    ask("Hi")
gc.collect()
start = process_time()
for _ in range(int(sys.argv[3])):
    ask("Hi")
print(process_time() - start)
os._exit(0)
"""


def cpu_seconds(way: str, url: str, model: str, calls: int) -> float:
    """Return the CPU seconds of so many calls, made this way."""
    command = [sys.executable, "-c", f"import os, sys\n{WAYS[way]}{MEASURE.lstrip()}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [*command, url, model, str(calls)], env=environment, stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout)


def measure(url: str) -> dict[str, tuple[float, float]]:
    """Return the CPU seconds per call and per chunk of each way."""
    short: dict[str, list[float]] = {way: [] for way in WAYS}
    long: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            short[way].append(cpu_seconds(way, url, "short", CALLS) / CALLS)
            long[way].append(cpu_seconds(way, url, "long", LONG_CALLS) / LONG_CALLS / CHUNKS)
    return {way: (median(short[way]), median(long[way])) for way in WAYS}


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from providers_sync.testing import Request, serve

    def reply(request: Request) -> list[str]:
        return ["Hi"] if request.json()["model"] == "short" else ["Hello "] * CHUNKS

    with serve(reply) as server:
        found = measure(f"{server.url}/v1")
    first = next(iter(found.values()))
    for way, (call, chunk) in found.items():
        print(
            f"{way:20} {call * 1e6:7.0f} µs per call ({call / first[0]:.2f}) "
            f"{chunk * 1e6:6.2f} µs per chunk ({chunk / first[1]:.2f})"
        )


if __name__ == "__main__":
    main()
