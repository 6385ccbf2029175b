"""Traces and metrics of all calls of the process, by OpenTelemetry (docs/otel.md).

::

    from providers_sync import otel

    otel.instrument()

Needs the extra ``otel``. ``opentelemetry-instrument python app.py`` does the same without any code.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import TYPE_CHECKING

from ..config import __version__
from ..observing import watch
from ..stream import channel_of, do_left, open_streams

try:
    from opentelemetry.metrics import get_meter
    from opentelemetry.trace import get_tracer
except ImportError as error:
    raise ImportError(
        "providers_sync.otel needs OpenTelemetry: pip install 'providers-sync[otel]'"
    ) from error

from .call_span import Telemetry
from .instruments import Instruments
from .safety import forget_failure

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument", "uninstrument"]

CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_WITH_CONTENT = {"true", "1", "span_only", "span_and_event"}


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool | None = None,
) -> None:
    """Create a span for every call from now on, and record its metrics.

    Called again, it replaces the settings. Running calls keep the settings they started with.

    Args:
        tracer_provider: Creates the spans; by default that of the process.
        meter_provider: Creates the metrics; by default that of the process.
        capture_content: Whether spans hold the messages, the answers, and the arguments and results
            of functions; if ``None``, what the environment variable
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says (``true``, ``SPAN_ONLY`` or
            ``SPAN_AND_EVENT``; by default no).
    """
    if capture_content is None:
        capture_content = os.environ.get(CONTENT_VARIABLE, "").strip().lower() in _WITH_CONTENT
    tracer = get_tracer("providers_sync", __version__, tracer_provider)
    instruments = Instruments(get_meter("providers_sync", __version__, meter_provider))
    forget_failure()
    atexit.unregister(_end_calls)
    atexit.register(_end_calls)  # the last one registered is first: exporters still run
    watch(Telemetry(tracer, instruments, capture_content).observe)


def uninstrument() -> None:
    """Create no spans for calls that are prepared from now on."""
    watch(None)


def _end_calls() -> None:
    """Close the streams that are watched and still open, at the exit; end the spans that are left.

    A program that ends by an exception, or that leaves a loop over an answer, closes none.
    """
    for stream in open_streams():
        if channel_of(stream).observer is not None:
            with contextlib.suppress(Exception):
                stream.close()
    do_left()
