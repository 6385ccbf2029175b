"""``ProvidersSyncInstrumentor``: what ``opentelemetry-instrument`` finds by its entry point."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from . import instrument, uninstrument


class ProvidersSyncInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Calls ``otel.instrument`` and ``otel.uninstrument``."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: the package is part of what it instruments."""
        return ()

    def _instrument(self, **settings: Any) -> None:
        names = ("tracer_provider", "meter_provider", "capture_content")
        instrument(**{name: settings[name] for name in names if name in settings})

    def _uninstrument(self, **settings: Any) -> None:
        uninstrument()
